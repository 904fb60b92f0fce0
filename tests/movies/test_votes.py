"""Setting and clearing the rating of a movie; repeating a request changes nothing."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from tables import rows

from movies.november7.sample.catalogue import sample_movies
from stand_in.server import StandIn

MOVIE = sample_movies()[0]
AT = f"/api/v1/movies/{MOVIE['id']}/"
VOTE = f"{AT}rating/"
UP, DOWN = {"rating_type": "UPVOTE"}, {"rating_type": "DOWNVOTE"}

Headers = dict[str, str]

once = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def app(make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    return make_app(NOVEMBER7_URL=stand_in.url)


@pytest.fixture
def me(client: FlaskClient, auth: Accounts, stand_in: StandIn) -> Headers:
    """The request headers of an account that has found the movie in a search."""
    headers = auth.headers()
    wanted = {"query": MOVIE["title"]}
    assert client.get("/api/v1/movies/", query_string=wanted, headers=headers).status_code == 200
    stand_in.reset()
    return headers


def seen(client: FlaskClient, headers: Headers) -> tuple[int, int, Any]:
    """The movie's upvotes, downvotes and `my_rating`."""
    movie = client.get(AT, headers=headers).get_json()
    return movie["upvotes"], movie["downvotes"], movie["my_rating"]


def test_a_vote_is_set_changed_and_cleared(client: FlaskClient, me: Headers) -> None:
    new = client.put(VOTE, json=UP, headers=me)
    rating_id = new.get_json()["id"]
    assert new.status_code == 201
    assert seen(client, me) == (1, 0, {"id": rating_id, **UP})
    changed = client.put(VOTE, json=DOWN, headers=me)
    assert changed.status_code == 200
    assert seen(client, me) == (0, 1, {"id": rating_id, **DOWN})
    assert client.delete(VOTE, headers=me).status_code == 204
    assert seen(client, me) == (0, 0, None)


def test_a_new_rating_has_a_location_and_an_existing_one_has_none(
    client: FlaskClient, me: Headers
) -> None:
    new, old = (client.put(VOTE, json=UP, headers=me) for _ in range(2))
    assert new.headers["Location"].startswith("http://localhost/api/v1/movies/ratings/")
    assert client.get(new.headers["Location"], headers=me).get_json() == new.get_json()
    assert "Location" not in old.headers


