"""One fetch for all processes that share a Redis.

The process that sets the key `flight:<key>` is the leader: it fetches, and the others follow it.
The key expires LEASE seconds after its last renewal, so a leader that dies is replaced. The leader
stores its outcome under `outcome:<token>` for the processes that followed this fetch, so a failure
reaches them, but no later callers.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from uuid import uuid4

import orjson
from redis import Redis, RedisError
from redis.lock import Lock

from movies.november7.deadline import Deadline
from movies.november7.errors import TimedOut, Unavailable

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
        except RedisError as error:
            reason = {"reason": type(error).__name__}
            log.warning("fetches are not shared with other processes", extra=reason)
            return fetch()
        with self._leading(lease, token):
            found = cached()
            return fetch() if found is None else found

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

    @contextmanager
    def _leading(self, lease: Lock, token: str) -> Iterator[None]:
        """Renew the lease while the block runs, then publish its outcome and release the lease."""
        over = threading.Event()
        renewal = threading.Thread(target=_renew, args=(lease, over), name=RENEWAL, daemon=True)
        try:
            renewal.start()
        except RuntimeError:  # the lease expires early: at worst another process fetches too
            log.warning("no thread could be started to renew a lease")
        outcome = SUCCESS
        try:
            yield
        except Unavailable as error:
            failure = {
                "kind": error.outcome,
                "reason": str(error),
                "retry_after": error.retry_after,
            }
            outcome = orjson.dumps(failure)
            raise
        finally:
            over.set()
            if renewal.is_alive():  # it must not use connections that the client closes
                renewal.join()
            with suppress(RedisError):
                self._redis.set(self._name("outcome", token), outcome, ex=OUTCOME_TTL)
                lease.release()

    def _name(self, kind: str, key: str) -> str:
        return f"{self._namespace}-{kind}:{key}"


def _renew(lease: Lock, over: threading.Event) -> None:
    """Keep `lease` from expiring until `over`; if Redis fails it expires, and another leads."""
    with suppress(RedisError):
        while not over.wait(LEASE / 3):
            lease.reacquire()
