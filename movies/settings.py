"""From the settings as they are read to those that Flask and its extensions want."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import URL, make_url

from movies.database import SQLITE_LOCK_TIMEOUT

SECRET_BYTES = 32
POOL = {"pool_size": 10, "max_overflow": 10, "pool_timeout": 10, "pool_pre_ping": True}
# Seconds to connect, milliseconds for a statement, for a lock, and for a peer that went silent.
POSTGRESQL = {
    "connect_timeout": 3,
    "options": "-c statement_timeout=10000 -c lock_timeout=5000",
    "tcp_user_timeout": 10000,
}
REDIS_TIMEOUTS = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}  # seconds
SQLITE = {"timeout": SQLITE_LOCK_TIMEOUT}


def named(name: str, configs: Mapping[str, type]) -> type:
    """The configuration of this name. Raises RuntimeError if there is none."""
    if name not in configs:
        raise RuntimeError(f"MOVIES_CONFIG is {name!r}, not one of: {', '.join(configs)}")
    return configs[name]


def complete(app: Flask) -> None:
    """Fill in what depends on other settings. Raises RuntimeError for what is missing or wrong."""
    config = app.config
    directory = _writable(Path(config["INSTANCE_DIR"]))
    if not config["JWT_SECRET_KEY"] and not config["REQUIRE_SECRETS"]:
        config["JWT_SECRET_KEY"] = _own_secret(directory / "jwt-secret")
    if config["REQUIRE_SECRETS"]:
        _require_secrets(config)
    if config["NOVEMBER7_URL"] and not re.match(r"https?://[^/]", config["NOVEMBER7_URL"]):
        raise RuntimeError("NOVEMBER7_URL is not the address of an HTTP service")
    url = _database_url(config["DATABASE_URL"], directory)
    is_sqlite = url.get_backend_name() == "sqlite"
    config["SQLALCHEMY_DATABASE_URI"] = url
    config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        **({} if url.database in (None, "", ":memory:") else POOL),  # none for SQLite in memory
        "hide_parameters": True,  # no address or hash in a log when a statement fails
        "connect_args": SQLITE if is_sqlite else POSTGRESQL,
    }
    config.update(
        API_TITLE="Movies API",
        OPENAPI_VERSION="3.1.0",
        JWT_COOKIE_CSRF_PROTECT=False,
        RATELIMIT_STORAGE_URI=config["REDIS_URL"] or "memory://",
        RATELIMIT_STORAGE_OPTIONS=REDIS_TIMEOUTS if config["REDIS_URL"] else {},
        RATELIMIT_KEY_PREFIX="movies",
        RATELIMIT_IN_MEMORY_FALLBACK_ENABLED=True,
        RATELIMIT_SWALLOW_ERRORS=True,
    )


def _require_secrets(config: Mapping[str, Any]) -> None:
    if len(config["JWT_SECRET_KEY"].encode()) < SECRET_BYTES:
        raise RuntimeError(f"JWT_SECRET_KEY is missing, or shorter than {SECRET_BYTES} bytes")
    if 0 < len(config["JWT_SECRET_KEY_PREVIOUS"].encode()) < SECRET_BYTES:
        raise RuntimeError(f"JWT_SECRET_KEY_PREVIOUS is shorter than {SECRET_BYTES} bytes")


def _writable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeError(f"INSTANCE_DIR can't be made: {error}") from None
    if not os.access(directory, os.W_OK):
        raise RuntimeError(f"INSTANCE_DIR {directory} can't be written to")
    return directory


def _own_secret(path: Path) -> str:
    """The secret of this instance directory, made at first use; one, whoever makes it first."""
    if not path.exists():
        draft = path.with_suffix(f".{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(SECRET_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()


def _database_url(url: str, directory: Path) -> URL:
    """The URL with the driver that this project installs; without one, SQLite in `directory`."""
    if not url:
        return URL.create("sqlite", database=str(directory / "movies.sqlite3"))
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("sqlite", "postgres", "postgresql"):
        raise RuntimeError("DATABASE_URL is neither of PostgreSQL nor of SQLite")
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed
