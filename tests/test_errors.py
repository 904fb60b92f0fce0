"""Exceptions and what clients see of them: one test a row of `movies/errors.py`."""

import json
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Accounts
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import BadRequest, ImATeapot, NotAcceptable
from werkzeug.test import TestResponse

from movies.auth.passwords import TooManyAtOnce
from movies.auth.service import BadCredentials, NotSignedIn
from movies.errors import PROBLEMS
from movies.extensions import db
from movies.movies.registry import UnknownMovie
from movies.movies.service import AlreadyRated, UnknownRating
from movies.november7.errors import BadResponse, Busy, TimedOut, Unavailable
from movies.paging import NoSuchPage
from movies.users.service import AddressTaken, WrongPassword

SECRET = "what the database and the provider said"
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    406: "Not Acceptable",
    409: "Conflict",
    418: "I'm a teapot",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
Raise = Callable[[Exception], TestResponse]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """No test here needs a database with anything in it."""
    return f"sqlite:///{tmp_path / 'empty.sqlite3'}"


@pytest.fixture
def raising(app: Flask, client: FlaskClient) -> Raise:
    """The answer of an endpoint that raises an exception."""

    def raising(error: Exception) -> TestResponse:
        @app.get("/raising/")
        def view() -> str:
            raise error

        return client.get("/raising/")

    return raising


def database_error(kind: type[Any]) -> Exception:
    error: Exception = kind("SELECT", {"email": SECRET}, Exception(SECRET))
    return error


@pytest.mark.parametrize(
    ("error", "status", "detail", "headers"),
    [
        (
            NotSignedIn(),
            401,
            "Send a good token.",
            {"WWW-Authenticate": 'Bearer realm="movies", error="invalid_token"'},
        ),
        (
            BadCredentials(),
            401,
            "There is no account with this address and password.",
            {"WWW-Authenticate": 'Bearer realm="movies"'},
        ),
        (WrongPassword(), 403, "This is not the current password.", {}),
        (UnknownMovie(), 404, "November 7's catalogue does not hold this movie.", {}),
        (UnknownRating(), 404, "You have no such rating.", {}),
        (NoSuchPage(), 404, "The list ends before this page.", {}),
        (AddressTaken(), 409, "There is an account with this address.", {}),
        (AlreadyRated(), 409, "You have rated this movie already.", {}),
        (ValidationError({"page": ["No."]}), 422, "The request is not valid.", {}),
        (
            TooManyAtOnce(),
            429,
            "Too many passwords are being checked at once.",
            {"Retry-After": "2"},
        ),
        (
            TimedOut(SECRET, retry_after=3),
            504,
            "November 7 did not answer in time.",
            {"Retry-After": "3"},
        ),
        *(
            (
                kind(SECRET, retry_after=7),
                503,
                "November 7 cannot be had at the moment.",
                {"Retry-After": "7"},
            )
            for kind in (Unavailable, Busy, BadResponse)
        ),
        *(
            (error, 503, "The database cannot be had at the moment.", {"Retry-After": "5"})
            for error in (
                database_error(OperationalError),
                database_error(InterfaceError),
                PoolTimeout(SECRET),
            )
        ),
        *(
            (error, 500, "Something went wrong here. It has been recorded.", {})
            for error in (
                database_error(DataError),
                database_error(IntegrityError),
                KeyError(SECRET),
                RecursionError(SECRET),
            )
        ),
        (NotAcceptable("Not this."), 406, "Not this.", {}),
        (ImATeapot(), 418, ImATeapot.description, {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_exception_is_a_problem(
    raising: Raise, error: Exception, status: int, detail: str, headers: dict[str, str]
) -> None:
    """Status, body and headers are those of the table, and nobody else's text is in them."""
    answer = raising(error)
    problem = {"type": "about:blank", "title": TITLES[status], "status": status, "detail": detail}
    if status == 422:
        problem["errors"] = {"page": ["No."]}
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert json.loads(answer.data) == problem
    assert headers.items() <= dict(answer.headers).items()
    assert SECRET not in answer.text + str(answer.headers)


def test_every_row_has_its_test() -> None:
    """An exception that is added to the table has to be added to the tests above."""
    tested = {NotSignedIn, BadCredentials, WrongPassword, UnknownMovie, UnknownRating, NoSuchPage}
    assert set(PROBLEMS) == tested | {AddressTaken, AlreadyRated, TooManyAtOnce}


def test_a_cut_connection_means_that_the_database_is_away(raising: Raise) -> None:
    """Whatever the driver calls it, a connection that was cut is 503 and not 500."""
    error = DataError("SELECT", {}, Exception(SECRET), connection_invalidated=True)
    assert raising(error).status_code == 503


def test_a_provider_that_names_no_time_is_worth_a_second(raising: Raise) -> None:
    """Retry-After is never 0."""
    assert raising(Unavailable("away", retry_after=0)).headers["Retry-After"] == "1"


def test_a_defect_is_recorded(raising: Raise, caplog: pytest.LogCaptureFixture) -> None:
    """What a client isn't told, the log is: the exception with its traceback."""
    raising(KeyError("a defect of ours"))
    assert "a defect of ours" in caplog.text
    assert "Traceback" in caplog.text


def test_a_failing_statement_is_recorded_without_its_values(
    postgresql: str, make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    """No address or hash gets into a log because a statement that holds it failed."""
    app = make_app(DATABASE_URL=postgresql)

    @app.get("/failing/")
    def view() -> str:
        db.session.execute(text("SELECT :address FROM missing"), {"address": SECRET})
        return "not reached"

    assert app.test_client().get("/failing/").status_code == 500
    assert "SELECT" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/auth/token/", {"email": "ada@example.com", "password": "x"}),
        (
            "POST",
            "/api/v1/users/register/",
            {"email": "ada@example.com", "password": "lovelace-and-babbage"},
        ),
        ("GET", "/health/ready", None),
    ],
)
def test_a_database_that_is_away_is_503(
    make_app: Callable[..., Flask], method: str, path: str, body: dict[str, str] | None
) -> None:
    """Where nothing listens, the answer is a problem that says when to come back, and no more."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    app = make_app(DATABASE_URL=f"postgresql://postgres@127.0.0.1:{port}/movies")
    answer = app.test_client().open(path, method=method, json=body)
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    assert str(port) not in answer.text


def test_who_is_signed_in_is_told_too_when_the_database_goes(
    postgresql: str, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that goes while one is signed in is 503 for reads and writes, and not 401."""
    client = make_app(DATABASE_URL=postgresql).test_client()
    headers = Accounts(client).headers(f"{uuid.uuid4()}@example.com")

    def gone(*_args: Any, **_kwargs: Any) -> None:
        raise psycopg.OperationalError(SECRET)

    monkeypatch.setattr(psycopg.Cursor, "execute", gone)
    for method, path in (("GET", "/api/v1/users/me/"), ("GET", "/api/v1/movies/top/")):
        assert client.open(path, method=method, headers=headers).status_code == 503


def test_a_bad_request_of_another_kind_is_not_called_bad_json(raising: Raise) -> None:
    """400 says what it is about."""
    assert raising(BadRequest("Not this.")).get_json()["detail"] == "Not this."
