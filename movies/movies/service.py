"""What is true of movies and ratings."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, and_, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError

from movies.auth.errors import RevokedToken
from movies.database import fetch_all, insert_into, now
from movies.extensions import db
from movies.movies import registry, tallies
from movies.movies.models import VOTED, Movie, Rating, RatingType
from movies.november7.client import Page

_MINE = (Rating.id.label("rating_id"), Rating.rating_type)


def _is_mine(user_id: Any) -> Any:
    return and_(Rating.movie_id == Movie.id, Rating.user_id == user_id)


_VOTES = (  # made once: building it would cost more than running it
    select(Movie.id, Movie.upvotes, Movie.downvotes, *_MINE)
    .outerjoin(Rating, _is_mine(bindparam("user_id")))
    .where(Movie.id.in_(bindparam("movie_ids", expanding=True)))
)


class UnknownRating(Exception):
    """The caller has no such rating."""


class AlreadyRated(Exception):
    """The caller has a rating of this movie."""


# --- movies ---------------------------------------------------------------------------------------


def search(user_id: int, query: str, *, skip: int, limit: int) -> tuple[Page, list[dict[str, Any]]]:
    """A page of November 7's, and its movies with their votes. Raises Unavailable."""
    page = registry.november7().search(query, skip=skip, limit=limit)
    movie_ids = [uuid.UUID(movie["id"]) for movie in page.movies]
    votes = {
        row.id: row for row in fetch_all(db.engine, _VOTES, user_id=user_id, movie_ids=movie_ids)
    }
    movies = zip(movie_ids, page.movies, strict=True)
    return page, [_with_votes(movie, votes.get(movie_id)) for movie_id, movie in movies]


def read_movie(user_id: int, movie_id: uuid.UUID) -> dict[str, Any]:
    """A movie with its votes. Raises UnknownMovie, or Unavailable where that isn't known."""
    registry.require(movie_id)
    row = db.session.execute(_movies(user_id).where(Movie.id == movie_id)).one()
    return as_movie(row)


def top(user_id: int) -> Select[*tuple[Any, ...]]:
    """The movies that have votes, best voted first, as rows for `as_movie`."""
    return (
        _movies(user_id).where(VOTED).order_by(Movie.score.desc(), Movie.upvotes.desc(), Movie.id)
    )


