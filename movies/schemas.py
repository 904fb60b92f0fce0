"""The shapes that every domain shares. Unknown members and parameters are errors everywhere."""

import re
import uuid
from collections.abc import Mapping
from typing import Any

from marshmallow import RAISE, Schema, fields, pre_load, validate

MAX_PAGE_SIZE = 100
NO_NUL = r"^[^\u0000]*$"  # for the documentation, which has no way to exclude lone surrogates


class BaseSchema(Schema):
    """A resource or a request. Unknown members are errors.

    `example`: one true instance, for the documentation.
    """

    example: Any = None

    class Meta:
        unknown = RAISE


class ResourceUpdate(BaseSchema):
    """What a client got it can send back: read-only members are ignored, whatever they hold."""

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
    """A string that can be stored and sent on: no NUL, no lone surrogate.

    `trim`: whether surrounding white space is taken off, before its length is validated.
    """

    default_error_messages = {"unstorable": "Must not contain NUL or lone surrogates."}

    def __init__(
        self, *, trim: bool = False, metadata: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(metadata={"pattern": NO_NUL, **(metadata or {})}, **kwargs)
        self.trim = trim

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
            raise self.make_error("unstorable")
        return text.strip() if self.trim else text


class MovieId(fields.UUID):
    """A UUID in its usual spelling, in any letter case; comes back in lower case."""

    _USUAL = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> uuid.UUID:
        if not isinstance(value, str) or not self._USUAL.fullmatch(value):
            raise self.make_error("invalid_uuid")
        return super()._deserialize(value, attr, data, **kwargs)


class Count(fields.Integer):
    """A whole number in a query string, in ASCII digits; a huge one is cut to 10^18."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not re.fullmatch(r"-?[0-9]+", value, re.ASCII):
            raise self.make_error("invalid", input=value)
        if len(value.lstrip("-0")) > 18:
            value = "-1" if value.startswith("-") else str(10**18)
        return super()._deserialize(value, attr, data, **kwargs)


class PageParameters(BaseSchema):
    """Which page of a list, and how long its pages are."""

    page = Count(
        load_default=1,
        validate=validate.Range(min=1),
        metadata={"description": "Which page, from 1 on"},
    )
    page_size = Count(
        load_default=10,
        validate=validate.Range(min=1, max=MAX_PAGE_SIZE),
        metadata={"description": "How many results a page has"},
    )


def page_schema(item: type[BaseSchema]) -> type[BaseSchema]:
    """The schema of a page of `item`s."""
    name = item.__name__.removesuffix("Schema")
    members: dict[str, Any] = {
        "count": fields.Integer(
            required=True, metadata={"description": "Results on all pages together"}
        ),
        "next": fields.Url(
            required=True,
            allow_none=True,
            metadata={"format": "uri", "description": "The page after this one"},
        ),
        "previous": fields.Url(
            required=True,
            allow_none=True,
            metadata={"format": "uri", "description": "The page before this one"},
        ),
        "results": fields.List(fields.Nested(item), required=True),
        "example": {"count": 1, "next": None, "previous": None, "results": [item.example]},
    }
    return type(f"{name}PageSchema", (BaseSchema,), members)


class ProblemSchema(Schema):
    """An error (RFC 9457)."""

    type = fields.String(required=True, metadata={"description": "about:blank: see `status`"})
    title = fields.String(required=True, metadata={"description": "The status in words"})
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "What went wrong this time"})
    errors = fields.Dict(
        metadata={"description": "With 422: what is wrong, keyed by member or parameter"}
    )
