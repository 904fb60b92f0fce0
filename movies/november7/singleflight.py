"""One fetch for many callers, and no more fetches at once than the bulkhead allows.

A flight is the fetch of one page. It runs on a thread of its own pool, so whoever waits for it can
leave at the deadline whatever the wire does, and a caller that dies takes no flight with it.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLong
from contextvars import copy_context
from typing import Any

from movies.november7 import metrics
from movies.november7.deadline import Deadline
from movies.november7.errors import Busy, TimedOut

MAX_WAITERS = 192  # callers that wait at once; gunicorn.conf.py has threads to spare beyond them
USUAL_SECONDS = 0.3  # what November 7 takes when it is well: the first guess
WEIGHT = 0.2  # of the newest flight in the moving average of their duration


class Call:
    """A fetch under way or queued; `begun` is None until it has left the queue."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.begun: float | None = None
        self.future: Future[Any] = Future()


class SingleFlight:
    """The flights of this process, at most `concurrency` of them under way."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="november7")
        self._lock = threading.Lock()
        self._calls: dict[str, Call] = {}
        self._waiters = 0
        self._usual_seconds = USUAL_SECONDS

    def submit(
        self, key: str, deadline: Deadline, fetch: Callable[[Deadline], Any]
    ) -> tuple[Call, bool]:
        """The flight for `key`, and whether it was booked before: joined, then, not begun.

        Raises Busy where a new flight could not land before its deadline.
        """
        with self._lock:
            flight = self._calls.get(key)
            if flight is not None:
                metrics.JOINED.inc()
                return flight, True
            self._refuse_what_cannot_land(deadline)
            flight = self._calls[key] = Call(deadline)
        self._pool.submit(copy_context().run, self._fly, key, flight, fetch)
        return flight, False

    def wait(self, flight: Call, deadline: Deadline) -> Any:
        """What `flight` brings. Raises its failure, TimedOut at the deadline, or Busy at once."""
        with self._lock:
            if self._waiters >= MAX_WAITERS:
                metrics.BULKHEAD_REFUSALS.inc()
                raise Busy("too many searches are waiting")
            self._waiters += 1
        try:
            return flight.future.result(timeout=deadline.left())
        except WaitedTooLong as error:
            if flight.future.done():  # at this very moment
                return flight.future.result()
            if flight.begun is None:
                raise Busy("November 7 could not be asked in time") from error
            raise TimedOut("November 7 did not answer in time") from error
        finally:
            with self._lock:
                self._waiters -= 1

    def close(self) -> None:
        """Drop the flights that are queued, and wait until those under way have landed."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _refuse_what_cannot_land(self, deadline: Deadline) -> None:
        """Raise Busy if, with as many before it, a new flight would land past `deadline`."""
        waves = len(self._calls) // self._concurrency
        if not waves:
            return
        now = time.monotonic()
        ages = [now - flight.begun for flight in self._calls.values() if flight.begun]
        usual = max(self._usual_seconds, sum(ages) / len(ages) if ages else 0.0)
        expected = (waves + 1) * usual
        if expected > deadline.left():
            metrics.BULKHEAD_REFUSALS.inc()
            raise Busy("more is asked than November 7 answers in time", retry_after=int(expected))

    def _fly(self, key: str, flight: Call, fetch: Callable[[Deadline], Any]) -> None:
        """Fetch, and hand everyone who waits the answer or the failure."""
        result, failure = None, None
        flight.begun = time.monotonic()
        try:
            if not flight.deadline.left():
                raise Busy("November 7 could not be asked in time")
            with metrics.IN_USE.track_inprogress():
                result = fetch(flight.deadline)
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            failure = error
        seconds = time.monotonic() - flight.begun
        with self._lock:
            del self._calls[key]
            if failure is None or isinstance(failure, TimedOut):  # others say nothing of its pace
                self._usual_seconds += WEIGHT * (seconds - self._usual_seconds)
        if failure is None:
            flight.future.set_result(result)
        else:
            flight.future.set_exception(failure)
