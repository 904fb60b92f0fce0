"""Deadlines, and connections on which nothing outlives them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from requests import PreparedRequest, Request, Timeout
from urllib3.exceptions import ReadTimeoutError

from movies.november7.deadline import Deadline, reading_until
from movies.november7.transport import BoundedHTTPAdapter
from stand_in.server import Faults, StandIn

SLACK = 0.5  # seconds by which a busy machine may be late


@pytest.fixture
def wire() -> Iterator[BoundedHTTPAdapter]:
    adapter = BoundedHTTPAdapter()
    yield adapter
    adapter.close()


def request(stand_in: StandIn, limit: int = 1) -> PreparedRequest:
    return Request("GET", f"{stand_in.url}movies/", params={"skip": 0, "limit": limit}).prepare()


def read(wire: BoundedHTTPAdapter, stand_in: StandIn, seconds: float) -> bytes:
    """The body of one request of which everything is read by the deadline."""
    with reading_until(Deadline.after(seconds)):
        response = wire.send(request(stand_in), stream=True, timeout=seconds)
        try:
            body: bytes = response.raw.read()
            return body
        finally:
            response.close()


def test_a_deadline_tells_what_is_left() -> None:
    """What is left is no more than was given, and not much less a moment later."""
    assert 9 < Deadline.after(10).left() <= 10


def test_nothing_is_left_of_a_deadline_that_has_passed() -> None:
    """Time past the deadline doesn't count: it's never negative."""
    assert Deadline(time.monotonic() - 5).left() == 0


def test_an_answer_in_time_is_read_whole(wire: BoundedHTTPAdapter, stand_in: StandIn) -> None:
    """The bounds change nothing about an answer that comes in time."""
    assert read(wire, stand_in, 2) == stand_in.catalogue.answer("GET", "/movies/?limit=1").body


def test_a_connection_is_kept_for_the_next_request(
    wire: BoundedHTTPAdapter, stand_in: StandIn
) -> None:
    """Deadlines end reads, not connections: the next deadline is the next request's own."""
    read(wire, stand_in, 0.3)
    stand_in.faults = Faults(latency=(0.4, 0.4))
    read(wire, stand_in, 2)
    pools = wire.poolmanager.pools
    (pool,) = (pools[key] for key in pools.keys())  # noqa: SIM118  it isn't iterable
    assert (pool.num_requests, pool.num_connections) == (2, 1)


@pytest.mark.parametrize("kind", ["drip_headers", "hang"])
def test_headers_end_at_the_deadline(
    wire: BoundedHTTPAdapter, stand_in: StandIn, kind: str
) -> None:
    """Headers that drip, a byte well within any socket time-out, don't outlive the deadline."""
    stand_in.faults = Faults(**{kind: 1}, drip_interval=0.02)  # type: ignore[arg-type]
    begun = time.monotonic()
    with pytest.raises(Timeout):
        read(wire, stand_in, 0.2)
    assert time.monotonic() - begun < 0.2 + SLACK


def test_a_body_ends_at_the_deadline(wire: BoundedHTTPAdapter, stand_in: StandIn) -> None:
    """Nor does a body that drips."""
    stand_in.faults = Faults(drip=1, drip_interval=0.02)
    begun = time.monotonic()
    with pytest.raises(ReadTimeoutError):
        read(wire, stand_in, 0.2)
    assert time.monotonic() - begun < 0.2 + SLACK


def test_a_byte_just_before_the_deadline_buys_no_time(
    wire: BoundedHTTPAdapter, stand_in: StandIn
) -> None:
    """What a byte that comes late leaves of the deadline is all that the next one has."""
    stand_in.faults = Faults(drip=1, drip_interval=0.9)
    begun = time.monotonic()
    with pytest.raises(ReadTimeoutError):
        read(wire, stand_in, 1)
    assert time.monotonic() - begun < 1 + SLACK


def test_every_thread_has_its_own_deadline(wire: BoundedHTTPAdapter, stand_in: StandIn) -> None:
    """A thread whose deadline passes doesn't end the reads of another."""
    stand_in.faults = Faults(latency=(0.3, 0.3))
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(read, wire, stand_in, 3)
        with pytest.raises(Timeout):
            pool.submit(read, wire, stand_in, 0.1).result()
        assert long.result()


def test_an_inner_deadline_gives_way_to_the_outer_one(
    wire: BoundedHTTPAdapter, stand_in: StandIn
) -> None:
    """After an inner block whose deadline has passed, the outer one counts again."""
    with reading_until(Deadline.after(2)):
        with reading_until(Deadline.after(0)):
            pass
        response = wire.send(request(stand_in), stream=True, timeout=2)
        assert response.raw.read()
        response.close()
