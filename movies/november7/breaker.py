"""The circuit breaker of a process: while it is open, November 7 is considered down."""

import threading
import time

from movies.november7 import metrics

FAILURES = 3  # failed fetches in a row, each of which used up its tries or its deadline


class Breaker:
    """Opens after FAILURES failed fetches in a row, or by `pause`; the next success closes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._paused_until = 0.0
        metrics.BREAKER_OPEN.set(0)

    @property
    def is_open(self) -> bool:
        """Whether November 7 is considered down: only probes are sent to it."""
        return self._failures >= FAILURES

    @property
    def pause_left(self) -> float:
        """Seconds for which not even a probe is sent, because November 7 asked for that."""
        return max(0.0, self._paused_until - time.monotonic())

    def succeeded(self) -> None:
        """Count a fetch that was answered. During a pause it changes nothing."""
        if self._failures and not self.pause_left:
            with self._lock:
                self._failures = 0
                metrics.BREAKER_OPEN.set(0)

    def failed(self) -> None:
        """Count a fetch that failed because November 7 seems to be down."""
        with self._lock:
            self._failures += 1
            metrics.BREAKER_OPEN.set(self.is_open)

    def pause(self, seconds: float) -> None:
        """Open at once, and have nothing sent to November 7 for that long."""
        with self._lock:
            self._failures = max(self._failures, FAILURES)
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)
            metrics.BREAKER_OPEN.set(1)
