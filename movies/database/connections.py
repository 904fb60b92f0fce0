"""Connection options, pools and timeouts of PostgreSQL and SQLite.

A process has two pools. Transactions and votes use one. Single SELECTs use the other, and so does
the recording of fetched movies on PostgreSQL. So voters that wait for a lock cannot keep lists and
searches waiting. The sizes of the pools add up to 20 connections.
"""

import logging
import math
import select
import sqlite3
from threading import BoundedSemaphore
from time import monotonic
from typing import Any, cast

import psycopg
from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    ExceptionContext,
    Pool,
    PoolProxiedConnection,
    QueuePool,
    event,
    text,
)
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from movies.database.hosts import best_address_first, forget_address, remember_address
from movies.database.outages import must_replace_connection
from movies.database.stalls import start_watching, within
from movies.wal import enable_wal

READS = "reads"  # the bind of the pool for single statements that may be repeated
POOL_SIZES = {None: 12, READS: 8}  # connections of one process
POOL_TIMEOUT = 5  # seconds to wait for a connection of the pool
MAX_WAITERS = 192  # callers of one process that wait for a connection at once; others get 503
MAX_CALLERS = MAX_WAITERS + sum(POOL_SIZES.values())  # that wait, or use a connection, at once
SQLITE_LOCK_TIMEOUT = 5  # seconds that SQLite waits for another writer
# `connect_timeout` and `keepalives_idle` are seconds; the other timeouts are milliseconds. Idle
# connections are probed, so that no firewall drops them.

POSTGRESQL = {"connect_timeout": 3, "tcp_user_timeout": 10000, "keepalives_idle": 60}
POSTGRESQL_OPTIONS = "-c statement_timeout=10000 -c lock_timeout=3000"
# Seconds after which a server counts as stalled: until its `statement_timeout` is known, and in
# addition to it afterwards.
FIRST_RESPONSE_TIMEOUT = 10.0
RESPONSE_MARGIN = 2.0
CHECKED_AFTER = 1.0  # seconds without use after which a connection for reads is checked again


def bind(url: URL, name: str | None = None) -> dict[str, Any]:
    """The engine options of one of a process's two pools: for transactions, or for READS."""
    reading = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    return {
        **connection_options(url),
        **(reading if name == READS else {}),
        "poolclass": AdmissionPool,
        "pool_size": POOL_SIZES[name],
        "max_overflow": 0,
        "pool_use_lifo": True,  # few connections in use keep the caches of the server warm
        "pool_timeout": POOL_TIMEOUT,
    }


def connection_options(url: URL) -> dict[str, Any]:
    """Engine options of a single connection. What `url` sets itself takes precedence.

    `options` of PostgreSQL are joined; the server uses the last of two equal ones.
    """
    if url.get_backend_name() == "sqlite":
        defaults: dict[str, Any] = {"timeout": SQLITE_LOCK_TIMEOUT}
    else:
        defaults = POSTGRESQL
    arguments = {name: value for name, value in defaults.items() if name not in url.query}
    if url.get_backend_name() == "postgresql":
        given = url.query.get("options", ())
        options = (given,) if isinstance(given, str) else given
        arguments["options"] = " ".join((POSTGRESQL_OPTIONS, *options))
    return {"hide_parameters": True, "connect_args": arguments}  # no personal data in the log


class AdmissionPool(QueuePool):
    """A pool that refuses callers at once while MAX_WAITERS others wait in the process."""

    waiters = BoundedSemaphore(MAX_WAITERS)

    def connect(self) -> PoolProxiedConnection:
        """A connection. Raises PoolTimeout if none becomes free, or too many callers wait."""
        if not self.waiters.acquire(blocking=False):
            raise PoolTimeout(f"{MAX_WAITERS} callers are waiting for the database")
        try:
            return super().connect()
        finally:
            self.waiters.release()


