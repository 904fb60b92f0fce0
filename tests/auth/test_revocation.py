"""Revoked tokens: refresh and verify refuse them at once, other endpoints within five seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
import time_machine
from accounts import PASSWORD, Accounts
from cachetools import TTLCache
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from sqlalchemy import event, select, text
from tables import rows

from movies.auth import passwords, service
from movies.auth import tokens as auth_tokens
from movies.auth.models import SignIn, User
from movies.auth.tokens import Identity
from movies.extensions import db

ME = "/api/v1/users/me/"
ADA = "ada@example.com"
NEW_PASSWORD = "notes on the analytical engine"
End = Callable[[FlaskClient, dict[str, str]], None]


@dataclass
class Clock:
    """The clock of the cached sign-ins."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the cached sign-ins. The caches are empty."""
    clock = Clock()
    live: TTLCache[str, Identity] = TTLCache(100, ttl=auth_tokens.VALID_FOR, timer=clock)
    monkeypatch.setattr(auth_tokens, "_valid", live)
    return clock


@pytest.fixture
def tokens(auth: Accounts) -> dict[str, str]:
    """The tokens of an account that has just signed in."""
    auth.register(ADA)
    return auth.sign_in(ADA)


def bearer(tokens: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access']}"}


def sign_out(client: FlaskClient, tokens: dict[str, str]) -> None:
    answer = client.post("/api/v1/auth/logout/", json={"refresh": tokens["refresh"]})
    assert answer.status_code == 204


def change_password(client: FlaskClient, tokens: dict[str, str]) -> None:
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = client.post(f"{ME}password/", json=change, headers=bearer(tokens))
    assert answer.status_code == 204


def delete_account(client: FlaskClient, tokens: dict[str, str]) -> None:
    assert client.delete(ME, headers=bearer(tokens)).status_code == 204


@pytest.fixture(params=[sign_out, change_password, delete_account], ids=lambda end: end.__name__)
def end(request: pytest.FixtureRequest) -> End:
    """Each of the three ways to end a sign-in."""
    ending: End = request.param
    return ending


def test_refresh_refuses_a_revoked_token_at_once(
    client: FlaskClient, tokens: dict[str, str], end: End
) -> None:
    end(client, tokens)
    answer = client.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]})
    assert answer.status_code == 401


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_verify_refuses_a_revoked_token_at_once(
    client: FlaskClient, tokens: dict[str, str], end: End, kind: str
) -> None:
    assert client.get(ME, headers=bearer(tokens)).status_code == 200
    end(client, tokens)
    answer = client.post("/api/v1/auth/verify/", json={"token": tokens[kind]})
    assert answer.status_code == 401


def test_the_process_that_ended_a_sign_in_refuses_its_tokens_at_once(
    client: FlaskClient, tokens: dict[str, str], end: End
) -> None:
    assert client.get(ME, headers=bearer(tokens)).status_code == 200
    end(client, tokens)
    assert client.get(ME, headers=bearer(tokens)).status_code == 401


def test_all_access_tokens_of_a_sign_in_are_revoked_with_it(
    client: FlaskClient, tokens: dict[str, str], end: End
) -> None:
    made = client.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]}).get_json()
    assert client.get(ME, headers=bearer(made)).status_code == 200
    end(client, tokens)
    assert client.get(ME, headers=bearer(made)).status_code == 401


def test_a_token_that_another_process_revoked_is_refused_within_five_seconds(
    app: Flask, client: FlaskClient, tokens: dict[str, str], clock: Clock
) -> None:
    assert client.get("/api/v1/movies/top/", headers=bearer(tokens)).status_code == 200
    with app.app_context():  # as another worker does
        db.session.execute(text("DELETE FROM sign_ins"))
        db.session.commit()
    clock.seconds = 4.9
    assert client.get("/api/v1/movies/top/", headers=bearer(tokens)).status_code == 401


def test_requests_do_not_extend_the_five_seconds(
    app: Flask, client: FlaskClient, tokens: dict[str, str], clock: Clock
) -> None:
    for second in range(4):
        clock.seconds = second
        assert client.get("/api/v1/movies/top/", headers=bearer(tokens)).status_code == 200
        if second == 0:
            with app.app_context():
                db.session.execute(text("DELETE FROM sign_ins"))
                db.session.commit()
    clock.seconds = 4.9
    assert client.get("/api/v1/movies/top/", headers=bearer(tokens)).status_code == 401


def test_a_valid_token_is_looked_up_once_in_four_seconds(
    client: FlaskClient, tokens: dict[str, str], clock: Clock, statements: list[str]
) -> None:
    looks = []
    for clock.seconds in (0.0, 1.0, 3.9, 4.1):
        statements.clear()
        client.get(ME, headers=bearer(tokens))
        looks.append(sum("sign_ins" in statement for statement in statements))
    assert looks == [1, 0, 0, 1]


