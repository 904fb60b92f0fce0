"""Cache entries in a SQLite file, shared by the processes of one machine.

Readers never wait for a writer: the file is in WAL mode, and each read has a connection to itself
from a small pool. All writes of a process go through one connection, one at a time.
"""

import fcntl
import logging
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from movies.november7.store import MAX_REMOVALS, StoreUnavailable
from movies.wal import enable_wal

log = logging.getLogger(__name__)

OPEN_TIMEOUT = 2.0  # seconds that a process waits at its start for others that hold the file
LOCK_TIMEOUT = 0.5  # seconds that a write waits for this process's writer, and for other processes'
READ_TIMEOUT = 0.25  # seconds; in WAL mode a read waits only while the file is being recovered
IDLE_READERS = 8  # connections kept for the next reads
WAL_BYTES = 16 * 1024 * 1024  # to which the write-ahead log is cut once it has been applied
VACUUM_PAGES = 1000  # freed in one transaction, so that other writers get their turn

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT NOT NULL UNIQUE, fetched_at REAL NOT NULL, expires_at REAL NOT NULL,
    entry BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_entries_oldest ON entries (fetched_at);
"""
SAVE = """
INSERT INTO entries (key, fetched_at, expires_at, entry) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET fetched_at = excluded.fetched_at,
    expires_at = excluded.expires_at, entry = excluded.entry