def as_movie(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """A movie from the row of a statement of this module."""
    described = {
        name: getattr(row, name) for name in ("id", "title", "description", "image_url", "rating")
    }
    return _with_votes(described, row)


def _movies(user_id: int) -> Select[*tuple[Any, ...]]:
    return select(
        Movie.id,
        Movie.title,
        Movie.description,
        Movie.image_url,
        Movie.rating,
        Movie.upvotes,
        Movie.downvotes,
        *_MINE,
    ).outerjoin(Rating, _is_mine(user_id))


def _with_votes(movie: Mapping[str, Any], votes: Row[*tuple[Any, ...]] | None) -> dict[str, Any]:
    mine = None
    if votes is not None and votes.rating_id is not None:
        mine = {"id": votes.rating_id, "rating_type": votes.rating_type}
    return {
        **movie,
        "upvotes": votes.upvotes if votes is not None else 0,
        "downvotes": votes.downvotes if votes is not None else 0,
        "my_rating": mine,
    }


# --- ratings --------------------------------------------------------------------------------------


def ratings(
    user_id: int, *, rating_type: RatingType | None = None, movie_id: uuid.UUID | None = None
) -> Select[*tuple[Any, ...]]:
    """The user's ratings, newest first, as rows for `as_rating`."""
    statement = _ratings(user_id).order_by(Rating.created_at.desc(), Rating.id.desc())
    if rating_type is not None:
        statement = statement.where(Rating.rating_type == rating_type)
    if movie_id is not None:
        statement = statement.where(Rating.movie_id == movie_id)
    return statement


def as_rating(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """A rating from the row of a statement of this module."""
    rating: Rating = row.Rating
    movie = {"id": rating.movie_id, "title": row.title, "image_url": row.image_url}
    return {
        "id": rating.id,
        "movie_id": rating.movie_id,
        "rating_type": rating.rating_type,
        "user_id": rating.user_id,
        "created_at": rating.created_at,
        "updated_at": rating.updated_at,
        "movie": movie if row.title is not None else None,
    }


def rate(user_id: int, movie_id: uuid.UUID, rating_type: RatingType) -> dict[str, Any]:
    """A new rating. Raises AlreadyRated, UnknownMovie, Unavailable."""
    registry.require(movie_id)
    rating_id = _insert(user_id, movie_id, rating_type)
    if rating_id is None:
        db.session.rollback()
        raise AlreadyRated
    rating = read_rating(user_id, rating_id)  # before others can delete it
    db.session.commit()
    return rating


def read_rating(user_id: int, rating_id: int) -> dict[str, Any]:
    """A rating of the user's. Raises UnknownRating."""
    row = db.session.execute(_ratings(user_id).where(Rating.id == rating_id)).one_or_none()
    if row is None:
        raise UnknownRating
    return as_rating(row)


def change_rating(user_id: int, rating_id: int, rating_type: RatingType | None) -> dict[str, Any]:
    """The rating, of another type where one is given. Raises UnknownRating."""
    if rating_type is not None:
        _change(rating_type, Rating.id == rating_id, Rating.user_id == user_id)
        db.session.commit()
    return read_rating(user_id, rating_id)


def delete_rating(user_id: int, rating_id: int) -> None:
    """Take the vote back. Raises UnknownRating."""
    if not _delete(Rating.id == rating_id, Rating.user_id == user_id):
        raise UnknownRating


def set_vote(
    user_id: int, movie_id: uuid.UUID, rating_type: RatingType
) -> tuple[dict[str, Any], bool]:
    """The user's rating of a movie, made to be of this type, and whether it is new.

    Raises UnknownMovie, Unavailable.
    """
    registry.require(movie_id)
    mine = (Rating.user_id == user_id, Rating.movie_id == movie_id)
    while True:
        is_new = _insert(user_id, movie_id, rating_type) is not None
        if not is_new:
            _change(rating_type, *mine)
        db.session.commit()
        row = db.session.execute(_ratings(user_id).where(*mine)).one_or_none()
        if row is not None:  # else it was deleted between the two statements
            return as_rating(row), is_new


def clear_vote(user_id: int, movie_id: uuid.UUID) -> None:
    """Take back the user's vote on a movie, if there is one."""
    _delete(Rating.user_id == user_id, Rating.movie_id == movie_id)


def _ratings(user_id: int) -> Select[*tuple[Any, ...]]:
    return (
        select(Rating, Movie.title, Movie.image_url)
        .join(Movie, Movie.id == Rating.movie_id)
        .where(Rating.user_id == user_id)
    )


def _insert(user_id: int, movie_id: uuid.UUID, rating_type: RatingType) -> int | None:
    """Insert and count a rating; None if the user has one of this movie. Does not commit.

    Raises RevokedToken if the account was deleted a moment ago.
    """
    moment = now()
    statement = (
        insert_into(db.engine, Rating)
        .values(
            user_id=user_id,
            movie_id=movie_id,
            rating_type=rating_type,
            created_at=moment,
            updated_at=moment,
        )
        .on_conflict_do_nothing(index_elements=[Rating.user_id, Rating.movie_id])
        .returning(Rating.id)
    )
    try:
        rating_id: int | None = db.session.scalar(statement)
    except IntegrityError:  # movies are never deleted, so it is the user who isn't there
        db.session.rollback()
        raise RevokedToken from None
    if rating_id is not None:
        tallies.add_votes(movie_id, rating_type)
    return rating_id


def _change(to: RatingType, *which: Any) -> None:
    """Change and recount the one rating that `which` names, unless it is so already."""
    movie_id = db.session.scalar(
        update(Rating)
        .where(*which, Rating.rating_type == tallies.other(to))
        .values(rating_type=to, updated_at=now())
        .returning(Rating.movie_id)
        .execution_options(synchronize_session=False)
    )
    if movie_id is not None:
        tallies.shift(movie_id, to)


def _delete(*which: Any) -> bool:
    """Delete and uncount the one rating that `which` names; whether there was one."""
    gone: Sequence[Row[*tuple[Any, ...]]] = db.session.execute(
        delete(Rating)
        .where(*which)
        .returning(Rating.movie_id, Rating.rating_type)
        .execution_options(synchronize_session=False)
    ).all()
    for movie_id, rating_type in gone:
        tallies.add_votes(movie_id, rating_type, by=-1)
    db.session.commit()
    return bool(gone)
