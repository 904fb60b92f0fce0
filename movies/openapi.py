"""Completes the OpenAPI document: problems, examples, tags and the guide.

The document is OpenAPI 3.1, whose schemas are JSON Schema, so tests can validate live responses.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from apispec import APISpec, BasePlugin
from apispec.ext.marshmallow import MarshmallowPlugin, resolver
from flask_smorest import Api
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError
from werkzeug.exceptions import NotFound, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.routing import UUIDConverter

from movies.api import JSON, PATCH_TYPES, InvalidJSON, UnreadableBody
from movies.auth.errors import TOKEN_ERRORS, MissingToken
from movies.errors import problem_of
from movies.limits import RateLimitExceeded
from movies.movies.models import RatingType
from movies.movies.schemas import MOVIE_ID, RatingTypeField
from movies.problems import EXAMPLE_URL, Problem
from movies.schemas import ProblemSchema
from movies.web import IdConverter

ALWAYS = (ValidationError, RateLimitExceeded, DBAPIError)
WITH_TOKEN = (MissingToken, *TOKEN_ERRORS)
WITH_BODY = (InvalidJSON, UnreadableBody, RequestEntityTooLarge, UnsupportedMediaType)
HEADERS = {
    "Retry-After": {
        "description": "Seconds after which to repeat the request",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate, and why the token was refused (RFC 6750)",
        "schema": {"type": "string"},
    },
}


class OperationPlugin(BasePlugin):
    """Adds problem responses, from the table of errors, and examples to the document.

    `Blueprint.route` puts two members into an operation for it: `raises`, the declared exceptions,
    and `invalid`, an example of `errors`.
    """

    def init_spec(self, spec: APISpec) -> None:
        """Add the schemas that no endpoint declares."""
        spec.components.schema("Problem", schema=ProblemSchema)
        values = [kind.value for kind in RatingType]
        spec.components.schema("RatingType", {"type": "string", "enum": values})

    def schema_helper(
        self, name: str, definition: dict[str, Any], schema: Any = None, **_kwargs: Any
    ) -> dict[str, Any]:
        """Add the schema's example."""
        example = getattr(schema, "example", None)
        return {} if example is None else {"examples": [example]}

    def operation_helper(
        self, path: str | None = None, operations: dict[str, Any] | None = None, **_kwargs: Any
    ) -> None:
        """Replace `raises` and `invalid` with responses, and add the media types of PATCH."""
        for method, operation in (operations or {}).items():
            if "description" in operation:  # else some renderers join the words at line breaks
                operation["description"] = re.sub(r"(?<=\S)\n(?=\S)", " ", operation["description"])
            if method == "patch":
                content = operation["requestBody"]["content"]
                content.update(dict.fromkeys(PATCH_TYPES, content[JSON]))
            kinds = [*operation.pop("raises", ()), *ALWAYS]
            kinds += WITH_TOKEN if operation.get("security") else ()
            kinds += WITH_BODY if "requestBody" in operation else ()
            kinds += (NotFound,) if "{" in (path or "") else ()
            invalid = operation.pop("invalid", {})
            operation["responses"].update(_responses(kinds, invalid))


def _responses(kinds: Iterable[type[Exception]], invalid: dict[str, Any]) -> dict[int, Any]:
    """The responses by status. Raises LookupError if an exception has no row in the table."""
    unique: dict[tuple[int, str], Problem] = {}
    for kind in kinds:
        problem = problem_of(kind)
        if problem is None:
            raise LookupError(f"{kind.__name__} has no row in the table of errors")
        unique[problem.status, problem.slug or ""] = problem
    by_status: dict[int, list[Problem]] = {}
    for (status, _), problem in sorted(unique.items(), key=lambda item: item[0]):
        by_status.setdefault(status, []).append(problem)
    return {status: _response(problems, invalid) for status, problems in by_status.items()}


def _response(problems: list[Problem], invalid: dict[str, Any]) -> dict[str, Any]:
    """The response of a status that one or several problems have."""
    examples = {}
    for problem in problems:
        value = problem.example | ({"errors": invalid} if problem.members else {})
        examples[problem.slug or "about:blank"] = {"summary": problem.detail, "value": value}
    lines = [f"- `{problem.slug}`: {problem.when}" for problem in problems if problem.slug]
    names = sorted({name for problem in problems for name in problem.headers})
    return {
        "description": "\n".join(lines) if len(problems) > 1 else problems[0].when,
        "headers": {name: HEADERS[name] for name in names},
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": examples,
            }
        },
    }


def _schema_name(schema: Any) -> str:
    """The name of a schema; empty for the unused schemas of flask-smorest."""
    name: str = resolver(schema)
    return "" if name in ("Error", "PaginationMetadata") else name


def _refer_to_rating_type(_converter: Any, field: Any, *, ret: dict[str, Any]) -> dict[str, Any]:
    """Refer to one named schema instead of repeating the values of a rating type inline."""
    if not isinstance(field, RatingTypeField):
        return {}
    kept: dict[str, Any] = {name: ret[name] for name in ret if name in ("description", "readOnly")}
    ret.clear()
    return {**kept, "$ref": "#/components/schemas/RatingType"}


