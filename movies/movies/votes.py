"""Casts, changes and removes votes, together with the tallies of their movies.

On PostgreSQL, one statement does all of it and commits by itself, so the row of a popular movie is
locked only briefly. SQLite cannot combine statements that write, so a transaction runs them one
after the other.
"""

import typing
import uuid
from functools import cache
from typing import Any, Literal

from sqlalchemy import (
    CTE,
    Integer,
    Table,
    bindparam,
    case,
    delete,
    exists,
    false,
    literal_column,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError

from movies.auth.errors import RevokedToken
from movies.database import Statement, now
from movies.extensions import db
from movies.movies import tallies
from movies.movies.models import Movie, Rating, RatingType

Key = Literal["movie", "id"]
Step = Literal["change", "keep", "add"]

RATINGS = typing.cast(Table, Rating.__table__)  # for statements without ORM objects
COLUMNS = tuple(RATINGS.c)
USER = bindparam("by_user", type_=RATINGS.c.user_id.type)
MOVIE = bindparam("of_movie", type_=RATINGS.c.movie_id.type)
RATING = bindparam("rating_id", type_=RATINGS.c.id.type)
MOMENT = bindparam("moment", type_=RATINGS.c.created_at.type)
MINE = {  # a user has one rating of a movie
    "movie": (RATINGS.c.user_id == USER, RATINGS.c.movie_id == MOVIE),
    "id": (RATINGS.c.user_id == USER, RATINGS.c.id == RATING),
}
ABOUT_MOVIE = (Movie.title, Movie.image_url)


def cast(
    user_id: int, movie_id: uuid.UUID, to: RatingType, *, replace: bool
) -> tuple[Any, bool] | None:
    """The user's rating of a movie as COLUMNS and ABOUT_MOVIE, and whether it is new.

    `replace`: whether a rating of the other type is changed. None if the movie is not known, if
    there is a rating that must not be replaced, or if another request of the user interfered.
    Raises RevokedToken if the account has just been deleted.
    """
    steps: tuple[Step, ...] = ("change", "keep", "add") if replace else ("add",)
    try:
        return _vote("movie", to, steps, by_user=user_id, of_movie=movie_id, moment=now())
    except IntegrityError:  # movies are never deleted, so it is the user who does not exist
        raise RevokedToken from None


def change(user_id: int, rating_id: int, to: RatingType) -> Any | None:
    """The user's rating, made to be of type `to`. None if there is no such rating."""
    found = _vote("id", to, ("change", "keep"), by_user=user_id, rating_id=rating_id, moment=now())
    return found and found[0]


def remove(key: Key, **values: Any) -> bool:
    """Delete the user's rating of a movie, or of an id. Returns whether there was one."""
    if db.engine.dialect.name == "postgresql":
        return bool(db.execute_alone(_combined_removal(key), **values))
    with db.sqlite_transaction() as connection:
        gone = connection.run(_removal_alone(key), **values)
        for movie_id, rating_type in gone:
            upvotes, downvotes = _difference("add", rating_type)
            connection.run(tallies.change(-upvotes, -downvotes), movie_id=movie_id)
    return bool(gone)


def _vote(
    key: Key, to: RatingType, steps: tuple[Step, ...], **values: Any
) -> tuple[Any, bool] | None:
    """The rating that the first successful of `steps` finds, and whether it is new."""
    if db.engine.dialect.name == "postgresql":
        rows = db.execute_alone(_combined_vote(key, to, steps), **values)
        return (rows[0], rows[0].is_new) if rows else None
    with db.sqlite_transaction() as connection:
        for step in steps:
            if found := connection.run(_step_alone(step, key, to), **values):
                break
        else:
            return None
        [rating] = found
        if step != "keep":
            connection.run(tallies.change(*_difference(step, to)), movie_id=rating.movie_id)
        [row] = connection.run(_RATED, rating_id=rating.id)
    return row, step == "add"


def _difference(step: Step, to: RatingType) -> tuple[int, int]:
    """How many upvotes and downvotes this step adds to the tally of its movie."""
    ups, downs = (1, 0) if to is RatingType.UPVOTE else (0, 1)
    return {"add": (ups, downs), "change": (ups - downs, downs - ups), "keep": (0, 0)}[step]


# --- statements, built once -----------------------------------------------------------------------


_RATED = Statement(
    select(*COLUMNS, *ABOUT_MOVIE)
    .join(Movie, Movie.id == RATINGS.c.movie_id)
    .where(RATINGS.c.id == RATING)
)


def _step(step: Step, key: Key, to: RatingType, dialect: str) -> Any:
    """One statement of a vote. It returns the rating, or no row if the step does not apply."""
    if step == "keep":
        return select(*COLUMNS).where(*MINE[key], RATINGS.c.rating_type == to)
    if step == "change":
        return (
            update(RATINGS)
            .where(*MINE[key], RATINGS.c.rating_type == tallies.other(to))
            .values(rating_type=to, updated_at=MOMENT)
            .returning(*COLUMNS)
        )
    # A rating that exists is excluded beforehand, because a conflict would use up an id.
    new = select(USER, Movie.id, bindparam("to", to, RATINGS.c.rating_type.type), MOMENT, MOMENT)
    return (
        db.insert_into(RATINGS, dialect)
        .from_select(
            ["user_id", "movie_id", "rating_type", "created_at", "updated_at"],
            new.where(Movie.id == MOVIE, Movie.title.is_not(None), ~exists().where(*MINE[key])),
        )
        .on_conflict_do_nothing(index_elements=[RATINGS.c.user_id, RATINGS.c.movie_id])
        .returning(*COLUMNS)
    )


@cache
def _step_alone(step: Step, key: Key, to: RatingType) -> Statement:
    return Statement(None, sqlite=_step(step, key, to, "sqlite"))


@cache
def _combined_vote(key: Key, to: RatingType, steps: tuple[Step, ...]) -> Statement:
    """A vote and its tally as one statement of PostgreSQL."""
    parts: dict[Step, CTE] = {
        step: _step(step, key, to, "postgresql").cte(f"{step}_rating") for step in steps
    }
    found = union_all(
        *(
            select(*part.c, (true() if step == "add" else false()).label("is_new"))
            for step, part in parts.items()
        )
    ).subquery()
    differences = {step: _difference(step, to) for step in parts if step != "keep"}
    deltas = union_all(
        *(
            select(
                parts[step].c.movie_id,
                literal_column(str(upvotes), Integer).label("upvotes"),
                literal_column(str(downvotes), Integer).label("downvotes"),
            )
            for step, (upvotes, downvotes) in differences.items()
        )
    ).subquery()
    tally = tallies.apply(deltas).returning(Movie.id).cte("tally")
    return Statement(
        select(*found.c, *ABOUT_MOVIE)
        .select_from(found)
        .join(Movie, Movie.id == found.c.movie_id)
        .add_cte(tally)
    )


def _removal(key: Key) -> Any:
    return delete(RATINGS).where(*MINE[key]).returning(RATINGS.c.movie_id, RATINGS.c.rating_type)


@cache
def _removal_alone(key: Key) -> Statement:
    return Statement(_removal(key))


@cache
def _combined_removal(key: Key) -> Statement:
    """The removal of a vote and its tally as one statement of PostgreSQL."""
    gone = _removal(key).cte("gone")
    is_upvote = gone.c.rating_type == RatingType.UPVOTE
    deltas = select(
        gone.c.movie_id,
        case((is_upvote, -1), else_=0).label("upvotes"),
        case((is_upvote, 0), else_=-1).label("downvotes"),
    ).subquery()
    return Statement(tallies.apply(deltas).returning(Movie.id))
