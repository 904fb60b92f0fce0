"""One rating by its id: the owner can read, change and delete it, and nobody else."""

from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from helpers import THEN
from tables import rows

from movies.november7.sample.catalogue import sample_movies

MOVIE = sample_movies()[0]
NONSENSE = {
    "id": "x",
    "movie_id": 7,
    "user_id": None,
    "created_at": ["yesterday"],
    "updated_at": {},
    "movie": {"title": False},
}

Headers = dict[str, str]
Rating = dict[str, Any]

once = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    """The time of day, which stands still at THEN until it is moved."""
    with time_machine.travel(THEN, tick=False) as clock:
        yield clock


@pytest.fixture
def me(clock: time_machine.Traveller, auth: Accounts) -> Headers:
    """The request headers of an account."""
    return auth.headers()


@pytest.fixture
def rating(client: FlaskClient, me: Headers) -> Rating:
    """An upvote of the account, cast at THEN."""
    body = {"movie_id": MOVIE["id"], "rating_type": "UPVOTE"}
    cast: Rating = client.post("/api/v1/movies/ratings/", json=body, headers=me).get_json()
    return cast


def at(rating: Rating) -> str:
    return f"/api/v1/movies/ratings/{rating['id']}"


def votes(app: Flask) -> list[tuple[int, int]]:
    """The tallies of the movies that have votes."""
    found = rows(app, "SELECT upvotes, downvotes FROM movies WHERE upvotes + downvotes > 0")
    return [(ups, downs) for ups, downs in found]


def test_a_rating_can_be_read(client: FlaskClient, me: Headers, rating: Rating) -> None:
    assert client.get(at(rating), headers=me).get_json() == rating


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_change_updates_only_the_type_and_updated_at(
    app: Flask,
    client: FlaskClient,
    clock: time_machine.Traveller,
    me: Headers,
    rating: Rating,
    method: str,
) -> None:
    clock.shift(60)
    answer = client.open(at(rating), method=method, json={"rating_type": "DOWNVOTE"}, headers=me)
    changed = {"rating_type": "DOWNVOTE", "updated_at": "2026-03-01T12:01:00.000000+00:00"}
    assert (answer.status_code, answer.get_json()) == (200, {**rating, **changed})
    assert client.get(at(rating), headers=me).get_json() == {**rating, **changed}
    assert votes(app) == [(0, 1)]


@pytest.mark.parametrize(
    ("method", "body"), [("PUT", {"rating_type": "UPVOTE"}), ("PATCH", {}), ("PATCH", NONSENSE)]
)
def test_a_change_to_the_same_type_changes_nothing(
    app: Flask, client: FlaskClient, me: Headers, rating: Rating, method: str, body: Rating
) -> None:
    answer = client.open(at(rating), method=method, json=body, headers=me)
    assert (answer.status_code, answer.get_json()) == (200, rating)
    assert votes(app) == [(1, 0)]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_read_only_members_are_ignored(
    client: FlaskClient, me: Headers, rating: Rating, method: str
) -> None:
    body = {**NONSENSE, "rating_type": "DOWNVOTE"}
    answer = client.open(at(rating), method=method, json=body, headers=me)
    assert answer.status_code == 200
    changed = {"rating_type": "DOWNVOTE", "updated_at": answer.get_json()["updated_at"]}
    assert answer.get_json() == {**rating, **changed}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_rating_can_be_sent_back_as_received(
    client: FlaskClient, me: Headers, rating: Rating, method: str
) -> None:
    answer = client.open(at(rating), method=method, json=rating, headers=me)
    assert (answer.status_code, answer.get_json()) == (200, rating)


@once
@pytest.mark.parametrize(
    ("method", "body", "member"),
    [
        ("PUT", {}, "rating_type"),
        ("PUT", {"rating_type": "SIDEWAYS"}, "rating_type"),
        ("PUT", {"rating_type": None}, "rating_type"),
        ("PATCH", {"rating_type": None}, "rating_type"),
        ("PATCH", {"rating_type": 1}, "rating_type"),
        ("PATCH", {"stars": 5}, "stars"),
    ],
)
def test_an_invalid_change_is_422(
    client: FlaskClient, me: Headers, rating: Rating, method: str, body: Rating, member: str
) -> None:
    answer = client.open(at(rating), method=method, json=body, headers=me)
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]) == [member]
    assert client.get(at(rating), headers=me).get_json() == rating


def test_a_deleted_rating_is_gone_and_no_longer_counted(
    app: Flask, client: FlaskClient, me: Headers, rating: Rating
) -> None:
    answer = client.delete(at(rating), headers=me)
    assert (answer.status_code, answer.data) == (204, b"")
    assert client.delete(at(rating), headers=me).status_code == 404
    assert client.get(at(rating), headers=me).status_code == 404
    assert votes(app) == []


def test_a_movie_can_be_rated_again_after_deletion(
    client: FlaskClient, me: Headers, rating: Rating
) -> None:
    """The new rating has a new id."""
    client.delete(at(rating), headers=me)
    body = {"movie_id": MOVIE["id"], "rating_type": "DOWNVOTE"}
    again = client.post("/api/v1/movies/ratings/", json=body, headers=me)
    assert again.status_code == 201
    assert again.get_json()["id"] > rating["id"]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_rating_of_another_user_is_404(
    app: Flask, client: FlaskClient, auth: Accounts, me: Headers, rating: Rating, method: str
) -> None:
    body = {"rating_type": "DOWNVOTE"} if method in ("PUT", "PATCH") else None
    answer = client.open(at(rating), method=method, json=body, headers=auth.headers())
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert client.get(at(rating), headers=me).get_json() == rating
    assert votes(app) == [(1, 0)]


@pytest.mark.parametrize("rating_id", ["1", "0", "-1", "x", "1.0", "01", str(2**63), "9" * 40])
def test_an_id_without_a_rating_is_404(client: FlaskClient, me: Headers, rating_id: str) -> None:
    at, body = f"/api/v1/movies/ratings/{rating_id}", {"rating_type": "DOWNVOTE"}
    assert [
        client.open(at, method=method, json=given, headers=me).status_code
        for method, given in (("GET", None), ("PUT", body), ("PATCH", body), ("DELETE", None))
    ] == [404] * 4


def test_reading_a_rating_takes_one_statement(
    client: FlaskClient, me: Headers, rating: Rating, statements: list[str]
) -> None:
    statements.clear()
    client.get(at(rating), headers=me)
    assert len(statements) == 1
