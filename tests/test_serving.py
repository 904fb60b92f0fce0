"""How gunicorn serves the application: ports, metrics over restarts, start and stop."""

import errno
import math
import os
import re
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from time import sleep

import pytest
from helpers import eventually, in_threads
from launcher import ROOT, complete, launch
from served import WORKERS, Served, served

from movies.worker import HEAD_START, MAX_UNSENT
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

SEARCHES = "november7_cache_total"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The instance directory, with metrics of a server that was killed."""
    directory = tmp_path_factory.mktemp("served")
    ended = directory / "metrics" / "8000-1"
    ended.mkdir(parents=True)
    (ended / "lock").touch()
    (ended / "counter_1.db").touch()
    return directory


@pytest.fixture(scope="module")
def app(directory: Path) -> Iterator[Served]:
    with served(directory, HOST="::" if socket.has_dualstack_ipv6() else "0.0.0.0") as running:
        yield running


def searches(app: Served) -> float:
    return app.metric(SEARCHES + '{result="miss"}') + app.metric(SEARCHES + '{result="hit"}')


def files(directory: Path) -> list[Path]:
    """The metrics files of all servers that share an instance directory."""
    try:
        return list(directory.glob("metrics/*/*.db"))
    except FileNotFoundError:  # a directory has just been deleted
        return []


def has_no_files(directory: Path, pid: int) -> bool:
    return not any(path.stem.endswith(f"_{pid}") for path in files(directory))


def test_metrics_of_a_server_that_was_killed_are_deleted(app: Served, directory: Path) -> None:
    assert app.ask("GET", "/metrics").ok
    assert not (directory / "metrics" / "8000-1").exists()


def test_the_log_names_the_address_of_the_documentation(app: Served) -> None:
    address = f"{app.url}/api/schema/swagger-ui/"
    assert f"Documentation: {address}" in app.log
    assert app.ask("GET", "/api/schema/swagger-ui/").ok


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("request_line", ["HTTP/1.1\r\nHost: localhost", "HTTP/1.0"])
def test_a_host_of_two_colons_serves_ipv4_and_ipv6(
    app: Served, host: str, request_line: str
) -> None:
    """Health checks of older load balancers speak HTTP/1.0 and send no Host."""
    with socket.create_connection((host, int(app.url.rpartition(":")[2]))) as client:
        client.sendall(f"GET /health/live {request_line}\r\n\r\n".encode())
        assert client.recv(12).split()[1] == b"200"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")
def test_workers_inherit_no_thread_and_no_database(app: Served) -> None:
    parent = Path(f"/proc/{app.pid}")
    assert len(list((parent / "task").iterdir())) == 1
    files = [str(path.readlink()) for path in (parent / "fd").iterdir()]
    assert not [name for name in files if "sqlite" in name]
    assert len([name for name in files if name.startswith("socket:")]) == 1  # it listens


def refusal(app: Served, **settings: str) -> str:
    """The last line of a server that must end at its start, without a traceback."""
    started = complete("gunicorn", "wsgi:app", environment={**app.environment, **settings})
    assert (started.returncode, "Traceback" in started.stderr) == (1, False)
    return started.stderr.splitlines()[-1]


def test_a_second_server_on_the_port_names_the_setting_and_leaves_the_first_alone(
    app: Served, directory: Path
) -> None:
    app.search("matrix")
    counted, kept = searches(app), files(directory)
    assert re.match("Error: cannot listen on .*PORT", refusal(app))
    assert (searches(app), sorted(files(directory))) == (counted, sorted(kept))


def test_a_provider_url_with_a_query_string_is_refused_at_start(app: Served) -> None:
    line = refusal(app, NOVEMBER7_URL="https://provider.example/?key=1")
    assert line.startswith("Error: NOVEMBER7_URL ")


@pytest.fixture(scope="module")
def path(app: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Unix socket of a server with one worker."""
    directory = tmp_path_factory.mktemp("unix")
    path, log = directory / "socket", directory / "log"
    command = ("gunicorn", "wsgi:app", "--bind", f"unix:{path}")
    environment = {**app.environment, "INSTANCE_DIR": str(directory), "WEB_CONCURRENCY": "1"}
    server = launch(*command, environment=environment, output=log, errors=log)
    yield path
    server.terminate()
    server.join()


