"""Many voters at the same time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

from flask import Flask
from flask_jwt_extended import create_access_token

from movies.auth.models import SignIn, User
from movies.database import now
from movies.extensions import db

Headers = dict[str, str]


def crowd(app: Flask, size: int) -> list[Headers]:
    """The request headers of `size` new accounts; no password is hashed for them."""
    with app.app_context():
        names = [f"voter-{uuid4().hex}@example.com" for _ in range(size)]
        users = [User(email=name, email_key=name, password_hash="none") for name in names]
        db.session.add_all(users)
        db.session.flush()
        sign_ins = [SignIn(id=uuid4(), user_id=user.id, expires_at=now()) for user in users]
        db.session.add_all(sign_ins)
        db.session.commit()
        return [
            {
                "Authorization": "Bearer "
                + create_access_token(str(one.user_id), additional_claims={"sid": str(one.id)})
            }
            for one in sign_ins
        ]


def at_once(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """The results of the calls, which are made at the same moment, each on a thread."""
    calls = list(calls)
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
