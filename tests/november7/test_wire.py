"""The transport over real sockets, with each fault of the provider."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from helpers import eventually
from requests import Request, Response

from movies.november7.errors import BadResponse, BadStatus, ConnectionFailed, TimedOut, Unavailable
from movies.november7.transport import BoundedHTTPAdapter, Transport
from stand_in.faults import ERROR_PAGE, REFUSAL, TRACEBACK
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

DEADLINE = 0.5
SEED = 54  # with it, of two requests at a share of 0.5 the first meets the fault
LIMIT = 30  # seconds; much longer than the deadlines here, much shorter than a slow answer


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport(BoundedHTTPAdapter(), sleep=lambda seconds: None)
    yield transport
    transport.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a host that never accepts a connection: its backlog is full."""
    with ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield "http://127.0.0.1:{1}/".format(*listening.getsockname())


def send(transport: Transport, url: str, timeout: float = LIMIT) -> Response:
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
    ],
)
def test_a_permanent_fault_raises_its_exception_and_does_not_quote_the_provider(
    transport: Transport, stand_in: StandIn, kind: str, failure: type[Unavailable]
) -> None:
    stand_in.faults = Faults(**{kind: 1})  # type: ignore[arg-type]
    with pytest.raises(failure) as raised:
        send(transport, stand_in.url)
    assert not any(text.strip() in str(raised.value) for text in (REFUSAL, TRACEBACK, ERROR_PAGE))


@pytest.mark.parametrize("kind", ["hang", "drip", "drip_headers"])
def test_a_provider_that_is_too_slow_is_given_up_at_the_deadline(
    transport: Transport, stand_in: StandIn, kind: str
) -> None:
    stand_in.faults = Faults(**{kind: 1}, drip_interval=0.3)  # type: ignore[arg-type]
    started = time.monotonic()
    with pytest.raises(TimedOut):
        send(transport, stand_in.url, timeout=DEADLINE)
    assert time.monotonic() - started < LIMIT


@pytest.mark.parametrize(
    "kind",
    [
        *("refuse", "error", "reset", "truncated", "malformed", "html", "short", "redirect"),
        *("hang", "drip", "drip_headers", "bad_movie"),
    ],
)
def test_a_temporary_fault_is_retried(
    transport: Transport, stand_in: StandIn, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that gets no answer leaves time for another."""
    monkeypatch.setattr("movies.november7.transport.TRY_SHARE", DEADLINE / LIMIT)
    stand_in.faults = Faults(seed=SEED, **{kind: 0.5})  # type: ignore[arg-type]
    found = send(transport, stand_in.url).json()
    assert found == json.loads(stand_in.catalogue.answer("GET", "/movies/?limit=5").body)
    assert len(stand_in.requests) >= 2


def test_a_connection_that_is_refused_has_its_kind(transport: Transport, stand_in: StandIn) -> None:
    stand_in.stop()
    with pytest.raises(ConnectionFailed):
        send(transport, stand_in.url)


def test_a_connection_that_is_never_accepted_ends_at_the_deadline(
    transport: Transport, silent: str
) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOut):
        send(transport, silent, timeout=DEADLINE)
    assert time.monotonic() - started < LIMIT


def test_all_hops_of_a_redirect_have_one_deadline(transport: Transport, stand_in: StandIn) -> None:
    """One hop is in time, two are not."""
    stand_in.faults = Faults(redirect=1, latency=(0.3, 0.3))
    with pytest.raises(TimedOut):
        send(transport, stand_in.url, timeout=DEADLINE)


def test_failed_connections_are_closed(transport: Transport, stand_in: StandIn) -> None:
    stand_in.faults = Faults(hang=1)
    with pytest.raises(TimedOut):
        send(transport, stand_in.url, timeout=DEADLINE)
    stand_in.faults = Faults()
    send(transport, stand_in.url)
    assert eventually(lambda: stand_in.in_flight == 0, within=LIMIT)
