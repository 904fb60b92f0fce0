"""Records the movies that were fetched from November 7, and looks up unknown ones there."""

import logging
import uuid
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    Float,
    String,
    Text,
    Uuid,
    bindparam,
    cast,
    column,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.exc import SQLAlchemyError

from movies import provider
from movies.database import Statement, now
from movies.extensions import db
from movies.movies.models import CONTENT, Movie
from movies.november7.contract import ProviderMovie

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 0.25  # seconds that a search waits for others that change the same movies
RECORDING_TIMEOUT = 1.0  # seconds that a search waits until the movies that it found are recorded
SEEN_PRECISION = timedelta(hours=1)  # within it, a movie that has not changed is not written

_TYPES = {"id": Uuid, "rating": Float}  # of CONTENT; all others are text
_MOVIES = bindparam("movies", type_=String)  # a JSON array
_SEEN = bindparam("seen", type_=Movie.last_seen.type)
_SINCE = bindparam("since", type_=Movie.last_seen.type)
_TIMEOUT = bindparam("timeout", type_=String)  # in milliseconds; the usual one if it is null


def _changed(given: Any, source: Any) -> Any:
    """The movies of `source` that are new, have changed, or were last seen before `since`.

    `given`: the columns CONTENT of `source`. Ordered by id, so that locks are taken in one order.
    """
    differs = (getattr(Movie, name).is_distinct_from(given[name]) for name in CONTENT[1:])
    return (
        select(*(given[name] for name in CONTENT))
        .select_from(source.outerjoin(Movie, Movie.id == given["id"]))
        .where(or_(Movie.last_seen.is_(None), Movie.last_seen <= _SINCE, *differs))
        .order_by(given["id"])
    )


def _recording(changed: Any, dialect: str) -> Any:
    """Inserts or updates movies, and returns their ids."""
    insert = db.insert_into(Movie, dialect)
    news = {name: insert.excluded[name] for name in (*CONTENT[1:], "last_seen")}
    news["first_seen"] = func.coalesce(Movie.first_seen, insert.excluded.first_seen)
    rows = changed.add_columns(_SEEN, _SEEN)
    return (
        insert.from_select([*CONTENT, "first_seen", "last_seen"], rows, include_defaults=False)
        .on_conflict_do_update(index_elements=[Movie.id], set_=news)
        .returning(Movie.id)
    )


def _changed_on_postgresql() -> Any:
    """The changed movies of a statement that sets its own lock timeout.

    It does not wait for the disk either: what a crash of the server loses is recorded again. No
    vote is lost with its movie, because the commit of the vote waits for all earlier ones.
    """
    columns: list[Any] = [column(name, _TYPES.get(name, Text)) for name in CONTENT]
    record = func.json_to_recordset(cast(_MOVIES, JSON)).table_valued(*columns)
    given = record.render_derived(with_types=True)
    timeout = func.coalesce(_TIMEOUT, func.current_setting("lock_timeout"))
    settings = select(
        func.set_config("lock_timeout", timeout, True).label("lock_timeout"),
        func.set_config("synchronous_commit", "off", True).label("synchronous_commit"),
    ).cte("settings")
    return _changed(given.c, settings.join(given, true()))


def _changed_on_sqlite() -> Any:
    value = func.json_each(_MOVIES).table_valued("value")
    given: dict[str, Any] = {
        name: func.json_extract(value.c.value, f"$.{name}", type_=_TYPES.get(name, Text))
        for name in CONTENT
    }
    given["id"] = func.replace(given["id"], "-", "", type_=Uuid)
    return _changed(given, value)


_CHANGED = Statement(_changed_on_sqlite())
_RECORD = Statement(
    _recording(_changed_on_postgresql(), "postgresql"),
    sqlite=_recording(_changed_on_sqlite(), "sqlite"),
)
_KNOWN = Statement(
    select(Movie.id).where(Movie.id == bindparam("movie_id"), Movie.title.is_not(None))
)


class UnknownMovie(Exception):
    """November 7's catalogue does not contain this movie."""


def record(movies: list[ProviderMovie], *, timeout: float | None = None) -> None:
    """Record the fetched movies that are new or have changed.

    `timeout`: seconds to wait for locks of the same movies; None for the default.
    """
    if not movies:
        return
    seen = now()
    distinct = {movie["id"]: movie for movie in movies}
    values = {
        "movies": orjson.dumps([*distinct.values()]).decode(),
        "seen": seen,
        "since": seen - SEEN_PRECISION,
    }
    if db.engine.dialect.name == "postgresql":
        db.fetch_all(_RECORD, timeout=timeout and f"{timeout * 1000:.0f}", **values)
    elif db.fetch_all(_CHANGED, **values):  # a statement that may write waits for other writers
        with db.sqlite_transaction(timeout) as connection:
            connection.run(_RECORD, **values)


def record_or_log(movies: list[ProviderMovie]) -> None:
    """Record fetched movies. A failure is only logged, because a search does not need it."""
    try:
        record(movies, timeout=LOCK_TIMEOUT)
    except SQLAlchemyError as error:
        log.warning("movies were not recorded", extra={"reason": type(error).__name__})


def require(movie_id: uuid.UUID, user_id: int) -> None:
    """Look up a movie in the catalogue, unless it is recorded.

    `user_id`: the user who asks; users get equal shares of the lookups. Raises UnknownMovie, or
    Unavailable if the lookup failed.
    """
    if not is_known(movie_id):
        look_up(movie_id, user_id)


def look_up(movie_id: uuid.UUID, user_id: int) -> None:
    """Record a movie from the catalogue. Parameters and exceptions are those of `require`."""
    movie = provider.client().find_movie(str(movie_id), caller=user_id)
    if movie is None:
        raise UnknownMovie
    record([movie])


def is_known(movie_id: uuid.UUID) -> bool:
    """Whether this movie is recorded with its title."""
    return bool(db.fetch_all(_KNOWN, movie_id=movie_id))
