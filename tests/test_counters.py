"""Counters of rate limits: how processes share hits, and when windows end."""

import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from redis import RedisError

from movies import counters
from movies.counters import Count, Counters, SQLiteStore


def hits(counting: Counters, times: int) -> list[int]:
    return [counting.hit({"key": 0})[0].hits for _ in range(times)]


def test_files_share_counts_and_are_private(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    first, second = Counters(SQLiteStore(path)), Counters(SQLiteStore(path))
    assert (hits(first, 2), hits(second, 2), hits(first, 1)) == ([1, 2], [3, 4], [5])
    assert path.stat().st_mode & 0o777 == 0o600


class Shared(SQLiteStore):
    """A store that notes what it is sent."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sent: list[dict[str, int]] = []

    def add(self, hits: Mapping[str, int]) -> list[counters.Count]:
        self.sent.append(dict(hits))
        return super().add(hits)


def test_hits_are_shared_together_after_a_moment(tmp_path: Path) -> None:
    """Those of all keys. Meanwhile this process counts its own hits."""
    store = Shared(tmp_path / "counters")
    counting = Counters(store)
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        assert [counting.hit({"key": 12})[0].hits for _ in range(5)] == [1, 2, 3, 4, 5]
        counting.hit({"other": 12})
        assert store.sent == [{"key": 1}]
        assert hits(Counters(SQLiteStore(tmp_path / "counters")), 1) == [2]
        clock.shift(2 * counters.SHARE_INTERVAL)
        [count] = counting.hit({"key": 12})
    assert store.sent == [{"key": 1}, {"key": 5, "other": 1}]
    assert count.hits == 7  # the other process's hit included


def test_a_process_keeps_a_bounded_number_of_hits_to_itself(tmp_path: Path) -> None:
    store = Shared(tmp_path / "counters")
    counting = Counters(store)
    with time_machine.travel(datetime.now(UTC), tick=False):
        for _ in range(31):
            counting.hit({"key": 9})
    assert store.sent == [{"key": 1}, {"key": 10}, {"key": 10}, {"key": 10}]


def test_hits_count_once_while_another_batch_is_on_its_way(tmp_path: Path) -> None:
    """The second batch gets its response first. Its count already contains the first batch."""
    counting = Counters(store := Shared(tmp_path / "counters"))
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:

        def overtaken(batch: Mapping[str, int]) -> list[counters.Count]:
            counts = Shared.add(store, batch)
            store.add = first_answer  # type: ignore[method-assign]
            clock.shift(2 * counters.SHARE_INTERVAL)
            assert hits(counting, 1) == [2]
            assert counting.hit({"key": 9})[0].hits == 3
            return counts

        first_answer = store.add
        store.add = overtaken  # type: ignore[method-assign, assignment]
        assert counting.hit({"key": 9})[0].hits == 1


def test_a_clock_that_is_set_back_does_not_lengthen_a_window(tmp_path: Path) -> None:
    counting = Counters(SQLiteStore(tmp_path / "counters"))
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        counting.hit({"key": 0})
        clock.shift(timedelta(hours=-1))
        [count] = counting.hit({"key": 9})
    assert count.resets_in <= counters.WINDOW


def test_hits_of_a_window_that_has_ended_are_not_shared(tmp_path: Path) -> None:
    store = Shared(tmp_path / "counters")
    counting = Counters(store)
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        for _ in range(3):
            counting.hit({"key": 9})
        clock.shift(timedelta(seconds=counters.WINDOW + 1))
        counting.hit({"other": 9})
    assert store.sent == [{"key": 1}, {"other": 1}]


def test_parallel_hits_of_an_exact_limit_each_have_their_own_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "SQLITE_TIMEOUT", 60)  # a busy machine is no outage
    counting = [Counters(SQLiteStore(tmp_path / "counters")) for _ in range(2)]
    with ThreadPoolExecutor(20) as pool:
        seen = list(pool.map(lambda turn: hits(counting[turn % 2], 1)[0], range(100)))
    assert sorted(seen) == list(range(1, 101))


def test_a_window_ends_and_its_row_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    counting = Counters(SQLiteStore(path))
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        assert counting.hit({"key": 0}) == [(1, counters.WINDOW)]
        clock.shift(timedelta(seconds=59))
        [(number, resets_in)] = counting.hit({"key": 0})
        assert (number, round(resets_in, 3)) == (2, 1)
        clock.shift(timedelta(seconds=1))
        assert counting.hit({"key": 0}) == [(1, counters.WINDOW)]
        clock.shift(timedelta(seconds=61))
        counting.hit({"other": 0})
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT key FROM windows").fetchall() == [("other",)]


def test_a_process_remembers_a_bounded_number_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest ones."""
    monkeypatch.setattr(counters, "MAX_KEYS", 100)
    counting = Counters(SQLiteStore(tmp_path / "counters"))
    for number in range(1000):
        counting.hit({f"key {number}": 0})
    assert len(counting._windows) <= 100
    assert counting.hit({"key 999": 0})[0].hits == 2


class NoStore(SQLiteStore):
    """A store that fails, so that a process counts on its own."""

    def add(self, hits: Mapping[str, int]) -> list[Count]:
        raise RedisError("there is no Redis")


@pytest.mark.slow
def test_a_hit_costs_the_same_however_many_keys_a_process_remembers() -> None:
    """In CPU time, compared with that of a process that has few."""

    def cost(counting: Counters) -> float:
        began = time.process_time()
        for number in range(2000):
            counting.hit({f"key {number % 7}": 0})
        return time.process_time() - began

    few, many = Counters(NoStore(Path())), Counters(NoStore(Path()))
    for number in range(counters.MAX_KEYS - 100):
        many.hit({f"other key {number}": 0})
    assert cost(many) < 10 * cost(few)
