"""Cache entries in a SQLite file: concurrency, locks, corruption and disk space."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from helpers import counted

from movies.november7 import sqlite_store as module
from movies.november7.cache import open_store
from movies.november7.sqlite_store import SQLiteStore
from movies.november7.store import STORE_ERRORS, FailSoftStore

pytestmark = pytest.mark.slow

MIB = 2**20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path, max_bytes=64 * MIB, stale=600)) as store:
        yield store


def write(store: SQLiteStore | FailSoftStore, key: str, entry: bytes = b"entry") -> None:
    now = time.time()
    store.write(key, entry, now, now + 60)


def locked(path: Path) -> sqlite3.Connection:
    """Another process's connection that holds the write lock."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_an_entry_that_was_written_is_always_read(store: SQLiteStore) -> None:
    """By many threads, while others write."""
    entries = {f"{number}": bytes([number]) * 20_000 for number in range(20)}
    for key, entry in entries.items():
        write(store, key, entry)

    def read(number: int) -> set[bool]:
        keys = [f"{(number + turn) % 20}" for turn in range(400)]
        return {store.read(key) == entries[key] for key in keys}

    def rewrite(number: int) -> None:
        for turn in range(40):
            write(store, f"{number + turn % 2}", entries[f"{number + turn % 2}"])
            write(store, f"new-{number}", bytes(50_000))

    with ThreadPoolExecutor(10) as pool:
        writers = [pool.submit(rewrite, number) for number in (0, 2)]
        assert list(pool.map(read, range(8))) == [{True}] * 8
        for writer in writers:
            writer.result()


def test_readers_do_not_wait_for_another_process_that_writes(
    store: SQLiteStore, path: Path
) -> None:
    """The writer of this process does wait."""
    write(store, "a")
    with closing(locked(path)), ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write, store, "b")
        assert [store.read("a") for _ in range(100)] == [b"entry"] * 100
        assert not writer.done()
        assert isinstance(writer.exception(), STORE_ERRORS)


def test_a_lock_that_is_never_released_delays_one_write(store: SQLiteStore, path: Path) -> None:
    """Further writes are skipped for a while, and reads succeed."""
    soft = FailSoftStore(store)
    write(soft, "a")
    with closing(locked(path)):
        errors = counted("november7_cache_store_errors_total")
        for number in range(10):
            write(soft, f"{number}")
        assert counted("november7_cache_store_errors_total") == errors + 1
        assert soft.read("a") == b"entry"
    assert soft.is_failing


def test_a_locked_file_does_not_keep_a_process_from_starting(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process logs this, works without the cache, and uses it when the lock is released."""
    monkeypatch.setattr(module, "OPEN_TIMEOUT", 0.1)
    monkeypatch.setattr("movies.november7.store.RETRY_INTERVAL", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")  # of a file that is not in WAL mode yet
    soft = open_store(path=path, redis=None, max_bytes=MIB, stale=600)
    assert "the provider cache failed; continuing without it" in caplog.text
    write(soft, "a")
    assert soft.read("a") is None
    other.close()
    time.sleep(0.1)
    write(soft, "a")
    assert soft.read("a") == b"entry"
    soft.store.close()


def test_a_directory_that_is_missing_costs_misses(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "missing" / "cache.sqlite", max_bytes=MIB, stale=600)
    with closing(store):
        soft = FailSoftStore(store)
        write(soft, "a")
        assert soft.read("a") is None
        assert soft.is_failing


@pytest.mark.parametrize("content", [b"not a database" * 500, b"SQLite format 3\x00" + b"x" * 9000])
def test_a_corrupt_file_is_replaced(store: SQLiteStore, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    write(store, "a")
    assert store.read("a") == b"entry"
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_becomes_corrupt_is_replaced(store: SQLiteStore, path: Path) -> None:
    """The entries are lost, and no process uses the old file any more."""
    soft = FailSoftStore(store)
    with closing(SQLiteStore(path, max_bytes=64 * MIB, stale=600)) as other:
        for number in range(50):
            write(other, f"{number}", bytes(10_000))
        assert soft.read("7") == bytes(10_000)
    store.close()  # so that nothing is left in memory or in the write-ahead log
    for part in path.parent.glob("cache.sqlite*"):
        part.write_bytes(b"rotten" * 2000)
    assert soft.read("7") is None
    write(soft, "a")
    assert soft.read("a") == b"entry"


def test_damage_in_the_middle_of_the_file_is_noticed(store: SQLiteStore, path: Path) -> None:
    soft = FailSoftStore(store)
    for number in range(50):
        write(soft, f"{number}", bytes(10_000))
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"rotten" * 20_000)
    assert [soft.read(f"{number}") for number in range(50)].count(None) > 0
    write(soft, "a")
    write(soft, "a")
    assert soft.read("a") == b"entry"


def test_a_file_that_is_replaced_by_another_is_opened_again(store: SQLiteStore, path: Path) -> None:
    """Otherwise `flask cache clear` would not reach a process that has opened the old one."""
    write(store, "a")
    for part in path.parent.glob("cache.sqlite*"):
        part.unlink()
    assert store.read("a") is None
    write(store, "b")
    with closing(SQLiteStore(path, max_bytes=MIB, stale=600)) as other:
        assert other.read("b") == b"entry"


OPENER = """
import sys, time
from pathlib import Path
from movies.november7.sqlite_store import SQLiteStore
for turn in range(5):
    print("ready", flush=True)
    path = Path(sys.stdin.readline().strip())
    store = SQLiteStore(path, max_bytes=2**20, stale=600)
    store.open(30)
    store.write(sys.argv[1], b"entry", time.time(), time.time() + 60)
    assert store.read(sys.argv[1]) == b"entry"
    store.close()
"""


@pytest.mark.slow
def test_a_corrupt_file_is_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    """One of them replaces it, and all of them use the same new file."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, f"{number}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for turn in range(5):
        path = tmp_path / f"{turn}.sqlite"
        path.write_bytes(b"not a database" * 500)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    for turn in range(5):
        with closing(SQLiteStore(tmp_path / f"{turn}.sqlite", max_bytes=MIB, stale=600)) as store:
            assert {key for key, _, _ in store.entries()} == {f"{number}" for number in range(4)}


def size(path: Path) -> int:
    """The bytes of the file, its write-ahead log included."""
    return sum(part.stat().st_size for part in path.parent.glob("cache.sqlite*"))


def test_the_file_stays_within_the_bound(path: Path) -> None:
    with closing(SQLiteStore(path, max_bytes=4 * MIB, stale=600)) as store:
        for number in range(200):
            write(store, f"{number}", bytes(100_000))
        assert path.stat().st_size < 4.5 * MIB
        assert size(path) < 4.5 * MIB + module.WAL_BYTES


def test_a_clear_releases_disk_space(store: SQLiteStore, path: Path) -> None:
    for number in range(100):
        write(store, f"{number}", bytes(100_000))
    assert size(path) > 8 * MIB
    store.delete("")
    assert size(path) < 0.2 * MIB


def test_a_smaller_limit_releases_disk_space_in_steps(store: SQLiteStore, path: Path) -> None:
    for number in range(100):
        write(store, f"{number}", bytes(100_000))
    with closing(SQLiteStore(path, max_bytes=2 * MIB, stale=600)) as smaller:
        for _ in range(12):
            write(smaller, "new")
    store.close()
    assert path.stat().st_size < 2.5 * MIB
