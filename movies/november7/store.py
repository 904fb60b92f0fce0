"""The interface of the stores of cache entries, and a wrapper that tolerates their failures."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from redis import RedisError

from movies.november7 import metrics

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_INTERVAL = 2.0  # seconds for which a store that failed is not used
MAX_REMOVALS = 32  # entries that one write removes to keep the store within its limit


class StoreUnavailable(Exception):
    """The store cannot be used at the moment: it is locked, or its files cannot be opened."""


STORE_ERRORS = (StoreUnavailable, RedisError, sqlite3.Error)


class Store(Protocol):
    """Stores entries by key, up to a total size. The oldest are removed first.

    Every method is thread-safe and may raise one of STORE_ERRORS.
    """

    def read(self, key: str) -> bytes | None:
        """The entry, or None if there is none."""

    def write(self, key: str, entry: bytes, fetched_at: float, expires_at: float) -> None:
        """Keep an entry until its stale window ends. The times are Unix times in seconds."""

    def delete(self, prefix: str) -> int:
        """Delete the entries whose keys start with `prefix`, and return how many there were."""

    def entries(self) -> Iterator[tuple[str, float, int]]:
        """The key of each entry, the Unix time at which its freshness ends, and its bytes."""

    def is_outage(self, error: Exception) -> bool:
        """Whether an error means that the next call would fail too."""

    def close(self) -> None:
        """Release connections."""


class FailSoftStore:
    """A store whose failures count as cache misses.

    After an outage it is not used for RETRY_INTERVAL seconds, so that a store that hangs delays one
    caller and not all of them. A failed write does not stop reads.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._no_reads_until = self._no_writes_until = 0.0
        self._lock = threading.Lock()
        self._failed: set[str] = set()  # operations that failed when last attempted

    @property
    def is_failing(self) -> bool:
        """Whether the last read or the last write failed."""
        return bool(self._failed)

    @property
    def is_paused(self) -> bool:
        """Whether the store has failed a moment ago and is not used now."""
        return time.monotonic() < self._no_reads_until

    def read(self, key: str) -> bytes | None:
        """The entry; None if there is none or the store fails."""
        if self.is_paused:
            return None
        return self.attempt("read", lambda: self.store.read(key))

    def write(self, key: str, entry: bytes, fetched_at: float, expires_at: float) -> None:
        """Keep an entry unless the store fails."""
        if time.monotonic() >= self._no_writes_until:
            self.attempt("write", lambda: self.store.write(key, entry, fetched_at, expires_at))

    def attempt(self, operation: str, call: Callable[[], T]) -> T | None:
        """What `call` returns; None if the store fails, which is counted and logged."""
        try:
            result = call()
        except STORE_ERRORS as error:
            metrics.STORE_ERRORS.inc()
            reason = f"{type(error).__name__}: {error}"[:200]
            extra = {"operation": operation, "reason": reason}
            log.warning("the provider cache failed; continuing without it", extra=extra)
            self._report(operation, has_failed=True)
            if self.store.is_outage(error):
                self._no_writes_until = time.monotonic() + RETRY_INTERVAL
                if operation == "read":
                    self._no_reads_until = self._no_writes_until
            return None
        if operation in self._failed:
            self._report(operation, has_failed=False)
        return result

    def _report(self, operation: str, *, has_failed: bool) -> None:
        with self._lock:
            (self._failed.add if has_failed else self._failed.discard)(operation)
            metrics.CACHE_FAILING.set(bool(self._failed))
