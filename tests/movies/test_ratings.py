"""Creating and listing ratings."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from tables import rows

from movies.november7.sample.catalogue import sample_movies

RATINGS = "/api/v1/movies/ratings/"
MOVIE, OTHER, *_REST = sample_movies()
THEN = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

Headers = dict[str, str]

once = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def me(auth: Accounts) -> Headers:
    """The request headers of an account."""
    return auth.headers()


def rate(
    client: FlaskClient, headers: Headers, movie_id: str = MOVIE["id"], kind: str = "UPVOTE"
) -> dict[str, Any]:
    """A new rating, as the API returns it."""
    answer = client.post(RATINGS, json={"movie_id": movie_id, "rating_type": kind}, headers=headers)
    assert answer.status_code == 201, answer.text
    rating: dict[str, Any] = answer.get_json()
    return rating


def listed(client: FlaskClient, headers: Headers, **wanted: Any) -> list[Any]:
    """The ids of the ratings on a page of the list."""
    answer = client.get(RATINGS, query_string=wanted, headers=headers)
    assert answer.status_code == 200, answer.text
    return [rating["id"] for rating in answer.get_json()["results"]]


def tally(app: Flask, movie_id: str = MOVIE["id"]) -> tuple[int, int]:
    """A movie's upvotes and downvotes."""
    (found,) = rows(
        app,
        "SELECT upvotes, downvotes FROM movies "
        f"WHERE replace(CAST(id AS VARCHAR(36)), '-', '') = '{movie_id.replace('-', '')}'",
    )
    return found[0], found[1]


def test_a_rating_has_the_documented_members(client: FlaskClient, auth: Accounts) -> None:
    with time_machine.travel(THEN, tick=False):
        me = auth.headers()
        user = client.get("/api/v1/users/me/", headers=me).get_json()
        rating = rate(client, me)
    assert rating == {
        "id": rating["id"],
        "movie_id": MOVIE["id"],
        "rating_type": "UPVOTE",
        "user_id": user["id"],
        "created_at": "2026-03-01T12:00:00.123456+00:00",
        "updated_at": "2026-03-01T12:00:00.123456+00:00",
        "movie": {key: MOVIE[key] for key in ("id", "title", "image_url")},
    }


def test_location_is_the_url_of_the_rating(client: FlaskClient, me: Headers) -> None:
    wanted = {"movie_id": MOVIE["id"], "rating_type": "DOWNVOTE"}
    answer = client.post(RATINGS, json=wanted, headers=me)
    rating = answer.get_json()
    assert answer.headers["Location"] == f"http://localhost{RATINGS}{rating['id']}"
    assert client.get(answer.headers["Location"], headers=me).get_json() == rating


def test_a_movie_id_may_be_in_upper_case(client: FlaskClient, me: Headers) -> None:
    assert rate(client, me, MOVIE["id"].upper())["movie_id"] == MOVIE["id"]


@pytest.mark.parametrize("kind", ["UPVOTE", "DOWNVOTE"])
def test_a_second_rating_of_a_movie_is_409(
    app: Flask, client: FlaskClient, me: Headers, kind: str
) -> None:
    first = rate(client, me)
    again = {"movie_id": MOVIE["id"], "rating_type": kind}
    answer = client.post(RATINGS, json=again, headers=me)
    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")
    assert client.get(f"{RATINGS}{first['id']}", headers=me).get_json() == first
    assert tally(app) == (1, 0)


@once
@pytest.mark.parametrize(
    ("body", "members"),
    [
        ({}, {"movie_id", "rating_type"}),
        ({"movie_id": MOVIE["id"]}, {"rating_type"}),
        ({"rating_type": "UPVOTE"}, {"movie_id"}),
        ({"movie_id": MOVIE["id"], "rating_type": "upvote"}, {"rating_type"}),
        ({"movie_id": MOVIE["id"], "rating_type": None}, {"rating_type"}),
        ({"movie_id": MOVIE["id"], "rating_type": ["UPVOTE"]}, {"rating_type"}),
        ({"movie_id": MOVIE["id"].replace("-", ""), "rating_type": "UPVOTE"}, {"movie_id"}),
        ({"movie_id": 7, "rating_type": "UPVOTE"}, {"movie_id"}),
        ({"movie_id": MOVIE["id"], "rating_type": "UPVOTE", "user_id": 1}, {"user_id"}),
    ],
)
def test_an_invalid_rating_is_422(
    app: Flask, client: FlaskClient, me: Headers, body: dict[str, Any], members: set[str]
) -> None:
    answer = client.post(RATINGS, json=body, headers=me)
    assert answer.status_code == 422
    assert set(answer.get_json()["errors"]) == members
    assert rows(app, "SELECT id FROM ratings") == []


