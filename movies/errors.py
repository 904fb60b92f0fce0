"""Maps each exception to the problem that reports it: status, text, advice and documentation.

Responses, the OpenAPI document and the page of problems are all made from this table. To add a
kind, add a row and its test in `tests/test_errors.py`.
"""

from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import (
    BadRequest,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)

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
from movies.limits import RateLimitExceeded
from movies.movies.registry import UnknownMovie
from movies.movies.service import AlreadyRated, UnknownRating
from movies.november7.errors import NotCached, TimedOut, Unavailable
from movies.paging import NoSuchPage
from movies.problems import Problem
from movies.users.service import EmailTaken, WrongPassword
from movies.web import InvalidHost

CHALLENGE = 'Bearer realm="movies"'
INVALID_TOKEN = f'{CHALLENGE}, error="invalid_token", error_description="%s"'  # RFC 6750
LATER = "Wait for the number of seconds in `Retry-After`, then repeat the request."

PROBLEMS: dict[type[Exception], Problem] = {
    InvalidJSON: Problem(
        slug="invalid-json",
        status=400,
        detail="The body is not valid JSON.",
        when="The body is not JSON (RFC 8259) in UTF-8.",
        advice="Send valid JSON in UTF-8.",
    ),
    UnreadableBody: Problem(
        slug="unreadable-body",
        status=400,
        detail="The body is incomplete or malformed.",
        when="The body ends early, or its length or chunks are malformed.",
        advice="Repeat the request on a new connection.",
    ),
    InvalidHost: Problem(
        slug="invalid-host",
        status=400,
        detail="The Host header is missing or invalid.",
        when="The `Host` header is missing, or is not a valid host.",
        advice="Send the URL's host in the `Host` header. HTTP clients do this automatically.",
    ),
    BadRequest: Problem(
        slug="bad-request",
        status=400,
        detail="The request is malformed.",
        when="The request is malformed in a way that no other problem describes.",
    ),
    MissingToken: Problem(
        slug="missing-token",
        status=401,
        detail="The access token is missing. Send it as `Authorization: Bearer <token>`.",
        when="The request has no `Authorization` header with the scheme `Bearer`.",
        advice="Sign in at `/api/v1/auth/token/`, and send the access token.",
        challenge=CHALLENGE,
    ),
    MalformedToken: Problem(
        slug="malformed-token",
        status=401,
        detail="The token is malformed, or was not issued by this service.",
        when="The token is not a JWT, or its signature or one of its claims is invalid.",
        advice="Sign in at `/api/v1/auth/token/` to get a valid token.",
        challenge=INVALID_TOKEN % "The token is malformed",
    ),
    WrongTokenType: Problem(
        slug="wrong-token-type",
        status=401,
        detail="The token is of the wrong type: access and refresh tokens are not interchangeable.",
        when="A refresh token was sent as an access token, or an access token as a refresh token.",
        advice="Send the other token that sign-in returned.",
        challenge=INVALID_TOKEN % "The token is of the wrong type",
    ),
    ExpiredToken: Problem(
        slug="expired-token",
        status=401,
        detail="The token has expired. Get a new access token from /api/v1/auth/refresh/.",
        when="The token has expired.",
        advice="Get a new access token from `/api/v1/auth/refresh/`, then repeat the request. If "
        "the refresh token has expired, sign in again.",
        challenge=INVALID_TOKEN % "The token has expired",
    ),
    RevokedToken: Problem(
        slug="revoked-token",
        status=401,
        detail="The token was revoked. Sign in again.",
        when="Since the token was issued, the user signed out, changed the password, deleted the "
        "account, or signed in 100 more times.",
        advice="Sign in again.",
        challenge=INVALID_TOKEN % "The token was revoked",
    ),
    InvalidCredentials: Problem(
        slug="invalid-credentials",
        status=401,
        detail="The email address or the password is wrong.",
        when="No account has this email address and password.",
        advice="Ask the user for the email address and the password again.",
        challenge=CHALLENGE,
    ),
    WrongPassword: Problem(
        slug="wrong-password",
        status=403,
        detail="The current password is wrong.",
        when="`current_password` is not the password of the account.",
        advice="Ask the user for the current password again.",
    ),
    NotFound: Problem(
        slug=None,
        status=404,
        detail="There is no resource at this URL.",
        when="There is no resource at this path.",
    ),
    UnknownMovie: Problem(
        slug="unknown-movie",
        status=404,
        detail="No movie has this id.",
        when="November 7's catalogue does not contain the movie.",
        advice="Use the `id` of a movie that a search returned.",
    ),
    UnknownRating: Problem(
        slug="rating-not-found",
        status=404,
        detail="You have no such rating.",
        when="The rating does not exist or belongs to another user.",
        advice="List your ratings with `GET /api/v1/movies/ratings/`, or rate the movie with "
        "`PUT /api/v1/movies/{id}/rating/`.",
    ),
    NoSuchPage: Problem(
        slug="page-past-the-end",
        status=404,
        detail="This page does not exist. The list has fewer pages.",
        when="`page` is greater than the number of pages.",
        advice="Start again at page 1, and follow `next` until it is null.",
    ),
    MethodNotAllowed: Problem(
        slug=None,
        status=405,
        detail="The resource does not support this method.",
        when="The resource does not support the method. `Allow` lists the supported methods.",
    ),
    EmailTaken: Problem(
        slug="email-taken",
        status=409,
        detail="An account with this email address already exists. Sign in, or register with "
        "another one.",
        when="An account has this email address, in any letter case.",
        advice="Sign in, or register with another email address.",
    ),
    AlreadyRated: Problem(
        slug="already-rated",
        status=409,
        detail="You have already rated this movie.",
        when="The user has already rated the movie.",
        advice="Use `PUT /api/v1/movies/{id}/rating/` to change the rating.",
    ),
    RequestEntityTooLarge: Problem(
        slug=None,
        status=413,
        detail="The body is larger than 1 MiB.",
        when="The body is larger than 1 MiB.",
    ),
    UnsupportedMediaType: Problem(
        slug=None,
        status=415,
        detail="The Content-Type or Content-Encoding of the body is not supported.",
        when="The `Content-Type` of the body is not supported, or the body is compressed. The"
        " response lists the supported types in `Accept`.",
    ),
    ValidationError: Problem(
        slug="invalid-request",
        status=422,
        detail="One or more members or parameters are invalid.",
        when="A member or parameter is missing, unknown or invalid. `errors` says which and why.",
        advice="Correct the members or parameters that `errors` names.",
        members={"errors": {"page": ["Not a valid integer."]}},
    ),
    RateLimitExceeded: Problem(
        slug="rate-limited",
        status=429,
        detail="You have sent too many requests.",
        when="The caller has exceeded a rate limit. `RateLimit-Policy` lists the limits.",
        advice=LATER,
        retry_after=60,
    ),
    PasswordChecksBusy: Problem(
        slug="password-checks-busy",
        status=429,
        detail="Too many passwords are being checked at the moment.",
        when="More sign-ins, registrations and password changes arrive than the service can "
        "process.",
        advice=LATER,
        retry_after=2,
    ),
    InternalServerError: Problem(
        slug=None,
        status=500,
        detail="An unexpected error occurred. It has been logged.",
        when="An unexpected error occurred. Please report the `X-Request-ID` of the response.",
        advice="Repeat the request once if it is idempotent.",
    ),
    DBAPIError: (
        database_unavailable := Problem(
            slug="database-unavailable",
            status=503,
            detail="The database is unavailable.",
            when="The database cannot be reached or is too busy.",
            advice=LATER,
            retry_after=5,
        )
    ),
    PoolTimeout: database_unavailable,
    Unavailable: Problem(
        slug="provider-unavailable",
        status=503,
        detail="November 7 is unavailable.",
        when="November 7 failed or is busy, and no cached response can be used instead.",
        advice=LATER,
        retry_after=5,
    ),
    NotCached: Problem(
        slug="not-cached",
        status=504,
        detail="No cached response is fresh enough.",
        when="The request has `Cache-Control: only-if-cached`, and the cache cannot satisfy it.",
        advice="Repeat the request without `only-if-cached`.",
    ),
    TimedOut: Problem(
        slug="provider-timeout",
        status=504,
        detail="November 7 did not respond in time.",
        when="November 7 did not respond in time, and no cached response can be used instead.",
        advice=LATER,
        retry_after=5,
    ),
}


def problem_of(kind: type[BaseException]) -> Problem | None:
    """The row of an exception class, or of its nearest base class that has one."""
    return next((PROBLEMS[base] for base in kind.__mro__ if base in PROBLEMS), None)
