"""A client's connection with a buffer in each direction."""

import errno
import re
import socket
import threading
import time
from contextlib import suppress
from typing import Any

REQUEST_TIMEOUT = 10.0  # seconds for a client to send a request
READ_AHEAD = 64 * 1024  # bytes of a request that the main loop reads before a thread takes over
SLOW_SENDERS = 64  # threads that may wait for the rest of a request larger than READ_AHEAD

_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,18})[ \t]*\r?$")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:")
_EXPECT = re.compile(rb"(?im)^expect:")


class ClientSocket(socket.socket):
    """A client's connection with a buffer in each direction.

    The main loop calls `fill`, which never blocks. Threads call `recv`, which waits at most
    REQUEST_TIMEOUT in all for what `fill` has not read. `sendall` only fills the buffer that
    `flush` sends, so the head and the body of a response are sent together. Neither blocks.
    """

    _slow = threading.BoundedSemaphore(SLOW_SENDERS)

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(fileno=accepted.detach())
        self.is_answered = False  # whether a response to the current request has begun
        self.is_whole = True  # whether `fill` has read the whole request
        self._received = bytearray()
        self._outgoing = bytearray()
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
        self.is_whole = self.has_request
        return not data or self.is_whole or len(self._received) >= READ_AHEAD

    @property
    def has_request(self) -> bool:
        """Whether a whole request seems to have been read. gunicorn's parser decides."""
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        if _EXPECT.search(head):
            return True
        if _CHUNKED.search(head):
            return _has_last_chunk(body)
        length = _LENGTH.search(head)
        return not length or len(body) >= int(length[1])

    @property
    def has_begun(self) -> bool:
        """Whether a part of a request has been read."""
        return bool(self._received)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return up to `size` bytes. Raises OSError if the client takes too long."""
        if self._received:
            data = bytes(self._received[:size])
            del self._received[:size]
            return data
        left = self._deadline - time.monotonic()
        if left <= 0 or not self._slow.acquire(blocking=False):
            raise ConnectionResetError(errno.ECONNRESET, "the client sends too slowly")
        timeout = self.gettimeout()
        try:
            self.settimeout(left if timeout is None else min(left, timeout))
            return super().recv(size, flags)
        finally:
            self._slow.release()
            self.settimeout(timeout)

    @property
    def unsent(self) -> int:
        """The number of bytes that are left for `flush`."""
        return len(self._outgoing)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Keep data for `flush`."""
        self.is_answered = True
        self._outgoing += data

    def flush(self) -> bool:
        """Send what the client takes now; return whether nothing is left."""
        while self._outgoing:
            try:
                sent = self.send(self._outgoing, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            del self._outgoing[:sent]
        return True

    def shutdown(self, how: int) -> None:
        """Send what the client takes now, then shut down: gunicorn does so after an error."""
        with suppress(OSError):
            self.flush()
        super().shutdown(how)

    def drain(self) -> int:
        """Discard what has arrived; return the number of bytes, 0 at the end of the connection."""
        return len(super().recv(READ_AHEAD))


def _has_last_chunk(body: bytes | bytearray) -> bool:
    """Whether a chunked body is complete, or contains a malformed chunk (RFC 9112 section 7)."""
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        try:
            size = int(body[at:end].partition(b";")[0], 16)
        except ValueError:
            return True
        if size == 0:
            return body.find(b"\r\n\r\n", at) >= 0
        at = end + 2 + size + 2
        if body[at - 2 : at] not in (b"", b"\r", b"\r\n"):
            return True
    return len(body) - at > 1000  # a chunk-size line is never this long