def test_the_newest_rating_comes_first(client: FlaskClient, auth: Accounts) -> None:
    """Ratings of the same moment are ordered by id, descending."""
    movies = [movie["id"] for movie in sample_movies()[:4]]
    with time_machine.travel(THEN, tick=False) as clock:
        me = auth.headers()
        clock.shift(60)
        second, third = (rate(client, me, movie)["id"] for movie in movies[:2])
        clock.shift(-60)
        first = rate(client, me, movies[2])["id"]
        clock.shift(120)
        last = rate(client, me, movies[3])["id"]
        assert listed(client, me) == [last, third, second, first]


def test_the_list_contains_only_the_callers_ratings(
    client: FlaskClient, auth: Accounts, me: Headers
) -> None:
    mine = rate(client, me)["id"]
    rate(client, auth.headers())
    assert listed(client, me) == [mine]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"rating_type": "UPVOTE"}, [0]),
        ({"rating_type": "DOWNVOTE"}, [1]),
        ({"movie_id": MOVIE["id"]}, [0]),
        ({"movie_id": OTHER["id"].upper()}, [1]),
        ({"movie_id": OTHER["id"], "rating_type": "UPVOTE"}, []),
        ({"movie_id": str(uuid4())}, []),
    ],
)
def test_the_list_can_be_filtered(
    client: FlaskClient, me: Headers, wanted: dict[str, str], found: list[int]
) -> None:
    """By type, by movie, and by both."""
    ids = [
        rate(client, me, MOVIE["id"], "UPVOTE")["id"],
        rate(client, me, OTHER["id"], "DOWNVOTE")["id"],
    ]
    page = client.get(RATINGS, query_string=wanted, headers=me).get_json()
    assert [rating["id"] for rating in page["results"]] == [ids[number] for number in found]
    assert page["count"] == len(found)


def test_the_list_is_paginated(client: FlaskClient, me: Headers) -> None:
    ids = [rate(client, me, movie["id"])["id"] for movie in sample_movies()[:3]]
    wanted = {"rating_type": "UPVOTE", "page_size": 2}
    first = client.get(RATINGS, query_string=wanted, headers=me).get_json()
    second = client.get(first["next"], headers=me).get_json()
    assert (first["count"], second["count"]) == (3, 3)
    assert [rating["id"] for rating in first["results"] + second["results"]] == ids[::-1]
    assert (first["previous"], second["next"]) == (None, None)
    assert client.get(second["previous"], headers=me).get_json()["results"] == first["results"]


@pytest.mark.parametrize("page", ["2", "9" * 30])
def test_a_page_past_the_end_of_the_list_is_404(
    client: FlaskClient, me: Headers, page: str
) -> None:
    """Page 1 of an empty list returns 200."""
    assert listed(client, me) == []
    assert client.get(f"{RATINGS}?page={page}", headers=me).status_code == 404


@once
@pytest.mark.parametrize(
    ("wanted", "member"),
    [
        ("rating_type=BOTH", "rating_type"),
        ("rating_type=", "rating_type"),
        ("movie_id=7", "movie_id"),
        ("user_id=7", "user_id"),
        ("page_size=101", "page_size"),
    ],
)
def test_unknown_and_invalid_parameters_are_422(
    client: FlaskClient, me: Headers, wanted: str, member: str
) -> None:
    answer = client.get(f"{RATINGS}?{wanted}", headers=me)
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]) == [member]


def test_a_page_takes_one_statement_whatever_its_size(
    client: FlaskClient, me: Headers, statements: list[str]
) -> None:
    for movie in sample_movies()[:100]:
        rate(client, me, movie["id"])
    for size in (1, 100):
        statements.clear()
        assert len(listed(client, me, page_size=size)) == size
        assert len(statements) == 1
