"""Creates applications and empties databases for tests.

Creating an application takes longer than most tests. So a test gets the existing one if only the
provider's settings differ.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import psycopg
from flask import Flask
from sqlalchemy import make_url

from movies import create_app, provider
from movies.extensions import api, db
from movies.movies.registry import record_or_log

PER_TEST = {
    "INSTANCE_DIR",
    "NOVEMBER7_URL",
    "NOVEMBER7_TTL",
    "NOVEMBER7_STALE",
    "NOVEMBER7_DEADLINE",
    "NOVEMBER7_CONCURRENCY",
}


class Applications:
    """Creates applications, and keeps the last one for the next test."""

    def __init__(self) -> None:
        self._kept: Flask | None = None
        self._shape: Any = None
        self._config: dict[str, Any] = {}
        self._spec: Any = None

    def get(self, settings: Mapping[str, Any]) -> Flask:
        """The existing application with a new client of the provider, or a new application.

        The extensions belong to the application that was created last, so only this one can be used
        again. An application with rate limits is never used again, so that counts start at 0.
        """
        shape = {name: value for name, value in settings.items() if name not in PER_TEST}
        is_counting = settings["RATELIMIT_ENABLED"] or settings["REDIS_URL"]
        if is_counting or shape != self._shape or api.spec is not self._spec or not self._kept:
            self._kept, self._shape = create_app("testing", settings), shape
            self._config, self._spec = dict(self._kept.config), api.spec
            return self._kept
        self._kept.config.clear()
        self._kept.config.update(self._config)
        self._kept.config.update(settings)
        provider.init_app(self._kept, on_fetch=record_or_log)
        return self._kept


def close(app: Flask) -> None:
    """Close the connections and threads of an application."""
    app.extensions["november7"].close()
    with app.app_context():
        db.dispose()


def empty(url: str) -> None:
    """Delete all rows of a database except its revision, and let ids start at 1 again.

    Triggers reset the rows of `voted_movies`, which migrations insert. This is over a hundred times
    faster than TRUNCATE, which waits for the disk.
    """
    if url.startswith("sqlite"):
        _empty_sqlite(make_url(url).database or "")
    else:
        _empty_postgresql(url)


def _empty_sqlite(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
            " AND name NOT IN ('alembic_version', 'voted_movies')"
        ).fetchall():
            connection.execute(f'DELETE FROM "{table}"')


def _empty_postgresql(url: str) -> None:
    tables = [table for table in db.metadata.sorted_tables if table.name != "voted_movies"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(";".join(f"DELETE FROM {table.name}" for table in reversed(tables)))
        connection.execute(
            "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"
        )
