"""The sample catalogue, and pages of it as November 7 would send them."""

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def sample_movies() -> list[Any]:
    """The movies of this package, read once."""
    text = files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    movies: list[Any] = json.loads(text)
    return movies


def page(movies: Sequence[Any], query: str, skip: int, limit: int) -> dict[str, Any]:
    """Up to `limit` of the movies whose titles contain `query`, after the first `skip`.

    `total` counts all of them. Letter case does not matter, and an empty query matches every title.
    """
    wanted = query.casefold()
    matches = [movie for movie in movies if wanted in movie["title"].casefold()]
    return {"total": len(matches), "items": matches[skip : skip + limit]}
