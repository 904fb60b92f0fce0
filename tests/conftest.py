"""Fixtures for all tests: applications on both databases, their clients, commands and accounts.

Tests that need PostgreSQL, Redis or a browser are skipped where it is missing, but fail if `CI` is
set.
"""

import clean_environment  # noqa: F401

# isort: split
import gc
import os
import re
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
import redis as redis_py
import time_machine
from accounts import Accounts
from applications import Applications, close, close_provider, empty, empty_postgresql
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from flask_migrate import upgrade
from helpers import THEN
from private_postgresql import PrivatePostgresql, private_postgresql
from services import postgresql_database, redis_server
from sqlalchemy import Engine, event
from werkzeug.serving import make_server

from movies import create_app
from movies.auth import passwords
from movies.database import watchers
from movies.extensions import db
from stand_in.server import StandIn

pytest_plugins = ["skips", "unmigrated", "pytester"]
ALL_SLOW = re.compile(r"^pytestmark = (\[\s*)?pytest\.mark\.slow\b", re.MULTILINE)
WAITING = 2  # workers whose tests wait for events
DATABASES = 16  # of a Redis, which parallel workers may have to share
MEMORY = Path("/dev/shm")  # a file system in memory, on Linux
passwords.hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """For `-n auto`, start two workers more than processors, because many tests wait."""
    number = yield
    if config.option.numprocesses != "auto":
        return number
    return max(number, min(number + WAITING, DATABASES))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files whose tests are all slow if no slow test is wanted."""
    if collection_path.suffix != ".py" or "not slow" not in config.option.markexpr:
        return None
    return True if ALL_SLOW.search(collection_path.read_text()) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without garbage collection: each worker starts in two thirds of the time.

    Hypothesis looks for referrers with `gc`, so nothing may be exempt from it afterwards.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that parallel workers end at the same time.

    Within a file, tests on the same database follow each other, so that they share an application.
    """
    files = {path: number for number, path in enumerate(dict.fromkeys(i.path for i in items))}

    def order(item: pytest.Item) -> tuple[bool, int, bool]:
        is_slow = item.get_closest_marker("slow") is not None
        return not is_slow, files[item.path], "postgresql" in item.name

    items.sort(key=order)


@pytest.fixture(scope="session")
def settings() -> dict[str, Any]:
    """Settings that do not depend on the environment or `.env` of the developer."""
    return {
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "NOVEMBER7_URL": "",
        "NOVEMBER7_TTL": 3600,
        "NOVEMBER7_STALE": 604800,
        "NOVEMBER7_CACHE_BYTES": 2**28,
        "NOVEMBER7_DEADLINE": 30.0,
        "NOVEMBER7_CONCURRENCY": 8,
        "JWT_SECRET_KEY": "a secret of the tests that is long enough",
        "JWT_SECRET_KEY_PREVIOUS": "",
        "JWT_ACCESS_TOKEN_EXPIRES": 900,
        "JWT_REFRESH_TOKEN_EXPIRES": 2592000,
        "TRUSTED_PROXIES": 0,
        "PUBLIC_URL": "",
        "RATELIMIT_ENABLED": False,
        "CORS_ORIGINS": (),
    }


def migrate(settings: dict[str, Any], url: str, directory: Path) -> None:
    """Bring the database at `url` to the newest revision."""
    app = create_app("testing", {**settings, "DATABASE_URL": url, "INSTANCE_DIR": directory})
    with app.app_context():
        upgrade()
    close(app)


def directory_in_memory() -> TemporaryDirectory[str]:
    """A directory that is deleted in the end. In memory if possible, as disks are slow."""
    is_usable = os.access(MEMORY, os.W_OK)
    return TemporaryDirectory(prefix="movies-api-", dir=MEMORY if is_usable else None)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory of this test's own for its databases and caches."""
    with directory_in_memory() as path:
        yield Path(path)


