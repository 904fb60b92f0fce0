"""The registry of movies: fed by what is fetched, asked by id."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from accounts import Accounts
from crowd import at_once
from flask import Flask
from flask.testing import FlaskClient
from helpers import THEN
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from tables import rows

from movies.extensions import db
from movies.movies.models import Movie
from movies.movies.registry import remember
from movies.november7.sample.catalogue import Catalogue, sample_catalogue
from stand_in.server import StandIn

MATRIX: list[Any] = [
    movie for movie in sample_catalogue().movies if "matrix" in movie["title"].casefold()
]
SEARCH = "/api/v1/movies/?query=matrix"
VOTES = {"upvotes": 0, "downvotes": 0, "my_rating": None}


@pytest.fixture
def app(make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    return make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_TTL=60)


def registered(app: Flask) -> dict[str, Movie]:
    """What the registry holds, by id."""
    with app.app_context():
        return {str(movie.id): movie for movie in db.session.scalars(select(Movie))}


def writes(statements: list[str]) -> list[str]:
    """Those of `statements` that change a table."""
    reads = ("SELECT", "PRAGMA", "SET LOCAL")
    return [statement for statement in statements if not statement.startswith(reads)]


def test_what_a_search_finds_is_remembered(
    app: Flask, client: FlaskClient, auth: Accounts, clock: time_machine.Traveller
) -> None:
    """Every movie of a page that was fetched is recorded with November 7's five members."""
    client.get(SEARCH, headers=auth.headers())
    found = registered(app)
    assert set(found) == {movie["id"] for movie in MATRIX}
    for movie in MATRIX:
        row = found[movie["id"]]
        assert (row.title, row.description) == (movie["title"], movie["description"])
        assert (row.image_url, row.rating) == (movie["image_url"], movie["rating"])
        assert (row.first_seen, row.last_seen) == (THEN, THEN)
        assert (row.upvotes, row.downvotes, row.score) == (0, 0, 0)


@pytest.mark.parametrize("size", [1, 100])
def test_a_page_is_remembered_in_one_statement(
    client: FlaskClient, auth: Accounts, statements: list[str], size: int
) -> None:
    """A cold search writes once, however many movies are on its page."""
    headers = auth.headers()
    statements.clear()
    wanted = {"query": "a", "page_size": size}
    assert client.get("/api/v1/movies/", query_string=wanted, headers=headers).status_code == 200
    assert [statement[:18] for statement in writes(statements)] == ["INSERT INTO movies"]


def test_a_page_of_nothing_writes_nothing(
    client: FlaskClient, auth: Accounts, statements: list[str]
) -> None:
    """A cold search that finds nothing has nothing to remember."""
    headers = auth.headers()
    statements.clear()
    assert client.get("/api/v1/movies/?query=no+such+film", headers=headers).status_code == 200
    assert writes(statements) == []


def test_a_hit_is_not_remembered_again(
    app: Flask, client: FlaskClient, auth: Accounts, clock: time_machine.Traveller
) -> None:
    """A page from the cache leaves the registry as it is, `last_seen` included."""
    headers = auth.headers()
    client.get(SEARCH, headers=headers)
    clock.shift(30)
    assert client.get(SEARCH, headers=headers).headers["Cache-Status"] == "november7; hit; ttl=30"
    assert {movie.last_seen for movie in registered(app).values()} == {THEN}


def test_a_movie_is_as_november_7_last_described_it(
    app: Flask, clock: time_machine.Traveller
) -> None:
    """Seen again, a movie has its new description and its votes, and when it was first seen."""
    movie: Any = {**MATRIX[0], "title": "The Matrix, renamed", "rating": None}
    with app.app_context():
        remember([MATRIX[0]])
        db.session.get_one(Movie, UUID(movie["id"])).upvotes = 7
        db.session.commit()
        clock.shift(3600)
        remember([movie])
    row = registered(app)[movie["id"]]
    assert (row.title, row.rating, row.upvotes) == ("The Matrix, renamed", None, 7)
    assert row.first_seen == THEN
    assert row.last_seen == datetime(2026, 3, 1, 13, tzinfo=UTC)


def test_one_movie_twice_on_a_page_is_remembered_once(app: Flask) -> None:
    """A page that names a movie twice is remembered like any other."""
    with app.app_context():
        remember([MATRIX[0], MATRIX[1], MATRIX[0]])
    assert set(registered(app)) == {MATRIX[0]["id"], MATRIX[1]["id"]}