def test_setting_a_vote_twice_counts_once(client: FlaskClient, me: Headers) -> None:
    first, second = (client.put(VOTE, json=DOWN, headers=me) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.get_json() == first.get_json()
    assert seen(client, me)[:2] == (0, 1)


def test_clearing_a_vote_twice_counts_once(
    client: FlaskClient, auth: Accounts, me: Headers
) -> None:
    client.put(VOTE, json=UP, headers=auth.headers())
    client.put(VOTE, json=UP, headers=me)
    assert [client.delete(VOTE, headers=me).status_code for _ in range(2)] == [204, 204]
    assert seen(client, me) == (1, 0, None)


def test_a_vote_is_in_the_list_of_ratings(client: FlaskClient, me: Headers) -> None:
    vote = client.put(VOTE, json=UP, headers=me).get_json()
    listed = client.get("/api/v1/movies/ratings/", headers=me).get_json()["results"]
    again = {"movie_id": MOVIE["id"], **UP}
    assert listed == [vote]
    assert client.post("/api/v1/movies/ratings/", json=again, headers=me).status_code == 409


def test_a_received_rating_can_be_sent_back(client: FlaskClient, me: Headers) -> None:
    vote = client.put(VOTE, json=UP, headers=me).get_json()
    answer = client.put(VOTE, json=vote, headers=me)
    assert (answer.status_code, answer.get_json()) == (200, vote)


@once
@pytest.mark.parametrize("member", ["movie_id", "user_id", "created_at", "movie", "id"])
def test_read_only_members_of_a_vote_are_ignored(
    client: FlaskClient, me: Headers, member: str
) -> None:
    vote = client.put(VOTE, json={**UP, member: [str(uuid4())]}, headers=me).get_json()
    assert vote["movie_id"] == MOVIE["id"]
    assert client.get("/api/v1/movies/ratings/", headers=me).get_json()["results"] == [vote]


def test_a_vote_on_a_known_movie_sends_no_request(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    rating = {"movie_id": MOVIE["id"], **UP}
    assert client.put(VOTE, json=UP, headers=me).status_code == 201
    assert client.put(VOTE, json=DOWN, headers=me).status_code == 200
    assert client.delete(VOTE, headers=me).status_code == 204
    assert client.post("/api/v1/movies/ratings/", json=rating, headers=me).status_code == 201
    assert client.get(AT, headers=me).status_code == 200
    assert stand_in.requests == []


def test_known_movies_can_be_rated_while_november_7_is_down(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    stand_in.stop()
    assert client.put(VOTE, json=UP, headers=me).status_code == 201


def test_a_vote_on_an_unknown_movie_is_404(app: Flask, client: FlaskClient, me: Headers) -> None:
    answer = client.put(f"/api/v1/movies/{uuid4()}/rating/", json=UP, headers=me)
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert rows(app, "SELECT id FROM ratings") == []


def test_clearing_the_vote_on_an_unknown_movie_is_204(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    assert client.delete(f"/api/v1/movies/{uuid4()}/rating/", headers=me).status_code == 204
    assert stand_in.requests == []


@once
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("movie_id", ["7", "x", MOVIE["id"][:-1], MOVIE["id"].replace("-", "")])
def test_an_invalid_movie_id_is_404(
    client: FlaskClient, me: Headers, method: str, movie_id: str
) -> None:
    path = f"/api/v1/movies/{movie_id}/rating/"
    body = UP if method == "PUT" else None
    assert client.open(path, method=method, json=body, headers=me).status_code == 404


def test_a_movie_id_in_upper_case_is_the_same_movie(client: FlaskClient, me: Headers) -> None:
    path = f"/api/v1/movies/{MOVIE['id'].upper()}/rating/"
    assert client.put(path, json=UP, headers=me).status_code == 201
    assert client.put(VOTE, json=UP, headers=me).status_code == 200


@once
@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({}, "rating_type"),
        ({"rating_type": "LIKE"}, "rating_type"),
        ({"rating_type": None}, "rating_type"),
        ({**UP, "weight": 2}, "weight"),
    ],
)
def test_an_invalid_vote_is_422(
    app: Flask, client: FlaskClient, me: Headers, body: dict[str, Any], member: str
) -> None:
    answer = client.put(VOTE, json=body, headers=me)
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]) == [member]
    assert rows(app, "SELECT id FROM ratings") == []


def test_the_rating_of_a_movie_can_be_read(client: FlaskClient, me: Headers) -> None:
    assert client.get(VOTE, headers=me).status_code == 404
    set_ = client.put(VOTE, json={"rating_type": "UPVOTE"}, headers=me).get_json()
    answer = client.get(VOTE, headers=me)
    assert (answer.status_code, answer.get_json()) == (200, set_)
    assert client.delete(VOTE, headers=me).status_code == 204
    assert client.get(VOTE, headers=me).status_code == 404


def test_a_repeated_vote_uses_up_no_id(client: FlaskClient, me: Headers, auth: Accounts) -> None:
    first = client.put(VOTE, json={"rating_type": "UPVOTE"}, headers=me).get_json()
    for rating_type in ("UPVOTE", "DOWNVOTE", "DOWNVOTE"):
        again = client.put(VOTE, json={"rating_type": rating_type}, headers=me)
        assert (again.status_code, again.get_json()["id"]) == (200, first["id"])
    other = client.put(VOTE, json={"rating_type": "UPVOTE"}, headers=auth.headers())
    assert other.get_json()["id"] == first["id"] + 1


def test_a_vote_is_one_statement_on_postgresql(
    client: FlaskClient, me: Headers, statements: list[str]
) -> None:
    """On SQLite, each step is a statement of its own."""
    client.put(VOTE, json={"rating_type": "UPVOTE"}, headers=me)
    costs = []
    for method, body in (
        ("PUT", {"rating_type": "UPVOTE"}),
        ("PUT", {"rating_type": "DOWNVOTE"}),
        ("DELETE", None),
        ("PUT", {"rating_type": "UPVOTE"}),
    ):
        statements.clear()
        assert client.open(VOTE, method=method, json=body, headers=me).status_code < 300
        costs.append(len(statements))
    is_postgresql = "$1" in statements[-1]
    assert costs == ([1, 1, 1, 1] if is_postgresql else [3, 3, 2, 5])
