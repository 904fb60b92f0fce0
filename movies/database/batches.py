"""Lets requests that read at the same time share one statement.

Most of the cost of a small statement is its round trip. While a statement of this process runs,
further reads are collected, and the next statement reads for all of them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

MAX_READS = 16  # of one statement
PATIENCE = 0.1  # seconds that a read waits for the statement of others, then it has its own

Key = TypeVar("Key")
Result = TypeVar("Result")


class _Read(Generic[Key, Result]):
    """A read that waits. When `woken`, it has a result, or the next statement is its own."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.results: list[Result] = []
        self.is_next = False
        self.woken = Lock()
        self.woken.acquire()


class Batches(Generic[Key, Result]):
    """Runs `read_all`, which returns a result for each key, for the keys of several threads."""

    def __init__(self, read_all: Callable[[Sequence[Key]], list[Result]]) -> None:
        self._read_all = read_all
        self._lock = Lock()
        self._is_running = False
        self._waiting: deque[_Read[Key, Result]] = deque()

    def read(self, key: Key) -> Result:
        """The result for `key`, read after this call began. Raises what `read_all` raises.

        The key is read alone if the statement of others fails or takes too long.
        """
        read: _Read[Key, Result] = _Read(key)
        with self._lock:
            if self._is_running:
                self._waiting.append(read)
            else:
                self._is_running = read.is_next = True
        if not read.is_next:
            read.woken.acquire(timeout=PATIENCE)
            with self._lock:
                if read in self._waiting:
                    self._waiting.remove(read)
        if read.is_next:
            self._run_with(read)
        return (read.results or self._read_all([key]))[0]

    def _run_with(self, first: _Read[Key, Result]) -> None:
        """Read for `first` and those that wait, then let the next one begin."""
        with self._lock:
            batch = [first]
            while self._waiting and len(batch) < MAX_READS:
                batch.append(self._waiting.popleft())
        try:
            results = self._read_all([read.key for read in batch])
            for read, result in zip(batch, results, strict=True):
                read.results.append(result)
        finally:
            with self._lock:
                self._is_running = bool(self._waiting)
                if self._waiting:
                    following = self._waiting.popleft()
                    following.is_next = True
                    following.woken.release()
            for read in batch[1:]:
                read.woken.release()
