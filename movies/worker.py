"""The gunicorn worker: threads run the application, and the main loop waits for clients.

In gunicorn's own threaded worker, a client that sends or reads slowly occupies a thread, and one
that does not close its connection blocks the main loop for two seconds. Here the main loop reads a
request before a thread gets it, sends the rest of a response after the thread is done, and closes
connections without waiting. Each of these has a timeout.

Built on the methods and attributes of ThreadWorker without a leading underscore; TLS and HTTP/2
are left to the load balancer. tests/test_slow_clients.py notices if gunicorn changes.
"""

import errno
import mmap
import selectors
import socket
import time
from array import array
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn, ThreadWorker

from movies.client_socket import REQUEST_TIMEOUT, ClientSocket
from movies.logs import configure_logging, request_id
from movies.refusals import ErrorPage, refuse

LINGER_TIMEOUT = 2.0  # seconds to wait for a client to close after the last response
# A client has SEND_TIMEOUT seconds to read a response, and a second more for each SEND_RATE bytes.
SEND_TIMEOUT = 30.0
SEND_RATE = 10 * 1024
MAX_UNSENT = 64 * 1024 * 1024  # bytes of responses that wait for slow readers, per worker
MAX_LEFT = REQUEST_TIMEOUT - 1.0  # seconds left to a client that has waited at least one second
# Bytes to discard while a connection closes. If it were reset sooner, a client that sends its whole
# body first might not get the response.
MAX_DRAIN = 4 * 1024 * 1024
HEAD_START = 0.001  # seconds in which workers with fewer connections may accept a new one

