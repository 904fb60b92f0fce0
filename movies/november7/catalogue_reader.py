"""Reads the whole catalogue: walks through it, and looks up one movie by its id.

November 7 has no endpoint for one movie, so a movie is looked for in the blocks of the catalogue.
"""

import time
from collections.abc import Callable, Hashable, Iterator

from movies.november7.blocks import CATALOGUE_BLOCK, BlockKey, Page
from movies.november7.contract import ProviderMovie
from movies.november7.deadline import Deadline
from movies.november7.errors import TimedOut, Unavailable

EVIDENCE_SECONDS = 60  # for which a walk proves that a movie is not in the catalogue
MAX_WALKS = 3  # if the catalogue changes during a walk

Cached = Callable[[BlockKey], Page | None]
Fetch = Callable[[BlockKey, Deadline, float | None, Hashable], Page]


class CatalogueReader:
    """Reads the catalogue in blocks.

    `cached` returns a block from the cache, and `fetch` fetches one from November 7.
    """

    def __init__(self, cached: Cached, fetch: Fetch) -> None:
        self._cached = cached
        self._fetch = fetch
        self._walked: tuple[float, frozenset[str]] = (0.0, frozenset())

    def walk(
        self,
        deadline: Callable[[], Deadline],
        since: float | None,
        caller: Hashable = None,
    ) -> Iterator[Page]:
        """Every block, in order. `deadline` returns the deadline of the next block.

        Blocks that are not fresh, or not newer than the Unix time `since`, are fetched. Raises
        Unavailable, or a kind of it, also after a block with fewer movies than its total promises:
        a wrong total must not cause thousands of requests.
        """
        skip, total = 0, 1
        while skip < total:
            key = BlockKey(None, skip, CATALOGUE_BLOCK)
            block = self._cached(key)
            is_usable = block is not None and block.is_fresh(time.time())
            if block is None or not is_usable or (since and block.fetched_at <= since):
                until = deadline()
                if not until.left():
                    raise TimedOut("the catalogue could not be read in time")
                block = self._fetch(key, until, since, caller)
                block.wait_until_handled(until.left())
            yield block
            if not block.is_complete:
                raise Unavailable("November 7 sent less of the catalogue than it promised")
            total = block.total
            skip += CATALOGUE_BLOCK

    def find(self, movie_id: str, deadline: Deadline, caller: Hashable) -> ProviderMovie | None:
        """The movie with this id, or None if a walk of the last EVIDENCE_SECONDS did not find it.

        Raises Unavailable, or a kind of it, if the walk fails, if November 7 sent fewer movies than
        it promised, or if the catalogue changed during each of MAX_WALKS walks.
        """
        for block in self._cached_blocks():
            if (movie := _in(block, movie_id)) is not None:
                return movie
        since = time.time() - EVIDENCE_SECONDS
        for _ in range(MAX_WALKS):
            blocks: list[Page] = []
            for block in self.walk(lambda: deadline, since, caller):
                if (movie := _in(block, movie_id)) is not None:
                    return movie
                blocks.append(block)
            if _are_of_one_state(blocks):
                ids = frozenset(movie["id"] for block in blocks for movie in block.movies)
                self._walked = (min(block.fetched_at for block in blocks), ids)
                return None
            since = time.time()
        raise Unavailable("the catalogue changed while it was read")

    def is_absent(self, movie_id: str) -> bool:
        """Whether the last walk is recent, still cached, and did not find this movie.

        After `flask cache clear` its first block is no longer cached, and it proves nothing.
        """
        fetched_at, ids = self._walked
        if movie_id in ids or time.time() >= fetched_at + EVIDENCE_SECONDS:
            return False
        first = self._cached(BlockKey(None, 0, CATALOGUE_BLOCK))
        return first is not None and first.fetched_at >= fetched_at and first.is_fresh(time.time())

    def may_hold(self, movie_id: str) -> bool:
        """Whether the last walk found this movie, or there has been none."""
        fetched_at, ids = self._walked
        return not fetched_at or movie_id in ids

    def _cached_blocks(self) -> Iterator[Page]:
        """The blocks that are cached, up to the first that is not; stale ones count."""
        skip = 0
        while (block := self._cached(BlockKey(None, skip, CATALOGUE_BLOCK))) is not None:
            yield block
            skip += CATALOGUE_BLOCK
            if skip >= block.total:
                return


def _are_of_one_state(blocks: list[Page]) -> bool:
    """Whether all blocks have the same total, so that the catalogue did not seem to change.

    If a movie is removed, the movies after it move forward. One of them may move from a block that
    is read later into a block that was read before, and would be missed.
    """
    return len({block.total for block in blocks}) == 1


def _in(block: Page, movie_id: str) -> ProviderMovie | None:
    return next((movie for movie in block.movies if movie["id"] == movie_id), None)
