"""Cache entries in Redis, shared by all processes.

Each entry is a string that expires by itself. To limit their total size, a sorted set lists them by
age, and a hash holds their sizes and, under the empty name, the total. Scripts keep the three
consistent. If Redis evicts the set or the hash, counting starts again, and entries that are no
longer counted still expire.
"""

import time
from collections.abc import Iterator
from typing import Any

from redis import ConnectionError as RedisConnectionError
from redis import Redis
from redis import TimeoutError as RedisTimeoutError

from movies.november7.store import MAX_REMOVALS

OVERHEAD = 300  # bytes that Redis 7 needs for an entry without its content, by MEMORY USAGE
SCAN_BATCH = 500  # keys

# KEYS: entry, ages, sizes. ARGV: content, size, age, lifetime in ms, maximum in bytes, batch.
SAVE = """
local entry, ages, sizes = KEYS[1], KEYS[2], KEYS[3]
if redis.call('TYPE', ages).ok ~= 'zset' or redis.call('TYPE', sizes).ok ~= 'hash' then
    redis.call('DEL', ages, sizes)
end
redis.call('SET', entry, ARGV[1], 'PX', ARGV[4])
local before = tonumber(redis.call('HGET', sizes, entry) or 0)
redis.call('HSET', sizes, entry, ARGV[2])
redis.call('ZADD', ages, ARGV[3], entry)
local total = redis.call('HINCRBY', sizes, '', tonumber(ARGV[2]) - before)
for _, oldest in ipairs(redis.call('ZRANGE', ages, 0, tonumber(ARGV[6]) - 1)) do
    if total > tonumber(ARGV[5]) or redis.call('EXISTS', oldest) == 0 then
        local size = tonumber(redis.call('HGET', sizes, oldest) or 0)
        redis.call('UNLINK', oldest)
        redis.call('ZREM', ages, oldest)
        redis.call('HDEL', sizes, oldest)
        total = redis.call('HINCRBY', sizes, '', -size)
    end
end
redis.call('PEXPIRE', ages, ARGV[4])
redis.call('PEXPIRE', sizes, ARGV[4])
"""
# KEYS: ages, sizes, entries …
DELETE = """
local deleted = 0
for i = 3, #KEYS do
    deleted = deleted + redis.call('UNLINK', KEYS[i])
    local size = tonumber(redis.call('HGET', KEYS[2], KEYS[i]) or 0)
    redis.call('ZREM', KEYS[1], KEYS[i])
    redis.call('HDEL', KEYS[2], KEYS[i])
    if size > 0 then redis.call('HINCRBY', KEYS[2], '', -size) end
end
return deleted
"""


class RedisStore:
    """Keeps at most `max_bytes` in `redis`; entries end `stale` seconds past their freshness.

    The keys start with `{namespace}:`; the braces keep them on one node of a Redis Cluster.
    """

    def __init__(self, redis: Redis, namespace: str, *, max_bytes: int, stale: float) -> None:
        self._redis = redis
        self._prefix = f"{{{namespace}}}:"
        self._counts = [f"{self._prefix}ages", f"{self._prefix}sizes"]
        self._max_bytes = max_bytes
        self._stale = stale
        self._save = redis.register_script(SAVE)
        self._delete = redis.register_script(DELETE)

    def read(self, key: str) -> bytes | None:
        entry: Any = self._redis.get(self._name(key))
        return entry if isinstance(entry, bytes) else None

    def write(self, key: str, entry: bytes, fetched_at: float, expires_at: float) -> None:
        lifetime = int((expires_at + self._stale - time.time()) * 1000)
        if lifetime > 0:
            size = len(entry) + OVERHEAD
            keys = [self._name(key), *self._counts]
            self._save(keys, [entry, size, fetched_at, lifetime, self._max_bytes, MAX_REMOVALS])

    def delete(self, prefix: str) -> int:
        return sum(int(self._delete([*self._counts, *names])) for names in self._names(prefix))

    def entries(self) -> Iterator[tuple[str, float, int]]:
        for names in self._names(""):
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.pttl(name)
                pipeline.strlen(name)
            results = pipeline.execute(raise_on_error=False)
            for name, left, size in zip(names, results[::2], results[1::2], strict=True):
                if left > 0 and isinstance(size, int):  # it may have expired or be no string
                    expires_at = time.time() + left / 1000 - self._stale
                    yield name.decode().removeprefix(f"{self._prefix}entry:"), expires_at, size

    def is_outage(self, error: Exception) -> bool:
        """A connection that fails or hangs; not an error reply, which is about one command."""
        return isinstance(error, RedisConnectionError | RedisTimeoutError | OSError)

    def close(self) -> None:
        self._redis.close()

    def _name(self, key: str) -> str:
        return f"{self._prefix}entry:{key}"

    def _names(self, prefix: str) -> Iterator[list[bytes]]:
        """The names of the entries whose keys start with `prefix`, in batches."""
        batch: list[bytes] = []
        for name in self._redis.scan_iter(match=f"{self._name(prefix)}*", count=SCAN_BATCH):
            batch.append(name)
            if len(batch) == SCAN_BATCH:
                yield batch
                batch = []
        if batch:
            yield batch
