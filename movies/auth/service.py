"""What is true of signing in.

Tokens are JWTs with the claim `sid`, the id of the sign-in that they come from. A token is good
while its signature and times are, and its sign-in is in the database. Refreshing and verifying
look there each time; everything else believes what it saw for SEEN_FOR seconds.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any, Literal

from cachetools import TTLCache
from flask_jwt_extended import create_access_token, create_refresh_token, decode_token
from flask_jwt_extended.config import config as jwt_config
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import PyJWTError
from sqlalchemy import Uuid, delete, insert, literal, select, update

from movies.auth.models import SignIn
from movies.extensions import UtcDateTime, db, now
from movies.users import passwords
from movies.users.addresses import address_key
from movies.users.models import User

SEEN_FOR = 4.0  # seconds
Kind = Literal["access", "refresh"]

_seen: TTLCache[uuid.UUID, int] = TTLCache(maxsize=100_000, ttl=SEEN_FOR)
_seen_lock = Lock()


class NotSignedIn(Exception):
    """No token, or one that is not good for this."""


class BadCredentials(Exception):
    """No account with this address and password; which of the two is wrong is not told."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a good token speaks for, and the sign-in that it comes from."""

    user_id: int
    sign_in_id: uuid.UUID


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
    lifetime: timedelta = jwt_config.refresh_expires
    begun = db.session.execute(
        insert(SignIn).from_select(
            ["id", "user_id", "expires_at"],
            select(literal(sign_in_id, Uuid()), User.id, literal(now() + lifetime, UtcDateTime()))
            .where(User.id == user_id, User.password_hash == password_hash)
            .with_for_update(),
        )
    )
    if not begun.rowcount:
        db.session.rollback()
        raise BadCredentials
    return sign_in_id


def refresh(token: str) -> dict[str, str]:
    """A new `access` token of the same sign-in. Raises NotSignedIn."""
    identity = identify(token, "refresh", at_once=True)
    claims = {"sid": str(identity.sign_in_id)}
    return {"access": create_access_token(str(identity.user_id), additional_claims=claims)}


def sign_out(token: str) -> None:
    """End the sign-in that a refresh token belongs to. Raises NotSignedIn."""
    identity = identify(token, "refresh", at_once=True)
    db.session.execute(delete(SignIn).where(SignIn.id == identity.sign_in_id))
    db.session.commit()
    with _seen_lock:
        _seen.pop(identity.sign_in_id, None)


def end_all(user_id: int) -> None:
    """End every sign-in of a user, in the caller's transaction."""
    ended = db.session.scalars(
        delete(SignIn).where(SignIn.user_id == user_id).returning(SignIn.id)
    ).all()
    with _seen_lock:
        for sign_in_id in ended:
            _seen.pop(sign_in_id, None)


def purge() -> int:
    """Delete the sign-ins that have expired; how many those were."""
    purged = db.session.execute(delete(SignIn).where(SignIn.expires_at <= now()))
    db.session.commit()
    return int(purged.rowcount)


def identify(token: str, *kinds: Kind, at_once: bool = False) -> Identity:
    """Whom `token` speaks for, if it is one of `kinds`. Raises NotSignedIn.

    `at_once`: whether the database is asked even if it was a moment ago.
    """
    try:
        claims: dict[str, Any] = decode_token(token)
        identity = Identity(int(claims["sub"]), uuid.UUID(claims["sid"]))
    except (PyJWTError, JWTExtendedException, KeyError, TypeError, ValueError, RecursionError):
        raise NotSignedIn from None
    if claims["type"] not in kinds or not _is_live(identity, at_once=at_once):
        raise NotSignedIn
    return identity


def _is_live(identity: Identity, *, at_once: bool) -> bool:
    if not at_once and _seen.get(identity.sign_in_id) == identity.user_id:
        return True
    statement = select(SignIn.user_id).where(SignIn.id == identity.sign_in_id)
    with db.engine.connect() as connection:  # given back before November 7 is waited for
        user_id = connection.scalar(statement)
    if user_id != identity.user_id:
        return False
    with _seen_lock:
        _seen[identity.sign_in_id] = identity.user_id
    return True
