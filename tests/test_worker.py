"""The worker's main loop, on real sockets."""

import selectors
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger
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
