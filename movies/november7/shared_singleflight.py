"""One flight among all processes that share a Redis.

The process that sets the key `flight:<page>` leads: it fetches, and the others wait. The key
expires LEASE seconds after its last renewal, so a leader that dies is replaced, and the leader
leaves its outcome under `landing:<token>` for those who waited for that very flight, so a failure
reaches them and nobody who comes later.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import orjson
from redis import Redis, RedisError
from redis.lock import Lock

from movies.november7.deadline import Deadline
from movies.november7.errors import TimedOut, Unavailable

log = logging.getLogger(__name__)

LEASE = 1.5  # seconds
POLL = 0.025  # seconds
KEPT = 10  # seconds that an outcome is there for those who wait for it
LANDED = b"landed"


class SharedSingleFlight:
    """Leads or follows, flight by flight. Where Redis fails, everyone leads.

    `is_outage`: whether Redis is known to fail, so that it need not be asked to find out.
    """

    def __init__(self, redis: Redis, namespace: str, is_outage: Callable[[], bool]) -> None:
        self._redis = redis
        self._namespace = namespace
        self._is_away = is_outage

    def fetch(
        self,
        key: str,
        deadline: Deadline,
        lead: Callable[[], Any],
        landed: Callable[[], Any | None],
    ) -> Any:
        """What `landed` finds, or what `lead` brings where this process has to fetch.

        Raises what the leader raised, wherever it ran, or TimedOut at the deadline.
        """
        if self._is_away():
            return lead()
        token = uuid4().hex
        lease = self._redis.lock(self._name("flight", key), timeout=LEASE, thread_local=False)
        try:
            while not lease.acquire(blocking=False, token=token):
                self._follow(str(lease.name), deadline)
                found = landed()
                if found is not None:
                    return found
        except RedisError as error:
            log.warning("flights are not shared", extra={"reason": type(error).__name__})
            return lead()
        with self._leading(lease, token):
            found = landed()
            return lead() if found is None else found

    def _follow(self, lease: str, deadline: Deadline) -> None:
        """Wait until the flight that holds `lease` has landed or its leader is gone.

        Raises the flight's failure, or TimedOut at the deadline.
        """
        leader: Any = self._redis.get(lease)
        while leader is not None and deadline.left():
            landing = self._name("landing", leader.decode())
            holder, outcome = self._redis.mget(lease, landing)
            if outcome == LANDED:
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
        """Renew the lease while the block runs, then publish its outcome and let go."""
        over = threading.Event()
        threading.Thread(target=_renew, args=(lease, over), daemon=True).start()
        outcome = LANDED
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
            with suppress(RedisError):
                self._redis.set(self._name("landing", token), outcome, ex=KEPT)
                lease.release()

    def _name(self, kind: str, key: str) -> str:
        return f"{self._namespace}-{kind}:{key}"


def _renew(lease: Lock, over: threading.Event) -> None:
    """Keep `lease` from expiring until `over`; where Redis fails it expires, and another leads."""
    with suppress(RedisError):
        while not over.wait(LEASE / 3):
            lease.reacquire()
