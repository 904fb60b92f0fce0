"""The movies that we have met, as November 7 described them when they last came by."""

import logging
import uuid
from datetime import datetime
from typing import Any, cast

from flask import current_app
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from movies.extensions import db, now, upsert
from movies.movies.models import Movie
from movies.november7.client import Client

log = logging.getLogger(__name__)

BATCH = 200  # movies a statement: 8 values each, and old SQLites take 32,766 at most


class UnknownMovie(Exception):
    """November 7's catalogue does not hold this movie."""


def november7() -> Client:
    """The provider's client of this application."""
    return cast(Client, current_app.extensions["november7"])


def remember(movies: list[dict[str, Any]]) -> None:
    """Record movies as November 7 described them just now. One statement a page, idempotent."""
    seen = now()
    rows = {movie["id"]: _row(movie, seen) for movie in movies}
    ordered = [rows[movie_id] for movie_id in sorted(rows)]  # locks are taken in one order
    for start in range(0, len(ordered), BATCH):
        statement = upsert(Movie).values(ordered[start : start + BATCH])
        described = ("title", "description", "image_url", "rating", "last_seen")
        news = {name: statement.excluded[name] for name in described}
        news["first_seen"] = func.coalesce(Movie.first_seen, statement.excluded.first_seen)
        db.session.execute(statement.on_conflict_do_update(index_elements=[Movie.id], set_=news))
        db.session.commit()


def remember_quietly(movies: list[dict[str, Any]]) -> None:
    """As `remember`; a failure is logged, for it must not cost anyone a search."""
    try:
        remember(movies)
    except SQLAlchemyError as error:
        db.session.rollback()
        log.warning("movies were not remembered", extra={"reason": type(error).__name__})


def require(movie_id: uuid.UUID) -> None:
    """See to it that a movie is recorded here, looking it up in the catalogue if need be.

    Raises UnknownMovie, or Unavailable where that could not be found out.
    """
    if is_known(movie_id):
        return
    db.session.rollback()  # gives the connection back while November 7 is waited for
    client = november7()
    if client.is_walked():
        raise UnknownMovie
    for page in client.walk(deadline=client.deadline):
        remember(page.movies)
        if is_known(movie_id):
            return
        db.session.rollback()
    raise UnknownMovie


def is_known(movie_id: uuid.UUID) -> bool:
    """Whether November 7 has described this movie to us."""
    statement = select(Movie.id).where(Movie.id == movie_id, Movie.title.is_not(None))
    return db.session.scalar(statement) is not None


def _row(movie: dict[str, Any], seen: datetime) -> dict[str, Any]:
    return {**movie, "id": uuid.UUID(movie["id"]), "first_seen": seen, "last_seen": seen}
