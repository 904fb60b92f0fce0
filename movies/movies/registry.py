"""Records the movies that were fetched from November 7, and looks up unknown ones there."""

import logging
import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, String, Uuid, any_, bindparam, func, select, type_coerce
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import SQLAlchemyError

from movies import provider
from movies.database import Statement, lock_timeout, now
from movies.extensions import db
from movies.movies.models import CONTENT, Movie
from movies.november7.contract import ProviderMovie

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 0.25  # seconds that a search waits for others that change the same movies
SEEN_PRECISION = timedelta(hours=1)  # within it, a movie that has not changed is not written

_RECENT = select(*(getattr(Movie, name) for name in CONTENT)).where(
    Movie.last_seen > bindparam("since", type_=Movie.last_seen.type)
)
# The ids are one parameter: an array on PostgreSQL, JSON on SQLite.
GIVEN_IDS = func.json_each(bindparam("movie_ids", type_=JSON)).table_valued("value")
_RECORDED = Statement(
    _RECENT.where(Movie.id == any_(bindparam("movie_ids", type_=ARRAY(Uuid)))),
    sqlite=_RECENT.where(
        type_coerce(Movie.id, String).in_(select(func.replace(GIVEN_IDS.c.value, "-", "")))
    ),
)
_KNOWN = Statement(
    select(Movie.id).where(Movie.id == bindparam("movie_id"), Movie.title.is_not(None))
)


class UnknownMovie(Exception):
    """November 7's catalogue does not contain this movie."""


def record(movies: list[ProviderMovie], *, timeout: float | None = None) -> None:
    """Record the fetched movies that are new or have changed, in one statement.

    `timeout`: seconds to wait for locks of the same movies; None for the default.
    """
    seen = now()
    rows = {movie["id"]: _row(movie, seen) for movie in movies}
    if not rows:
        return
    since = seen - SEEN_PRECISION
    recorded = {
        str(row.id): row for row in db.fetch_all(_RECORDED, movie_ids=list(rows), since=since)
    }
    changed = [
        rows[movie_id]
        for movie_id in sorted(rows)  # locks are taken in one order
        if recorded.get(movie_id) != tuple(rows[movie_id][name] for name in CONTENT)
    ]
    if not changed:
        return
    insert = db.insert_into(Movie)
    news = {name: insert.excluded[name] for name in (*CONTENT[1:], "last_seen")}
    news["first_seen"] = func.coalesce(Movie.first_seen, insert.excluded.first_seen)
    # With RETURNING, SQLAlchemy sends all rows in one statement, and compiles it once for all.
    statement = insert.on_conflict_do_update(index_elements=[Movie.id], set_=news)
    with db.engine.connect() as connection, lock_timeout(connection, timeout):
        connection.execute(statement.returning(Movie.id), changed)
        connection.commit()


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


def _row(movie: ProviderMovie, seen: datetime) -> dict[str, Any]:
    return {**movie, "id": uuid.UUID(movie["id"]), "first_seen": seen, "last_seen": seen}
