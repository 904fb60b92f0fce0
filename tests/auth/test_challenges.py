"""What a 401 response says about the token, for people and for clients (RFC 6750)."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from accounts import PASSWORD, Accounts
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

ME = "/api/v1/users/me/"
ADA = "ada@example.com"
BARE = 'Bearer realm="movies"'
THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
Send = Callable[[str], TestResponse]


@pytest.fixture
def tokens(auth: Accounts) -> dict[str, str]:
    """The tokens of an account that has just signed in."""
    auth.register(ADA)
    return auth.sign_in(ADA)


def get_me(client: FlaskClient, token: str) -> TestResponse:
    return client.get(ME, headers={"Authorization": f"Bearer {token}"})


def refresh(client: FlaskClient, token: str) -> TestResponse:
    return client.post("/api/v1/auth/refresh/", json={"refresh": token})


def reason(answer: TestResponse) -> str:
    """The `error_description` of an `invalid_token` challenge."""
    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
    challenge = answer.headers["WWW-Authenticate"]
    found = re.fullmatch(
        r'Bearer realm="movies", error="invalid_token", error_description="([^"\\]+)"', challenge
    )
    assert found, challenge
    return found[1]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}, {"Authorization": ""}],
    ids=str,
)
def test_a_request_without_a_token_gets_a_challenge_without_an_error(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    answer = client.get(ME, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == BARE
    assert answer.get_json()["detail"].startswith("The access token is missing.")


def test_a_malformed_token_is_reported(client: FlaskClient) -> None:
    for answer in (get_me(client, "x.y.z"), refresh(client, "x.y.z")):
        assert reason(answer) == "The token is malformed"
        assert "malformed" in answer.get_json()["detail"]


def test_an_expired_token_is_reported(client: FlaskClient, auth: Accounts) -> None:
    with time_machine.travel(THEN, tick=False) as clock:
        auth.register(ADA)
        tokens = auth.sign_in(ADA)
        get_me(client, tokens["access"])
        clock.shift(timedelta(days=31))
        for answer in (get_me(client, tokens["access"]), refresh(client, tokens["refresh"])):
            assert reason(answer) == "The token has expired"
            assert answer.get_json()["detail"].startswith("The token has expired.")


def test_a_revoked_token_is_reported(client: FlaskClient, tokens: dict[str, str]) -> None:
    client.post("/api/v1/auth/logout/", json={"refresh": tokens["refresh"]})
    for answer in (get_me(client, tokens["access"]), refresh(client, tokens["refresh"])):
        assert reason(answer) == "The token was revoked"
        assert answer.get_json()["detail"] == "The token was revoked. Sign in again."


def test_a_token_of_the_wrong_type_is_reported(client: FlaskClient, tokens: dict[str, str]) -> None:
    for answer in (get_me(client, tokens["refresh"]), refresh(client, tokens["access"])):
        assert reason(answer) == "The token is of the wrong type"


def test_a_wrong_password_gets_a_challenge_without_an_error(
    client: FlaskClient, auth: Accounts
) -> None:
    auth.register(ADA)
    answer = client.post("/api/v1/auth/token/", json={"email": ADA, "password": "wrong"})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, BARE)


def test_the_location_of_a_registration_is_the_account(client: FlaskClient) -> None:
    account = {"email": ADA, "password": PASSWORD}
    created = client.post("/api/v1/users/register/", json=account)
    assert created.headers["Location"] == "http://localhost/api/v1/users/me/"
    token = client.post("/api/v1/auth/token/", json=account).get_json()["access"]
    location = created.headers["Location"].removeprefix("http://localhost")
    answer = client.get(location, headers={"Authorization": f"Bearer {token}"})
    assert answer.get_json() == created.get_json()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"data": b"{", "content_type": "text/plain"}, 415),
        ({"data": b"{", "content_type": "application/json"}, 400),
        ({"json": {}}, 422),
        ({"json": {"refresh": ""}}, 401),
    ],
    ids=str,
)
def test_bodies_with_tokens_are_checked_in_order(
    app: Flask, client: FlaskClient, body: dict[str, Any], expected: int
) -> None:
    for path in ("refresh", "logout"):
        answer = client.post(f"/api/v1/auth/{path}/", **body)
        assert answer.status_code == expected
        assert ("WWW-Authenticate" in answer.headers) == (expected == 401)
