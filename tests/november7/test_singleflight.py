"""One fetch for many callers, and a bulkhead."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLong
from typing import Any

import pytest
from helpers import counted, eventually, in_threads

from movies.logs import request_id
from movies.november7 import singleflight as module
from movies.november7.deadline import Deadline
from movies.november7.errors import BadStatus, Busy, TimedOut, Unavailable
from movies.november7.singleflight import Call, SingleFlight


class Gate:
    """A fetch that counts its calls, and brings "page" once it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.calls = self.under_way = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, deadline: Deadline) -> str:
        with self._lock:
            self.calls += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self.opened.wait(60)
        with self._lock:
            self.under_way -= 1
        return "page"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def make() -> Iterator[Callable[[int], SingleFlight]]:
    """Makes flights of some concurrency."""
    made = []

    def make(concurrency: int = 8) -> SingleFlight:
        made.append(SingleFlight(concurrency))
        return made[-1]

    yield make
    for flights in made:
        flights.close()
    assert eventually(lambda: counted("november7_bulkhead_in_use") == 0)


def fetch(
    flights: SingleFlight, call: Callable[[Deadline], Any], key: str = "k", seconds: float = 5
) -> Any:
    """What a caller gets."""
    deadline = Deadline.after(seconds)
    return flights.wait(flights.submit(key, deadline, call)[0], deadline)


def fails(deadline: Deadline) -> None:
    raise BadStatus("no", retry_after=7)


def test_one_flight_answers_everyone(make: Callable[..., SingleFlight], gate: Gate) -> None:
    """Twenty callers for one page cost one fetch, and all have its answer."""
    flights = make()
    joined = counted("november7_flights_joined_total")
    with ThreadPoolExecutor(20) as pool:
        callers = [pool.submit(fetch, flights, gate) for _ in range(20)]
        assert eventually(lambda: counted("november7_flights_joined_total") - joined == 19)
        gate.opened.set()
    assert [caller.result() for caller in callers] == ["page"] * 20
    assert gate.calls == 1


def test_who_joins_is_told_so(make: Callable[..., SingleFlight], gate: Gate) -> None:
    """The first booking of a page begins a flight, the second joins it."""
    flights = make()
    first, second = (flights.submit("k", Deadline.after(5), gate) for _ in range(2))
    assert (first[0] is second[0], first[1], second[1]) == (True, False, True)


def test_another_page_is_another_flight(make: Callable[..., SingleFlight], gate: Gate) -> None:
    """Callers share a fetch only where they want the same page."""
    flights = make()
    gate.opened.set()
    fetch(flights, gate, "one")
    fetch(flights, gate, "two")
    assert gate.calls == 2


def test_a_flight_that_landed_is_not_joined(make: Callable[..., SingleFlight]) -> None:
    """Nothing is kept of a flight, its failure least of all: the next caller fetches anew."""
    flights = make()
    with pytest.raises(BadStatus):
        fetch(flights, fails)
    assert fetch(flights, lambda deadline: "page") == "page"


def test_a_failure_reaches_everyone(make: Callable[..., SingleFlight]) -> None:
    """Whoever waits for a flight that fails gets its failure, and all of it."""
    flights, let_go = make(), threading.Event()

    def fail_later(deadline: Deadline) -> None:
        let_go.wait(5)
        fails(deadline)

    with ThreadPoolExecutor(5) as pool:
        callers = [pool.submit(fetch, flights, fail_later) for _ in range(5)]
        let_go.set()
    assert [type(caller.exception()) for caller in callers] == [BadStatus] * 5
    assert {getattr(caller.exception(), "retry_after", 0) for caller in callers} == {7}


def test_a_defect_in_a_fetch_reaches_the_caller(make: Callable[..., SingleFlight]) -> None:
    """An exception that nobody expected doesn't strand whoever waits."""
    with pytest.raises(ZeroDivisionError):
        fetch(make(), lambda deadline: 1 / 0)


def test_a_fetch_that_is_not_back_has_timed_out(
    make: Callable[..., SingleFlight], gate: Gate
) -> None:
    """A caller leaves at the deadline, whatever the fetch does."""
    flights = make()
    flight, _ = flights.submit("k", Deadline.after(60), gate)
    assert eventually(lambda: gate.calls == 1)
    with pytest.raises(TimedOut):
        flights.wait(flight, Deadline.after(0.05))
    assert gate.under_way == 1


def test_a_flight_that_lands_as_the_wait_ends_counts(make: Callable[..., SingleFlight]) -> None:
    """An answer between the end of the wait and the look at the flight is taken."""

    class Late(Future[str]):
        def result(self, timeout: float | None = None) -> str:
            if not self.done():
                self.set_result("page")
                raise WaitedTooLong
            return super().result(timeout)

    flight = Call(Deadline.after(0))
    flight.future = Late()
    assert make().wait(flight, flight.deadline) == "page"


def test_one_that_never_left_the_queue_was_refused(
    make: Callable[..., SingleFlight], gate: Gate
) -> None:
    """Who waited behind others to the deadline is told that we were busy, not that they were."""
    flights = make(1)
    flights.submit("first", Deadline.after(5), gate)
    assert eventually(lambda: gate.calls == 1)
    flight = Call(Deadline.after(0.05))
    with pytest.raises(Busy):
        flights.wait(flight, flight.deadline)