def test_pages_can_be_remembered_at_the_same_time(app: Flask) -> None:
    """Pages with the same movies in other orders, remembered at once, don't block each other."""
    movies = sample_catalogue().movies

    def feed(page: list[Any]) -> None:
        with app.app_context():
            remember(page)

    at_once(partial(feed, movies[n:] + movies[:n]) for n in range(0, 100, 10))
    assert set(registered(app)) == {movie["id"] for movie in movies}


def test_a_search_is_answered_though_nothing_can_be_remembered(
    app: Flask,
    client: FlaskClient,
    auth: Accounts,
    before_statement: Callable[[Callable[..., Any]], None],
) -> None:
    """Where the registry can't be written to, the search is answered all the same."""
    headers = auth.headers()

    def fail(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO movies"):
            raise OperationalError(statement, None, Exception("read-only"))

    before_statement(fail)
    answer = client.get(SEARCH, headers=headers)
    assert answer.status_code == 200
    assert answer.get_json()["results"] == [{**movie, **VOTES} for movie in MATRIX]
    assert registered(app) == {}


def test_a_movie_is_read_from_the_registry(
    client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    """A movie that a search has met is read by its id, without asking November 7 again."""
    headers = auth.headers()
    client.get(SEARCH, headers=headers)
    stand_in.reset()
    answer = client.get(f"/api/v1/movies/{MATRIX[0]['id']}/", headers=headers)
    assert (answer.status_code, answer.get_json()) == (200, {**MATRIX[0], **VOTES})
    assert stand_in.requests == []


def test_a_movie_comes_with_its_votes(client: FlaskClient, auth: Accounts) -> None:
    """A movie read by its id has its live votes and the caller's own."""
    mine, theirs = auth.headers(), auth.headers()
    at = f"/api/v1/movies/{MATRIX[0]['id']}/"
    vote = client.put(f"{at}rating/", json={"rating_type": "UPVOTE"}, headers=mine).get_json()
    client.put(f"{at}rating/", json={"rating_type": "DOWNVOTE"}, headers=theirs)
    my_rating = {"id": vote["id"], "rating_type": "UPVOTE"}
    votes = {"upvotes": 1, "downvotes": 1, "my_rating": my_rating}
    assert client.get(at, headers=mine).get_json() == {**MATRIX[0], **votes}


def test_a_movie_costs_two_statements(
    client: FlaskClient, auth: Accounts, statements: list[str]
) -> None:
    """Reading a known movie asks whether it is known, then for it with its votes."""
    headers = auth.headers()
    client.get(SEARCH, headers=headers)
    statements.clear()
    client.get(f"/api/v1/movies/{MATRIX[0]['id']}/", headers=headers)
    assert [statement.split()[0] for statement in statements] == ["SELECT", "SELECT"]


def test_a_movie_that_november_7_describes_in_part_is_known(
    client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    """A movie of which November 7 tells id and title alone can be read and voted on."""
    bare = {"id": str(uuid4()), "title": "Bare"}
    stand_in.catalogue = Catalogue([bare])
    at, headers = f"/api/v1/movies/{bare['id']}/", auth.headers()
    vote = client.put(f"{at}rating/", json={"rating_type": "UPVOTE"}, headers=headers)
    assert vote.get_json()["movie"] == {**bare, "image_url": None}
    movie = client.get(at, headers=headers).get_json()
    assert (movie["title"], movie["description"], movie["rating"]) == ("Bare", None, None)


def test_the_largest_page_can_be_remembered(app: Flask) -> None:
    """A thousand movies, as many as a page ever has, are remembered."""
    with app.app_context():
        movies: list[Any] = [{**MATRIX[0], "id": str(uuid4())} for _ in range(1000)]
        remember(movies)
    ((count,),) = rows(app, "SELECT count(*) FROM movies")
    assert count == 1000


def test_a_locked_movie_holds_up_no_search(
    app: Flask, client: FlaskClient, auth: Accounts, caplog: pytest.LogCaptureFixture
) -> None:
    """A search whose movies somebody is changing all the while is answered; they are not fed."""
    headers = auth.headers()
    with app.app_context():
        statement = text("UPDATE users SET first_name = first_name")
        if db.engine.dialect.name == "postgresql":
            statement = text("LOCK TABLE movies IN EXCLUSIVE MODE")
        with db.engine.begin() as somebody:
            somebody.execute(statement)
            answer = client.get("/api/v1/movies/?query=matrix", headers=headers)
    assert answer.status_code == 200
    assert "movies were not recorded" in caplog.text