def test_a_password_change_ends_all_sign_ins(
    client: FlaskClient, auth: Accounts, tokens: dict[str, str]
) -> None:
    other = auth.sign_in(ADA)
    change_password(client, tokens)
    assert client.get(ME, headers=bearer(other)).status_code == 401
    assert client.get(ME, headers=bearer(auth.sign_in(ADA, NEW_PASSWORD))).status_code == 200


def test_a_sign_in_during_a_password_change_fails(
    app: Flask, client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.register(ADA)
    verify = passwords.verify

    def overtaken(password: str, password_hash: str | None) -> passwords.Verdict:
        verdict = verify(password, password_hash)
        with app.app_context():
            db.session.execute(text("UPDATE users SET password_hash = 'changed'"))
            db.session.commit()
        return verdict

    monkeypatch.setattr(passwords, "verify", overtaken)
    answer = client.post("/api/v1/auth/token/", json={"email": ADA, "password": PASSWORD})
    assert answer.status_code == 401
    assert rows(app, "SELECT id FROM sign_ins") == []


def test_tokens_of_a_deleted_account_never_identify_a_new_account(
    client: FlaskClient, auth: Accounts, tokens: dict[str, str]
) -> None:
    delete_account(client, tokens)
    auth.register("eve@example.com")
    assert client.get(ME, headers=bearer(tokens)).status_code == 401


def test_purge_deletes_expired_sign_ins(
    app: Flask, auth: Accounts, tokens: dict[str, str], runner: FlaskCliRunner
) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(days=31), tick=True):
        result = runner.invoke(args=["tokens", "purge"])
    assert (result.exit_code, result.stdout) == (0, "1 sign-in purged\n")
    assert rows(app, "SELECT id FROM sign_ins") == []


def test_purge_keeps_active_sign_ins(
    client: FlaskClient, tokens: dict[str, str], runner: FlaskCliRunner
) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(days=29), tick=True):
        assert runner.invoke(args=["tokens", "purge"]).stdout == "0 sign-ins purged\n"
        answer = client.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]})
    assert answer.status_code == 200


def test_purge_deletes_in_batches(
    app: Flask, auth: Accounts, runner: FlaskCliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PURGE_BATCH", 2)
    auth.register(ADA)
    for _ in range(5):
        auth.sign_in(ADA)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=31), tick=True), app.app_context():
        assert list(service.purge()) == [2, 2, 1]
        assert list(service.purge()) == []


def test_a_batch_of_a_purge_starts_where_the_one_before_ended(
    app: Flask, auth: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign-in that appears behind it stays, so deleted index entries are not read again."""
    monkeypatch.setattr(service, "PURGE_BATCH", 2)
    auth.register(ADA)
    for _ in range(3):
        auth.sign_in(ADA)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=31), tick=True), app.app_context():
        batches = service.purge()
        assert next(batches) == 2
        user_id = db.session.scalars(select(User.id)).one()
        db.session.add(SignIn(user_id=user_id, expires_at=datetime(2026, 1, 1, tzinfo=UTC)))
        db.session.commit()
        assert list(batches) == [1]
        assert list(service.purge()) == [1]


def test_a_sign_in_over_the_maximum_ends_the_oldest(
    client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_SIGN_INS", 3)
    eve = auth.headers("eve@example.com")
    auth.register(ADA)
    signed_in = []
    for minutes in range(4):
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
            signed_in.append(bearer(auth.sign_in(ADA)))
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=4), tick=True):
        seen = [client.get(ME, headers=headers).status_code for headers in (*signed_in, eve)]
    assert seen == [401, 200, 200, 200, 200]


def test_a_revoked_token_is_looked_up_once(
    app: Flask, client: FlaskClient, tokens: dict[str, str], statements: list[str]
) -> None:
    with app.app_context():  # as another worker does
        db.session.execute(text("DELETE FROM sign_ins"))
        db.session.commit()
    statements.clear()
    for _ in range(5):
        assert client.get(ME, headers=bearer(tokens)).status_code == 401
    answer = client.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]})
    assert answer.status_code == 401
    assert len(statements) == 1


@pytest.mark.parametrize("end", [change_password, delete_account], ids=lambda end: end.__name__)
def test_a_request_just_before_the_commit_does_not_keep_a_token_valid(
    app: Flask, client: FlaskClient, tokens: dict[str, str], end: End
) -> None:
    seen: list[int] = []

    def request() -> None:
        auth_tokens._valid.clear()
        seen.append(app.test_client().get(ME, headers=bearer(tokens)).status_code)

    def before_commit(_session: Any) -> None:
        thread = Thread(target=request)
        thread.start()
        thread.join(30)

    event.listen(db.session, "before_commit", before_commit)
    try:
        end(client, tokens)
    finally:
        event.remove(db.session, "before_commit", before_commit)
    assert seen == [200]
    assert client.get(ME, headers=bearer(tokens)).status_code == 401
