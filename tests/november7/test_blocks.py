"""Blocks: their keys, their cache entries, and the pages made of them."""

from threading import Event

import orjson
import pytest

from movies.november7.blocks import (
    BlockKey,
    Page,
    block_keys,
    decode,
    encode,
    joined,
)
from november7.clients import movie
from november7.texts import TEXTS

URL = "http://november7.example/movies/"
MOVIES = [movie(number) for number in range(200)]


def test_two_texts_share_a_key_only_if_they_are_equal() -> None:
    keys = {BlockKey(text, 0, 10).cache_key(URL) for text in (None, *TEXTS)}
    assert len(keys) == len(set(TEXTS)) + 1


def test_blocks_and_providers_have_keys_of_their_own() -> None:
    blocks = [BlockKey("x", skip, limit) for skip in (0, 1, 10, 11) for limit in (1, 10, 100)]
    keys = {block.cache_key(url) for block in blocks for url in (URL, f"{URL}x/")}
    assert len(keys) == 24


@pytest.mark.parametrize(
    ("skip", "limit", "starts"),
    [
        (0, 10, [0]),
        (0, 100, [0]),
        (90, 10, [0]),
        (98, 7, [0, 100]),
        (100, 1, [100]),
        (190, 30, [100, 200]),
    ],
)
def test_a_page_is_in_one_block_or_two(skip: int, limit: int, starts: list[int]) -> None:
    assert block_keys("x", skip, limit) == [BlockKey("x", start, 100) for start in starts]


def test_the_catalogue_is_in_blocks_of_1000() -> None:
    assert block_keys(None, 990, 20) == [BlockKey(None, 0, 1000), BlockKey(None, 1000, 1000)]


def test_an_entry_holds_its_block() -> None:
    content = orjson.dumps({"total": 7, "items": [movie(1)]})
    assert decode(encode(content, 1000.25, 1060.5)) == Page(7, [movie(1)], 1000.25, 1060.5)


def test_the_format_of_an_entry_is_that_of_its_version() -> None:
    """If this fails, raise FORMAT: other releases may share the cache."""
    entry = encode(b'{"total":0,"items":[]}', 1.0, 2.0)
    key = BlockKey("x", 0, 100).cache_key(URL)
    assert entry == b'{"fetched_at":1.0,"expires_at":2.0,"page":{"total":0,"items":[]}}'
    assert key.startswith("2-")


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\x80\x04pickle",
        b"[]",
        b"null",
        b'{"half',
        b'{"page":{"total":0,"items":[]}}',
        b'{"fetched_at":1,"expires_at":2,"page":null}',
        b'{"fetched_at":1,"expires_at":2,"page":{"total":0}}',
        b'{"fetched_at":"1","expires_at":2,"page":{"total":0,"items":[]}}',
        b'{"fetched_at":1,"expires_at":2,"page":{"total":"0","items":[]}}',
        b'{"fetched_at":1,"expires_at":2,"page":{"total":1,"items":[7]}}',
        b'{"fetched_at":1,"expires_at":2,"page":{"total":1,"items":[{"id":"x"}]}}',
    ],
)
def test_an_entry_of_another_shape_is_none(entry: bytes) -> None:
    assert decode(entry) is None


def part(skip: int, size: int, *, source: str = "hit", age: float = 0, total: int = 200) -> Page:
    movies = MOVIES[skip : skip + size]
    return Page(total, movies, 1000 - age, 1060 - age, source=source)  # type: ignore[arg-type]


def join(first: Page, second: Page) -> Page:
    parts = [(BlockKey("x", 0, 100), first), (BlockKey("x", 100, 100), second)]
    return joined(parts, 95, 10)


def test_a_page_of_two_blocks_holds_the_end_of_one_and_the_start_of_the_other() -> None:
    assert join(part(0, 100), part(100, 100)).movies == MOVIES[95:105]


def test_a_page_of_two_blocks_is_as_old_as_the_older() -> None:
    """Its total is that of the newer."""
    page = join(part(0, 100, age=30, total=200), part(100, 50, age=10, total=150))
    assert (page.fetched_at, page.expires_at, page.total) == (970, 1030, 150)


@pytest.mark.parametrize(
    ("sources", "source", "reason"),
    [
        (("hit", "hit"), "hit", "miss"),
        (("hit", "stale"), "stale", "miss"),
        (("miss", "miss"), "miss", "miss"),
        (("collapsed", "miss"), "miss", "miss"),
        (("hit", "miss"), "miss", "partial"),
        (("collapsed", "stale"), "collapsed", "partial"),
    ],
)
def test_a_page_of_two_blocks_says_that_a_part_was_fetched(
    sources: tuple[str, str], source: str, reason: str
) -> None:
    page = join(part(0, 100, source=sources[0]), part(100, 100, source=sources[1]))
    assert (page.source, page.reason) == (source, reason)


def test_a_partial_page_has_the_age_of_its_cached_block() -> None:
    assert join(part(0, 100), part(100, 100, source="miss")).age > 0
    assert join(part(0, 100, source="miss"), part(100, 100, source="miss")).age == 0


def test_the_wait_for_several_blocks_ends_at_one_time() -> None:
    waits: list[float | None] = []

    class Unset(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return super().wait(timeout)

    Page(0, [], 1000, 1060, handled=(Unset(), Unset(), Unset())).wait_until_handled(0.05)
    assert waits[1:] == [0.0, 0.0]
