"""How the client serves pages: fresh, stale and fetched ones."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import time_machine
from helpers import counted, eventually, in_threads

from movies.logs import request_id
from movies.november7.blocks import BlockKey
from movies.november7.breaker import FAILURES
from movies.november7.client import Client
from movies.november7.deadline import Deadline
from movies.november7.errors import (
    BadResponse,
    BadStatus,
    Busy,
    InvalidRequest,
    TimedOut,
    Unavailable,
)
from movies.november7.sample.catalogue import page as sample_page
from movies.november7.singleflight import Call
from november7.clients import (
    FAULT_KINDS,
    LONG,
    QUERY,
    SHORT,
    STALE,
    TTL,
    JoinedCatalogue,
    movie,
    search,
    titles,
)
from stand_in.catalogue import Catalogue
from stand_in.server import Faults, StandIn


def test_a_page_that_is_not_cached_is_fetched(client: Client, stand_in: StandIn) -> None:
    page = search(client)
    expected = sample_page(stand_in.catalogue.movies, QUERY, 0, 3)["items"]
    assert (page.source, page.total, page.movies) == ("miss", 5, expected)
    assert len(stand_in.requests) == 1


def test_a_fresh_page_is_a_hit(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Until the end of its freshness, it is served without a request."""
    first = search(client)
    clock.shift(TTL - 1)
    page = search(client)
    assert (page.source, page.age, page.ttl, page.movies) == ("hit", TTL - 1, 1, first.movies)
    assert len(stand_in.requests) == 1


