"""Clients that are slow to send, to read or to close, against two gunicorn workers.

Each attack would hold every thread of both workers if a thread waited for it.
"""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from helpers import eventually
from launcher import ROOT
from served import WORKERS, Served, served

from movies.client_socket import READ_AHEAD

pytestmark = pytest.mark.slow

SOCKETS = 300 * WORKERS  # more than there are threads
MAX_WAIT = 8  # seconds; a blocked request would take longer

[script] = (ROOT / "movies" / "assets" / "vendor").glob("redoc-*.js")
SCRIPT = f"/api/schema/assets/{script.name}".encode()  # larger than the buffers of a socket
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    threads = {"GUNICORN_CMD_ARGS": "--threads 256"}  # half as many as usual
    with served(tmp_path_factory.mktemp("served"), **threads) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def silent(app: Served) -> Iterator[socket.socket]:
    """A client that sends half a request before all tests, and nothing more."""
    with socket.create_connection(("127.0.0.1", int(app.url.rpartition(":")[2]))) as client:
        client.settimeout(30)
        client.sendall(LIVE)
        yield client


@contextmanager
def kept_connection(app: Served) -> Iterator[socket.socket]:
    """A client that has got the response to its first request."""
    with socket.create_connection(("127.0.0.1", int(app.url.rpartition(":")[2]))) as client:
        client.settimeout(30)
        client.sendall(LIVE + b"\r\n")
        response = b""
        while not response.endswith(b"}"):
            response += client.recv(65536)
        yield client


@pytest.fixture(scope="module", autouse=True)
def silent_later(app: Served) -> Iterator[socket.socket]:
    """A client that sends a request and half of another, before all tests, and nothing more."""
    with kept_connection(app) as client:
        client.sendall(LIVE)
        yield client


@pytest.fixture(scope="module", autouse=True)
def stalled(app: Served) -> Iterator[socket.socket]:
    """A client that sends half a large body before all tests, and nothing more."""
    with socket.create_connection(("127.0.0.1", int(app.url.rpartition(":")[2]))) as client:
        client.settimeout(30)
        head = b"POST /api/v1/auth/verify/ HTTP/1.1\r\nHost: localhost\r\n"
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        client.sendall(head % (4 * READ_AHEAD) + b" " * (2 * READ_AHEAD))
        yield client


@pytest.fixture(scope="module", autouse=True)
def idle(app: Served) -> Iterator[socket.socket]:
    """A client that sends a request before all tests, and keeps its connection."""
    with kept_connection(app) as client:
        yield client


@pytest.fixture
def connect(app: Served) -> Iterator[Callable[[bytes], socket.socket]]:
    """Opens a connection, sends some bytes and keeps it open until the end of the test."""
    port = int(app.url.rpartition(":")[2])
    with ExitStack() as stack:

        def open_connection(data: bytes) -> socket.socket:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(("127.0.0.1", port))
            client.sendall(data)
            return stack.enter_context(client)

        yield open_connection


def wait_of_others(app: Served) -> float:
    """The longest time that one of 20 requests on new connections takes, in seconds."""
    longest = 0.0
    for _ in range(20):
        began = time.monotonic()
        assert app.ask("GET", "/health/live", timeout=120).ok
        longest = max(longest, time.monotonic() - began)
    return longest


