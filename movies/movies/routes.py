"""Endpoints for movies and ratings."""

import uuid
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import g

from movies.api import Access, Blueprint, caller_id
from movies.headers import set_header
from movies.limits import RateLimit, caller, check_limits
from movies.movies import preferences, service
from movies.movies.registry import UnknownMovie
from movies.movies.schemas import (
    MoviePageSchema,
    MovieSchema,
    RatingCreateSchema,
    RatingPageSchema,
    RatingPartialUpdateSchema,
    RatingSchema,
    RatingsParameters,
    RatingUpdateSchema,
    SearchParameters,
)
from movies.november7.blocks import Page
from movies.november7.errors import NotCached, TimedOut, Unavailable
from movies.paging import NoSuchPage, offset_of, page_of, paginate
from movies.schemas import PageParameters
from movies.urls import absolute_url

bp = Blueprint("movies", __name__, url_prefix="/api/v1/movies", description="Movies and ratings")

LOOKUP_FAILURES = (UnknownMovie, Unavailable, TimedOut)

AGE_HEADERS = {
    "Cache-Status": {
        "description": "Where the response comes from (RFC 9211)",
        "schema": {"type": "string"},
        "example": "november7; hit; ttl=3412",
    },
    "Age": {
        "description": "Seconds since November 7 responded; vote counts are always up to date",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Preference-Applied": {
        "description": "`wait=N` if `Prefer: wait=N` was applied (RFC 7240)",
        "required": False,
        "schema": {"type": "string"},
    },
}
# Without an `example`, which Swagger UI would fill in and send.
SEARCH_HEADERS = [
    {
        "in": "header",
        "name": "Cache-Control",
        "description": (
            "What to accept from the cache (RFC 9111), for example `max-age=3600`. `max-age=N`:"
            " nothing older than N seconds. `no-cache`: force a request to November 7."
            " `max-stale=0`: no stale page, even if November 7 fails. `only-if-cached`: 504 at once"
            " if the page is not cached. At most ten searches a minute per user may exclude a"
            " cached page."
        ),
        "schema": {"type": "string"},
    },
    {
        "in": "header",
        "name": "Prefer",
        "description": (
            "`wait=N`: wait no longer than N seconds for November 7 (RFC 7240), for example"
            " `wait=10`."
        ),
        "schema": {"type": "string"},
    },
]
LOCATION = {"Location": {"description": "URL of the rating", "schema": {"type": "string"}}}
OWN_RATING: dict[str, Any] = {
    "access": Access.USER,
    "tags": ["ratings"],
    "raises": (service.UnknownRating,),
}

FORCED_FETCHES = RateLimit("forced-fetches", 10, caller)


@bp.get(
    "/",
    access=Access.USER,
    raises=(NoSuchPage, NotCached, Unavailable, TimedOut),
    parameters=SEARCH_HEADERS,
)
@bp.arguments(SearchParameters, location="query")
@bp.response(200, MoviePageSchema, headers=AGE_HEADERS)
def search_movies(parameters: dict[str, Any]) -> Any:
    """Search movies

    Returns the movies that match `query`, or the whole catalogue without it, in November 7's order.
    Each movie has its current vote counts and your rating. Results may come from a cache; `Age`
    says how old they are.
    """
    page, size = parameters["page"], parameters["page_size"]
    options: dict[str, Any] = {"before_forced_fetch": partial(check_limits, FORCED_FETCHES)}
    if (seconds := preferences.wait()) is not None:
        options["wait"] = seconds
        set_header("Preference-Applied", f"wait={seconds}")
    found, movies = service.search(
        caller_id(),
        parameters.get("query"),
        skip=offset_of(page, size),
        limit=size,
        accept=preferences.freshness(),
        **options,
    )
    g.source = found.source  # for the access log
    set_header("Cache-Status", _cache_status(found))
    set_header("Age", str(found.age))
    return page_of(movies, found.total, page, size)


def _cache_status(page: Page) -> str:
    """The `Cache-Status` of a page (RFC 9211)."""
    match page.source:
        case "hit":
            how = "hit"
        case "stale":
            how = f"hit; detail={STALE_DETAILS[page.refresh]}"
        case "miss":
            how = f"fwd={page.reason}"
        case "collapsed":
            how = f"fwd={page.reason}; collapsed"
    return f"november7; {how}; ttl={page.ttl}{'' if page.is_complete else '; incomplete'}"


STALE_DETAILS: dict[str | None, str] = {
    "scheduled": "stale-while-revalidate",
    "failing": "stale-if-error",
    "postponed": "stale",  # not scheduled, because too many pages are waiting for a refresh
}


