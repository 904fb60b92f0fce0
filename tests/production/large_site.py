"""A server with a large catalogue, with its provider, its database and a clock that tests move."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
import sqlalchemy as sa
from helpers import eventually
from redis import Redis
from served import Served

from movies.november7.blocks import SEARCH_BLOCK, BlockKey, encode
from movies.november7.cache import open_store
from movies.november7.store import Store
from stand_in.catalogue import Answer, Catalogue
from stand_in.server import StandIn

CACHE_BYTES = 2 * 2**20
STALE = 604800  # seconds, the default of NOVEMBER7_STALE
CACHE_FILE = "november7-cache.sqlite"


class MovableClock:
    """The time of day by which a server caches pages. Tokens have the time of the machine.

    `code` is what the server runs first.
    """

    def __init__(self, directory: Path) -> None:
        self._file, self._ahead = directory / "clock", 0.0
        self.code = (
            "import pathlib, time\n"
            f"file, real = pathlib.Path({str(self._file)!r}), time.time\n"
            "time.time = lambda file=file, real=real: real() + float(file.read_text())"
        )
        self.move(0)

    def move(self, seconds: float) -> None:
        """Put the clock forward."""
        self._ahead += seconds
        written = self._file.with_suffix(".new")
        written.write_text(str(self._ahead))
        os.replace(written, self._file)  # nobody reads half a number


class LargeCatalogue(Catalogue):
    """1,200 movies: two blocks of the catalogue. `on_answer` is called with each target."""

    def __init__(self) -> None:
        super().__init__([movie(f"Movie {number:04}") for number in range(1200)])
        self.on_answer: Callable[[str], None] = lambda target: None

    def answer(self, method: str, target: str) -> Answer:
        answer = super().answer(method, target)
        self.on_answer(target)
        return answer


def movie(title: str) -> dict[str, Any]:
    """A movie that November 7 might have, of about 700 bytes."""
    return {
        "id": str(uuid4()),
        "title": title,
        "description": "A long description. " * 28,
        "image_url": "https://images.november7.example/movie.jpg",
        "rating": 7.0,
    }


class LargeSite:
    """A server `api` with everything that belongs to it."""

    def __init__(self, api: Served, provider: StandIn, clock: MovableClock) -> None:
        self.api, self.provider, self.clock = api, provider, clock
        self.directory = Path(api.environment["INSTANCE_DIR"])
        self.is_postgresql = bool(api.environment["DATABASE_URL"])
        file = f"sqlite:///{self.directory / 'movies.sqlite3'}"
        url = sa.make_url(api.environment["DATABASE_URL"] or file)
        self._database = sa.create_engine(
            url.set(drivername="postgresql+psycopg") if self.is_postgresql else url,
            connect_args={} if self.is_postgresql else {"timeout": 30},
            poolclass=sa.NullPool,
        )

    @property
    def catalogue(self) -> LargeCatalogue:
        """The movies of the provider."""
        assert isinstance(self.provider.catalogue, LargeCatalogue)
        return self.provider.catalogue

    def execute(self, statement: str) -> Any:
        """The first value that a statement returns, if any."""
        with self._database.begin() as connection:
            result = connection.execute(sa.text(statement))
            return result.scalar() if result.returns_rows else None

    def repeat(self, statement: str, times: int) -> None:
        """Run an INSERT … SELECT … FROM numbers, which has the `number`s from 1 to `times`.

        `{uuid}` is a random UUID, `{numbered}` one with the value of the number, and `{time}` the
        beginning of 2026.
        """
        expressions = {
            "uuid": "gen_random_uuid()",
            "numbered": "lpad(to_hex(number), 32, '0')::uuid",
            "time": "'2026-01-01 00:00:00+00'::timestamptz",
        }
        if not self.is_postgresql:
            expressions = {
                "uuid": "lower(hex(randomblob(16)))",
                "numbered": "printf('%032x', number)",
                "time": "'2026-01-01 00:00:00.000000'",
            }
        insert, select, rest = statement.format_map(expressions).partition("SELECT")
        numbers = (
            "WITH RECURSIVE numbers (number) AS "
            f"(SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {times})"
        )
        self.execute(f"{insert} {numbers} {select} {rest}")

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store of cached pages, as another process opens it."""
        url = self.api.environment["REDIS_URL"]
        redis = Redis.from_url(url) if url else None
        path = self.directory / CACHE_FILE
        opened = open_store(path=path, redis=redis, max_bytes=CACHE_BYTES, stale=STALE).store
        yield opened
        opened.close()

    def key_of(self, text: str) -> str:
        """The key of the first page of a search."""
        return BlockKey(text, 0, SEARCH_BLOCK).cache_key(f"{self.provider.url}movies/")

    def cache_empty_pages(self, number: int, *, expires_at: float) -> list[str]:
        """Store a page without movies for each of `number` texts in SQLite; returns the texts."""
        texts = [f"{count} of many" for count in range(number)]
        page = json.dumps({"total": 0, "items": []}).encode()
        with closing(sqlite3.connect(self.directory / CACHE_FILE)) as file, file:
            file.executemany(
                "INSERT OR REPLACE INTO entries VALUES (?, 1, ?, ?)",
                [(self.key_of(text), expires_at, encode(page, 1, expires_at)) for text in texts],
            )
        return texts

    def movie(self, movie_id: str) -> requests.Response:
        return self.api.ask("GET", f"/api/v1/movies/{movie_id}/")

    def vote(self, movie_id: str, rating_type: str = "UPVOTE") -> requests.Response:
        path = f"/api/v1/movies/{movie_id}/rating/"
        return self.api.ask("PUT", path, json={"rating_type": rating_type})

    def take_down(self) -> None:
        """Stop the provider, and search until the breakers of both workers are open."""
        self.provider.stop()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self.api.search, [f"asked in vain {uuid4()}" for _ in range(48)]))

    def bring_back(self) -> None:
        """Start the provider, and search until the breakers of both workers are closed."""
        self.provider.start()

        def is_closed() -> bool:
            self.api.search(f"after {uuid4()}")
            return self.api.metric("november7_breaker_open") == 0

        assert eventually(is_closed, within=60)


def cpu_time(pid: int) -> float:
    """The seconds that a process has used; Linux counts hundredths."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
