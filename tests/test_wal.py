"""SQLite files in which readers and a writer work at the same time."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest

from movies.wal import enable_wal


def test_a_new_file_can_be_opened_several_times_at_once(tmp_path: Path) -> None:
    barrier = Barrier(2)

    def write(path: Path) -> None:
        barrier.wait(30)
        with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
            enable_wal(connection, 60)
            connection.execute("CREATE TABLE IF NOT EXISTS numbers (number)")
            connection.execute("INSERT INTO numbers VALUES (1)")

    for number in range(50):
        path = tmp_path / str(number)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, [path] * 2))
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_stays_locked_is_an_error(tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "file")) as other,
        closing(sqlite3.connect(tmp_path / "file", timeout=0)) as connection,
    ):
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            enable_wal(connection, 0.02)
        other.execute("ROLLBACK")
        enable_wal(connection, 0.02)


def test_an_error_that_lasts_is_raised_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE numbers (number)")
    started = time.monotonic()
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        enable_wal(connection, 60)
    assert time.monotonic() - started < 30
