"""Callers get a page before it is handled and stored, and nobody asks November 7 meanwhile."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from helpers import eventually
from redis import Redis

from movies.november7.blocks import SEARCH_BLOCK, Movies
from movies.november7.client import Client
from movies.november7.freshness import Freshness
from movies.november7.sample.catalogue import sample_movies
from november7.clients import QUERY, movie, search, titles
from stand_in.catalogue import Catalogue
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


def test_callers_get_a_page_while_it_is_handled(
    make_client: Callable[..., Client], redis: Redis, stand_in: StandIn
) -> None:
    handle = Event()
    client = make_client(redis=redis, on_fetch=lambda _movies: handle.wait(30))
    page = search(client)
    page.wait_until_handled(0.05)
    assert [event.is_set() for event in page.handled] == [False]
    handle.set()
    page.wait_until_handled(30)
    assert page.handled[0].is_set()
    assert search(client).source == "hit"
    assert len(stand_in.requests) == 1


def test_an_error_while_a_page_is_handled_does_not_keep_callers_waiting(
    make_client: Callable[..., Client], redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(redis=redis, on_fetch=lambda _movies: 1 / 0)
    [event] = search(client).handled
    assert event.wait(30)
    assert eventually(lambda: "ZeroDivisionError" in caplog.text)


def test_a_page_of_two_blocks_is_handled_when_both_are(
    make_client: Callable[..., Client], redis: Redis, stand_in: StandIn
) -> None:
    stand_in.catalogue = Catalogue([movie(number) for number in range(SEARCH_BLOCK + 1)])
    client = make_client(redis=redis)
    page = client.search("movie", skip=SEARCH_BLOCK - 1, limit=2)
    assert (len(page.movies), len(page.handled)) == (2, 2)


def test_a_looked_up_movie_is_returned_after_its_block_is_handled(
    make_client: Callable[..., Client], redis: Redis
) -> None:
    handled: list[int] = []

    def handle(movies: Movies) -> None:
        time.sleep(0.1)
        handled.append(len(movies))

    client = make_client(redis=redis, on_fetch=handle)
    assert client.find_movie(sample_movies()[0]["id"])
    assert handled == [len(sample_movies())]


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
