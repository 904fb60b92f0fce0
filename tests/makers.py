"""What the tests of the provider's border share: clients of it, movies, counts."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from prometheus_client import REGISTRY
from redis import Redis

from movies.november7.client import Client
from movies.november7.errors import Unavailable
from movies.november7.session import build_session
from movies.november7.transport import BoundedHTTPAdapter

TTL, STALE = 60, 600
QUERY = "matrix"  # of which the sample catalogue holds five


def make_client(url: str, directory: Path, **settings: Any) -> Client:
    """A client of the provider at `url`, which caches in `directory` or in `redis`."""
    settings = {"stale": STALE, "deadline": 2.0, "concurrency": 8} | settings
    session = build_session(
        BoundedHTTPAdapter(),
        ttl=settings.pop("ttl", TTL),
        stale=settings["stale"],
        path=directory / "cache.sqlite",
        redis=settings.get("redis"),
    )
    return Client(session, url.rstrip("/") + "/movies/", **settings)


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


def counted(name: str, **labels: str) -> float:
    """The value of a metric, 0 where it has none yet."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def eventually(condition: Callable[[], bool], *, within: float = 5) -> bool:
    """Whether `condition` came true within so many seconds."""
    end = monotonic() + within
    while not condition() and monotonic() < end:
        sleep(0.005)
    return condition()


def at_once(number: int, call: Callable[[], Any]) -> list[Future[Any]]:
    """What `number` threads got that made the same call."""
    with ThreadPoolExecutor(number) as pool:
        return [pool.submit(call) for _ in range(number)]


def fail(client: Client, times: int = 3) -> None:
    """Make `times` cold searches that fail, at once."""

    def search(number: int) -> None:
        with suppress(Unavailable):
            client.search(f"cold {number}", skip=0, limit=1)

    with ThreadPoolExecutor(times) as pool:
        list(pool.map(search, range(times)))