@bp.get("/top/", access=Access.USER, raises=(NoSuchPage,))
@bp.arguments(PageParameters, location="query")
@bp.response(200, MoviePageSchema)
def list_top_movies(parameters: dict[str, Any]) -> Any:
    """List the best-rated movies

    Returns the movies that have votes, ordered by the lower bound of the 95 % Wilson score interval
    of their proportion of upvotes, then by upvotes, then by id.
    """
    return paginate(service.TOP, service.as_movie, user_id=caller_id(), **parameters)


@bp.get("/<uuid:movie_id>/", access=Access.USER, raises=LOOKUP_FAILURES)
@bp.response(200, MovieSchema)
def get_movie(movie_id: uuid.UUID) -> Any:
    """Get a movie

    A movie that this service does not know yet is looked up in November 7's catalogue first.
    """
    return service.read_movie(caller_id(), movie_id)


@bp.get("/<uuid:movie_id>/rating/", **OWN_RATING)
@bp.response(200, RatingSchema)
def get_my_rating(movie_id: uuid.UUID) -> Any:
    """Get your rating of a movie

    The response is 404 if you have not rated the movie.
    """
    return service.read_rating(caller_id(), movie_id=movie_id)


@bp.put("/<uuid:movie_id>/rating/", access=Access.USER, tags=["ratings"], raises=LOOKUP_FAILURES)
@bp.arguments(RatingUpdateSchema)
@bp.response(200, RatingSchema, description="The existing rating")
@bp.alt_response(
    201,
    schema=RatingSchema,
    description="The new rating",
    example=RatingSchema.example,
    headers=LOCATION,
)
def set_my_rating(rating: dict[str, Any], movie_id: uuid.UUID) -> Any:
    """Set your rating of a movie

    Creates your rating, or changes the existing one. The request can safely be repeated if the
    response was lost.
    """
    set_, is_new = service.set_rating(caller_id(), movie_id, rating["rating_type"])
    return (set_, HTTPStatus.CREATED, _location(set_)) if is_new else set_


@bp.delete("/<uuid:movie_id>/rating/", access=Access.USER, tags=["ratings"])
@bp.response(204)
def clear_my_rating(movie_id: uuid.UUID) -> None:
    """Clear your rating of a movie

    Succeeds even if you have not rated the movie.
    """
    service.clear_rating(caller_id(), movie_id)


@bp.post(
    "/ratings/",
    access=Access.USER,
    tags=["ratings"],
    raises=(*LOOKUP_FAILURES, service.AlreadyRated),
)
@bp.arguments(RatingCreateSchema)
@bp.response(201, RatingSchema, headers=LOCATION)
def create_rating(rating: dict[str, Any]) -> Any:
    """Rate a movie

    You can have one rating per movie. A movie that this service does not know yet is looked up in
    November 7's catalogue first.
    """
    created = service.rate(caller_id(), **rating)
    return created, _location(created)


@bp.get("/ratings/", access=Access.USER, tags=["ratings"], raises=(NoSuchPage,))
@bp.arguments(RatingsParameters, location="query")
@bp.response(200, RatingPageSchema)
def list_ratings(parameters: dict[str, Any]) -> Any:
    """List your ratings

    Returns your ratings, newest first.
    """
    filters = sorted(parameters.keys() - {"page", "page_size"})
    statement = service.ratings(*filters)
    return paginate(statement, service.as_rating, user_id=caller_id(), **parameters)


@bp.get("/ratings/<id:rating_id>", **OWN_RATING)
@bp.response(200, RatingSchema)
def get_rating(rating_id: int) -> Any:
    """Get a rating

    Returns one of your ratings. If the rating belongs to another user, the response is 404.
    """
    return service.read_rating(caller_id(), id=rating_id)


@bp.put("/ratings/<id:rating_id>", **OWN_RATING)
@bp.arguments(RatingUpdateSchema)
@bp.response(200, RatingSchema)
def replace_rating(rating: dict[str, Any], rating_id: int) -> Any:
    """Replace a rating

    Only `rating_type` can be changed. All other members are ignored.
    """
    return service.change_rating(caller_id(), rating_id, rating["rating_type"])


@bp.patch("/ratings/<id:rating_id>", **OWN_RATING)
@bp.arguments(RatingPartialUpdateSchema)
@bp.response(200, RatingSchema)
def update_rating(rating: dict[str, Any], rating_id: int) -> Any:
    """Update a rating

    Only `rating_type` can be changed. All other members are ignored. Without `rating_type`, nothing
    changes.
    """
    return service.change_rating(caller_id(), rating_id, rating.get("rating_type"))


@bp.delete("/ratings/<id:rating_id>", **OWN_RATING)
@bp.response(204)
def delete_rating(rating_id: int) -> None:
    """Delete a rating

    Also removes its vote from the vote counts.
    """
    service.delete_rating(caller_id(), rating_id)


def _location(rating: dict[str, Any]) -> dict[str, str]:
    return {"Location": absolute_url(f"{bp.url_prefix}/ratings/{rating['id']}")}
