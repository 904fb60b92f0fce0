"""Schemas and fields that all domains share.

Requests must not contain unknown members or parameters: `movies.api` loads them with
`unknown=RAISE`. Responses may gain members, so clients must ignore those that they do not know.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import EXCLUDE, Schema, fields, pre_load, validate

MAX_PAGE_SIZE = 100
# For the documentation, in the subset of regular expressions that all languages support (JSON
# Schema, section 6.4). This subset cannot exclude lone surrogates.
NO_NUL = r"^[^\x00]*$"


def has_surrogates(text: str) -> bool:
    """Whether a text contains lone surrogates, which UTF-8 cannot represent."""
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


class BaseSchema(Schema):
    """Base of all schemas. `example` is shown in the documentation."""

    example: Any = None

    class Meta:
        unknown = EXCLUDE


class ResourceUpdate(BaseSchema):
    """A request that changes a resource.

    Clients can send back what they received: read-only members are ignored, whatever their values.
    """

    @pre_load
    def _drop_read_only(self, data: Mapping[str, Any], **_kwargs: Any) -> dict[str, Any]:
        return {
            name: value
            for name, value in data.items()
            if name not in self.fields or not self.fields[name].dump_only
        }


class NoParameters(BaseSchema):
    """The query string of an endpoint that has no parameters."""


class Text(fields.String):
    """A string without NUL and lone surrogates, which could not be stored.

    `trim`: whether to strip surrounding whitespace before the length is validated.
    """

    default_error_messages = {"unstorable": "Must not contain NUL or lone surrogates."}

    def __init__(
        self, *, trim: bool = False, metadata: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(metadata={"pattern": NO_NUL, **(metadata or {})}, **kwargs)
        self.trim = trim

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if "\x00" in text or has_surrogates(text):
            raise self.make_error("unstorable")
        return text.strip() if self.trim else text


class MovieId(fields.UUID):
    """A UUID in its canonical form, in any letter case."""

    _CANONICAL = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> uuid.UUID:
        if not isinstance(value, str) or not self._CANONICAL.fullmatch(value):
            raise self.make_error("invalid_uuid")
        return super()._deserialize(value, attr, data, **kwargs)


class Id(fields.Integer):
    """The id of a user or a rating: a 64-bit integer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"format": "int64", "minimum": 1}, **kwargs)


class Timestamp(fields.AwareDateTime):
    """A time in UTC, always with microseconds, so that it has one format."""

    def _serialize(
        self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any
    ) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")


class QueryInteger(fields.Integer):
    """An integer in a query string, in ASCII digits.

    A value of more than 18 digits becomes 10^18, or -1 if it is negative.
    """

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not re.fullmatch(r"-?[0-9]+", value, re.ASCII):
            raise self.make_error("invalid", input=value)
        if len(value.lstrip("-0")) > 18:
            value = "-1" if value.startswith("-") else str(10**18)
        return super()._deserialize(value, attr, data, **kwargs)


class PageParameters(BaseSchema):
    """Which page of a list to return."""

    page = QueryInteger(
        load_default=1,
        validate=validate.Range(min=1),
        metadata={"description": "Number of the page, starting at 1"},
    )
    page_size = QueryInteger(
        load_default=10,
        validate=validate.Range(min=1, max=MAX_PAGE_SIZE),
        metadata={"description": "Number of results per page"},
    )


def page_schema(item: type[BaseSchema]) -> type[BaseSchema]:
    """The schema of a page of `item`s."""
    name = item.__name__.removesuffix("Schema")
    members: dict[str, Any] = {
        "count": fields.Integer(
            required=True,
            metadata={"description": "Total number of results on all pages", "minimum": 0},
        ),
        "next": _link("URL of the next page; null on the last one"),
        "previous": _link("URL of the previous page; null on the first one"),
        "results": fields.List(fields.Nested(item), required=True),
        "example": {"count": 1, "next": None, "previous": None, "results": [item.example]},
    }
    return type(f"{name}PageSchema", (BaseSchema,), members)


def _link(description: str) -> fields.Url:
    metadata = {"format": "uri", "description": description}
    return fields.Url(required=True, allow_none=True, metadata=metadata)


class ProblemSchema(BaseSchema):
    """An error (RFC 9457)."""

    type = fields.String(
        required=True,
        metadata={
            "format": "uri-reference",
            "description": "The kind of problem: the URL of its documentation, or `about:blank` "
            "if `status` says everything",
        },
    )
    title = fields.String(required=True, metadata={"description": "Name of the status"})
    status = fields.Integer(
        required=True, metadata={"description": "Status code", "minimum": 400, "maximum": 599}
    )
    detail = fields.String(required=True, metadata={"description": "What went wrong"})
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata={"description": "With 422: what is wrong, by member or parameter; at most 20"},
    )
