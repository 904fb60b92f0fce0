"""Endpoints of signing in and out."""

import hashlib
from typing import Any

from flask import request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from movies.api import Access, Blueprint
from movies.auth import service, tokens
from movies.auth.emails import address_key
from movies.auth.errors import INVALID_TOKEN, BadCredentials, TooManyAtOnce
from movies.auth.schemas import (
    AccessTokenSchema,
    CredentialsSchema,
    EmptySchema,
    RefreshTokenSchema,
    TokenPairSchema,
    TokenSchema,
)
from movies.limits import RateLimit, client_address

bp = Blueprint("auth", __name__, url_prefix="/api/v1/auth", description="Signing in and out")


def _account() -> str | None:
    """The account that a sign-in is for, hashed, so that no store or log holds an address.

    None if the body cannot be read: it will be refused, and only the limits by IP address count.
    """
    try:
        email = bp.ARGUMENTS_PARSER.load_json(request, CredentialsSchema())["email"]
        return hashlib.sha256(address_key(email).encode()).hexdigest()
    except (HTTPException, ValidationError, KeyError, AttributeError, UnicodeError):
        return None


SIGN_IN_LIMITS = (
    RateLimit("sign-in-address", 60, client_address),
    RateLimit("sign-in-account", 20, _account),
)


@bp.post(
    "/token/",
    access=Access.ANYONE,
    limits=SIGN_IN_LIMITS,
    raises=(BadCredentials, TooManyAtOnce),
)
@bp.arguments(CredentialsSchema)
@bp.response(200, TokenPairSchema)
def sign_in(credentials: dict[str, str]) -> Any:
    """Sign in

    Returns an access token for the API, valid for `expires_in` seconds, and a refresh token to
    get new access tokens with.
    """
    return service.sign_in(**credentials)


@bp.post("/refresh/", access=Access.ANYONE, raises=INVALID_TOKEN)
@bp.arguments(RefreshTokenSchema)
@bp.response(200, AccessTokenSchema)
def refresh_token(body: dict[str, str]) -> Any:
    """Refresh an access token

    Returns a new access token. The refresh token stays the same, and valid until it expires or
    its user signs out.
    """
    return service.refresh(body["refresh"])


@bp.post("/verify/", access=Access.ANYONE, raises=INVALID_TOKEN)
@bp.arguments(TokenSchema)
@bp.response(200, EmptySchema)
def verify_token(body: dict[str, str]) -> Any:
    """Verify a token

    Checks that an access or refresh token is valid at this moment. The response does not say
    which of the two it is.
    """
    tokens.identify(body["token"], "access", "refresh")
    return {}


@bp.post("/logout/", access=Access.ANYONE, raises=INVALID_TOKEN)
@bp.arguments(RefreshTokenSchema)
@bp.response(204)
def sign_out(body: dict[str, str]) -> None:
    """Sign out

    Revokes the refresh token and every access token issued from it: immediately for refresh,
    verify and logout, and within 5 seconds on every other endpoint.
    """
    service.sign_out(body["refresh"])
