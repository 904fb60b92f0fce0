"""The stand-in over real sockets: each fault, and starting and stopping."""

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
from helpers import eventually

from stand_in.catalogue import Catalogue
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
    """Sends requests to the stand-in over one connection."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy on the way to this machine

        def ask(target: str = "/movies/", method: str = "GET", **options: Any) -> requests.Response:
            options = {"timeout": 30} | options
            return session.request(method, stand_in.url.rstrip("/") + target, **options)

        yield ask


def connect(stand_in: StandIn) -> socket.socket:
    return socket.create_connection((stand_in.host, stand_in.port), timeout=30)


def send(connection: socket.socket, target: str = "/movies/") -> None:
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())


def pieces(connection: socket.socket) -> list[bytes]:
    """What arrives until the other side closes, in the pieces in which it arrives."""
    return list(iter(lambda: connection.recv(65536), b""))


def exchange(stand_in: StandIn, target: str = "/movies/") -> list[bytes]:
    """The pieces of the answer to one request over a connection of its own."""
    with connect(stand_in) as connection:
        send(connection, target)
        return pieces(connection)


@pytest.mark.parametrize(
    "target", ["/movies/", "/movies/?query=dogs&limit=1", "/movies/?skip=x", "/movies", "/x"]
)
def test_without_faults_it_answers_as_the_catalogue_and_records_the_target(
    stand_in: StandIn, ask: Ask, target: str
) -> None:
    response = ask(target, allow_redirects=False)
    expected = SMALL.answer("GET", target)
    assert (response.status_code, response.content) == (expected.status, expected.body)
    assert dict(response.headers) == expected.headers
    assert stand_in.requests == [target]


def test_one_connection_carries_several_requests(stand_in: StandIn) -> None:
    with closing(HTTPConnection(stand_in.host, stand_in.port, timeout=30)) as connection:
        connection.connect()
        kept = connection.sock
        for method, body, status in [("POST", b"{}", 405), ("HEAD", None, 405), ("GET", None, 200)]:
            connection.request(method, "/movies/", body)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        assert connection.sock is kept


@pytest.mark.slow
def test_hundreds_of_simultaneous_connections_are_answered(stand_in: StandIn) -> None:
    connections = [connect(stand_in) for _ in range(200)]
    for connection in connections:
        send(connection)
    answers = [b"".join(pieces(connection)) for connection in connections]
    for connection in connections:
        connection.close()
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)


# Faults


def test_refusals_have_the_codes_and_the_retry_after_asked_for(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(refuse=1, codes=(401, 429), retry_after="7", seed=1)
    responses = [ask() for _ in range(20)]
    assert {response.status_code for response in responses} == {401, 429}
    assert all(response.headers["Retry-After"] == "7" for response in responses)
    assert all(REFUSAL in response.text for response in responses)


def test_a_share_of_a_quarter_refuses_about_a_quarter(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(refuse=0.25, seed=3)
    codes = [ask().status_code for _ in range(200)]
    assert 30 < sum(code != 200 for code in codes) < 70


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/movies/?skip=x", 422), ("POST", "/movies/", 405), ("GET", "/x", 404)],
)
def test_only_valid_requests_meet_faults(
    stand_in: StandIn, ask: Ask, method: str, target: str, status: int
) -> None:
    stand_in.faults = Faults(reset=1)
    assert ask(target, method).status_code == status


def test_latency_delays_every_answer(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(latency=(0.05, 0.06))
    start = time.monotonic()
    ask("/nowhere")
    assert time.monotonic() - start >= 0.05


def test_a_hanging_request_is_in_flight_until_the_client_closes(
    stand_in: StandIn, ask: Ask
) -> None:
    stand_in.faults = Faults(hang=1)
    with pytest.raises(requests.ReadTimeout):
        ask(timeout=0.05)
    assert eventually(lambda: stand_in.in_flight == 0)
    assert stand_in.most_in_flight == 1


def test_stopping_ends_hanging_requests_without_an_answer(stand_in: StandIn) -> None:
    stand_in.faults = Faults(hang=1)
    with connect(stand_in) as connection:
        send(connection)
        assert eventually(lambda: stand_in.in_flight == 1)
        stand_in.stop()
        assert pieces(connection) == []
    assert stand_in.in_flight == 0


def test_malformed_answers_come_in_six_variants(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(malformed=1, seed=5)
    responses = [ask() for _ in range(50)]
    assert {response.status_code for response in responses} == {200}
    assert len({response.text for response in responses}) == 6


def test_html_comes_with_status_200(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(html=1)
    response = ask()
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "<h1>" in response.text


def test_truncated_answers_end_before_the_announced_length(stand_in: StandIn) -> None:
    stand_in.faults = Faults(truncated=1)
    with closing(HTTPConnection(stand_in.host, stand_in.port, timeout=30)) as connection:
        connection.request("GET", "/movies/")
        response = connection.getresponse()
        with pytest.raises(IncompleteRead) as caught:
            response.read()
    assert SMALL.answer("GET", "/movies/").body.startswith(caught.value.partial)


@pytest.mark.parametrize(
    ("target", "promised"), [("/movies/", 3), ("/movies/?skip=2", 1), ("/movies/?skip=9", 1)]
)
def test_short_pages_have_fewer_movies_than_their_total_promises(
    stand_in: StandIn, ask: Ask, target: str, promised: int
) -> None:
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
@pytest.mark.slow
def test_dripping_answers_arrive_a_byte_at_a_time(stand_in: StandIn, dripping: Faults) -> None:
    stand_in.faults = replace(dripping, drip_interval=0.001)
    arrived = exchange(stand_in)
    head, _, body = b"".join(arrived).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == SMALL.answer("GET", "/movies/").body
    assert len(arrived) > 5
    assert (len(arrived[0]) > 10) == bool(dripping.drip)


def test_reset_connections_are_not_closed_in_order(stand_in: StandIn) -> None:
    stand_in.faults = Faults(reset=1)
    with connect(stand_in) as connection:
        send(connection)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_errors_have_a_text_that_tests_can_look_for(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(error=1)
    response = ask()
    assert (response.status_code, "provider traceback" in response.text) == (500, True)


def test_redirects_lead_to_the_same_target(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(redirect=1)
    with pytest.raises(requests.TooManyRedirects):
        ask("/movies/?query=a%26b")
    assert set(stand_in.requests) == {"/movies/?query=a%26b"}


def test_cookies_are_set_and_refused(stand_in: StandIn, ask: Ask) -> None:
    stand_in.faults = Faults(cookies=True)
    first, second = ask(), ask()
    assert (first.status_code, first.cookies["session"]) == (200, "1")
    assert second.status_code == 400


def test_one_seed_gives_one_sequence_of_faults(stand_in: StandIn, ask: Ask) -> None:

    def sequence(seed: int) -> list[int]:
        stand_in.faults = Faults(refuse=0.5, seed=seed)
        return [ask().status_code for _ in range(30)]

    assert sequence(1) == sequence(1)
    assert sequence(1) != sequence(2)


# Starting, stopping, counting


def test_it_can_be_stopped_and_started_on_the_same_port(stand_in: StandIn, ask: Ask) -> None:
    url = stand_in.url
    assert ask().status_code == 200
    stand_in.stop()
    stand_in.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(stand_in)
    stand_in.start()
    assert stand_in.url == url
    assert ask().status_code == 200


def test_a_port_in_use_is_an_error(stand_in: StandIn) -> None:
    with pytest.raises(OSError, match="in use"):
        StandIn(port=stand_in.port).start()


def test_simultaneous_requests_are_counted_together(stand_in: StandIn) -> None:
    stand_in.faults = Faults(hang=1)
    with ThreadPoolExecutor(5) as pool:
        hanging = [pool.submit(exchange, stand_in) for _ in range(5)]
        assert eventually(lambda: stand_in.in_flight == 5)
        stand_in.stop()
        assert [request.result() for request in hanging] == [[]] * 5
    assert (stand_in.in_flight, stand_in.most_in_flight) == (0, 5)


def test_consecutive_requests_never_count_as_two_in_flight(stand_in: StandIn) -> None:
    """Not even those over a new connection each."""
    for _ in range(50):
        exchange(stand_in)
    assert stand_in.most_in_flight == 1


def test_every_request_is_recorded_once_and_reset_forgets_them(stand_in: StandIn) -> None:
    targets = [f"/movies/?skip={number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda target: exchange(stand_in, target), targets))
    assert sorted(stand_in.requests) == sorted(targets)
    stand_in.reset()
    assert (stand_in.requests, stand_in.most_in_flight) == ([], 0)
