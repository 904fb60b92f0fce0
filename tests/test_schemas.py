"""Property tests of all input parsing: input is accepted or refused, and never causes an error."""

import json
from functools import cache
from typing import Any

import pytest
from email_validator import EmailNotValidError
from flask import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError
from werkzeug.exceptions import BadRequest
from werkzeug.test import EnvironBuilder

from movies.api import Parser
from movies.auth import passwords
from movies.auth.emails import address_key, validate
from movies.auth.schemas import CredentialsSchema, RefreshTokenSchema, TokenSchema
from movies.movies.schemas import (
    RatingCreateSchema,
    RatingPartialUpdateSchema,
    RatingsParameters,
    RatingUpdateSchema,
    SearchParameters,
)
from movies.schemas import BaseSchema, NoParameters, PageParameters
from movies.users.schemas import PasswordUpdateSchema, UserCreateSchema, UserUpdateSchema

pytestmark = pytest.mark.slow

BODIES = [
    *(CredentialsSchema, RefreshTokenSchema, TokenSchema),
    *(UserCreateSchema, UserUpdateSchema, PasswordUpdateSchema),
    *(RatingCreateSchema, RatingUpdateSchema, RatingPartialUpdateSchema),
]
QUERIES = [NoParameters, PageParameters, SearchParameters, RatingsParameters]

anything = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates as well
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | anything
    | st.sampled_from(
        ["ada@example.com", "Ada@EXAMPLE.com", "22e4b44f-b5cb-4c7c-bf75-53ff10ca7a84"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=4,
)
texts = anything | st.integers().map(str)
bounded = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@cache
def members_of(
    schema: type[BaseSchema], values: st.SearchStrategy[Any], most: int
) -> st.SearchStrategy[dict[str, Any]]:
    """Up to `most` members, whose names are mostly those of the schema."""
    known = sorted(schema().fields)
    names = st.sampled_from([*known, *known, "x"]) | anything
    return st.dictionaries(names, values, max_size=most)


@pytest.mark.parametrize("schema", BODIES)
@bounded
@given(data=st.data())
def test_a_body_is_loaded_or_refused(schema: type[BaseSchema], data: st.DataObject) -> None:
    """Whatever is loaded can be stored."""
    body = data.draw(members_of(schema, values, 5))
    try:
        loaded = schema().load(body)
    except ValidationError:
        return
    assert "\0" not in json.dumps(loaded, default=str, ensure_ascii=False)
    json.dumps(loaded, default=str, ensure_ascii=False).encode()


@pytest.mark.parametrize("schema", QUERIES)
@bounded
@given(data=st.data())
def test_parameters_are_loaded_or_refused(schema: type[BaseSchema], data: st.DataObject) -> None:
    """Whatever is loaded is in range."""
    parameters = data.draw(members_of(schema, texts, 4))
    try:
        loaded = schema().load(parameters)
    except ValidationError:
        return
    assert loaded.get("page", 1) >= 1
    assert 1 <= loaded.get("page_size", 1) <= 100
    assert 1 <= len(loaded.get("query") or "x") <= 200


def request(**options: Any) -> Request:
    return Request(EnvironBuilder(method="POST", **options).get_environ())


@bounded
@given(body=st.binary(max_size=200) | values.map(json.dumps).map(str.encode))
def test_a_body_is_an_object_or_refused(body: bytes) -> None:
    """Any bytes are a JSON object, InvalidJSON or a ValidationError."""
    try:
        read = Parser().load_json(request(data=body, content_type="application/json"), BaseSchema())
    except (BadRequest, ValidationError):
        return
    assert isinstance(read, dict)
    assert json.loads(body) == read


@bounded
@given(query=st.binary(max_size=100) | anything.map(lambda text: text.encode(errors="replace")))
def test_a_query_string_is_parsed_or_refused(query: bytes) -> None:
    """Any bytes are parameters in UTF-8 or a ValidationError."""
    environ = EnvironBuilder(method="GET").get_environ()
    environ["QUERY_STRING"] = query.decode("latin-1")
    try:
        read = Parser().load_querystring(Request(environ), BaseSchema())
    except ValidationError:
        return
    assert all(isinstance(value, str) for value in read.values())


@bounded
@given(address=anything | st.emails() | st.emails().map(str.upper))
def test_an_address_is_normalized_or_refused(address: str) -> None:
    """A normalized address is not changed again."""
    try:
        normalized = validate(address).normalized
    except EmailNotValidError:
        return
    assert validate(normalized).normalized == normalized


@bounded
@given(address=anything | st.emails())
def test_any_text_has_an_address_key(address: str) -> None:
    """Surrounding whitespace does not change it."""
    assert address_key(f" {address}\t") == address_key(address)


@bounded
@given(password=st.text(min_size=8, max_size=128), hints=st.lists(st.text(max_size=40), max_size=3))
def test_any_password_can_be_checked(password: str, hints: list[str]) -> None:
    weakness = passwords.weakness(password, hints)
    assert weakness is None or weakness.startswith("This password is too easy to guess.")
