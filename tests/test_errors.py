"""How exceptions are reported to clients: one test for each row of `movies/errors.py`."""

import json
import re
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import (
    BadRequest,
    InternalServerError,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    RequestedRangeNotSatisfiable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
from werkzeug.test import TestResponse

from movies.api import InvalidJSON, UnreadableBody
from movies.auth.errors import (
    ExpiredToken,
    InvalidCredentials,
    MalformedToken,
    MissingToken,
    PasswordChecksBusy,
    RevokedToken,
    WrongTokenType,
)
from movies.errors import PROBLEMS, problem_of
from movies.extensions import db
from movies.limits import RateLimitExceeded
from movies.movies.registry import UnknownMovie
from movies.movies.service import AlreadyRated, UnknownRating
from movies.november7.errors import BadResponse, Busy, NotCached, TimedOut, Unavailable
from movies.paging import NoSuchPage
from movies.problems import Problem
from movies.users.service import EmailTaken, WrongPassword
from movies.web import InvalidHost

SECRET = "what the database and the provider said"
CHALLENGE = 'Bearer realm="movies"'
Raise = Callable[[Exception], TestResponse]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The tests need no data."""
    return f"sqlite:///{tmp_path / 'empty.sqlite3'}"


@pytest.fixture
def raising(app: Flask, client: FlaskClient) -> Raise:
    """The response of an endpoint that raises an exception."""

    def raising(error: Exception) -> TestResponse:
        @app.get("/raising/")
        def view() -> str:
            raise error

        return client.get("/raising/")

    return raising


def database_error(kind: type[Any]) -> Exception:
    error: Exception = kind("SELECT", {"email": SECRET}, Exception(SECRET))
    return error


ROWS: list[tuple[Exception, int, str, str | None, dict[str, str]]] = [
    (InvalidJSON(), 400, "Bad Request", "invalid-json", {}),
    (UnreadableBody(), 400, "Bad Request", "unreadable-body", {}),
    (InvalidHost(), 400, "Bad Request", "invalid-host", {}),
    (BadRequest(SECRET), 400, "Bad Request", "bad-request", {}),
    (MissingToken(), 401, "Unauthorized", "missing-token", {"WWW-Authenticate": CHALLENGE}),
    *(
        (
            error,
            401,
            "Unauthorized",
            slug,
            {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token", error_description="{why}"'},
        )
        for error, slug, why in (
            (MalformedToken(), "malformed-token", "The token is malformed"),
            (WrongTokenType(), "wrong-token-type", "The token is of the wrong type"),
            (ExpiredToken(), "expired-token", "The token has expired"),
            (RevokedToken(), "revoked-token", "The token was revoked"),
        )
    ),
    (
        InvalidCredentials(),
        401,
        "Unauthorized",
        "invalid-credentials",
        {"WWW-Authenticate": CHALLENGE},
    ),
    (WrongPassword(), 403, "Forbidden", "wrong-password", {}),
    (NotFound(SECRET), 404, "Not Found", None, {}),
    (UnknownMovie(), 404, "Not Found", "unknown-movie", {}),
    (UnknownRating(), 404, "Not Found", "rating-not-found", {}),
    (NoSuchPage(), 404, "Not Found", "page-past-the-end", {}),
    (MethodNotAllowed(["GET"]), 405, "Method Not Allowed", None, {"Allow": "GET"}),
    (EmailTaken(), 409, "Conflict", "email-taken", {}),
    (AlreadyRated(), 409, "Conflict", "already-rated", {}),
    (RequestEntityTooLarge(SECRET), 413, "Content Too Large", None, {}),
    (UnsupportedMediaType(SECRET), 415, "Unsupported Media Type", None, {}),
    (ValidationError({"page": ["No."]}), 422, "Unprocessable Content", "invalid-request", {}),
    (PasswordChecksBusy(), 429, "Too Many Requests", "password-checks-busy", {"Retry-After": "2"}),
    (InternalServerError(SECRET), 500, "Internal Server Error", None, {}),
    (KeyError(SECRET), 500, "Internal Server Error", None, {}),
    (RecursionError(SECRET), 500, "Internal Server Error", None, {}),
    (database_error(DataError), 500, "Internal Server Error", None, {}),
    (database_error(IntegrityError), 500, "Internal Server Error", None, {}),
    *(
        (error, 503, "Service Unavailable", "database-unavailable", {"Retry-After": "5"})
        for error in (
            OperationalError("SELECT", {}, psycopg.errors.AdminShutdown(SECRET)),
            OperationalError("SELECT", {}, psycopg.OperationalError(SECRET)),
            InterfaceError("SELECT", {}, psycopg.InterfaceError(SECRET)),
            PoolTimeout(SECRET),
        )
    ),
    *(
        (error, 503, "Service Unavailable", "provider-unavailable", {"Retry-After": "7"})
        for error in (kind(SECRET, retry_after=7) for kind in (Unavailable, Busy, BadResponse))
    ),
    (
        TimedOut(SECRET, retry_after=3),
        504,
        "Gateway Timeout",
        "provider-timeout",
        {"Retry-After": "3"},
    ),
    (NotCached(), 504, "Gateway Timeout", "not-cached", {}),
    (NotAcceptable("Not this."), 406, "Not Acceptable", None, {}),
    (RequestedRangeNotSatisfiable(9), 416, "Range Not Satisfiable", None, {}),
]


@pytest.mark.parametrize(
    ("error", "status", "title", "slug", "headers"),
    ROWS,
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_exception_is_reported_according_to_its_row(
    raising: Raise,
    error: Exception,
    status: int,
    title: str,
    slug: str | None,
    headers: dict[str, str],
) -> None:
    """The response contains no other text."""
    answer = raising(error)
    type_ = f"http://localhost/api/schema/problems/#{slug}" if slug else "about:blank"
    problem = json.loads(answer.data)
    detail = problem.pop("detail")
    expected = {"type": type_, "title": title, "status": status}
    if status == 422:
        expected["errors"] = {"page": ["No."]}
    assert (answer.status, answer.mimetype) == (f"{status} {title}", "application/problem+json")
    assert problem == expected
    assert detail.endswith(".")
    assert headers.items() <= dict(answer.headers).items()
    assert SECRET not in answer.text + str(answer.headers)


def test_a_422_lists_20_members_by_short_names(client: FlaskClient) -> None:
    """And says how many more there are: nobody gets back a megabyte that they sent."""
    body = {f"{number:06}" * 20: number for number in range(8_000)}
    problem = client.post("/api/v1/auth/token/", json=body).get_json()
    assert len(problem["errors"]) == 20
    assert {"email", "password"} <= set(problem["errors"])
    assert max(map(len, problem["errors"])) == 101
    assert problem["detail"].endswith(" 7,982 more are not listed.")


def test_every_row_has_a_test() -> None:
    rate_limits = {RateLimitExceeded}  # tests/auth/test_limits.py exceeds a real limit
    tested = {base for error, *_ in ROWS for base in type(error).__mro__}
    assert set(PROBLEMS) - rate_limits <= tested


def test_each_kind_of_problem_has_its_own_slug() -> None:
    kinds = {id(problem): problem for problem in PROBLEMS.values()}.values()
    slugs = [problem.slug for problem in kinds if problem.slug]
    assert len(slugs) == len(set(slugs))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in slugs)
    assert {problem.status for problem in kinds if not problem.slug} == {404, 405, 413, 415, 500}


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda problem: problem.slug or "")
def test_a_row_has_whole_sentences_and_an_example(problem: Problem) -> None:
    for text_ in (problem.detail, problem.when, problem.advice):
        assert text_[0].isupper() or text_[0] == "`"
        assert text_.endswith(".")
    assert problem.example["status"] == problem.status
    assert problem.example["type"].startswith(("https://", "about:blank"))
    assert "Retry-After" not in problem.advice or problem.retry_after


def test_a_subclass_is_reported_as_its_base() -> None:
    assert problem_of(Busy) is PROBLEMS[Unavailable]
    assert problem_of(KeyError) is None


def test_a_lost_connection_is_503(raising: Raise) -> None:
    """Whatever class of error the driver raises."""
    error = DataError("SELECT", {}, Exception(SECRET), connection_invalidated=True)
    assert raising(error).status_code == 503


def test_retry_after_is_never_0(raising: Raise) -> None:
    assert raising(Unavailable("away", retry_after=0)).headers["Retry-After"] == "1"


def test_a_bug_is_logged_with_its_traceback(
    raising: Raise, caplog: pytest.LogCaptureFixture
) -> None:
    raising(KeyError("a bug of ours"))
    assert "a bug of ours" in caplog.text
    assert "Traceback" in caplog.text


def test_a_failed_statement_is_logged_without_its_values(
    postgresql: str, make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither with its parameters, nor with PostgreSQL's DETAIL, which quotes the row."""
    app = make_app(DATABASE_URL=postgresql)
    statements = ["SELECT :address, 1 / 0", "INSERT INTO addresses VALUES (:address), (:address)"]

    @app.get("/failing/<int:number>/")
    def view(number: int) -> str:
        db.session.execute(text("CREATE TEMPORARY TABLE addresses (address text PRIMARY KEY)"))
        db.session.execute(text(statements[number]), {"address": SECRET})
        return "not reached"

    for number in range(2):
        assert app.test_client().get(f"/failing/{number}/").status_code == 500
    assert "SELECT" in caplog.text
    assert "INSERT INTO" in caplog.text
    assert "Traceback" in caplog.text
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
def test_an_unreachable_database_is_503(
    make_app: Callable[..., Flask], method: str, path: str, body: dict[str, str] | None
) -> None:
    """The response contains nothing about the server."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    app = make_app(DATABASE_URL=f"postgresql://postgres@127.0.0.1:{port}/movies")
    answer = app.test_client().open(path, method=method, json=body)
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    assert str(port) not in answer.text


def test_a_database_that_fails_during_a_request_is_503_and_not_401(
    postgresql: str, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_app(DATABASE_URL=postgresql).test_client()
    headers = Accounts(client).headers(f"{uuid.uuid4()}@example.com")

    def gone(*_args: Any, **_kwargs: Any) -> None:
        raise psycopg.OperationalError(SECRET)

    monkeypatch.setattr(psycopg.Cursor, "execute", gone)
    for method, path in (("GET", "/api/v1/users/me/"), ("GET", "/api/v1/movies/top/")):
        assert client.open(path, method=method, headers=headers).status_code == 503
