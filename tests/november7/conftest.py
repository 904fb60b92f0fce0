"""Fixtures of the provider's tests: clients of the stand-in, on either cache."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import counted, eventually
from redis import Redis

from movies.november7.client import Client
from movies.november7.singleflight import SingleFlight
from november7.clients import build_client
from november7.flights import Gate
from stand_in.server import StandIn


@pytest.fixture(params=["sqlite", "redis"])
def cache(request: pytest.FixtureRequest) -> dict[str, Redis]:
    """Where pages are cached: the test runs once on each."""
    return {"redis": request.getfixturevalue("redis")} if request.param == "redis" else {}


@pytest.fixture
def make_client(
    stand_in: StandIn, directory: Path, no_backoff: None
) -> Iterator[Callable[..., Client]]:
    """Makes clients of the stand-in that cache in one directory and retry without a pause."""
    made = []

    def make(**settings: Any) -> Client:
        made.append(build_client(stand_in.url, directory, **settings))
        return made[-1]

    yield make
    stand_in.stop()  # so that no request keeps a client from closing
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., Client], cache: dict[str, Redis]) -> Client:
    """A client of the stand-in, on either cache."""
    return make_client(**cache)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A fetch that ends when the test opens it, or at the end of the test."""
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def make_single_flight() -> Iterator[Callable[[int], SingleFlight]]:
    """Makes single flights with a given concurrency."""
    made = []

    def make(concurrency: int = 8) -> SingleFlight:
        made.append(SingleFlight(concurrency))
        return made[-1]

    yield make
    for single_flight in made:
        single_flight.close()
    assert eventually(lambda: counted("november7_bulkhead_in_use") == 0)
