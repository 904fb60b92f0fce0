"""November 7's stand-in over the wire: good faults, every kind, starting and stopping."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection, IncompleteRead
from typing import Any
from uuid import uuid4

import pytest
import requests

from movies.november7.sample.catalogue import Catalogue
from stand_in.faults import REFUSAL
from stand_in.server import Faults, StandIn

Ask = Callable[..., requests.Response]

TITLES = ("Straße", "Cats & Dogs", "Reservoir Dogs")
SMALL = Catalogue([{"id": str(uuid4()), "title": title} for title in TITLES])


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn(SMALL) as running:
        yield running


@pytest.fixture
def ask(stand_in: StandIn) -> Iterator[Ask]:
    """Sends a request to the stand-in, whose connection is kept for the next."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy on the way to this machine

        def ask(target: str = "/movies/", method: str = "GET", **options: Any) -> requests.Response:
            options = {"timeout": 2} | options
            return session.request(method, stand_in.url.rstrip("/") + target, **options)

        yield ask


def connect(stand_in: StandIn) -> socket.socket:
    return socket.create_connection((stand_in.host, stand_in.port), timeout=2)


def send(connection: socket.socket, target: str = "/movies/") -> None:
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())


def pieces(connection: socket.socket) -> list[bytes]:
    """What arrives until the other side closes, as it arrives."""
    return list(iter(lambda: connection.recv(65536), b""))


