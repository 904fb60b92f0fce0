"""The gunicorn worker: threads run the application, the main loop does all waiting for clients.

gunicorn's own threaded worker lets clients hold its threads: one that sends or reads slowly keeps
a thread for as long as it likes, and one that keeps a closed connection open stops the main loop
for two seconds. Here the main loop reads a request before a thread gets it, sends what the client
has not read yet after the thread is done, and closes without waiting. Each of these has a time-out.

Built on the methods and attributes of ThreadWorker without a leading underscore; TLS and HTTP/2
are left to the load balancer. tests/test_slow_clients.py notices if gunicorn changes.
"""

import errno
import json
import re
import selectors
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from gunicorn.workers.gthread import TConn, ThreadWorker

from movies.logs import request_id

REQUEST_TIMEOUT = 10.0  # seconds for a client to send a request
LINGER_TIMEOUT = 2.0  # seconds to wait for a client to close after the last response
SEND_TIMEOUT = 30.0  # seconds for a client to read a response, and more for a large one:
SEND_RATE = 10 * 1024  # bytes per second that a client has to read at least
READ_AHEAD = 64 * 1024  # bytes of a request that the main loop reads before a thread takes over
MAX_UNSENT = 64 * 1024 * 1024  # bytes of responses that wait for slow readers, per worker
MAX_DRAIN = 64 * 1024  # bytes read and thrown away while a connection closes
SLOW_SENDERS = 64  # threads that may wait for the rest of a request larger than READ_AHEAD

_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,18})[ \t]*\r?$")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:")
_EXPECT = re.compile(rb"(?im)^expect:")


