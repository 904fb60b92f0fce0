"""Work in the background: refreshes of stale blocks, and probes while November 7 is down.

The thread starts when a stale block is served or the breaker opens, and ends when nothing is left
to do. It uses at most half the bulkhead: searches that wait come first.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal

from movies.november7.blocks import BlockKey
from movies.november7.breaker import Breaker
from movies.november7.errors import Unavailable
from movies.november7.singleflight import Call

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two rounds, unless something happens before
MAX_PENDING = 1000  # blocks, at most, that wait for their refresh
MAX_FAILURES = 3  # failed refreshes of one block that are retried while November 7 is up


class BackgroundRefresher:
    """Refreshes the stale blocks that are served, and probes a provider that is down.

    If November 7 is down, a failed refresh is retried when it is back. Otherwise it is retried up
    to MAX_FAILURES times; after that, the next search that serves the block schedules it again.
    `probe` submits a request that is sent even while the breaker is open; `refresh` submits the
    refresh of a block. At most `concurrency` of them run at once.
    """

    def __init__(
        self,
        breaker: Breaker,
        *,
        probe: Callable[[], Call],
        refresh: Callable[[BlockKey], Call],
        concurrency: int,
    ) -> None:
        self._breaker = breaker
        self._probe = probe
        self._refresh = refresh
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None  # None while nothing is left to do
        self._wake = threading.Event()
        self._pending: dict[BlockKey, int] = {}  # with the number of failed refreshes
        self._running: dict[object, Future[Any]] = {}

    def begin(self) -> None:
        """Start the thread unless it is running."""
        with self._lock:
            if self._thread is not None or self._closed:
                return
            thread = threading.Thread(target=self._run, name="november7-refresher", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:  # the next search that finds work tries again
                self._thread = None
                log.exception("the background refresher could not be started")

    def schedule(self, key: BlockKey) -> Literal["scheduled", "failing", "postponed"]:
        """Have a stale block refreshed as soon as there is room.

        Returns `failing` if November 7 is down, `postponed` if too many blocks wait.
        """
        with self._lock:
            if key not in self._pending and len(self._pending) < MAX_PENDING:
                self._pending[key] = 0
            is_pending = key in self._pending
        self.begin()
        if self._breaker.is_open:
            return "failing"
        self._wake.set()
        return "scheduled" if is_pending else "postponed"

    def failed(self, key: BlockKey) -> None:
        """Count a failed refresh, unless it failed because November 7 is down."""
        with self._lock:
            failures = self._pending.pop(key, 0) + (not self._breaker.is_open)
            if failures <= MAX_FAILURES and len(self._pending) < MAX_PENDING:
                self._pending[key] = failures
        self.begin()

    def done(self, key: BlockKey) -> None:
        """Forget a block that is fresh."""
        with self._lock:
            self._pending.pop(key, None)

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait(INTERVAL)
            self._wake.clear()
            with self._lock:
                pending = list(self._pending)
                if self._closed or (not pending and not self._breaker.is_open):
                    self._thread = None
                    return
            try:
                self._submit(pending)
            except Unavailable:  # no room: in the next round
                continue
            except Exception:  # a bug must not end probes and refreshes
                log.exception("a round of the background refresher failed")

    def _submit(self, pending: list[BlockKey]) -> None:
        running = self._running
        self._running = {name: future for name, future in running.items() if not future.done()}
        if self._breaker.is_open:
            if not self._breaker.pause_left:
                self._start(object(), self._probe)
            return
        for key in pending:
            self._start(key, partial(self._refresh, key))

    def _start(self, name: object, submit: Callable[[], Call]) -> None:
        if name not in self._running and len(self._running) < self._concurrency:
            future = submit().future
            self._running[name] = future
            future.add_done_callback(self._finished)

    def _finished(self, future: Future[Any]) -> None:
        """Start the next round at once after a success: the breaker may have closed."""
        error = future.exception()
        if error is None:
            self._wake.set()
        elif not isinstance(error, Unavailable):
            log.error("a background fetch failed unexpectedly", exc_info=error)
