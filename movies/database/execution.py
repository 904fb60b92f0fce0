"""Runs statements on the connections of a pool, without SQLAlchemy's execution.

SQLAlchemy's execution takes several times longer than the database needs to find a row by its key.
Pools and exceptions are those of SQLAlchemy.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, Self, cast

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus
from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.exc import DBAPIError

from movies.database.connections import replace_connections
from movies.database.outages import must_replace_connection
from movies.database.stalls import within
from movies.database.statements import Compiled, Statement

# Called with the engine, text and values of each statement. The statement runs in the context.
Watcher = Callable[[Engine, str, list[Any]], AbstractContextManager[Any]]

DRIVER_ERRORS = (psycopg.Error, sqlite3.Error)

watchers: list[Watcher] = []
_UNWATCHED = nullcontext()


class Connection:
    """A connection of a pool that runs statements. Use it in a `with` block.

    Raises SQLAlchemy's TimeoutError if no connection becomes free, and DBAPIError for errors of the
    driver. On PostgreSQL, each statement is a transaction of its own. On SQLite, writes are undone
    at the end of the block unless `commit` was called.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pooled: PoolProxiedConnection | None = None
        self._text = ""

    def __enter__(self) -> Self:
        try:
            self._pooled = self._engine.raw_connection()
        except DRIVER_ERRORS as error:
            raise self._failure(error) from error
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        pooled = cast(PoolProxiedConnection, self._pooled)
        if error is None:
            pooled.close()
        elif isinstance(error, DRIVER_ERRORS):
            raise self._failure(error) from error
        else:
            pooled.invalidate()  # a response may be outstanding

    def run(self, statement: Statement, **parameters: Any) -> list[Any]:
        """The rows of a statement, as named tuples."""
        compiled = statement.compiled(self._engine.dialect.name)
        values = compiled.values(parameters)
        self._text = compiled.text
        pooled = cast(PoolProxiedConnection, self._pooled)
        with _watched(self._engine, compiled.text, values):
            return _rows(pooled, compiled, values)

    def commit(self) -> None:
        """Commit what was written to SQLite."""
        cast(PoolProxiedConnection, self._pooled).commit()

    @contextmanager
    def lock_timeout(self, seconds: float | None) -> Iterator[None]:
        """Let SQLite wait this long for other writers in the block; None is the default."""
        if seconds is None:
            yield
            return
        driver: Any = cast(PoolProxiedConnection, self._pooled).driver_connection
        ((usual,),) = driver.execute("PRAGMA busy_timeout").fetchall()
        driver.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
        try:
            yield
        finally:
            driver.execute(f"PRAGMA busy_timeout = {usual}")

    def _failure(self, error: Exception) -> BaseException:
        """The DBAPIError for an error of the driver. The connection is replaced or returned."""
        pooled = self._pooled
        driver: Any = pooled and pooled.dbapi_connection
        is_lost = self._engine.dialect.is_disconnect(error, driver, None)  # type: ignore[arg-type]
        if is_lost or must_replace_connection(error):
            is_lost = True
            replace_connections()
        if pooled is not None:
            pooled.invalidate(error) if is_lost else pooled.close()
        return cast(
            BaseException, DBAPIError.instance(self._text, None, error, Exception, True, is_lost)
        )


def _watched(engine: Engine, text: str, values: list[Any]) -> AbstractContextManager[Any]:
    if not watchers:
        return _UNWATCHED
    stack = ExitStack()
    for watcher in watchers:
        stack.enter_context(watcher(engine, text, values))
    return stack


def _rows(pooled: PoolProxiedConnection, compiled: Compiled, values: list[Any]) -> list[Any]:
    driver: Any = pooled.driver_connection
    if isinstance(driver, sqlite3.Connection):
        return list(map(compiled.row, driver.execute(compiled.text, values)))
    if driver.prepare_threshold is None:  # as behind a PgBouncer that knows no prepared statements
        result = _result(driver, driver.pgconn.exec_params, compiled.text.encode(), values)
    else:
        prepared = pooled.info.setdefault("prepared", set())
        try:
            result = _prepared_result(driver, prepared, compiled, values)
        except psycopg.errors.InvalidSqlStatementName:  # psycopg's DEALLOCATE ALL, after a ROLLBACK
            prepared.discard(compiled.name)
            result = _prepared_result(driver, prepared, compiled, values)
    loader = Transformer(driver)
    loader.set_pgresult(result)
    return loader.load_rows(0, result.ntuples, compiled.row)


def _prepared_result(
    driver: Any, prepared: set[bytes], compiled: Compiled, values: list[Any]
) -> Any:
    """The result of a statement, which is prepared unless it is among those that are."""
    if compiled.name not in prepared:
        with suppress(psycopg.errors.DuplicatePreparedStatement):  # it has the same text
            _result(driver, driver.pgconn.prepare, compiled.name, compiled.text.encode())
        prepared.add(compiled.name)
    return _result(driver, driver.pgconn.exec_prepared, compiled.name, values)


def _result(driver: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a blocking call of libpq. Raises psycopg.Error.

    It releases the GIL once. Under load, each further release would let other threads run first.
    """
    try:
        result = within(driver.response_timeout, driver, call, *arguments)
    except MemoryError:  # psycopg's exception if libpq returns no result, whatever the reason
        reason = driver.pgconn.error_message.decode(errors="replace").strip()
        raise psycopg.OperationalError(reason or "the server sent no response") from None
    if result.status == ExecStatus.FATAL_ERROR:
        raise _error(result)
    return result


def _error(result: Any) -> psycopg.Error:
    """The error that a server reported. libpq reports a lost connection without a SQLSTATE."""
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    text = result.error_message.decode(errors="replace").strip()
    try:
        return psycopg.errors.lookup(state)(text)
    except KeyError:
        return psycopg.DatabaseError(text) if state else psycopg.OperationalError(text)
