"""How endpoints are declared, and how their requests are read.

`Blueprint.route` (and `get`, `post` …) takes who may use an endpoint and what can go wrong there.
A request is checked in the order of the wrappers that it puts on: token, rate limits, media type
and JSON, shape; then comes the view.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import wraps
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import flask_smorest
from flask import Request, current_app, g, request
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from movies.extensions import limiter
from movies.schemas import NoParameters, ProblemSchema

MAX_PARAMETERS = 32  # of a query string

Problems = Mapping[int, str]
Limit = Callable[[Callable[..., Any]], Callable[..., Any]]


class Access(Enum):
    """Who may use an endpoint."""

    ANYONE = "anyone"
    USER = "user"


class Parser(FlaskParser):
    """Reads queries and bodies, and takes nothing for what it isn't."""

    DEFAULT_UNKNOWN_BY_LOCATION = {"json": None, "query": None}

    def load_json(self, req: Request, schema: Schema) -> Any:
        """The body, an object. Raises 413, 415, 400, or ValidationError."""
        if req.mimetype != "application/json":
            raise UnsupportedMediaType("Send application/json.")
        data = _body(req)
        try:
            body = json.loads(
                data.decode("utf-8"),
                object_pairs_hook=_once_each,
                parse_constant=_no_constant,
            )
        except ValidationError:
            raise
        except (ValueError, RecursionError):
            raise BadRequest("The body is not JSON.") from None
        if not isinstance(body, dict):
            raise ValidationError("Must be a JSON object.")
        return body

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        """The query parameters. Raises ValidationError."""
        try:
            pairs = parse_qsl(
                req.query_string.decode("utf-8"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MAX_PARAMETERS,
            )
        except ValueError:
            raise ValidationError("The query string is too long or not UTF-8.") from None
        return _once_each(pairs)

    def handle_error(
        self,
        error: ValidationError,
        req: Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        """Raise the error with its messages keyed by member, not by where the member was."""
        (messages,) = error.normalized_messages().values()  # type: ignore[no-untyped-call]
        if isinstance(messages, dict):
            messages = {_printable(name): about for name, about in messages.items()}
        raise ValidationError(messages) from None


def _body(req: Request) -> bytes:
    """The whole body. Raises 413, or 400 where it breaks off or its chunks are no chunks."""
    try:
        data = req.get_data()
        if req.content_length is None:
            req.stream.read(1)  # raises where the body goes on past the limit
    except OSError:
        raise BadRequest("The body can't be read.") from None
    return data


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        times = Counter(name for name, _ in pairs)
        raise ValidationError(
            {name: ["Given more than once."] for name in members if times[name] > 1}
        )
    return members


def _printable(name: str) -> str:
    """The name of a member as UTF-8 can hold it: a client may name one with lone surrogates."""
    return name.encode(errors="backslashreplace").decode()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again",
        "schema": {"type": "integer", "minimum": 0},
    }
}
SIGN_IN_HINT = {"WWW-Authenticate": {"schema": {"type": "string"}}}
PROBLEM_HEADERS = {401: SIGN_IN_HINT, 429: RETRY_AFTER, 503: RETRY_AFTER, 504: RETRY_AFTER}
ALWAYS: Problems = {
    422: "A member or parameter is not valid, or is not one that this request has",
    429: "Too many requests",
    503: "The database is away",
}
WITH_TOKEN: Problems = {401: "Not signed in: no access token, or one that is no longer good"}
WITH_BODY: Problems = {
    400: "The body is not JSON",
    413: "The body is larger than 1 MiB",
    415: "The body is not application/json",
}


def caller_id() -> int:
    """The id of the user who is calling. Only for endpoints that require one."""
    user_id: int = g.caller.user_id
    return user_id


def rate_limit_key() -> str:
    """The user who is calling, or the IP address of a caller who is not signed in."""
    if "caller" in g:
        return f"user-{caller_id()}"
    return f"address-{request.remote_addr}"


api_limit: Limit = limiter.shared_limit("1200 per minute", scope="api", key_func=rate_limit_key)


class Blueprint(flask_smorest.Blueprint):
    """A blueprint whose endpoints say who may use them and which problems they can have."""

    ARGUMENTS_PARSER = Parser()

    def arguments(self, schema: Any, *, location: str = "json", **kwargs: Any) -> Any:
        """As flask-smorest's, with the schema's example, and one instance for all requests."""
        schema = schema() if isinstance(schema, type) else schema
        if location != "json":
            return super().arguments(schema, location=location, **kwargs)
        read_body = super().arguments(schema, example=schema.example, **kwargs)
        no_parameters = super().arguments(NoParameters(), location="query", as_kwargs=True)
        return lambda view: read_body(no_parameters(view))  # the body is judged first

    def response(self, status_code: Any, schema: Any = None, **kwargs: Any) -> Any:
        """As flask-smorest's, with the schema's example."""
        if schema is not None:
            kwargs.setdefault("example", schema.example)
        return super().response(status_code, schema, **kwargs)

    def route(
        self,
        rule: str,
        *,
        access: Access,
        problems: Problems | None = None,
        limits: Sequence[Limit] = (),
        **options: Any,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare an endpoint: who may use it, and what it has beyond what all have.

        `problems`: what can go wrong, by status. `limits`: rate limits of its own.
        """

        def declare(view: Callable[..., Any]) -> Callable[..., Any]:
            has_body = "requestBody" in _locations(view)
            all_problems: dict[int, str] = {
                **ALWAYS,
                **(WITH_TOKEN if access is Access.USER else {}),
                **(WITH_BODY if has_body else {}),
                **(problems or {}),
            }
            endpoint = view
            if not _locations(view):
                endpoint = self.arguments(NoParameters, location="query", as_kwargs=True)(endpoint)
            for status, description in sorted(all_problems.items()):
                endpoint = self._may_answer(status, description)(endpoint)
            security: list[dict[str, list[str]]] = []
            if access is Access.USER:
                security = [{"bearer": []}]
            endpoint = self.doc(operationId=view.__name__, security=security)(endpoint)
            endpoint = _bounded(endpoint)
            for limit in (api_limit, *limits):
                endpoint = limit(endpoint)
            if access is Access.USER:
                endpoint = _signed_in(endpoint)
            endpoint.access = access  # type: ignore[attr-defined]
            super(Blueprint, self).route(rule, **options)(endpoint)
            return view

        return declare

    def _may_answer(self, status: int, description: str) -> Any:
        return self.alt_response(
            status,
            schema=ProblemSchema,
            description=description,
            content_type="application/problem+json",
            headers=PROBLEM_HEADERS.get(status, {}),
            example={
                "type": "about:blank",
                "title": HTTPStatus(status).phrase,
                "status": status,
                "detail": f"{description}.",
                **({"errors": {"page": ["Not a valid integer."]}} if status == 422 else {}),
            },
        )


def _locations(view: Callable[..., Any]) -> set[str]:
    """Where a view's arguments come from: `query`, `requestBody`."""
    parameters = getattr(view, "_apidoc", {}).get("arguments", {}).get("parameters", [])
    names = {parameter["in"] for parameter in parameters}
    return {"requestBody" if name == "json" else name for name in names}


def _bounded(view: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse a body that is declared too large, also where none is read."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if (request.content_length or 0) > current_app.config["MAX_CONTENT_LENGTH"]:
            raise RequestEntityTooLarge
        return view(*args, **kwargs)

    return wrapper


def _signed_in(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        current_app.extensions["authenticate"]()
        return view(*args, **kwargs)

    return wrapper
