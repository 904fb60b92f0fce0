"""What clients see while a SQLite file cannot be used."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from applications import empty
from callers import Caller, assert_unavailable
from flask import Flask
from sqlalchemy import event
from werkzeug.test import TestResponse

from movies.extensions import db


@pytest.fixture
def database_url() -> str:
    """Each test names its own."""
    return ""


@pytest.fixture
def path(sqlite: str) -> str:
    empty(sqlite)
    return sqlite.removeprefix("sqlite:///")


@pytest.fixture
def caller(make_app: Callable[..., Flask], path: str) -> Caller:
    caller = Caller(make_app(DATABASE_URL=f"sqlite:///{path}?timeout=0.1"))
    assert caller.vote().status_code == 201
    return caller


def test_a_locked_file_is_503(caller: Caller, path: str) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert_unavailable(caller.vote("DOWNVOTE"))
    assert caller.read().status_code == 200
    other.close()
    assert caller.vote("DOWNVOTE").status_code == 200


@pytest.mark.parametrize(
    ("fault", "repair"),
    [
        ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823"),
    ],
    ids=["read-only", "full"],
)
def test_a_file_that_cannot_be_written_is_503(caller: Caller, fault: str, repair: str) -> None:
    statements = [fault]

    def apply(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(statements[-1])

    with caller.app.app_context():
        engine = db.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM")  # leaves no free page
        event.listen(db.engine, "checkout", apply)
    names = {"first_name": "A" * 150, "last_name": "B" * 150}
    accounts = [f"user{number}@example.com" for number in range(40)]

    def register(email: str) -> TestResponse:
        body = {"email": email, "password": "lovelace-and-babbage", **names}
        return caller.client.post("/api/v1/users/register/", json=body)

    refused = next(answer for answer in map(register, accounts) if answer.status_code != 201)
    assert_unavailable(refused)
    statements.append(repair)
    assert register("last@example.com").status_code == 201


def test_a_file_that_cannot_be_opened_is_503(
    make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    app = make_app(DATABASE_URL=f"sqlite:///{tmp_path / 'missing' / 'movies.sqlite3'}")
    account = {"email": "ada@example.com", "password": "lovelace-and-babbage"}
    assert_unavailable(app.test_client().post("/api/v1/auth/token/", json=account))


def test_an_unmigrated_file_is_503_and_the_log_says_what_to_run(
    make_app: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    account = {"email": "ada@example.com", "password": "lovelace-and-babbage"}
    assert_unavailable(app.test_client().post("/api/v1/auth/token/", json=account))
    assert "Run `flask --app wsgi db upgrade`" in " ".join(
        getattr(one, "reason", "") for one in caplog.records
    )
