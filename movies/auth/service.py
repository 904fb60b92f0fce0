"""Business logic of signing in and out."""

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import current_app
from sqlalchemy import Uuid, delete, insert, literal, select, update

from movies.auth import passwords, tokens
from movies.auth.emails import address_key
from movies.auth.errors import InvalidCredentials
from movies.auth.models import SignIn, User
from movies.auth.passwords import Verdict
from movies.database import UtcDateTime, now
from movies.extensions import db

MAX_SIGN_INS = 100  # of one user; a new one ends the oldest
PURGE_BATCH = 2000  # rows deleted in one transaction


def sign_in(email: str, password: str) -> dict[str, Any]:
    """New tokens, `access` and `refresh`. Raises InvalidCredentials, PasswordChecksBusy."""
    user = db.session.execute(
        select(User.id, User.password_hash).where(User.email_key == address_key(email))
    ).one_or_none()
    db.session.rollback()  # no connection is held while hashing
    verdict = passwords.verify(password, user.password_hash if user else None)
    if verdict is Verdict.WRONG or user is None:
        raise InvalidCredentials
    password_hash = user.password_hash
    if verdict is Verdict.OUTDATED:
        password_hash = passwords.hash_password(password)
        db.session.execute(
            update(User)
            .where(User.id == user.id, User.password_hash == user.password_hash)
            .values(password_hash=password_hash)
        )
    sign_in_id = _begin(user.id, password_hash)
    ended = _end_oldest(user.id)
    db.session.commit()
    tokens.mark_revoked(ended)
    return tokens.issue(user.id, sign_in_id, "access", "refresh")


def _begin(user_id: int, password_hash: str) -> uuid.UUID:
    """Record a sign-in, unless the password was changed since it was verified.

    The user's row is locked, so that a simultaneous password change either ends this sign-in or
    makes it fail. Raises InvalidCredentials.
    """
    sign_in_id = uuid.uuid4()
    expires_at = now() + timedelta(seconds=current_app.config["JWT_REFRESH_TOKEN_EXPIRES"])
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
        raise InvalidCredentials
    return sign_in_id


def _end_oldest(user_id: int) -> list[uuid.UUID]:
    """End all but the newest MAX_SIGN_INS sign-ins of a user. Returns the ids of the ended ones."""
    newest_first = (
        select(SignIn.id)
        .where(SignIn.user_id == user_id)
        .order_by(SignIn.expires_at.desc(), SignIn.id)
    )
    surplus = delete(SignIn).where(SignIn.id.in_(newest_first.offset(MAX_SIGN_INS)))
    return list(db.session.scalars(surplus.returning(SignIn.id)))


def refresh(token: str) -> dict[str, Any]:
    """A new `access` token for the sign-in of a refresh token. Raises NotAuthenticated."""
    identity = tokens.identify(token, "refresh")
    return tokens.issue(identity.user_id, identity.sign_in_id, "access")


def sign_out(token: str) -> None:
    """End the sign-in of a refresh token. Raises NotAuthenticated."""
    identity = tokens.identify(token, "refresh")
    db.session.execute(delete(SignIn).where(SignIn.id == identity.sign_in_id))
    db.session.commit()
    tokens.mark_revoked([identity.sign_in_id])


def end_all(user_id: int) -> list[uuid.UUID]:
    """End all sign-ins of a user, in the caller's transaction.

    Returns their ids. The caller passes them to `tokens.mark_revoked` after the commit.
    """
    ended = delete(SignIn).where(SignIn.user_id == user_id).returning(SignIn.id)
    return list(db.session.scalars(ended))


def purge() -> Iterator[int]:
    """Delete expired sign-ins in batches, each in its own transaction. Yields their sizes."""
    since = datetime.min.replace(tzinfo=UTC)
    until = now() - timedelta(seconds=current_app.config["JWT_DECODE_LEEWAY"])
    while expired_at := _purge_batch(since, until):
        db.session.commit()
        yield len(expired_at)
        since = max(expired_at)
    db.session.rollback()


def _purge_batch(since: datetime, until: datetime) -> Sequence[datetime]:
    """Delete the first sign-ins that expired in this period. Returns when they expired.

    The index of PostgreSQL keeps entries of deleted rows for a while. Without `since`, each batch
    would read those of all batches before it.
    """
    oldest = (
        select(SignIn.id)
        .where(SignIn.expires_at >= since, SignIn.expires_at <= until)
        .order_by(SignIn.expires_at)
        .limit(PURGE_BATCH)
    )
    batch = delete(SignIn).where(SignIn.id.in_(oldest)).returning(SignIn.expires_at)
    return db.session.scalars(batch).all()
