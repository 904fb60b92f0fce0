"""Business logic of movies and ratings."""

import math
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from flask import Flask, current_app
from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
    String,
    Uuid,
    and_,
    bindparam,
    cast,
    func,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import ARRAY

from movies import provider
from movies.database import Batches, Statement
from movies.extensions import db
from movies.movies import registry, tallies, votes
from movies.movies.models import CONTENT, VOTED, Movie, Rating, RatingType
from movies.november7.blocks import Page
from movies.november7.deadline import Deadline
from movies.paging import listing, rows_of_page

_USER: BindParameter[int] = bindparam("user_id")
_MINE = (Rating.id.label("rating_id"), Rating.rating_type)
_VOTES = (Movie.upvotes, Movie.downvotes, *_MINE)
_IS_MINE = and_(Rating.movie_id == Movie.id, Rating.user_id == _USER)
# PostgreSQL reads for several users at once; SQLite needs no round trip that they could share.
# Ids are text, as in a page. SQLite stores them without hyphens.
_PAIR = func.unnest(
    bindparam("user_ids", type_=ARRAY(BigInteger)), bindparam("movie_ids", type_=ARRAY(Uuid))
)
_PAIRS = _PAIR.table_valued("user_id", "movie_id").render_derived()
_IDS = func.json_each(bindparam("movie_ids", type_=JSON)).table_valued("value")
_VOTES_OF = Statement(
    select(_PAIRS.c.user_id, cast(Movie.id, String), *_VOTES)
    .join(Movie, Movie.id == _PAIRS.c.movie_id)
    .outerjoin(
        Rating, and_(Rating.user_id == _PAIRS.c.user_id, Rating.movie_id == _PAIRS.c.movie_id)
    ),
    sqlite=select(_IDS.c.value.label("id"), *_VOTES)
    .join(Movie, type_coerce(Movie.id, String) == func.replace(_IDS.c.value, "-", ""))
    .outerjoin(Rating, _IS_MINE),
)
_MOVIES = select(*(getattr(Movie, name) for name in CONTENT), *_VOTES).outerjoin(Rating, _IS_MINE)
_MOVIE = Statement(_MOVIES.where(Movie.id == bindparam("movie_id"), Movie.title.is_not(None)))
_RATINGS = (
    select(*votes.COLUMNS, *votes.ABOUT_MOVIE)
    .join(Movie, Movie.id == Rating.movie_id)
    .where(Rating.user_id == _USER)
)

_BEST = rows_of_page(
    select(Movie).where(VOTED).order_by(Movie.score.desc(), Movie.upvotes.desc(), Movie.id)
).c
TOP = listing(  # the movies that have votes, best rated first, as rows for `as_movie`
    select(*(_BEST[name] for name in (*CONTENT, "upvotes", "downvotes")), *_MINE)
    .outerjoin(Rating, and_(Rating.movie_id == _BEST.id, Rating.user_id == _USER))
    .order_by(_BEST.score.desc(), _BEST.upvotes.desc(), _BEST.id),
    tallies.voted_movies(),
)


class UnknownRating(Exception):
    """The caller has no such rating."""


class AlreadyRated(Exception):
    """The caller has a rating of this movie."""


# --- movies ---------------------------------------------------------------------------------------


def search(
    user_id: int,
    query: str | None,
    *,
    skip: int,
    limit: int,
    wait: float = math.inf,
    **options: Any,
) -> tuple[Page, list[dict[str, Any]]]:
    """A page of search results, and its movies with their votes.

    `wait` and `options` are those of `Client.search`. Raises Unavailable, NotCached.
    """
    until = Deadline.after(wait)
    client = provider.client()
    page = client.search(query, skip=skip, limit=limit, caller=user_id, wait=wait, **options)
    row_of = _votes_of(user_id, [movie["id"] for movie in page.movies])
    # So that they can be voted on at once.
    page.wait_until_handled(min(registry.RECORDING_TIMEOUT, until.left()))
    movies = [_with_votes(movie, row_of.get(movie["id"])) for movie in page.movies]
    return page, movies


def _votes_of(user_id: int, movie_ids: list[str]) -> dict[str, Any]:
    """The votes of recorded movies, by the movie's id, as rows with the columns of _VOTES."""
    if db.engine.dialect.name == "sqlite":
        rows = db.fetch_all(_VOTES_OF, user_id=user_id, movie_ids=movie_ids)
        return {row.id: row for row in rows}
    batches: Batches[Any, dict[str, Any]] = current_app.extensions["votes"]
    return batches.read((user_id, movie_ids))


def _votes_of_users(wanted: Sequence[tuple[int, list[str]]]) -> list[dict[str, Any]]:
    """The votes for each user and their movies, in the form of `_votes_of`."""
    found: dict[int, dict[str, Any]] = {user_id: {} for user_id, _ in wanted}
    for row in db.fetch_all(
        _VOTES_OF,
        user_ids=[user_id for user_id, movie_ids in wanted for _ in movie_ids],
        movie_ids=[movie_id for _, movie_ids in wanted for movie_id in movie_ids],
    ):
        found[row.user_id][row.id] = row
    return [found[user_id] for user_id, _ in wanted]


