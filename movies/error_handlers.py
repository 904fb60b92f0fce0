"""Registers the Flask error handlers: every exception is reported as the problem in `errors.py`.

Responses never contain text from the database or the provider.
"""

import logging
from dataclasses import replace
from itertools import islice
from typing import Any

from flask import Flask, Response
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, InternalServerError

from movies.database import explain, is_outage
from movies.errors import PROBLEMS, problem_of
from movies.problems import Problem, problem_response

log = logging.getLogger(__name__)

# A 422 lists enough errors to fix a request without echoing a large one.
MAX_ERRORS = 20  # members
MAX_NAME = 100  # characters of a member's name


def register_error_handlers(app: Flask) -> None:
    """Make `app` report every exception as a problem."""
    for kind in PROBLEMS:
        app.register_error_handler(kind, _respond)
    app.register_error_handler(ValidationError, _invalid)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(PoolTimeout, _database)
    app.register_error_handler(HTTPException, _respond)


def _respond(error: Exception) -> Response:
    problem = problem_of(type(error)) or _about_blank(error)
    headers = {}
    if isinstance(error, HTTPException):  # its headers belong to the status, such as `Allow`
        headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    elif (seconds := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(max(1, seconds))
    return problem_response(problem, headers)


def _about_blank(error: Any) -> Problem:
    """The problem of an HTTP exception that has no row in the table."""
    status, detail = error.code or 500, error.description or ""
    return Problem(slug=None, status=status, detail=detail, when=detail)


def _invalid(error: ValidationError) -> Response:
    errors = error.normalized_messages()  # type: ignore[no-untyped-call]
    listed = {_shortened(name): errors[name] for name in islice(errors, MAX_ERRORS)}
    problem = PROBLEMS[ValidationError]
    if more := len(errors) - len(listed):
        problem = replace(problem, detail=f"{problem.detail} {more:,} more are not listed.")
    return problem_response(problem, errors=listed)


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def _database(error: Exception) -> Response:
    """Report 503 if the database is unavailable, and 500 for other failures of a statement."""
    if is_outage(error):
        log.error("the database is unavailable", extra={"reason": explain(error)})
        return problem_response(PROBLEMS[DBAPIError])
    # Not the error itself: its text includes PostgreSQL's DETAIL, which quotes values of the row.
    reason = f"{type(error).__name__}: {explain(error)} [SQL: {getattr(error, 'statement', None)}]"
    failure = RuntimeError(reason).with_traceback(error.__traceback__)
    log.error("a statement failed unexpectedly", exc_info=failure)
    return problem_response(PROBLEMS[InternalServerError])
