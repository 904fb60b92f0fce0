"""The list of the best-rated movies, and their score."""

import math
from collections.abc import Callable
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import RawCursor
from sqlalchemy import Integer, bindparam, cast, insert, select, text, update

from movies.extensions import db
from movies.movies.models import Movie
from movies.movies.tallies import lower_bound

TOP = "/api/v1/movies/top/"
Z = 1.959963984540054

Votes = tuple[int, int]

counts = st.integers(0, 1000) | st.integers(0, 10**9)
pairs = st.tuples(counts, counts)
each_time = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
score_of = select(lower_bound(cast(bindparam("ups"), Integer), cast(bindparam("downs"), Integer)))


@pytest.fixture
def me(auth: Accounts) -> dict[str, str]:
    """The request headers of an account."""
    return auth.headers()


def wilson(ups: int, downs: int) -> float:
    """The lower bound by Wilson's formula."""
    n = ups + downs
    if not n:
        return 0.0
    share = ups / n
    middle = share + Z * Z / (2 * n)
    margin = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return (middle - margin) / (1 + Z * Z / n)


def add(app: Flask, votes: list[Votes], title: str | None = "Film") -> list[str]:
    """The ids of new movies that have these votes, in order."""
    made = [
        {"id": uuid4(), "title": title, "upvotes": ups, "downvotes": downs} for ups, downs in votes
    ]
    with app.app_context():
        db.session.execute(insert(Movie), made)
        db.session.execute(update(Movie).values(score=lower_bound(Movie.upvotes, Movie.downvotes)))
        db.session.commit()
    return [str(movie["id"]) for movie in made]


def listed(client: FlaskClient, headers: dict[str, str], **wanted: int) -> list[Any]:
    """The movies on a page of the list."""
    answer = client.get(TOP, query_string=wanted, headers=headers)
    assert answer.status_code == 200, answer.text
    movies: list[Any] = answer.get_json()["results"]
    return movies


@each_time
@given(votes=pairs)
def test_the_score_is_the_wilson_lower_bound(app: Flask, votes: Votes) -> None:
    with app.app_context():
        score = db.session.scalar(score_of, {"ups": votes[0], "downs": votes[1]})
    assert score is not None
    assert score == pytest.approx(wilson(*votes), rel=1e-9, abs=1e-9)
    assert 0 <= score < 1


@each_time
@given(downs=counts)
def test_the_score_without_upvotes_is_exactly_0(app: Flask, downs: int) -> None:
    with app.app_context():
        assert db.session.scalar(score_of, {"ups": 0, "downs": downs}) == 0.0


@each_time
@given(votes=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=100))
def test_equal_scores_have_a_fixed_order(
    app: Flask, client: FlaskClient, me: dict[str, str], votes: list[Votes]
) -> None:
    """By score, descending, then by upvotes, descending, then by id."""
    with app.app_context():
        db.session.execute(text("DELETE FROM movies"))
        db.session.commit()
    ids = dict(zip(add(app, votes), votes, strict=True))
    found = listed(client, me, page_size=100)
    assert sorted(movie["id"] for movie in found) == sorted(
        movie_id for movie_id, (ups, downs) in ids.items() if ups + downs
    )
    ranks = [
        (-round(wilson(*ids[movie["id"]]), 12), -movie["upvotes"], movie["id"]) for movie in found
    ]
    assert ranks == sorted(ranks)


def test_ties_are_ordered_by_upvotes_and_then_by_id(
    app: Flask, client: FlaskClient, auth: Accounts
) -> None:
    first = sorted(add(app, [(3, 1)] * 5))
    last = sorted(add(app, [(0, 1), (0, 9), (0, 1), (0, 2)]))
    assert [movie["id"] for movie in listed(client, auth.headers())] == first + last


