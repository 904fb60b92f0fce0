"""The interface to November 7: searches, lookups, and walks through the catalogue.

Fresh pages are served from the cache. Stale pages are served, too, and refreshed in the background.
A page that is not cached is fetched once for all callers that ask for it at the same time.
"""

import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TypeVar
from uuid import uuid4

from redis import Redis

from movies.november7 import metrics
from movies.november7.blocks import BlockKey, Movies, Page, Source, block_keys, joined
from movies.november7.breaker import Breaker
from movies.november7.cache import NAMESPACE, BlockCache
from movies.november7.catalogue_reader import CatalogueReader
from movies.november7.contract import ProviderMovie
from movies.november7.deadline import Deadline
from movies.november7.errors import InvalidRequest, NotCached, Overloaded, Unavailable
from movies.november7.freshness import ANY, Freshness
from movies.november7.refresher import INTERVAL, BackgroundRefresher
from movies.november7.session import ProviderSession
from movies.november7.shared_singleflight import SharedSingleFlight
from movies.november7.singleflight import Call, SingleFlight

log = logging.getLogger(__name__)

T = TypeVar("T")

BACKGROUND = "background"  # the caller of refreshes and probes
RESPONSE_TIME = 0.003  # seconds in which callers write their responses


class Client:
    """The only way to November 7. Safe for any number of threads.

    `deadline`: seconds that one search may take. `concurrency`: requests that run at once. `redis`:
    where fetches are shared among processes. `on_fetch` is called with the movies of every block
    that was fetched, on the thread of the fetch; it must not raise. With `redis`, callers get the
    block before it returns, and can wait for it with `Page.wait_until_handled`.

    A `caller` is an opaque key of the user who causes a fetch. Callers get equal shares of the
    requests.
    """

    def __init__(
        self,
        session: ProviderSession,
        cache: BlockCache,
        *,
        deadline: float,
        concurrency: int,
        redis: Redis | None = None,
        on_fetch: Callable[[Movies], None] = lambda movies: None,
    ) -> None:
        self.cache = cache
        self.breaker = Breaker()
        self.deadline = deadline
        self._session = session
        self._single_flight = SingleFlight(concurrency)
        self._shared: SharedSingleFlight | None = None
        if redis is not None:
            self._shared = SharedSingleFlight(redis, NAMESPACE, lambda: cache.store.is_paused)
        self._on_fetch = on_fetch
        probes = max(1, concurrency // 2)
        self._probe_timeout = min(deadline, INTERVAL * max(2, probes))
        self._refresher = BackgroundRefresher(
            self.breaker, probe=self._probe, refresh=self._refresh, concurrency=probes
        )
        self._catalogue = CatalogueReader(self._cached_block, self._fetch)

    @property
    def url(self) -> str:
        """The URL of the provider's movies."""
        return self._session.url

    def search(
        self,
        query: str | None,
        *,
        skip: int,
        limit: int,
        caller: Hashable = None,
        accept: Freshness = ANY,
        wait: float = math.inf,
        before_forced_fetch: Callable[[], None] = lambda: None,
    ) -> Page:
        """Up to `limit` movies that match `query`, after the first `skip`; all movies without it.

        `accept`: which cached pages the caller accepts. `wait`: seconds that the caller waits at
        most. `before_forced_fetch` is called once if `accept` rules out what the cache would have
        served; its exceptions are passed on.

        Raises a kind of Unavailable, and NotCached if `accept` allows no fetch.
        """
        deadline, until = Deadline.after(self.deadline), Deadline.after(min(wait, self.deadline))
        is_forced = False
        parts: list[tuple[BlockKey, Page]] = []
        for key in block_keys(query, skip, limit):
            if parts and parts[-1][1].total <= key.skip:
                break
            now = time.time()
            block = self._cached_block(key)
            reason = accept.refusal(block, now) if block is not None else "miss"
            if block is not None and reason is None:
                parts.append((key, self._served(key, block, now)))
                continue
            metrics.CACHE.labels("miss").inc()
            if accept.only_if_cached:
                raise NotCached
            if not is_forced and (block is not None or accept.always_fetches):
                is_forced = True
                before_forced_fetch()
            since = now if block is not None or accept.always_fetches else None
            page = self._fetch(key, deadline, since, caller, until)
            parts.append((key, replace(page, reason=reason or "miss")))
        return joined(parts, skip, limit)

    def walk(self, *, refresh: bool = False) -> Iterator[Page]:
        """The whole catalogue, block by block, one request at a time, each with its own deadline.

        `refresh`: fetch every block; else blocks that are fresh in the cache are taken from there.
        No block is stale. Raises Unavailable, or a kind of it.
        """
        since = time.time() if refresh else None
        return self._catalogue.walk(lambda: Deadline.after(self.deadline), since)

    def find_movie(self, movie_id: str, *, caller: Hashable = None) -> ProviderMovie | None:
        """The movie with this id, in lower case, or None if the catalogue has no such movie.

        Raises Unavailable, or a kind of it, if that could not be found out.
        """
        if self._catalogue.is_absent(movie_id):
            return None
        if self.breaker.is_open and not self._catalogue.may_hold(movie_id):
            self._fail_fast()
        return self._catalogue.find(movie_id, Deadline.after(self.deadline), caller)

    def close(self) -> None:
        """End the threads, then close their connections. Fetches that fail are not retried."""
        self._session.end_pauses()
        self._refresher.close()
        self._single_flight.close()
        if self._shared is not None:
            self._shared.close()
        self._session.close()

    def _cached_block(self, key: BlockKey) -> Page | None:
        return self.cache.get(key.cache_key(self.url))

    def _has_complete(self, key: BlockKey) -> bool:
        held = self._cached_block(key)
        return held is not None and held.is_complete

    def _served(self, key: BlockKey, block: Page, now: float) -> Page:
        """A cached block as a page; a stale one is scheduled for a refresh."""
        if block.is_fresh(now):
            metrics.CACHE.labels("hit").inc()
            return replace(block, source="hit")
        metrics.CACHE.labels("stale").inc()
        return replace(block, source="stale", refresh=self._refresher.schedule(key))

    def _fetch(
        self,
        key: BlockKey,
        deadline: Deadline,
        since: float | None,
        caller: Hashable,
        until: Deadline | None = None,
    ) -> Page:
        """The block from a fetch, this caller's or another's that is running.

        `deadline` is that of the fetch, `until` that of the caller if it is another. An answer that
        another process stores meanwhile counts if it is newer than `since`, a Unix time.
        """
        while True:
            call, is_joined = self._submit(key, deadline, caller, since=since)
            page: Page = self._single_flight.wait(call, until or deadline, caller)
            if not is_joined or (since is None and page.source == "hit"):
                return page
            if since is None or page.fetched_at >= since:  # else it found an older answer
                return replace(page, source="collapsed")

    def _refresh(self, key: BlockKey) -> Call:
        return self._submit(key, Deadline.after(self.deadline), BACKGROUND, is_refresh=True)[0]

    def _probe(self) -> Call:
        """Submit a request for the first movie of all, even while the breaker is open."""
        return self._single_flight.submit(
            f"probe {uuid4()}",
            Deadline.after(self._probe_timeout),
            self._run_probe,
            BACKGROUND,
        )[0]

    def _run_probe(self, call: Call) -> None:
        self._send(self._session.probe, call.deadline)
        self.breaker.succeeded()

    def _submit(
        self,
        key: BlockKey,
        deadline: Deadline,
        caller: Hashable,
        *,
        since: float | None = None,
        is_refresh: bool = False,
    ) -> tuple[Call, bool]:
        self._fail_fast()
        run = partial(self._run, key, since, is_refresh)
        return self._single_flight.submit(key.cache_key(self.url), deadline, run, caller)

    def _fail_fast(self) -> None:
        if self.breaker.is_open:
            self._refresher.begin()
            wait = max(INTERVAL, self.breaker.pause_left)
            raise Unavailable("November 7 is down", retry_after=math.ceil(wait))

    def _run(self, key: BlockKey, since: float | None, is_refresh: bool, call: Call) -> Page:
        """Ask November 7, unless another process has just done so or is doing it."""
        cached = partial(self._stored, key, since, time.time())
        ask = partial(self._ask, key, call)
        try:
            self._fail_fast()  # the call may have been queued for long
            if self._shared is not None:
                page = self._shared.fetch(call.key, call.deadline, ask, cached)
            else:
                page = cached() or ask()
        except Exception:
            if is_refresh:
                self._refresher.failed(key)
            raise
        if not call.future.done():
            self.breaker.succeeded()
            self._refresher.done(key)
        return page

    def _stored(self, key: BlockKey, since: float | None, started: float) -> Page | None:
        """The block in the store if it is fresh by now, and newer than `since`."""
        block = self.cache.get(key.cache_key(self.url), from_store=True)
        if block is None or not block.is_fresh(time.time()):
            return None
        if since is not None and block.fetched_at <= since:
            return None
        source: Source = "collapsed" if block.fetched_at >= started else "hit"
        return replace(block, source=source)

    def _ask(self, key: BlockKey, call: Call) -> Page:
        """Ask November 7, call `on_fetch`, store the answer. With Redis, callers get it first."""

        def on_answer(block: Page) -> None:
            self.breaker.succeeded()
            self.cache.remember(call.key, block)
            handled = Event()
            if self._shared is not None:
                self._refresher.done(key)
                self._single_flight.publish(call, replace(block, handled=(handled,)))
            try:
                self._on_fetch(block.movies)
            finally:
                handled.set()
            if self._shared is not None:
                time.sleep(RESPONSE_TIME)  # do not compete with the callers for the interpreter

        needs_complete = partial(self._has_complete, key)
        fetch = partial(
            self._session.fetch, key, needs_complete=needs_complete, on_answer=on_answer
        )
        return self._send(fetch, call.deadline)

    def _send(self, request: Callable[..., T], deadline: Deadline) -> T:
        """What `request`, which takes a `timeout`, returns. The breaker counts how it ends."""
        had_time = deadline.left() > self.deadline / 2  # else it is our own queue that is slow
        try:
            return request(timeout=deadline.left())
        except InvalidRequest:
            log.exception(
                "November 7 rejected a request as invalid (422); this is a bug in Movies API"
            )
            raise
        except Unavailable as error:
            log.warning(
                "a fetch from November 7 failed",
                extra={"outcome": error.outcome, "reason": str(error)},
            )
            if isinstance(error, Overloaded) and error.is_confirmed:
                self.breaker.pause(error.pause)
            elif had_time and error.is_outage:
                self.breaker.failed()
            if self.breaker.is_open:
                self._refresher.begin()
            raise
