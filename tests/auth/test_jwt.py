"""Validation of JWTs: forged tokens, expiry, clock skew and key rotation."""

import base64
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import time_machine
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient

from config import Config
from movies.auth.tokens import key_id

ME = "/api/v1/users/me/"
SECRET = "a secret of the tests that is long enough"
OTHER_SECRET = "another secret, which signs the forgeries"
Forge = Callable[..., str]
LEEWAY = Config.JWT_DECODE_LEEWAY
THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def tokens(auth: Accounts) -> dict[str, str]:
    """The tokens of an account that has just signed in."""
    return auth.sign_in(auth.register()["email"])


@pytest.fixture
def forge(tokens: dict[str, str]) -> Forge:
    """Makes tokens like a valid access token, with some parts changed."""
    claims = jwt.decode(tokens["access"], options={"verify_signature": False})

    def forge(
        key: str = SECRET,
        algorithm: str = "HS256",
        headers: dict[str, Any] | None = None,
        without: str = "",
        **other: Any,
    ) -> str:
        said = {name: value for name, value in (claims | other).items() if name != without}
        return jwt.encode(said, key, algorithm, {"kid": key_id(SECRET)} | (headers or {}))

    return forge


def status(client: FlaskClient, token: str) -> int:
    return client.get(ME, headers={"Authorization": f"Bearer {token}"}).status_code


def test_an_unmodified_forged_token_is_accepted(client: FlaskClient, forge: Forge) -> None:
    """The refusals below mean something only if this one is accepted."""
    assert status(client, forge()) == 200


@pytest.mark.parametrize(
    "forgery",
    [
        {"key": OTHER_SECRET},
        {"key": OTHER_SECRET, "headers": {"kid": key_id(OTHER_SECRET)}},
        {"algorithm": "HS512", "key": SECRET * 2},
        {"algorithm": "HS384", "key": SECRET * 2},
        {"headers": {"kid": ""}},
        {"iss": "somebody-else"},
        {"aud": "somebody-else"},
        {"aud": ["somebody-else"]},
        {"without": "iss"},
        {"without": "aud"},
        {"without": "exp"},
        {"without": "sub"},
        {"without": "sid"},
        {"exp": 1},
        {"nbf": 4102444800},
        {"type": "refresh"},
        {"type": "other"},
        {"type": None},
        {"sub": "999999"},
        {"sub": "one"},
        {"sub": 1},
        {"sub": None},
        {"sid": str(uuid.UUID(int=1))},
        {"sid": "not a uuid"},
        {"sid": None},
    ],
    ids=str,
)
@ONE_DATABASE
def test_a_token_with_one_wrong_part_is_refused(
    client: FlaskClient, forge: Forge, forgery: dict[str, Any]
) -> None:
    assert status(client, forge(**forgery)) == 401


@pytest.mark.parametrize("signature", ["", "c2lnbmF0dXJl"])
@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
@ONE_DATABASE
def test_a_token_without_an_algorithm_is_refused(
    client: FlaskClient, tokens: dict[str, str], algorithm: str, signature: str
) -> None:
    """`none` in any letter case, with or without a signature."""
    header = json.dumps({"alg": algorithm, "typ": "JWT", "kid": key_id(SECRET)}).encode()
    encoded = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    claims = tokens["access"].split(".")[1]
    assert status(client, f"{encoded}.{claims}.{signature}") == 401


@pytest.mark.parametrize(
    "token",
    [
        *(
            "",
            "x",
            "..",
            "a.b",
            "a.b.c",
            "a.b.c.d",
            "é.é.é",
            "\x7f",
            "x=y",
            "A" * 8000,
            "e30.e30.e30",
        ),
        base64.urlsafe_b64encode(b'{"alg":"HS256","kid":[1]}').decode() + ".e30.e30",
        base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.e30",
    ],
    ids=lambda token: repr(token[:12]),
)
@ONE_DATABASE
def test_a_text_that_is_not_a_jwt_is_refused(client: FlaskClient, token: str) -> None:
    assert status(client, token) == 401


def test_an_access_token_expires_after_its_lifetime_and_the_leeway(
    client: FlaskClient, auth: Accounts
) -> None:
    with time_machine.travel(THEN, tick=False) as clock:
        access = auth.sign_in(auth.register()["email"])["access"]
        clock.shift(900 + LEEWAY - 1)
        assert status(client, access) == 200
        clock.shift(1)
        assert status(client, access) == 401


@pytest.mark.parametrize("seconds", [0.2, 2.0, LEEWAY])
@pytest.mark.slow
def test_a_fresh_token_is_valid_on_an_instance_whose_clock_is_behind(
    make_app: Callable[..., Flask], seconds: float
) -> None:
    first, second = make_app().test_client(), make_app().test_client()
    accounts = Accounts(first)
    email = accounts.register()["email"]
    with time_machine.travel(THEN + timedelta(seconds=seconds), tick=False):
        tokens = accounts.sign_in(email)
    with time_machine.travel(THEN, tick=False):
        assert status(second, tokens["access"]) == 200
        answer = second.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]})
        assert answer.status_code == 200


def test_a_token_from_beyond_the_leeway_is_refused(client: FlaskClient, auth: Accounts) -> None:
    email = auth.register()["email"]
    with time_machine.travel(THEN + timedelta(seconds=LEEWAY + 1), tick=False):
        access = auth.sign_in(email)["access"]
    with time_machine.travel(THEN, tick=False):
        assert status(client, access) == 401


def test_a_refresh_token_expires_after_its_lifetime(
    client: FlaskClient, tokens: dict[str, str]
) -> None:
    lifetime = timedelta(days=30, seconds=LEEWAY + 1)
    with time_machine.travel(datetime.now(UTC) + lifetime, tick=True):
        answer = client.post("/api/v1/auth/refresh/", json={"refresh": tokens["refresh"]})
    assert answer.status_code == 401


def test_the_lifetime_of_a_token_is_a_setting(make_app: Callable[..., Flask]) -> None:
    client = make_app(JWT_ACCESS_TOKEN_EXPIRES=60).test_client()
    accounts = Accounts(client)
    token = accounts.sign_in(accounts.register()["email"])["access"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60


@pytest.mark.parametrize(("previous", "expected"), [(SECRET, 200), ("", 401), (OTHER_SECRET, 401)])
def test_tokens_of_the_previous_key_are_accepted(
    make_app: Callable[..., Flask], tokens: dict[str, str], previous: str, expected: int
) -> None:
    rotated = make_app(JWT_SECRET_KEY=OTHER_SECRET * 2, JWT_SECRET_KEY_PREVIOUS=previous)
    assert status(rotated.test_client(), tokens["access"]) == expected


def test_new_tokens_are_signed_with_the_new_key(
    make_app: Callable[..., Flask], client: FlaskClient, auth: Accounts
) -> None:
    email = auth.register()["email"]
    rotated = make_app(JWT_SECRET_KEY=OTHER_SECRET, JWT_SECRET_KEY_PREVIOUS=SECRET)
    token = Accounts(rotated.test_client()).sign_in(email)["access"]
    assert status(client, token) == 401
    assert status(rotated.test_client(), token) == 200


def test_a_key_id_reveals_nothing_of_the_key() -> None:
    assert key_id(SECRET) not in SECRET
    assert key_id(SECRET) != key_id(OTHER_SECRET)
