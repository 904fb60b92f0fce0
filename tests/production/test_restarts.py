"""Servers are restarted under traffic."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from helpers import eventually
from launcher import ROOT
from served import WORKERS, Served, served
from services import free_port, postgresql_database

from production.traffic import traffic

pytestmark = pytest.mark.slow

# What deploy/nginx/movies.conf sets for a proxied request, without TLS, and with two servers.
NGINX = """
daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/1; proxy_temp_path {directory}/2;
    fastcgi_temp_path {directory}/3; uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
    {upstream}
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


def block(name: str, text: str) -> str:
    """A block of deploy/nginx/movies.conf."""
    start = text.index(name)
    return text[start : text.index("}", start) + 1]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Served]]:
    """Two servers on one database."""
    with ExitStack() as stack:
        url = stack.enter_context(postgresql_database("restarts"))
        yield [
            stack.enter_context(served(tmp_path_factory.mktemp(name), DATABASE_URL=url))
            for name in ("a", "b")
        ]


@pytest.fixture
def balancer(servers: list[Served], tmp_path: Path) -> Iterator[str]:
    """The URL of an nginx in front of both, set up as deploy/ does it."""
    if not (nginx := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")):
        pytest.skip("nginx is not installed")
    shipped = (ROOT / "deploy/nginx/movies.conf").read_text()
    one = "server 127.0.0.1:8000 max_fails=0;"
    assert one in shipped
    addresses = [server.url.removeprefix("http://") for server in servers]
    both = "".join(one.replace("127.0.0.1:8000", address) for address in addresses)
    port, directory = free_port(), tmp_path / "nginx"
    directory.mkdir()
    (directory / "nginx.conf").write_text(
        NGINX.format(
            directory=directory,
            port=port,
            upstream=block("upstream movies_api", shipped).replace(one, both),
            location=block("location /api/", shipped),
        )
    )
    command: list[str | Path] = [
        nginx,
        "-c",
        directory / "nginx.conf",
        "-e",
        directory / "error.log",
    ]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    assert eventually(lambda: is_up(f"{url}/api/schema/"), within=30)
    yield url
    process.terminate()
    process.wait(30)


def is_up(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def test_a_rolling_restart_behind_nginx_fails_no_request(
    servers: list[Served], balancer: str
) -> None:
    with traffic(balancer) as users:
        for server in servers:
            server.stop()
            assert users.goes_on()
            server.start()
            assert users.goes_on()
    assert set(users.outcomes) == {"200", "201"}, users.unexpected
    assert users.lost() == []


def test_replaced_workers_fail_no_request(servers: list[Served]) -> None:
    """SIGHUP: the socket stays open, and old workers finish what they have begun."""
    server, _ = servers
    before = set(server.pids)
    with traffic(server.url) as users:
        os.kill(server.pid, signal.SIGHUP)
        assert eventually(
            lambda: len(server.pids) == WORKERS and not before & set(server.pids), within=60
        )
        assert users.goes_on()
    assert set(users.outcomes) == {"200", "201"}, users.unexpected
    assert users.lost() == []


def test_a_stopped_server_finishes_requests_and_then_refuses_connections(
    servers: list[Served],
) -> None:
    server, _ = servers
    with traffic(server.url) as users:
        server.stop()
    assert [text for text in users.unexpected if "refused" not in text] == []
    server.start()
    assert users.lost() == []