"""
USED = "SELECT (page_count - freelist_count) * page_size, page_count * page_size, freelist_count"
USED += " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SQLiteStore:
    """Keeps at most `max_bytes` in the file at `path`; entries end `stale` seconds past freshness.

    The file is opened at the first use, or with `open`. One that is corrupt is replaced.
    """

    def __init__(self, path: Path, *, max_bytes: int, stale: float) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._stale = stale
        self._lock = threading.Lock()  # held while the writer is used or replaced
        self._writer: sqlite3.Connection | None = None
        self._readers: deque[sqlite3.Connection] = deque()
        self._file: tuple[int, int] | None = None  # device and inode of the file that is open
        self._corrupt: tuple[int, int] | None = None

    def open(self, timeout: float = OPEN_TIMEOUT) -> None:
        """Open the file and make its table. Raises StoreUnavailable, sqlite3.Error."""
        with self._locked(timeout):
            self._writer_connection(timeout)

    def read(self, key: str) -> bytes | None:
        with self._reader() as connection:
            row = connection.execute("SELECT entry FROM entries WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def write(self, key: str, entry: bytes, fetched_at: float, expires_at: float) -> None:
        with self._transaction() as connection:
            connection.execute(SAVE, (key, fetched_at, expires_at, entry))
            self._evict(connection)
            _, size, free = connection.execute(USED).fetchone()
        if free and size > self._max_bytes:  # after a change of the setting
            self._vacuum()

    def delete(self, prefix: str) -> int:
        """As Store.delete; the space is given back to the file system."""
        first, last = prefix, prefix + chr(sys.maxunicode)
        deleted, keys = 0, [()]
        while keys:
            with self._transaction() as connection:
                keys = connection.execute(
                    "SELECT key FROM entries WHERE key BETWEEN ? AND ? LIMIT ?",
                    (first, last, MAX_REMOVALS),
                ).fetchall()
                connection.executemany("DELETE FROM entries WHERE key = ?", keys)
            deleted += len(keys)
        self._shrink()
        return deleted

    def entries(self) -> Iterator[tuple[str, float, int]]:
        with self._reader() as connection:
            yield from connection.execute("SELECT key, expires_at, length(entry) FROM entries")

    def is_outage(self, error: Exception) -> bool:
        return not _is_broken(error)  # a corrupt file is replaced at the next use

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _evict(self, connection: sqlite3.Connection) -> None:
        """Delete what is past its stale window, and the oldest while the file is too large."""
        now = time.time()
        oldest = connection.execute(
            "SELECT key, expires_at FROM entries ORDER BY fetched_at LIMIT ?", (MAX_REMOVALS,)
        ).fetchall()
        used = connection.execute(USED).fetchone()[0]
        for key, expires_at in oldest:
            if used > self._max_bytes or expires_at + self._stale <= now:
                connection.execute("DELETE FROM entries WHERE key = ?", (key,))
                used = connection.execute(USED).fetchone()[0]

    def _shrink(self) -> None:
        """Give the free pages and the write-ahead log back to the file system."""
        while self._vacuum():
            pass
        with self._locked(LOCK_TIMEOUT):
            writer = self._writer_connection(LOCK_TIMEOUT)
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _vacuum(self) -> int:
        """Give some free pages back; how many are left."""
        with self._locked(LOCK_TIMEOUT), self._noting_corruption():
            writer = self._writer_connection(LOCK_TIMEOUT)
            # `execute` would free a single page: it stops at the first step without a row.
            writer.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            free: int = writer.execute(USED).fetchone()[2]
        return free

    # Connections

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread uses meanwhile."""
        if not self._is_open():
            self.open(READ_TIMEOUT)
        file = self._file
        with self._noting_corruption():
            try:
                connection = self._readers.pop()
            except IndexError:
                url = f"{self._path.absolute().as_uri()}?mode=ro"
                connection = self._connect(url, READ_TIMEOUT)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        if len(self._readers) < IDLE_READERS and self._file == file:
            self._readers.append(connection)
        else:
            connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._locked(LOCK_TIMEOUT), self._noting_corruption():
            connection = self._writer_connection(LOCK_TIMEOUT)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # it may have been rolled back by SQLite
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _locked(self, timeout: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=timeout):
            raise StoreUnavailable("another thread is writing to the cache file")
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _noting_corruption(self) -> Iterator[None]:
        """Have the file replaced at the next use if it turns out to be corrupt."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _is_broken(error):
                self._corrupt = self._file
            raise

    def _is_open(self) -> bool:
        """Whether the file is open, is not known to be corrupt and has not been replaced."""
        return self._corrupt is None and self._file is not None and self._file == self._identity()

    def _writer_connection(self, timeout: float) -> sqlite3.Connection:
        """The writer, connected if need be. The lock is held.

        A lock file keeps processes that start at the same time from replacing each other's file.
        """
        if self._writer is not None and self._is_open():
            return self._writer
        deadline = time.monotonic() + timeout
        with _exclusive(self._path.with_suffix(".lock"), deadline):
            # Compared before the corrupt file is closed: until then, no new file gets its inode.
            is_corrupt = self._corrupt is not None and self._corrupt == self._identity()
            self._disconnect()
            if is_corrupt:
                self._remove()
            try:
                writer = self._connect_writer(deadline)
            except sqlite3.DatabaseError as error:
                if not _is_broken(error):
                    raise
                self._remove()
                writer = self._connect_writer(deadline)
            self._writer, self._file, self._corrupt = writer, self._identity(), None
        return writer

    def _identity(self) -> tuple[int, int] | None:
        """Device and inode of the file, None if there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _connect_writer(self, deadline: float) -> sqlite3.Connection:
        url = self._path.absolute().as_uri()
        self._path.touch(mode=0o600)
        connection = self._connect(url, max(0.05, deadline - time.monotonic()))
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
            enable_wal(connection, deadline - time.monotonic())
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}").fetchall()
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT * 1000)}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, url: str, timeout: float) -> sqlite3.Connection:
        """A connection that any thread may use, one at a time, and that commits by itself."""
        return sqlite3.connect(
            url, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
        )

    def _disconnect(self) -> None:
        """Close the connections that nobody uses; readers in use are closed after their use.

        The writer comes last: it alone can apply the write-ahead log and remove it.
        """
        writer, self._writer, self._file = self._writer, None, None
        while True:
            try:
                self._readers.pop().close()
            except IndexError:
                break
        if writer is not None:
            writer.close()

    def _remove(self) -> None:
        log.warning("the provider cache was corrupt and was replaced by an empty one")
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _is_broken(error: Exception) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in BROKEN


@contextmanager
def _exclusive(path: Path, deadline: float) -> Iterator[None]:
    """Hold a lock that processes share.

    Raises StoreUnavailable at the deadline, or if a file cannot be opened, made or removed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise StoreUnavailable("another process is opening the cache file")
                time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)  # which releases the lock
    except OSError as error:
        raise StoreUnavailable(f"the cache file cannot be opened: {error.strerror}") from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
