"""The requests session to the provider and its cache: the only import of requests-cache.

requests-cache writes every checked answer to the store as JSON. The client reads the store itself.
The client decides which response to serve and when to refresh it.
"""

import time
from collections.abc import Callable, Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlencode

from requests import PreparedRequest, Request
from requests.adapters import BaseAdapter
from requests_cache import CachedSession
from requests_cache.backends.base import BaseCache, BaseStorage
from requests_cache.models.response import CachedResponse

from movies.november7.blocks import BlockKey, Page, encode
from movies.november7.contract import DOUBTFUL_TTL, CheckedResponse
from movies.november7.store import FailSoftStore
from movies.november7.transport import Transport


class BlockRequest(PreparedRequest):
    """The provider request for one block, with the key under which its answer is cached.

    The transport calls `needs_complete` and `on_answer`.
    """

    def __init__(
        self,
        url: str,
        block: BlockKey,
        headers: Any,
        needs_complete: Callable[[], bool] = lambda: False,
        on_answer: Callable[[CheckedResponse], None] = lambda answer: None,
    ) -> None:
        super().__init__()
        self.needs_complete = needs_complete
        self.on_answer = on_answer
        self.cache_key = block.cache_key(url)
        self.method = "GET"
        self.url = f"{url}?{urlencode(block.parameters())}"
        self.headers = headers.copy()


class _Storage(BaseStorage[str, CachedResponse]):
    """requests-cache's view of a store: cached responses by key."""

    def __init__(self, store: FailSoftStore) -> None:
        super().__init__()
        self._store = store
        self.times: dict[str, tuple[float, float]] = {}  # of the answers to store

    def __setitem__(self, key: str, response: CachedResponse) -> None:
        fetched_at, expires_at = self.times.pop(key)
        entry = encode(response.content, fetched_at, expires_at)
        self._store.write(key, entry, fetched_at, expires_at)

    def __getitem__(self, key: str) -> CachedResponse:
        raise KeyError(key)  # every request is a forced refresh: the client has read the store

    def __delitem__(self, key: str) -> None:
        self._store.store.delete(key)

    def __iter__(self) -> Iterator[str]:
        return (key for key, _, _ in self._store.store.entries())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def close(self) -> None:
        self._store.store.close()


class _Cache(BaseCache):
    """A cache in a store of ours. November 7's redirects are followed by the transport."""

    def __init__(self, store: FailSoftStore) -> None:
        super().__init__()
        self.responses: _Storage = _Storage(store)


class ProviderSession:
    """Fetches blocks from the provider at `url` through `wire`, and stores them.

    `ttl`: seconds for which an answer is fresh.
    """

    def __init__(self, wire: BaseAdapter, url: str, *, ttl: int, store: FailSoftStore) -> None:
        self._cache = _Cache(store)
        self._ttl = ttl
        self._session = CachedSession(
            backend=self._cache,
            expire_after=ttl,
            cache_control=True,  # the transport sets the headers of what it returns
            allowable_codes=(200,),
            allowable_methods=("GET",),
            always_revalidate=False,
            stale_if_error=False,  # the client decides, so that one fetch can serve all callers
            stale_while_revalidate=False,
            ignored_parameters=(),
            match_headers=False,
            key_fn=lambda request, **_settings: request.cache_key,
        )
        self._session.trust_env = False  # neither proxies nor .netrc: the deadline covers all
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # keep none
        self._session.headers["User-Agent"] = "movies-api"
        self._session.headers["Accept"] = "application/json"
        self._transport = Transport(wire, doubtful_ttl=max(1, min(DOUBTFUL_TTL, ttl // 10)))
        self._session.mount("http://", self._transport)
        self._session.mount("https://", self._transport)
        # As requests spells it, so that equal URLs share entries. It has no query string.
        self.url = self._session.prepare_request(Request("GET", url)).url or url

    def fetch(
        self,
        key: BlockKey,
        *,
        timeout: float,
        needs_complete: Callable[[], bool],
        on_answer: Callable[[Page], None] = lambda block: None,
    ) -> Page:
        """Ask the provider for a block and store its answer. Raises Unavailable.

        `timeout`: seconds for all attempts together. `needs_complete`: called after the last
        attempt if all answers lacked movies; returns whether an answer with fewer movies than its
        total is refused. `on_answer`: called with the block before it is stored.
        """
        blocks: list[Page] = []

        def publish(answer: CheckedResponse) -> None:
            page, now = answer.page, time.time()
            expires_at = now + (answer.max_age or self._ttl)
            self._cache.responses.times[request.cache_key] = now, expires_at
            blocks.append(Page(page.total, page.movies, now, expires_at, page.is_complete))
            on_answer(blocks[0])

        request = BlockRequest(self.url, key, self._session.headers, needs_complete, publish)
        self._session.send(request, timeout=timeout, force_refresh=True)
        return blocks[0]

    def probe(self, *, timeout: float) -> None:
        """Ask the provider for one movie, and store nothing. Raises Unavailable."""
        request = BlockRequest(self.url, BlockKey(None, 0, 1), self._session.headers)
        self._transport.send(request, timeout=timeout)

    def end_pauses(self) -> None:
        """Fail the fetches that wait for another try, and retry no others."""
        self._transport.end_pauses()

    def close(self) -> None:
        """Close the connections to the provider and to the store."""
        self._session.close()  # type: ignore[no-untyped-call]
