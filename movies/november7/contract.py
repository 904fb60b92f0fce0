"""Validates answers against `PaginatedMovies`, the provider's published schema.

Source: the provider's OpenAPI description. It requires all five members of a movie, but the live
service sometimes sends only `id` and `title`, so the other three may be missing.
"""

import codecs
import math
import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypedDict
from uuid import UUID

import orjson
from requests import PreparedRequest, Response
from urllib3 import HTTPResponse

from movies.november7.errors import BadResponse

MAX_TOTAL = 10_000_000  # movies; a larger total is taken for a bug of the provider
DOUBTFUL_TTL = 60  # seconds, at most, for which a doubtful answer is fresh

_CANONICAL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # UUID() is slower


class ProviderMovie(TypedDict):
    """One movie of a checked page. `id` is a UUID in lower case with hyphens."""

    id: str
    title: str
    description: str | None
    image_url: str | None
    rating: float | None


@dataclass(frozen=True, slots=True)
class CheckedPage:
    """The usable part of an answer.

    `total`: how many movies match in all. `left_out`: how many movies of the answer break the
    contract and are missing here. `is_complete`: whether the answer had as many movies as its total
    promises.
    """

    total: int
    movies: list[ProviderMovie]
    left_out: int = 0
    is_complete: bool = True

    @property
    def is_doubtful(self) -> bool:
        """Whether movies are missing, so that another request may get a better answer."""
        return bool(self.left_out) or not self.is_complete


class CheckedResponse(Response):
    """A checked page as a response that requests-cache can store.

    Its body is the page in canonical form: the known members only, null where one was left out, and
    `"is_complete": false` if it is not complete. `Cache-Control` limits the freshness of a doubtful
    answer to `doubtful_ttl` seconds.
    """

    def __init__(
        self, request: PreparedRequest, page: CheckedPage, doubtful_ttl: int = DOUBTFUL_TTL
    ) -> None:
        super().__init__()
        self.page = page
        self.request = request
        self.url = request.url or ""
        self.status_code = 200
        self.encoding = "utf-8"
        self.headers["Content-Type"] = "application/json"
        self.max_age: int | None = None  # seconds of freshness, if limited
        content: dict[str, Any] = {"total": page.total, "items": page.movies}
        if not page.is_complete:
            content["is_complete"] = False
        if page.is_doubtful:
            self.max_age = doubtful_ttl
            self.headers["Cache-Control"] = f"max-age={doubtful_ttl}"
        self.raw = HTTPResponse(BytesIO(orjson.dumps(content)), status=200, preload_content=False)


def checked_page(body: bytes, *, skip: int, limit: int) -> CheckedPage:
    """The page in the body of an answer to a request for `limit` movies from the `skip`th on.

    Movies that break the contract, and repetitions of a movie, are left out. Raises BadResponse if
    the body is not JSON of the page's shape, has more movies than `limit` or its total allow, has
    none where its total promises some, or if most of its movies break the contract.
    """
    try:
        content = orjson.loads(body.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise BadResponse("the answer is not JSON") from error
    if not isinstance(content, dict):
        raise BadResponse("the answer is not a page of movies")
    total, items = content.get("total"), content.get("items")
    if type(total) is not int or not 0 <= total <= MAX_TOTAL or not isinstance(items, list):
        raise BadResponse("the answer is not a page of movies")
    promised = min(limit, max(total - skip, 0))
    if len(items) > promised:
        raise BadResponse("the answer has more movies than its total or the limit allows")
    if promised and not items:
        raise BadResponse("the answer has no movies, although its total promises some")
    movies = {movie["id"]: movie for movie in map(_checked_movie, items) if movie is not None}
    left_out = len(items) - len(movies)
    if left_out > len(items) / 2:
        raise BadResponse("most movies of the answer break the contract")
    return CheckedPage(total, list(movies.values()), left_out, len(items) == promised)


def _checked_movie(item: Any) -> ProviderMovie | None:
    """The known members of a movie; None if one is missing or not of its type."""
    if not isinstance(item, dict):
        return None
    title, rating = item.get("title"), item.get("rating")
    description, image_url = item.get("description"), item.get("image_url")
    if (
        not isinstance(title, str)
        or not (description is None or isinstance(description, str))
        or not (image_url is None or isinstance(image_url, str))
        or not (rating is None or (type(rating) in (int, float) and math.isfinite(rating)))
    ):
        return None
    movie_id: Any = item.get("id")
    try:
        if not _CANONICAL_ID.fullmatch(movie_id):
            movie_id = str(UUID(movie_id))
    except (ValueError, TypeError):
        return None
    return {
        "id": movie_id,
        "title": _storable(title),
        "description": _storable(description) if description is not None else None,
        "image_url": _storable(image_url) if image_url is not None else None,
        "rating": float(rating) if rating is not None else None,
    }


def _storable(text: str) -> str:
    """`text` without NULs, which PostgreSQL cannot store; orjson refuses lone surrogates."""
    return text.replace("\x00", "")
