"""An outage and its end: failing fast, probes, and refreshes of what was served stale."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import time_machine
from helpers import counted, eventually

from movies.november7.blocks import BlockKey
from movies.november7.client import Client
from movies.november7.errors import TimedOut, Unavailable
from november7.clients import LONG, SHORT, TTL, fail, search
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

INTERVAL = 0.05
THREAD = "november7-refresher"


@pytest.fixture(autouse=True)
def _short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds follow each other quickly."""
    monkeypatch.setattr("movies.november7.refresher.INTERVAL", INTERVAL)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Closing the clients, which happens first, ends their threads."""
    yield
    assert eventually(lambda: not is_running())


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()


def is_running() -> bool:
    """Whether the thread of a refresher is running."""
    return any(thread.name == THREAD for thread in threading.enumerate())


def take_down(client: Client, stand_in: StandIn, **share: float) -> None:
    """Make the provider fail until the breaker opens."""
    stand_in.faults = Faults(**(share or {"refuse": 1}))  # type: ignore[arg-type]

    def is_open() -> bool:  # on a busy machine a fetch may run out of time in our own queue
        fail(client)
        return client.breaker.is_open

    assert eventually(is_open)


def test_there_is_no_thread_while_november_7_answers(client: Client) -> None:
    search(client)
    assert not is_running()


@pytest.mark.parametrize("kind", ["hang", "refuse", "error", "reset"])
def test_an_outage_opens_the_breaker(client: Client, stand_in: StandIn, kind: str) -> None:
    """Whatever the failure, after three in a row."""
    client.deadline = SHORT
    take_down(client, stand_in, **{kind: 1.0})


@pytest.mark.parametrize("kind", ["malformed", "html"])
def test_bodies_that_break_the_contract_do_not_open_the_breaker(
    client: Client, stand_in: StandIn, kind: str
) -> None:
    """November 7 is up, and may answer a search for another page."""
    stand_in.faults = Faults(**{kind: 1})  # type: ignore[arg-type]
    fail(client, 5)
    assert not client.breaker.is_open


@pytest.mark.parametrize("status", [429, 503])
def test_a_provider_that_asks_for_a_pause_is_not_contacted(
    client: Client, stand_in: StandIn, status: int
) -> None:
    """If it asks twice in a row for a pause that is longer than the deadline."""
    stand_in.faults = Faults(refuse=1, codes=(status,), retry_after="60")
    for _ in range(5):
        with pytest.raises(Unavailable) as failure:
            search(client)
        assert 50 < failure.value.retry_after <= 60
    looked_again = time.monotonic() + 5 * INTERVAL
    assert eventually(lambda: time.monotonic() > looked_again)
    assert len(stand_in.requests) == 2  # and no probe


def test_a_single_request_for_a_pause_does_not_open_the_breaker(
    client: Client, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be one of the random refusals."""
    monkeypatch.setattr("movies.november7.retries.MIN_TRY_TIME", LONG)  # no time for a second
    stand_in.faults = Faults(refuse=1, codes=(429,), retry_after="60")
    fail(client, 1)
    assert len(stand_in.requests) == 1
    assert not client.breaker.is_open


def test_a_provider_is_probed_when_the_pause_is_over(client: Client, stand_in: StandIn) -> None:
    stand_in.faults = Faults(refuse=1, codes=(429,), retry_after="1")
    client.deadline = SHORT
    while not client.breaker.is_open:
        fail(client, 1)
    client.deadline = LONG
    stand_in.faults = Faults()
    assert eventually(lambda: not client.breaker.is_open)
    assert search(client).source == "miss"


def test_refusals_that_are_retried_do_not_open_the_breaker(
    client: Client, stand_in: StandIn
) -> None:
    stand_in.faults = Faults(refuse=0.3, seed=1)
    for number in range(20):
        search(client, str(number))
    assert not client.breaker.is_open


def test_an_open_breaker_fails_fast(client: Client, stand_in: StandIn) -> None:
    """A search that is not cached is refused without a request."""
    take_down(client, stand_in)
    with pytest.raises(Unavailable) as failure:
        search(client)
    assert not isinstance(failure.value, TimedOut)
    assert failure.value.retry_after >= 1
    assert not any("matrix" in target for target in stand_in.requests)


