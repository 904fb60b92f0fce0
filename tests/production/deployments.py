"""Two deployments with the settings that operators choose: SQLite alone, PostgreSQL with Redis.

Each has two workers, a trusted proxy, rate limits, a provider whose first address is dead, and a
`HTTPS_PROXY` that leads nowhere.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import redis as redis_py
import requests
from accounts import PASSWORD
from served import Served, served
from services import POSTGRESQL, free_port, postgresql_database
from sockets import black_hole, unix_socket
from sqlalchemy import make_url

from movies.november7.sample.catalogue import sample_movies
from stand_in.server import StandIn

PROVIDER, GOOD, DEAD = "provider.test", "127.0.0.1", "127.0.0.2"
ORIGIN = "https://app.example.com"
MOVIE_ID = sample_movies()[0]["id"]
VOTE = f"/api/v1/movies/{MOVIE_ID}/rating/"
# What the operator asks of PostgreSQL: neither is the default.
OPTIONS = r"-csearch_path=tenant -cdefault_transaction_isolation=repeatable\ read"
OURS = "-csearch_path=tenant -cdefault_transaction_read_only=off"  # of the tests' connections
END_BACKENDS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
RESOLVER = f"""
import socket
real = socket.getaddrinfo
def getaddrinfo(host, *args, **options):
    hosts = {(DEAD, GOOD)} if host == "{PROVIDER}" else [host]
    return [info for one in hosts for info in real(one, *args, **options)]
socket.getaddrinfo = getaddrinfo
"""


numbers = count(1)


def unique(text: str) -> str:
    """A query that begins with `text` and has not been searched for before."""
    return f"{text} {next(numbers)}"


def assert_unavailable(answer: requests.Response) -> None:
    kind = answer.headers["Content-Type"]
    assert (answer.status_code, kind) == (503, "application/problem+json"), answer.text
    assert int(answer.headers["Retry-After"]) > 0


class Deployment:
    """A running server, its provider, and ways to look behind them."""

    def __init__(self, api: Served, provider: StandIn, database: str, refused_port: int) -> None:
        self.api = api
        self.provider = provider
        self.database = database
        self.refused_port = refused_port  # at GOOD, the first host in the URL of the database

    @property
    def is_postgresql(self) -> bool:
        return self.database.startswith("postgresql")

    def vote(self, rating_type: str = "UPVOTE") -> requests.Response:
        return self.api.ask("PUT", VOTE, json={"rating_type": rating_type})

    def sign_in(self, email: str, password: str = PASSWORD) -> requests.Response:
        account = {"email": email, "password": password}
        return self.api.ask("POST", "/api/v1/auth/token/", json=account)

    def register(self, email: str, password: str = PASSWORD) -> int:
        """The status of a registration."""
        account = {"email": email, "password": password}
        return self.api.ask("POST", "/api/v1/users/register/", json=account).status_code

    def sql(self, *statements: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """The rows of the last statement. All run on one connection, which commits each."""
        with self.connection() as connection:
            for statement in statements:
                result = connection.execute(statement, values)
            return result.fetchall() if result.description else []

    @contextmanager
    def connection(self, *, autocommit: bool = True) -> Iterator[Any]:
        """A connection of the tests' own, on whichever database."""
        if self.is_postgresql:
            with psycopg.connect(self.database, options=OURS, autocommit=autocommit) as server:
                yield server
        else:
            with closing(sqlite3.connect(self.database, isolation_level=None)) as file:
                yield file

    @contextmanager
    def without_tables(self) -> Iterator[None]:
        """As if nobody had migrated the database."""
        renamed = [("users", "hidden_users"), ("alembic_version", "hidden_version")]
        if self.is_postgresql:
            there = ["ALTER SCHEMA tenant RENAME TO hidden"]
            back = ["ALTER SCHEMA hidden RENAME TO tenant"]
        else:  # references to the tables are left as they are
            alone = "PRAGMA legacy_alter_table = ON"
            there = [alone, *(f"ALTER TABLE {old} RENAME TO {new}" for old, new in renamed)]
            back = [alone, *(f"ALTER TABLE {new} RENAME TO {old}" for old, new in renamed)]
        self.sql(*there)
        try:
            yield
        finally:
            self.sql(*back)


@contextmanager
def deployed(directory: Path, **settings: str) -> Iterator[tuple[Served, StandIn]]:
    """The application, and its provider at a name whose first address is dead."""
    with StandIn() as provider, black_hole(DEAD, provider.port):
        always = {
            "NOVEMBER7_URL": f"http://{PROVIDER}:{provider.port}/",
            "TRUSTED_PROXIES": "1",
            "RATELIMIT_ENABLED": "true",
            "CORS_ORIGINS": ORIGIN,
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
        }
        with served(directory, RESOLVER, **always, **settings) as api:
            yield api, provider


@contextmanager
def on_sqlite(directory: Path) -> Iterator[Deployment]:
    """With a cache file that another process has locked while the workers start."""
    path = directory / "tenant.sqlite3"
    cache = directory / "november7-cache.sqlite"
    settings = {"DATABASE_URL": f"sqlite:///{path}?timeout=0.2", "KEEPALIVE": "1"}
    with closing(sqlite3.connect(cache, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with deployed(directory, **settings) as (api, provider):
            other.execute("ROLLBACK")
            yield Deployment(api, provider, str(path), 0)


@contextmanager
def on_postgresql(directory: Path, redis_url: str) -> Iterator[Deployment]:
    """With Redis at a Unix socket, and a database whose first host refuses connections."""
    redis, server, port = make_url(redis_url), make_url(POSTGRESQL), free_port()
    socket_path = directory / "redis.sock"
    with ExitStack() as stack:
        database = stack.enter_context(postgresql_database("tenant"))
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA tenant")
        with redis_py.Redis.from_url(redis_url) as client:
            client.flushdb()
        stack.enter_context(unix_socket(socket_path, redis.host or GOOD, redis.port or 6379))
        hosts = f"host={GOOD}:{port}&host={server.host}:{server.port or 5432}"
        url = make_url(database).set(host=None, port=None).render_as_string(hide_password=False)
        api, provider = stack.enter_context(
            deployed(
                directory,
                DATABASE_URL=f"{url}?{hosts}&connect_timeout=20&options={quote(OPTIONS)}",
                REDIS_URL=f"unix://{socket_path}?db={redis.database}",
            )
        )
        yield Deployment(api, provider, database, port)
