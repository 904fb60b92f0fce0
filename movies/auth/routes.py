"""Endpoints of signing in."""

import hashlib
from typing import Any
from uuid import uuid4

from flask import request
from flask_limiter.util import get_remote_address
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from movies.api import Access, Blueprint
from movies.auth import service
from movies.auth.emails import address_key
from movies.auth.passwords import TooManyAtOnce
from movies.auth.schemas import (
    AccessTokenSchema,
    CredentialsSchema,
    NothingSchema,
    RefreshTokenSchema,
    TokenPairSchema,
    TokenSchema,
)
from movies.extensions import limiter

bp = Blueprint("auth", __name__, url_prefix="/api/v1/auth", description="Signing in and out")


def _account() -> str:
    """The account that a sign-in is for, hashed, so that no store or log holds an address.

    What can't be read is for no account, and counts by itself: it will be refused for what it is,
    and only the limit of the address holds it back.
    """
    try:
        email = bp.ARGUMENTS_PARSER.load_json(request, CredentialsSchema())["email"]
        return hashlib.sha256(address_key(email).encode()).hexdigest()
    except (HTTPException, ValidationError, KeyError, AttributeError, UnicodeError):
        return uuid4().hex


SIGN_IN_LIMITS = (
    limiter.limit("60 per minute", key_func=get_remote_address),
    limiter.limit("20 per minute", key_func=_account),
)


@bp.post(
    "/token/",
    access=Access.ANYONE,
    limits=SIGN_IN_LIMITS,
    raises=(service.BadCredentials, TooManyAtOnce),
)
@bp.arguments(CredentialsSchema)
@bp.response(200, TokenPairSchema)
def sign_in(credentials: dict[str, str]) -> Any:
    """Sign in

    Gives a short-lived access token for the API, and a refresh token for new ones.
    """
    return service.sign_in(**credentials)


@bp.post("/refresh/", access=Access.ANYONE, raises=(service.NotSignedIn,))
@bp.arguments(RefreshTokenSchema)
@bp.response(200, AccessTokenSchema)
def refresh(tokens: dict[str, str]) -> Any:
    """Get a new access token

    With a refresh token, as long as that is good.
    """
    return service.refresh(tokens["refresh"])


@bp.post("/verify/", access=Access.ANYONE, raises=(service.NotSignedIn,))
@bp.arguments(TokenSchema)
@bp.response(200, NothingSchema)
def verify(tokens: dict[str, str]) -> Any:
    """Verify a token

    An access or a refresh token; which of them it is, and so what it is fit for, is not said.
    """
    service.identify(tokens["token"], "access", "refresh")
    return {}


@bp.post("/logout/", access=Access.ANYONE, raises=(service.NotSignedIn,))
@bp.arguments(RefreshTokenSchema)
@bp.response(204)
def sign_out(tokens: dict[str, str]) -> None:
    """Sign out

    Ends the refresh token and every access token that came from it: at once for refresh and
    verify, within four seconds everywhere else.
    """
    service.sign_out(tokens["refresh"])
