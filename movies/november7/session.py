"""The one session to the provider, and its cache. The only import of requests-cache.

What is cached: true answers alone (the transport raises on anything else), as JSON, one entry for
each query text, skip and limit. An entry is fresh for `ttl` seconds and kept for `stale` seconds
more; which of the two it is, and what follows, is the client's business.
"""

import hashlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis import Redis, RedisError
from requests import PreparedRequest
from requests.adapters import BaseAdapter
from requests_cache import CachedSession
from requests_cache.backends.redis import RedisCache
from requests_cache.backends.sqlite import SQLiteCache, SQLiteDict
from requests_cache.models.response import CachedResponse

from movies.november7 import metrics
from movies.november7.contract import DOUBTFUL_TTL
from movies.november7.transport import Transport

log = logging.getLogger(__name__)

NAMESPACE = "november7"
BUSY_TIMEOUT = 1000  # milliseconds that SQLite waits for another process's write
STORE_ERRORS = (RedisError, sqlite3.Error, OSError)


@dataclass(frozen=True, slots=True)
class PageKey:
    """A page of the provider's: of the movies that match `query`, or of all where it is None."""

    query: str | None
    skip: int
    limit: int

    def parameters(self) -> dict[str, str | int]:
        """The query parameters of the request for this page."""
        parameters: dict[str, str | int] = {"skip": self.skip, "limit": self.limit}
        if self.query is not None:
            parameters["query"] = self.query
        return parameters

    def key(self, url: str) -> str:
        """The key under which this page of the provider at `url` is cached."""
        return f"{query_prefix(url, self.query)}{self.skip}-{self.limit}"

    @classmethod
    def by(cls, request: PreparedRequest) -> "PageKey":
        """The page that a request asks for."""
        asked = parse_qs(urlsplit(request.url or "").query, keep_blank_values=True)
        return cls(asked.get("query", [None])[0], int(asked["skip"][0]), int(asked["limit"][0]))


def query_prefix(url: str, query: str | None) -> str:
    """What the keys of all pages of a query begin with.

    The text is hashed exactly as it is sent: two texts share entries only where they are equal.
    """
    text = url if query is None else f"{url}\n{query}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest() + "-"


def _key_of(request: PreparedRequest, **_settings: Any) -> str:
    """requests-cache's way to the same key."""
    return PageKey.by(request).key((request.url or "").partition("?")[0])


class _FailSoftStore:
    """A store whose failure is a miss: the provider can still be asked.

    `pause`: seconds for which a store that failed is left alone, so that nobody waits for one that
    hangs but the first to notice.
    """

    pause = 0.0
    is_failing = False  # whether the store's last operation failed
    _away_until = 0.0

    @property
    def is_outage(self) -> bool:
        """Whether the store failed a moment ago."""
        return time.monotonic() < self._away_until

    def get_response(self, key: str, default: Any = None) -> CachedResponse | None:
        found: CachedResponse | None = None
        if not self.is_outage:
            with self._fail_soft():
                found = super().get_response(key, default)  # type: ignore[misc]
        return found

    def save_response(self, *args: Any, **kwargs: Any) -> None:
        if not self.is_outage:
            with self._fail_soft():
                super().save_response(*args, **kwargs)  # type: ignore[misc]

    @contextmanager
    def _fail_soft(self) -> Iterator[None]:
        """Count, log and swallow the store's errors."""
        try:
            yield
            self._report(failing=False)
        except STORE_ERRORS as error:
            metrics.STORE_ERRORS.inc()
            reason = f"{type(error).__name__}: {error}"[:200]
            log.warning("the provider cache failed", extra={"reason": reason})
            self._report(failing=True)
            self._away_until = time.monotonic() + self.pause

    def _report(self, *, failing: bool) -> None:
        if failing != self.is_failing:
            self.is_failing = failing
            metrics.CACHE_FAILING.set(failing)


class _RedisStore(_FailSoftStore, RedisCache):
    """Pages in Redis, which drops an entry `ttl_offset` seconds after it went stale."""

    pause = 2.0


class _Table(SQLiteDict):
    """A table whose writers wait BUSY_TIMEOUT and then fail; requests-cache's own wait for ever."""

    @contextmanager
    def _acquire_sqlite_lock(self) -> Iterator[None]:
        connection: Any = self._connection
        with self._lock, connection:
            connection.execute("BEGIN IMMEDIATE")
            self._active_transaction = True
            try:
                yield
            finally:
                self._active_transaction = False


class _SQLiteStore(_FailSoftStore, SQLiteCache):
    """Pages in a SQLite file; what is past its stale window goes whenever a page is stored."""

    def __init__(self, path: Path, stale: int, **settings: Any) -> None:
        super().__init__(path, **settings)
        self.responses = _Table(path, "responses", **settings)
        self._stale = stale

    def save_response(self, *args: Any, **kwargs: Any) -> None:
        super().save_response(*args, **kwargs)
        with self._fail_soft(), self.responses.connection(commit=True) as connection:
            connection.execute(
                "DELETE FROM responses WHERE expires <= ?", (time.time() - self._stale,)
            )


def build_session(
    wire: BaseAdapter, *, ttl: int, stale: int, path: Path, redis: Redis | None
) -> CachedSession:
    """A session that sends through `wire` and caches in `redis`, or in the SQLite file `path`."""
    session = CachedSession(
        backend=_store(stale=stale, path=path, redis=redis),
        expire_after=ttl,
        cache_control=True,  # of the transport: November 7 sends no caching headers
        allowable_codes=(200,),
        allowable_methods=("GET",),
        always_revalidate=False,
        stale_if_error=False,  # the client decides, so that one flight can serve all callers
        stale_while_revalidate=False,
        ignored_parameters=(),
        match_headers=False,
        key_fn=_key_of,
    )
    session.trust_env = False  # neither proxies nor .netrc: the deadline reaches every byte
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # keep and send none
    session.headers["User-Agent"] = "movies-api"
    session.headers["Accept"] = "application/json"
    transport = Transport(wire, doubtful_ttl=max(1, min(DOUBTFUL_TTL, ttl // 10)))
    session.mount("http://", transport)
    session.mount("https://", transport)
    return session


def _store(*, stale: int, path: Path, redis: Redis | None) -> _RedisStore | _SQLiteStore:
    if redis is not None:
        return _RedisStore(
            NAMESPACE, connection=redis, ttl=True, ttl_offset=stale, serializer="json"
        )
    settings: dict[str, Any] = {"serializer": "json", "wal": True, "busy_timeout": BUSY_TIMEOUT}
    try:
        return _SQLiteStore(path, stale, **settings)
    except sqlite3.OperationalError:
        pass  # locked: another process is making it at this moment
    except sqlite3.DatabaseError:
        log.warning("the provider cache was unreadable and begins anew")
        path.unlink(missing_ok=True)
    return _SQLiteStore(path, stale, **settings)
