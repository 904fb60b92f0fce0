"""Statistics and deletion of the cache, for the commands. Failures of the store are raised."""

import time
from collections.abc import Mapping
from typing import Any

from movies.november7.blocks import key_prefix
from movies.november7.client import Client


def stats(client: Client, hits: Mapping[str, int]) -> dict[str, Any]:
    """How many entries the cache holds, how many are fresh and stale, and their size in bytes.

    `hits`: lookups by result, for the rate of those that did not wait for November 7: from 0 to
    1, or None without lookups.
    """
    fresh = stale = size = 0
    now = time.time()
    for _, expires_at, entry_size in client.cache.store.store.entries():
        if now < expires_at:
            fresh += 1
        else:
            stale += 1
        size += entry_size
    asked = sum(hits.values())
    rate = (asked - hits.get("miss", 0)) / asked if asked else None
    return {
        "entries": fresh + stale,
        "fresh": fresh,
        "stale": stale,
        "size": size,
        "hit_rate": rate,
    }


def clear(client: Client, query: str | None = None) -> int:
    """Delete all entries, or those of one search, and return how many there were.

    Every process forgets them within a second.
    """
    prefix = "" if query is None else key_prefix(client.url, query.strip())
    return client.cache.store.store.delete(prefix)