def send(path: Path, target: str) -> socket.socket:
    """A client that has sent a request to a Unix socket."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    connected = (0, errno.EISCONN)
    assert eventually(lambda: client.connect_ex(str(path)) in connected, within=30)
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return client


def everything(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    received = bytearray()
    while chunk := client.recv(2**20):
        received += chunk
    return bytes(received)


def test_a_server_listens_on_a_unix_socket(path: Path) -> None:
    with send(path, "/health/live") as client:
        assert client.recv(12).split()[1] == b"200"


def test_what_slow_readers_have_not_read_is_bounded(path: Path) -> None:
    """Connections are closed until the others fit. Those get their whole response."""
    [script] = (ROOT / "movies" / "assets" / "vendor").glob("swagger-ui-*.js")
    size = script.stat().st_size
    with ExitStack() as stack:
        clients = [
            stack.enter_context(send(path, f"/api/schema/assets/{script.name}")) for _ in range(60)
        ]
        taken = clients[0].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)  # by the system, at most
        assert len(clients) * (size - taken) > MAX_UNSENT
        for client in clients:
            assert client.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"

        def still_open() -> int:
            poll = select.poll()
            for client in clients:
                poll.register(client, select.POLLRDHUP)
            return len(clients) - len(poll.poll(0))

        assert eventually(lambda: still_open() * (size - taken) <= MAX_UNSENT)
        sizes = [len(everything(client).partition(b"\r\n\r\n")[2]) for client in clients]
    assert MAX_UNSENT / 2 < sizes.count(size) * size < len(clients) * size


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sign_ins_at_once_leave_little_memory_behind(app: Served) -> None:
    """A worker keeps the memory of a hash, 19 MiB, once per hash that it computes at a time."""
    account = {"email": "ada@example.com", "password": "wrong"}
    before = app.megabytes()
    results = in_threads(60, lambda: app.ask("POST", "/api/v1/auth/token/", json=account))
    assert {result.result().status_code for result in results} <= {401, 429}
    kept = 20 * math.ceil((os.cpu_count() or 1) / WORKERS)
    assert app.megabytes() - before < WORKERS * (kept + 20)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_connections_are_shared_between_workers(tmp_path: Path) -> None:
    """A new worker gets new connections until it has as many as the other one.

    The head start is half a second, so that a busy machine changes nothing.
    """
    first = (
        "import time; sleep = time.sleep; "
        f"time.sleep = lambda seconds: sleep(0.5 if seconds == {HEAD_START} else seconds)"
    )
    with served(tmp_path, first=first) as app, ExitStack() as clients:
        port = int(app.url.rpartition(":")[2])
        app.kill(app.pids[0])
        while len(counts := app.connections()) < WORKERS or sum(counts) < 12 or min(counts) == 0:
            clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            sleep(0.1)
        for _ in range(sum(counts)):
            clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert eventually(lambda: sum(app.connections()) >= 2 * sum(counts))
        few, many = sorted(app.connections())
        assert many - few <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="limits other processes")
def test_a_lack_of_file_descriptors_ends_no_worker(app: Served) -> None:
    """Kept connections are closed, also those on which a request has just arrived.

    While the workers are stopped, a connection arrives first, and then the requests.
    """
    workers, address = app.pids, ("127.0.0.1", int(app.url.rpartition(":")[2]))
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(8)]
        for client in clients:
            client.sendall(request)
            assert client.recv(12) == b"HTTP/1.1 200"
        for pid in workers:
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            stack.callback(resource.prlimit, pid, resource.RLIMIT_NOFILE, before)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
            os.kill(pid, signal.SIGSTOP)
        stack.enter_context(socket.create_connection(address, 30))
        for client in clients:
            client.sendall(request)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        for client in clients:
            with suppress(ConnectionResetError):
                everything(client)
    assert app.ask("GET", "/health/live").ok
    assert (app.pids, "Traceback" in app.log) == (workers, False)


def test_counts_outlive_their_worker_and_its_files(app: Served, directory: Path) -> None:
    app.search("matrix")
    counted = searches(app)
    for _ in range(2):
        ended = app.pids[0]
        app.kill(ended)
        assert eventually(partial(has_no_files, directory, ended), within=30)
        assert eventually(lambda: len(app.pids) == WORKERS, within=30)
    assert searches(app) == counted
    app.search("matrix")
    assert searches(app) == counted + 1


def test_a_server_that_stops_finishes_requests_and_deletes_its_metrics(
    app: Served, directory: Path
) -> None:
    """The last of this module, as it stops the server. A kept-alive connection is still served."""
    port = int(app.url.rpartition(":")[2])
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(30)
        client.sendall(request)
        os.kill(app.pid, signal.SIGTERM)
        assert eventually(lambda: "Handling signal: term" in app.log, within=30)
        client.sendall(b"\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    assert eventually(lambda: not app.pids, within=30)
    assert eventually(lambda: not files(directory), within=30)
    assert "Traceback" not in app.log


def test_a_server_that_stops_does_not_wait_for_retries_and_leaves_no_open_files(
    tmp_path: Path,
) -> None:
    """Nobody waits for the fetch any more, and SQLite deletes write-ahead logs that are closed."""
    faults = Faults(refuse=1, codes=(503,), retry_after="300")
    with (
        StandIn(faults=faults) as provider,
        served(tmp_path, NOVEMBER7_URL=provider.url, NOVEMBER7_DEADLINE="600") as app,
    ):
        app.search("matrix", headers={**app.headers, "Prefer": "wait=1"})
        assert eventually(lambda: "is retried" in app.log)
        os.kill(app.pid, signal.SIGTERM)
        assert eventually(lambda: not app.pids, within=25)  # gunicorn kills them after 30 seconds
    assert list(tmp_path.glob("*-wal")) == []
