"""Signing in, refreshing, verifying and signing out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any

import pytest
from accounts import PASSWORD, Accounts
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from helpers import eventually
from sqlalchemy import update
from tables import rows

from movies.auth import passwords
from movies.auth.errors import PasswordChecksBusy
from movies.auth.models import User
from movies.extensions import db

ME = "/api/v1/users/me/"
TOKEN = "/api/v1/auth/token/"
REFRESH = "/api/v1/auth/refresh/"
VERIFY = "/api/v1/auth/verify/"
LOGOUT = "/api/v1/auth/logout/"
ADA = "ada@example.com"


@pytest.fixture
def tokens(auth: Accounts) -> dict[str, str]:
    """The tokens of an account that has just signed in."""
    auth.register(ADA)
    return auth.sign_in(ADA)


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


class WatchedHasher(PasswordHasher):
    """Records the hashes that it verifies."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.verified: list[str | bytes] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        self.verified.append(hash)
        return super().verify(hash, password)


def test_signing_in_returns_both_tokens_with_type_and_lifetime(
    make_app: Callable[..., Flask],
) -> None:
    accounts = Accounts(make_app(JWT_ACCESS_TOKEN_EXPIRES=60).test_client())
    tokens: dict[str, Any] = {**accounts.sign_in(accounts.register()["email"])}
    assert tokens.keys() == {"access", "refresh", "token_type", "expires_in"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 60)


def test_the_access_token_identifies_the_account(
    client: FlaskClient, tokens: dict[str, str]
) -> None:
    answer = client.get(ME, headers=bearer(tokens["access"]))
    assert (answer.status_code, answer.get_json()["email"]) == (200, ADA)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_authorization_scheme_is_case_insensitive(
    client: FlaskClient, tokens: dict[str, str], scheme: str
) -> None:
    assert client.get(ME, headers=bearer(tokens["access"], scheme)).status_code == 200


@pytest.mark.parametrize("scheme", ["Basic", "Token", "JWT", "Bearerx"])
def test_another_scheme_is_refused(
    client: FlaskClient, tokens: dict[str, str], scheme: str
) -> None:
    assert client.get(ME, headers=bearer(tokens["access"], scheme)).status_code == 401


