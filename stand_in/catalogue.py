"""The answers of the stand-in without faults, as a function of method and target."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from movies.november7.sample.catalogue import page

DEFAULTS: Mapping[str, int] = {"skip": 0, "limit": 10}


class Answer(NamedTuple):
    """An HTTP answer: status code, headers with Content-Length, and body."""

    status: int
    headers: dict[str, str]
    body: bytes


def make_answer(
    status: int, media_type: str, body: bytes, headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer with this body; `headers` are added to its type and length."""
    described = {"Content-Type": media_type, "Content-Length": str(len(body))}
    return Answer(status, described | dict(headers or {}), body)


def json_answer(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with `content` as compact UTF-8 JSON."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return make_answer(status, "application/json", body, headers)


def redirect_answer(location: str) -> Answer:
    """A 307 to `location` without a body."""
    return Answer(307, {"Location": location, "Content-Length": "0"}, b"")


def query_parameters(target: str) -> dict[str, str]:
    """The decoded query parameters of `target`; the last of those that are repeated."""
    query = target.partition("?")[2]
    return {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}


class Catalogue:
    """An ordered list of movies, and the answers that November 7 would give with it.

    A movie is a dict with at least a `title`. It is answered unchanged.
    """

    def __init__(self, movies: Sequence[Any]) -> None:
        self.movies = list(movies)

    def answer(self, method: str, target: str) -> Answer:
        """The answer to `method` on `target`, a path with its query string.

        200 is `{"total", "items"}`, where `total` counts all matches; `/movies` is redirected to
        `/movies/` with 307; a `skip` or `limit` that is negative or no integer is 422; everything
        else is 404 or 405.
        """
        path, mark, query = target.partition("?")
        if path == "/movies":
            return redirect_answer(f"/movies/{mark}{query}")
        if path != "/movies/":
            return json_answer(404, {"detail": HTTPStatus(404).phrase})
        if method != "GET":
            return json_answer(405, {"detail": HTTPStatus(405).phrase}, {"Allow": "GET"})
        parameters = query_parameters(target)
        numbers, errors = _numbers(parameters)
        if errors:
            return json_answer(422, {"detail": errors})
        return json_answer(200, page(self.movies, parameters.get("query", ""), **numbers))


def _numbers(parameters: Mapping[str, str]) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """`skip` and `limit`, with their defaults, and the errors in them."""
    numbers, errors = dict(DEFAULTS), []
    for name in DEFAULTS:
        try:
            numbers[name] = int(parameters.get(name, DEFAULTS[name]))
        except ValueError:
            errors.append(_error(name, "int_parsing", "Input should be a valid integer"))
        if numbers[name] < 0:
            text = "Input should be greater than or equal to 0"
            errors.append(_error(name, "greater_than_equal", text))
    return numbers, errors


def _error(name: str, kind: str, text: str) -> dict[str, Any]:
    return {"loc": ["query", name], "msg": text, "type": kind}