MANUAL = Path(__file__).with_name("manual.md")
BEARER = (
    "The access token from `POST /api/v1/auth/token/`, without the word “Bearer”. It is valid for "
    "{JWT_ACCESS_TOKEN_EXPIRES}. Get a new one from `POST /api/v1/auth/refresh/`."
)

UNITS = {"day": 24 * 3600, "hour": 3600, "minute": 60, "second": 1}  # seconds


def outline(config: Mapping[str, Any]) -> dict[str, Any]:
    """The document before the endpoints are added, as arguments of APISpec."""

    def filled_in(text: str) -> str:
        """The text with durations for the names of settings, such as `{NOVEMBER7_DEADLINE}`."""
        return re.sub(r"\{([A-Z0-9_]+)\}", lambda name: in_words(config[name[1]]), text)

    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    return {
        "info": {
            "description": filled_in(MANUAL.read_text()),
            "summary": "Search the movies of November 7 and vote on them.",
        },
        "components": {
            "securitySchemes": {"bearer": {**bearer, "description": filled_in(BEARER)}},
        },
        "servers": [{"url": EXAMPLE_URL}],
        "marshmallow_plugin": MarshmallowPlugin(schema_name_resolver=_schema_name),
        "extra_plugins": [OperationPlugin()],
    }


def in_words(seconds: float) -> str:
    """A duration in the largest unit of which it is a whole number, such as `15 minutes`."""
    whole = [unit for unit, length in UNITS.items() if seconds >= length and not seconds % length]
    unit = whole[0] if whole else "second"
    number = seconds / UNITS[unit]
    return f"{number:,.12g} {unit}{'' if number == 1 else 's'}"


TAGS = [
    {
        "name": "users",
        "x-displayName": "Users",
        "description": "Register an account and manage it.",
    },
    {
        "name": "auth",
        "x-displayName": "Auth",
        "description": "Sign in, refresh and verify tokens, and sign out.",
    },
    {
        "name": "movies",
        "x-displayName": "Movies",
        "description": "Search the movies of November 7, browse its catalogue, and list the best "
        "rated. Vote counts are always up to date.",
    },
    {
        "name": "ratings",
        "x-displayName": "Ratings",
        "description": "Vote on movies. A user has at most one rating per movie: `UPVOTE` or "
        "`DOWNVOTE`.",
    },
]


def describe(api: Api) -> None:
    """Describe rating types and ids in paths, and drop flask-smorest's default error response."""
    api.ma_plugin.converter.add_attribute_function(_refer_to_rating_type)
    movie_id = {"type": "string", "format": "uuid", "example": MOVIE_ID}
    api.register_converter(UUIDConverter, lambda _: movie_id)
    api.DEFAULT_ERROR_RESPONSE_NAME = None
    api.register_converter(
        IdConverter,
        lambda _: {"type": "integer", "format": "int64", "minimum": 1, "maximum": 10**18 - 1},
    )


def _response_name(response: dict[str, Any]) -> str:
    """The name of a problem response that operations share: its only problem's, or its status's."""
    examples = response["content"]["application/problem+json"]["examples"]
    slugs = examples.keys() - {"about:blank"}
    if slugs == {problem.slug for kind in TOKEN_ERRORS if (problem := problem_of(kind))}:
        return "InvalidToken"
    if len(slugs) == 1:
        return "".join(word.title() for word in slugs.pop().split("-"))
    [title] = {example["value"]["title"] for example in examples.values()}
    return "".join(title.split())


def _share_responses(document: dict[str, Any]) -> None:
    """Move the problem responses that several operations have to `components`.

    Client generators name types after them. 422 responses stay inline, because their examples
    differ between operations.
    """
    uses: Counter[tuple[str, bytes]] = Counter()
    responses: list[dict[str, Any]] = [
        operation["responses"]
        for path in document["paths"].values()
        for name, operation in path.items()
        if name != "parameters"
    ]
    for by_status in responses:
        problems = [status for status in by_status if "400" <= status != "422"]
        uses.update((status, orjson.dumps(by_status[status])) for status in problems)
    shared: dict[str, Any] = {}
    names: dict[tuple[str, bytes], str] = {}
    for (status, written), count in uses.most_common():
        response = orjson.loads(written)
        name = _response_name(response)
        if count > 1 and name not in shared:
            shared[name], names[status, written] = response, name
    for by_status in responses:
        for status, response in by_status.items():
            if name := names.get((status, orjson.dumps(response)), ""):
                by_status[status] = {"$ref": f"#/components/responses/{name}"}
    document["components"]["responses"] = dict(sorted(shared.items()))


def document(api: Api, url: str = EXAMPLE_URL) -> bytes:
    """The document as JSON, with `url` as the URL of the service."""
    return _written(api.spec).replace(EXAMPLE_URL.encode(), url.encode())


@lru_cache(maxsize=4)
def _written(spec: APISpec) -> bytes:
    written = orjson.loads(orjson.dumps({**spec.to_dict(), "tags": TAGS}))
    _share_responses(written)
    for schema in written["components"]["schemas"].values():
        for name, value in schema.get("examples", [{}])[0].items():
            member = schema["properties"][name]
            if "type" in member and member["type"] != "object":
                member.setdefault("examples", [value])
    return orjson.dumps(written, option=orjson.OPT_INDENT_2)
