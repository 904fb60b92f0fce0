"""The settings: their defaults, where they are read from, and how a wrong one is refused."""

import os
import re
import runpy
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accounts import Accounts
from clean_environment import ROOT
from flask import Flask
from sockets import unix_socket
from sqlalchemy import make_url

from config import EXPECTED

LIVE = "https://november7-730026606190.europe-west1.run.app/"
SECRET = "x" * 32
DATABASE = "postgresql://movies:secret@db/movies"
IN_PRODUCTION = {"MOVIES_CONFIG": "production", "JWT_SECRET_KEY": SECRET, "DATABASE_URL": DATABASE}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Reads config.py in an environment with these settings; returns the selected class."""

    def read(**settings: str) -> Any:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        config = runpy.run_path(str(ROOT / "config.py"))
        return config["CONFIGS"][config["MOVIES_CONFIG"]]

    monkeypatch.delenv("MOVIES_CONFIG")
    return read


def test_docs_and_config_name_the_same_settings() -> None:
    table = (ROOT / "docs/settings.md").read_text()
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    documented = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert documented == {*EXPECTED, "MOVIES_ENV_FILE"}


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("DATABASE_URL", ""),
        ("REDIS_URL", ""),
        ("NOVEMBER7_URL", ""),
        ("NOVEMBER7_TTL", 3600),
        ("NOVEMBER7_STALE", 604800),
        ("NOVEMBER7_CACHE_BYTES", 268435456),
        ("NOVEMBER7_DEADLINE", 10.0),
        ("NOVEMBER7_CONCURRENCY", 8),
        ("JWT_ACCESS_TOKEN_EXPIRES", 900),
        ("JWT_REFRESH_TOKEN_EXPIRES", 2592000),
        ("TRUSTED_PROXIES", 0),
        ("PUBLIC_URL", ""),
        ("RATELIMIT_ENABLED", True),
        ("CORS_ORIGINS", []),
        ("HOST", "127.0.0.1"),
        ("PORT", 8000),
        ("INSTANCE_DIR", ROOT / "instance"),
    ],
)
def test_development_has_the_documented_defaults(
    read: Callable[..., Any], name: str, default: Any
) -> None:
    assert getattr(read(), name) == default


def test_production_listens_everywhere_and_asks_the_live_provider(
    read: Callable[..., Any],
) -> None:
    production = read(**IN_PRODUCTION)
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    assert everywhere == production.HOST
    assert production.NOVEMBER7_URL == LIVE


@pytest.mark.parametrize("name", ["production", "development"])
def test_the_provider_can_be_set_in_every_configuration(
    read: Callable[..., Any], name: str
) -> None:
    url = "http://provider.example/"
    config = read(**{**IN_PRODUCTION, "MOVIES_CONFIG": name, "NOVEMBER7_URL": url})
    assert url == config.NOVEMBER7_URL


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "MOVIES_CONFIG": ["prod", "Production", "../x"],
        "INSTANCE_DIR": [str(ROOT / "README.md"), str(ROOT / "README.md" / "x"), "/proc/x"],
        "DATABASE_URL": [
            "nonsense",
            "mysql://user@host/movies",
            "postgresql+asyncpg://user@host/movies",
            "postgresql://user@host:port/movies",
            "postgresql:/movies",
            "sqlite://",  # in memory: migrations and each process would have their own
            "sqlite:///:memory:",
            "sqlite:////tmp/movies.sqlite3?timeout=soon",
            "postgresql://user@host/movies?connect_timeout=2&prepare_threshold=x",
        ],
        "REDIS_URL": [
            "foo",
            "http://host",
            "unix:run/redis.sock",
            "redis://host:port",
            "redis://host:99999",
            "redis:x",
            "redis://host?unknown=1",
            "redis://host?socket_timeout=soon",
            "redis://host?protocol=9",
            "rediss://host?ssl_cert_reqs=perhaps",
            "unix:///run/redis.sock?db=x",
        ],
        "NOVEMBER7_URL": [
            "provider.example",
            "ftp://provider.example",
            "http://",
            "http:///movies",
            "http://provider.example/?key=1",
            "http://provider.example/#top",
            "http://provider.example:99999/",
        ],
        "NOVEMBER7_TTL": ["soon", "0", "", "1.5", "99999999999"],
        "NOVEMBER7_STALE": ["-1"],
        "NOVEMBER7_CACHE_BYTES": ["1000", "64M"],
        "NOVEMBER7_DEADLINE": ["0", "nan", "inf", "601"],
        "NOVEMBER7_CONCURRENCY": ["0"],
        "JWT_ACCESS_TOKEN_EXPIRES": ["-5"],
        "JWT_REFRESH_TOKEN_EXPIRES": ["0"],
        "TRUSTED_PROXIES": ["-1", "x"],
        "PUBLIC_URL": [
            "movies.example.com",
            "https://movies.example.com/?a=b",
            "https://movies.example.com/#a",
            "https://user@movies.example.com",
            "https://b\u00fccher.example",
            "https://movies.example.com/caf\u00e9",
            "https://movies.example.com:99999",
            "https://[:::1]",
        ],
        "RATELIMIT_ENABLED": ["perhaps"],
        "CORS_ORIGINS": [
            "example.com",
            "*",
            "null",
            "https://*.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://App.example.com",
            "https://app.example.com, *",
            r"https://app\.example\.com",
            "https://.*",
            "http://::1",
            "http://[::1]:3000/",
            "http://[2001:DB8::1]",
            "http://[2001:db8:0::1]",
            "http://[:::1]",
            "https://app.example.com:443",
            "http://localhost:80",
            "http://localhost:03000",
            "http://localhost:99999",
            "https://app.example.com, https://b\u00fccher.example",
        ],
        "HOST": ["two words", "http://127.0.0.1"],
        "PORT": ["0", "65536", "http"],
        "WEB_CONCURRENCY": ["0", "many"],
        "REVISION": ["two words"],
    }.items(),
)
def test_a_wrong_setting_is_refused_with_its_name(
    read: Callable[..., Any], name: str, values: list[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit) as refused:
            read(**{name: value})
        assert refused.value.code == f"Error: {name} must {EXPECTED[name]}"


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "DATABASE_URL": [
            "postgres://user:p%40ss@host:5432/movies?sslmode=require",
            "postgresql+psycopg://user@[::1]:5432/movies",
            "postgresql://user@/movies?host=a:5432&host=b:5432&target_session_attrs=read-write",
            "postgresql://user@host/movies?options=-c%20statement_timeout%3D3s&prepare_threshold=0",
            "sqlite:////tmp/with space.sqlite3",
            "sqlite:////tmp/movies.sqlite3?timeout=2",
            "sqlite:////tmp/movies.sqlite3?timeout=0.2",
        ],
        "REDIS_URL": [
            "redis://:secret@host:6379/0?health_check_interval=30&socket_keepalive=yes",
            "rediss://host",
            "unix:///run/redis.sock?db=1",
        ],
        "NOVEMBER7_URL": ["https://user:secret@provider.example:8443/api/", "http://[::1]:8007"],
        "PUBLIC_URL": ["https://movies.example.com/base", "https://xn--bcher-kva.example:8443"],
        "CORS_ORIGINS": [
            *("http://localhost:3000", "capacitor://localhost", "http://[::1]:3000"),
            *("http://localhost:443", "https://localhost:80", "https://xn--bcher-kva.example"),
        ],
        "HOST": ["::1", "0.0.0.0", "movies.internal"],
    }.items(),
)
def test_every_form_of_a_url_is_accepted(
    read: Callable[..., Any], name: str, values: list[str]
) -> None:
    for value in values:
        accepted = getattr(read(**{name: value}), name)
        assert accepted == ([value] if name == "CORS_ORIGINS" else value)


def test_origins_are_separated_by_commas_or_spaces(read: Callable[..., Any]) -> None:
    origins = read(CORS_ORIGINS="https://a.example, https://b.example:8443,").CORS_ORIGINS
    assert origins == ["https://a.example", "https://b.example:8443"]


def test_the_public_url_has_no_trailing_slash(read: Callable[..., Any]) -> None:
    assert read(PUBLIC_URL="https://a.example/base/").PUBLIC_URL == "https://a.example/base"


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "DATABASE_URL"])
def test_production_requires_a_secret_and_a_database(read: Callable[..., Any], name: str) -> None:
    for value in ("", " "):
        with pytest.raises(SystemExit, match=f"^Error: {name} must be set"):
            read(**{**IN_PRODUCTION, name: value})


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS"])
def test_keys_in_production_have_32_bytes(read: Callable[..., Any], name: str) -> None:
    for short in ("x" * 31, "é" * 15):
        with pytest.raises(SystemExit, match=f"^Error: {name} must .* 32 bytes"):
            read(**{**IN_PRODUCTION, name: short})
    for long in ("x" * 32, "é" * 16):
        assert getattr(read(**{**IN_PRODUCTION, name: long}), name) == long


def test_every_wrong_setting_is_listed(read: Callable[..., Any]) -> None:
    with pytest.raises(SystemExit) as refused:
        read(PORT="x", REDIS_URL="foo")
    lines = str(refused.value.code).splitlines()
    assert [line.split()[1] for line in lines] == ["REDIS_URL", "PORT"]


def test_a_setting_is_read_from_a_file(read: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    config = read(**{**IN_PRODUCTION, "JWT_SECRET_KEY_FILE": str(tmp_path / "secret")})
    assert config.JWT_SECRET_KEY == SECRET


def test_a_file_that_cannot_be_read_is_refused_with_its_name(
    read: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"^Error: DATABASE_URL_FILE must be a readable text file"):
        read(DATABASE_URL_FILE=str(tmp_path / "none"))


def test_the_environment_wins_over_the_env_file(read: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "env").write_text("PORT=9001\nNOVEMBER7_TTL=60\n")
    config = read(MOVIES_ENV_FILE=str(tmp_path / "env"), PORT="9002")
    assert (config.PORT, config.NOVEMBER7_TTL) == (9002, 60)


def test_an_env_file_that_cannot_be_read_is_refused(
    read: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"^Error: MOVIES_ENV_FILE must be a readable file"):
        read(MOVIES_ENV_FILE=str(tmp_path / "none"))


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