def response_of(client: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of the one response on a connection that the server closes."""
    data = bytearray()
    while chunk := client.recv(65536):
        data += chunk
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(LIVE, id="half a head"),
        pytest.param(
            b"POST /api/v1/auth/token/ HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
            id="half a body",
        ),
        pytest.param(
            b"POST /api/v1/auth/token/ HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
            id="half a chunk",
        ),
        pytest.param(
            b"POST /api/v1/auth/token/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            b"application/json\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n",
            id="a body after 100 Continue",
        ),
        pytest.param(b"GET " + SCRIPT + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a reader"),
    ],
)
def test_slow_clients_delay_nobody(
    app: Served, connect: Callable[[bytes], socket.socket], sent: bytes
) -> None:
    for _ in range(SOCKETS):
        connect(sent)
    assert wait_of_others(app) < MAX_WAIT


def test_clients_that_do_not_close_delay_nobody(
    app: Served, connect: Callable[[bytes], socket.socket]
) -> None:
    for _ in range(40):
        client = connect(LIVE + b"Connection: close\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    assert wait_of_others(app) < MAX_WAIT


def test_a_slow_reader_gets_all_responses_and_delays_nobody(
    app: Served, connect: Callable[[bytes], socket.socket]
) -> None:
    """Twelve responses are more than the operating system takes for a client that does not read."""
    request = b"GET " + SCRIPT + b" HTTP/1.1\r\nHost: localhost\r\n"
    client = connect((request + b"\r\n") * 11 + request + b"Connection: close\r\n\r\n")
    whole = app.ask("GET", SCRIPT.decode(), headers={"Accept-Encoding": "identity"}).content
    assert wait_of_others(app) < MAX_WAIT
    head, rest = response_of(client)
    assert (head + rest).count(b"HTTP/1.1 200 OK") == 12
    assert (head + rest).count(whole) == 12


def test_requests_arrive_byte_by_byte_pipelined_and_after_each_other(
    app: Served, connect: Callable[[bytes], socket.socket]
) -> None:
    request = LIVE + b"\r\n"
    client = connect(b"")
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in request:
        client.sendall(bytes([byte]))
    client.sendall(request + request + LIVE)  # two requests and a half
    client.sendall(b"Connection: close\r\n\r\n")
    head, rest = response_of(client)
    assert (head + rest).count(b"HTTP/1.1 200 OK") == 4


def test_a_body_larger_than_the_read_ahead_is_read(
    app: Served, connect: Callable[[bytes], socket.socket]
) -> None:
    body = json.dumps({"email": "x" * 300_000, "password": "x"}).encode()
    client = connect(
        b"POST /api/v1/auth/token/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    client.sendall(body)
    assert response_of(client)[0].startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"5\r\nabcdeXX", b"0\r\nno trailer\r\n\r\n", b"5;ext=\0\r\nabcde\r\n0\r\n\r\n"],
)
def test_a_body_that_breaks_after_the_response_gets_no_second_response(
    connect: Callable[[bytes], socket.socket], body: bytes
) -> None:
    head, rest = response_of(connect(LIVE + b"Transfer-Encoding: chunked\r\n\r\n" + body))
    assert (head.split()[1], (head + rest).count(b"HTTP/1.1 ")) == (b"200", 1)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 417),
    ],
)
def test_what_is_not_http_is_refused_with_a_problem(
    app: Served, connect: Callable[[bytes], socket.socket], request_line: bytes, status: int
) -> None:
    head, body = response_of(connect(request_line))
    problem = json.loads(body)
    assert (problem["status"], head.split()[1]) == (status, str(status).encode())
    assert b"Content-Type: application/problem+json" in head
    request_id = re.search(rb"X-Request-ID: ([0-9a-f]{32})", head)
    assert request_id
    assert eventually(lambda: f'request_id="{request_id[1].decode()}"' in app.log, within=30)


def test_kept_connections_hold_no_thread(
    app: Served, connect: Callable[[bytes], socket.socket]
) -> None:
    for _ in range(SOCKETS):
        assert connect(LIVE + b"\r\n").recv(12) == b"HTTP/1.1 200"
    assert wait_of_others(app) < MAX_WAIT


def test_a_client_that_sends_half_a_request_gets_408(app: Served, silent: socket.socket) -> None:
    head, body = response_of(silent)
    assert (head.split()[1], json.loads(body)["status"]) == (b"408", 408)
    assert app.metric('http_requests_total{method="other",route="refused",status="408"}') >= 1


def test_a_client_that_sends_half_a_second_request_gets_408(silent_later: socket.socket) -> None:
    """An idle connection would be kept for longer, and closed without a response."""
    head, _ = response_of(silent_later)
    assert head.split()[1] == b"408"


def test_a_client_that_sends_half_a_large_body_gets_400(stalled: socket.socket) -> None:
    head, body = response_of(stalled)
    assert (head.split()[1], json.loads(body)["status"]) == (b"400", 400)


def test_a_connection_that_was_idle_for_ten_seconds_is_still_served(idle: socket.socket) -> None:
    """The tests before this one have waited for that long."""
    idle.sendall(LIVE + b"\r\n")
    assert idle.recv(12) == b"HTTP/1.1 200"
