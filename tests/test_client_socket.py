"""The buffers of a client's connection, on a real pair of sockets."""

import socket
from collections.abc import Iterator

import pytest

from movies import client_socket
from movies.client_socket import READ_AHEAD, ClientSocket

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    """The server's end, which does not block, and the client's."""
    accepted, client = socket.socketpair()
    with ClientSocket(accepted) as server, client:
        server.setblocking(False)
        client.settimeout(30)
        yield server, client


@pytest.mark.parametrize(
    ("sent", "is_whole"),
    [
        (b"", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (POST + b"content-length: 3\r\n\r\nab", False),
        (POST + b"content-length: 3\r\n\r\nabc", True),
        (POST + b"Content-Length:\t3 \r\n\r\nabc", True),
        (POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", True),
        (POST + b"Content-Length: x\r\n\r\n", True),  # gunicorn refuses it
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", False),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", False),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\n0\r\n\r\n0\r\n\r\n", True),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: x\r\n\r\n", True),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", True),  # gunicorn refuses it
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX", True),  # likewise
    ],
)
def test_a_whole_request_is_recognized(
    pair: tuple[ClientSocket, socket.socket], sent: bytes, is_whole: bool
) -> None:
    server, client = pair
    client.sendall(sent)
    assert server.fill() is is_whole
    assert server.has_begun is bool(sent)


def test_a_thread_takes_over_once_the_buffer_is_full(
    pair: tuple[ClientSocket, socket.socket],
) -> None:
    server, client = pair
    client.sendall(POST + b"Content-Length: 100000\r\n\r\n")
    assert not server.fill()
    client.sendall(b"x" * READ_AHEAD)
    assert server.fill()


def test_what_was_read_ahead_comes_first(pair: tuple[ClientSocket, socket.socket]) -> None:
    server, client = pair
    client.sendall(b"abcdef")
    server.fill()
    client.sendall(b"gh")
    server.setblocking(True)
    assert [server.recv(4), server.recv(4), server.recv(4)] == [b"abcd", b"ef", b"gh"]


def test_a_thread_does_not_wait_longer_than_the_timeout(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = pair
    monkeypatch.setattr(client_socket, "REQUEST_TIMEOUT", 0.1)
    client.sendall(b"x")
    server.fill()
    server.setblocking(True)
    server.recv(1)
    with pytest.raises(OSError):  # noqa: PT011  a timeout of either kind
        server.recv(1)
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_sending_does_not_wait_for_the_reader(pair: tuple[ClientSocket, socket.socket]) -> None:
    server, client = pair
    parts = [bytes([number]) * 1_000_000 for number in range(5)]
    server.setblocking(True)
    for part in parts:
        server.sendall(part)
    assert not server.flush()
    received = b""
    while len(received) < 5_000_000:
        received += client.recv(65536)
        server.flush()
    assert received == b"".join(parts)
    assert (server.unsent, server.flush()) == (0, True)


def test_the_head_and_the_body_of_a_response_are_sent_together(
    pair: tuple[ClientSocket, socket.socket],
) -> None:
    server, client = pair
    client.setblocking(False)
    server.sendall(b"head")
    server.sendall(b"body")
    with pytest.raises(BlockingIOError):
        client.recv(8)
    server.flush()
    assert client.recv(8) == b"headbody"
