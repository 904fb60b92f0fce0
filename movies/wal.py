"""Switches SQLite files to write-ahead logging."""

import sqlite3
import time

PAUSE = 0.005  # seconds between attempts


def enable_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Let readers and one writer use the file at the same time.

    `timeout`: seconds after which it is not tried again while others use the file. SQLite itself
    does not wait for all of them. Raises sqlite3.OperationalError.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() >= deadline:
                raise
            time.sleep(PAUSE)
        else:
            return
