"""The cache: its keys, what is in it, how long it stays, and what happens when it fails."""

import json
import sqlite3
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import time_machine
from helpers import counted
from redis import Redis

from movies.november7.client import Client
from movies.november7.sample.catalogue import asked
from movies.november7.session import PageKey
from november7.clients import QUERY, STALE, TTL, unreachable_redis
from stand_in.server import StandIn

URL = "http://november7.example/movies/"
THEN = "2026-03-01T12:00:00Z"
TEXTS = [
    *("cats & dogs", "cats", "cats &", "100%", "100%25", "a+b", "a b", "a%20b", "a%2Bb", "a  b"),
    *("#1", "?query=x", "x=1&skip=0", "a;b", '"quoted"', "it's", "back\\slash", "/", "", " "),
    *("café", "cafe\u0301", "ＣＡＦÉ", "Straße", "STRASSE", "strasse", "İ", "i̇", "ﬁ", "fi"),
    *(
        "🎬",
        "👨‍👩‍👧",
        "中文",
        "\u202e",
        "a\tb",
        "a\nb",
        "a\u00a0b",
        "a\u200bb",
        "0",
        "None",
        "null",
    ),
    "x" * 200,
    "🎬" * 200,
]


def search(client: Client, query: str = QUERY) -> str:
    return client.search(query, skip=0, limit=3).source


def total(entry: Any) -> Any:
    """The total of the page in an entry, which is read as JSON."""
    return json.loads(b64decode(json.loads(entry)["_content"]))["total"]


def stored(directory: Path, what: str) -> list[Any]:
    """What the SQLite file holds."""
    with sqlite3.connect(directory / "cache.sqlite") as connection:
        found = connection.execute(f"SELECT {what} FROM responses").fetchall()
    connection.close()
    return found


def test_no_two_texts_share_a_key() -> None:
    """Texts are one entry only where they are equal: no case, spaces or accents are folded."""
    keys = {PageKey(text, 0, 10).key(URL) for text in (None, *TEXTS)}
    assert len(keys) == len(set(TEXTS)) + 1


def test_no_two_pages_share_a_key() -> None:
    """Neither do pages of one text, nor two providers."""
    pages = [PageKey("x", skip, limit) for skip in (0, 1, 10, 11) for limit in (1, 10, 100)]
    keys = {page.key(url) for page in pages for url in (URL, f"{URL}x/")}
    assert len(keys) == 24


@pytest.mark.parametrize("text", [text for text in TEXTS if text], ids=ascii)
def test_every_text_reaches_the_provider_exactly(
    make_client: Callable[..., Client], stand_in: StandIn, text: str
) -> None:
    """What is searched is what is asked, to the character, and its answer is found again."""
    client = make_client()
    assert [search(client, text), search(client, text)] == ["miss", "hit"]
    assert [asked(target)["query"] for target in stand_in.requests] == [text]


def test_sqlite_holds_json(make_client: Callable[..., Client], tmp_path: Path) -> None:
    """An entry in the file is JSON with the page in it; nothing is ever unpickled."""
    search(make_client())
    ((value,),) = stored(tmp_path, "value")
    assert total(value) == 5


def test_redis_holds_json(make_client: Callable[..., Client], redis: Redis) -> None:
    """So is an entry in Redis."""
    client = make_client(redis=redis)
    search(client)
    key = PageKey(QUERY, 0, 3).key(client.url)
    assert total(redis.get(f"november7:{key}")) == 5


def test_redis_keeps_a_page_through_its_stale_window(
    make_client: Callable[..., Client], redis: Redis
) -> None:
    """An entry expires in Redis when it may no longer be served, not before."""
    client = make_client(redis=redis)
    search(client)
    left: Any = redis.ttl(f"november7:{PageKey(QUERY, 0, 3).key(client.url)}")
    assert TTL + STALE - 5 < left <= TTL + STALE + 1


def test_sqlite_drops_what_is_past_its_stale_window(
    make_client: Callable[..., Client], tmp_path: Path
) -> None:
    """Whenever a page is stored, dead ones go; stale ones stay."""
    client = make_client()
    with time_machine.travel(THEN, tick=False) as clock:
        search(client, "dead")
        clock.shift(TTL + 1)
        search(client, "stale")
        clock.shift(STALE)
        search(client, "fresh")
    assert {str(key) for (key,) in stored(tmp_path, "key")} == {
        PageKey(text, 0, 3).key(client.url) for text in ("stale", "fresh")
    }


def test_a_cache_outlives_its_process(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    """What one process fetched the next one finds."""
    assert [search(make_client()), search(make_client())] == ["miss", "hit"]
    assert len(stand_in.requests) == 1


def test_a_redis_that_is_away_is_a_miss(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    """Without the store every search asks the provider, and each failure is counted."""
    client, errors = (
        make_client(redis=unreachable_redis()),
        counted("november7_cache_store_errors_total"),
    )
    assert [search(client), search(client)] == ["miss", "miss"]
    assert len(stand_in.requests) == 2
    assert counted("november7_cache_store_errors_total") > errors


def test_an_unreadable_file_begins_anew(make_client: Callable[..., Client], tmp_path: Path) -> None:
    """A cache file that isn't one is replaced at the start."""
    (tmp_path / "cache.sqlite").write_bytes(b"not a database" * 500)
    client = make_client()
    assert [search(client), search(client)] == ["miss", "hit"]


def test_a_file_that_rots_is_a_miss(
    make_client: Callable[..., Client], stand_in: StandIn, tmp_path: Path
) -> None:
    """A cache file that breaks while it is used costs requests, not searches."""
    client = make_client()
    search(client)
    client.cache.responses.close()
    for path in tmp_path.glob("cache.sqlite*"):
        path.write_bytes(b"rotten" * 2000)
    assert [search(client), search(client)] == ["miss", "miss"]
    assert len(stand_in.requests) == 3


def test_an_entry_that_rots_is_a_miss(make_client: Callable[..., Client], tmp_path: Path) -> None:
    """One entry that can't be read is fetched again and replaced."""
    client = make_client()
    search(client)
    with sqlite3.connect(tmp_path / "cache.sqlite") as connection:
        connection.execute("UPDATE responses SET value = '{\"half'")
    connection.close()
    assert [search(client), search(client)] == ["miss", "hit"]


def test_a_file_that_another_holds_is_a_miss(
    make_client: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that never lets go of the file keeps pages from being stored, and holds nobody."""
    monkeypatch.setattr("movies.november7.session.BUSY_TIMEOUT", 10)
    client = make_client()
    other = sqlite3.connect(tmp_path / "cache.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert search(client) == "miss"
    other.close()
    assert [search(client), search(client)] == ["miss", "hit"]
