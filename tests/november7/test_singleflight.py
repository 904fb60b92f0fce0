"""One fetch for many callers, and the bulkhead."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitTimeout

import pytest
from helpers import counted, eventually, in_threads

from movies.logs import request_id
from movies.november7 import singleflight as module
from movies.november7.deadline import Deadline
from movies.november7.errors import BadStatus, Busy, TimedOut, Unavailable
from movies.november7.singleflight import Call, SingleFlight
from november7.flights import Gate, fails, fetch


def test_one_fetch_answers_everyone(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight()
    joined = counted("november7_fetches_joined_total")
    with ThreadPoolExecutor(20) as pool:
        callers = [pool.submit(fetch, single_flight, gate) for _ in range(20)]
        assert eventually(lambda: counted("november7_fetches_joined_total") - joined == 19)
        gate.opened.set()
    assert [caller.result() for caller in callers] == ["page"] * 20
    assert gate.calls == 1


def test_the_second_submit_of_a_key_joins_the_first(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight()
    first, second = (single_flight.submit("k", Deadline.after(30), gate) for _ in range(2))
    assert (first[0] is second[0], first[1], second[1]) == (True, False, True)


def test_another_key_is_another_fetch(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight()
    gate.opened.set()
    fetch(single_flight, gate, "one")
    fetch(single_flight, gate, "two")
    assert gate.calls == 2


def test_a_finished_call_is_not_joined(make_single_flight: Callable[..., SingleFlight]) -> None:
    """Neither its result nor its failure is kept."""
    single_flight = make_single_flight()
    with pytest.raises(BadStatus):
        fetch(single_flight, fails)
    assert fetch(single_flight, lambda deadline: "page") == "page"


def test_a_failure_reaches_everyone_who_waits(
    make_single_flight: Callable[..., SingleFlight],
) -> None:
    single_flight, let_go = make_single_flight(), threading.Event()

    def fail_later(call: Call) -> None:
        let_go.wait(30)
        fails(call)

    with ThreadPoolExecutor(5) as pool:
        callers = [pool.submit(fetch, single_flight, fail_later) for _ in range(5)]
        let_go.set()
    assert [type(caller.exception()) for caller in callers] == [BadStatus] * 5
    assert {getattr(caller.exception(), "retry_after", 0) for caller in callers} == {7}


def test_an_unexpected_error_of_a_fetch_reaches_the_caller(
    make_single_flight: Callable[..., SingleFlight],
) -> None:
    with pytest.raises(ZeroDivisionError):
        fetch(make_single_flight(), lambda deadline: 1 / 0)


def test_a_caller_leaves_at_the_deadline(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    """The fetch continues."""
    single_flight = make_single_flight()
    call, _ = single_flight.submit("k", Deadline.after(60), gate)
    assert eventually(lambda: gate.calls == 1)
    with pytest.raises(TimedOut):
        single_flight.wait(call, Deadline.after(0.05))
    assert gate.under_way == 1


def test_an_answer_at_the_very_deadline_counts(
    make_single_flight: Callable[..., SingleFlight],
) -> None:

    class Late(Future[str]):
        def result(self, timeout: float | None = None) -> str:
            if not self.done():
                self.set_result("page")
                raise WaitTimeout
            return super().result(timeout)

    call = Call("k", Deadline.after(0), None, fails)
    call.future = Late()
    assert make_single_flight().wait(call, call.deadline) == "page"


def test_a_caller_whose_call_stayed_in_the_queue_is_refused(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    """As Busy, not as TimedOut: November 7 was never asked."""
    single_flight = make_single_flight(1)
    single_flight.submit("first", Deadline.after(30), gate)
    assert eventually(lambda: gate.calls == 1)
    call = Call("k", Deadline.after(0.05), None, fails)
    with pytest.raises(Busy):
        single_flight.wait(call, call.deadline)


def test_a_queued_call_past_its_deadline_fetches_nothing(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight(1)
    calls: list[Call] = []
    single_flight.submit("first", Deadline.after(30), gate)
    call, _ = single_flight.submit("second", Deadline.after(30), calls.append)
    call.deadline = Deadline.after(0)
    gate.opened.set()
    with pytest.raises(Busy):
        call.future.result(30)
    assert calls == []


def test_the_bulkhead_bounds_the_calls_that_run(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight(3)
    calls = [single_flight.submit(str(n), Deadline.after(30), gate)[0] for n in range(9)]
    assert eventually(lambda: gate.under_way == 3)
    in_use = counted("november7_bulkhead_in_use")
    gate.opened.set()
    assert [call.future.result(5) for call in calls] == ["page"] * 9
    assert (gate.most, in_use) == (3, 3)


def test_a_call_that_would_be_answered_too_late_is_refused(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight(1)
    single_flight.submit("first", Deadline.after(30), gate)
    refused = counted("november7_bulkhead_refusals_total")
    with pytest.raises(Busy):
        single_flight.submit("second", Deadline.after(2 * module.USUAL_SECONDS - 0.1), gate)
    assert counted("november7_bulkhead_refusals_total") - refused == 1


def test_slow_calls_make_the_queue_shorter(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight(1)
    first, _ = single_flight.submit("first", Deadline.after(30), gate)
    assert eventually(lambda: first.started is not None)
    first.started = time.monotonic() - 24
    with pytest.raises(Busy) as failure:
        single_flight.submit("second", Deadline.after(30), gate)
    assert failure.value.retry_after >= 48


def test_quick_failures_do_not_count_as_quick_answers(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight(1)
    for _ in range(50):
        with pytest.raises(BadStatus):
            fetch(single_flight, fails)
    single_flight.submit("first", Deadline.after(30), gate)
    with pytest.raises(Busy):
        single_flight.submit("second", Deadline.after(2 * module.USUAL_SECONDS - 0.1), gate)


def test_a_call_is_accepted_while_there_is_room(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    """However slow November 7 has been."""
    single_flight = make_single_flight(2)
    first, _ = single_flight.submit("first", Deadline.after(30), gate)
    first.started = time.monotonic() - 100
    assert single_flight.submit("second", Deadline.after(0.1), gate)[1] is False


def test_the_number_of_waiting_callers_is_bounded(
    make_single_flight: Callable[..., SingleFlight], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other requests need threads, too."""
    monkeypatch.setattr(module, "MAX_WAITERS", 2)
    single_flight = make_single_flight()
    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(fetch, single_flight, gate, caller=name) for name in "abc"]
        assert eventually(lambda: any(caller.done() for caller in callers))
        gate.opened.set()
    outcomes = [caller.exception() or caller.result() for caller in callers]
    assert sorted(map(str, outcomes)) == ["page", "page", "too many searches are waiting"]


