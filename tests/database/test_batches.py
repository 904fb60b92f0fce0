"""Reads of several threads that share a statement."""

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from helpers import eventually

from movies.database import batches as module
from movies.database.batches import MAX_READS, Batches


class Table:
    """Reads of keys that wait until they are let go. `statements` holds the keys of each."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.statements: list[list[str]] = []
        self.fails_for: set[str] = set()

    def read_all(self, keys: Sequence[str]) -> list[str]:
        self.statements.append(list(keys))
        self.let_go.wait(30)
        if failing := self.fails_for.intersection(keys):
            raise LookupError(*failing)
        return [key.upper() for key in keys]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reads wait for others however busy the machine is."""
    monkeypatch.setattr(module, "PATIENCE", 30)


def read_behind(table: Table, first: str, others: Sequence[str]) -> list[str | BaseException]:
    """The results of a read, and of others that begin while its statement runs."""
    batches = Batches(table.read_all)

    def read(key: str) -> str | BaseException:
        try:
            return batches.read(key)
        except LookupError as error:
            return error

    with ThreadPoolExecutor(1 + len(others)) as pool:
        reads = [pool.submit(read, first)]
        assert eventually(lambda: table.statements == [[first]])
        reads += [pool.submit(read, key) for key in others]
        assert eventually(lambda: len(batches._waiting) == len(others))
        table.let_go.set()
    return [read.result() for read in reads]


@pytest.mark.usefixtures("patient")
def test_reads_that_begin_while_a_statement_runs_share_the_next_one(table: Table) -> None:
    assert read_behind(table, "a", "bcd") == ["A", "B", "C", "D"]
    first, second = table.statements
    assert (first, sorted(second)) == (["a"], ["b", "c", "d"])


def test_reads_one_after_the_other_share_nothing(table: Table) -> None:
    table.let_go.set()
    batches = Batches(table.read_all)
    assert [batches.read(key) for key in "aba"] == ["A", "B", "A"]
    assert table.statements == [["a"], ["b"], ["a"]]


@pytest.mark.usefixtures("patient")
def test_a_statement_reads_for_a_limited_number(table: Table) -> None:
    keys = [f"key-{number}" for number in range(MAX_READS + 3)]
    assert read_behind(table, "a", keys) == ["A", *(key.upper() for key in keys)]
    assert [len(statement) for statement in table.statements] == [1, MAX_READS, 3]


@pytest.mark.usefixtures("patient")
def test_a_shared_statement_that_fails_is_reported_once(table: Table) -> None:
    """The other reads are repeated alone, and report errors of their own."""
    table.fails_for = {"d"}
    first, *others = read_behind(table, "a", "bcd")
    assert first == "A"
    assert {str(other) for other in others[:2]} <= {"d", "B", "C"}
    assert [len(statement) for statement in table.statements] == [1, 3, 1, 1]


@pytest.mark.usefixtures("patient")
def test_reads_continue_after_a_failure(table: Table) -> None:
    table.fails_for = {"a"}
    first, b = read_behind(table, "a", "b")
    assert (str(first), b) == ("a", "B")


def test_a_read_does_not_wait_long_for_the_statement_of_others(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    batches = Batches(table.read_all)
    with ThreadPoolExecutor(2) as pool:
        reads = [pool.submit(batches.read, key) for key in "ab"]
        assert eventually(lambda: sorted(table.statements) == [["a"], ["b"]])
        table.let_go.set()
    assert [read.result() for read in reads] == ["A", "B"]


@pytest.mark.parametrize("patience", [0.0, 0.0005, 30])
def test_every_read_of_many_threads_gets_its_own_result(
    patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the threads meet, and also if some statements fail."""
    monkeypatch.setattr(module, "PATIENCE", patience)
    dice = random.Random(7)
    waits = [dice.random() / 2000 for _ in range(100)]

    def read_all(keys: Sequence[int]) -> list[int]:
        threading.Event().wait(waits[keys[0] % 100])
        if len(keys) % 5 == 3:
            raise LookupError
        return [-key for key in keys]

    batches: Batches[int, int] = Batches(read_all)

    def is_right(key: int) -> bool | None:
        with suppress(LookupError):
            return batches.read(key) == -key
        return None

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(is_right, range(1000))) <= {True, None}
    assert not batches._waiting
    assert not batches._is_running
