"""Rate limits of a real server with two workers, on the embedded store and on Redis."""

from collections.abc import Iterator

import pytest
from served import Served, served

TOKEN = "/api/v1/auth/token/"


@pytest.fixture(scope="module", params=["file", "redis"])
def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server with rate limits."""
    settings = {"RATELIMIT_ENABLED": "true"}
    if request.param == "redis":
        settings["REDIS_URL"] = request.getfixturevalue("redis_url")
    with served(tmp_path_factory.mktemp("limits"), **settings) as running:
        yield running


def sign_in(app: Served, email: str) -> int:
    credentials = {"email": email, "password": "not the password"}
    return app.ask("POST", TOKEN, json=credentials).status_code


def test_workers_share_the_limit_of_an_account(app: Served) -> None:
    """Each request opens a connection, so both workers handle some of them."""
    email = f"grace{id(app)}@example.com"
    assert [sign_in(app, email) for _ in range(21)] == [401] * 20 + [429]