# How many connections each accepting worker has, in memory that all workers share.
NO_WORKER = 2**31 - 1
connection_counts = memoryview(mmap.mmap(-1, 1024)).cast("i")
connection_counts[:] = array("i", [NO_WORKER] * len(connection_counts))


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A threaded worker whose threads never wait for a slow client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sending: dict[TConn, None] = {}  # oldest first
        self._lingering: dict[TConn, int] = {}  # bytes drained, oldest first
        self._next_sweep = 0.0
        self._has_threads = False

    def set_accept_enabled(self, enabled: bool) -> None:
        """While stopping, accept the queued connections, which would otherwise be reset."""
        super().set_accept_enabled(enabled)
        self._publish_count()
        while self.sockets and not self.alive:
            listener = self.sockets.pop()
            known = -1
            while known < self.nr_conns:
                known = self.nr_conns
                self.accept(listener)
            listener.close()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and wait for its first request on the main loop.

        Clients keep connections open, so one worker must not accept most of them while the others
        are idle.
        """
        if self.alive and self.nr_conns > min(connection_counts) + 1:
            time.sleep(HEAD_START)
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
        self._publish_count()
        server, port = _plain(accepted.getsockname())
        server = f"[{server}]" if ":" in server else server  # RFC 3875 section 4.1.14
        conn = TConn(self.cfg, ClientSocket(accepted), _plain(address), (server, port))
        self._await_request(conn)

    def on_pending_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Read what has arrived; give the connection to a thread once its request is complete."""
        if conn.sock.fill():
            super().on_pending_socket_readable(conn, client)

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Read what has arrived; give the connection to a thread once its request is complete."""
        if conn.sock.fileno() < 0:  # closed by an event of the same batch
            return
        if conn.sock.fill():
            super().on_client_socket_readable(conn, client)
        elif conn.sock.has_begun:  # it is no longer idle
            self.poller.unregister(client)
            self.keepalived_conns.remove(conn)
            self._await_request(conn)

    def enqueue_req(self, conn: TConn) -> None:
        """Have a thread answer the request. If no more threads can be started, it waits for one."""
        done: Future[Any] = Future()
        done.add_done_callback(lambda _: self.method_queue.defer(self.finish_request, conn, done))

        def answer() -> None:
            try:
                done.set_result(self.handle(conn))
            except BaseException as error:  # noqa: BLE001  finish_request closes the connection
                done.set_exception(error)

        try:
            self.tpool.submit(answer)
            self._has_threads = True
        except RuntimeError as error:  # the existing threads will take the request from their queue
            if not self._has_threads:
                raise
            self.log.error("no thread could be started for a request: %s", error)

    def handle(self, conn: TConn) -> Any:
        """Answer one request, on a thread."""
        conn.sock.is_answered = False
        return super().handle(conn)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer one request; close the connection after one that was not buffered completely.

        The response is sent before gunicorn waits for the rest of a body that was not read.
        gunicorn discards only the first 64 KiB of a body that the application did not read, and
        then closes the connection. The client has to know before it sends another request.
        """
        if not conn.sock.is_whole:
            req.force_close()
        try:
            return super().handle_request(req, conn)
        finally:
            with suppress(OSError):  # the client has left; finish_request closes the connection
                conn.sock.flush()

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
            elif conn.sock.has_begun:
                self._await_request(conn)
            else:
                super().finish_request(conn, fs)
        except (OSError, ValueError):  # closed already, by the client or by gunicorn
            self._close(conn)

    def murder_pending(self) -> None:
        """Close the connections that timed out; send 408 to those that sent part of a request."""
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout < now:
            conn = self.pending_conns.popleft()
            if not conn.sock.has_begun:
                self._close(conn)
                continue
            self.poller.unregister(conn.sock)
            request_id.set(uuid4().hex)
            refuse(conn.sock, HTTPStatus.REQUEST_TIMEOUT)
            self._linger(conn)
        if self.nr_conns >= self.worker_connections:
            self._make_room(now)
        self._publish_count()
        if now < self._next_sweep:
            return
        self._next_sweep = now + 0.5
        for conn in [*self._sending, *self._lingering]:
            if conn.timeout < now:
                self._close(conn)

    def handle_error(self, req: Any, client: ClientSocket, addr: Any, exc: Exception) -> None:
        """Respond with a problem to what gunicorn refuses. gunicorn chooses the status and logs."""
        if client.is_answered:  # the rest of the body is broken: no second response
            self.log.debug("a request was broken after its response: %s", exc)
            return
        was_parsed = req is not None
        if not was_parsed:
            request_id.set(uuid4().hex)
        page = ErrorPage()
        super().handle_error(req, page, addr, exc)
        refuse(client, page.status, is_counted=was_parsed)

    def _publish_count(self) -> None:
        count = self.nr_conns if self.alive else NO_WORKER
        connection_counts[self.age % len(connection_counts)] = count

    def _await_request(self, conn: TConn) -> None:
        """Wait on the main loop until the client has sent a complete request."""
        conn.timeout = time.monotonic() + REQUEST_TIMEOUT
        self.pending_conns.append(conn)
        self._watch(conn, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _watch(self, conn: TConn, events: int, callback: Any) -> None:
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, events, callback)

    def _on_writable(self, conn: TConn, fs: "Future[Any]", client: socket.socket) -> None:
        if conn.sock.fileno() < 0:  # closed by an event of the same batch
            return
        try:
            if not conn.sock.flush():
                return
        except OSError:
            self._close(conn)
            return
        self.poller.unregister(client)
        del self._sending[conn]
        self.finish_request(conn, fs)

    def _make_room(self, now: float) -> None:
        """Close a tenth of all connections, so that new clients do not have to wait.

        First those that have sent no whole request for a second, then those that are kept alive.
        """
        room = self.worker_connections // 10
        while room and self.pending_conns and self.pending_conns[0].timeout < now + MAX_LEFT:
            self._close(self.pending_conns.popleft())
            room -= 1
        while room and self.keepalived_conns:
            self._close(self.keepalived_conns.popleft())
            room -= 1

    def _limit_unsent(self) -> None:
        """Close the oldest connections of slow readers if too much data is waiting to be sent."""
        while sum(conn.sock.unsent for conn in self._sending) > MAX_UNSENT:
            self._close(next(iter(self._sending)))

    def _linger(self, conn: TConn) -> None:
        """Close in two steps, so that the client gets the end of the response (RFC 9112, 9.6)."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # closed already, by the client or by gunicorn
            self._close(conn)
            return
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


def forget_worker(age: int) -> None:
    """Mark the slot of a worker that has ended as free."""
    connection_counts[age % len(connection_counts)] = NO_WORKER


class ServerLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Formats gunicorn's log lines like all others, unless gunicorn is told to write elsewhere."""

    def setup(self, cfg: Any) -> None:
        """Configure logging, at the start and whenever the configuration is read again."""
        super().setup(cfg)
        if cfg.errorlog == "-":
            configure_logging()
            self.error_log.handlers.clear()
            self.error_log.propagate = True


def _plain(address: tuple[Any, ...] | str) -> tuple[str, int]:
    """Host and port of a socket's address. IPv4 addresses are written as such on IPv6 sockets."""
    if isinstance(address, str):  # a Unix socket has neither
        return "localhost", 80
    return address[0].removeprefix("::ffff:"), address[1]
