"""What a true answer of the provider looks like: its published `PaginatedMovies`, checked.

Source: the provider's OpenAPI description. It requires all five members of a movie, but the live
service has been recorded answering `id` and `title` alone, so the other three may be missing.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar, TypedDict

import orjson
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate
from requests import PreparedRequest, Response
from urllib3 import HTTPResponse

from movies.november7.errors import BadResponse


class ProviderMovie(TypedDict):
    """One movie of a checked page. `id` is a UUID in lower case with hyphens."""

    id: str
    title: str
    description: str | None
    image_url: str | None
    rating: float | None


@dataclass(frozen=True, slots=True)
class CheckedPage:
    """An answer that keeps the contract. `total`: how many movies match in all."""

    total: int
    movies: list[ProviderMovie]


class CheckedResponse(Response):
    """A checked page as a response that requests-cache can store.

    Its body is the page in canonical form: the known members only, null where one was left out.
    """

    def __init__(self, request: PreparedRequest, page: CheckedPage) -> None:
        super().__init__()
        self.page = page
        self.request = request
        self.url = request.url or ""
        self.status_code = 200
        self.encoding = "utf-8"
        self.headers["Content-Type"] = "application/json"
        body = orjson.dumps({"total": page.total, "items": page.movies})
        self.raw = HTTPResponse(BytesIO(body), status=200, preload_content=False)


class _Id(fields.UUID):
    """A UUID, as a string in lower case with hyphens."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return str(super()._deserialize(value, attr, data, **kwargs))


class _Text(fields.String):
    """A string that every database can hold: without NULs; orjson refuses lone surrogates."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        return text.replace("\x00", "")


class _Number(fields.Float):
    """A JSON number; not a string that looks like one, not a boolean."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class MovieSchema(Schema):
    """`Movie` of the provider."""

    class Meta:
        unknown = EXCLUDE

    id = _Id(required=True)
    title = _Text(required=True)
    description = _Text(load_default=None, allow_none=True)
    image_url = _Text(load_default=None, allow_none=True)
    rating = _Number(load_default=None, allow_none=True)


class PageSchema(Schema):
    """`PaginatedMovies` of the provider."""

    class Meta:
        unknown = EXCLUDE

    total = fields.Integer(required=True, strict=True, validate=validate.Range(min=0))
    items = fields.List(fields.Nested(MovieSchema), required=True)


class _Checked:
    schema: ClassVar[PageSchema] = PageSchema()


def checked_page(body: bytes, *, skip: int, limit: int) -> CheckedPage:
    """The page in the body of an answer.

    Raises BadResponse if it is not JSON, not of the contract's shape, or does not hold just the
    movies that `total`, `skip` and `limit` promise.
    """
    try:
        page = _Checked.schema.load(orjson.loads(body))
    except (ValueError, ValidationError, RecursionError) as error:
        raise BadResponse("the answer breaks the provider's contract") from error
    if len(page["items"]) != min(limit, max(page["total"] - skip, 0)):
        raise BadResponse("the answer does not hold the movies that its total promises")
    return CheckedPage(page["total"], page["items"])
