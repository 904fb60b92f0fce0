"""Malformed and hostile parameters and headers, on both databases."""

from collections.abc import Iterator

import pytest
from accounts import Accounts
from attacker import Attacker
from flask import Flask
from flask.testing import FlaskClient

LISTS = ("/api/v1/movies/?query=matrix", "/api/v1/movies/top/?", "/api/v1/movies/ratings/?")


@pytest.fixture
def refused(app: Flask, auth: Accounts) -> Iterator[Attacker]:
    """Sends a request as a user; the response must be a 4xx problem and nothing may be written."""
    attacker = Attacker(app, auth)
    yield attacker
    attacker.check()


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ("page=0", 422),
        ("page=-1", 422),
        ("page=-99999999999999999999999999999999", 422),
        ("page=9223372036854775808", 404),
        ("page=" + "9" * 6000, 404),
        ("page=1.0", 422),
        ("page=1e3", 422),
        ("page=1_000", 422),
        ("page=%2B1", 422),
        ("page=+1", 422),
        ("page=0x10", 422),
        ("page=", 422),
        ("page=NaN", 422),
        ("page=%D9%A1", 422),
        ("page=1%00", 422),
        ("page=1%0A", 422),
        ("page_size=0", 422),
        ("page_size=101", 422),
        ("page_size=-5", 422),
        ("page_size=99999999999999999999", 422),
        ("page=1&page=1", 422),
        ("page=1&page_size=5&page=2", 422),
        ("page[]=1", 422),
        ("PAGE=1", 422),
        ("limit=5", 422),
        ("x", 422),
        ("%00=1", 422),
        ("%ff=1", 422),
        ("page=%ff", 422),
        ("x=%ED%A0%80", 422),
        ("&".join(f"x{n}=1" for n in range(500)), 422),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_list_refuses_malformed_and_unknown_parameters(
    refused: Attacker, parameters: str, status: int
) -> None:
    """The response to a page past the end is 404."""
    for path in LISTS:
        assert refused("GET", f"{path}&{parameters}").status_code == status, path


@pytest.mark.parametrize(
    "query",
    [
        *("query=", "query=%20%09", "query=%00", "query=a%00b", "query=%ED%A0%80", "query=%ff"),
        *("query=a&query=b", "query=" + "x" * 201, "query[]=a", "q=a"),
    ],
    ids=lambda value: value[:24],
)
def test_a_search_refuses_malformed_queries(refused: Attacker, query: str) -> None:
    assert refused("GET", f"/api/v1/movies/?{query}").status_code == 422


@pytest.mark.parametrize(
    "movie_id",
    [
        "{3f0e5a52-5d0c-4f6f-9d0b-3c6d7f1f2a10}",
        "urn:uuid:3f0e5a52-5d0c-4f6f-9d0b-3c6d7f1f2a10",
        "3f0e5a525d0c4f6f9d0b3c6d7f1f2a10",
        "3f0e5a52-5d0c-4f6f-9d0b-3c6d7f1f2a1",
        "3f0e5a52-5d0c-4f6f-9d0b-3c6d7f1f2a10\n",
        " 3f0e5a52-5d0c-4f6f-9d0b-3c6d7f1f2a10",
        "３f0e5a52-5d0c-4f6f-9d0b-3c6d7f1f2a10",
        "3f0e5a52_5d0c_4f6f_9d0b_3c6d7f1f2a10",
    ],
    ids=ascii,
)
def test_only_the_canonical_form_of_a_uuid_is_accepted(refused: Attacker, movie_id: str) -> None:
    new = {"movie_id": movie_id, "rating_type": "UPVOTE"}
    assert refused("POST", "/api/v1/movies/ratings/", json=new).status_code == 422
    wanted = {"movie_id": movie_id}
    assert refused("GET", "/api/v1/movies/ratings/", query_string=wanted).status_code == 422


def test_a_uuid_is_accepted_in_any_letter_case(client: FlaskClient, auth: Accounts) -> None:
    """In paths, bodies and query strings."""
    headers = auth.headers()
    found = client.get("/api/v1/movies/?query=matrix", headers=headers).get_json()["results"]
    movie_id = found[0]["id"]
    new = {"movie_id": movie_id.upper(), "rating_type": "UPVOTE"}
    rating = client.post("/api/v1/movies/ratings/", json=new, headers=headers).get_json()
    listed = client.get(f"/api/v1/movies/ratings/?movie_id={movie_id.upper()}", headers=headers)
    read = client.get(f"/api/v1/movies/{movie_id.upper()}/", headers=headers)
    assert rating["movie_id"] == listed.get_json()["results"][0]["movie_id"] == movie_id
    assert read.get_json()["id"] == movie_id


@pytest.mark.parametrize("value", ["évil", "a b", "\x01", "x" * 5000, "'; DROP TABLE users;--"])
def test_malformed_values_of_optional_headers_are_ignored(
    client: FlaskClient, auth: Accounts, value: str
) -> None:
    names = ("Accept", "Accept-Language", "Cookie", "If-None-Match", "Range", "X-Request-ID")
    headers = auth.headers() | dict.fromkeys(names, value)
    assert client.get("/api/v1/users/me/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("parameters", "errors"),
    [
        ("query=%FF", {"query": ["Must be UTF-8."]}),
        ("query=a%FFb%20%C3%A9", {"query": ["Must be UTF-8."]}),
        ("query=%ED%A0%80", {"query": ["Must be UTF-8."]}),
        ("query=\xff", {"query": ["Must be UTF-8."]}),
        ("query=e&page=%FF", {"page": ["Must be UTF-8."]}),
        ("query=%FF&page=%FF", {"query": ["Must be UTF-8."], "page": ["Must be UTF-8."]}),
        ("%FF=1&query=e", {"\\udcff": ["Must be UTF-8."]}),
        ("query=e&query=%FF", {"query": ["Must not be repeated."]}),
    ],
)
def test_a_parameter_that_is_not_utf_8_is_named(
    refused: Attacker, parameters: str, errors: dict[str, list[str]]
) -> None:
    overrides = {"QUERY_STRING": parameters}
    answer = refused("GET", "/api/v1/movies/", environ_overrides=overrides)
    assert (answer.status_code, answer.get_json()["errors"]) == (422, errors)


@pytest.mark.parametrize("query", ["%C3%A9", "\xc3\xa9", "%F0%9F%8E%AC", "%E2%82%AC+%26"])
def test_a_parameter_may_hold_any_unicode(client: FlaskClient, auth: Accounts, query: str) -> None:
    overrides = {"QUERY_STRING": f"query={query}"}
    answer = client.get("/api/v1/movies/", headers=auth.headers(), environ_overrides=overrides)
    assert answer.status_code == 200
