"""Business logic of accounts: registration, changes and deletion."""

import time
from typing import Any

from marshmallow import ValidationError
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError

from movies.auth import passwords, tokens
from movies.auth import service as auth
from movies.auth.emails import address_key
from movies.auth.errors import RevokedToken
from movies.auth.models import CLOSED, User
from movies.auth.passwords import Verdict
from movies.database import Statement
from movies.extensions import db
from movies.movies import tallies

PAUSE = 0.02  # seconds between two batches of a deletion, so that others can write on SQLite


_PUBLIC = ("id", "email", "first_name", "last_name")
_IS_CLOSED = User.email_key.startswith(CLOSED, autoescape=True)
_ACCOUNT = Statement(
    select(*(getattr(User, name) for name in _PUBLIC)).where(
        User.id == bindparam("user_id"), ~_IS_CLOSED
    )
)
_CLOSED = Statement(select(User.id).where(_IS_CLOSED))


class EmailTaken(Exception):
    """Another account has this email address."""


class WrongPassword(Exception):
    """The given current password is wrong."""


def register(email: str, password: str, first_name: str = "", last_name: str = "") -> User:
    """A new account.

    Raises EmailTaken, PasswordChecksBusy, and ValidationError if the password is weak.
    """
    _require_strength("password", password, email, first_name, last_name)
    key = address_key(email)
    if db.session.scalar(select(User.id).where(User.email_key == key)) is not None:
        raise EmailTaken
    db.session.rollback()  # no connection is held while hashing
    user = User(
        email=email,
        email_key=key,
        first_name=first_name,
        last_name=last_name,
        password_hash=passwords.hash_password(password),
    )
    db.session.add(user)
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        raise EmailTaken from None
    return user


def read(user_id: int) -> dict[str, Any]:
    """The public columns of an account. Raises RevokedToken if it was deleted a moment ago."""
    for row in db.fetch_all(_ACCOUNT, user_id=user_id):
        return dict(zip(_PUBLIC, row, strict=True))
    raise RevokedToken


def get(user_id: int) -> User:
    """The account. Raises RevokedToken if it has just been deleted."""
    user = db.session.get(User, user_id)
    if user is None or user.is_closed:
        raise RevokedToken
    return user


def change_names(user_id: int, names: dict[str, Any]) -> Any:
    """The account after a change of its names. Raises RevokedToken if it has just been deleted."""
    if not names:
        return read(user_id)
    changed = db.session.execute(
        update(User)
        .where(User.id == user_id, ~_IS_CLOSED)
        .values(**names)
        .returning(*(getattr(User, name) for name in _PUBLIC))
    ).one_or_none()
    db.session.commit()
    if changed is None:
        raise RevokedToken
    return changed


def change_password(user_id: int, current_password: str, new_password: str) -> None:
    """Change the password of an account and end its sign-ins.

    Raises WrongPassword, PasswordChecksBusy, RevokedToken, and ValidationError if the new password
    is weak.
    """
    user = get(user_id)
    current_hash = user.password_hash
    hints = (user.email, user.first_name, user.last_name)
    db.session.rollback()  # no connection is held while hashing
    _require_strength("new_password", new_password, *hints)
    if passwords.verify(current_password, current_hash) is Verdict.WRONG:
        raise WrongPassword
    new_hash = passwords.hash_password(new_password)
    changed = db.session.scalar(
        update(User)
        .where(User.id == user_id, User.password_hash == current_hash)
        .values(password_hash=new_hash)
        .returning(User.id)
    )
    if changed is None:  # the password was changed, or the account deleted, in the meantime
        db.session.rollback()
        get(user_id)
        raise WrongPassword
    ended = auth.end_all(user_id)
    db.session.commit()
    tokens.mark_revoked(ended)


def remove(user_id: int) -> None:
    """Delete the account, its ratings and its sign-ins, and update the vote counts.

    An account with many ratings is closed first: its tokens are revoked, and its email address
    becomes available. Its ratings are then deleted in batches, so that other voters do not wait
    for all of them. `remove_closed` finishes deletions that were interrupted.
    """
    while not _remove_batch(user_id):
        time.sleep(PAUSE)


def remove_closed() -> int:
    """Finish interrupted deletions of accounts. Returns their number."""
    user_ids = db.fetch_all(_CLOSED)
    for (user_id,) in user_ids:
        remove(user_id)
    return len(user_ids)


@db.retried
def _remove_batch(user_id: int) -> bool:
    """Delete a batch of ratings, and the account after the last batch. Returns whether it is gone.

    The account is locked, so that its owner cannot vote meanwhile.
    """
    user, ended = db.session.get(User, user_id, with_for_update=True), []
    if user is not None:
        ended = auth.end_all(user_id)
        if tallies.remove_ratings(user_id) < tallies.BATCH:
            db.session.delete(user)
            user = None
        else:
            user.close()
    db.session.commit()
    tokens.mark_revoked(ended)
    return user is None


def _require_strength(member: str, password: str, email: str, *names: str) -> None:
    weakness = passwords.weakness(password, [email, *email.split("@"), *names])
    if weakness is not None:
        raise ValidationError({member: [weakness]})
