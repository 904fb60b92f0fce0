"""Compiles schemas into functions that write responses as JSON, much faster than `Schema.dump`.

A writer determines once, and not for every value, which fields need a conversion. Most need none,
because orjson writes strings, numbers, UUIDs and enumerations in the same way as the schemas.
tests/test_writers.py compares the two for every endpoint.
"""

from collections.abc import Callable
from typing import Any

import orjson
from marshmallow import Schema, fields

Converter = Callable[[Any], Any]

AS_THEY_ARE = (fields.String, fields.Integer, fields.UUID, fields.Enum)  # orjson writes these


def writer(schema: Schema) -> Callable[[Any], bytes]:
    """A function that turns an object, or a mapping, into JSON in UTF-8.

    Every member of a response is required. Its values have the types that the schema implies: a
    `str` for a String, an `int` for an Integer.
    """
    convert = _members(schema)
    return lambda value: orjson.dumps(convert(value))


def _members(schema: Schema) -> Converter:
    plain = [name for name, field in schema.dump_fields.items() if isinstance(field, AS_THEY_ARE)]
    order = dict.fromkeys(schema.dump_fields)
    converters = [
        (name, _converter(name, field))
        for name, field in schema.dump_fields.items()
        if name not in plain
    ]

    def convert(value: Any) -> dict[str, Any]:
        members: dict[str, Any] = order.copy()
        if isinstance(value, dict):
            for name in plain:
                members[name] = value[name]
            for name, converter in converters:
                if (member := value[name]) is not None:
                    members[name] = converter(member)
        else:
            for name in plain:
                members[name] = getattr(value, name)
            for name, converter in converters:
                if (member := getattr(value, name)) is not None:
                    members[name] = converter(member)
        return members

    return convert


def _converter(name: str, field: fields.Field[Any]) -> Converter:
    """A function that converts a value other than None."""
    if isinstance(field, fields.Float):
        return float
    if isinstance(field, fields.Nested):
        return _members(field.schema)
    if isinstance(field, fields.List):
        item = _converter(name, field.inner)
        return lambda values: [item(value) for value in values]
    return lambda value: field.serialize(name, {name: value})
