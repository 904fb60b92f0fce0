"""What happens in the background: refreshes of stale pages, and probes while November 7 is down.

A process begins this when a stale page is served or its breaker opens, and ends it when nothing is
left to do. At most half the bulkhead is used for it: searches that wait come first.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from movies.november7.breaker import Breaker
from movies.november7.errors import Unavailable
from movies.november7.session import PageKey
from movies.november7.singleflight import Call

INTERVAL = 2.0  # seconds between two looks, unless there is a reason for one
MAX_PENDING = 1000  # pages, at most, whose refresh is remembered
ATTEMPTS = 3  # refreshes of one page that may fail while the provider answers others


class BackgroundRefresher:
    """Refreshes the stale pages that are served, and probes a provider that is down.

    A page whose refresh fails is tried again when the provider is back, if it is down, and else
    ATTEMPTS times; after that the next search that serves the page begins anew. `probe` starts a
    request that is sent whatever the breaker says; `refresh` starts the refresh of a page. At most
    `at_once` of them are under way.
    """

    def __init__(
        self,
        breaker: Breaker,
        *,
        probe: Callable[[], Call],
        refresh: Callable[[PageKey], Call],
        at_once: int,
    ) -> None:
        self._breaker = breaker
        self._probe = probe
        self._refresh = refresh
        self._at_once = at_once
        self._lock = threading.Lock()
        self._running = self._closed = False
        self._thread: threading.Thread | None = None
        self._awake = threading.Event()
        self._pending: dict[PageKey, int] = {}  # with how often the refresh has failed since
        self._under_way: dict[object, Future[Any]] = {}

    def begin(self) -> None:
        """Look after the provider from now on, unless that is being done."""
        with self._lock:
            if self._running or self._closed:
                return
            self._running = True
            self._thread = threading.Thread(
                target=self._run, name="november7-recovery", daemon=True
            )
            self._thread.start()

    def schedule(self, page: PageKey) -> bool:
        """Have a stale page refreshed, as soon as there is room; whether that is under way."""
        with self._lock:
            if page not in self._pending and len(self._pending) < MAX_PENDING:
                self._pending[page] = 0
            is_wanted = page in self._pending
        if not self._breaker.is_open:
            self._awake.set()
        self.begin()
        return is_wanted and not self._breaker.is_open

    def failed(self, page: PageKey) -> None:
        """Count a failed refresh; one that failed because the provider is down doesn't count."""
        with self._lock:
            failures = self._pending.pop(page, 0) + (not self._breaker.is_open)
            if failures <= ATTEMPTS and len(self._pending) < MAX_PENDING:
                self._pending[page] = failures
        self.begin()

    def done(self, page: PageKey) -> None:
        """Forget a page: it is fresh."""
        with self._lock:
            self._pending.pop(page, None)

    def close(self) -> None:
        """Look after nothing any more."""
        with self._lock:
            self._closed = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._awake.wait(INTERVAL)
            self._awake.clear()
            with self._lock:
                self._under_way = {
                    name: landing for name, landing in self._under_way.items() if not landing.done()
                }
                owed = list(self._pending)
                if self._closed or (not owed and not self._breaker.is_open):
                    self._running = False
                    return
            try:
                if self._breaker.is_open and not self._breaker.hold_left:
                    self._start(object(), self._probe)
                for page in owed if not self._breaker.is_open else ():
                    self._start(page, partial(self._refresh, page))
            except Unavailable:  # no room: at the next look
                continue

    def _start(self, name: object, begin: Callable[[], Call]) -> None:
        if name not in self._under_way and len(self._under_way) < self._at_once:
            landing = begin().future
            self._under_way[name] = landing
            landing.add_done_callback(self._landed)

    def _landed(self, landing: Future[Any]) -> None:
        """Look again at once after a success: the breaker may have closed, a place is free."""
        if landing.exception() is None:
            self._awake.set()
