"""Which errors of the database mean that it is unavailable, and which can be repeated.

Errors are told apart by SQLSTATE (PostgreSQL, appendix A of its manual) and by result code (SQLite,
https://sqlite.org/rescode.html). The drivers' exception classes say too little: PostgreSQL reports
a read-only server as an `InternalError` and a full disk as an `OperationalError`.
"""

import sqlite3

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Connection failures, insufficient resources, operator intervention and timeouts, system errors.
OUTAGE_CLASSES = ("08", "53", "57", "58")
READ_ONLY = "25006"  # a standby, or a primary that was demoted
SESSION_ENDED = {"25P03", "25P04"}  # by a timeout for idle or long transactions
CONFLICTS = {"40001", "40P01"}  # serialization failure, deadlock
LOCK_TIMEOUT = "55P03"
NOT_MIGRATED = {"42P01", "42703"}  # undefined table, undefined column
OUTAGES = {READ_ONLY, *SESSION_ENDED, *CONFLICTS, LOCK_TIMEOUT, *NOT_MIGRATED}
# PostgreSQL gives this case of 0A000 no code of its own.
CHANGED_RESULT_TYPE = "cached plan must not change result type"

SQLITE_BROKEN = {  # the file, not the statement, is at fault: opening it again may help
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
}
SQLITE_OUTAGES = SQLITE_BROKEN | {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PROTOCOL,
}
SQLITE_NOT_MIGRATED = ("no such table", "no such column", "has no column named")


class ServerStalled(psycopg.OperationalError):
    """The server keeps the connection open and does not respond."""


def is_outage(error: BaseException) -> bool:
    """Whether a database error means that the database is unavailable, or not migrated."""
    if isinstance(error, PoolTimeout) or getattr(error, "connection_invalidated", False):
        return True
    match cause := _cause(error):
        case psycopg.Error(sqlstate=str(state)):
            return state.startswith(OUTAGE_CLASSES) or state in OUTAGES or _is_outdated_plan(cause)
        case psycopg.OperationalError() | psycopg.InterfaceError():  # raised by the client side
            return True
        case sqlite3.Error():
            return _sqlite_code(cause) in SQLITE_OUTAGES or is_not_migrated(cause)
    return False


def is_conflict(error: BaseException) -> bool:
    """Whether the database undid a transaction that may succeed when it is run again."""
    cause = _cause(error)
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate in CONFLICTS or _is_outdated_plan(cause)
    return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY_SNAPSHOT


def is_lost_connection(error: BaseException) -> bool:
    """Whether a connection broke and the server was not merely silent: a new one may work."""
    return (
        isinstance(error, DBAPIError)
        and error.connection_invalidated
        and not isinstance(error.orig, ServerStalled)
    )


def must_replace_connection(error: BaseException) -> bool:
    """Whether the connection must be replaced, although it is still open."""
    cause = _cause(error)
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate == READ_ONLY or _is_outdated_plan(cause)
    return _sqlite_code(cause) in SQLITE_BROKEN


def is_not_migrated(error: BaseException) -> bool:
    """Whether a table or a column is missing."""
    cause = _cause(error)
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate in NOT_MIGRATED
    return isinstance(cause, sqlite3.Error) and any(
        text in str(cause) for text in SQLITE_NOT_MIGRATED
    )


def explain(error: BaseException) -> str:
    """The cause of an outage in one line, for the log, and what to run if it is not migrated."""
    cause = _cause(error)
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    text = next(iter(str(cause).splitlines()), "") or type(cause).__name__
    advice = ". Run `flask --app wsgi db upgrade`" if is_not_migrated(cause) else ""
    return f"{code}: {text}{advice}" if code else f"{text}{advice}"


def _cause(error: BaseException) -> BaseException:
    """The driver's error within SQLAlchemy's."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _sqlite_code(cause: BaseException) -> int | None:
    """The primary result code, which is the low byte of the extended one."""
    code: int | None = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_outdated_plan(cause: BaseException) -> bool:
    return CHANGED_RESULT_TYPE in str(cause) and getattr(cause, "sqlstate", None) == "0A000"
