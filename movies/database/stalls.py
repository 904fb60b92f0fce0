"""Ends the wait for a PostgreSQL server that has stopped responding.

The server enforces `statement_timeout` itself, unless it is stalled, as on a full disk or a stopped
virtual machine. libpq waits without a limit then. So one thread of each process shuts down the
sockets whose deadline has passed, which ends the wait.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from typing import ParamSpec, TypeVar

import psycopg

from movies.database.outages import ServerStalled

INTERVAL = 0.25  # seconds between two looks at the deadlines

P = ParamSpec("P")
T = TypeVar("T")

_deadlines: dict["psycopg.Connection[object]", float] = {}  # of the monotonic clock
_lock = Lock()  # held while a thread is started or a socket is shut down
_watcher = Thread()


def start_watching() -> None:
    """Have a thread watch the deadlines of this process. Raises psycopg.OperationalError."""
    global _watcher  # noqa: PLW0603  a process that was forked needs a thread of its own
    with _lock:
        if not _watcher.is_alive():
            watcher = Thread(target=_watch, name="stalled-servers", daemon=True)
            try:
                watcher.start()
            except RuntimeError as error:
                raise psycopg.OperationalError(str(error)) from error
            _watcher = watcher


def within(
    seconds: float | None,
    connection: "psycopg.Connection[object]",
    call: Callable[P, T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """The result of a call that waits for the server; None as `seconds` waits for ever.

    Raises ServerStalled, and closes the connection, if the server takes longer.
    """
    if seconds is None:
        return call(*args, **kwargs)
    _deadlines[connection] = time.monotonic() + seconds
    try:
        return call(*args, **kwargs)
    finally:
        if _deadlines.pop(connection, None) is None:
            with _lock:  # the socket is no longer in use by the other thread
                connection.close()
            raise ServerStalled("the server does not respond") from None


def _watch() -> None:
    while True:
        time.sleep(INTERVAL)
        now = time.monotonic()
        for connection, deadline in _deadlines.copy().items():
            if deadline < now:
                with _lock:
                    if _deadlines.pop(connection, None) is not None:
                        _shut_down(connection)


def _shut_down(connection: "psycopg.Connection[object]") -> None:
    with (
        suppress(OSError, psycopg.OperationalError),  # it is closed already
        socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
    ):
        duplicate.shutdown(socket.SHUT_RDWR)
