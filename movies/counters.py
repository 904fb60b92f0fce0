"""Counters of rate limits: hits per key in windows of WINDOW seconds.

They are stored in Redis or, without it, in a SQLite file, which all workers share. A process may
keep hits to itself for SHARE_INTERVAL, and then adds them to the store together: under load, most
requests need no round trip. While the store fails, each process counts on its own, starting from
the numbers that it saw last.
"""

import logging
import sqlite3
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from redis import Redis, RedisError

from movies.wal import enable_wal

log = logging.getLogger(__name__)

WINDOW = 60  # seconds
SHARE_INTERVAL = 0.1  # seconds after which the hits of a process are shared
RETRY_INTERVAL = 2.0  # seconds between attempts to use a store that failed
MAX_KEYS = 50_000  # that a process remembers, about 15 MB; beyond that it drops the older half
SQLITE_TIMEOUT = 0.25  # seconds to wait for another writer


class Count(NamedTuple):
    """The hits of a key in its current window, and the seconds until that window ends."""

    hits: int
    resets_in: float


class RedisStore:
    """Counts in Redis, in keys that expire with their windows."""

    _ADD = """
        local counts = {}
        for i, key in ipairs(KEYS) do
            local hits = redis.call('INCRBY', key, ARGV[i])
            local left = redis.call('PTTL', key)
            if left < 0 then
                left = ARGV[#ARGV] * 1000
                redis.call('PEXPIRE', key, left)
            end
            counts[i] = {hits, left}
        end
        return counts
    """

    def __init__(self, client: Redis) -> None:
        self._add = client.register_script(self._ADD)

    def add(self, hits: Mapping[str, int]) -> list[Count]:
        """Add a number of hits to each key, and return the counts. Raises RedisError."""
        keys = [f"movies:rate-limit:{key}" for key in hits]
        replies = self._add(keys=keys, args=[*hits.values(), WINDOW])
        return [Count(hits, milliseconds / 1000) for hits, milliseconds in replies]


