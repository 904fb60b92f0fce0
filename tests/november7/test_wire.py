"""The transport over real sockets, against each way in which the provider misbehaves."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from requests import Request, Response

from movies.november7.errors import BadResponse, BadStatus, ConnectionFailed, TimedOut, Unavailable
from movies.november7.transport import BoundedHTTPAdapter, Transport
from stand_in.faults import ERROR_PAGE, REFUSAL, TRACEBACK
from stand_in.server import Faults, StandIn

DEADLINE = 0.4
SEED = 54  # of dice that misbehave at the first throw of two
SLACK = 0.5  # seconds by which a busy machine may be late


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport(BoundedHTTPAdapter())
    yield transport
    transport.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a host that never takes a connection: its backlog is full."""
    with ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield "http://127.0.0.1:{1}/".format(*listening.getsockname())


def send(transport: Transport, url: str, timeout: float = DEADLINE) -> Response:
    request = Request("GET", f"{url}movies/", params={"skip": 0, "limit": 5}).prepare()
    return transport.send(request, timeout=timeout)


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("refuse", BadStatus),
        ("error", BadStatus),
        ("reset", ConnectionFailed),
        ("redirect", BadStatus),
        ("truncated", ConnectionFailed),
        ("malformed", BadResponse),
        ("html", BadResponse),
        ("hang", TimedOut),
        ("drip", TimedOut),
        ("drip_headers", TimedOut),
    ],
)
def test_each_misbehaviour_ends_by_the_deadline(
    transport: Transport, stand_in: StandIn, kind: str, failure: type[Unavailable]
) -> None:
    """A provider that does nothing else is given up in time, and none of its words are told."""
    stand_in.faults = Faults(**{kind: 1})  # type: ignore[arg-type]
    begun = time.monotonic()
    with pytest.raises(failure) as raised:
        send(transport, stand_in.url)
    assert time.monotonic() - begun < DEADLINE + SLACK
    assert not any(text.strip() in str(raised.value) for text in (REFUSAL, TRACEBACK, ERROR_PAGE))


@pytest.mark.parametrize(
    "kind",
    [
        *("refuse", "error", "reset", "truncated", "malformed", "html", "short", "redirect"),
        *("hang", "drip", "drip_headers", "bad_movie"),
    ],
)
def test_a_misbehaviour_that_passes_is_absorbed(
    transport: Transport, stand_in: StandIn, kind: str
) -> None:
    """What the second try gets is answered, silence included: a try leaves time for another."""
    stand_in.faults = Faults(seed=SEED, **{kind: 0.5})  # type: ignore[arg-type]
    found = send(transport, stand_in.url, timeout=1).json()
    assert found == json.loads(stand_in.catalogue.answer("GET", "/movies/?limit=5").body)
    assert len(stand_in.requests) == 2


def test_a_refused_connection_is_refused(transport: Transport, stand_in: StandIn) -> None:
    """Where nothing listens that is told by the deadline."""
    stand_in.stop()
    with pytest.raises(ConnectionFailed):
        send(transport, stand_in.url)


def test_a_connection_that_is_never_taken_ends_by_the_deadline(
    transport: Transport, silent: str
) -> None:
    """A host that swallows the attempt to connect doesn't hold us past the deadline."""
    begun = time.monotonic()
    with pytest.raises(TimedOut):
        send(transport, silent)
    assert time.monotonic() - begun < DEADLINE + SLACK


def test_a_slow_redirect_counts_against_the_deadline(
    transport: Transport, stand_in: StandIn
) -> None:
    """Hops of a redirect have one deadline between them."""
    stand_in.faults = Faults(redirect=1, latency=(0.15, 0.15))
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        send(transport, stand_in.url)
    assert time.monotonic() - begun < DEADLINE + SLACK


def test_connections_are_not_leaked(transport: Transport, stand_in: StandIn) -> None:
    """What misbehaves is closed: no request of the past is still under way at the provider."""
    stand_in.faults = Faults(hang=1)
    with pytest.raises(TimedOut):
        send(transport, stand_in.url)
    stand_in.faults = Faults()
    send(transport, stand_in.url, timeout=2)
    end = time.monotonic() + 2
    while stand_in.in_flight and time.monotonic() < end:
        time.sleep(0.005)
    assert stand_in.in_flight == 0
