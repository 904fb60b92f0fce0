"""Counters of rate limits: hits per key in windows of WINDOW seconds.

They are stored in Redis or, without it, in a SQLite file, which all workers share. While the store
fails, each process counts by itself, starting from the numbers that it saw last.
"""

import logging
import sqlite3
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

from redis import Redis, RedisError

log = logging.getLogger(__name__)

WINDOW = 60  # seconds
RETRY_INTERVAL = 2.0  # seconds between attempts to use a store that failed
MAX_KEYS = 50_000  # that a process remembers, about 15 MB; beyond that it drops the older half
SQLITE_TIMEOUT = 0.25  # seconds to wait for another writer


class Count(NamedTuple):
    """The hits of a key in its current window, and the seconds until that window ends."""

    hits: int
    resets_in: float


class Store(Protocol):
    """Counts that processes share."""

    def hit(self, keys: Sequence[str]) -> list[Count]:
        """Count one hit of each key, in one round trip. Raises RedisError or sqlite3.Error."""


class RedisStore:
    """Counts in Redis, in keys that expire with their windows."""

    _HIT = """
        local counts = {}
        for i, key in ipairs(KEYS) do
            local hits = redis.call('INCR', key)
            local left = redis.call('PTTL', key)
            if left < 0 then
                left = ARGV[1] * 1000
                redis.call('PEXPIRE', key, left)
            end
            counts[i] = {hits, left}
        end
        return counts
    """

    def __init__(self, client: Redis) -> None:
        self._hit = client.register_script(self._HIT)

    def hit(self, keys: Sequence[str]) -> list[Count]:
        """See `Store`."""
        replies = self._hit(keys=[f"movies:rate-limit:{key}" for key in keys], args=[WINDOW])
        return [Count(hits, milliseconds / 1000) for hits, milliseconds in replies]


class SqliteStore:
    """Counts in a SQLite file, which may be lost: nothing waits for the disk."""

    _HIT = (
        "INSERT INTO windows VALUES (:key, 1, :now + :window) ON CONFLICT (key) DO UPDATE SET "
        "hits = CASE WHEN ends > :now THEN hits + 1 ELSE 1 END, "
        "ends = CASE WHEN ends > :now THEN ends ELSE excluded.ends END "
        "RETURNING hits, ends - :now"
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._next_cleanup = 0.0

    def hit(self, keys: Sequence[str]) -> list[Count]:
        """See `Store`."""
        with self._lock:
            try:
                connection = self._connection or self._open()
                with connection:  # commits, or rolls back
                    return [self._hit(connection, key) for key in keys]
            except sqlite3.Error as error:
                self._discard(error)
                raise

    def _hit(self, connection: sqlite3.Connection, key: str) -> Count:
        now = time.time()
        if now >= self._next_cleanup:
            connection.execute("DELETE FROM windows WHERE ends <= ?", (now,))
            self._next_cleanup = now + WINDOW
        values = {"key": key, "now": now, "window": WINDOW}
        return Count(*connection.execute(self._HIT, values).fetchone())

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        self._connection = connection = sqlite3.connect(
            self._path, timeout=SQLITE_TIMEOUT, check_same_thread=False
        )
        weakref.finalize(self, connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS windows (key TEXT PRIMARY KEY, hits INTEGER NOT NULL, "
            "ends REAL NOT NULL) WITHOUT ROWID"
        )
        return connection

    def _discard(self, error: sqlite3.Error) -> None:
        """Close the connection; remove a file that is damaged."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if not isinstance(error, sqlite3.OperationalError):
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


@dataclass(slots=True)
class _Window:
    hits: int
    ends: float  # seconds since the epoch


class Counters:
    """Counts hits in a shared store and, while that fails, in this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._windows: dict[str, _Window] = {}
        self._next_cleanup = 0.0
        self._is_failing = False
        self._retry_at = 0.0

    def hit(self, keys: Sequence[str]) -> list[Count]:
        """Count one hit of each key, and return the counts, which include it.

        If a shared count is not higher than the last one that this process saw in the same window,
        the store has lost data, as a Redis that was restarted. This process then counts by itself.
        """
        now = time.time()
        with self._lock:
            windows = [self._window(key, now) for key in keys]
            seen = [window.hits for window in windows]
        shared = self._hit_shared(keys)
        now = time.time()
        with self._lock:
            if shared is None:
                return [_count_here(window, now) for window in windows]
            return [
                _adopt(window, count, now) if count.hits > hits else _count_here(window, now)
                for window, hits, count in zip(windows, seen, shared, strict=True)
            ]

    def _window(self, key: str, now: float) -> _Window:
        if now >= self._next_cleanup or len(self._windows) >= MAX_KEYS:
            live = {name: window for name, window in self._windows.items() if window.ends > now}
            newest = list(live.items())[-MAX_KEYS // 2 :]
            self._windows = dict(newest)
            self._next_cleanup = now + WINDOW
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            self._windows.pop(key, None)
            window = self._windows[key] = _Window(0, now + WINDOW)
        return window

    def _hit_shared(self, keys: Sequence[str]) -> list[Count] | None:
        """The counts of the store; None while it fails."""
        if self._is_failing:
            with self._lock:
                if time.monotonic() < self._retry_at:
                    return None
                self._retry_at = time.monotonic() + RETRY_INTERVAL  # the others do not wait
        try:
            counts = self._store.hit(keys)
        except (RedisError, sqlite3.Error, OSError) as error:
            self._report(error)
            return None
        self._report(None)
        return counts

    def _report(self, error: Exception | None) -> None:
        """Log the beginning and the end of an outage, once each."""
        with self._lock:
            changed = self._is_failing != (error is not None)
            self._is_failing = error is not None
            if changed and error is not None:
                self._retry_at = time.monotonic() + RETRY_INTERVAL
        if changed and error is not None:
            reason = f"{type(error).__name__}: {error}"
            log.warning(
                "the shared counters of rate limits failed; each process counts by itself",
                extra={"reason": reason},
            )
        elif changed:
            log.warning("the shared counters of rate limits work again")


def _count_here(window: _Window, now: float) -> Count:
    window.hits += 1
    return Count(window.hits, max(0.0, window.ends - now))


def _adopt(window: _Window, count: Count, now: float) -> Count:
    if count.hits > window.hits:
        window.hits, window.ends = count.hits, now + count.resets_in
    return count


def open_counters(redis: Redis | None, directory: Path) -> Counters:
    """Counters in Redis, or in a file of `directory`."""
    path = directory / "rate-limits.sqlite3"
    return Counters(RedisStore(redis) if redis is not None else SqliteStore(path))
