"""The registry: fetched movies are recorded, and can be read by their id."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
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
from movies.movies.registry import record
from movies.november7.sample.catalogue import sample_movies
from stand_in.catalogue import Catalogue
from stand_in.server import StandIn

MATRIX: list[Any] = [movie for movie in sample_movies() if "matrix" in movie["title"].casefold()]
SEARCH = "/api/v1/movies/?query=matrix"
VOTES = {"upvotes": 0, "downvotes": 0, "my_rating": None}


@pytest.fixture
def app(make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    return make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_TTL=60)


def registered(app: Flask) -> dict[str, Movie]:
    """The movies in the registry, by id."""
    with app.app_context():
        return {str(movie.id): movie for movie in db.session.scalars(select(Movie))}


def writes(statements: list[str]) -> list[str]:
    """The statements that change a table."""
    reads = ("SELECT", "PRAGMA")
    return [statement for statement in statements if not statement.startswith(reads)]


def test_fetched_movies_are_recorded(
    app: Flask, client: FlaskClient, auth: Accounts, clock: time_machine.Traveller
) -> None:
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
def test_a_page_is_recorded_in_one_statement(
    client: FlaskClient, auth: Accounts, statements: list[str], size: int
) -> None:
    headers = auth.headers()
    statements.clear()
    wanted = {"query": "a", "page_size": size}
    assert client.get("/api/v1/movies/", query_string=wanted, headers=headers).status_code == 200
    (statement,) = writes(statements)
    assert "INSERT INTO movies" in statement


def test_a_page_without_movies_writes_nothing(
    client: FlaskClient, auth: Accounts, statements: list[str]
) -> None:
    headers = auth.headers()
    statements.clear()
    assert client.get("/api/v1/movies/?query=no+such+film", headers=headers).status_code == 200
    assert writes(statements) == []


def test_a_cache_hit_writes_nothing(
    app: Flask, client: FlaskClient, auth: Accounts, clock: time_machine.Traveller
) -> None:
    headers = auth.headers()
    client.get(SEARCH, headers=headers)
    clock.shift(30)
    assert client.get(SEARCH, headers=headers).headers["Cache-Status"] == "november7; hit; ttl=30"
    assert {movie.last_seen for movie in registered(app).values()} == {THEN}


def test_a_movie_is_updated_when_it_is_fetched_again(
    app: Flask, clock: time_machine.Traveller
) -> None:
    """Its votes and the time when it was first seen are kept."""
    movie: Any = {**MATRIX[0], "title": "The Matrix, renamed", "rating": None}
    with app.app_context():
        record([MATRIX[0]])
        db.session.get_one(Movie, UUID(movie["id"])).upvotes = 7
        db.session.commit()
        clock.shift(3600)
        record([movie])
    row = registered(app)[movie["id"]]
    assert (row.title, row.rating, row.upvotes) == ("The Matrix, renamed", None, 7)
    assert row.first_seen == THEN
    assert row.last_seen == datetime(2026, 3, 1, 13, tzinfo=UTC)


def test_movies_that_have_not_changed_are_not_written_again_for_an_hour(
    app: Flask, clock: time_machine.Traveller
) -> None:
    """Finding that out takes less time than writing, which waits for the disk."""
    with app.app_context():
        record(MATRIX)
        clock.shift(3599)
        record(MATRIX)
        assert {movie.last_seen for movie in registered(app).values()} == {THEN}
        clock.shift(1)
        record(MATRIX)
    later = THEN + timedelta(hours=1)
    assert {movie.last_seen for movie in registered(app).values()} == {later}


def test_movies_that_have_not_changed_wait_for_no_lock(app: Flask) -> None:
    """On SQLite, every statement that may write waits for all other writers."""
    with app.app_context():
        record(MATRIX)
        statement = text("UPDATE movies SET upvotes = upvotes")
        with db.engine.begin() as somebody:
            somebody.execute(statement)
            record(MATRIX, timeout=0.05)


def test_only_the_movies_of_a_page_that_have_changed_are_written(
    app: Flask, clock: time_machine.Traveller
) -> None:
    changed: Any = {**MATRIX[0], "rating": 1.5}
    with app.app_context():
        record(MATRIX)
        clock.shift(60)
        record([changed, *MATRIX[1:]])
    found = registered(app)
    assert found[MATRIX[0]["id"]].rating == 1.5
    seen = [found[movie["id"]].last_seen for movie in MATRIX]
    assert seen == [THEN + timedelta(seconds=60)] + [THEN] * (len(MATRIX) - 1)


def test_a_movie_that_is_twice_on_a_page_is_recorded_once(app: Flask) -> None:
    with app.app_context():
        record([MATRIX[0], MATRIX[1], MATRIX[0]])
    assert set(registered(app)) == {MATRIX[0]["id"], MATRIX[1]["id"]}


def test_pages_with_the_same_movies_can_be_recorded_at_the_same_time(app: Flask) -> None:
    """In any order, without deadlocks."""
    movies = sample_movies()

    def feed(page: list[Any]) -> None:
        with app.app_context():
            record(page)

    at_once(partial(feed, movies[n:] + movies[:n]) for n in range(0, 100, 10))
    assert set(registered(app)) == {movie["id"] for movie in movies}


def test_a_search_succeeds_if_its_movies_cannot_be_recorded(
    app: Flask,
    client: FlaskClient,
    auth: Accounts,
    before_statement: Callable[[Callable[[str, Any], None]], None],
) -> None:
    headers = auth.headers()

    def fail(statement: str, _values: Any) -> None:
        if "INSERT INTO movies" in statement:
            raise OperationalError(statement, None, Exception("read-only"))

    before_statement(fail)
    answer = client.get(SEARCH, headers=headers)
    assert answer.status_code == 200
    assert answer.get_json()["results"] == [{**movie, **VOTES} for movie in MATRIX]
    assert registered(app) == {}


def test_a_movie_is_read_from_the_registry(
    client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    """November 7 is not asked again."""
    headers = auth.headers()
    client.get(SEARCH, headers=headers)
    stand_in.reset()
    answer = client.get(f"/api/v1/movies/{MATRIX[0]['id']}/", headers=headers)
    assert (answer.status_code, answer.get_json()) == (200, {**MATRIX[0], **VOTES})
    assert stand_in.requests == []


def test_a_movie_has_its_vote_counts_and_the_callers_rating(
    client: FlaskClient, auth: Accounts
) -> None:
    mine, theirs = auth.headers(), auth.headers()
    at = f"/api/v1/movies/{MATRIX[0]['id']}/"
    vote = client.put(f"{at}rating/", json={"rating_type": "UPVOTE"}, headers=mine).get_json()
    client.put(f"{at}rating/", json={"rating_type": "DOWNVOTE"}, headers=theirs)
    my_rating = {"id": vote["id"], "rating_type": "UPVOTE"}
    votes = {"upvotes": 1, "downvotes": 1, "my_rating": my_rating}
    assert client.get(at, headers=mine).get_json() == {**MATRIX[0], **votes}


def test_reading_a_known_movie_takes_one_statement(
    client: FlaskClient, auth: Accounts, statements: list[str]
) -> None:
    headers = auth.headers()
    client.get(SEARCH, headers=headers)
    statements.clear()
    client.get(f"/api/v1/movies/{MATRIX[0]['id']}/", headers=headers)
    assert [statement.split()[0] for statement in statements] == ["SELECT"]


def test_a_movie_with_an_id_and_a_title_only_can_be_read_and_rated(
    client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    bare = {"id": str(uuid4()), "title": "Bare"}
    stand_in.catalogue = Catalogue([bare])
    at, headers = f"/api/v1/movies/{bare['id']}/", auth.headers()
    vote = client.put(f"{at}rating/", json={"rating_type": "UPVOTE"}, headers=headers)
    assert vote.get_json()["movie"] == {**bare, "image_url": None}
    movie = client.get(at, headers=headers).get_json()
    assert (movie["title"], movie["description"], movie["rating"]) == ("Bare", None, None)


def test_a_page_of_1000_movies_can_be_recorded(app: Flask) -> None:
    with app.app_context():
        movies: list[Any] = [{**MATRIX[0], "id": str(uuid4())} for _ in range(1000)]
        record(movies)
    ((count,),) = rows(app, "SELECT count(*) FROM movies")
    assert count == 1000


@pytest.mark.slow
def test_a_search_succeeds_while_its_movies_are_locked(
    app: Flask, client: FlaskClient, auth: Accounts, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not recorded then."""
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
