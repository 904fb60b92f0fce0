"""Whether November 7 is held to be down. One breaker a process."""

import threading

from movies.november7 import metrics

FAILURES = 3  # fetches in a row, each of which had used up its tries or its deadline


class Breaker:
    """Opens after FAILURES failed fetches in a row; any success closes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        metrics.BREAKER_OPEN.set(0)

    @property
    def is_open(self) -> bool:
        """True while the provider is plainly down."""
        return self._failures >= FAILURES

    def succeeded(self) -> None:
        """A fetch had a true answer."""
        if self._failures:
            with self._lock:
                self._failures = 0
                metrics.BREAKER_OPEN.set(0)

    def failed(self) -> None:
        """A fetch had none."""
        with self._lock:
            self._failures += 1
            metrics.BREAKER_OPEN.set(self.is_open)
