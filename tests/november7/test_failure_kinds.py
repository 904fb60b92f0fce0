"""The attributes of each kind of failure."""

import pytest

from movies.november7.errors import (
    BadResponse,
    BadStatus,
    Busy,
    ConnectionFailed,
    InvalidRequest,
    TimedOut,
    Unavailable,
)

KINDS: list[type[Unavailable]] = Unavailable.__subclasses__()


def test_every_kind_has_its_own_outcome() -> None:
    outcomes = [Unavailable.outcome, *(kind.outcome for kind in KINDS)]
    assert len(set(outcomes)) == len(outcomes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_found_by_its_outcome(kind: type[Unavailable]) -> None:
    assert Unavailable.kind(kind.outcome) is kind


def test_an_unknown_outcome_is_unavailable() -> None:
    """Another release that shares the Redis may have further kinds."""
    assert Unavailable.kind("from_the_future") is Unavailable


def test_only_failures_that_may_pass_are_retried() -> None:
    retried = {kind for kind in KINDS if kind.max_tries > 1}
    assert retried == {TimedOut, ConnectionFailed, BadStatus, BadResponse}
    assert {Busy, InvalidRequest}.isdisjoint(retried)
