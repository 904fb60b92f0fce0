"""Derives settings of Flask and its extensions from those that config.py reads.

It also creates what they name: INSTANCE_DIR, the development secret, clients of Redis.
"""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from flask import Flask
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import URL, make_url

from movies.database import READS, bind

SECRET_BYTES = 32
REDIS_TIMEOUT = 0.5  # seconds to connect, and for a response


def init_app(app: Flask) -> None:
    """Add the derived settings, and create INSTANCE_DIR if it does not exist."""
    config = app.config
    directory = Path(config["INSTANCE_DIR"])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    config["JWT_SECRET_KEY"] = config["JWT_SECRET_KEY"] or _own_secret(directory / "jwt-secret")
    url = _database_url(config["DATABASE_URL"], directory)
    config["SQLALCHEMY_DATABASE_URI"] = url
    config["SQLALCHEMY_ENGINE_OPTIONS"] = bind(url)
    config["SQLALCHEMY_BINDS"] = {READS: {"url": url, **bind(url, READS)}}
    config.update(
        API_TITLE="Movies API",
        OPENAPI_VERSION="3.1.0",
        JWT_COOKIE_CSRF_PROTECT=False,  # tokens are in no cookie, so they need no claim `csrf`
    )


def open_redis(config: Mapping[str, Any]) -> Redis | None:
    """A client of REDIS_URL, which repeats a failed command once; None if it is not set."""
    if not config["REDIS_URL"]:
        return None
    return Redis.from_url(
        config["REDIS_URL"],
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=REDIS_TIMEOUT,
        retry=Retry(NoBackoff(), retries=1),
    )


def _own_secret(path: Path) -> str:
    """The secret in the instance directory. The first of several processes generates it."""
    if not path.exists():
        draft = path.with_suffix(f".{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(SECRET_BYTES))
        try:
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
    return path.read_text()


def _database_url(url: str, directory: Path) -> URL:
    """The URL with the driver that this project installs; without one, SQLite in `directory`."""
    if not url:
        parsed = URL.create("sqlite", database=str(directory / "movies.sqlite3"))
    else:
        parsed = make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.host and parsed.host.startswith(
        "%2"
    ):  # the directory of a socket, percent-encoded, as in libpq URLs
        parsed = parsed.set(host=unquote(parsed.host))
    if parsed.get_backend_name() == "sqlite" and parsed.database:  # else it is in memory
        # Created here, only its owner can read it. Its write-ahead log gets the same permissions.
        with suppress(OSError):  # SQLite reports what is wrong with the path
            Path(parsed.database).touch(mode=0o600)
    return parsed
