"""What happens in the background while November 7 fails: probes, and refreshes that are owed.

A process begins this when its breaker opens or a stale page could not be refreshed, and ends it
when nothing is left to do, so a process whose provider is well has no such thread.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from movies.november7.breaker import Breaker
from movies.november7.errors import Unavailable
from movies.november7.flights import Flight
from movies.november7.session import Wanted

INTERVAL = 2.0  # seconds between two looks
OWED = 100  # pages, at most, whose refresh is remembered
ATTEMPTS = 3  # refreshes of one page that may fail while the provider answers others


class Recovery:
    """Probes a provider that is down, and refreshes the stale pages served meanwhile.

    `probe` starts a request that is sent whatever the breaker says; `refresh` starts the refresh
    of a page. At most `at_once` of them are under way.
    """

    def __init__(
        self,
        breaker: Breaker,
        *,
        probe: Callable[[], Flight],
        refresh: Callable[[Wanted], Flight],
        at_once: int,
    ) -> None:
        self._breaker = breaker
        self._probe = probe
        self._refresh = refresh
        self._at_once = at_once
        self._lock = threading.Lock()
        self._running = self._closed = False
        self._awake = threading.Event()
        self._owed: dict[Wanted, int] = {}  # with how often the refresh has failed since
        self._under_way: list[Future[Any]] = []

    def begin(self) -> None:
        """Look after the provider from now on, unless that is being done."""
        with self._lock:
            if self._running or self._closed:
                return
            self._running = True
        threading.Thread(target=self._run, name="november7-recovery", daemon=True).start()

    def owe(self, page: Wanted) -> None:
        """Remember that a stale page waits for a refresh."""
        with self._lock:
            failures = self._owed.pop(page, 0) + (not self._breaker.is_open)
            if failures <= ATTEMPTS and len(self._owed) < OWED:
                self._owed[page] = failures
        self.begin()

    def paid(self, page: Wanted) -> None:
        """Forget a page: it is fresh."""
        with self._lock:
            self._owed.pop(page, None)

    def close(self) -> None:
        """Look after nothing any more."""
        self._closed = True
        self._awake.set()

    def _run(self) -> None:
        while True:
            self._awake.wait(INTERVAL)
            self._awake.clear()
            with self._lock:
                self._under_way = [landing for landing in self._under_way if not landing.done()]
                owed = list(self._owed)
                if self._closed or (not owed and not self._breaker.is_open):
                    self._running = False
                    return
            try:
                if self._breaker.is_open:
                    self._start(self._probe)
                for page in owed if not self._breaker.is_open else ():
                    self._start(self._refresh, page)
            except Unavailable:  # no room: at the next look
                continue

    def _start(self, begin: Callable[..., Flight], *page: Wanted) -> None:
        if len(self._under_way) < self._at_once:
            landing = begin(*page).landing
            if landing not in self._under_way:
                self._under_way.append(landing)
                landing.add_done_callback(self._landed)

    def _landed(self, landing: Future[Any]) -> None:
        """Look again at once after a success: the breaker may have closed, a place is free."""
        if landing.exception() is None:
            self._awake.set()
