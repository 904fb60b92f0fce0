"""The Flask-SQLAlchemy extension, with methods to run single statements and retry transactions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from movies.database.connections import READS
from movies.database.execution import Connection
from movies.database.outages import is_conflict, is_lost_connection
from movies.database.statements import Statement

ATTEMPTS = 3  # at a transaction that meets conflicts

P = ParamSpec("P")
T = TypeVar("T")


class Database(SQLAlchemy):
    """The database of an application. Its pools are those for transactions and for READS."""

    def fetch_all(self, statement: Statement, **parameters: Any) -> list[Any]:
        """All rows of a statement that may be repeated. It is, once, if that may help."""
        try:
            return self._run(READS, statement, parameters)
        except DBAPIError as error:
            if not (is_lost_connection(error) or is_conflict(error)):
                raise
            return self._run(READS, statement, parameters)

    def execute_alone(self, statement: Statement, **parameters: Any) -> list[Any]:
        """The rows that one writing statement on PostgreSQL returns. It commits by itself."""
        return self._run(None, statement, parameters)

    def _run(self, pool: str | None, statement: Statement, parameters: dict[str, Any]) -> list[Any]:
        with Connection(self.engines[pool]) as connection:
            return connection.run(statement, **parameters)

    @contextmanager
    def sqlite_transaction(self, lock_timeout: float | None = None) -> Iterator[Connection]:
        """A connection to SQLite. What the block writes is committed at its end.

        `lock_timeout`: seconds to wait for other writers; None for the default.
        """
        with Connection(self.engine) as connection, connection.lock_timeout(lock_timeout):
            yield connection
            connection.commit()

    def retried(self, function: Callable[P, T]) -> Callable[P, T]:
        """Run `function` again when the database undid its transaction because of a conflict.

        `function` runs one transaction and commits it last.
        """

        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            for _ in range(ATTEMPTS - 1):
                try:
                    return function(*args, **kwargs)
                except DBAPIError as error:
                    self.session.rollback()
                    if not is_conflict(error):
                        raise
            return function(*args, **kwargs)

        return wrapper

    def dispose(self) -> None:
        """Close the idle connections of both pools."""
        for engine in self.engines.values():
            engine.dispose()

    def insert_into(self, table: Any, dialect: str | None = None) -> Any:
        """An INSERT into `table` with `on_conflict_do_…`, by default in the database's dialect."""
        name = dialect or self.engine.dialect.name
        return {"postgresql": postgresql, "sqlite": sqlite}[name].insert(table)
