"""Signing in, refreshing, verifying, signing out: what each gives and takes."""

from collections.abc import Callable
from threading import Semaphore
from typing import Any

import pytest
from accounts import PASSWORD, Accounts
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from tables import rows

from movies.auth import passwords
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
    """Remembers the hashes that it verifies."""

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


def test_the_access_token_opens_the_api(client: FlaskClient, tokens: dict[str, str]) -> None:
    """What the access token opens is the account that signed in."""
    answer = client.get(ME, headers=bearer(tokens["access"]))
    assert (answer.status_code, answer.get_json()["email"]) == (200, ADA)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_taken_in_any_letter_case(
    client: FlaskClient, tokens: dict[str, str], scheme: str
) -> None:
    """`Authorization` names its scheme in any letter case."""
    assert client.get(ME, headers=bearer(tokens["access"], scheme)).status_code == 200


@pytest.mark.parametrize("scheme", ["Basic", "Token", "JWT", "Bearerx"])
def test_another_scheme_is_refused(
    client: FlaskClient, tokens: dict[str, str], scheme: str
) -> None:
    """A good token in a scheme that isn't bearer opens nothing."""
    assert client.get(ME, headers=bearer(tokens["access"], scheme)).status_code == 401


@pytest.mark.parametrize("email", ["ADA@Example.COM", "  ada@example.com\t", "Ada@example.com"])
def test_the_address_is_taken_in_any_spelling(
    client: FlaskClient, tokens: dict[str, str], email: str
) -> None:
    """Letter case and surrounding white space of the address make no difference."""
    answer = client.post(TOKEN, json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200


@pytest.mark.parametrize("password", [PASSWORD.upper(), f" {PASSWORD}", f"{PASSWORD}\n", "", "x"])
def test_only_the_very_password_signs_in(
    client: FlaskClient, auth: Accounts, password: str
) -> None:
    """A password is neither trimmed nor folded."""
    auth.register(ADA)
    answer = client.post(TOKEN, json={"email": ADA, "password": password})
    assert (answer.status_code, "access" in answer.text) == (401, False)


def test_unknown_address_and_wrong_password_get_the_same_bytes(
    client: FlaskClient, auth: Accounts
) -> None:
    """The answer doesn't tell whether there is an account."""
    auth.register(ADA)
    wrong = client.post(TOKEN, json={"email": ADA, "password": "not the password"})
    unknown = client.post(TOKEN, json={"email": "eve@example.com", "password": "not the password"})
    ours = {"X-Request-ID"}  # one a request
    assert (wrong.status_code, wrong.data) == (unknown.status_code, unknown.data)
    assert [h for h in wrong.headers if h[0] not in ours] == [
        h for h in unknown.headers if h[0] not in ours
    ]


@pytest.mark.parametrize("email", [ADA, "eve@example.com", "not an address"])
def test_a_hash_is_verified_whoever_signs_in(
    client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    """One hash of today's cost is verified, whether there is an account or not: the same time."""
    auth.register(ADA)
    hasher = WatchedHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "hasher", hasher)
    client.post(TOKEN, json={"email": email, "password": "not the password"})
    assert [hasher.check_needs_rehash(verified) for verified in hasher.verified] == [False]


def test_the_hash_of_unknown_costs_what_a_real_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is verified for want of an account was made with the parameters of today."""
    hasher = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    monkeypatch.setattr(passwords, "hasher", hasher)
    assert passwords.verify(PASSWORD, None) is passwords.Verdict.WRONG
    assert hasher.check_needs_rehash(passwords._hash_of_unknown()) is False


def test_a_password_is_hashed_anew_when_parameters_rise(
    app: Flask, auth: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing in replaces a hash of older parameters by one of today's."""
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
    """Signing in replaces it, and then every spelling of the password signs in."""
    auth.register(ADA)
    typed = "cafe\u0301 zebra fjord"
    with app.app_context():
        db.session.execute(update(User).values(password_hash=passwords.hasher.hash(typed)))
        db.session.commit()
    assert auth.sign_in(ADA, typed)
    assert auth.sign_in(ADA, "caf\u00e9 zebra fjord")


def test_a_hash_of_today_is_left_alone(app: Flask, auth: Accounts) -> None:
    """Signing in writes no hash where the parameters have not changed."""
    auth.register(ADA)
    before = rows(app, "SELECT password_hash FROM users")
    auth.sign_in(ADA)
    assert rows(app, "SELECT password_hash FROM users") == before


def test_a_refresh_token_gives_another_access_token(
    client: FlaskClient, tokens: dict[str, str]
) -> None:
    """The response has no refresh token: the old one stays."""
    answer = client.post(REFRESH, json={"refresh": tokens["refresh"]})
    assert answer.get_json().keys() == {"access", "token_type", "expires_in"}
    assert (answer.get_json()["token_type"], answer.get_json()["expires_in"]) == ("Bearer", 900)
    assert client.get(ME, headers=bearer(answer.get_json()["access"])).status_code == 200


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_a_good_token_of_either_type_verifies(
    client: FlaskClient, tokens: dict[str, str], kind: str
) -> None:
    """Verifying answers an empty object for both, so it doesn't say what a token is fit for."""
    answer = client.post(VERIFY, json={"token": tokens[kind]})
    assert (answer.status_code, answer.get_json()) == (200, {})


@pytest.mark.parametrize("path", [REFRESH, LOGOUT])
def test_an_access_token_is_no_refresh_token(
    client: FlaskClient, tokens: dict[str, str], path: str
) -> None:
    """Refreshing and signing out take refresh tokens alone."""
    assert client.post(path, json={"refresh": tokens["access"]}).status_code == 401


def test_a_refresh_token_is_no_access_token(client: FlaskClient, tokens: dict[str, str]) -> None:
    """A refresh token in `Authorization` opens nothing."""
    assert client.get(ME, headers=bearer(tokens["refresh"])).status_code == 401


def test_signing_out_is_204_without_a_body(client: FlaskClient, tokens: dict[str, str]) -> None:
    """The answer to signing out has no content and no type of one."""
    answer = client.post(LOGOUT, json={"refresh": tokens["refresh"]})
    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers


def test_signing_out_twice_is_401(client: FlaskClient, tokens: dict[str, str]) -> None:
    """The second time there is nothing to end."""
    client.post(LOGOUT, json={"refresh": tokens["refresh"]})
    assert client.post(LOGOUT, json={"refresh": tokens["refresh"]}).status_code == 401


def test_signing_out_leaves_other_sign_ins(
    client: FlaskClient, auth: Accounts, tokens: dict[str, str]
) -> None:
    """Another device of the same account stays signed in."""
    other = auth.sign_in(ADA)
    client.post(LOGOUT, json={"refresh": tokens["refresh"]})
    assert client.post(REFRESH, json={"refresh": other["refresh"]}).status_code == 200


@pytest.mark.parametrize("password", [PASSWORD, "not the password"])
def test_hashing_has_a_bounded_number_of_turns(
    client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    """Who gets no turn at hashing is told to come back, and by when."""
    auth.register(ADA)
    monkeypatch.setattr(passwords, "TURN_TIMEOUT", 0.01)
    monkeypatch.setattr(passwords, "_hashers", Semaphore(0))
    answer = client.post(TOKEN, json={"email": ADA, "password": password})
    assert (answer.status_code, answer.mimetype) == (429, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
