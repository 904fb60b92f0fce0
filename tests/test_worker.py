"""The worker's main loop, on real sockets."""

import selectors
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import gthread
from gunicorn.workers.gthread import TConn

from movies import worker as worker_module
from movies.client_socket import ClientSocket
from movies.worker import Worker

SIZE = 4 * 2**20  # bytes, more than the buffers of a socket


@pytest.fixture
def worker() -> Iterator[Worker]:
    config = Config()
    worker = Worker(1, 0, [], BaseApplication, 30, config, Logger(config))
    with selectors.DefaultSelector() as worker.poller:
        yield worker
    worker.tmp.close()


def test_a_connection_is_closed_only_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One event of a batch closes a connection that has a later event in the same batch."""
    monkeypatch.setattr(worker_module, "MAX_UNSENT", SIZE)
    finished: Future[Any] = Future()
    finished.set_result(False)
    with ExitStack() as stack:

        def connect() -> tuple[TConn, socket.socket]:
            """A connection whose response the client has not read, and the client."""
            server, client = map(stack.enter_context, socket.socketpair())
            connection = TConn(worker.cfg, stack.enter_context(ClientSocket(server)), None, None)
            connection.sock.sendall(bytes(SIZE))
            connection.sock.flush()
            worker.nr_conns += 1
            return connection, client

        first, client = connect()
        worker.finish_request(first, finished)
        client.recv(SIZE)
        [(key, _)] = worker.poller.select(30)  # the first connection can be written to
        second, _ = connect()
        worker.finish_request(second, finished)
        assert (first.sock.fileno(), worker.nr_conns) == (-1, 1)
        key.data(key.fileobj)
        assert worker.nr_conns == 1


@contextmanager
def asking(worker: Worker, wsgi: Callable[..., Any], request: bytes) -> Iterator[socket.socket]:
    """A client whose request `wsgi` answers on a thread of the worker."""
    worker.wsgi = wsgi
    server, client = socket.socketpair()
    with client, ClientSocket(server) as accepted, ThreadPoolExecutor(1) as pool:
        client.settimeout(30)
        client.sendall(request)
        connection = TConn(worker.cfg, accepted, ("127.0.0.1", 1), ("127.0.0.1", 2))
        connection.data_ready = accepted.fill()
        pool.submit(worker.handle, connection)
        yield client
        client.close()  # ends the request


class Broken:
    """A body of two bytes that raises an exception before its end, or when it is closed."""

    def __init__(self, *, before_end: bool) -> None:
        self._before_end = before_end

    def __iter__(self) -> Iterator[bytes]:
        yield b"ok"
        if self._before_end:
            raise ValueError

    def close(self) -> None:
        raise ValueError


@pytest.mark.parametrize("before_end", [True, False])
def test_what_was_written_before_an_exception_is_sent(worker: Worker, before_end: bool) -> None:
    def wsgi(_environ: Any, start_response: Any) -> Broken:
        start_response("200 OK", [("Content-Length", "2")])
        return Broken(before_end=before_end)

    with asking(worker, wsgi, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
        received = b""
        while not received.endswith(b"ok"):
            data = client.recv(65536)
            assert data, received
            received += data
    assert received.startswith(b"HTTP/1.1 200 OK")


def test_a_response_does_not_wait_for_a_body_that_was_not_read(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gthread, "DEFAULT_WORKER_DATA_TIMEOUT", 60)

    def wsgi(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("401 Unauthorized", [("Content-Length", "0")])
        return []

    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    with asking(worker, wsgi, head + b"Expect: 100-continue\r\n\r\n") as client:
        received = b""
        while b"HTTP/1.1 401" not in received:
            received += client.recv(65536)
