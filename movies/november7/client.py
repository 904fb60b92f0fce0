"""November 7 as the rest of the product sees it: pages of movies, and how old they are.

A page that is fresh in the cache is answered from it. One that is stale is answered too, at once,
while one flight refreshes it behind. One that isn't there is fetched, by one flight for all who
ask for it.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, Literal

import orjson
from redis import Redis
from requests import Request
from requests_cache import CachedSession

from movies.november7 import metrics
from movies.november7.breaker import Breaker
from movies.november7.contract import ProviderMovie
from movies.november7.deadline import Deadline
from movies.november7.errors import InvalidRequest, Overloaded, TimedOut, Unavailable
from movies.november7.refresher import INTERVAL, BackgroundRefresher
from movies.november7.session import NAMESPACE, PageKey
from movies.november7.shared_singleflight import SharedSingleFlight
from movies.november7.singleflight import Call, SingleFlight

log = logging.getLogger(__name__)

WALK_LIMIT = 1000  # movies that a walk asks for at once: the most that was recorded answered

Movies = list[ProviderMovie]


@dataclass(frozen=True, slots=True)
class Page:
    """A true answer of November 7.

    `total`: how many movies match in all. `movies`: those of this page. `fetched_at`, `expires_at`:
    since when it is held and until when it is fresh. `source`: how this caller came by it;
    `collapsed` is a miss that another caller's flight answered. `refreshing`: whether a stale page
    is being refreshed. `is_complete`: whether it has the movies that `total` promises.
    """

    total: int
    movies: Movies
    fetched_at: datetime
    expires_at: datetime
    source: Literal["hit", "stale", "miss", "collapsed"]
    refreshing: bool = False
    is_complete: bool = True

    @property
    def age(self) -> int:
        """Whole seconds since November 7 gave this answer."""
        return max(0, int((datetime.now(UTC) - self.fetched_at).total_seconds()))

    @property
    def ttl(self) -> int:
        """Whole seconds for which it is still fresh; negative once it is stale."""
        return math.floor((self.expires_at - datetime.now(UTC)).total_seconds())


class Client:
    """The only way to November 7. Safe for any number of threads.

    `url`: of the provider's `/movies/`. `stale`: seconds past its freshness for which a page is
    still served. `deadline`: seconds that one search may take. `concurrency`: requests under way
    at once. `redis`: where flights are shared among processes. `on_page` is called with the movies
    of every page that was fetched, before anyone gets it, on the flight's thread; it must not
    raise.
    """

    def __init__(
        self,
        session: CachedSession,
        url: str,
        *,
        stale: int,
        deadline: float,
        concurrency: int,
        redis: Redis | None = None,
        on_page: Callable[[Movies], None] = lambda movies: None,
    ) -> None:
        self.url: str = session.prepare_request(Request("GET", url)).url or url
        self.breaker = Breaker()
        self.cache: Any = session.cache
        self._session = session
        self._stale = timedelta(seconds=stale)
        self.deadline = deadline
        self._single_flight = SingleFlight(concurrency)
        self._shared: SharedSingleFlight | None = None
        if redis is not None:
            self._shared = SharedSingleFlight(redis, NAMESPACE, lambda: bool(self.cache.is_outage))
        self._on_page = on_page
        self._walked: tuple[datetime, set[str]] = (datetime.min.replace(tzinfo=UTC), set())
        probes = max(1, concurrency // 2)
        self._probe_patience = min(deadline, INTERVAL * max(2, probes))
        self._probe_numbers = count()
        self._refresher = BackgroundRefresher(
            self.breaker, probe=self._probe, refresh=self._refresh, at_once=probes
        )

    def search(self, query: str, *, skip: int, limit: int) -> Page:
        """The movies that match `query`: `limit` of them, from the `skip`th on.

        Raises Unavailable, or a kind of it, where nothing true can be said.
        """
        wanted = PageKey(query, skip, limit)
        page = self._held(wanted)
        metrics.CACHE.labels(page.source if page else "miss").inc()
        if page is None:
            return self._fetch(wanted, Deadline.after(self.deadline))
        if page.source == "stale":
            return replace(page, refreshing=self._refresher.schedule(wanted))
        return page

    def walk(self, *, deadline: float | None = None, refresh: bool = False) -> Iterator[Page]:
        """The whole catalogue page by page, one request at a time.

        `deadline`: seconds for the whole walk; without it each page has a deadline of its own.
        `refresh`: ask for every page anew, else those that are fresh in the cache count. No page
        is ever stale. Raises as `search`.
        """
        until = Deadline.after(deadline) if deadline is not None else None
        fresh_until = datetime.max.replace(tzinfo=UTC)
        met: set[str] = set()
        skip, total = 0, 1
        while skip < total:
            wanted = PageKey(None, skip, WALK_LIMIT)
            page = None if refresh else self._held(wanted)
            if page is None or page.source == "stale":
                if until is not None and not until.left():
                    raise TimedOut("the catalogue could not be walked in time")
                since = datetime.now(UTC) if refresh else None
                page = self._fetch(wanted, until or Deadline.after(self.deadline), since)
            yield page
            fresh_until = min(fresh_until, page.expires_at)
            met.update(movie["id"] for movie in page.movies)
            total = page.total
            skip += WALK_LIMIT
        self._walked = (fresh_until, met)

    def is_absent(self, movie_id: str) -> bool:
        """Whether a walk to the end, whose pages are all still fresh, did not meet this movie."""
        fresh_until, met = self._walked
        return datetime.now(UTC) < fresh_until and movie_id not in met

    def close(self) -> None:
        """Give back what is held: threads, connections, the cache's store.

        In this order: closing a SQLite connection that a flight still reads from crashes Python.
        """
        self._refresher.close()
        self._single_flight.close()
        self._session.close()  # type: ignore[no-untyped-call]

    def _held(self, wanted: PageKey) -> Page | None:
        """The page that the cache holds, fresh or stale; None if there is none to be served."""
        response = self.cache.get_response(wanted.key(self.url))
        if response is None or response.expires is None:
            return None
        now = datetime.now(UTC)
        if now >= response.expires + self._stale:
            return None
        return _page(response, "hit" if now < response.expires else "stale")

    def _fetch(self, wanted: PageKey, deadline: Deadline, since: datetime | None = None) -> Page:
        """The page from a flight, one's own or another's."""
        flight, joined = self._book(wanted, deadline, since=since)
        page: Page = self._single_flight.wait(flight, deadline)
        return replace(page, source="collapsed") if joined else page

    def _refresh(self, wanted: PageKey) -> Call:
        return self._book(wanted, Deadline.after(self.deadline), is_refresh=True)[0]

    def _probe(self) -> Call:
        """Ask for the first movie of all, whatever the breaker says."""
        deadline = Deadline.after(self._probe_patience)
        fetch = partial(self._ask, PageKey(None, 0, 1))
        return self._single_flight.submit(f"probe-{next(self._probe_numbers)}", deadline, fetch)[0]

    def _book(
        self,
        wanted: PageKey,
        deadline: Deadline,
        *,
        since: datetime | None = None,
        is_refresh: bool = False,
    ) -> tuple[Call, bool]:
        self._fail_fast()
        fetch = partial(self._fly, wanted, since, is_refresh)
        return self._single_flight.submit(wanted.key(self.url), deadline, fetch)

    def _fail_fast(self) -> None:
        if self.breaker.is_open:
            wait = max(INTERVAL, self.breaker.hold_left)
            raise Unavailable("November 7 is down", retry_after=math.ceil(wait))

    def _fly(
        self, wanted: PageKey, since: datetime | None, is_refresh: bool, deadline: Deadline
    ) -> Page:
        """One flight: this process asks, unless another has just done so or is doing it."""
        landed = partial(self._landed, wanted, since)
        ask = partial(self._ask, wanted, deadline)
        try:
            self._fail_fast()  # it may have queued for long
            page: Page | None
            if self._shared is not None:
                page = self._shared.fetch(wanted.key(self.url), deadline, ask, landed)
            else:
                page = landed() or ask()
        except Unavailable:
            if is_refresh:
                self._refresher.failed(wanted)
            raise
        self.breaker.succeeded()
        self._refresher.done(wanted)
        return page

    def _landed(self, wanted: PageKey, since: datetime | None) -> Page | None:
        """The page if it is fresh by now, and not older than `since`."""
        page = self._held(wanted)
        if page is None or page.source == "stale" or (since and page.fetched_at < since):
            return None
        return replace(page, source="miss")

    def _ask(self, wanted: PageKey, deadline: Deadline) -> Page:
        """Ask November 7 and keep what it answers."""
        had_time = deadline.left() > self.deadline / 2  # else it is our queue that failed
        request = self._session.prepare_request(
            Request("GET", self.url, params=wanted.parameters())
        )
        held = self._held(wanted)
        request.needs_complete = held is not None and held.is_complete  # type: ignore[attr-defined]
        try:
            response = self._session.send(request, timeout=deadline.left(), force_refresh=True)
        except InvalidRequest:
            log.exception("November 7 called our request invalid: this is a defect")
            raise
        except Unavailable as error:
            log.warning(
                "a fetch from November 7 failed",
                extra={"outcome": error.outcome, "reason": str(error)},
            )
            if isinstance(error, Overloaded) and error.pause:
                self.breaker.hold(error.pause)
            elif had_time and error.is_outage:
                self.breaker.failed()
            if self.breaker.is_open:
                self._refresher.begin()
            raise
        self.breaker.succeeded()
        fetched: Any = response  # requests-cache adds its attributes to the transport's response
        page = Page(
            fetched.page.total,
            fetched.page.movies,
            fetched.created_at,
            fetched.expires,
            "miss",
            is_complete=fetched.page.is_complete,
        )
        self._on_page(page.movies)
        return page


def _page(response: Any, source: Literal["hit", "stale", "miss"]) -> Page:
    body = orjson.loads(response.content)
    return Page(
        body["total"],
        body["items"],
        response.created_at,
        response.expires,
        source,
        is_complete=body.get("is_complete", True),
    )
