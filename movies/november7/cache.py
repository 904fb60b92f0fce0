"""The cache of blocks: a short-lived memory cache in front of a store."""

import time
from pathlib import Path
from threading import Lock

from cachetools import TTLCache
from redis import Redis

from movies.november7.blocks import Page, decode
from movies.november7.redis_store import RedisStore
from movies.november7.sqlite_store import SQLiteStore
from movies.november7.store import FailSoftStore

NAMESPACE = "november7"
MEMORY_SECONDS = 0.9  # `flask cache clear` reaches every process within a second
MEMORY_MOVIES = 10_000  # about 10 MB


class BlockCache:
    """Blocks by cache key. Safe for any number of threads.

    `stale`: seconds past its freshness for which a block is still returned. A block stays in memory
    for `memory` seconds after it was read, so popular searches read and parse nothing.
    """

    def __init__(
        self, store: FailSoftStore, *, stale: float, memory: float = MEMORY_SECONDS
    ) -> None:
        self.store = store
        self._stale = stale
        self._lock = Lock()
        self._memory: TTLCache[str, Page] = TTLCache(MEMORY_MOVIES, memory, getsizeof=_size)

    @property
    def is_failing(self) -> bool:
        """Whether the store's last read or last write failed."""
        return self.store.is_failing

    def get(self, key: str, *, from_store: bool = False) -> Page | None:
        """The block, fresh or stale, or None. With `from_store`, not what memory holds."""
        block = None
        if not from_store:
            with self._lock:
                block = self._memory.get(key)
        if block is None:
            entry = self.store.read(key)
            block = decode(entry) if entry is not None else None
            if block is not None:
                self.remember(key, block)
        if block is None or time.time() >= block.expires_at + self._stale:
            return None
        return block

    def remember(self, key: str, block: Page) -> None:
        """Keep a block in memory for a moment."""
        with self._lock:
            self._memory[key] = block


def _size(block: Page) -> int:
    """What a block counts in memory: its movies, and one so that empty blocks count too."""
    return 1 + len(block.movies)


def open_store(*, path: Path, redis: Redis | None, max_bytes: int, stale: float) -> FailSoftStore:
    """The store in `redis`, or in the SQLite file `path` without one.

    A file that another process has locked is waited for briefly, and opened later if that is not
    enough.
    """
    if redis is not None:
        return FailSoftStore(RedisStore(redis, NAMESPACE, max_bytes=max_bytes, stale=stale))
    sqlite_store = SQLiteStore(path, max_bytes=max_bytes, stale=stale)
    store = FailSoftStore(sqlite_store)
    store.attempt("read", sqlite_store.open)
    return store
