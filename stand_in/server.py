"""The HTTP server of the stand-in."""

import socket
import struct
import sys
import threading
from contextlib import ExitStack, suppress
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self

from movies.november7.sample.catalogue import sample_movies
from stand_in.catalogue import Answer, Catalogue
from stand_in.faults import Faults, apply_fault, with_cookie

__all__ = ["Faults", "StandIn"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        stand_in = self.server.stand_in
        length = self.headers.get("Content-Length", "")
        self.rfile.read(int(length) if length.isdecimal() else 0)
        with ExitStack() as under_way:
            stand_in._arrive(self.path, dict(self.headers))
            under_way.callback(stand_in._leave)
            faults = stand_in.faults
            fault = faults.draw()
            answer = stand_in.catalogue.answer(self.command, self.path)
            if answer.status != 200:
                fault = fault._replace(kind=None)
            answer = apply_fault(answer, fault, faults, self.path)
            if faults.cookies:
                answer = with_cookie(answer, self.headers.get("Cookie"))
            if self.server.stopping.wait(fault.latency):
                self.close_connection = True
                return
            self.log_request(fault.kind or answer.status)
            self._send(answer, fault.kind, faults.drip_interval, under_way)

    do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = do_GET

    def _send(
        self, answer: Answer, kind: str | None, interval: float, under_way: ExitStack
    ) -> None:
        """Send `answer` according to the kind of fault.

        The request stops counting as in flight before its last byte is sent, because a client may
        send the next request as soon as it has received that byte.
        """
        lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        body = b"" if self.command == "HEAD" else answer.body
        slow, rest = b"", head + body
        match kind:
            case "hang":
                return self._hang()
            case "reset":
                under_way.close()
                return self._reset()
            case "truncated":
                rest = head + body[: len(body) // 2]
                self.close_connection = True
            case "drip":
                self.connection.sendall(head)
                slow, rest = body[:-1], body[-1:]
            case "drip_headers":
                slow, rest = head, body
        for number in slow:
            self.connection.sendall(bytes([number]))
            if self.server.stopping.wait(interval):
                self.close_connection = True
                return
        under_way.close()
        self.connection.sendall(rest)

    def _hang(self) -> None:
        """Wait until the client or the server closes the connection."""
        self.close_connection = True
        while self.connection.recv(1024):
            pass

    def _reset(self) -> None:
        """Close without lingering and without a shutdown, so that the client gets RST."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.stand_in.verbose:
            super().log_message(format, *args)


class _Server(ThreadingHTTPServer):
    """A thread for each connection, all of which end with `stop`."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, stand_in: "StandIn", address: tuple[str, int]) -> None:
        self.stand_in = stand_in
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own would ask the resolver for a host name

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        super().close_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # clients that leave are no error
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """Close the listening socket and every connection; wait for them for 5 s at most."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, timeout=5)


class StandIn:
    """A server that imitates November 7 on a local port. Use it as a context manager.

    Assign `faults` to change the faults of the next requests. `requests` lists the targets
    received, and `headers` the headers of each request.
    """

    def __init__(
        self,
        catalogue: Catalogue | None = None,
        faults: Faults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        verbose: bool = False,
    ) -> None:
        self.catalogue = catalogue or Catalogue(sample_movies())
        self.faults = faults or Faults()
        self.host = host
        self.port = port
        self.verbose = verbose
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self.in_flight = 0
        self.reset()

    @property
    def url(self) -> str:
        """The root URL, with its slash. Port 0 is replaced by a free one at the first start."""
        return f"http://{self.host}:{self.port}/"

    def reset(self) -> None:
        """Forget the requests received so far, and the highest number in flight."""
        with self._lock:
            self.requests: list[str] = []
            self.headers: list[dict[str, str]] = []
            self.most_in_flight = self.in_flight

    def start(self) -> None:
        """Listen, and answer in the background. Raises OSError if the port is in use."""
        server = _Server(self, (self.host, self.port))
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        self._server = server

    def stop(self) -> None:
        """Close all connections and refuse new ones, until `start` is called again."""
        if self._server:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _arrive(self, target: str, headers: dict[str, str]) -> None:
        with self._lock:
            self.requests.append(target)
            self.headers.append(headers)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _leave(self) -> None:
        with self._lock:
            self.in_flight -= 1