@pytest.fixture(scope="session")
def sqlite(settings: dict[str, Any]) -> Iterator[str]:
    """The URL of a migrated SQLite database of this process's own."""
    with directory_in_memory() as path:
        url = f"sqlite:///{path}/movies.sqlite3"
        migrate(settings, url, Path(path))
        yield url


@pytest.fixture(scope="session")
def postgresql(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database of this process's own."""
    with postgresql_database("test") as url:
        migrate(settings, url, tmp_path_factory.mktemp("postgresql"))
        yield url


@pytest.fixture(scope="session")
def private_server() -> Iterator[PrivatePostgresql]:
    """A PostgreSQL server that tests may stop, fill and reconfigure."""
    with private_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_connection(postgresql: str) -> Iterator[psycopg.Connection]:
    """A connection to the PostgreSQL database, beside those of the application."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        yield connection


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty, migrated database: the test runs once on each."""
    url: str = request.getfixturevalue(request.param)
    if request.param == "postgresql":
        empty_postgresql(request.getfixturevalue("postgresql_connection"))
        return f"{url}?connect_timeout=30"  # so that tests pass on a busy machine
    empty(url)
    return url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis of this process's own."""
    with redis_server() as url:
        yield url


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    """A client of an empty Redis."""
    with redis_py.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture(scope="session")
def applications() -> Iterator[Applications]:
    """Creates applications, and keeps the last one for the next test."""
    with closing(Applications()) as applications:
        yield applications


@pytest.fixture
def make_app(
    applications: Applications, settings: dict[str, Any], database_url: str, directory: Path
) -> Iterator[Callable[..., Flask]]:
    """Makes applications on one database, with settings by keyword."""
    made: list[Flask] = []

    def make(**overrides: Any) -> Flask:
        wanted = {**settings, "DATABASE_URL": database_url, "INSTANCE_DIR": directory, **overrides}
        made.append(create_app("testing", wanted) if made else applications.get(wanted))
        return made[-1]

    yield make
    for app in made[1:]:
        close(app)
    if made:
        close_provider(made[0])


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The application with default settings, on either database."""
    return make_app()


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """The time of day, which stands still at THEN until it is moved."""
    with time_machine.travel(THEN, tick=False) as clock:
        yield clock


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat requests to the provider without a pause."""
    monkeypatch.setattr("movies.november7.retries.MAX_BACKOFF", 0.0)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """The stand-in for November 7, with the sample catalogue, on a real socket."""
    with StandIn() as running:
        yield running


@pytest.fixture
def before_statement(app: Flask) -> Iterator[Callable[[Callable[[str, Any], None]], None]]:
    """Registers a function to be called with the text and the values of each SQL statement."""
    with ExitStack() as stack, app.app_context():
        engines = list(db.engines.values())

        def register(function: Callable[[str, Any], None]) -> None:
            def before(*arguments: Any) -> None:
                function(*arguments[2:4])

            @contextmanager
            def watch(engine: Engine, statement: str, values: Any) -> Iterator[None]:
                if engine in engines:
                    function(statement, values)
                yield

            watchers.append(watch)
            stack.callback(watchers.remove, watch)
            for engine in engines:
                event.listen(engine, "before_cursor_execute", before)
                stack.callback(event.remove, engine, "before_cursor_execute", before)

        yield register


@pytest.fixture
def statements(before_statement: Callable[[Callable[[str, Any], None]], None]) -> list[str]:
    """The SQL statements that the application has run. Clear the list to start again."""
    run: list[str] = []
    before_statement(lambda statement, _values: run.append(statement))
    return run


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Sends requests to the application."""
    return app.test_client()


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    """The URL of the application on a real socket, for browsers and commands."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    """Runs the application's commands."""
    return app.test_cli_runner()


@pytest.fixture
def auth(client: FlaskClient) -> Accounts:
    """Registers accounts and signs them in."""
    return Accounts(client)
