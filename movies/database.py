"""Everything about databases: base class, column types, connections, time-outs, outages."""

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import psycopg
from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Executable,
    Integer,
    MetaData,
    Row,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

SQLITE_LOCK_TIMEOUT = 15  # seconds that SQLite waits for another writer


class Base(DeclarativeBase):
    """Declarative base; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


BigId = BigInteger().with_variant(Integer(), "sqlite")  # only an INTEGER counts up by itself there


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, in UTC on both databases; SQLite forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@event.listens_for(Engine, "connect")
def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Give SQLite what PostgreSQL has: enforced foreign keys, readers beside a writer, `sqrt`."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.create_function("sqrt", 1, math.sqrt, deterministic=True)


def fetch_all(
    engine: Engine, statement: Executable, **parameters: Any
) -> Sequence[Row[*tuple[Any, ...]]]:
    """All rows of a single SELECT, run outside a transaction on a connection of its own."""
    with _autocommit(engine).connect() as connection:
        return connection.execute(statement, parameters).all()


@lru_cache(maxsize=4)
def _autocommit(engine: Engine) -> Engine:
    """The same engine and pool, on which every statement stands alone."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection to PostgreSQL that gives up on a server that has stopped answering.

    `patience`: seconds; a little more than the server's own `statement_timeout`. A server that is
    there but stalled, as on a full disk, would otherwise hold its callers for ever.
    """

    patience: float | None = 12.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """What `gen` brings. Raises OperationalError, and closes, when patience is at its end."""
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.errors._WaitTimeout:
            if timeout is not None:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from None


@event.listens_for(Engine, "do_connect")
def _connect_postgresql(
    dialect: Dialect, _record: object, arguments: list[Any], settings: dict[str, Any]
) -> BoundedConnection | None:
    if dialect.driver == "psycopg":
        return BoundedConnection.connect(*arguments, **settings)
    return None


def without_timeouts(connection: Connection) -> None:
    """Let this transaction's statements take their time: for migrations and upkeep."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        cast(BoundedConnection, connection.connection.dbapi_connection).patience = None


@contextmanager
def lock_timeout(connection: Connection, seconds: float | None) -> Iterator[None]:
    """Have the block's statements fail that wait longer for a lock; None leaves it as it is."""
    if seconds is None:
        yield
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {seconds * 1000:.0f}")
        yield
    else:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {SQLITE_LOCK_TIMEOUT * 1000}")


def insert_into(engine: Engine, table: Any) -> Any:
    """An INSERT into `table` with `on_conflict_do_…`, in the dialect of the engine's database."""
    return {"postgresql": postgresql, "sqlite": sqlite}[engine.dialect.name].insert(table)


def is_outage(error: BaseException) -> bool:
    """Whether a database error means that the database is unavailable."""
    return isinstance(error, PoolTimeout | OperationalError | InterfaceError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
