"""One fetch for all processes that share a Redis.

The process that sets the key `flight:<key>` is the leader: it fetches, and the others follow it.
The key expires LEASE seconds after its last renewal, so a leader that dies is replaced. The leader
stores a failure under `failure:<token>` for the processes that followed this fetch, so it reaches
them, but no later callers. A success is in the cache.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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
POLL = 0.025  # seconds; a follower asks more often at first
FAILURE_TTL = 10  # seconds for which a failure is kept for the followers
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
        fetch: Callable[[], T],
        cached: Callable[[], T | None],
    ) -> T:
        """What `cached` finds, or what `fetch` returns if this process is the leader.

        Raises what `fetch` raised, in whichever process it ran, or TimedOut at the deadline.
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
        failure = None
        try:
            found = cached()
            return fetch() if found is None else found
        except BaseException as error:
            failure = error
            raise
        finally:
            self._renewal.remove(lease)
            with suppress(RedisError):
                self._publish(failure, token)
                lease.release()

    def close(self) -> None:
        """Wait until no thread uses Redis. No fetch may be running."""
        self._renewal.close()

    def _follow(self, lease: str, deadline: Deadline) -> None:
        """Wait until the fetch of the process that holds `lease` is over, or that process died.

        Raises the fetch's failure, or TimedOut at the deadline.
        """
        pause = POLL / 16
        leader: Any = self._redis.get(lease)
        while leader is not None and deadline.left():
            holder, published = self._redis.mget(lease, self._name("failure", leader.decode()))
            if published is not None:
                failure = orjson.loads(published)
                kind = Unavailable.kind(failure["kind"])
                raise kind(failure["reason"], retry_after=failure["retry_after"])
            if holder != leader:
                return
            time.sleep(pause)
            pause = min(2 * pause, POLL)
        if not deadline.left():
            raise TimedOut("November 7 did not answer in time")

    def _publish(self, failure: BaseException | None, token: str) -> None:
        """Let the followers know how a fetch failed.

        After an unexpected error, or if this process stops, the next process fetches.
        """
        if isinstance(failure, Unavailable) and not isinstance(failure, Busy):
            name, kind = self._name("failure", token), failure.outcome
            content = {"kind": kind, "reason": str(failure), "retry_after": failure.retry_after}
            self._redis.set(name, orjson.dumps(content), ex=FAILURE_TTL)

    def _name(self, kind: str, key: str) -> str:
        return f"{self._namespace}-{kind}:{key}"


class _Renewal:
    """Keeps leases from expiring, on one thread that the first lease starts."""

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
            for lease in leases:
                with suppress(RedisError):  # the lease expires, or has just been released
                    lease.reacquire()
