"""Switches SQLite files to write-ahead logging."""

import sqlite3
import time

PAUSE = 0.005  # seconds between attempts


def enable_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Let readers and one writer use the file at the same time.

    `timeout`: seconds to wait for others that are opening the file. SQLite itself does not wait
    for them. Raises sqlite3.OperationalError.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(PAUSE)
        else:
            return
