"""Cache entries in Redis: evictions, expiry, foreign keys and outages."""

import shutil
import time

import pytest
from helpers import counted
from redis import Redis, RedisError
from services import own_redis

from movies.november7.redis_store import OVERHEAD, RedisStore
from movies.november7.store import FailSoftStore

MIB = 2**20


@pytest.fixture
def store(redis: Redis) -> RedisStore:
    return RedisStore(redis, "test", max_bytes=2 * MIB, stale=600)


def write(store: RedisStore | FailSoftStore, key: str, size: int = 100_000) -> None:
    now = time.time()
    store.write(key, bytes(size), now, now + 60)


def total(redis: Redis) -> int:
    """The sum of the sizes as the store counts it."""
    return int(redis.hget("{test}:sizes", "") or 0)


def test_the_total_is_that_of_the_entries(redis: Redis, store: RedisStore) -> None:
    for number in range(50):
        write(store, f"{number % 30}", 1000 * number)
    store.delete("1")
    sizes = [size for _, _, size in store.entries()]
    assert total(redis) == sum(sizes) + OVERHEAD * len(sizes)


@pytest.mark.parametrize("evicted", ["{test}:ages", "{test}:sizes", "{test}:*"])
def test_the_store_survives_an_eviction(redis: Redis, store: RedisStore, evicted: str) -> None:
    """Counting starts again, and later writes respect the limit."""
    for number in range(10):
        write(store, f"before-{number}")
    redis.delete(*(redis.keys(evicted)))
    for number in range(30):
        write(store, f"after-{number}")
    after = [size for key, _, size in store.entries() if key.startswith("after")]
    assert store.read("after-29") is not None
    assert 15 <= len(after) <= 20
    assert total(redis) <= 2 * MIB


@pytest.mark.parametrize("name", ["{test}:ages", "{test}:sizes", "{test}:entry:a"])
def test_a_key_of_the_wrong_type_costs_one_miss(redis: Redis, store: RedisStore, name: str) -> None:
    """The next write replaces it."""
    soft = FailSoftStore(store)
    write(soft, "b")
    redis.delete(name)
    redis.lpush(name, "not what it should be")
    assert soft.read("a") is None
    assert not soft.is_paused
    write(soft, "a")
    assert soft.read("a") is not None
    assert soft.read("b") is not None


def test_a_read_only_redis_is_still_read() -> None:
    """As a demoted primary is; what cannot be written is counted."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    with own_redis(binary) as url, Redis.from_url(url) as redis:
        soft = FailSoftStore(RedisStore(redis, "test", max_bytes=MIB, stale=600))
        write(soft, "a")
        redis.replicaof("127.0.0.1", 1)
        errors = counted("november7_cache_store_errors_total")
        write(soft, "b")
        assert counted("november7_cache_store_errors_total") == errors + 1
        assert soft.read("a") is not None
        assert (soft.is_paused, soft.is_failing) == (False, True)
        assert counted("november7_cache_failing") == 1
        redis.replicaof("NO", "ONE")
        write(soft, "b")
        assert soft.read("b") is not None
        assert counted("november7_cache_failing") == 0


def test_a_redis_that_refuses_connections_is_left_alone_for_a_moment() -> None:
    away = Redis.from_url("redis://127.0.0.1:1")
    soft = FailSoftStore(RedisStore(away, "test", max_bytes=MIB, stale=600))
    errors = counted("november7_cache_store_errors_total")
    assert [soft.read("a") for _ in range(10)] == [None] * 10
    assert counted("november7_cache_store_errors_total") == errors + 1
    with pytest.raises(RedisError):
        soft.store.delete("")
