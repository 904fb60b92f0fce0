"""A movie that we haven't met is looked up in November 7's catalogue before we say so."""

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
import time_machine
from accounts import Accounts
from crowd import at_once
from flask import Flask
from flask.testing import FlaskClient
from helpers import THEN
from sqlalchemy import delete
from tables import rows
from werkzeug.test import TestResponse

from movies.extensions import db
from movies.movies.models import Movie
from movies.november7.sample.catalogue import Catalogue, asked, sample_catalogue
from stand_in.server import Faults, StandIn

MOVIE = sample_catalogue().movies[-1]
LARGE = Catalogue([{"id": str(UUID(int=n + 1)), "title": f"Film {n}"} for n in range(2500)])

Headers = dict[str, str]
Ask = Callable[..., TestResponse]


@pytest.fixture
def app(make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    return make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_TTL=60, NOVEMBER7_DEADLINE=30.0)


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    """The time of day, which stands still at THEN until it is moved."""
    with time_machine.travel(THEN, tick=False) as clock:
        yield clock


@pytest.fixture
def me(clock: time_machine.Traveller, auth: Accounts) -> Headers:
    """The request headers of an account."""
    return auth.headers()


def read(client: FlaskClient, movie_id: str, headers: Headers) -> TestResponse:
    return client.get(f"/api/v1/movies/{movie_id}/", headers=headers)


def rate(client: FlaskClient, movie_id: str, headers: Headers) -> TestResponse:
    body = {"movie_id": movie_id, "rating_type": "UPVOTE"}
    return client.post("/api/v1/movies/ratings/", json=body, headers=headers)


def vote(client: FlaskClient, movie_id: str, headers: Headers) -> TestResponse:
    path = f"/api/v1/movies/{movie_id}/rating/"
    return client.put(path, json={"rating_type": "UPVOTE"}, headers=headers)


ways = pytest.mark.parametrize(
    ("call", "found"), [(read, 200), (rate, 201), (vote, 201)], ids=["GET", "POST", "PUT"]
)


def skips(stand_in: StandIn) -> list[int]:
    """From where on each request asked for movies, all of them for the whole catalogue."""
    targets = [asked(target) for target in stand_in.requests]
    assert all("query" not in target and target["limit"] == "1000" for target in targets)
    return [int(target["skip"]) for target in targets]


def written(app: Flask) -> tuple[int, int]:
    """How many movies and ratings there are."""
    counts = rows(app, "SELECT (SELECT count(*) FROM movies), (SELECT count(*) FROM ratings)")
    return counts[0][0], counts[0][1]


@ways
def test_a_movie_of_the_catalogue_is_found(
    client: FlaskClient, me: Headers, call: Ask, found: int
) -> None:
    """A movie that nobody has searched for is looked up, read and voted on like any other."""
    assert call(client, MOVIE["id"], me).status_code == found


@ways
def test_a_movie_that_is_not_there_is_404(
    app: Flask, client: FlaskClient, me: Headers, call: Ask, found: int
) -> None:
    """What the catalogue doesn't hold is 404, and gets neither a movie nor a rating."""
    unknown = str(uuid4())
    answer = call(client, unknown, me)
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert answer.get_json()["detail"] == "No movie has this id."
    assert written(app) == (len(sample_catalogue().movies), 0)
    assert rows(app, f"SELECT title FROM movies WHERE CAST(id AS VARCHAR(36)) = '{unknown}'") == []


@ways
@pytest.mark.parametrize(
    ("faults", "status"), [(Faults(refuse=1), 503), (Faults(hang=1), 504)], ids=["503", "504"]
)
@pytest.mark.usefixtures("no_backoff")
def test_what_can_not_be_looked_up_is_not_denied(
    make_app: Callable[..., Flask],
    stand_in: StandIn,
    call: Ask,
    found: int,
    faults: Faults,
    status: int,
) -> None:
    """While the catalogue can't be had, a problem says when to come back; nothing is written."""
    app = make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_DEADLINE=1 if status == 504 else 30)
    client = app.test_client()
    headers = Accounts(client).headers()
    stand_in.faults = faults
    answer = call(client, str(uuid4()), headers)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert int(answer.headers["Retry-After"]) >= 1
    assert written(app) == (0, 0)


