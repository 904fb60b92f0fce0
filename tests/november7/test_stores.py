"""What both stores of cache entries have in common."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from movies.november7.redis_store import RedisStore
from movies.november7.sqlite_store import SQLiteStore
from movies.november7.store import Store

STALE = 600
LARGE = 2**40
MIB = 2**20


@pytest.fixture(params=["sqlite", "redis"])
def make_store(request: pytest.FixtureRequest, directory: Path) -> Iterator[Callable[..., Store]]:
    """Makes stores of the same entries; the test runs once on each kind."""
    made: list[Store] = []

    def make(max_bytes: int = LARGE) -> Store:
        if request.param == "redis":
            redis: Redis = request.getfixturevalue("redis")
            made.append(RedisStore(redis, "test", max_bytes=max_bytes, stale=STALE))
        else:
            path = directory / "cache.sqlite"
            made.append(SQLiteStore(path, max_bytes=max_bytes, stale=STALE))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    return make_store()


def write(store: Store, key: str, entry: bytes = b"entry", *, age: float = 0) -> None:
    """Write an entry that was fetched `age` seconds ago and is fresh for a minute."""
    fetched_at = time.time() - age
    store.write(key, entry, fetched_at, fetched_at + 60)


def keys(store: Store) -> set[str]:
    return {key for key, _, _ in store.entries()}


def test_an_entry_is_read_as_it_was_written(store: Store) -> None:
    entry = bytes(range(256)) * 1000
    write(store, "a", entry)
    assert (store.read("a"), store.read("b")) == (entry, None)


def test_a_second_write_replaces_the_first(store: Store) -> None:
    write(store, "a", b"one")
    write(store, "a", b"two")
    assert store.read("a") == b"two"
    assert [(key, size) for key, _, size in store.entries()] == [("a", 3)]


def test_entries_are_seen_by_other_processes(make_store: Callable[..., Store]) -> None:
    write(make_store(), "a")
    assert make_store().read("a") == b"entry"


def test_entries_are_listed_with_the_end_of_their_freshness(store: Store) -> None:
    write(store, "a", age=20)
    ((key, expires_at, size),) = store.entries()
    assert (key, size) == ("a", 5)
    assert expires_at == pytest.approx(time.time() + 40, abs=5)


def test_a_delete_takes_the_entries_with_a_prefix(store: Store) -> None:
    for number in range(100):
        write(store, f"a-{number}")
    write(store, "ab")
    write(store, "b-1")
    assert store.delete("a-") == 100
    assert keys(store) == {"ab", "b-1"}
    assert store.delete("a-") == 0


def test_a_delete_without_a_prefix_takes_everything(store: Store) -> None:
    for number in range(100):
        write(store, f"{number}")
    assert store.delete("") == 100
    assert keys(store) == set()


def test_an_entry_past_its_stale_window_is_removed(store: Store) -> None:
    """By the next write. Redis does not list it at all."""
    write(store, "old", age=60 + STALE - 0.05)
    write(store, "stale", age=60 + STALE - 100)
    time.sleep(0.1)
    write(store, "new")
    assert keys(store) == {"stale", "new"}


def test_a_store_keeps_within_its_bound(make_store: Callable[..., Store]) -> None:
    """The oldest entries are removed first, and the newest are kept."""
    store = make_store(2 * MIB)
    for number in range(60):
        write(store, f"{number:02}", bytes(100_000), age=100 - number)
    left = sorted(keys(store))
    assert sum(size for _, _, size in store.entries()) <= 2 * MIB
    assert 15 <= len(left) <= 20
    assert left == [f"{number:02}" for number in range(60 - len(left), 60)]


def test_a_smaller_bound_is_reached_in_small_batches(make_store: Callable[..., Store]) -> None:
    """One write removes at most 32 entries."""
    store = make_store()
    for number in range(100):
        write(store, f"{number}", bytes(50_000), age=200 - number)
    smaller = make_store(MIB)
    write(smaller, "new")
    assert len(keys(store)) == 101 - 32
    for _ in range(5):
        write(smaller, "new")
    assert sum(size for _, _, size in store.entries()) <= MIB


def test_replacing_entries_does_not_fill_the_bound(make_store: Callable[..., Store]) -> None:
    """Replaced, deleted and expired entries are not counted."""
    store = make_store(2 * MIB)
    for _ in range(50):
        write(store, "a", bytes(400_000))
    write(store, "b", bytes(400_000))
    assert keys(store) == {"a", "b"}
    store.delete("")
    for name in "cdef":
        write(store, name, bytes(400_000))
    assert keys(store) == set("cdef")
