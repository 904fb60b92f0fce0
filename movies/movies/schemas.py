"""Schemas of movies and ratings."""

from typing import Any

from marshmallow import fields, validate

from movies.movies.models import RatingType
from movies.schemas import (
    BaseSchema,
    Id,
    MovieId,
    PageParameters,
    ResourceUpdate,
    Text,
    Timestamp,
    page_schema,
)

MOVIE_ID = "22e4b44f-b5cb-4c7c-bf75-53ff10ca7a84"  # in the sample catalogue
OMITTED = {"description": "Null if November 7 did not send it"}


class RatingTypeField(fields.Enum[RatingType]):
    """`UPVOTE` or `DOWNVOTE`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(RatingType, by_value=fields.String, **kwargs)


class MyRatingSchema(BaseSchema):
    """The caller's rating of a movie."""

    id = Id(required=True)
    rating_type = RatingTypeField(required=True)


class MovieSchema(BaseSchema):
    """A movie of November 7, with its current vote counts."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)
    description = fields.String(required=True, allow_none=True, metadata=OMITTED)
    image_url = fields.String(required=True, allow_none=True, metadata=OMITTED)
    rating = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "November 7's own score; null if it sent none"},
    )
    upvotes = fields.Integer(
        required=True, metadata={"description": "Upvotes of all users", "minimum": 0}
    )
    downvotes = fields.Integer(
        required=True, metadata={"description": "Downvotes of all users", "minimum": 0}
    )
    my_rating = fields.Nested(
        MyRatingSchema,
        required=True,
        allow_none=True,
        metadata={"description": "Your rating; null if you have not rated the movie"},
    )

    example = {
        "id": MOVIE_ID,
        "title": "Inception",
        "description": "The large-format release: a team goes to sleep on a long flight.",
        "image_url": "https://images.november7.example/inception-imax.jpg",
        "rating": 8.7,
        "upvotes": 12,
        "downvotes": 1,
        "my_rating": {"id": 42, "rating_type": "UPVOTE"},
    }


class RatedMovieSchema(BaseSchema):
    """The movie of a rating."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)
    image_url = fields.String(required=True, allow_none=True)


class RatingSchema(BaseSchema):
    """A user's vote on a movie."""

    id = Id(required=True)
    movie_id = fields.UUID(required=True)
    rating_type = RatingTypeField(required=True)
    user_id = Id(required=True)
    created_at = Timestamp(required=True)
    updated_at = Timestamp(required=True)
    movie = fields.Nested(
        RatedMovieSchema,
        required=True,
        allow_none=True,
        metadata={"description": "Null until November 7 has sent this movie"},
    )

    example = {
        "id": 42,
        "movie_id": MOVIE_ID,
        "rating_type": "UPVOTE",
        "user_id": 7,
        "created_at": "2026-01-31T12:00:00.123456+00:00",
        "updated_at": "2026-01-31T12:00:00.123456+00:00",
        "movie": {key: MovieSchema.example[key] for key in ("id", "title", "image_url")},
    }


class RatingCreateSchema(BaseSchema):
    """A new rating."""

    movie_id = MovieId(required=True)
    rating_type = RatingTypeField(required=True)

    example = {"movie_id": MOVIE_ID, "rating_type": "UPVOTE"}


class RatingUpdateSchema(ResourceUpdate):
    """A changed rating. Only its type can be changed."""

    id = Id(dump_only=True)
    movie_id = fields.UUID(dump_only=True)
    rating_type = RatingTypeField(required=True)
    user_id = Id(dump_only=True)
    created_at = Timestamp(dump_only=True)
    updated_at = Timestamp(dump_only=True)
    movie = fields.Nested(RatedMovieSchema, dump_only=True, allow_none=True)

    example = {"rating_type": "UPVOTE"}


class RatingPartialUpdateSchema(RatingUpdateSchema):
    """A partial change of a rating."""

    rating_type = RatingTypeField()


class QueryParameters(BaseSchema):
    """What to search for. A class of its own, so that it precedes the page in the document."""

    query = Text(
        trim=True,
        validate=validate.Length(1, 200),
        metadata={
            "description": "Text to search for. November 7 decides which movies match it, and in "
            "which order. The sample catalogue finds the text in titles, in any letter case. "
            "Without `query`, the whole catalogue is listed.",
            "example": "inception",
        },
    )


class SearchParameters(PageParameters, QueryParameters):
    """The query string of a search."""


class RatingsParameters(PageParameters):
    """The query string of the list of ratings."""

    rating_type = RatingTypeField(metadata={"description": "Only ratings of this type"})
    movie_id = MovieId(metadata={"description": "Only the rating of this movie"})


MoviePageSchema = page_schema(MovieSchema)
RatingPageSchema = page_schema(RatingSchema)