def test_callers_who_left_make_room_for_others(
    make_single_flight: Callable[..., SingleFlight], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITERS", 1)
    single_flight = make_single_flight()
    for _ in range(3):
        assert fetch(single_flight, lambda deadline: "page") == "page"


def test_a_fetch_runs_in_the_context_of_its_first_caller(
    make_single_flight: Callable[..., SingleFlight],
) -> None:
    request_id.set("of-this-caller")
    assert fetch(make_single_flight(), lambda deadline: request_id.get()) == "of-this-caller"


def test_many_keys_and_callers_at_once(make_single_flight: Callable[..., SingleFlight]) -> None:
    single_flight = make_single_flight(4)
    turns = iter(range(2000))

    def call() -> list[str]:
        outcomes = []
        for turn in turns:
            try:
                bring = fails if turn % 3 else (lambda deadline: "page")
                outcomes.append(str(fetch(single_flight, bring, str(turn % 5))))
            except Unavailable as error:
                outcomes.append(str(error))
        return outcomes

    outcomes = [outcome for caller in in_threads(8, call) for outcome in caller.result()]
    assert set(outcomes) == {"page", "no"}
    assert (len(outcomes), single_flight._calls, single_flight._waiters.total()) == (2000, {}, 0)


def test_a_thread_that_cannot_be_started_fails_its_call_alone(
    make_single_flight: Callable[..., SingleFlight], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call starts a thread again."""
    single_flight = make_single_flight(2)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(Busy):
            fetch(single_flight, lambda deadline: "page")
    assert fetch(single_flight, lambda deadline: "page") == "page"
    assert not single_flight._running


def test_closing_fails_the_calls_that_are_queued(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight(1)
    single_flight.submit("first", Deadline.after(30), gate)
    queued, _ = single_flight.submit("second", Deadline.after(30), gate)
    gate.opened.set()
    single_flight.close()
    assert queued.future.done()


def publishes_first(single_flight: SingleFlight, gate: Gate) -> Callable[[Call], str]:
    """A fetch that hands over its result, and ends when the gate is opened."""

    def run(call: Call) -> str:
        single_flight.publish(call, "early")
        return gate(call)

    return run


def test_a_new_fetch_of_a_key_may_end_before_the_one_that_has_published(
    make_single_flight: Callable[..., SingleFlight], gate: Gate
) -> None:
    single_flight = make_single_flight(2)
    assert fetch(single_flight, publishes_first(single_flight, gate)) == "early"
    assert fetch(single_flight, lambda call: "again") == "again"
    gate.opened.set()
    both = Gate()
    calls = [single_flight.submit(key, Deadline.after(30), both)[0] for key in "ab"]
    assert eventually(lambda: both.under_way == 2)
    both.opened.set()
    assert [call.future.result(30) for call in calls] == ["page"] * 2


def test_a_caller_is_refused_at_once_if_published_fetches_hold_all_places(
    make_single_flight: Callable[..., SingleFlight], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "USUAL_SECONDS", 60)
    single_flight = make_single_flight(1)
    assert fetch(single_flight, publishes_first(single_flight, gate)) == "early"
    with pytest.raises(Busy):
        single_flight.submit("other", Deadline.after(30), lambda call: "page")
