"""What clients see while the database cannot serve, and that the service recovers by itself."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from applications import empty
from callers import MOVIE_ID, Caller, assert_unavailable
from conftest import migrate
from flask import Flask
from helpers import eventually
from private_postgresql import MAX_CONNECTIONS, PrivatePostgresql

from movies.database import connections
from movies.extensions import db

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server_url(
    private_server: PrivatePostgresql,
    settings: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The URL of a migrated database on the private server."""
    migrate(settings, private_server.url, tmp_path_factory.mktemp("outages"))
    return private_server.url


@pytest.fixture
def make_caller(
    server_url: str,
    settings: dict[str, Any],
    tmp_path: Path,
    private_server: PrivatePostgresql,
    make_app: Callable[..., Flask],
) -> Callable[..., Caller]:
    """Makes callers of an application on the private server, with parameters in its URL."""
    empty(private_server.url)

    def make(parameters: str = "") -> Caller:
        caller = Caller(make_app(DATABASE_URL=server_url + parameters))
        assert caller.vote().status_code == 201
        return caller

    return make


@pytest.fixture
def database_url() -> str:
    """Each test names its own."""
    return ""


@contextmanager
def locked_movie(url: str) -> Iterator["psycopg.Connection[Any]"]:
    """A transaction that holds the lock of the movie's row."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT FROM movies WHERE id = %s FOR UPDATE", [MOVIE_ID])
        yield connection


def test_a_read_only_server_is_503_until_it_is_writable_again(
    private_server: PrivatePostgresql, make_caller: Callable[..., Caller]
) -> None:
    caller = make_caller()
    private_server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    private_server.execute("SELECT pg_reload_conf()")
    try:
        assert eventually(lambda: caller.vote("DOWNVOTE").status_code != 200, within=30)
        assert_unavailable(caller.vote("DOWNVOTE"))
        assert caller.read().status_code == 200
    finally:
        with psycopg.connect(
            private_server.url, autocommit=True, options="-c default_transaction_read_only=off"
        ) as connection:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")
    assert eventually(lambda: caller.vote("DOWNVOTE").status_code == 200, within=30)


def test_a_read_only_server_has_all_connections_replaced(
    private_server: PrivatePostgresql, make_caller: Callable[..., Caller]
) -> None:
    """A failover moves the address to another server; connections to the old one must go."""
    caller = make_caller()

    def pids() -> set[int]:
        found = private_server.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()"
        )
        return {pid for (pid,) in found}

    assert caller.read().status_code == 200
    before = pids()
    with caller.app.app_context(), db.engine.connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        with pytest.raises(Exception, match="read-only"):
            connection.exec_driver_sql("DELETE FROM ratings")

    def are_replaced() -> bool:
        assert caller.read().status_code == 200
        assert caller.vote().status_code == 200
        return not before & pids()

    assert eventually(are_replaced, within=30)


@pytest.mark.parametrize(
    "parameters",
    ["?options=-c%20lock_timeout%3D100", "?options=-c%20statement_timeout%3D300"],
    ids=["lock timeout", "statement timeout"],
)
def test_a_vote_that_waits_too_long_is_503(
    private_server: PrivatePostgresql, make_caller: Callable[..., Caller], parameters: str
) -> None:
    caller = make_caller(parameters)
    with locked_movie(private_server.url):
        assert_unavailable(caller.vote("DOWNVOTE"))
        assert caller.read().status_code == 200
    assert caller.vote("DOWNVOTE").status_code == 200


def test_a_vote_that_loses_a_deadlock_is_cast_again(
    private_server: PrivatePostgresql, make_caller: Callable[..., Caller]
) -> None:
    slow = "-c%20deadlock_timeout%3D2s%20-c%20lock_timeout%3D60s%20-c%20statement_timeout%3D60s"
    caller = make_caller(f"?options={slow}")

    def is_waiting() -> bool:
        return bool(
            private_server.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        )

    deadlocks = "SELECT sum(deadlocks)::int FROM pg_stat_database"
    ((before,),) = private_server.execute(deadlocks)
    with ThreadPoolExecutor() as pool, locked_movie(private_server.url) as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that the vote is the one to detect it
        vote = pool.submit(caller.vote, "DOWNVOTE")
        assert eventually(is_waiting, within=30)
        other.execute("UPDATE ratings SET updated_at = updated_at")
        other.commit()
        assert vote.result(30).status_code == 200
    assert eventually(lambda: private_server.execute(deadlocks) != [(before,)], within=30)


def test_terminated_connections_are_replaced_unnoticed(
    private_server: PrivatePostgresql, make_caller: Callable[..., Caller]
) -> None:
    caller = make_caller()
    for _ in range(3):
        private_server.terminate_backends()
        assert caller.read().status_code == 200
        assert caller.vote().status_code == 200


def test_a_server_without_a_free_connection_is_503(
    private_server: PrivatePostgresql, make_caller: Callable[..., Caller]
) -> None:
    caller = make_caller()
    private_server.terminate_backends()
    taken = [psycopg.connect(private_server.url) for _ in range(MAX_CONNECTIONS)]
    try:
        assert_unavailable(caller.read())
        assert_unavailable(caller.vote())
    finally:
        for connection in taken:
            connection.close()
    assert eventually(lambda: caller.vote().status_code == 200, within=30)


def test_a_widened_column_disturbs_no_request(
    private_server: PrivatePostgresql, make_caller: Callable[..., Caller]
) -> None:
    """PostgreSQL refuses a prepared plan whose result type has changed; a new plan is made."""
    caller = make_caller()
    types = ("UPVOTE", "DOWNVOTE")
    for length in (16, 8):
        for turn in range(8):  # psycopg prepares a statement at its sixth execution
            assert caller.vote(types[turn % 2]).status_code == 200
            assert caller.client.get("/api/v1/movies/ratings/", headers=caller.headers).json
        private_server.execute(f"ALTER TABLE ratings ALTER rating_type TYPE varchar({length})")
        listed = caller.client.get("/api/v1/movies/ratings/", headers=caller.headers)
        assert listed.status_code == 200
        assert caller.vote("UPVOTE").status_code == 200


def test_a_server_that_does_not_respond_is_503_until_it_does(
    private_server: PrivatePostgresql,
    make_caller: Callable[..., Caller],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "RESPONSE_MARGIN", 0.1)
    caller = make_caller("?options=-c%20statement_timeout%3D300&connect_timeout=2")
    private_server.pause()
    try:
        assert_unavailable(caller.read())
        assert_unavailable(caller.vote())
    finally:
        private_server.resume()
    assert eventually(lambda: caller.vote().status_code == 200, within=30)


def test_an_unmigrated_server_is_503_and_the_log_says_what_to_run(
    private_server: PrivatePostgresql,
    make_app: Callable[..., Flask],
    caplog: pytest.LogCaptureFixture,
) -> None:
    private_server.execute("CREATE DATABASE empty")
    url = private_server.url.replace("/postgres", "/empty")
    client = make_app(DATABASE_URL=url).test_client()
    account = {"email": "ada@example.com", "password": "lovelace-and-babbage"}
    assert_unavailable(client.post("/api/v1/auth/token/", json=account))
    assert "Run `flask --app wsgi db upgrade`" in " ".join(
        getattr(one, "reason", "") for one in caplog.records
    )
