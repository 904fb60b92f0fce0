"""The settings: their documentation, wrong ones in commands, and what they lead to."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accounts import Accounts
from clean_environment import ROOT
from flask import Flask
from sockets import unix_socket
from sqlalchemy import make_url

from config import EXPECTED


def test_docs_and_config_name_the_same_settings() -> None:
    table = (ROOT / "docs/settings.md").read_text()
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    documented = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert documented == {*EXPECTED, "MOVIES_ENV_FILE"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["gunicorn", "wsgi:app"],
        ["flask", "--app", "wsgi", "--help"],
        ["flask", "--app", "wsgi", "db", "upgrade"],
        ["flask", "--app", "wsgi", "cache", "stats"],
        ["flask", "--app", "wsgi", "run", "--debug"],
    ],
    ids=" ".join,
)
def test_every_command_refuses_a_wrong_setting_in_one_line(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "MOVIES_CONFIG": "development", "REDIS_URL": "foo"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == f"Error: REDIS_URL must {EXPECTED['REDIS_URL']}\n"
    assert (done.returncode, done.stdout) == (1, "")


@pytest.fixture
def redis_socket(redis_url: str, tmp_path: Path) -> Iterator[Path]:
    """A Unix socket of the Redis that tests may use."""
    url, path = make_url(redis_url), tmp_path / "redis.sock"
    with unix_socket(path, url.host or "127.0.0.1", url.port or 6379):
        yield path


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("redis")
def test_redis_is_reached_by_a_unix_socket(
    make_app: Callable[..., Flask], redis_socket: Path, redis_url: str
) -> None:
    """The cache, the shared fetches and the rate limits all reach it."""
    number = make_url(redis_url).database
    app = make_app(REDIS_URL=f"unix://{redis_socket}?db={number}", RATELIMIT_ENABLED=True)
    client = app.test_client()
    headers = Accounts(client).headers()
    found = [client.get("/api/v1/movies/?query=alien", headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in found] == [200, 200]
    assert "hit" in found[1].headers["Cache-Status"]
    app.extensions["november7"].close()
    second = make_app(REDIS_URL=redis_url, RATELIMIT_ENABLED=True).test_client()
    from_tcp = second.get("/api/v1/movies/?query=alien", headers=headers)
    assert "hit" in from_tcp.headers["Cache-Status"]


@pytest.mark.slow
def test_files_of_the_instance_directory_are_private(tmp_path: Path) -> None:
    """The database, the provider cache and their write-ahead logs, whatever the umask."""
    directory = tmp_path / "instance"
    code = (
        "from movies import create_app; from movies.auth import service; from flask_migrate "
        "import upgrade\n"
        "app = create_app('development')\n"
        "with app.app_context(): upgrade()\n"
        "app.extensions['november7'].search('alien', skip=0, limit=1)\n"
        "import shutil, sys; shutil.copytree(app.config['INSTANCE_DIR'], sys.argv[1])"
    )
    environment = {**os.environ, "MOVIES_CONFIG": "development", "INSTANCE_DIR": str(directory)}
    seen = tmp_path / "seen"
    subprocess.run(
        [sys.executable, "-c", code, str(seen)],
        cwd=ROOT,
        env=environment,
        check=True,
        umask=0o022,
        timeout=60,
    )
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in seen.rglob("*")}
    assert {"movies.sqlite3", "november7-cache.sqlite"} <= set(modes)
    assert any(name.endswith("-wal") for name in modes)
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
