"""Movies that are not in the registry are looked up in November 7's catalogue."""

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
from movies.november7.sample.catalogue import sample_movies
from stand_in.catalogue import Catalogue, query_parameters
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

MOVIE = sample_movies()[-1]
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


ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ways = pytest.mark.parametrize(
    ("call", "found"), [(read, 200), (rate, 201), (vote, 201)], ids=["GET", "POST", "PUT"]
)


def skips(stand_in: StandIn) -> list[int]:
    """The `skip` of each request for a block of the catalogue."""
    targets = [query_parameters(target) for target in stand_in.requests]
    assert all("query" not in target and target["limit"] == "1000" for target in targets)
    return [int(target["skip"]) for target in targets]


def written(app: Flask) -> tuple[int, int]:
    """The number of movies and of ratings in the database."""
    counts = rows(app, "SELECT (SELECT count(*) FROM movies), (SELECT count(*) FROM ratings)")
    return counts[0][0], counts[0][1]


@ways
def test_a_movie_in_the_catalogue_can_be_read_and_rated(
    client: FlaskClient, me: Headers, call: Ask, found: int
) -> None:
    assert call(client, MOVIE["id"], me).status_code == found


@ways
def test_a_movie_that_is_not_in_the_catalogue_is_404(
    app: Flask, client: FlaskClient, me: Headers, call: Ask, found: int
) -> None:
    unknown = str(uuid4())
    answer = call(client, unknown, me)
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert answer.get_json()["detail"] == "No movie has this id."
    assert written(app) == (len(sample_movies()), 0)
    assert rows(app, f"SELECT title FROM movies WHERE CAST(id AS VARCHAR(36)) = '{unknown}'") == []


@ways
@ONE_DATABASE
@pytest.mark.parametrize(
    ("faults", "status"), [(Faults(refuse=1), 503), (Faults(hang=1), 504)], ids=["503", "504"]
)
@pytest.mark.usefixtures("no_backoff")
def test_a_failed_lookup_is_503_or_504_and_not_404(
    make_app: Callable[..., Flask],
    stand_in: StandIn,
    call: Ask,
    found: int,
    faults: Faults,
    status: int,
) -> None:
    app = make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_DEADLINE=1 if status == 504 else 30)
    client = app.test_client()
    headers = Accounts(client).headers()
    stand_in.faults = faults
    answer = call(client, str(uuid4()), headers)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert int(answer.headers["Retry-After"]) >= 1
    assert written(app) == (0, 0)


def test_many_unknown_movies_take_one_walk(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    statuses = {vote(client, str(uuid4()), me).status_code for _ in range(20)}
    assert statuses == {404}
    assert skips(stand_in) == [0]


def test_simultaneous_requests_for_unknown_movies_share_one_walk(
    app: Flask, me: Headers, stand_in: StandIn
) -> None:
    stand_in.catalogue = LARGE
    answers = at_once(
        lambda: vote(app.test_client(), str(uuid4()), me).status_code for _ in range(10)
    )
    assert answers == [404] * 10
    assert skips(stand_in) == [0, 1000, 2000]


def test_a_repeated_request_for_an_unknown_movie_takes_one_statement(
    client: FlaskClient, me: Headers, statements: list[str]
) -> None:
    read(client, str(uuid4()), me)
    statements.clear()
    assert read(client, str(uuid4()), me).status_code == 404
    assert [statement.split()[0] for statement in statements] == ["SELECT"]


def test_the_catalogue_is_walked_again_when_it_is_stale(
    client: FlaskClient, me: Headers, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    movie = {"id": str(uuid4()), "title": "New in the catalogue"}
    assert vote(client, movie["id"], me).status_code == 404
    stand_in.catalogue = Catalogue([*sample_movies(), movie])
    clock.shift(59)
    assert vote(client, movie["id"], me).status_code == 404
    clock.shift(1)
    assert vote(client, movie["id"], me).status_code == 201


@pytest.mark.usefixtures("no_backoff")
def test_an_unknown_movie_is_503_if_the_walk_is_stale_and_november_7_is_down(
    app: Flask,
    client: FlaskClient,
    me: Headers,
    stand_in: StandIn,
    clock: time_machine.Traveller,
) -> None:
    assert vote(client, str(uuid4()), me).status_code == 404
    clock.shift(60)
    stand_in.stop()
    answer = vote(client, str(uuid4()), me)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


def test_an_incomplete_walk_does_not_prove_that_a_movie_is_unknown(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    stand_in.catalogue = LARGE
    assert vote(client, LARGE.movies[0]["id"], me).status_code == 201
    assert vote(client, LARGE.movies[2499]["id"], me).status_code == 201


def test_a_movie_that_could_not_be_recorded_is_still_found(
    app: Flask, client: FlaskClient, me: Headers
) -> None:
    assert vote(client, str(uuid4()), me).status_code == 404
    with app.app_context():
        db.session.execute(delete(Movie))
        db.session.commit()
    assert vote(client, MOVIE["id"], me).status_code == 201
    assert written(app) == (1, 1)  # the movie that was voted for, and no other
    assert vote(client, str(uuid4()), me).status_code == 404


def test_a_catalogue_of_2500_movies_takes_three_requests(
    app: Flask, client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    stand_in.catalogue = LARGE
    assert vote(client, str(uuid4()), me).status_code == 404
    assert skips(stand_in) == [0, 1000, 2000]
    assert written(app) == (2500, 0)


def test_a_walk_ends_when_it_finds_the_movie(
    client: FlaskClient, me: Headers, stand_in: StandIn
) -> None:
    stand_in.catalogue = LARGE
    assert vote(client, LARGE.movies[1999]["id"], me).status_code == 201
    assert skips(stand_in) == [0, 1000]


@ONE_DATABASE
def test_a_walk_has_one_deadline(make_app: Callable[..., Flask], stand_in: StandIn) -> None:
    stand_in.catalogue = LARGE
    client = make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_DEADLINE=1).test_client()
    headers = Accounts(client).headers()
    stand_in.faults = Faults(latency=(0.4, 0.4))
    assert vote(client, str(uuid4()), headers).status_code == 504
