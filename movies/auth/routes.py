"""Endpoints for signing in and out."""

import hashlib
from typing import Any

from flask import request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from movies.api import Access, Blueprint
from movies.auth import service, tokens
from movies.auth.emails import address_key
from movies.auth.errors import TOKEN_ERRORS, InvalidCredentials, PasswordChecksBusy
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
    """The hashed email key of a sign-in, so that no email address is stored with its count.

    None if the body is invalid. The request is then refused, and only counted by IP address.
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
    raises=(InvalidCredentials, PasswordChecksBusy),
)
@bp.arguments(CredentialsSchema)
@bp.response(200, TokenPairSchema)
def sign_in(credentials: dict[str, str]) -> Any:
    """Sign in

    Returns an access token, which is valid for `expires_in` seconds, and a refresh token. Use the
    refresh token to get new access tokens.
    """
    return service.sign_in(**credentials)


@bp.post("/refresh/", access=Access.ANYONE, raises=TOKEN_ERRORS)
@bp.arguments(RefreshTokenSchema)
@bp.response(200, AccessTokenSchema)
def refresh_token(body: dict[str, str]) -> Any:
    """Refresh an access token

    Returns a new access token. The refresh token does not change, and remains valid until it
    expires or the user signs out.
    """
    return service.refresh(body["refresh"])


@bp.post("/verify/", access=Access.ANYONE, raises=TOKEN_ERRORS)
@bp.arguments(TokenSchema)
@bp.response(200, EmptySchema)
def verify_token(body: dict[str, str]) -> Any:
    """Verify a token

    Checks whether an access token or a refresh token is valid. The response does not tell the type
    of the token.
    """
    tokens.identify(body["token"], "access", "refresh")
    return {}


@bp.post("/logout/", access=Access.ANYONE, raises=TOKEN_ERRORS)
@bp.arguments(RefreshTokenSchema)
@bp.response(204)
def sign_out(body: dict[str, str]) -> None:
    """Sign out

    Revokes the refresh token and every access token issued from it. Refresh, verify and logout
    refuse them at once, and all other endpoints within 5 seconds.
    """
    service.sign_out(body["refresh"])
