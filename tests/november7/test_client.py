"""Pages as the client gives them: fresh, stale, fetched, shared, walked. The clock is moved."""

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
from movies.november7.errors import BadResponse, BadStatus, InvalidRequest, TimedOut, Unavailable
from movies.november7.sample.catalogue import Catalogue
from november7.clients import FAULT_KINDS, QUERY, STALE, TTL, movie, search, titles
from stand_in.server import Faults, StandIn


def test_a_page_that_is_not_held_is_fetched(client: Client, stand_in: StandIn) -> None:
    """The first search is a miss, and gives what the provider says."""
    page = search(client)
    expected = stand_in.catalogue._matches(QUERY)
    assert (page.source, page.total, page.movies) == ("miss", 5, expected[:3])
    assert len(stand_in.requests) == 1


def test_a_fresh_page_is_a_hit(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Up to the last moment of its freshness a page is served without a request."""
    first = search(client)
    clock.shift(TTL - 1)
    page = search(client)
    assert (page.source, page.age, page.ttl, page.movies) == ("hit", TTL - 1, 1, first.movies)
    assert len(stand_in.requests) == 1


def test_a_stale_page_is_served_while_it_is_refreshed(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Past its freshness a page is served at once, and one request brings a fresh one."""
    search(client)
    clock.shift(TTL)
    page = search(client)
    assert (page.source, page.refresh, page.age, page.ttl) == ("stale", "scheduled", TTL, 0)
    assert eventually(lambda: search(client).source == "hit")
    assert search(client).age == 0
    assert len(stand_in.requests) == 2


def test_a_refresh_brings_what_is_new(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """What the provider says by now replaces what it said."""
    search(client)
    stand_in.catalogue = Catalogue([movie(1, title="The Matrix Renewed")])
    clock.shift(TTL)
    assert len(search(client).movies) == 3
    assert eventually(lambda: titles(search(client)) == ["The Matrix Renewed"])


def test_a_hanging_provider_does_not_delay_a_stale_page(
    make_client: Callable[..., Client], stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Many who want a stale page have it at once, and cost one request between them."""
    client = make_client(deadline=1.5)
    search(client)
    clock.shift(TTL)
    stand_in.faults = Faults(hang=1)
    stand_in.reset()
    pages = [got.result(timeout=1) for got in in_threads(20, lambda: search(client))]
    assert {page.source for page in pages} == {"stale"}
    assert eventually(lambda: len(stand_in.requests) == 1)


def test_a_dead_page_is_not_served(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Past its stale window a page is as good as none: it is fetched anew."""
    search(client)
    clock.shift(TTL + STALE)
    assert search(client).source == "miss"


def test_a_dead_page_is_not_served_in_an_outage(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Not even where there is nothing else to say."""
    search(client)
    clock.shift(TTL + STALE)
    stand_in.faults = Faults(refuse=1)
    with pytest.raises(BadStatus):
        search(client)


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_bad_answer_never_replaces_a_good_page(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller, kind: str
) -> None:
    """However a refresh fails, the page that is held stays, and is served."""
    good = search(client)
    clock.shift(TTL)
    stand_in.faults = Faults(**{kind: 1})  # type: ignore[arg-type]
    failed = counted("november7_tries_count")
    search(client)
    assert eventually(lambda: counted("november7_tries_count") > failed)
    page = search(client)
    assert (page.source, page.movies, page.total) == ("stale", good.movies, good.total)


@pytest.mark.parametrize(
    ("kind", "failure"),
    [("refuse", BadStatus), ("malformed", BadResponse), ("hang", TimedOut)],
)
def test_nothing_negative_is_kept(
    client: Client, stand_in: StandIn, kind: str, failure: type[Unavailable]
) -> None:
    """A search that failed is asked again by the next caller."""
    stand_in.faults = Faults(**{kind: 1})  # type: ignore[arg-type]
    with pytest.raises(failure):
        search(client)
    stand_in.faults = Faults()
    assert search(client).source == "miss"


def test_a_page_without_movies_is_kept(client: Client, stand_in: StandIn) -> None:
    """That nothing matches is a true answer like any other."""
    pages = [search(client, "no such title") for _ in range(2)]
    assert [(page.source, page.total, page.movies) for page in pages] == [
        ("miss", 0, []),
        ("hit", 0, []),
    ]


def test_a_page_says_that_its_fetch_was_shared(client: Client, stand_in: StandIn) -> None:
    """Of ten callers at once, one misses and nine are collapsed into its fetch."""
    stand_in.faults = Faults(latency=(0.1, 0.1))
    pages = [got.result() for got in in_threads(10, lambda: search(client))]
    assert sorted(page.source for page in pages) == ["collapsed"] * 9 + ["miss"]
    assert len(stand_in.requests) == 1


def test_a_rejected_request_is_logged_as_our_defect(
    client: Client, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """A 422 is an error in the log, is asked once, and says nothing about the provider's health."""
    stand_in.faults = Faults(refuse=1, codes=(422,))
    for _ in range(4):
        with pytest.raises(InvalidRequest):
            search(client)
    lines = [(record.levelname, record.message) for record in caplog.records]
    assert lines == [("ERROR", "November 7 called our request invalid: this is a defect")] * 4
    assert len(stand_in.requests) == 4
    assert not client.breaker.is_open


def test_look_ups_are_counted(client: Client, clock: time_machine.Traveller) -> None:
    """A miss, a hit and a stale hit count under their names."""
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
    """What is logged on the thread of a fetch has the id of the request that caused it."""
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


def test_movies_are_passed_on_before_anyone_has_the_page(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    """Whoever keeps a record of movies has them when the caller does, and not again on a hit."""
    passed: list[Any] = []
    client = make_client(on_fetch=passed.append)
    assert passed == [client.search(QUERY, skip=0, limit=100).movies]
    search(client)
    assert len(passed) == 1


def test_cookies_are_neither_kept_nor_sent(client: Client, stand_in: StandIn) -> None:
    """A provider that refuses its own cookies would otherwise refuse every later search."""
    stand_in.faults = Faults(cookies=True)
    pages = [search(client, query) for query in ("matrix", "dogs", "up")]
    assert [page.source for page in pages] == ["miss"] * 3
    assert len(stand_in.requests) == 3


def test_a_small_bulkhead_still_answers_everyone(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    """With one request at a time, twenty different searches are all answered, one by one."""
    client = make_client(concurrency=1, deadline=30)
    with ThreadPoolExecutor(20) as pool:
        pages = list(pool.map(lambda number: search(client, str(number)), range(20)))
    assert {page.source for page in pages} == {"miss"}
    assert stand_in.most_in_flight == 1


def test_what_waited_in_our_queue_does_not_count_against_the_provider(
    client: Client, stand_in: StandIn
) -> None:
    """Fetches that had hardly any time left when their turn came don't open the breaker."""
    stand_in.faults = Faults(hang=1)
    for _ in range(FAILURES):
        with pytest.raises(TimedOut):
            client._ask(BlockKey(QUERY, 0, 3), Deadline.after(client.deadline / 4))
    assert not client.breaker.is_open