def test_a_stale_page_is_served_while_it_is_refreshed(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """One request fetches a fresh page."""
    search(client)
    clock.shift(TTL)
    page = search(client)
    assert (page.source, page.refresh, page.age, page.ttl) == ("stale", "scheduled", TTL, 0)
    assert eventually(lambda: search(client).source == "hit")
    assert search(client).age == 0
    assert len(stand_in.requests) == 2


def test_a_refresh_replaces_the_page(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    search(client)
    stand_in.catalogue = Catalogue([movie(1, title="The Matrix Renewed")])
    clock.shift(TTL)
    assert len(search(client).movies) == 3
    assert eventually(lambda: titles(search(client)) == ["The Matrix Renewed"])


def test_a_hanging_provider_does_not_delay_a_stale_page(
    make_client: Callable[..., Client], stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """All callers get it at once, and share one request."""
    client = make_client()
    search(client)
    clock.shift(TTL)
    stand_in.faults = Faults(hang=1)
    stand_in.reset()
    pages = [got.result() for got in in_threads(20, lambda: search(client))]
    assert {page.source for page in pages} == {"stale"}
    assert eventually(lambda: len(stand_in.requests) == 1)


def test_a_page_past_its_stale_window_is_fetched_again(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    search(client)
    clock.shift(TTL + STALE)
    assert search(client).source == "miss"


def test_a_page_past_its_stale_window_is_not_served_in_an_outage(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    search(client)
    clock.shift(TTL + STALE)
    stand_in.faults = Faults(refuse=1)
    with pytest.raises(BadStatus):
        search(client)


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_bad_answer_never_replaces_a_good_page(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller, kind: str
) -> None:
    good = search(client)
    clock.shift(TTL)
    client.deadline = SHORT
    stand_in.faults = Faults(**{kind: 1})  # type: ignore[arg-type]
    failed = counted("november7_tries_count")
    search(client)
    assert eventually(lambda: counted("november7_tries_count") > failed)
    page = search(client)
    assert (page.source, page.movies, page.total) == ("stale", good.movies, good.total)


@pytest.mark.parametrize(
    ("kind", "deadline", "failure"),
    [
        ("refuse", LONG, BadStatus),
        ("malformed", LONG, BadResponse),
        ("hang", SHORT, (TimedOut, Busy)),  # Busy if no thread has started by then
    ],
)
def test_a_failure_is_not_cached(
    client: Client, stand_in: StandIn, kind: str, deadline: float, failure: type[Unavailable]
) -> None:
    stand_in.faults = Faults(**{kind: 1})  # type: ignore[arg-type]
    client.deadline = deadline
    with pytest.raises(failure):
        search(client)
    client.deadline = LONG
    stand_in.faults = Faults()

    def is_fetched() -> bool:
        try:
            return search(client).source == "miss"
        except Unavailable:  # it joined the failed fetch, which was about to end
            return False

    assert eventually(is_fetched)


def test_a_page_without_movies_is_cached(client: Client, stand_in: StandIn) -> None:
    pages = [search(client, "no such title") for _ in range(2)]
    assert [(page.source, page.total, page.movies) for page in pages] == [
        ("miss", 0, []),
        ("hit", 0, []),
    ]


def test_a_page_says_that_its_fetch_was_shared(client: Client, stand_in: StandIn) -> None:
    """Of ten simultaneous callers, one has a miss and nine join its fetch."""
    stand_in.catalogue = JoinedCatalogue(stand_in.catalogue.movies, callers=9)
    pages = [got.result() for got in in_threads(10, lambda: search(client))]
    assert sorted(page.source for page in pages) == ["collapsed"] * 9 + ["miss"]
    assert len(stand_in.requests) == 1


def test_a_rejected_request_is_logged_as_a_bug(
    client: Client, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """A 422 is not retried, and does not open the breaker."""
    stand_in.faults = Faults(refuse=1, codes=(422,))
    for _ in range(4):
        with pytest.raises(InvalidRequest):
            search(client)
    text = "November 7 rejected a request as invalid (422); this is a bug in Movies API"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", text)
    ] * 4
    assert len(stand_in.requests) == 4
    assert not client.breaker.is_open


def test_lookups_are_counted_by_result(client: Client, clock: time_machine.Traveller) -> None:
    names = ("miss", "hit", "stale")
    before = [counted("november7_cache_total", result=name) for name in names]
    search(client)
    search(client)
    clock.shift(TTL)
    search(client)
    assert [counted("november7_cache_total", result=name) for name in names] == [
        count + 1 for count in before
    ]


def test_log_lines_have_the_id_of_the_request(
    client: Client, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """Even those of the thread that fetches."""
    ids = []

    def note(record: logging.LogRecord) -> bool:
        ids.append(request_id.get())
        return True

    caplog.handler.addFilter(note)
    stand_in.faults = Faults(refuse=1)
    request_id.set("this-very-search")
    with pytest.raises(BadStatus):
        search(client)
    assert ids.count("this-very-search") > 1


def test_on_fetch_is_called_before_callers_get_the_page(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    """It is not called again for a hit."""
    passed: list[Any] = []
    client = make_client(on_fetch=passed.append)
    assert passed == [client.search(QUERY, skip=0, limit=100).movies]
    search(client)
    assert len(passed) == 1


def test_cookies_are_neither_kept_nor_sent(client: Client, stand_in: StandIn) -> None:
    """The stand-in refuses requests with its own cookies."""
    stand_in.faults = Faults(cookies=True)
    pages = [search(client, query) for query in ("matrix", "dogs", "up")]
    assert [page.source for page in pages] == ["miss"] * 3
    assert len(stand_in.requests) == 3


def test_a_bulkhead_of_one_answers_all_searches(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    client = make_client(concurrency=1)
    with ThreadPoolExecutor(20) as pool:
        pages = list(pool.map(lambda number: search(client, str(number)), range(20)))
    assert {page.source for page in pages} == {"miss"}
    assert stand_in.most_in_flight == 1


@pytest.mark.slow
def test_a_fetch_that_waited_too_long_in_the_queue_does_not_open_the_breaker(
    client: Client, stand_in: StandIn
) -> None:
    stand_in.faults = Faults(hang=1)
    for _ in range(FAILURES):
        with pytest.raises(TimedOut):
            client._ask(BlockKey(QUERY, 0, 3), Call("k", Deadline.after(SHORT), None, print))
    assert not client.breaker.is_open


def test_closing_a_client_ends_a_fetch_that_waits_for_another_try(
    client: Client, stand_in: StandIn
) -> None:
    stand_in.faults = Faults(refuse=1, retry_after="20")
    with ThreadPoolExecutor(1) as pool:
        fetch = pool.submit(search, client)
        assert eventually(lambda: len(stand_in.requests) == 1 and stand_in.in_flight == 0)
        client.close()
        assert isinstance(fetch.exception(), Busy)
    assert len(stand_in.requests) == 1
