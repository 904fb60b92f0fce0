"""Clients of the stand-in provider, and the movies and searches of the tests."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from helpers import counted, eventually
from redis import Redis

from movies.november7.blocks import Page
from movies.november7.cache import MEMORY_SECONDS, BlockCache, open_store
from movies.november7.client import Client
from movies.november7.errors import Unavailable
from movies.november7.session import ProviderSession
from movies.november7.transport import BoundedHTTPAdapter
from stand_in.catalogue import Answer, Catalogue

TTL, STALE = 60, 600
LONG, SHORT = 30.0, 0.3  # deadlines: for what succeeds, and for what takes too long
QUERY = "matrix"  # of which the sample catalogue holds five
STRANGER = "00000000-0000-4000-8000-999999999999"  # the id of no movie
FAULT_KINDS = ["refuse", "error", "reset", "malformed", "html", "truncated", "short", "hang"]


def build_client(
    url: str,
    directory: Path,
    *,
    ttl: int = TTL,
    max_bytes: int = 2**28,
    memory: float = MEMORY_SECONDS,
    redis: Redis | None = None,
    **settings: Any,
) -> Client:
    """A client of the provider at `url`, which caches in `directory` or in `redis`."""
    path = directory / "cache.sqlite"
    store = open_store(path=path, redis=redis, max_bytes=max_bytes, stale=STALE)
    session = ProviderSession(
        BoundedHTTPAdapter(), url.rstrip("/") + "/movies/", ttl=ttl, store=store
    )
    settings = {"deadline": LONG, "concurrency": 8, "redis": redis} | settings
    return Client(session, BlockCache(store, stale=STALE, memory=memory), **settings)


def unreachable_redis() -> Redis:
    """A client of a Redis that refuses every connection."""
    return Redis.from_url("redis://127.0.0.1:1", socket_timeout=0.5, socket_connect_timeout=0.5)


def movie(number: int = 1, **members: Any) -> Any:
    """A movie as the provider sends it, which may break its contract."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "title": f"Movie {number}",
        "description": "Of which there is little to say.",
        "image_url": f"https://images.example/{number}.jpg",
        "rating": 7.5,
        **members,
    }


class JoinedCatalogue(Catalogue):
    """A catalogue that answers once a number of `callers` have joined fetches in progress."""

    def __init__(self, movies: Sequence[Any], callers: int) -> None:
        super().__init__(movies)
        self._expected = self._joined() + callers

    def answer(self, method: str, target: str) -> Answer:
        assert eventually(lambda: self._joined() >= self._expected)
        return super().answer(method, target)

    @staticmethod
    def _joined() -> float:
        return counted("november7_fetches_joined_total")


def search(client: Client, query: str = QUERY) -> Page:
    """The first three movies that match."""
    return client.search(query, skip=0, limit=3)


def titles(page: Page) -> list[str]:
    return [movie["title"] for movie in page.movies]


def fail(client: Client, times: int = 3) -> None:
    """Make `times` cold searches that fail, at once."""

    def search(number: int) -> None:
        with suppress(Unavailable):
            client.search(f"cold {number}", skip=0, limit=1)

    with ThreadPoolExecutor(times) as pool:
        list(pool.map(search, range(times)))
