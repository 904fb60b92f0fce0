"""Callers get a page before it is stored, and nobody else asks November 7 meanwhile."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from helpers import eventually
from redis import Redis

from movies.november7.client import Client
from movies.november7.freshness import Freshness
from november7.clients import QUERY, search, titles
from stand_in.server import StandIn

NO_CACHE = Freshness(max_age=0)


class SlowStore:
    """Makes the writes of a client wait until `go_on` is set."""

    def __init__(self, client: Client) -> None:
        self.go_on = Event()
        self.writing = Event()
        store: Any = client.cache.store.store
        self._write, store.write = store.write, self.write

    def write(self, *args: Any) -> None:
        self.writing.set()
        assert self.go_on.wait(30)
        self._write(*args)


@pytest.fixture
def clients(make_client: Callable[..., Client], redis: Redis) -> list[Client]:
    """Two processes that share a Redis."""
    return [make_client(redis=redis) for _ in range(2)]


def test_a_page_is_shared_even_before_it_is_stored(
    clients: list[Client], stand_in: StandIn
) -> None:
    first, second = clients
    slow = SlowStore(first)
    assert search(first).source == "miss"
    assert slow.writing.wait(30)
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(search, second)
        assert not page.done()
        slow.go_on.set()
        assert page.result().source == "hit"
    assert len(stand_in.requests) == 1


def test_a_forced_request_does_not_get_a_page_that_was_fetched_before(
    clients: list[Client], stand_in: StandIn
) -> None:
    first, second = clients
    slow = SlowStore(first)
    search(first)
    with ThreadPoolExecutor(1) as pool:
        forced = pool.submit(second.search, QUERY, skip=0, limit=3, accept=NO_CACHE)
        slow.go_on.set()
        assert forced.result().source == "miss"
    assert len(stand_in.requests) == 2


def test_a_page_that_cannot_be_stored_is_returned_and_the_error_is_logged(
    clients: list[Client], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = clients
    store: Any = first.cache.store.store
    monkeypatch.setattr(store, "write", lambda *args: 1 / 0)
    page = search(first)
    assert len(titles(page)) == 3
    assert eventually(lambda: "ZeroDivisionError" in caplog.text)
    assert search(second).source == "miss"


def test_without_redis_a_page_is_stored_first(make_client: Callable[..., Client]) -> None:
    """No lease keeps another process from asking for it."""
    assert search(make_client()).source == "miss"
    assert search(make_client()).source == "hit"
