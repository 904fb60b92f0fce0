"""The tally of every movie: its upvotes, its downvotes, and the score that ranks it.

One atomic statement changes a tally in the transaction that changes the rating. So it equals the
count of the ratings under any concurrency, and reading it takes the same time for any number of
votes. `score` is the lower bound of the 95 % Wilson score interval of the share of upvotes (E. B.
Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the
American Statistical Association 22, 1927), written so that it is exactly 0 without upvotes:

    (2u + z² - z √(z² + 4ud/n)) / 2(n + z²)     for u upvotes, d downvotes, n = u + d
"""

import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    FromClause,
    ScalarSelect,
    Update,
    bindparam,
    case,
    cast,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute

from movies.database import Statement
from movies.extensions import db
from movies.movies.models import VOTED, Movie, Rating, RatingType, VotedMovies

Z = 1.959963984540054  # the 97.5th percentile of the normal distribution
ROUNDING = 1e-9  # by which two databases may compute a score differently
BATCH = 500  # movies that are locked at once by a rebuild or the deletion of an account
NO_SYNC = {"synchronize_session": False}  # no ORM objects to keep up to date

Votes = ColumnElement[int] | InstrumentedAttribute[int]


def lower_bound(upvotes: Votes, downvotes: Votes) -> ColumnElement[float]:
    """The SQL of the lower bound, from 0 to 1; 0 if there is no vote."""
    ups, downs = cast(upvotes, Float), cast(downvotes, Float)
    count = ups + downs
    root = func.sqrt(Z * Z + 4.0 * ups * downs / count, type_=Float)
    bound = (2.0 * ups + Z * Z - Z * root) / (2.0 * (count + Z * Z))
    return case((upvotes + downvotes > 0, bound), else_=0.0)


def other(rating_type: RatingType) -> RatingType:
    """The opposite type."""
    return RatingType.DOWNVOTE if rating_type is RatingType.UPVOTE else RatingType.UPVOTE


def voted_movies() -> ScalarSelect[int]:
    """The number of movies on the top list."""
    total = cast(func.coalesce(func.sum(VotedMovies.count), 0), BigInteger)
    return select(total).scalar_subquery()


def apply(deltas: FromClause) -> Update:
    """An UPDATE that adds `deltas` (movie_id, upvotes, downvotes) to the tallies."""
    return (
        _changed(deltas.c.upvotes, deltas.c.downvotes)
        .where(Movie.id == deltas.c.movie_id)
        .execution_options(**NO_SYNC)
    )


def add_votes(movie_ids: Sequence[uuid.UUID], rating_type: RatingType, by: int = 1) -> None:
    """Add `by` votes of this type to the tally of each movie, in the caller's transaction."""
    upvotes, downvotes = (by, 0) if rating_type is RatingType.UPVOTE else (0, by)
    change = _changed(upvotes, downvotes).where(Movie.id.in_(movie_ids))
    db.session.execute(change, execution_options=NO_SYNC)


@cache
def change(upvotes: int, downvotes: int) -> Statement:
    """Adds votes to the tally of the movie `movie_id`."""
    changed = _changed(upvotes, downvotes).where(Movie.id == bindparam("movie_id"))
    return Statement(changed.returning(Movie.id))


def remove_ratings(user_id: int) -> int:
    """Delete up to BATCH ratings of a user and take them off the tallies; returns how many.

    Does not commit. Movies are locked in the order of their ids, as everywhere, so that two such
    transactions cannot wait for each other.
    """
    batch = select(Rating.id).where(Rating.user_id == user_id).limit(BATCH)
    gone = db.session.execute(
        delete(Rating)
        .where(Rating.id.in_(batch.scalar_subquery()))
        .returning(Rating.movie_id, Rating.rating_type),
        execution_options=NO_SYNC,
    ).all()
    movies = select(Movie.id).where(Movie.id.in_([row.movie_id for row in gone]))
    db.session.execute(movies.order_by(Movie.id).with_for_update(key_share=True))
    for rating_type in RatingType:
        movie_ids = [row.movie_id for row in gone if row.rating_type is rating_type]
        if movie_ids:
            add_votes(movie_ids, rating_type, by=-1)
    return len(gone)


def count_wrong_movies() -> int:
    """The number of movies whose tally is not the count of their ratings."""
    ups, downs = _counted(RatingType.UPVOTE), _counted(RatingType.DOWNVOTE)
    counted = select(Movie, ups.label("ups"), downs.label("downs")).subquery()
    score = lower_bound(counted.c.upvotes, counted.c.downvotes)
    statement = (
        select(func.count())
        .select_from(counted)
        .where(
            or_(
                counted.c.upvotes != counted.c.ups,
                counted.c.downvotes != counted.c.downs,
                func.abs(counted.c.score - score) > ROUNDING,
            )
        )
    )
    return db.session.scalar(statement) or 0


def total_error() -> int:
    """By how much the running count of the movies with votes is too low; 0 if it is right."""
    return db.session.scalar(select(_missing())) or 0


def rebuild() -> int:
    """Recompute every tally from the ratings; returns the number of movies.

    Votes may be cast meanwhile. A batch is locked before it is counted, and a vote changes the
    movie in the transaction of the rating: so each vote is either counted here or comes after.
    """
    movies, last = 0, uuid.UUID(int=0)
    while batch := _lock_after(last):
        counts = {
            "upvotes": _counted(RatingType.UPVOTE),
            "downvotes": _counted(RatingType.DOWNVOTE),
        }
        rows = update(Movie).where(Movie.id.in_(batch)).execution_options(**NO_SYNC)
        db.session.execute(rows.values(counts))
        db.session.execute(rows.values(score=lower_bound(Movie.upvotes, Movie.downvotes)))
        db.session.commit()
        movies, last = movies + len(batch), batch[-1]
    # The triggers of `movies` may change the running count meanwhile. One statement computes the
    # difference and adds it, so none of their changes is lost.
    recount = update(VotedMovies).where(VotedMovies.shard == 0)
    db.session.execute(
        recount.values(count=VotedMovies.count + _missing()).execution_options(**NO_SYNC)
    )
    db.session.commit()
    return movies


def _lock_after(movie_id: uuid.UUID) -> Sequence[uuid.UUID]:
    """The next BATCH of movies by id, locked on PostgreSQL; SQLite's UPDATE needs no more."""
    statement = select(Movie.id).where(Movie.id > movie_id).order_by(Movie.id).limit(BATCH)
    return db.session.scalars(statement.with_for_update()).all()


def _counted(rating_type: RatingType) -> ScalarSelect[int]:
    return (
        select(func.count())
        .where(Rating.movie_id == Movie.id, Rating.rating_type == rating_type)
        .correlate(Movie)
        .scalar_subquery()
    )


def _missing() -> ColumnElement[int]:
    """The number of movies with votes, minus the running count."""
    voted = select(func.count()).select_from(Movie).where(VOTED).scalar_subquery()
    return voted - voted_movies()


def _changed(upvotes: Any, downvotes: Any) -> Update:
    ups, downs = Movie.upvotes + upvotes, Movie.downvotes + downvotes
    return update(Movie).values(upvotes=ups, downvotes=downs, score=lower_bound(ups, downs))
