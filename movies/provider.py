"""Creates the November 7 client of an application from its settings."""

from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask
from requests.adapters import BaseAdapter

from movies.movies.registry import record_or_log
from movies.november7.blocks import Movies
from movies.november7.cache import BlockCache, open_store
from movies.november7.client import Client
from movies.november7.sample.adapter import EmbeddedAdapter
from movies.november7.session import ProviderSession
from movies.november7.transport import BoundedHTTPAdapter
from movies.settings import open_redis

EMBEDDED = "http://november7.invalid/"  # a name that never resolves (RFC 2606)


def init_app(app: Flask) -> None:
    """Put the client at `app.extensions["november7"]`."""
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

    def record(movies: Movies) -> None:
        with app.app_context():
            record_or_log(movies)

    app.extensions["november7"] = Client(
        ProviderSession(wire, url, ttl=config["NOVEMBER7_TTL"], store=store),
        BlockCache(store, stale=config["NOVEMBER7_STALE"]),
        deadline=config["NOVEMBER7_DEADLINE"],
        concurrency=config["NOVEMBER7_CONCURRENCY"],
        redis=redis,
        on_fetch=record,
    )


def describe(app: Flask) -> str:
    """The provider that an application uses, without the path and credentials of its URL."""
    url = app.config["NOVEMBER7_URL"]
    return f"November 7 at {urlsplit(url).hostname}" if url else "the embedded sample catalogue"
