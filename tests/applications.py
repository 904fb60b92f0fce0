"""Creates applications and empties databases for tests.

Creating an application takes longer than most tests. So a test gets the existing one if only the
provider's settings differ.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask
from sqlalchemy import make_url

from movies import create_app, provider
from movies.counters import open_counters
from movies.extensions import api, db
from movies.movies.registry import record_or_log
from movies.settings import open_redis

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

        Only the application that was created last can be used again, because the extensions belong
        to it. It keeps its connections to the database. Rate limits start at 0.
        """
        shape = {name: value for name, value in settings.items() if name not in PER_TEST}
        if self._kept is None or shape != self._shape or api.spec is not self._spec:
            self.close()
            self._kept, self._shape = create_app("testing", settings), shape
            self._config, self._spec = dict(self._kept.config), api.spec
            return self._kept
        config = self._kept.config
        config.clear()
        config.update(self._config)
        config.update(settings)
        provider.init_app(self._kept, on_fetch=record_or_log)
        if config["RATELIMIT_ENABLED"]:
            counters = open_counters(open_redis(config), Path(config["INSTANCE_DIR"]))
            self._kept.extensions["rate_limits"] = counters
        return self._kept

    def close(self) -> None:
        """Close the connections of the kept application."""
        if self._kept is not None:
            close_database(self._kept)
            self._kept = None


def close(app: Flask) -> None:
    """Close the connections and threads of an application."""
    close_provider(app)
    close_database(app)


def close_provider(app: Flask) -> None:
    """Close an application's client of the provider."""
    app.extensions["november7"].close()


def close_database(app: Flask) -> None:
    """Close an application's connections to the database."""
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
        with psycopg.connect(url, autocommit=True) as connection:
            empty_postgresql(connection)


def empty_postgresql(connection: psycopg.Connection) -> None:
    """As `empty`, over a connection that commits by itself."""
    tables = [table.name for table in reversed(db.metadata.sorted_tables)]
    statements = [f"DELETE FROM {name}" for name in tables if name != "voted_movies"]
    statements += ["SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"]
    connection.execute(";".join(statements).encode())


def _empty_sqlite(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
            " AND name NOT IN ('alembic_version', 'voted_movies')"
        ).fetchall():
            connection.execute(f'DELETE FROM "{table}"')