def test_many_good_votes_rank_higher_than_one(
    app: Flask, client: FlaskClient, auth: Accounts
) -> None:
    single, many, bad = add(app, [(1, 0), (90, 10), (90, 110)])
    found = [movie["id"] for movie in listed(client, auth.headers())]
    assert found == [many, bad, single]


def test_only_movies_with_votes_are_listed(app: Flask, client: FlaskClient, auth: Accounts) -> None:
    """Movies without a title are not listed either."""
    (voted, _unvoted) = add(app, [(1, 0), (0, 0)])
    add(app, [(5, 0)], title=None)
    assert [movie["id"] for movie in listed(client, auth.headers())] == [voted]


def test_a_movie_leaves_the_list_with_its_last_vote(client: FlaskClient, auth: Accounts) -> None:
    headers = auth.headers()
    found = client.get("/api/v1/movies/?query=fargo", headers=headers).get_json()["results"][0]
    at = f"/api/v1/movies/{found['id']}/rating/"
    vote = client.put(at, json={"rating_type": "UPVOTE"}, headers=headers).get_json()
    my_rating = {"id": vote["id"], "rating_type": "UPVOTE"}
    assert listed(client, headers) == [{**found, "upvotes": 1, "my_rating": my_rating}]
    client.delete(at, headers=headers)
    assert listed(client, headers) == []


def test_the_list_is_paginated(app: Flask, client: FlaskClient, auth: Accounts) -> None:
    headers = auth.headers()
    assert client.get(TOP, headers=headers).get_json()["count"] == 0
    ids = add(app, [(ups, 0) for ups in range(5, 0, -1)])
    pages = [
        client.get(f"{TOP}?page_size=2&page={page}", headers=headers).get_json()
        for page in (1, 2, 3)
    ]
    assert [movie["id"] for page in pages for movie in page["results"]] == ids
    assert {page["count"] for page in pages} == {5}
    assert pages[0]["next"] == f"http://localhost{TOP}?page_size=2&page=2"
    assert (pages[0]["previous"], pages[2]["next"]) == (None, None)
    assert client.get(f"{TOP}?page_size=2&page=4", headers=headers).status_code == 404


@pytest.mark.parametrize("size", [1, 100])
def test_a_page_takes_one_statement(
    app: Flask, client: FlaskClient, auth: Accounts, statements: list[str], size: int
) -> None:
    add(app, [(n, 1) for n in range(100)])
    headers = auth.headers()
    client.get(TOP, headers=headers)
    statements.clear()
    assert len(listed(client, headers, page_size=size)) == size
    assert len(statements) == 1


def test_the_list_is_read_from_its_index(
    app: Flask,
    client: FlaskClient,
    auth: Accounts,
    before_statement: Callable[[Callable[[str, Any], None]], None],
) -> None:
    """Only the movies of the page may be sorted, after they were read in order."""
    add(app, [(n % 37, n % 11) for n in range(2000)])
    headers = auth.headers()
    run: list[tuple[str, Any]] = []
    with app.app_context():
        db.session.execute(text("ANALYZE"))
        db.session.commit()
        before_statement(lambda *statement: run.append(statement))
        client.get(f"{TOP}?page=3", headers=headers)
        statement, parameters = run[-1]
        assert "ORDER BY movies.score DESC" in statement
        with closing(db.engine.raw_connection()) as pooled:
            driver: Any = pooled.driver_connection
            if db.engine.name == "sqlite":
                found = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                page = next(row[0] for row in found if row[-1] == "CO-ROUTINE page")
                plan = [row[-1] for row in found if row[1] == page]
            else:
                values = [value.decode() for value in parameters]
                found = RawCursor(driver).execute(f"EXPLAIN {statement}", values).fetchall()
                lines = [row[0].strip() for row in found]
                page = next(index for index, line in enumerate(lines) if "Limit" in line)
                plan = lines[page + 1 :]
    assert "ix_movies_best_voted" in plan[0]
    assert not any("Sort" in step or "TEMP B-TREE" in step for step in plan)
