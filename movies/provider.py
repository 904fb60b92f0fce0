"""Connects an application to its provider: creates the November 7 client, and returns it."""

from collections.abc import Callable
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, current_app
from requests.adapters import BaseAdapter

from movies.november7.blocks import Movies
from movies.november7.cache import BlockCache, open_store
from movies.november7.client import Client
from movies.november7.sample.adapter import EmbeddedAdapter
from movies.november7.session import ProviderSession
from movies.november7.transport import BoundedHTTPAdapter
from movies.settings import open_redis

EMBEDDED = "http://november7.invalid/"  # a name that never resolves (RFC 2606)


def init_app(app: Flask, on_fetch: Callable[[Movies], None]) -> None:
    """Create the client from the settings. `on_fetch` is called with all movies that it fetches."""
    config = app.config
    redis = open_redis(config)
    wire: BaseAdapter = BoundedHTTPAdapter() if config["NOVEMBER7_URL"] else EmbeddedAdapter()
    store = open_store(
        path=Path(config["INSTANCE_DIR"]) / "november7-cache.sqlite",
        redis=redis,
        max_bytes=config["NOVEMBER7_CACHE_BYTES"],
        stale=config["NOVEMBER7_STALE"],
    )
    url = (config["NOVEMBER7_URL"] or EMBEDDED).rstrip("/") + "/movies/"

    def call_on_fetch(movies: Movies) -> None:
        with app.app_context():
            on_fetch(movies)

    app.extensions["november7"] = Client(
        ProviderSession(wire, url, ttl=config["NOVEMBER7_TTL"], store=store),
        BlockCache(store, stale=config["NOVEMBER7_STALE"]),
        deadline=config["NOVEMBER7_DEADLINE"],
        concurrency=config["NOVEMBER7_CONCURRENCY"],
        redis=redis,
        on_fetch=call_on_fetch,
    )


def client() -> Client:
    """The client of the current application."""
    return cast(Client, current_app.extensions["november7"])


def describe(app: Flask) -> str:
    """The provider that an application uses, without the path and credentials of its URL."""
    url = app.config["NOVEMBER7_URL"]
    return f"November 7 at {urlsplit(url).hostname}" if url else "the embedded sample catalogue"