class ClientSocket(socket.socket):
    """A client's connection with a buffer in each direction.

    The main loop calls `fill` and `flush`, which never block. Threads call `recv`, which waits at
    most REQUEST_TIMEOUT in all for what `fill` has not read, and `sendall`, which never waits.
    """

    _slow = threading.BoundedSemaphore(SLOW_SENDERS)

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(fileno=accepted.detach())
        self.unsent = 0  # bytes
        self._received = bytearray()
        self._outgoing: deque[memoryview] = deque()
        self._deadline = 0.0

    def fill(self) -> bool:
        """Read what has arrived and return whether a thread should take over."""
        try:
            data = super().recv(READ_AHEAD)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # the thread will find the connection closed
        self._received += data
        self._deadline = time.monotonic() + REQUEST_TIMEOUT
        return not data or len(self._received) >= READ_AHEAD or self.has_request

    @property
    def has_request(self) -> bool:
        """Whether a whole request seems to have been read. gunicorn's parser has the last word."""
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        if length := _LENGTH.search(head):
            return len(body) >= int(length[1]) or bool(_EXPECT.search(head))
        return not _CHUNKED.search(head) or body.endswith(b"0\r\n\r\n")

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return up to `size` bytes. Raises TimeoutError if the client takes too long."""
        if self._received:
            data = bytes(self._received[:size])
            del self._received[:size]
            return data
        left = self._deadline - time.monotonic()
        if left <= 0 or not self._slow.acquire(blocking=False):
            raise TimeoutError("the client sends too slowly")
        timeout = self.gettimeout()
        try:
            self.settimeout(left if timeout is None else min(left, timeout))
            return super().recv(size, flags)
        finally:
            self._slow.release()
            self.settimeout(timeout)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send what the client takes now and keep the rest for `flush`."""
        view = memoryview(data).cast("B")
        if not self.unsent:
            view = view[self._send(view) :]
        if view:
            self._outgoing.append(view)
            self.unsent += len(view)

    def flush(self) -> bool:
        """Send what the client takes now; return whether nothing is left."""
        while self._outgoing:
            view = self._outgoing.popleft()
            sent = self._send(view)
            self.unsent -= sent
            if sent < len(view):
                self._outgoing.appendleft(view[sent:])
                return False
        return True

    def drain(self) -> int:
        """Read and throw away what has arrived; return how many bytes, 0 at the end."""
        return len(super().recv(READ_AHEAD))

    def _send(self, view: memoryview) -> int:
        try:
            return super().send(view, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A threaded worker whose threads never wait for a slow client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sending: dict[TConn, None] = {}  # oldest first
        self._lingering: dict[TConn, int] = {}  # bytes drained, oldest first
        self._next_sweep = 0.0

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and wait for its first request on the main loop."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self.log.error("no file descriptor is left for a new connection")
                self.murder_keepalived(force=True)
                time.sleep(0.05)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, ClientSocket(accepted), address, listener.getsockname())
        conn.timeout = time.monotonic() + REQUEST_TIMEOUT
        self.pending_conns.append(conn)
        self._watch(conn, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Read on; give a new connection to a thread once its request is there."""
        if conn.sock.fill():
            super().on_pending_socket_readable(conn, client)

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Read on; give a kept-alive connection to a thread once its next request is there."""
        if conn.sock.fill():
            super().on_client_socket_readable(conn, client)

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """Send what is unsent, then keep the connection or close it, without blocking."""
        try:
            if conn.sock.unsent:
                now = time.monotonic()
                conn.timeout = now + SEND_TIMEOUT + conn.sock.unsent / SEND_RATE
                self._sending[conn] = None
                self._watch(conn, selectors.EVENT_WRITE, partial(self._on_writable, conn, fs))
                self._limit_unsent()
            elif fs.cancelled() or fs.exception() or not fs.result():
                self._linger(conn)
            elif conn.sock.has_request:  # pipelined: no event will announce it
                self.enqueue_req(conn)
            else:
                super().finish_request(conn, fs)
        except (OSError, ValueError):  # closed already, by the client or by gunicorn
            self._close(conn)

    def murder_pending(self) -> None:
        """Close the connections whose time is up."""
        super().murder_pending()
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + 0.5
        for conn in [*self._sending, *self._lingering]:
            if conn.timeout < now:
                self._close(conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what gunicorn refuses with a problem. gunicorn chooses the status and logs."""
        if req is None or request_id.get() is None:  # it never reached the application
            request_id.set(uuid4().hex)
        refusal = _Refusal()
        super().handle_error(req, refusal, addr, exc)
        with suppress(OSError):  # the client has left
            client.sendall(refusal.as_problem(request_id.get() or ""))

    def _watch(self, conn: TConn, events: int, callback: Any) -> None:
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, events, callback)

    def _on_writable(self, conn: TConn, fs: "Future[Any]", client: socket.socket) -> None:
        try:
            if not conn.sock.flush():
                return
        except OSError:
            self._close(conn)
            return
        self.poller.unregister(client)
        del self._sending[conn]
        self.finish_request(conn, fs)

    def _limit_unsent(self) -> None:
        """Close the connections that have been reading longest if too much waits for readers."""
        while sum(conn.sock.unsent for conn in self._sending) > MAX_UNSENT:
            self._close(next(iter(self._sending)))

    def _linger(self, conn: TConn) -> None:
        """Close in two steps: closing at once could cost the client the end of the response.

        RFC 9112 section 9.6.
        """
        conn.sock.shutdown(socket.SHUT_WR)
        conn.timeout = time.monotonic() + LINGER_TIMEOUT
        self._lingering[conn] = 0
        self._watch(conn, selectors.EVENT_READ, partial(self._on_lingering, conn))

    def _on_lingering(self, conn: TConn, _client: socket.socket) -> None:
        try:
            drained = conn.sock.drain()
        except OSError:
            drained = 0
        self._lingering[conn] += drained
        if not drained or self._lingering[conn] > MAX_DRAIN:
            self._close(conn)

    def _close(self, conn: TConn) -> None:
        self._sending.pop(conn, None)
        self._lingering.pop(conn, None)
        with suppress(KeyError, ValueError):  # it may not be registered
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()


class _Refusal:
    """Takes the place of the client's socket while gunicorn writes its HTML page for an error."""

    def __init__(self) -> None:
        self._page = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self._page += data

    def as_problem(self, request: str) -> bytes:
        """The same refusal as an HTTP response of application/problem+json."""
        status = HTTPStatus(int(self._page.split(b" ", 2)[1]))
        detail = (
            "An unexpected error occurred. It has been logged."
            if status >= 500
            else "The request is not valid HTTP, or exceeds a limit of the server."
        )
        problem = {"type": "about:blank", "title": status.phrase, "status": status}
        body = json.dumps({**problem, "detail": detail}).encode()
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "Connection: close",
            "Content-Type: application/problem+json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            f"X-Request-ID: {request}",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body
