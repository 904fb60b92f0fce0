"""Deadlines, and connections whose reads end at them."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from requests import PreparedRequest, Request, Timeout
from urllib3.exceptions import ReadTimeoutError

from movies.november7 import deadline
from movies.november7.deadline import Deadline, reading_until
from movies.november7.transport import BoundedHTTPAdapter
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

LIMIT = 30  # seconds; much longer than the deadlines here, much shorter than a slow answer


@pytest.fixture
def wire() -> Iterator[BoundedHTTPAdapter]:
    adapter = BoundedHTTPAdapter()
    yield adapter
    adapter.close()


def request(stand_in: StandIn, limit: int = 1) -> PreparedRequest:
    return Request("GET", f"{stand_in.url}movies/", params={"skip": 0, "limit": limit}).prepare()


def read(wire: BoundedHTTPAdapter, stand_in: StandIn, seconds: float) -> bytes:
    """The body of one request, with `seconds` until the deadline."""
    with reading_until(Deadline.after(seconds)):
        response = wire.send(request(stand_in), stream=True, timeout=seconds)
        try:
            body: bytes = response.raw.read()
            return body
        finally:
            response.close()


def test_a_deadline_knows_the_time_left() -> None:
    assert 9 < Deadline.after(10).left() <= 10


def test_the_time_left_is_never_negative() -> None:
    assert Deadline(time.monotonic() - 5).left() == 0


def test_an_answer_in_time_is_read_whole(wire: BoundedHTTPAdapter, stand_in: StandIn) -> None:
    assert read(wire, stand_in, 10) == stand_in.catalogue.answer("GET", "/movies/?limit=1").body


def test_a_connection_is_kept_for_the_next_request(
    wire: BoundedHTTPAdapter, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline of one request does not end the next."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(deadline, "time", clock)
    read(wire, stand_in, LIMIT)
    clock.now += 2 * LIMIT
    read(wire, stand_in, LIMIT)
    pools = wire.poolmanager.pools
    (pool,) = (pools[key] for key in pools.keys())  # noqa: SIM118  it isn't iterable
    assert (pool.num_requests, pool.num_connections) == (2, 1)


@pytest.mark.parametrize("kind", ["drip_headers", "hang", "drip"])
def test_a_slow_answer_ends_at_the_deadline(
    wire: BoundedHTTPAdapter, stand_in: StandIn, kind: str
) -> None:
    """Each byte arrives well within a socket timeout, all of them would take minutes."""
    stand_in.faults = Faults(**{kind: 1}, drip_interval=0.4)  # type: ignore[arg-type]
    started = time.monotonic()
    with pytest.raises((Timeout, ReadTimeoutError)):
        read(wire, stand_in, 0.6)
    assert time.monotonic() - started < LIMIT


def test_each_read_may_take_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(deadline, "time", clock)
    ours, theirs = socket.socketpair()
    reader = deadline._BoundedSocket(ours).makefile("rb")
    with ours, theirs, reader, reading_until(Deadline.after(10)):
        theirs.send(b"a")
        assert (reader.read1(1), ours.gettimeout()) == (b"a", 10)
        clock.now += 9.5
        theirs.send(b"b")
        assert (reader.read1(1), ours.gettimeout()) == (b"b", 0.5)
        clock.now += 0.5
        with pytest.raises(TimeoutError):
            reader.read1(1)


def test_every_thread_has_its_own_deadline(wire: BoundedHTTPAdapter, stand_in: StandIn) -> None:
    stand_in.faults = Faults(latency=(0.3, 0.3))
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(read, wire, stand_in, LIMIT)
        with pytest.raises(Timeout):
            pool.submit(read, wire, stand_in, 0.1).result()
        assert long.result()


def test_the_outer_deadline_counts_again_after_an_inner_one(
    wire: BoundedHTTPAdapter, stand_in: StandIn
) -> None:
    with reading_until(Deadline.after(10)):
        with reading_until(Deadline.after(0)):
            pass
        response = wire.send(request(stand_in), stream=True, timeout=10)
        assert response.raw.read()
        response.close()