def init_app(app: Flask) -> None:
    """Let the searches of an application share statements."""
    app.extensions["votes"] = Batches(_votes_of_users)


def read_movie(user_id: int, movie_id: uuid.UUID) -> dict[str, Any]:
    """A movie with its votes. Raises UnknownMovie, or Unavailable if the lookup failed."""
    while not (rows := db.fetch_all(_MOVIE, user_id=user_id, movie_id=movie_id)):
        registry.look_up(movie_id, user_id)
    return as_movie(rows[0])


def as_movie(row: Any) -> dict[str, Any]:
    """A movie from the row of a statement of this module."""
    return _with_votes(dict(zip(CONTENT, row, strict=False)), row)


def _with_votes(movie: Mapping[str, Any], row: Any) -> dict[str, Any]:
    """`row`: has the columns of _VOTES; None if the movie has not been recorded."""
    if row is None:
        return {**movie, "upvotes": 0, "downvotes": 0, "my_rating": None}
    mine = {"id": row.rating_id, "rating_type": row.rating_type} if row.rating_id else None
    return {**movie, "upvotes": row.upvotes, "downvotes": row.downvotes, "my_rating": mine}


# --- ratings --------------------------------------------------------------------------------------


@cache
def ratings(*filters: str) -> Statement:
    """A user's ratings, newest first, as rows for `as_rating`.

    `filters`: the columns of Rating that must equal the parameter of their name.
    """
    wanted = [getattr(Rating, name) == bindparam(name) for name in filters]
    mine = (Rating.user_id == _USER, *wanted)
    newest = select(*votes.COLUMNS).where(*mine)
    page = rows_of_page(newest.order_by(Rating.created_at.desc(), Rating.id.desc())).c
    return listing(
        select(*page, *votes.ABOUT_MOVIE)
        .join(Movie, Movie.id == page.movie_id)
        .order_by(page.created_at.desc(), page.id.desc()),
        select(func.count()).where(*mine).scalar_subquery(),
    )


def as_rating(row: Any) -> dict[str, Any]:
    """A rating from the row of a statement of this module or of `votes`."""
    movie = {"id": row.movie_id, "title": row.title, "image_url": row.image_url}
    return {
        "id": row.id,
        "movie_id": row.movie_id,
        "rating_type": row.rating_type,
        "user_id": row.user_id,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "movie": movie if row.title is not None else None,
    }


def read_rating(user_id: int, **which: Any) -> dict[str, Any]:
    """The user's rating with this `id`, or of this `movie_id`. Raises UnknownRating."""
    rows = db.fetch_all(_rating(*which), user_id=user_id, **which)
    if not rows:
        raise UnknownRating
    return as_rating(rows[0])


@cache
def _rating(name: str) -> Statement:
    return Statement(_RATINGS.where(getattr(Rating, name) == bindparam(name)))


@db.retried
def rate(user_id: int, movie_id: uuid.UUID, rating_type: RatingType) -> dict[str, Any]:
    """A new rating. Raises AlreadyRated, UnknownMovie, Unavailable, RevokedToken."""
    while (cast := votes.cast(user_id, movie_id, rating_type, replace=False)) is None:
        if db.fetch_all(_rating("movie_id"), user_id=user_id, movie_id=movie_id):
            raise AlreadyRated
        registry.require(movie_id, user_id)
    return as_rating(cast[0])


@db.retried
def set_rating(
    user_id: int, movie_id: uuid.UUID, rating_type: RatingType
) -> tuple[dict[str, Any], bool]:
    """The user's rating of a movie, made to be of this type, and whether it is new.

    Raises UnknownMovie, Unavailable, RevokedToken.
    """
    while (cast := votes.cast(user_id, movie_id, rating_type, replace=True)) is None:
        registry.require(movie_id, user_id)
    rating, is_new = cast
    return as_rating(rating), is_new


@db.retried
def change_rating(user_id: int, rating_id: int, rating_type: RatingType | None) -> dict[str, Any]:
    """The rating, made to be of this type if one is given. Raises UnknownRating."""
    if rating_type is None:
        return read_rating(user_id, id=rating_id)
    while (row := votes.change(user_id, rating_id, rating_type)) is None:
        read_rating(user_id, id=rating_id)
    return as_rating(row)


@db.retried
def delete_rating(user_id: int, rating_id: int) -> None:
    """Delete a rating. Raises UnknownRating."""
    if not votes.remove("id", by_user=user_id, rating_id=rating_id):
        raise UnknownRating


@db.retried
def clear_rating(user_id: int, movie_id: uuid.UUID) -> None:
    """Delete the user's rating of a movie, if there is one."""
    votes.remove("movie", by_user=user_id, of_movie=movie_id)
