"""Responses are written as `Schema.dump` describes them, for every endpoint."""

import string
from collections.abc import Iterator
from datetime import UTC, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import Schema, fields

from movies.auth.routes import bp as auth
from movies.movies.routes import bp as movies
from movies.users.routes import bp as users
from movies.web import IdConverter
from movies.writers import writer

zones = st.sampled_from([UTC, timezone(timedelta(hours=-5))])
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def response_schemas() -> Iterator[tuple[str, Schema]]:
    """The schema of each documented success of each endpoint, by endpoint and status."""
    app = Flask("endpoints")
    app.url_map.converters["id"] = IdConverter
    for blueprint in (auth, users, movies):
        app.register_blueprint(blueprint)
    for endpoint, view in app.view_functions.items():
        responses = getattr(view, "_apidoc", {}).get("response", {}).get("responses", {})
        for status, documents in responses.items():
            for document in documents:
                if "schema" in document:
                    yield f"{endpoint} {status}", document["schema"]


def values(field: fields.Field[Any]) -> st.SearchStrategy[Any]:
    """Values of the type that a field implies."""
    if isinstance(field, fields.Nested):
        value: st.SearchStrategy[Any] = objects(field.schema)
    elif isinstance(field, fields.List):
        value = st.lists(values(field.inner), max_size=3)
    elif isinstance(field, fields.Enum):
        value = st.sampled_from(field.enum)
    elif isinstance(field, fields.DateTime):
        value = st.datetimes(timezones=zones)
    elif isinstance(field, fields.UUID):
        value = st.uuids()
    elif isinstance(field, fields.Integer):
        value = st.integers(-(2**63), 2**63 - 1)
    elif isinstance(field, fields.Float):
        value = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000)
    elif isinstance(field, fields.String):
        value = text
    else:
        raise AssertionError(f"no values for {type(field).__name__}")
    return st.none() | value if field.allow_none else value


def objects(schema: Schema) -> st.SearchStrategy[Any]:
    """Mappings and other objects with the members of a schema, and one more."""
    members = {name: values(field) for name, field in schema.dump_fields.items()}
    mappings = st.fixed_dictionaries({**members, "internal": text})
    return mappings | mappings.map(lambda mapping: SimpleNamespace(**mapping))


SCHEMAS = dict(response_schemas())


def test_every_endpoint_that_returns_a_body_is_compared() -> None:
    assert {name.split()[0] for name in SCHEMAS} >= {
        "movies.search_movies",
        "movies.list_ratings",
        "users.get_me",
        "auth.sign_in",
    }
    assert len(SCHEMAS) > 12


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_a_writer_writes_what_the_schema_dumps(name: str, data: st.DataObject) -> None:
    schema = SCHEMAS[name]
    value = data.draw(objects(schema))
    written = orjson.loads(writer(schema)(value))
    expected = orjson.loads(orjson.dumps(schema.dump(value)))
    assert written == expected
    assert list(written) == list(expected)


@pytest.mark.parametrize("name", SCHEMAS)
def test_members_of_responses_are_required_and_have_no_other_name(name: str) -> None:
    """A writer relies on it."""
    for field in SCHEMAS[name].dump_fields.values():
        assert field.required
        assert field.data_key is None


def test_a_missing_member_is_an_error() -> None:
    class Sample(Schema):
        name = fields.String(required=True)

    with pytest.raises(KeyError):
        writer(Sample())({})


def test_letters_of_all_scripts_are_written_as_they_are() -> None:
    class Sample(Schema):
        name = fields.String(required=True)

    assert writer(Sample())({"name": f"é{string.digits}日"}) == '{"name":"é0123456789日"}'.encode()
