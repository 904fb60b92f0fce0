"""When the circuit breaker is open."""

from types import SimpleNamespace

import pytest
from helpers import counted

from movies.november7.breaker import FAILURES, Breaker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The breaker's clock: it stands at `now` seconds."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("movies.november7.breaker.time", clock)
    return clock


def failed(times: int) -> Breaker:
    """A breaker after this many failures in a row."""
    breaker = Breaker()
    for _ in range(times):
        breaker.failed()
    return breaker


def test_a_new_breaker_is_closed() -> None:
    assert not Breaker().is_open


def test_too_few_failures_leave_it_closed() -> None:
    assert not failed(FAILURES - 1).is_open


def test_failures_in_a_row_open_it() -> None:
    assert failed(FAILURES).is_open


def test_a_success_resets_the_count() -> None:
    breaker = failed(FAILURES - 1)
    breaker.succeeded()
    breaker.failed()
    assert not breaker.is_open


def test_one_success_closes_it_after_any_number_of_failures() -> None:
    breaker = failed(FAILURES * 2)
    breaker.succeeded()
    assert not breaker.is_open


def test_a_pause_opens_it_at_once() -> None:
    breaker = Breaker()
    breaker.pause(60)
    assert breaker.is_open
    assert 59 < breaker.pause_left <= 60


def test_a_success_during_a_pause_does_not_close_it(clock: SimpleNamespace) -> None:
    """A request that was sent before the pause may be answered during it."""
    breaker = Breaker()
    breaker.pause(60)
    clock.now += 59
    breaker.succeeded()
    assert breaker.is_open
    clock.now += 1
    breaker.succeeded()
    assert (breaker.is_open, breaker.pause_left) == (False, 0)


def test_a_shorter_pause_does_not_replace_a_longer_one(clock: SimpleNamespace) -> None:
    breaker = Breaker()
    breaker.pause(60)
    breaker.pause(1)
    assert breaker.pause_left == 60


def test_its_state_is_a_metric(clock: SimpleNamespace) -> None:
    breaker = failed(FAILURES)
    opened = counted("november7_breaker_open")
    breaker.succeeded()
    closed = counted("november7_breaker_open")
    breaker.pause(1)
    assert (opened, closed, counted("november7_breaker_open")) == (1, 0, 1)
