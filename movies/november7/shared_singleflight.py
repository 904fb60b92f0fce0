"""One fetch for all processes that share a Redis.

The process that sets the key `flight:<key>` is the leader: it fetches, and the others follow it.
The key expires LEASE seconds after its last renewal, so a leader that dies is replaced. The leader
stores its outcome under `outcome:<token>` for the processes that followed this fetch, so a failure
reaches them, but no later callers.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, TypeVar
from uuid import uuid4

import orjson
from redis import Redis, RedisError
from redis.lock import Lock

from movies.november7.deadline import Deadline
from movies.november7.errors import Busy, TimedOut, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

LEASE = 1.5  # seconds
POLL = 0.025  # seconds
OUTCOME_TTL = 10  # seconds for which an outcome is kept for the followers
SUCCESS = b"success"
RENEWAL = "november7-lease-renewal"  # name of the thread


class SharedSingleFlight:
    """Leads or follows in each fetch. If Redis fails, every process leads.

    `is_paused`: whether Redis has just failed and is not used for a while.
    """

    def __init__(self, redis: Redis, namespace: str, is_paused: Callable[[], bool]) -> None:
        self._redis = redis
        self._namespace = namespace
        self._is_paused = is_paused
        self._renewal = _Renewal()

    def fetch(
        self,
        key: str,
        deadline: Deadline,
        cleanup: ExitStack,
        fetch: Callable[[], T],
        cached: Callable[[], T | None],
    ) -> T:
        """What `cached` finds, or what `fetch` returns if this process is the leader.

        A success is published by `cleanup`, so that no caller waits for that. Raises what `fetch`
        raised, in whichever process it ran, or TimedOut at the deadline.
        """
        if self._is_paused():
            return fetch()
        token = uuid4().hex
        lease = self._redis.lock(self._name("flight", key), timeout=LEASE, thread_local=False)
        try:
            while not lease.acquire(blocking=False, token=token):
                self._follow(str(lease.name), deadline)
                found = cached()
                if found is not None:
                    return found
                time.sleep(POLL)
        except RedisError as error:
            reason = {"reason": type(error).__name__}
            log.warning("fetches are not shared with other processes", extra=reason)
            return fetch()
        self._renewal.add(lease)
        try:
            found = cached()
            result = fetch() if found is None else found
        except BaseException as error:
            self._end(lease, token, _outcome(error))
            raise
        cleanup.callback(self._end, lease, token, SUCCESS)
        return result

    def close(self) -> None:
        """Wait until no thread uses Redis. No fetch may be running."""
        self._renewal.close()

    def _follow(self, lease: str, deadline: Deadline) -> None:
        """Wait until the fetch of the process that holds `lease` is over, or that process died.

        Raises the fetch's failure, or TimedOut at the deadline.
        """
        leader: Any = self._redis.get(lease)
        while leader is not None and deadline.left():
            holder, outcome = self._redis.mget(lease, self._name("outcome", leader.decode()))
            if outcome == SUCCESS:
                return
            if outcome is not None:
                failure = orjson.loads(outcome)
                kind = Unavailable.kind(failure["kind"])
                raise kind(failure["reason"], retry_after=failure["retry_after"])
            if holder != leader:
                return
            time.sleep(POLL)
        if not deadline.left():
            raise TimedOut("November 7 did not answer in time")

    def _end(self, lease: Lock, token: str, outcome: bytes) -> None:
        """Publish the outcome of a fetch, and release its lease."""
        self._renewal.remove(lease)
        with suppress(RedisError):
            self._redis.set(self._name("outcome", token), outcome, ex=OUTCOME_TTL)
            lease.release()

    def _name(self, kind: str, key: str) -> str:
        return f"{self._namespace}-{kind}:{key}"


def _outcome(error: BaseException) -> bytes:
    """What a failed fetch publishes.

    After an unexpected error, or if this process stops, the next process fetches.
    """
    if not isinstance(error, Unavailable) or isinstance(error, Busy):
        return SUCCESS
    return orjson.dumps(
        {"kind": error.outcome, "reason": str(error), "retry_after": error.retry_after}
    )


class _Renewal:
    """Keeps leases from expiring, on one thread that runs while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: set[Lock] = set()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def add(self, lease: Lock) -> None:
        """Renew a lease until it is removed.

        If no thread can be started, it expires early. At worst, another process fetches, too.
        """
        with self._lock:
            self._leases.add(lease)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=RENEWAL, daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    log.warning("no thread could be started to renew a lease")
                else:
                    self._thread = thread

    def remove(self, lease: Lock) -> None:
        with self._lock:
            self._leases.discard(lease)

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._closed.wait(LEASE / 3):
            with self._lock:
                leases = list(self._leases)
                if not leases:
                    self._thread = None
                    return
            for lease in leases:
                with suppress(RedisError):  # the lease expires, or has just been released
                    lease.reacquire()
