"""The tally of every movie: how many upvotes and downvotes it has, and how good that is.

A tally is changed by one atomic statement in the transaction that changes the rating, so it equals
the count of the ratings under any concurrency, and reading it costs the same however many there
are. `score` is the lower bound of the 95 % Wilson score interval of the share of upvotes (E. B.
Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the
American Statistical Association 22, 1927), written so that it is exactly 0 without upvotes:

    (2u + z² - z √(z² + 4ud/n)) / 2(n + z²)     for u upvotes, d downvotes, n = u + d
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Float,
    ScalarSelect,
    case,
    cast,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute

from movies.extensions import db
from movies.movies.models import Movie, Rating, RatingType

Z = 1.959963984540054  # the 97.5th percentile of the normal distribution
ROUNDING = 1e-9  # by which two databases may compute a score differently
BATCH = 500  # movies that a rebuild locks at once

Votes = ColumnElement[int] | InstrumentedAttribute[int]


def lower_bound(upvotes: Votes, downvotes: Votes) -> ColumnElement[float]:
    """The SQL of the lower bound, from 0 to 1; 0 where there is no vote."""
    ups, downs = cast(upvotes, Float), cast(downvotes, Float)
    count = ups + downs
    root = func.sqrt(Z * Z + 4.0 * ups * downs / count, type_=Float)
    bound = (2.0 * ups + Z * Z - Z * root) / (2.0 * (count + Z * Z))
    return case((upvotes + downvotes > 0, bound), else_=0.0)


def add_votes(movie_id: uuid.UUID, rating_type: RatingType, by: int = 1) -> None:
    """Add `by` votes of this type to a movie's tally, in the caller's transaction."""
    _change(movie_id, **{f"{rating_type.lower()}s": by})


def shift(movie_id: uuid.UUID, to: RatingType) -> None:
    """Turn one vote of the other type into one of `to`, in the caller's transaction."""
    _change(movie_id, **{f"{to.lower()}s": 1, f"{other(to).lower()}s": -1})


def other(rating_type: RatingType) -> RatingType:
    """The type that a rating has if not this one."""
    return RatingType.DOWNVOTE if rating_type is RatingType.UPVOTE else RatingType.UPVOTE


def uncount_user(user_id: int) -> None:
    """Delete a user's ratings and take them off the tallies, in the caller's transaction.

    Movies are changed in the order of their ids, as everywhere, so that two such transactions
    can't wait for each other.
    """
    gone = db.session.execute(
        delete(Rating)
        .where(Rating.user_id == user_id)
        .returning(Rating.movie_id, Rating.rating_type)
    ).all()
    for movie_id, rating_type in sorted(gone):
        add_votes(movie_id, rating_type, by=-1)


def disagreements() -> int:
    """How many movies have a tally that is not the count of their ratings."""
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


def rebuild() -> int:
    """Make every tally anew from the ratings; how many movies there are.

    Votes may be cast meanwhile. A batch is locked before it is counted, and whoever votes changes
    the movie in the transaction of the rating: so each vote is either counted here or comes after.
    """
    movies, last = 0, uuid.UUID(int=0)
    while batch := _lock_after(last):
        counts = {
            "upvotes": _counted(RatingType.UPVOTE),
            "downvotes": _counted(RatingType.DOWNVOTE),
        }
        rows = update(Movie).where(Movie.id.in_(batch))
        db.session.execute(rows.values(counts).execution_options(synchronize_session=False))
        db.session.execute(
            rows.values(score=lower_bound(Movie.upvotes, Movie.downvotes)).execution_options(
                synchronize_session=False
            )
        )
        db.session.commit()
        movies, last = movies + len(batch), batch[-1]
    return movies


def _lock_after(movie_id: uuid.UUID) -> Sequence[uuid.UUID]:
    """The next BATCH of movies by id, locked where a SELECT can; SQLite's UPDATE needs no more."""
    statement = select(Movie.id).where(Movie.id > movie_id).order_by(Movie.id).limit(BATCH)
    return db.session.scalars(statement.with_for_update()).all()


def _counted(rating_type: RatingType) -> ScalarSelect[int]:
    return (
        select(func.count())
        .where(Rating.movie_id == Movie.id, Rating.rating_type == rating_type)
        .correlate(Movie)
        .scalar_subquery()
    )


def _change(movie_id: uuid.UUID, *, upvotes: int = 0, downvotes: int = 0) -> None:
    ups, downs = Movie.upvotes + upvotes, Movie.downvotes + downvotes
    db.session.execute(
        update(Movie)
        .where(Movie.id == movie_id)
        .values(upvotes=ups, downvotes=downs, score=lower_bound(ups, downs))
        .execution_options(synchronize_session=False)
    )
