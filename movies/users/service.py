"""Rules of accounts."""

import time
from typing import Any

from marshmallow import ValidationError
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from movies.auth import passwords, tokens
from movies.auth import service as auth
from movies.auth.emails import address_key
from movies.auth.errors import RevokedToken
from movies.auth.models import CLOSED, User
from movies.auth.passwords import Verdict
from movies.extensions import db
from movies.movies import tallies

PAUSE = 0.02  # seconds between two batches of a deletion, in which SQLite lets others write


class AddressTaken(Exception):
    """There is an account with this email address."""


class WrongPassword(Exception):
    """This is not the account's password."""


def register(email: str, password: str, first_name: str = "", last_name: str = "") -> User:
    """A new account. Raises AddressTaken, ValidationError of a weak password, TooManyAtOnce."""
    _require_strength("password", password, email, first_name, last_name)
    key = address_key(email)
    if db.session.scalar(select(User.id).where(User.email_key == key)) is not None:
        raise AddressTaken
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
        raise AddressTaken from None
    return user


def get(user_id: int) -> User:
    """The account. Raises RevokedToken if it was deleted a moment ago."""
    user = db.session.get(User, user_id)
    if user is None or user.is_closed:
        raise RevokedToken
    return user


def change_names(user_id: int, names: dict[str, Any]) -> User:
    """The account with other names. Raises RevokedToken if it was deleted a moment ago."""
    user = get(user_id)
    for name, value in names.items():
        setattr(user, name, value)
    db.session.commit()
    return user


def change_password(user_id: int, current_password: str, new_password: str) -> None:
    """Give the account another password and end its sign-ins.

    Raises WrongPassword, ValidationError of a weak password, TooManyAtOnce, RevokedToken.
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
    tokens.forget(ended)


def remove(user_id: int) -> None:
    """Delete the account, its ratings and its sign-ins; the tallies follow.

    An account with many ratings is closed at once: its tokens end, its address is free, and it is
    as good as gone. Its ratings follow in batches, so that other voters need not wait for all of
    them. `remove_closed` finishes what an interruption left.
    """
    while not _remove_batch(user_id):
        time.sleep(PAUSE)


def remove_closed() -> int:
    """Finish interrupted deletions of accounts; returns how many."""
    closed = select(User.id).where(User.email_key.startswith(CLOSED, autoescape=True))
    user_ids = db.fetch_all(closed)
    for (user_id,) in user_ids:
        remove(user_id)
    return len(user_ids)


@db.retried
def _remove_batch(user_id: int) -> bool:
    """Delete a batch of the account's ratings, or the rest and the account; whether it is gone.

    The lock of the account keeps out votes that its owner is casting.
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
    tokens.forget(ended)
    return user is None


def _require_strength(member: str, password: str, email: str, *names: str) -> None:
    weakness = passwords.weakness(password, [email, *email.split("@"), *names])
    if weakness is not None:
        raise ValidationError({member: [weakness]})
