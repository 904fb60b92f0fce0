"""Issues and validates access tokens and refresh tokens.

Tokens are JWTs. Their claim `sid` is the id of a row in `sign_ins`, and a token is valid only
while that row exists. Refresh, verify and logout always look up the row. For other requests, the
result of a lookup is cached for VALID_FOR seconds.

The header of a token names the key that signed it. So a key can be replaced without signing anyone
out: new tokens are signed with the new key, and tokens signed with the previous key stay valid.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Literal

from cachetools import TTLCache
from flask import Flask, current_app, g, request
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import ExpiredSignatureError, InvalidTokenError, PyJWTError
from sqlalchemy import bindparam, select

from movies.auth.errors import (
    ExpiredToken,
    MalformedToken,
    MissingToken,
    RevokedToken,
    WrongTokenType,
)
from movies.auth.models import SignIn
from movies.database import Statement
from movies.extensions import db

VALID_FOR = 4.0  # seconds for which a valid token is not looked up again
REVOKED_FOR = 300.0  # seconds for which a revoked sign-in is not looked up again
MAX_CACHED = 10_000  # entries of each cache, about 10 MB; the least recently used are dropped

Kind = Literal["access", "refresh"]

_SIGN_IN = Statement(select(SignIn.user_id).where(SignIn.id == bindparam("sign_in_id")))

_valid: TTLCache[str, "Identity"] = TTLCache(MAX_CACHED, ttl=VALID_FOR)
_revoked: TTLCache[uuid.UUID, bool] = TTLCache(MAX_CACHED, ttl=REVOKED_FOR)
_lock = Lock()


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that a valid token identifies, its sign-in and its expiry.

    `expires_at`: seconds since the epoch.
    """

    user_id: int
    sign_in_id: uuid.UUID
    expires_at: int


def init_app(app: Flask, jwt: JWTManager) -> None:
    """Name the key in new tokens, find the key of tokens, and authenticate requests to `app`."""
    jwt.additional_headers_loader(_name_key)
    jwt.decode_key_loader(_find_key)
    app.extensions["authenticate"] = require_user


def require_user() -> None:
    """Set `g.caller` to the user that the request's bearer token identifies.

    Raises NotAuthenticated.
    """
    scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise MissingToken
    g.caller = identify_caller(token)


def issue(user_id: int, sign_in_id: uuid.UUID, *kinds: Kind) -> dict[str, Any]:
    """New tokens for a sign-in, keyed by kind, with `token_type` and `expires_in` (RFC 6749 §5.1).

    `expires_in`: the lifetime of the access token in seconds.
    """
    create: dict[Kind, Callable[..., str]] = {
        "access": create_access_token,
        "refresh": create_refresh_token,
    }
    claims = {"sid": str(sign_in_id)}
    return {
        **{kind: create[kind](str(user_id), additional_claims=claims) for kind in kinds},
        "token_type": "Bearer",
        "expires_in": current_app.config["JWT_ACCESS_TOKEN_EXPIRES"],
    }


def identify(token: str, *kinds: Kind) -> Identity:
    """Validate a token of one of these kinds, and look up its sign-in.

    Raises MalformedToken, ExpiredToken, WrongTokenType, RevokedToken.
    """
    identity = _read(token, kinds)
    with _lock:
        is_revoked = identity.sign_in_id in _revoked
    if not is_revoked:
        found = db.fetch_all(_SIGN_IN, sign_in_id=identity.sign_in_id)
        if [row.user_id for row in found] == [identity.user_id]:
            return identity
        mark_revoked([identity.sign_in_id])
    raise RevokedToken


def identify_caller(token: str) -> Identity:
    """Validate an access token. Its sign-in was looked up at most VALID_FOR seconds ago.

    Raises the same exceptions as `identify`.
    """
    with _lock:
        identity = _valid.get(token)
        if identity is not None and identity.sign_in_id in _revoked:
            raise RevokedToken
    if identity is None:
        identity = identify(token, "access")
        with _lock:
            _valid[token] = identity
    elif identity.expires_at <= time.time() - current_app.config["JWT_DECODE_LEEWAY"]:
        raise ExpiredToken
    return identity


def mark_revoked(sign_in_ids: Iterable[uuid.UUID]) -> None:
    """Make this process refuse the tokens of ended sign-ins. Call it after the commit."""
    with _lock:
        for sign_in_id in sign_in_ids:
            _revoked[sign_in_id] = True


def _read(token: str, kinds: tuple[Kind, ...]) -> Identity:
    try:
        claims: dict[str, Any] = decode_token(token)
        identity = Identity(int(claims["sub"]), uuid.UUID(claims["sid"]), int(claims["exp"]))
    except ExpiredSignatureError:
        raise ExpiredToken from None
    except (PyJWTError, JWTExtendedException, KeyError, TypeError, ValueError, RecursionError):
        raise MalformedToken from None
    if claims["type"] not in kinds:
        raise WrongTokenType
    return identity


@cache
def key_id(key: str) -> str:
    """The id of a key for the header of a token. The key cannot be derived from it."""
    return hashlib.sha256(b"key id of " + key.encode()).hexdigest()[:16]


def _name_key(_identity: str) -> dict[str, str]:
    return {"kid": key_id(current_app.config["JWT_SECRET_KEY"])}


def _find_key(headers: dict[str, Any], _claims: dict[str, Any]) -> str:
    for setting in ("JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS"):
        key: str = current_app.config[setting]
        if key and headers.get("kid") == key_id(key):
            return key
    raise InvalidTokenError("signed with an unknown key")