def test_a_queued_flight_past_its_deadline_asks_nothing(
    make: Callable[..., SingleFlight], gate: Gate
) -> None:
    """When its turn comes too late, the provider isn't asked for what nobody waits for."""
    flights = make(1)
    calls: list[Deadline] = []
    flights.submit("first", Deadline.after(5), gate)
    flight, _ = flights.submit("second", Deadline.after(0.65), calls.append)
    flight.deadline = Deadline.after(0)
    gate.opened.set()
    with pytest.raises(Busy):
        flight.future.result(5)
    assert calls == []


def test_no_more_are_under_way_than_the_bulkhead_allows(
    make: Callable[..., SingleFlight], gate: Gate
) -> None:
    """Of nine flights three are under way at a time."""
    flights = make(3)
    booked = [flights.submit(str(n), Deadline.after(5), gate)[0] for n in range(9)]
    assert eventually(lambda: gate.under_way == 3)
    in_use = counted("november7_bulkhead_in_use")
    gate.opened.set()
    assert [flight.future.result(5) for flight in booked] == ["page"] * 9
    assert (gate.most, in_use) == (3, 3)


def test_what_cannot_land_in_time_is_refused_at_once(
    make: Callable[..., SingleFlight], gate: Gate
) -> None:
    """A flight whose turn would come too late isn't booked, and the metric counts it."""
    flights = make(1)
    flights.submit("first", Deadline.after(5), gate)
    refused = counted("november7_bulkhead_refusals_total")
    with pytest.raises(Busy):
        flights.submit("second", Deadline.after(2 * module.USUAL_SECONDS - 0.1), gate)
    assert counted("november7_bulkhead_refusals_total") - refused == 1


def test_what_hangs_makes_the_queue_shorter(make: Callable[..., SingleFlight], gate: Gate) -> None:
    """The longer those under way take, the less is promised to those who come."""
    flights = make(1)
    first, _ = flights.submit("first", Deadline.after(5), gate)
    assert eventually(lambda: first.begun is not None)
    first.begun = time.monotonic() - 4
    with pytest.raises(Busy) as failure:
        flights.submit("second", Deadline.after(5), gate)
    assert failure.value.retry_after >= 8


def test_quick_refusals_do_not_pass_for_quick_answers(
    make: Callable[..., SingleFlight], gate: Gate
) -> None:
    """What failed without having been asked makes nobody think that the provider is fast."""
    flights = make(1)
    for _ in range(50):
        with pytest.raises(BadStatus):
            fetch(flights, fails)
    flights.submit("first", Deadline.after(5), gate)
    with pytest.raises(Busy):
        flights.submit("second", Deadline.after(2 * module.USUAL_SECONDS - 0.1), gate)


def test_as_many_as_fit_are_never_refused(make: Callable[..., SingleFlight], gate: Gate) -> None:
    """While a place is free a flight is booked, however slow the provider has been."""
    flights = make(2)
    first, _ = flights.submit("first", Deadline.after(5), gate)
    first.begun = time.monotonic() - 100
    assert flights.submit("second", Deadline.after(0.1), gate)[1] is False


def test_only_so_many_may_wait(
    make: Callable[..., SingleFlight], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller past the limit of those who wait is refused at once: other requests need threads."""
    monkeypatch.setattr(module, "MAX_WAITERS", 2)
    flights = make()
    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(fetch, flights, gate) for _ in range(3)]
        assert eventually(lambda: any(caller.done() for caller in callers))
        gate.opened.set()
    outcomes = [caller.exception() or caller.result() for caller in callers]
    assert sorted(map(str, outcomes)) == ["page", "page", "too many searches are waiting"]


def test_the_limit_is_of_those_who_wait_now(
    make: Callable[..., SingleFlight], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who got their answer, or left, have made room."""
    monkeypatch.setattr(module, "MAX_WAITERS", 1)
    flights = make()
    for _ in range(3):
        assert fetch(flights, lambda deadline: "page") == "page"


def test_a_flight_knows_its_caller(make: Callable[..., SingleFlight]) -> None:
    """What is logged on the flight's thread has the id of the request that booked it."""
    request_id.set("of-this-caller")
    assert fetch(make(), lambda deadline: request_id.get()) == "of-this-caller"


def test_many_pages_and_callers_at_once(make: Callable[..., SingleFlight]) -> None:
    """However callers, pages and failures mix, everyone has an outcome and nothing is left over."""
    flights = make(4)
    turns = iter(range(2000))

    def call() -> list[str]:
        outcomes = []
        for turn in turns:
            try:
                bring = fails if turn % 3 else (lambda deadline: "page")
                outcomes.append(str(fetch(flights, bring, str(turn % 5))))
            except Unavailable as error:
                outcomes.append(str(error))
        return outcomes

    outcomes = [outcome for caller in in_threads(8, call) for outcome in caller.result()]
    assert set(outcomes) == {"page", "no"}
    assert (len(outcomes), flights._calls, flights._waiters) == (2000, {}, 0)
