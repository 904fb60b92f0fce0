"""What the client caches, and what a store's failures cost."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import counted, eventually
from redis import Redis

from movies.november7.blocks import BlockKey
from movies.november7.cache import MEMORY_SECONDS
from movies.november7.client import Client
from november7.clients import QUERY, STALE, TTL, unreachable_redis
from november7.texts import TEXTS
from stand_in.catalogue import query_parameters
from stand_in.server import StandIn

Make = Callable[..., Client]


@pytest.fixture
def uncached(make_client: Make, cache: dict[str, Redis]) -> Make:
    """Makes clients that keep nothing in memory, on either store."""
    return lambda **settings: make_client(memory=0, **cache, **settings)


def search(client: Client, query: str = QUERY) -> str:
    return client.search(query, skip=0, limit=3).source


@pytest.mark.parametrize("text", [text for text in TEXTS if text], ids=ascii)
def test_every_query_is_sent_unchanged(make_client: Make, stand_in: StandIn, text: str) -> None:
    client = make_client(memory=0)
    assert [search(client, text), search(client, text)] == ["miss", "hit"]
    assert [query_parameters(target)["query"] for target in stand_in.requests] == [text]


def test_page_sizes_share_one_request(uncached: Make, stand_in: StandIn) -> None:
    """Paging through results with any page size finds them cached after the first page."""
    client = uncached()
    sources = [
        client.search("a", skip=skip, limit=size).source
        for size in (7, 8, 10, 100)
        for skip in range(0, 60, size)
    ]
    assert sources == ["miss"] + ["hit"] * (len(sources) - 1)
    assert stand_in.requests == ["/movies/?skip=0&limit=100&query=a"]


def test_an_entry_in_redis_is_json_and_expires_with_its_stale_window(
    make_client: Make, redis: Redis
) -> None:
    client = make_client(redis=redis)
    search(client)
    name = f"{{november7}}:entry:{BlockKey(QUERY, 0, 100).cache_key(client.url)}"
    assert eventually(lambda: redis.exists(name) == 1)  # stored after the search has its page
    entry: Any = redis.get(name)
    left: Any = redis.ttl(name)
    assert json.loads(entry)["page"]["total"] == 5
    assert TTL + STALE - 5 < left <= TTL + STALE + 1


def test_an_entry_in_sqlite_is_json(make_client: Make, directory: Path) -> None:
    search(make_client())
    with sqlite3.connect(directory / "cache.sqlite") as connection:
        ((entry,),) = connection.execute("SELECT entry FROM entries").fetchall()
    connection.close()
    assert json.loads(entry)["page"]["total"] == 5


def test_a_cache_outlives_its_process(uncached: Make, stand_in: StandIn) -> None:
    assert [search(uncached()), search(uncached())] == ["miss", "hit"]
    assert len(stand_in.requests) == 1


def test_a_block_is_served_from_memory_for_a_moment(
    make_client: Make, cache: dict[str, Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(memory=60, **cache)
    search(client)
    monkeypatch.setattr(client.cache.store, "read", None)
    assert search(client) == "hit"


def test_memory_is_forgotten_within_a_second() -> None:
    """So a clear by one process reaches the others in that time."""
    assert MEMORY_SECONDS < 1


def test_an_entry_that_cannot_be_decoded_is_a_miss(uncached: Make) -> None:
    """It is fetched and replaced."""
    client = uncached()
    search(client)
    key = BlockKey(QUERY, 0, 100).cache_key(client.url)
    assert eventually(lambda: client.cache.store.read(key) is not None)
    client.cache.store.write(key, b'{"page":{"another":"shape"}}', 4e9, 4e9)
    assert [search(client), search(client)] == ["miss", "hit"]


def test_an_unreachable_redis_is_a_miss(make_client: Make, stand_in: StandIn) -> None:
    """Each search asks the provider, and each failure is counted."""
    client = make_client(redis=unreachable_redis(), memory=0)
    errors = counted("november7_cache_store_errors_total")
    assert [search(client), search(client)] == ["miss", "miss"]
    assert len(stand_in.requests) == 2
    assert counted("november7_cache_store_errors_total") > errors
    assert client.cache.is_failing