def test_cached_pages_are_served_while_the_breaker_is_open(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """The status of a stale one says that its refresh has to wait."""
    search(client)
    take_down(client, stand_in)
    assert search(client).source == "hit"
    clock.shift(TTL)
    page = search(client)
    assert (page.source, page.refresh) == ("stale", "failing")


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_a_successful_probe_closes_the_breaker(
    make_client: Callable[..., Client], stand_in: StandIn, concurrency: int
) -> None:
    """With any size of the bulkhead."""
    client = make_client(concurrency=concurrency, deadline=SHORT)
    take_down(client, stand_in, hang=1)
    stand_in.faults = Faults()
    client.deadline = LONG
    assert eventually(lambda: not client.breaker.is_open)
    assert list(client.cache.store.store.entries()) == []  # nothing reads what a probe returns
    assert search(client).source == "miss"


def test_a_provider_that_refuses_connections_is_found_again(
    client: Client, stand_in: StandIn
) -> None:
    stand_in.stop()
    take_down(client, stand_in, refuse=0)
    stand_in.start()
    assert eventually(lambda: not client.breaker.is_open)


def test_probes_ask_for_one_movie_and_few_run_at_once(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    take_down(make_client(deadline=SHORT), stand_in, hang=1)
    stand_in.reset()
    assert eventually(lambda: len(stand_in.requests) >= 4)
    assert set(stand_in.requests) == {"/movies/?skip=0&limit=1"}
    assert stand_in.most_in_flight <= 4 + 3  # requests that were in progress when counting began


def test_the_thread_ends_when_nothing_is_left_to_do(client: Client, stand_in: StandIn) -> None:
    take_down(client, stand_in)
    assert is_running()
    stand_in.faults = Faults()
    assert eventually(lambda: not is_running())


def test_the_thread_starts_again_in_a_second_outage(client: Client, stand_in: StandIn) -> None:
    for _ in range(2):
        take_down(client, stand_in)
        stand_in.faults = Faults()
        assert eventually(lambda: not client.breaker.is_open)


def test_closing_the_client_ends_the_thread(client: Client, stand_in: StandIn) -> None:
    take_down(client, stand_in)
    client.close()
    assert eventually(lambda: not is_running())


def test_pages_served_stale_in_an_outage_are_refreshed_after_it(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Without another search for them."""
    queries = [str(number) for number in range(10)]
    for query in queries:
        search(client, query)
    clock.shift(TTL)
    take_down(client, stand_in)
    for query in queries * 5:
        assert search(client, query).source == "stale"
    stand_in.faults = Faults()
    assert eventually(lambda: not client.breaker.is_open and not is_running())
    assert {search(client, query).source for query in queries} == {"hit"}


def test_a_failed_refresh_is_retried(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """While the breaker is closed."""
    search(client)
    clock.shift(TTL)
    stand_in.faults = Faults(malformed=1)
    failed = counted("november7_tries_count")
    assert search(client).source == "stale"
    assert eventually(lambda: counted("november7_tries_count") > failed)
    stand_in.faults = Faults()
    assert eventually(lambda: not is_running())
    assert search(client).source == "hit"


def test_a_refresh_that_keeps_failing_is_given_up(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """While other requests succeed."""
    search(client)
    clock.shift(TTL)
    client.breaker.failed = lambda: None  # type: ignore[method-assign]  # others succeed
    stand_in.faults = Faults(refuse=1, codes=(422,))
    search(client)
    assert eventually(lambda: len(stand_in.requests) > 3)
    assert eventually(lambda: not is_running())
    assert len(stand_in.requests) < 8


def test_the_number_of_pending_refreshes_is_bounded(
    client: Client,
    stand_in: StandIn,
    clock: time_machine.Traveller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So the end of an outage does not cause a flood of requests."""
    monkeypatch.setattr("movies.november7.refresher.MAX_PENDING", 3)
    for number in range(6):
        search(client, str(number))
    clock.shift(TTL)
    take_down(client, stand_in)
    for number in range(6):
        search(client, str(number))
    stand_in.reset()
    stand_in.faults = Faults()
    assert eventually(lambda: not is_running())
    assert len({target for target in stand_in.requests if "limit=100" in target}) == 3


def test_a_thread_that_cannot_start_is_started_by_the_next_search(
    client: Client, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the breaker does not stay open."""
    started: list[str] = []
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == THREAD:
            started.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        take_down(client, stand_in)
        assert started
    stand_in.faults = Faults()
    with pytest.raises(Unavailable):
        search(client)
    assert eventually(lambda: not client.breaker.is_open)


def test_the_thread_survives_an_unexpected_error(
    client: Client, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and the next round begins."""
    refresher = client._refresher
    rounds: list[None] = []
    submit = refresher._submit

    def fail_once(pending: list[BlockKey]) -> None:
        rounds.append(None)
        if len(rounds) == 1:
            raise ZeroDivisionError
        submit(pending)

    monkeypatch.setattr(refresher, "_submit", fail_once)
    take_down(client, stand_in)
    stand_in.faults = Faults()
    assert eventually(lambda: not client.breaker.is_open)
    assert len(rounds) > 1
