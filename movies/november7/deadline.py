"""Deadlines, and connections that enforce them.

A plain socket timeout starts again with every byte, so a provider that sends slowly could block a
caller indefinitely. Before each read, the connections here set the socket's timeout to the time
that is left until the deadline.
"""

import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import certifi
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from movies.addresses import connect_to_first


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time of the monotonic clock, in seconds."""

    moment: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until the deadline, 0 once it has passed."""
        return max(0.0, self.moment - time.monotonic())


_current: ContextVar[Deadline] = ContextVar("deadline")


@contextmanager
def reading_until(deadline: Deadline) -> Iterator[None]:
    """End every connect and read of this thread on a bounded connection at `deadline`."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


class _BoundedReader(io.RawIOBase):
    """The reading end of a socket; raises TimeoutError once the deadline has passed."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = _current.get().left()
        if not left:
            raise TimeoutError("the deadline has passed")
        self._sock.settimeout(left)
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedSocket:
    """A connected socket whose `makefile` does not read past the deadline."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, *_args: Any, **_kwargs: Any) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._sock))


def _open_socket(host: str, port: int, timeout: float) -> socket.socket:
    """A blocking socket that is connected to the first address of `host` that answers.

    `timeout`: seconds for all addresses together. Raises TimeoutError, or another OSError if no
    address can be connected to.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    connected = connect_to_first(addresses, timeout)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _start_tls(connected: socket.socket, host: str) -> ssl.SSLSocket:
    """TLS over `connected`, with the certificate verified. Closes the socket if that fails."""
    try:
        return tls_context().wrap_socket(connected, server_hostname=host)
    except BaseException:
        connected.close()
        raise


@cache
def tls_context() -> ssl.SSLContext:
    """Verifies certificates against the root certificates of certifi."""
    return ssl.create_default_context(cafile=certifi.where())


class _BoundedHTTPConnection(HTTPConnection):
    def connect(self) -> None:
        with _connecting(self) as seconds:
            self.sock = _BoundedSocket(_open_socket(self.host, self.port, seconds))


class _BoundedHTTPSConnection(HTTPSConnection):
    def connect(self) -> None:
        with _connecting(self) as seconds:
            connected = _open_socket(self.host, self.port or 443, seconds)
            self.sock = _BoundedSocket(_start_tls(connected, self.host))
        self.is_verified = True  # without it urllib3 warns of an unverified connection


@contextmanager
def _connecting(connection: HTTPConnection) -> Iterator[float]:
    """Seconds until the deadline; a timeout in the block is raised as urllib3's own."""
    try:
        yield _current.get().left()
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, "no connection within the deadline") from error


class BoundedHTTPConnectionPool(HTTPConnectionPool):
    """Connections that end at the deadline of `reading_until`."""

    ConnectionCls = _BoundedHTTPConnection


class BoundedHTTPSConnectionPool(HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _BoundedHTTPSConnection