def test_many_unknown_movies_cost_one_walk(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    """Once the whole catalogue has been seen, ids that it lacks cost no further request."""
    statuses = {vote(client, str(uuid4()), me).status_code for _ in range(20)}
    assert statuses == {404}
    assert skips(stand_in) == [0]


def test_many_unknown_movies_at_once_cost_one_walk(
    app: Flask, me: Headers, stand_in: StandIn
) -> None:
    """Clients that invent ids at the same moment share the requests of one walk."""
    stand_in.catalogue = LARGE
    answers = at_once(
        lambda: vote(app.test_client(), str(uuid4()), me).status_code for _ in range(10)
    )
    assert answers == [404] * 10
    assert skips(stand_in) == [0, 1000, 2000]


def test_an_id_that_is_known_to_be_unknown_costs_one_statement(
    client: FlaskClient, me: Headers, statements: list[str]
) -> None:
    read(client, str(uuid4()), me)
    statements.clear()
    assert read(client, str(uuid4()), me).status_code == 404
    assert [statement.split()[0] for statement in statements] == ["SELECT"]


def test_only_fresh_evidence_says_404(
    client: FlaskClient, me: Headers, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Once what a walk has seen isn't fresh any more, the catalogue is walked anew."""
    movie = {"id": str(uuid4()), "title": "New in the catalogue"}
    assert vote(client, movie["id"], me).status_code == 404
    stand_in.catalogue = Catalogue([*sample_catalogue().movies, movie])
    clock.shift(59)
    assert vote(client, movie["id"], me).status_code == 404
    clock.shift(1)
    assert vote(client, movie["id"], me).status_code == 201


def test_stale_evidence_does_not_say_404(
    app: Flask,
    client: FlaskClient,
    me: Headers,
    stand_in: StandIn,
    clock: time_machine.Traveller,
) -> None:
    """With November 7 down and a stale walk, an unknown id is 503: it may be there by now."""
    assert vote(client, str(uuid4()), me).status_code == 404
    clock.shift(60)
    stand_in.stop()
    app.extensions["november7"].deadline = 0.3
    answer = vote(client, str(uuid4()), me)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


def test_a_walk_that_broke_off_is_no_evidence(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    """A walk that ended where it found its movie says nothing about the pages behind."""
    stand_in.catalogue = LARGE
    assert vote(client, LARGE.movies[0]["id"], me).status_code == 201
    assert vote(client, LARGE.movies[2499]["id"], me).status_code == 201


def test_a_movie_that_was_not_remembered_is_still_found(
    app: Flask, client: FlaskClient, me: Headers
) -> None:
    """A walk that the registry missed is no evidence against the movies that it met."""
    assert vote(client, str(uuid4()), me).status_code == 404
    with app.app_context():
        db.session.execute(delete(Movie))
        db.session.commit()
    assert vote(client, MOVIE["id"], me).status_code == 201
    assert written(app) == (1, 1)  # the movie that was voted for, and no other
    assert vote(client, str(uuid4()), me).status_code == 404


def test_a_large_catalogue_is_walked_in_pages(
    app: Flask, client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    """A catalogue of 2,500 movies is asked for in three requests, and all of it remembered."""
    stand_in.catalogue = LARGE
    assert vote(client, str(uuid4()), me).status_code == 404
    assert skips(stand_in) == [0, 1000, 2000]
    assert written(app) == (2500, 0)


def test_a_walk_ends_where_it_finds_the_movie(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    """No more is asked than is needed: the pages behind the movie's are left alone."""
    stand_in.catalogue = LARGE
    assert vote(client, LARGE.movies[1999]["id"], me).status_code == 201
    assert skips(stand_in) == [0, 1000]


def test_a_walk_has_one_deadline(make_app: Callable[..., Flask], stand_in: StandIn) -> None:
    """A catalogue that takes longer than the deadline in all is 504, though each page is had."""
    stand_in.catalogue = LARGE
    client = make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_DEADLINE=0.6).test_client()
    headers = Accounts(client).headers()
    stand_in.faults = Faults(latency=(0.25, 0.25))
    assert vote(client, str(uuid4()), headers).status_code == 504
