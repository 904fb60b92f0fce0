"""Two instances whose clocks differ by two seconds share tokens and the provider cache."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis as redis_py
from accounts import PASSWORD
from served import Served, served
from services import postgresql_database

pytestmark = pytest.mark.slow

SKEW = 2  # seconds
AHEAD = f"""
import datetime, time_machine
now = datetime.datetime.now(datetime.UTC)
time_machine.travel(now + datetime.timedelta(seconds={SKEW}), tick=True).start()
"""


@pytest.fixture(scope="module")
def instances(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Served]]:
    """One whose clock is right, and one whose clock is ahead."""
    with redis_py.Redis.from_url(redis_url) as client:
        client.flushdb()
    with ExitStack() as stack:
        shared = {"DATABASE_URL": stack.enter_context(postgresql_database("skew"))}
        shared["REDIS_URL"] = redis_url
        started = [
            stack.enter_context(served(tmp_path_factory.mktemp("skew"), clock, **shared))
            for clock in ("", AHEAD)
        ]
        yield started[0], started[1]


def sign_in(api: Served) -> dict[str, Any]:
    account = {"email": "ada@example.com", "password": PASSWORD}
    tokens: dict[str, Any] = api.ask("POST", "/api/v1/auth/token/", json=account).json()
    return tokens


@pytest.mark.parametrize("issuer", [0, 1], ids=["issued on time", "issued in the future"])
def test_tokens_are_valid_and_revoked_on_both(
    instances: tuple[Served, Served], issuer: int
) -> None:
    issuing, other = instances[issuer], instances[1 - issuer]
    tokens = sign_in(issuing)
    headers = {"Authorization": f"Bearer {tokens['access']}"}
    assert other.ask("GET", "/api/v1/users/me/", headers=headers).ok
    refresh = {"refresh": tokens["refresh"]}
    assert other.ask("POST", "/api/v1/auth/refresh/", json=refresh).ok
    assert other.ask("POST", "/api/v1/auth/logout/", json=refresh).status_code == 204
    assert issuing.ask("POST", "/api/v1/auth/refresh/", json=refresh).status_code == 401


@pytest.mark.parametrize("fetcher", [0, 1], ids=["fetched on time", "fetched in the future"])
def test_pages_are_shared_and_their_age_is_never_negative(
    instances: tuple[Served, Served], fetcher: int
) -> None:
    query = f"fetched by {fetcher}"
    fetched = instances[fetcher].search(query)
    assert (fetched.headers["Cache-Status"].split("; ")[1], fetched.headers["Age"]) == (
        "fwd=miss",
        "0",
    )
    found = instances[1 - fetcher].search(query)
    assert found.headers["Cache-Status"].split("; ")[1] == "hit"
    assert int(found.headers["Age"]) >= (0 if fetcher else SKEW - 1)
    assert found.json() == {**fetched.json(), "next": None, "previous": None}
