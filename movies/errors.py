"""The one place where an exception becomes a status and a body (RFC 9457).

What the database or the provider said never gets into a body.
"""

import logging
from typing import Any, cast

from flask import Flask, Response, current_app
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from movies.auth.passwords import TooManyAtOnce
from movies.auth.service import BadCredentials, NotSignedIn
from movies.database import is_outage
from movies.movies.registry import UnknownMovie
from movies.movies.service import AlreadyRated, UnknownRating
from movies.november7.errors import TimedOut, Unavailable
from movies.paging import NoSuchPage
from movies.users.service import AddressTaken, WrongPassword

log = logging.getLogger(__name__)

DATABASE_RETRY_AFTER = 5  # seconds

PROBLEMS: dict[type[Exception], tuple[int, str, dict[str, str]]] = {
    NotSignedIn: (
        401,
        "Send a good token.",
        {"WWW-Authenticate": 'Bearer realm="movies", error="invalid_token"'},
    ),
    BadCredentials: (
        401,
        "There is no account with this address and password.",
        {"WWW-Authenticate": 'Bearer realm="movies"'},
    ),
    WrongPassword: (403, "This is not the current password.", {}),
    UnknownMovie: (404, "November 7's catalogue does not hold this movie.", {}),
    UnknownRating: (404, "You have no such rating.", {}),
    NoSuchPage: (404, "The list ends before this page.", {}),
    AddressTaken: (409, "There is an account with this address.", {}),
    AlreadyRated: (409, "You have rated this movie already.", {}),
    TooManyAtOnce: (429, "Too many passwords are being checked at once.", {"Retry-After": "2"}),
}

DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not know this method.",
    413: "The body is larger than 1 MiB.",
    415: "Send the body as application/json.",
    429: "Too many requests.",
    500: "Something went wrong here. It has been recorded.",
}


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, **members: Any
) -> Response:
    """A problem+json response."""
    body = {
        "type": "about:blank",
        "title": HTTP_STATUS_CODES.get(status, "Error"),
        "status": status,
        "detail": detail,
        **members,
    }
    response = cast(Response, current_app.json.response(body))
    response.status_code = status
    response.content_type = "application/problem+json"
    response.headers.update(headers or {})
    return response


def register_error_handlers(app: Flask) -> None:
    """Have `app` answer every exception as a problem."""
    for kind in PROBLEMS:
        app.register_error_handler(kind, _ours)
    app.register_error_handler(ValidationError, _invalid)
    app.register_error_handler(Unavailable, _unavailable)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(PoolTimeout, _database)
    app.register_error_handler(HTTPException, _http)


def _ours(error: Exception) -> Response:
    status, detail, headers = PROBLEMS[type(error)]
    return problem(status, detail, headers)


def _invalid(error: ValidationError) -> Response:
    errors = error.normalized_messages()  # type: ignore[no-untyped-call]
    return problem(422, "The request is not valid.", errors=errors)


def _unavailable(error: Unavailable) -> Response:
    headers = {"Retry-After": str(max(1, error.retry_after))}
    if isinstance(error, TimedOut):
        return problem(504, "November 7 did not answer in time.", headers)
    return problem(503, "November 7 cannot be had at the moment.", headers)


def _database(error: Exception) -> Response:
    """503 where the database is away; any other failure of it is a defect of ours."""
    if is_outage(error):
        log.error("the database is away", extra={"reason": type(error).__name__})
        return problem(
            503,
            "The database cannot be had at the moment.",
            {"Retry-After": str(DATABASE_RETRY_AFTER)},
        )
    log.error("an unexpected error of the database", exc_info=error)
    return problem(500, DETAILS[500])


def _http(error: HTTPException) -> Response:
    """What Flask and its extensions raise, 500 for whatever nobody expected included."""
    status = error.code or 500  # Flask has logged an exception that nobody expected
    headers = {
        name: value
        for name, value in error.get_headers()
        if name in ("Allow", "Retry-After", "WWW-Authenticate")
    }
    return problem(status, DETAILS.get(status, error.description or ""), headers)
