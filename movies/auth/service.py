"""What is true of signing in.

Tokens are JWTs with the claim `sid`, the id of the sign-in that they come from. A token is good
while its signature and times are, and its sign-in is in the database. Refreshing and verifying
look there each time; everything else believes what it saw for SEEN_FOR seconds.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any, Literal, cast

from cachetools import TTLCache
from flask_jwt_extended import create_access_token, create_refresh_token, decode_token
from flask_jwt_extended.config import config as jwt_config
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import PyJWTError
from sqlalchemy import Uuid, delete, insert, literal, select, update

from movies.auth import passwords
from movies.auth.emails import address_key
from movies.auth.models import SignIn, User
from movies.database import UtcDateTime, fetch_all, now
from movies.extensions import db

SEEN_FOR = 4.0  # seconds
Kind = Literal["access", "refresh"]

_seen: TTLCache[str, "Identity"] = TTLCache(maxsize=10_000, ttl=SEEN_FOR)
_seen_lock = Lock()


class NotSignedIn(Exception):
    """No token, or one that is not good for this."""


class BadCredentials(Exception):
    """No account with this address and password; which of the two is wrong is not told."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a good token speaks for, the sign-in that it comes from, and when it expires.

    `expires_at` in seconds since the epoch.
    """

    user_id: int
    sign_in_id: uuid.UUID
    expires_at: int


def sign_in(email: str, password: str) -> dict[str, str]:
    """A new pair of tokens, `access` and `refresh`. Raises BadCredentials, TooManyAtOnce."""
    user = db.session.execute(
        select(User.id, User.password_hash).where(User.email_key == address_key(email))
    ).one_or_none()
    db.session.rollback()  # gives the connection back: hashing takes its time
    if not passwords.is_password(password, user.password_hash if user else None) or user is None:
        raise BadCredentials
    password_hash = user.password_hash
    if passwords.is_outdated(password_hash):
        password_hash = passwords.hash_password(password)
        db.session.execute(
            update(User)
            .where(User.id == user.id, User.password_hash == user.password_hash)
            .values(password_hash=password_hash)
        )
    sign_in_id = _begin(user.id, password_hash)
    db.session.commit()
    claims = {"sid": str(sign_in_id)}
    return {
        "access": create_access_token(str(user.id), additional_claims=claims),
        "refresh": create_refresh_token(str(user.id), additional_claims=claims),
    }


def _begin(user_id: int, password_hash: str) -> uuid.UUID:
    """Record a sign-in, unless the password was changed since it was checked.

    The row of the user is locked, so that a change of the password ends either this sign-in or
    sees it fail. Raises BadCredentials.
    """
    sign_in_id = uuid.uuid4()
    expires_at = now() + cast(timedelta, jwt_config.refresh_expires)
    begun = db.session.scalar(
        insert(SignIn)
        .from_select(
            ["id", "user_id", "expires_at"],
            select(literal(sign_in_id, Uuid()), User.id, literal(expires_at, UtcDateTime()))
            .where(User.id == user_id, User.password_hash == password_hash)
            .with_for_update(),
        )
        .returning(SignIn.id)
    )
    if begun is None:
        db.session.rollback()
        raise BadCredentials
    return sign_in_id


def refresh(token: str) -> dict[str, str]:
    """A new `access` token of the same sign-in. Raises NotSignedIn."""
    identity = identify(token, "refresh")
    claims = {"sid": str(identity.sign_in_id)}
    return {"access": create_access_token(str(identity.user_id), additional_claims=claims)}


def sign_out(token: str) -> None:
    """End the sign-in that a refresh token belongs to. Raises NotSignedIn."""
    identity = identify(token, "refresh")
    db.session.execute(delete(SignIn).where(SignIn.id == identity.sign_in_id))
    db.session.commit()
    _forget(identity.sign_in_id)


def end_all(user_id: int) -> None:
    """End every sign-in of a user, in the caller's transaction."""
    _forget(
        *db.session.scalars(delete(SignIn).where(SignIn.user_id == user_id).returning(SignIn.id))
    )


def purge() -> int:
    """Delete the sign-ins that have expired; how many those were."""
    expired = delete(SignIn).where(SignIn.expires_at <= now())
    purged = db.session.scalars(expired.returning(SignIn.id)).all()
    db.session.commit()
    return len(purged)


def identify(token: str, *kinds: Kind) -> Identity:
    """Whom `token` speaks for, if it is one of `kinds` and live at this moment.

    Raises NotSignedIn.
    """
    try:
        claims: dict[str, Any] = decode_token(token)
        identity = Identity(int(claims["sub"]), uuid.UUID(claims["sid"]), int(claims["exp"]))
    except (PyJWTError, JWTExtendedException, KeyError, TypeError, ValueError, RecursionError):
        raise NotSignedIn from None
    if claims["type"] not in kinds:
        raise NotSignedIn
    live = fetch_all(db.engine, select(SignIn.user_id).where(SignIn.id == identity.sign_in_id))
    if [row.user_id for row in live] != [identity.user_id]:
        raise NotSignedIn
    return identity


def identify_caller(token: str) -> Identity:
    """Whom an access token speaks for, as it was at most SEEN_FOR seconds ago.

    Raises NotSignedIn.
    """
    with _seen_lock:
        identity = _seen.get(token)
    if identity is None:
        identity = identify(token, "access")
        with _seen_lock:
            _seen[token] = identity
    elif identity.expires_at <= time.time():
        raise NotSignedIn
    return identity


def _forget(*sign_in_ids: uuid.UUID) -> None:
    """Have this process look again before it believes a token of these sign-ins."""
    with _seen_lock:
        for token in [token for token, seen in _seen.items() if seen.sign_in_id in sign_in_ids]:
            del _seen[token]
