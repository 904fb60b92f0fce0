"""Issues and validates access tokens and refresh tokens.

Tokens are JWTs. Their claim `sid` is the id of a row in `sign_ins`, and a token is valid only
while that row exists. Refresh, verify and logout always look up the row. For other requests, the
result of a lookup is cached for LIVE_FOR seconds.
"""

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

from cachetools import TTLCache
from flask import current_app
from flask_jwt_extended import create_access_token, create_refresh_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import ExpiredSignatureError, PyJWTError
from sqlalchemy import bindparam, select

from movies.auth.errors import ExpiredToken, MalformedToken, RevokedToken, WrongTokenType
from movies.auth.models import SignIn
from movies.database import Statement
from movies.extensions import db

LIVE_FOR = 4.0  # seconds for which a valid token is not looked up again
ENDED_FOR = 300.0  # seconds for which an ended sign-in is not looked up again
MAX_CACHED = 10_000  # entries of each cache, about 10 MB; the least recently used are dropped

Kind = Literal["access", "refresh"]

_SIGN_IN = Statement(select(SignIn.user_id).where(SignIn.id == bindparam("sign_in_id")))

_live: TTLCache[str, "Identity"] = TTLCache(MAX_CACHED, ttl=LIVE_FOR)
_ended: TTLCache[uuid.UUID, bool] = TTLCache(MAX_CACHED, ttl=ENDED_FOR)
_lock = Lock()


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that a valid token identifies, its sign-in and its expiry.

    `expires_at`: seconds since the epoch.
    """

    user_id: int
    sign_in_id: uuid.UUID
    expires_at: int


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
        is_ended = identity.sign_in_id in _ended
    if not is_ended:
        found = db.fetch_all(_SIGN_IN, sign_in_id=identity.sign_in_id)
        if [row.user_id for row in found] == [identity.user_id]:
            return identity
        forget([identity.sign_in_id])
    raise RevokedToken


def identify_caller(token: str) -> Identity:
    """Validate an access token. Its sign-in was looked up at most LIVE_FOR seconds ago.

    Raises the same exceptions as `identify`.
    """
    with _lock:
        identity = _live.get(token)
        if identity is not None and identity.sign_in_id in _ended:
            raise RevokedToken
    if identity is None:
        identity = identify(token, "access")
        with _lock:
            _live[token] = identity
    elif identity.expires_at <= time.time() - current_app.config["JWT_DECODE_LEEWAY"]:
        raise ExpiredToken
    return identity


def forget(sign_in_ids: Iterable[uuid.UUID]) -> None:
    """Make this process refuse the tokens of ended sign-ins. Call it after the commit."""
    with _lock:
        for sign_in_id in sign_in_ids:
            _ended[sign_in_id] = True


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
