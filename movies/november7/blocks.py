"""Blocks: the aligned parts of a result list that are fetched from November 7 and cached.

Pages of all sizes are cut from the same blocks. So a movie is not cached again for each page size,
and the next pages of a search are mostly cached.
"""

import hashlib
import math
import time
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Literal, get_args

import orjson

from movies.november7.contract import ProviderMovie
from movies.november7.deadline import Deadline

FORMAT = 2  # version of entries, part of their keys; increase it when their content changes
SEARCH_BLOCK = 100  # movies, as in the largest page, so that a page needs at most two blocks
CATALOGUE_BLOCK = 1000  # movies: the largest answer that November 7 was observed to send

Movies = list[ProviderMovie]


@dataclass(frozen=True, slots=True)
class BlockKey:
    """A block of the movies that match `query`, or of the whole catalogue if it is None."""

    query: str | None
    skip: int
    limit: int

    def parameters(self) -> dict[str, str | int]:
        """The query parameters of the provider request for this block."""
        parameters: dict[str, str | int] = {"skip": self.skip, "limit": self.limit}
        if self.query is not None:
            parameters["query"] = self.query
        return parameters

    def cache_key(self, url: str) -> str:
        """The key under which the cache holds this block of the provider at `url`."""
        return f"{key_prefix(url, self.query)}{self.skip}-{self.limit}"


def key_prefix(url: str, query: str | None) -> str:
    """The start of the cache keys of all blocks of a query.

    The query is hashed exactly as it is sent: two queries share entries only if they are equal.
    """
    text = url if query is None else f"{url}\n{query}"
    return f"{FORMAT}-{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}-"


def block_keys(query: str | None, skip: int, limit: int) -> list[BlockKey]:
    """The blocks that hold the movies from `skip` up to `skip + limit`."""
    size = CATALOGUE_BLOCK if query is None else SEARCH_BLOCK
    first = skip - skip % size
    return [BlockKey(query, start, size) for start in range(first, skip + limit, size)]


Source = Literal["miss", "collapsed", "stale", "hit"]
Reason = Literal["miss", "stale", "request", "partial"]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a result list, such as a block, and where it comes from.

    `total`: how many movies match in all. `fetched_at`, `expires_at`: Unix times in seconds of the
    oldest answer in it and of the end of its freshness. `is_complete`: whether it has all movies
    that November 7's totals promise. `source`: `hit`, a fresh page from the cache; `stale`, one
    that is stale; `miss`, one that was fetched for this caller; `collapsed`, one that was fetched
    for another caller at the same time. `reason`: why it was fetched, in the terms of RFC 9211.
    `refresh`: what became of a stale page's refresh. `handled`: for each fetched block, an event
    that is set once `on_fetch` of the client has returned. It is empty for cached pages.
    """

    total: int
    movies: Movies
    fetched_at: float
    expires_at: float
    is_complete: bool = True
    source: Source = "miss"
    reason: Reason = "miss"
    refresh: Literal["scheduled", "failing", "postponed"] | None = None
    handled: tuple[Event, ...] = field(default=(), compare=False)

    def wait_until_handled(self, seconds: float) -> None:
        """Wait until `on_fetch` has returned for all blocks, at most `seconds`."""
        deadline = Deadline.after(seconds)
        for event in self.handled:
            event.wait(deadline.left())

    def is_fresh(self, now: float) -> bool:
        """Whether it is fresh at `now`, a Unix time in seconds."""
        return now < self.expires_at

    @property
    def is_fetched(self) -> bool:
        """Whether November 7 was asked for it, or for a part of it."""
        return self.source in ("miss", "collapsed")

    @property
    def age(self) -> int:
        """Whole seconds since November 7 gave this answer; 0 if it was fetched just now."""
        if self.is_fetched and self.reason != "partial":
            return 0
        return max(0, int(time.time() - self.fetched_at))

    @property
    def ttl(self) -> int:
        """Whole seconds for which it is still fresh; negative once it is stale."""
        return math.floor(self.expires_at - time.time())


def encode(content: bytes, fetched_at: float, expires_at: float) -> bytes:
    """The cache entry of a checked answer whose body is `content`, a JSON object."""
    times = orjson.dumps({"fetched_at": fetched_at, "expires_at": expires_at})
    return times[:-1] + b',"page":' + content + b"}"


def decode(entry: bytes) -> Page | None:
    """The block in a cache entry; None if this release cannot read it."""
    try:
        content = orjson.loads(entry)
        page = content["page"]
        block = Page(
            page["total"],
            page["items"],
            content["fetched_at"],
            content["expires_at"],
            page.get("is_complete", True),
        )
        is_valid = all(map(_is_movie, block.movies)) and all(
            isinstance(number, int | float)
            for number in (block.total, block.fetched_at, block.expires_at)
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return block if is_valid else None


def _is_movie(movie: Any) -> bool:
    keys: frozenset[str] = ProviderMovie.__required_keys__
    return bool(movie.keys() == keys) and isinstance(movie["id"], str)


def joined(parts: list[tuple[BlockKey, Page]], skip: int, limit: int) -> Page:
    """The movies from `skip` up to `skip + limit` of adjacent blocks.

    Its total is that of the newest block, its age that of the oldest. It counts as fetched if any
    of its blocks was, and as `partial` if any was not.
    """
    pages = [page for _, page in parts]
    movies: Movies = []
    for key, page in parts:
        movies += page.movies[max(0, skip - key.skip) : skip + limit - key.skip]
    page = min(reversed(pages), key=lambda page: get_args(Source).index(page.source))
    is_partial = page.is_fetched and not all(page.is_fetched for page in pages)
    return replace(
        page,
        total=max(pages, key=lambda page: page.fetched_at).total,
        movies=movies,
        fetched_at=min(page.fetched_at for page in pages),
        expires_at=min(page.expires_at for page in pages),
        is_complete=all(_is_whole(key, page) for key, page in parts),
        reason="partial" if is_partial else page.reason,
        handled=tuple(event for page in pages for event in page.handled),
    )


def _is_whole(key: BlockKey, page: Page) -> bool:
    """Whether a block has all its movies: none was missing, or left out because it was bad."""
    return len(page.movies) >= min(key.limit, page.total - key.skip)
