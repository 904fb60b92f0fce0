"""Fair shares of the bulkhead for each caller."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import eventually

from movies.november7 import singleflight as module
from movies.november7.deadline import Deadline
from movies.november7.errors import Busy
from movies.november7.singleflight import Call, SingleFlight
from november7.flights import Gate, fetch


def test_one_caller_leaves_room_for_others(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    """A quarter of the places is free for other callers."""
    single_flight = make_single_flight(8)
    for number in range(20):
        single_flight.submit(f"a{number}", Deadline.after(30), gate, "a")
    assert eventually(lambda: gate.under_way == 6)
    others = [single_flight.submit(f"b{n}", Deadline.after(30), gate, "b")[0] for n in range(2)]
    assert eventually(lambda: all(call.started for call in others))
    gate.opened.set()


def test_callers_take_turns(make_single_flight: Callable[..., SingleFlight], gate: Gate) -> None:
    """The calls of a later caller do not wait behind all calls of the first."""
    single_flight = make_single_flight(1)
    order: list[str] = []
    first, _ = single_flight.submit("first", Deadline.after(30), gate, "a")

    def noting(key: str) -> Callable[[Call], None]:
        return lambda _call: order.append(key)

    calls = [
        single_flight.submit(key, Deadline.after(30), noting(key), key[0])[0]
        for key in ("a1", "a2", "a3", "b1", "b2", "c1")
    ]
    gate.opened.set()
    for call in (first, *calls):
        call.future.result(30)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_one_caller_cannot_take_all_places_to_wait(
    make_single_flight: Callable[..., SingleFlight], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITERS", 4)
    single_flight = make_single_flight()
    with ThreadPoolExecutor(5) as pool:
        callers = [pool.submit(fetch, single_flight, gate, caller="a") for _ in range(4)]
        assert eventually(lambda: any(caller.done() for caller in callers))
        other = pool.submit(fetch, single_flight, gate, caller="b")
        gate.opened.set()
    failures = [type(caller.exception()) for caller in callers if caller.exception()]
    assert (failures, other.result()) == ([Busy], "page")


def test_a_caller_is_refused_for_the_queue_of_its_own_calls(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    """The next caller is accepted."""
    single_flight = make_single_flight(1)
    seconds = 3 * module.USUAL_SECONDS + 0.1
    single_flight.submit("first", Deadline.after(30), gate, "a")
    for number in range(5):
        single_flight.submit(f"a{number}", Deadline.after(30), gate, "a")
    with pytest.raises(Busy):
        single_flight.submit("a", Deadline.after(seconds), gate, "a")
    assert single_flight.submit("b", Deadline.after(seconds + 0.5), gate, "b")[1] is False