class SQLiteStore:
    """Counts in a SQLite file without waiting for the disk: the counts may be lost."""

    _ADD = (
        "INSERT INTO windows VALUES (:key, :hits, :now + :window) ON CONFLICT (key) DO UPDATE SET "
        "hits = CASE WHEN ends > :now AND ends <= excluded.ends THEN hits + :hits ELSE :hits END, "
        "ends = CASE WHEN ends > :now AND ends <= excluded.ends THEN ends ELSE excluded.ends END "
        "RETURNING hits, ends - :now"
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._next_cleanup = 0.0

    def add(self, hits: Mapping[str, int]) -> list[Count]:
        """Add a number of hits to each key, and return the counts. Raises sqlite3.Error."""
        with self._lock:
            try:
                connection = self._connection or self._open()
                with connection:  # commits, or rolls back
                    return [self._add(connection, *item) for item in hits.items()]
            except sqlite3.Error as error:
                self._discard(error)
                raise

    def _add(self, connection: sqlite3.Connection, key: str, hits: int) -> Count:
        now = time.time()
        if now >= self._next_cleanup:
            connection.execute("DELETE FROM windows WHERE ends <= ?", (now,))
            self._next_cleanup = now + WINDOW
        values = {"key": key, "hits": hits, "now": now, "window": WINDOW}
        return Count(*connection.execute(self._ADD, values).fetchone())

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        self._connection = connection = sqlite3.connect(
            self._path, timeout=SQLITE_TIMEOUT, check_same_thread=False
        )
        weakref.finalize(self, connection.close)
        enable_wal(connection, SQLITE_TIMEOUT)
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
    """The hits of a key that the store knows, and those that are still to be sent.

    `ends`: seconds since the epoch. `sent`: the total when the last batch was taken, including that
    batch.
    """

    ends: float
    shared: int = 0
    sent: int = 0
    unsent: int = 0

    def count(self, now: float) -> Count:
        hits = max(self.shared, self.sent) + self.unsent
        return Count(hits, max(0.0, self.ends - now))


class _Batch(NamedTuple):
    """The unsent hits of a window, and how many the store knew of before."""

    window: _Window
    hits: int
    known: int


class Counters:
    """Counts hits in a shared store and, while that fails, in this process."""

    def __init__(self, store: RedisStore | SQLiteStore) -> None:
        self._store = store
        self._lock = Lock()
        self._windows: dict[str, _Window] = {}
        self._unsent: dict[str, _Window] = {}
        self._shared_at = 0.0
        self._next_cleanup = 0.0
        self._is_failing = False
        self._retry_at = 0.0

    def hit(self, keys: Mapping[str, int]) -> list[Count]:
        """Count one hit of each key, and return the counts, which include it.

        The value of a key is how many of its hits this process may keep to itself. With 0, counts
        are exact. Otherwise the hits of SHARE_INTERVAL in other processes may be missing.
        """
        now = time.time()
        with self._lock:
            windows = [self._window(key, now) for key in keys]
            is_due = self._is_failing or not 0 <= now - self._shared_at < SHARE_INTERVAL
            for (key, kept), window in zip(keys.items(), windows, strict=True):
                window.unsent += 1
                self._unsent[key] = window
                is_due = is_due or window.unsent > kept
            if not is_due:
                return [window.count(now) for window in windows]
            batches = self._take(now)
        counts = self._share(batches)
        return [counts[key] for key in keys]

    def _take(self, now: float) -> dict[str, _Batch]:
        batches = {}
        for key, window in self._unsent.items():
            if window.ends > now:
                batches[key] = _Batch(window, window.unsent, window.shared)
                window.sent = max(window.shared, window.sent) + window.unsent
                window.unsent = 0
        self._unsent = {}
        self._shared_at = now
        return batches

    def _share(self, batches: dict[str, _Batch]) -> dict[str, Count]:
        """Add hits to the store.

        If a count is lower than what this process knows, the store has lost data, for example
        because Redis was restarted. This process then counts on its own.
        """
        replies = self._send({key: batch.hits for key, batch in batches.items()})
        now = time.time()
        counts = {}
        with self._lock:
            for (key, (window, hits, known)), reply in zip(batches.items(), replies, strict=True):
                if reply is None or reply.hits < known + hits:
                    window.shared += hits
                    counts[key] = Count(window.shared, max(0.0, window.ends - now))
                    continue
                if reply.hits > window.shared:
                    window.shared, window.ends = reply.hits, now + reply.resets_in
                counts[key] = reply
        return counts

    def _window(self, key: str, now: float) -> _Window:
        if now >= self._next_cleanup or len(self._windows) >= MAX_KEYS:
            live = {name: window for name, window in self._windows.items() if window.ends > now}
            newest = list(live.items())[-MAX_KEYS // 2 :]
            self._windows = dict(newest)
            self._next_cleanup = now + WINDOW
        window = self._windows.get(key)
        if window is None or not now < window.ends <= now + WINDOW + 1:  # the clock was set back
            self._windows.pop(key, None)
            window = self._windows[key] = _Window(now + WINDOW)
        return window

    def _send(self, hits: dict[str, int]) -> Sequence[Count | None]:
        """The counts of the store, one for each key; None while it fails."""
        none = [None] * len(hits)
        if self._is_failing:
            with self._lock:
                if time.monotonic() < self._retry_at:
                    return none
                self._retry_at = time.monotonic() + RETRY_INTERVAL  # the others do not wait
        try:
            counts = self._store.add(hits)
        except (RedisError, sqlite3.Error, OSError) as error:
            self._report(error)
            return none
        if self._is_failing:
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
                "the rate-limit store failed; each process now counts on its own",
                extra={"reason": reason},
            )
        elif changed:
            log.warning("the rate-limit store recovered")


def open_counters(redis: Redis | None, directory: Path) -> Counters:
    """Counters in Redis, or in a file of `directory`."""
    path = directory / "rate-limits.sqlite3"
    return Counters(RedisStore(redis) if redis is not None else SQLiteStore(path))