# SQLAlchemy logs under the name of the class. Pools opening and closing are no news.
logging.getLogger(f"{__name__}.{AdmissionPool.__name__}").setLevel(logging.WARNING)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection to PostgreSQL that gives up on a server that has stopped responding.

    `response_timeout`: seconds; None waits for ever.
    """

    response_timeout: float | None = FIRST_RESPONSE_TIMEOUT

    # psycopg does not document `wait`, and has no other way to bound a response.
    # tests/database/test_stalled_server.py fails if this changes.
    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """The result of a generator of psycopg. Raises ServerStalled after `response_timeout`."""
        return within(self.response_timeout, self, super().wait, *args, **kwargs)

    def rollback(self) -> None:
        """Roll back. A connection that is lost needs none: the server has done it already."""
        try:
            super().rollback()
        except psycopg.OperationalError:
            if not self.closed:
                raise

    def bound_responses(self) -> None:
        """Derive `response_timeout` from the server's `statement_timeout`; 0 there means never."""
        seconds = self.execute(
            "SELECT extract(epoch FROM current_setting('statement_timeout')::interval)::float"
        ).fetchone()[0]  # type: ignore[index]
        self.response_timeout = seconds + RESPONSE_MARGIN if seconds else None


@event.listens_for(Engine, "do_connect")
def _connect_postgresql(
    dialect: Dialect, _record: object, arguments: list[Any], settings: dict[str, Any]
) -> BoundedConnection | None:
    if dialect.driver != "psycopg":
        return None
    if "prepare_threshold" in settings:  # a URL can only hold text
        settings["prepare_threshold"] = int(settings["prepare_threshold"]) or None
    start_watching()
    ordered = best_address_first(settings)
    connection = BoundedConnection.connect(*arguments, **ordered, autocommit=True)
    try:
        connection.bound_responses()
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    remember_address(connection)
    return connection


@event.listens_for(Engine, "connect")
def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Give SQLite what PostgreSQL has: foreign keys, reads during writes, and `sqrt`."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA foreign_keys = ON")
        enable_wal(connection, SQLITE_LOCK_TIMEOUT)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.create_function("sqrt", 1, math.sqrt, deterministic=True)


_replaced_before = 0.0  # connections opened earlier are replaced; seconds of the monotonic clock


def replace_connections() -> None:
    """Have both pools replace their connections, because one met a server that cannot serve."""
    global _replaced_before  # noqa: PLW0603  there is one set of pools in a process
    _replaced_before = monotonic()
    forget_address()


@event.listens_for(Engine, "handle_error")
def _note_error(context: ExceptionContext) -> None:
    if must_replace_connection(context.original_exception):
        context.is_disconnect = True
        replace_connections()


@event.listens_for(Pool, "connect")
def _note_age(_connection: object, record: Any) -> None:
    record.info["opened"] = monotonic()


@event.listens_for(Pool, "checkin")
def _note_idle(connection: object, record: Any) -> None:
    if connection is not None:
        record.info["idle_since"] = monotonic()


@event.listens_for(Pool, "checkout", insert=True)  # before those that count connections
def _check_idle(connection: Any, record: Any, _proxy: object) -> None:
    """Have the pool replace an idle connection that is lost, without asking the server.

    A server sends nothing on an idle connection but its end, or a changed setting. A read on a
    connection that is lost is repeated, so these are not checked while they are in constant use.
    """
    idle_since = record.info.pop("idle_since", None)
    if idle_since is None:
        return
    if record.info["opened"] <= _replaced_before:
        raise DisconnectionError("the server could not serve")
    if isinstance(connection, psycopg.Connection):
        is_in_use = connection.autocommit and monotonic() - idle_since < CHECKED_AFTER
        if connection.closed or (not is_in_use and _has_input(connection.fileno())):
            raise DisconnectionError("the server closed the connection")


def _has_input(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def without_timeouts(connection: Connection) -> None:
    """Let this transaction's statements run without a time limit, for migrations and checks."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        cast(BoundedConnection, connection.connection.dbapi_connection).response_timeout = None