@pytest.mark.parametrize("email", ["ADA@Example.COM", "  ada@example.com\t", "Ada@example.com"])
def test_letter_case_and_whitespace_of_the_email_address_do_not_matter(
    client: FlaskClient, tokens: dict[str, str], email: str
) -> None:
    answer = client.post(TOKEN, json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200


@pytest.mark.parametrize("password", [PASSWORD.upper(), f" {PASSWORD}", f"{PASSWORD}\n", "", "x"])
def test_a_password_is_neither_trimmed_nor_case_folded(
    client: FlaskClient, auth: Accounts, password: str
) -> None:
    auth.register(ADA)
    answer = client.post(TOKEN, json={"email": ADA, "password": password})
    assert (answer.status_code, "access" in answer.text) == (401, False)


def test_an_unknown_address_and_a_wrong_password_get_the_same_response(
    client: FlaskClient, auth: Accounts
) -> None:
    auth.register(ADA)
    wrong = client.post(TOKEN, json={"email": ADA, "password": "not the password"})
    unknown = client.post(TOKEN, json={"email": "eve@example.com", "password": "not the password"})
    ours = {"X-Request-ID"}  # one a request
    assert (wrong.status_code, wrong.data) == (unknown.status_code, unknown.data)
    assert [h for h in wrong.headers if h[0] not in ours] == [
        h for h in unknown.headers if h[0] not in ours
    ]


@pytest.mark.parametrize("email", [ADA, "eve@example.com", "not an address"])
def test_a_hash_is_verified_even_if_the_account_does_not_exist(
    client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    """So the response takes the same time."""
    auth.register(ADA)
    hasher = WatchedHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "hasher", hasher)
    client.post(TOKEN, json={"email": email, "password": "not the password"})
    assert [hasher.check_needs_rehash(verified) for verified in hasher.verified] == [False]


def test_the_hash_for_unknown_accounts_has_the_current_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasher = WatchedHasher(time_cost=2, memory_cost=16, parallelism=1)
    monkeypatch.setattr(passwords, "hasher", hasher)
    assert passwords.verify(PASSWORD, None) is passwords.Verdict.WRONG
    assert [hasher.check_needs_rehash(verified) for verified in hasher.verified] == [False]


def test_a_hash_with_old_parameters_is_replaced_at_sign_in(
    app: Flask, auth: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.register(ADA)
    risen = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    monkeypatch.setattr(passwords, "hasher", risen)
    auth.sign_in(ADA)
    [(stored,)] = rows(app, "SELECT password_hash FROM users")
    assert not risen.check_needs_rehash(stored)
    assert auth.sign_in(ADA)


def test_a_hash_of_a_password_that_was_not_normalized_still_works(
    app: Flask, auth: Accounts
) -> None:
    """It is replaced at sign-in. Every Unicode form of the password works afterwards."""
    auth.register(ADA)
    typed = "cafe\u0301 zebra fjord"
    with app.app_context():
        db.session.execute(update(User).values(password_hash=passwords.hasher.hash(typed)))
        db.session.commit()
    assert auth.sign_in(ADA, typed)
    assert auth.sign_in(ADA, "caf\u00e9 zebra fjord")


def test_a_hash_with_the_current_parameters_is_not_replaced(app: Flask, auth: Accounts) -> None:
    auth.register(ADA)
    before = rows(app, "SELECT password_hash FROM users")
    auth.sign_in(ADA)
    assert rows(app, "SELECT password_hash FROM users") == before


def test_refresh_returns_a_new_access_token_only(
    client: FlaskClient, tokens: dict[str, str]
) -> None:
    answer = client.post(REFRESH, json={"refresh": tokens["refresh"]})
    assert answer.get_json().keys() == {"access", "token_type", "expires_in"}
    assert (answer.get_json()["token_type"], answer.get_json()["expires_in"]) == ("Bearer", 900)
    assert client.get(ME, headers=bearer(answer.get_json()["access"])).status_code == 200


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_verify_returns_the_same_for_both_types_of_token(
    client: FlaskClient, tokens: dict[str, str], kind: str
) -> None:
    answer = client.post(VERIFY, json={"token": tokens[kind]})
    assert (answer.status_code, answer.get_json()) == (200, {})


@pytest.mark.parametrize("path", [REFRESH, LOGOUT])
def test_refresh_and_logout_refuse_an_access_token(
    client: FlaskClient, tokens: dict[str, str], path: str
) -> None:
    assert client.post(path, json={"refresh": tokens["access"]}).status_code == 401


def test_the_api_refuses_a_refresh_token(client: FlaskClient, tokens: dict[str, str]) -> None:
    assert client.get(ME, headers=bearer(tokens["refresh"])).status_code == 401


def test_signing_out_is_204_without_a_body(client: FlaskClient, tokens: dict[str, str]) -> None:
    answer = client.post(LOGOUT, json={"refresh": tokens["refresh"]})
    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers


def test_signing_out_twice_is_401(client: FlaskClient, tokens: dict[str, str]) -> None:
    client.post(LOGOUT, json={"refresh": tokens["refresh"]})
    assert client.post(LOGOUT, json={"refresh": tokens["refresh"]}).status_code == 401


def test_signing_out_does_not_end_other_sign_ins(
    client: FlaskClient, auth: Accounts, tokens: dict[str, str]
) -> None:
    other = auth.sign_in(ADA)
    client.post(LOGOUT, json={"refresh": tokens["refresh"]})
    assert client.post(REFRESH, json={"refresh": other["refresh"]}).status_code == 200


@pytest.mark.parametrize("password", [PASSWORD, "not the password"])
def test_a_request_that_cannot_hash_in_time_is_429_with_retry_after(
    client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    auth.register(ADA)
    monkeypatch.setattr(passwords, "TURN_TIMEOUT", 0.01)
    monkeypatch.setattr(passwords, "_hashers", Semaphore(0))
    answer = client.post(TOKEN, json={"email": ADA, "password": password})
    assert (answer.status_code, answer.mimetype) == (429, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_request_that_finds_too_many_others_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While they wait for their turn."""
    turns = Semaphore(0)
    monkeypatch.setattr(passwords, "_hashers", turns)
    monkeypatch.setattr(passwords, "TURN_TIMEOUT", 60)
    with ThreadPoolExecutor(passwords.MAX_CALLERS) as pool:
        others = [
            pool.submit(passwords.verify, PASSWORD, None) for _ in range(passwords.MAX_CALLERS)
        ]
        assert eventually(lambda: passwords._callers._value == 0)
        with pytest.raises(PasswordChecksBusy):
            passwords.verify(PASSWORD, None)
        assert not any(other.done() for other in others)
        turns.release(passwords.MAX_CALLERS)
    assert {other.result() for other in others} == {passwords.Verdict.WRONG}
    assert passwords.verify(PASSWORD, None) is passwords.Verdict.WRONG