def exchange(stand_in: StandIn, target: str = "/movies/") -> list[bytes]:
    """The pieces of the answer to one request over a connection of its own."""
    with connect(stand_in) as connection:
        send(connection, target)
        return pieces(connection)


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition` came true within two seconds."""
    end = time.monotonic() + 2
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()


@pytest.mark.parametrize(
    "target", ["/movies/", "/movies/?query=dogs&limit=1", "/movies/?skip=x", "/movies", "/x"]
)
def test_stand_in_answers_as_the_catalogue(stand_in: StandIn, ask: Ask, target: str) -> None:
    """Well-behaved, the stand-in sends what the catalogue answers and notes the target."""
    response = ask(target, allow_redirects=False)
    expected = SMALL.answer("GET", target)
    assert (response.status_code, response.content) == (expected.status, expected.body)
    assert dict(response.headers) == expected.headers
    assert stand_in.requests == [target]


def test_connections_are_kept(stand_in: StandIn) -> None:
    """One connection carries several requests, bodies and bodiless answers among them."""
    with closing(HTTPConnection(stand_in.host, stand_in.port, timeout=2)) as connection:
        connection.connect()
        kept = connection.sock
        for method, body, status in [("POST", b"{}", 405), ("HEAD", None, 405), ("GET", None, 200)]:
            connection.request(method, "/movies/", body)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        assert connection.sock is kept


def test_hundreds_of_connections_at_once(stand_in: StandIn) -> None:
    """Two hundred clients that connect before any of them asks are all answered."""
    connections = [connect(stand_in) for _ in range(200)]
    for connection in connections:
        send(connection)
    answers = [b"".join(pieces(connection)) for connection in connections]
    for connection in connections:
        connection.close()
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)


# Misbehaviour


def test_refusals(stand_in: StandIn, ask: Ask) -> None:
    """Refusals carry every code asked for, the Retry-After, and a text to look out for."""
    stand_in.faults = Faults(refuse=1, codes=(401, 429), retry_after="7", seed=1)
    responses = [ask() for _ in range(20)]
    assert {response.status_code for response in responses} == {401, 429}
    assert all(response.headers["Retry-After"] == "7" for response in responses)
    assert all(REFUSAL in response.text for response in responses)


def test_share_of_refusals(stand_in: StandIn, ask: Ask) -> None:
    """A share of a quarter refuses about a quarter of the requests."""
    stand_in.faults = Faults(refuse=0.25, seed=3)
    codes = [ask().status_code for _ in range(200)]
    assert 30 < sum(code != 200 for code in codes) < 70


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/movies/?skip=x", 422), ("POST", "/movies/", 405), ("GET", "/x", 404)],
)
def test_only_valid_requests_meet_misbehaviour(
    stand_in: StandIn, ask: Ask, method: str, target: str, status: int
) -> None:
    """What is wrong with a request is told whatever the faults."""
    stand_in.faults = Faults(reset=1)
    assert ask(target, method).status_code == status


def test_latency(stand_in: StandIn, ask: Ask) -> None:
    """An answer takes at least the least latency."""
    stand_in.faults = Faults(latency=(0.05, 0.06))
    start = time.monotonic()
    ask("/nowhere")
    assert 0.05 <= time.monotonic() - start < 1


def test_hang_lasts_until_the_client_gives_up(stand_in: StandIn, ask: Ask) -> None:
    """A request that hangs is in flight until the client closes, and then no more."""
    stand_in.faults = Faults(hang=1)
    with pytest.raises(requests.ReadTimeout):
        ask(timeout=0.05)
    assert eventually(lambda: stand_in.in_flight == 0)
    assert stand_in.most_in_flight == 1


def test_hang_ends_with_the_server(stand_in: StandIn) -> None:
    """Stopping lets go of the clients that hang, without an answer."""
    stand_in.faults = Faults(hang=1)
    with connect(stand_in) as connection:
        send(connection)
        assert eventually(lambda: stand_in.in_flight == 1)
        stand_in.stop()
        assert pieces(connection) == []
    assert stand_in.in_flight == 0


def test_malformed(stand_in: StandIn, ask: Ask) -> None:
    """Malformed answers are 200, and come in all their variants."""
    stand_in.faults = Faults(malformed=1, seed=5)
    responses = [ask() for _ in range(50)]
    assert {response.status_code for response in responses} == {200}
    assert len({response.text for response in responses}) == 6


def test_html(stand_in: StandIn, ask: Ask) -> None:
    """An HTML page comes with status 200."""
    stand_in.faults = Faults(html=1)
    response = ask()
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "<h1>" in response.text


def test_truncated(stand_in: StandIn) -> None:
    """The connection closes before the announced length is reached."""
    stand_in.faults = Faults(truncated=1)
    with closing(HTTPConnection(stand_in.host, stand_in.port, timeout=2)) as connection:
        connection.request("GET", "/movies/")
        response = connection.getresponse()
        with pytest.raises(IncompleteRead) as caught:
            response.read()
    assert SMALL.answer("GET", "/movies/").body.startswith(caught.value.partial)


@pytest.mark.parametrize(
    ("target", "promised"), [("/movies/", 3), ("/movies/?skip=2", 1), ("/movies/?skip=9", 1)]
)
def test_short(stand_in: StandIn, ask: Ask, target: str, promised: int) -> None:
    """A short page holds fewer movies than its total promises."""
    stand_in.faults = Faults(short=1)
    answer = ask(target).json()
    assert len(answer["items"]) == promised - 1
    assert answer["total"] > (9 if "9" in target else 2)


def test_a_bad_movie_is_one_of_the_page(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(bad_movie=1, seed=5)
    answers = [ask().json() for _ in range(50)]
    good = json.loads(SMALL.answer("GET", "/movies/").body)
    assert all(answer["items"][1:] == good["items"][1:] for answer in answers)
    assert all(answer["items"][0] != good["items"][0] for answer in answers)
    assert len({str(answer) for answer in answers}) == 6


@pytest.mark.parametrize("dripping", [Faults(drip=1), Faults(drip_headers=1)])
def test_drip(stand_in: StandIn, dripping: Faults) -> None:
    """The right answer comes a byte at a time, in its body or in its headers."""
    stand_in.faults = replace(dripping, drip_interval=0.001)
    arrived = exchange(stand_in)
    head, _, body = b"".join(arrived).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == SMALL.answer("GET", "/movies/").body
    assert len(arrived) > 5
    assert (len(arrived[0]) > 10) == bool(dripping.drip)


def test_reset(stand_in: StandIn) -> None:
    """The connection is reset, not closed in order."""
    stand_in.faults = Faults(reset=1)
    with connect(stand_in) as connection:
        send(connection)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_error(stand_in: StandIn, ask: Ask) -> None:
    """A 500 holds a text that can be looked for where it mustn't be."""
    stand_in.faults = Faults(error=1)
    response = ask()
    assert (response.status_code, "provider traceback" in response.text) == (500, True)


def test_redirect(stand_in: StandIn, ask: Ask) -> None:
    """A redirect leads to the very same target, so that whoever follows it never ends."""
    stand_in.faults = Faults(redirect=1)
    with pytest.raises(requests.TooManyRedirects):
        ask("/movies/?query=a%26b")
    assert set(stand_in.requests) == {"/movies/?query=a%26b"}


def test_cookies_are_set_and_refused(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(cookies=True)
    first, second = ask(), ask()
    assert (first.status_code, first.cookies["session"]) == (200, "1")
    assert second.status_code == 400


def test_seed_repeats_the_sequence(stand_in: StandIn, ask: Ask) -> None:
    """The same seed gives the same codes in the same order, another seed others."""

    def sequence(seed: int) -> list[int]:
        stand_in.faults = Faults(refuse=0.5, seed=seed)
        return [ask().status_code for _ in range(30)]

    assert sequence(1) == sequence(1)
    assert sequence(1) != sequence(2)


# Starting, stopping, counting


def test_stop_and_start_on_the_same_port(stand_in: StandIn, ask: Ask) -> None:
    """Stopped, it refuses connections; started again, it answers under the same URL."""
    url = stand_in.url
    assert ask().status_code == 200
    stand_in.stop()
    stand_in.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(stand_in)
    stand_in.start()
    assert stand_in.url == url
    assert ask().status_code == 200


def test_port_that_is_taken(stand_in: StandIn) -> None:
    """A second stand-in on the same port says so instead of sharing it."""
    with pytest.raises(OSError, match="in use"):
        StandIn(port=stand_in.port).start()


def test_most_in_flight(stand_in: StandIn) -> None:
    """Requests that are waiting at the same time are counted together."""
    stand_in.faults = Faults(latency=(0.2, 0.2))
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(exchange, [stand_in] * 5))
    assert (stand_in.in_flight, stand_in.most_in_flight) == (0, 5)


def test_one_at_a_time_is_one_in_flight(stand_in: StandIn) -> None:
    """A client that asks again at once, over a new connection, never counts as two."""
    for _ in range(50):
        exchange(stand_in)
    assert stand_in.most_in_flight == 1


def test_requests_are_all_noted_and_forgotten(stand_in: StandIn) -> None:
    """Every request of many threads is noted once; `reset` forgets them."""
    targets = [f"/movies/?skip={number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda target: exchange(stand_in, target), targets))
    assert sorted(stand_in.requests) == sorted(targets)
    stand_in.reset()
    assert (stand_in.requests, stand_in.most_in_flight) == ([], 0)
