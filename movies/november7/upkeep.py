"""Looking after the cache: what is in it, and making it go."""

from collections.abc import Mapping
from typing import Any

from movies.november7.client import Client
from movies.november7.session import query_prefix


def stats(client: Client, hits: Mapping[str, int]) -> dict[str, Any]:
    """How many pages the cache holds, how many are fresh and stale, and how large they are.

    `size` is in bytes of answers. `hits`: look-ups by result, for the rate of those that needed
    no waiting.
    """
    fresh = stale = size = 0
    for response in client.cache.filter():
        if response.is_expired:
            stale += 1
        else:
            fresh += 1
        size += response.size
    asked = sum(hits.values())
    rate = f"{(asked - hits.get('miss', 0)) / asked:.1%}" if asked else "not known"
    return {
        "entries": fresh + stale,
        "fresh": fresh,
        "stale": stale,
        "size": f"{size} bytes",
        "hit rate": rate,
    }


def clear(client: Client, query: str | None = None) -> int:
    """Delete all pages, or those of one search; how many those were."""
    prefix = "" if query is None else query_prefix(client.url, query.strip())
    keys = [key for key in client.cache.responses if key.startswith(prefix)]
    client.cache.responses.bulk_delete(keys)
    return len(keys)
