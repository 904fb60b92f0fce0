"""How endpoints are declared and requests are parsed.

`Blueprint.route` (and `get`, `post` …) declares who may use an endpoint and which exceptions it
raises. A request is checked in this order: access token, rate limits, declared length, media type,
JSON syntax, schema. Then the view runs.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache, wraps
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import flask_smorest
from flask import Request, Response, current_app, g, request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from movies.limits import API_LIMIT, RateLimit, check_limits
from movies.schemas import NoParameters, has_surrogates
from movies.writers import writer

MAX_PARAMETERS = 32  # of a query string
QUERIES = 1024  # parsed query strings that a process caches, about 1 MB
JSON = "application/json"
PATCH_TYPES = (JSON, "application/merge-patch+json")  # RFC 7396; bodies are flat, so both agree
NO_PARAMETERS = NoParameters(unknown=RAISE)


class Access(Enum):
    """Who may use an endpoint."""

    ANYONE = "anyone"
    USER = "user"


class InvalidJSON(BadRequest):
    """The body is not JSON in UTF-8."""


class UnreadableBody(BadRequest):
    """The body ends early, or its length or chunks are not well-formed."""


class Parser(FlaskParser):
    """Parses query strings and JSON bodies strictly."""

    DEFAULT_UNKNOWN_BY_LOCATION = {"json": None, "query": None}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parse_query = lru_cache(QUERIES)(self._parse_current_query)

    def parse(self, argmap: Any, req: Request | None = None, **options: Any) -> Any:
        """Like webargs' method, but parsed query strings are cached: clients repeat them."""
        if options["location"] != "query":
            return super().parse(argmap, req, **options)
        return dict(self._parse_query(argmap, request.query_string))

    def _parse_current_query(self, schema: Schema, _query: bytes) -> Any:
        return super().parse(schema, location="query")

    def load_json(self, req: Request, schema: Schema) -> Any:
        """The JSON object in the body.

        A member that is given more than once is an error, unless it is read-only and so ignored.

        Raises RequestEntityTooLarge, UnsupportedMediaType, UnreadableBody, InvalidJSON,
        ValidationError.
        """
        if req.mimetype not in (PATCH_TYPES if req.method == "PATCH" else (JSON,)):
            raise UnsupportedMediaType
        if (req.content_encoding or "identity").lower() != "identity":
            raise UnsupportedMediaType
        data = _body(req)
        try:
            body = json.loads(
                data.decode("utf-8"), object_pairs_hook=_Members, parse_constant=_no_constant
            )
        except (ValueError, RecursionError):
            raise InvalidJSON from None
        if not isinstance(body, _Members):
            raise ValidationError("Must be a JSON object.")
        read_only = {name for name, field in schema.fields.items() if field.dump_only}
        _require_single(body.repeated - read_only)
        return body

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        """The query parameters. Raises ValidationError."""
        try:
            # Invalid bytes become surrogates, so that a parameter that is not UTF-8 can be named.
            pairs = parse_qsl(
                req.query_string.decode(errors="surrogateescape"),
                keep_blank_values=True,
                errors="surrogateescape",
                max_num_fields=MAX_PARAMETERS,
            )
        except ValueError:
            raise ValidationError(f"Must have at most {MAX_PARAMETERS} parameters.") from None
        members = _Members(pairs)
        _require_single(members.repeated)
        errors = {
            _printable(name): ["Must be UTF-8."]
            for name, value in members.items()
            if has_surrogates(name) or has_surrogates(value)
        }
        if errors:
            raise ValidationError(errors)
        return members

    def handle_error(
        self,
        error: ValidationError,
        req: Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        """Raise the error with its messages keyed by member, not by location and member."""
        (messages,) = error.normalized_messages().values()  # type: ignore[no-untyped-call]
        if isinstance(messages, dict):
            messages = {_printable(name): about for name, about in messages.items()}
        raise ValidationError(messages) from None


class _Members(dict[str, Any]):
    """The members of an object. `repeated` are the names that occur more than once."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        pairs = list(pairs)
        super().__init__(pairs)
        self.repeated: set[str] = set()
        if len(self) < len(pairs):
            times = Counter(name for name, _ in pairs)
            self.repeated = {name for name in self if times[name] > 1}


def _require_single(repeated: set[str]) -> None:
    if repeated:
        raise ValidationError({name: ["Must not be repeated."] for name in sorted(repeated)})


def _body(req: Request) -> bytes:
    """The whole body. Raises RequestEntityTooLarge, UnreadableBody."""
    try:
        data = req.get_data()
        if req.content_length is None:
            req.stream.read(1)  # raises if the body goes on past the limit
    except RequestEntityTooLarge:
        raise
    except Exception:  # noqa: BLE001  servers raise classes of their own for a broken body
        raise UnreadableBody from None
    if len(data) < (req.content_length or 0):
        raise UnreadableBody
    return data


def _printable(name: str) -> str:
    """The name of a member that a response can contain: lone surrogates are escaped."""
    return name.encode(errors="backslashreplace").decode()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def caller_id() -> int:
    """The id of the user who is calling. Only for endpoints that require one."""
    user_id: int = g.caller.user_id
    return user_id


class Blueprint(flask_smorest.Blueprint):
    """A blueprint whose endpoints declare who may use them and which exceptions they raise.

    The decorators of flask-smorest document an endpoint. These wrappers handle the requests, with
    fewer function calls.
    """

    ARGUMENTS_PARSER = Parser()

    def arguments(self, schema: Any, *, location: str = "json", **kwargs: Any) -> Any:
        """Like flask-smorest's, with the schema's example. Unknown members are errors."""
        schema = schema(unknown=RAISE)  # one instance for all requests
        if location == "json":
            kwargs["example"] = schema.example
        document = super().arguments(schema, location=location, **kwargs)
        parse = self.ARGUMENTS_PARSER.parse

        def declare(view: Callable[..., Any]) -> Any:
            @wraps(document(view))
            def endpoint(**values: Any) -> Any:
                arguments = parse(schema, location=location)
                if location == "json":  # the body is checked first
                    parse(NO_PARAMETERS, location="query")
                return view(arguments, **values)

            endpoint.schema = schema  # type: ignore[attr-defined]
            return endpoint

        return declare

    def response(self, status_code: Any, schema: Any = None, **kwargs: Any) -> Any:
        """Like flask-smorest's, with the schema's example and a faster way to write JSON.

        A view returns its body, or a tuple of its body, optionally a status, and headers.
        """
        if schema is not None:
            kwargs.setdefault("example", schema.example)
        document = super().response(status_code, schema, **kwargs)
        write = writer(schema()) if schema is not None else lambda _nothing: b""

        def decorate(view: Callable[..., Any]) -> Any:
            @wraps(document(view))
            def respond(*args: Any, **kwargs: Any) -> Any:
                body, status, headers = view(*args, **kwargs), status_code, None
                if isinstance(body, tuple):
                    body, *other_status, headers = body
                    status = other_status[0] if other_status else status_code
                return Response(write(body), status, headers, mimetype=JSON)

            return respond

        return decorate

    def route(
        self,
        rule: str,
        *,
        access: Access,
        raises: Sequence[type[Exception]] = (),
        limits: Sequence[RateLimit] = (),
        **options: Any,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare an endpoint.

        `access`: who may use it. `raises`: the exceptions that it raises beyond those that its
        access, path and parameters imply; status, text and documentation of each come from the
        table in `movies/errors.py`. `limits`: rate limits of its own.
        """

        def declare(view: Callable[..., Any]) -> Callable[..., Any]:
            has_arguments = hasattr(view, "schema")

            @wraps(self._documented(view, access, raises))
            def endpoint(**values: Any) -> Any:
                if access is Access.USER:
                    current_app.extensions["authenticate"]()
                check_limits(API_LIMIT, *limits)
                _require_bounded_body()
                if not has_arguments:
                    self.ARGUMENTS_PARSER.parse(NO_PARAMETERS, location="query")
                return view(**values)

            endpoint.access = access  # type: ignore[attr-defined]
            super(Blueprint, self).route(rule, **options)(endpoint)
            return view

        return declare

    def _documented(
        self, view: Callable[..., Any], access: Access, raises: Sequence[type[Exception]]
    ) -> Any:
        documented: Any = view
        if not hasattr(view, "schema"):
            documented = self.arguments(NoParameters, location="query")(view)
        return self.doc(
            operationId=view.__name__,
            security=[{"bearer": []}] if access is Access.USER else [],
            raises=tuple(raises),
            invalid=_invalid_example(documented.schema),
        )(documented)


def _invalid_example(schema: Schema) -> dict[str, list[str]]:
    """What `errors` says about a request that breaks the schema, for the documentation."""
    name = next(iter(schema.load_fields), "unknown")
    candidates: tuple[dict[str, Any], ...] = ({}, {name: ""}, {name: 7})
    return next(errors for wrong in candidates if (errors := schema.validate(wrong)))


def _require_bounded_body() -> None:
    """Refuse a body whose declared length is too large, even if the endpoint reads none."""
    length = request.content_length
    if length and length > current_app.config["MAX_CONTENT_LENGTH"]:
        raise RequestEntityTooLarge
