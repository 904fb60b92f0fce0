"""Which cached pages a caller accepts, and how long it waits."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import time_machine
from helpers import counted, eventually

from movies.november7.blocks import Page
from movies.november7.client import Client
from movies.november7.deadline import Deadline
from movies.november7.errors import NotCached, TimedOut, Unavailable
from movies.november7.freshness import Freshness
from november7.clients import LONG, QUERY, SHORT, TTL, fail
from november7.flights import Gate
from stand_in.server import Faults, StandIn

FRESH = Page(0, [], fetched_at=1000, expires_at=1060)


@pytest.mark.parametrize(
    ("accepted", "now", "refusal"),
    [
        (Freshness(), 1059, None),
        (Freshness(), 1060, None),
        (Freshness(), 9999, None),
        (Freshness(max_age=30), 1030, None),
        (Freshness(max_age=30), 1030.1, "request"),
        (Freshness(max_age=0), 1000, "request"),
        (Freshness(max_age=100), 1080, None),
        (Freshness(max_age=100, max_stale=0), 1080, "stale"),
        (Freshness(max_age=100, max_stale=10), 1080, "stale"),
        (Freshness(max_age=100, max_stale=30), 1080, None),
        (Freshness(max_stale=0), 1059, None),
        (Freshness(max_stale=0), 1060, "stale"),
        (Freshness(max_stale=5), 1065, None),
        (Freshness(max_stale=5), 1065.1, "stale"),
        (Freshness(min_fresh=30), 1030, None),
        (Freshness(min_fresh=30), 1030.1, "request"),
        (Freshness(no_cache=True), 1000, "request"),
        (Freshness(only_if_cached=True), 1000, None),
    ],
)
def test_refusal_depends_on_age_and_directives(
    accepted: Freshness, now: float, refusal: str | None
) -> None:
    assert accepted.refusal(FRESH, now) == refusal


def search(client: Client, **accept: Any) -> Page:
    return client.search(QUERY, skip=0, limit=3, accept=Freshness(**accept))


def test_no_cache_asks_november_7(client: Client, stand_in: StandIn) -> None:
    search(client)
    page = search(client, no_cache=True)
    assert (page.source, page.reason, page.age) == ("miss", "request", 0)
    assert len(stand_in.requests) == 2


def test_max_age_is_satisfied_by_a_recent_page(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    search(client)
    clock.shift(20)
    assert search(client, max_age=20).source == "hit"
    page = search(client, max_age=19)
    assert (page.source, page.reason) == ("miss", "request")
    assert len(stand_in.requests) == 2


def test_max_stale_0_waits_for_a_fresh_page(client: Client, clock: time_machine.Traveller) -> None:
    search(client)
    clock.shift(TTL)
    page = search(client, max_stale=0)
    assert (page.source, page.reason) == ("miss", "stale")


@pytest.mark.parametrize("accept", [{"max_stale": 0}, {"no_cache": True}, {"max_age": 10}])
def test_a_page_that_is_ruled_out_is_not_served_when_november_7_fails(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller, accept: dict[str, Any]
) -> None:
    search(client)
    clock.shift(TTL)
    stand_in.faults = Faults(refuse=1)
    with pytest.raises(Unavailable):
        search(client, **accept)
    assert search(client).source == "stale"


def test_only_if_cached_never_asks(client: Client, stand_in: StandIn) -> None:
    with pytest.raises(NotCached):
        search(client, only_if_cached=True)
    assert stand_in.requests == []
    search(client)
    assert search(client, only_if_cached=True).source == "hit"
    with pytest.raises(NotCached):
        search(client, only_if_cached=True, no_cache=True)


@pytest.mark.parametrize(
    ("accept", "is_forced"),
    [
        ({}, False),
        ({"max_age": 60}, False),
        ({"max_stale": 0}, False),
        ({"max_age": 0}, True),
        ({"no_cache": True}, True),
    ],
)
def test_a_miss_is_forced_only_if_nothing_cached_would_do(
    client: Client, accept: dict[str, Any], is_forced: bool
) -> None:
    forced: list[None] = []
    client.search(
        "never asked before",
        skip=0,
        limit=3,
        accept=Freshness(**accept),
        before_forced_fetch=lambda: forced.append(None),
    )
    assert bool(forced) == is_forced


def test_a_forced_fetch_that_is_forbidden_is_not_made(client: Client, stand_in: StandIn) -> None:
    def forbid() -> None:
        raise PermissionError

    search(client)
    with pytest.raises(PermissionError):
        client.search(
            QUERY,
            skip=0,
            limit=3,
            accept=Freshness(no_cache=True),
            before_forced_fetch=forbid,
        )
    assert len(stand_in.requests) == 1


def test_a_page_of_two_blocks_is_forced_once(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    """It counts as one forced fetch, although both blocks are fetched."""
    client = make_client()
    forced: list[None] = []
    for _ in range(2):
        client.search(
            None,
            skip=50,
            limit=2000,
            accept=Freshness(no_cache=True),
            before_forced_fetch=lambda: forced.append(None),
        )
    assert len(forced) == 2


def test_a_forced_fetch_that_joins_another_gets_no_older_page(
    make_client: Callable[..., Client], stand_in: StandIn, gate: Gate
) -> None:
    """The fetch that it joins finds a page that another process stored before."""
    here, elsewhere = make_client(concurrency=1), make_client()
    here._single_flight.submit("another search", Deadline.after(LONG), gate, "somebody")
    joined = counted("november7_fetches_joined_total")

    def forced() -> Page:
        return here.search(QUERY, skip=0, limit=3, accept=Freshness(no_cache=True))

    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(search, here)
        assert eventually(lambda: len(here._single_flight._calls) == 2)
        search(elsewhere)
        began = time.time()
        fetched = pool.submit(forced)
        assert eventually(lambda: counted("november7_fetches_joined_total") > joined)
        gate.opened.set()
    assert waiting.result().fetched_at < began
    assert fetched.result().fetched_at > began
    assert len(stand_in.requests) == 2


# How long a caller waits


@pytest.mark.slow
def test_a_caller_who_waits_briefly_leaves_the_fetch_running(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    """Callers that joined it get its result, and so does the next search."""
    client = make_client()
    stand_in.faults = Faults(latency=(0.3, 0.3))
    with pytest.raises(TimedOut):
        client.search(QUERY, skip=0, limit=3, wait=0)
    assert eventually(lambda: search(client, only_if_cached=False).source in ("hit", "collapsed"))
    assert len(stand_in.requests) == 1


@pytest.mark.slow
def test_a_wait_beyond_the_deadline_ends_at_the_deadline(client: Client, stand_in: StandIn) -> None:
    stand_in.faults = Faults(hang=1)
    client.deadline = SHORT
    with pytest.raises(Unavailable):
        client.search(QUERY, skip=0, limit=3, wait=10_000)


def test_cached_pages_are_served_to_those_who_do_not_wait(client: Client) -> None:
    search(client)
    assert client.search(QUERY, skip=0, limit=3, wait=0).source == "hit"


def test_a_stale_page_whose_refresh_is_postponed_does_not_say_that_november_7_fails(
    client: Client, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(client)
    clock.shift(TTL)
    monkeypatch.setattr("movies.november7.refresher.MAX_PENDING", 0)
    assert (search(client).source, search(client).refresh) == ("stale", "postponed")


def test_callers_have_a_fair_share_of_the_bulkhead(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    """The searches of one user do not block those of another."""
    client = make_client(concurrency=4)
    stand_in.faults = Faults(hang=1)
    numbers = iter(range(12))

    def crowd() -> None:
        with pytest.raises(Unavailable):
            client.search(f"crowd {next(numbers)}", skip=0, limit=3, caller=1)

    with ThreadPoolExecutor(12) as pool:
        for _ in range(12):
            pool.submit(crowd)
        assert eventually(lambda: stand_in.in_flight == 3)
        stand_in.faults = Faults()
        assert client.search("other", skip=0, limit=3, caller=2).source == "miss"
        assert stand_in.in_flight == 3
        stand_in.stop()


def test_an_outage_fails_fast_for_forced_fetches_too(client: Client, stand_in: StandIn) -> None:
    search(client)
    stand_in.faults = Faults(reset=1)
    fail(client)
    assert client.breaker.is_open
    with pytest.raises(Unavailable):
        search(client, no_cache=True)
    assert search(client).source == "hit"
