"""When tokens die: at once at refresh and verify, within five seconds everywhere else."""

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
from sqlalchemy import event, text
from tables import rows

from movies.auth import passwords, service
from movies.auth import tokens as auth_tokens
from movies.auth.tokens import Identity
from movies.extensions import db

ME = "/api/v1/users/me/"
ADA = "ada@example.com"
NEW_PASSWORD = "notes on the analytical engine"
End = Callable[[FlaskClient, dict[str, str]], None]


@dataclass
class Clock:
    """What the remembered sign-ins are timed by."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the remembered sign-ins, of which there are none yet."""
    clock = Clock()
    live: TTLCache[str, Identity] = TTLCache(100, ttl=auth_tokens.LIVE_FOR, timer=clock)
    monkeypatch.setattr(auth_tokens, "_live", live)
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
    """One of the three ways in which a sign-in ends."""
    ending: End = request.param
    return ending


def test_a_dead_token_refreshes_nothing_at_once(
    client: FlaskClient, tokens: dict[str, str], end: End
) -> None:
    """Refreshing asks the database each time."""
    end(client, tokens)
    answer = client.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]})
    assert answer.status_code == 401


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_a_dead_token_verifies_no_more_at_once(
    client: FlaskClient, tokens: dict[str, str], end: End, kind: str
) -> None:
    """Verifying asks the database each time, even of a token that was good a moment ago."""
    assert client.get(ME, headers=bearer(tokens)).status_code == 200
    end(client, tokens)
    answer = client.post("/api/v1/auth/verify/", json={"token": tokens[kind]})
    assert answer.status_code == 401


def test_a_dead_token_opens_nothing_where_it_died(
    client: FlaskClient, tokens: dict[str, str], end: End
) -> None:
    """The process that ended a sign-in forgets it at once."""
    assert client.get(ME, headers=bearer(tokens)).status_code == 200
    end(client, tokens)
    assert client.get(ME, headers=bearer(tokens)).status_code == 401


def test_every_access_token_of_a_sign_in_dies_with_it(
    client: FlaskClient, tokens: dict[str, str], end: End
) -> None:
    """What was made by refreshing dies too."""
    made = client.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]}).get_json()
    assert client.get(ME, headers=bearer(made)).status_code == 200
    end(client, tokens)
    assert client.get(ME, headers=bearer(made)).status_code == 401


def test_a_token_that_died_elsewhere_is_dead_within_five_seconds(
    app: Flask, client: FlaskClient, tokens: dict[str, str], clock: Clock
) -> None:
    """A process that didn't end the sign-in itself notices before five seconds are over."""
    assert client.get("/api/v1/movies/top/", headers=bearer(tokens)).status_code == 200
    with app.app_context():  # as another worker does
        db.session.execute(text("DELETE FROM sign_ins"))
        db.session.commit()
    clock.seconds = 4.9
    assert client.get("/api/v1/movies/top/", headers=bearer(tokens)).status_code == 401


def test_asking_again_does_not_keep_a_dead_token_alive(
    app: Flask, client: FlaskClient, tokens: dict[str, str], clock: Clock
) -> None:
    """The five seconds count from when the database was asked, not from the last request."""
    for second in range(4):
        clock.seconds = second
        assert client.get("/api/v1/movies/top/", headers=bearer(tokens)).status_code == 200
        if second == 0:
            with app.app_context():
                db.session.execute(text("DELETE FROM sign_ins"))
                db.session.commit()
    clock.seconds = 4.9
    assert client.get("/api/v1/movies/top/", headers=bearer(tokens)).status_code == 401


def test_a_live_token_costs_one_look_in_five_seconds(
    client: FlaskClient, tokens: dict[str, str], clock: Clock, statements: list[str]
) -> None:
    """Between looks the database is not asked for the sign-in, and after that it is."""
    looks = []
    for clock.seconds in (0.0, 1.0, 3.9, 4.1):
        statements.clear()
        client.get(ME, headers=bearer(tokens))
        looks.append(sum("sign_ins" in statement for statement in statements))
    assert looks == [1, 0, 0, 1]


def test_a_new_password_needs_a_new_sign_in(
    client: FlaskClient, auth: Accounts, tokens: dict[str, str]
) -> None:
    """Changing the password ends all sign-ins, and then only the new password gives another."""
    other = auth.sign_in(ADA)
    change_password(client, tokens)
    assert client.get(ME, headers=bearer(other)).status_code == 401
    assert client.get(ME, headers=bearer(auth.sign_in(ADA, NEW_PASSWORD))).status_code == 200


def test_a_sign_in_that_a_new_password_overtakes_fails(
    app: Flask, client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who proved the old password just before it was changed gets no tokens."""
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


def test_a_dead_users_token_never_opens_a_strangers_account(
    client: FlaskClient, auth: Accounts, tokens: dict[str, str]
) -> None:
    """Whoever registers after an account was deleted is not opened by its tokens."""
    delete_account(client, tokens)
    auth.register("eve@example.com")
    assert client.get(ME, headers=bearer(tokens)).status_code == 401


def test_purging_drops_what_has_expired(
    app: Flask, auth: Accounts, tokens: dict[str, str], runner: FlaskCliRunner
) -> None:
    """`flask tokens purge` deletes sign-ins whose refresh token has expired, and counts them."""
    with time_machine.travel(datetime.now(UTC) + timedelta(days=31), tick=True):
        result = runner.invoke(args=["tokens", "purge"])
    assert (result.exit_code, result.stdout) == (0, "1 sign-ins purged\n")
    assert rows(app, "SELECT id FROM sign_ins") == []


def test_purging_leaves_what_is_live(
    client: FlaskClient, tokens: dict[str, str], runner: FlaskCliRunner
) -> None:
    """`flask tokens purge` signs nobody out."""
    with time_machine.travel(datetime.now(UTC) + timedelta(days=29), tick=True):
        assert runner.invoke(args=["tokens", "purge"]).stdout == "0 sign-ins purged\n"
        answer = client.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]})
    assert answer.status_code == 200


def test_purging_works_in_batches(
    app: Flask, auth: Accounts, runner: FlaskCliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many have expired, no transaction deletes more than a batch."""
    monkeypatch.setattr(service, "PURGE_BATCH", 2)
    auth.register(ADA)
    for _ in range(5):
        auth.sign_in(ADA)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=31), tick=True), app.app_context():
        assert list(service.purge()) == [2, 2, 1]
        assert list(service.purge()) == []


def test_a_user_keeps_the_newest_sign_ins(
    client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sign-in too many ends the oldest, at once in the same process, and no other user's."""
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


def test_a_token_of_an_ended_sign_in_costs_one_look(
    app: Flask, client: FlaskClient, tokens: dict[str, str], statements: list[str]
) -> None:
    """Whoever goes on sending a revoked token does not make the database work each time."""
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
def test_a_request_just_before_the_commit_does_not_keep_a_token_alive(
    app: Flask, client: FlaskClient, tokens: dict[str, str], end: End
) -> None:
    """A request that still finds the sign-in while it is being ended leaves nothing behind."""
    seen: list[int] = []

    def request() -> None:
        auth_tokens._live.clear()
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
