"""Lets callers share a fetch, and limits the number of concurrent fetches (bulkhead).

A call is the fetch of one key. It runs on a pool of threads, so a caller can leave at its deadline
even if the connection hangs. Callers take turns, so one with many calls does not block the others.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitTimeout
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from movies.november7 import metrics
from movies.november7.deadline import Deadline
from movies.november7.errors import Busy, TimedOut

log = logging.getLogger(__name__)

MAX_WAITERS = 192  # callers that wait at once; gunicorn.conf.py has threads beyond them
USUAL_SECONDS = 0.3  # initial estimate of the time that November 7 takes for an answer
WEIGHT = 0.2  # of the newest call in the moving average of durations


@dataclass(eq=False)
class Call:
    """A fetch that is queued or running; `started` is None until it has left the queue."""

    key: str
    deadline: Deadline
    caller: Hashable
    fetch: "Callable[[Call], Any]"
    context: Context = field(default_factory=copy_context)
    started: float | None = None
    future: Future[Any] = field(default_factory=Future)


class SingleFlight:
    """The calls of this process: one for each key, of which at most `concurrency` run at a time.

    One caller gets at most three quarters of the places to run, and of the MAX_WAITERS places to
    wait. When a place to run becomes free, the caller with the fewest running calls gets it.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._share = share_of(concurrency)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="november7")
        self._lock = threading.Lock()
        self._calls: dict[str, Call] = {}
        self._queues: dict[Hashable, deque[Call]] = {}  # by caller, the next in turn first
        self._running: Counter[Hashable] = Counter()  # by caller
        self._waiters: Counter[Hashable] = Counter()  # by caller
        self._usual_seconds = USUAL_SECONDS

    def submit(
        self,
        key: str,
        deadline: Deadline,
        fetch: Callable[[Call], Any],
        caller: Hashable = None,
    ) -> tuple[Call, bool]:
        """The call for `key`, and whether it was submitted before, perhaps by another caller.

        Raises Busy if a new call could not be answered before its deadline.
        """
        with self._lock:
            call = self._calls.get(key)
            if call is not None and not call.future.done():
                metrics.FETCHES_JOINED.inc()
                return call, True
            self._refuse_if_late(caller, deadline)
            call = self._calls[key] = Call(key, deadline, caller, fetch)
            self._queues.setdefault(caller, deque()).append(call)
            self._start_next()
        return call, False

    def wait(self, call: Call, deadline: Deadline, caller: Hashable = None) -> Any:
        """The result of `call`.

        Raises what its fetch raised, TimedOut at the deadline, and Busy if too many wait or the
        call was still queued at its own deadline.
        """
        with self._lock:
            everyone, own = self._waiters.total(), self._waiters[caller]
            if everyone >= MAX_WAITERS or own >= share_of(MAX_WAITERS):
                metrics.BULKHEAD_REFUSALS.inc()
                raise Busy("too many searches are waiting")
            self._waiters[caller] += 1
        try:
            return call.future.result(timeout=deadline.left())
        except WaitTimeout as error:
            if call.future.done():  # at this very moment
                return call.future.result()
            if call.started is None and not call.deadline.left():
                raise Busy("November 7 could not be asked in time") from error
            raise TimedOut("November 7 did not answer in time") from error
        finally:
            with self._lock:
                _decrement(self._waiters, caller)

    def close(self) -> None:
        """Fail the calls that are queued, and wait for those that are running."""
        with self._lock:
            queued = [call for queue in self._queues.values() for call in queue]
            self._queues.clear()
        for call in queued:
            call.future.set_exception(Busy("the client was closed"))
        self._pool.shutdown(wait=True)

    def _refuse_if_late(self, caller: Hashable, deadline: Deadline) -> None:
        """Raise Busy if a new call would be answered after `deadline`, behind those before it."""
        own = self._running[caller] + len(self._queues.get(caller, ()))
        callers = self._running.keys() | self._queues.keys() | {caller}
        ahead = min(len(self._calls), (own + 1) * len(callers) - 1)
        rounds = max(ahead // self._concurrency, own // self._share)
        if not rounds:
            return
        now = time.monotonic()
        ages = [now - call.started for call in self._calls.values() if call.started]
        usual = max(self._usual_seconds, sum(ages) / len(ages) if ages else 0.0)
        expected = (rounds + 1) * usual
        if expected > deadline.left():
            metrics.BULKHEAD_REFUSALS.inc()
            raise Busy("November 7 could not answer in time", retry_after=int(expected))

    def _start_next(self) -> None:
        """Start queued calls while there is room. The lock is held."""
        while self._running.total() < self._concurrency:
            able = [caller for caller in self._queues if self._running[caller] < self._share]
            if not able:
                return
            caller = min(able, key=self._running.__getitem__)  # the first of those with the fewest
            queue = self._queues.pop(caller)
            call = queue.popleft()
            if queue:
                self._queues[caller] = queue  # behind the other callers
            self._running[caller] += 1
            try:
                self._pool.submit(call.context.run, self._run, call)
            except RuntimeError:  # no thread could be started, or the pool is shut down
                del self._calls[call.key]
                _decrement(self._running, caller)
                call.future.set_exception(Busy("no thread could be started"))

    def publish(self, call: Call, result: Any) -> None:
        """Hand the result to everyone who waits. A fetch may do so itself, and go on.

        It keeps its place until it ends, but new callers no longer join it.
        """
        call.future.set_result(result)

    def _run(self, call: Call) -> None:
        """Fetch, and hand the result or the failure to everyone who waits."""
        if call.future.done():  # its start was reported as failed
            return
        call.started = time.monotonic()
        try:
            if not call.deadline.left():
                raise Busy("November 7 could not be asked in time")
            with metrics.IN_USE.track_inprogress():
                result = call.fetch(call)
        except BaseException as error:
            # Other failures say nothing about its speed.
            self._end(call, has_timing=isinstance(error, TimedOut))
            if call.future.done():
                log.error("a fetch failed after its callers had the result", exc_info=error)
            else:
                call.future.set_exception(error)
        else:
            self._end(call, has_timing=True)
            if not call.future.done():
                self.publish(call, result)

    def _end(self, call: Call, *, has_timing: bool) -> None:
        """Let others have its place."""
        seconds = time.monotonic() - (call.started or 0.0)
        with self._lock:
            if self._calls.get(call.key) is call:  # else there was a new fetch of the key
                del self._calls[call.key]
            _decrement(self._running, call.caller)
            if has_timing:
                self._usual_seconds += WEIGHT * (seconds - self._usual_seconds)
            self._start_next()


def share_of(places: int) -> int:
    """How many of `places` one caller may take, so that some are left for others."""
    return max(1, places - places // 4)


def _decrement(counter: Counter[Hashable], key: Hashable) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
