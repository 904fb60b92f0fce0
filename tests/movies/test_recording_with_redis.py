"""With Redis, the movies of a search are recorded while their votes are read."""

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
import redis as redis_py
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from tables import rows

from movies.movies import registry
from stand_in.server import StandIn

SEARCH = "/api/v1/movies/?query=matrix"

BeforeStatement = Callable[[Callable[[str, Any], None]], None]


@pytest.fixture
def app(
    make_app: Callable[..., Flask], stand_in: StandIn, redis: redis_py.Redis, redis_url: str
) -> Flask:
    return make_app(NOVEMBER7_URL=stand_in.url, REDIS_URL=redis_url)


@pytest.fixture
def released() -> Iterator[Event]:
    """An event that a test, or its end, sets."""
    event = Event()
    yield event
    event.set()


def recorded(app: Flask) -> int:
    ((count,),) = rows(app, "SELECT count(*) FROM movies")
    return int(count)


def test_the_movies_of_a_search_are_recorded_before_its_response(
    app: Flask, client: FlaskClient, auth: Accounts, before_statement: BeforeStatement
) -> None:
    headers = auth.headers()

    def delay(statement: str, _values: Any) -> None:
        if "INSERT INTO movies" in statement:
            time.sleep(0.2)

    before_statement(delay)
    response = client.get(SEARCH, headers=headers)
    assert recorded(app) == response.get_json()["count"] > 0


@pytest.mark.parametrize(
    ("timeout", "preference"), [(0.2, {}), (60, {"Prefer": "wait=1"})], ids=["default", "prefer"]
)
def test_a_search_does_not_wait_long_until_its_movies_are_recorded(
    app: Flask,
    client: FlaskClient,
    auth: Accounts,
    before_statement: BeforeStatement,
    released: Event,
    monkeypatch: pytest.MonkeyPatch,
    timeout: float,
    preference: dict[str, str],
) -> None:
    headers = auth.headers() | preference
    monkeypatch.setattr(registry, "RECORDING_TIMEOUT", timeout)

    def wait(statement: str, _values: Any) -> None:
        if "INSERT INTO movies" in statement:
            released.wait(20)

    before_statement(wait)
    response = client.get(SEARCH, headers=headers)
    assert (response.status_code, recorded(app)) == (200, 0)
    assert response.get_json()["count"] > 0
