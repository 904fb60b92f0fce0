"""Vote counts equal the number of ratings, even with concurrent votes."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import pytest
from crowd import Headers, at_once, crowd
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import delete, func, select, text, update
from tables import rows

from movies.extensions import db
from movies.movies import tallies
from movies.movies.models import Movie, Rating, RatingType
from movies.movies.registry import record
from movies.november7.sample.catalogue import sample_movies

MOVIES = [movie["id"] for movie in sample_movies()[:3]]
RATINGS = "/api/v1/movies/ratings/"
KINDS = ("UPVOTE", "DOWNVOTE")


@pytest.fixture(autouse=True)
def known(app: Flask) -> None:
    """The movies to vote on are in the registry."""
    with app.app_context():
        record(sample_movies()[: len(MOVIES)])


def put(app: Flask, headers: Headers, movie_id: str, kind: str) -> int:
    path, body = f"/api/v1/movies/{movie_id}/rating/", {"rating_type": kind}
    return app.test_client().put(path, json=body, headers=headers).status_code


def put_again(app: Flask, headers: Headers, movie_id: str, kind: str) -> int:
    """`put`, repeated while too many callers wait for the database."""
    while (status := put(app, headers, movie_id, kind)) == 503:
        sleep(0.1)
    return status


def clear(app: Flask, headers: Headers, movie_id: str) -> int:
    path = f"/api/v1/movies/{movie_id}/rating/"
    return app.test_client().delete(path, headers=headers).status_code


def post(app: Flask, headers: Headers, movie_id: str, kind: str) -> int:
    body = {"movie_id": movie_id, "rating_type": kind}
    return app.test_client().post(RATINGS, json=body, headers=headers).status_code


def patch(app: Flask, headers: Headers, kind: str) -> int:
    """Change the caller's first rating. Without one, the response is 404."""
    client = app.test_client()
    listed = client.get(RATINGS, headers=headers).get_json()["results"]
    if not listed:
        return 404
    path, body = f"{RATINGS}{listed[-1]['id']}", {"rating_type": kind}
    return client.patch(path, json=body, headers=headers).status_code


def tally(app: Flask, movie_id: str = MOVIES[0]) -> tuple[int, int]:
    """The upvotes and downvotes in a movie's tally."""
    with app.app_context():
        movie = db.session.get_one(Movie, UUID(movie_id))
        return movie.upvotes, movie.downvotes


def counted(app: Flask, movie_id: str = MOVIES[0]) -> tuple[int, int]:
    """The upvotes and downvotes among a movie's ratings."""
    statement = select(func.count()).where(Rating.movie_id == UUID(movie_id))
    with app.app_context():
        ups, downs = (
            db.session.scalar(statement.where(Rating.rating_type == kind)) for kind in RatingType
        )
        return ups or 0, downs or 0


def wrong(app: Flask) -> int:
    with app.app_context():
        return tallies.count_wrong_movies()


def corrupt(app: Flask, **values: Any) -> None:
    """Give a movie wrong vote counts."""
    with app.app_context():
        db.session.execute(update(Movie).where(Movie.id == UUID(MOVIES[0])).values(**values))
        db.session.commit()


def waits() -> bool:
    """Whether a session waits for a lock in this PostgreSQL database."""
    statement = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with db.engine.connect() as connection:
        return bool(connection.execute(text(statement)).all())


@pytest.mark.slow
def test_200_concurrent_votes_are_each_counted_once(app: Flask) -> None:
    votes = [KINDS[n % 4 == 0] for n in range(200)]
    statuses = at_once(
        partial(put_again, app, headers, MOVIES[0], kind)
        for headers, kind in zip(crowd(app, 200), votes, strict=True)
    )
    assert Counter(statuses) == {201: 200}
    assert counted(app) == tally(app) == (150, 50)
    assert wrong(app) == 0


@pytest.mark.slow
def test_concurrent_votes_of_few_users_leave_correct_tallies(app: Flask) -> None:
    """Votes are set, created, changed and cleared at the same time."""
    dice = random.Random(7)
    voters = crowd(app, 4)

    def calls(headers: Headers) -> list[Callable[[], int]]:
        made: list[Callable[[], int]] = []
        for _ in range(12):
            movie_id, kind = dice.choice(MOVIES), dice.choice(KINDS)
            made += [
                partial(put, app, headers, movie_id, kind),
                partial(clear, app, headers, movie_id),
                partial(post, app, headers, movie_id, kind),
                partial(patch, app, headers, kind),
            ]
        return dice.sample(made, 12)

    statuses = at_once(call for headers in voters for call in calls(headers))
    assert set(statuses) <= {200, 201, 204, 404, 409}
    assert [tally(app, movie_id) for movie_id in MOVIES] == [
        counted(app, movie_id) for movie_id in MOVIES
    ]
    assert wrong(app) == 0


def test_one_of_many_simultaneous_ratings_of_a_user_succeeds(app: Flask) -> None:
    (headers,) = crowd(app, 1)
    statuses = at_once(partial(post, app, headers, MOVIES[0], KINDS[n % 2]) for n in range(10))
    assert Counter(statuses) == {201: 1, 409: 9}
    assert sum(tally(app)) == 1
    assert wrong(app) == 0


def test_one_of_many_simultaneous_votes_of_a_user_is_new(app: Flask) -> None:
    (headers,) = crowd(app, 1)
    statuses = at_once(partial(put, app, headers, MOVIES[0], KINDS[n % 2]) for n in range(10))
    assert Counter(statuses) == {201: 1, 200: 9}
    assert sum(tally(app)) == 1
    assert wrong(app) == 0


def test_accounts_that_are_deleted_while_voting_leave_no_vote(app: Flask) -> None:
    staying, *going = crowd(app, 11)
    for headers in going[:5]:
        assert put(app, headers, MOVIES[1], "UPVOTE") == 201

    def leave(headers: Headers) -> int:
        return app.test_client().delete("/api/v1/users/me/", headers=headers).status_code

    def until_done(request: Callable[[], int]) -> int:
        for _ in range(5):  # on a busy machine, the database may be too busy
            if (status := request()) != 503:
                break
        return status

    requests = [
        *(partial(leave, headers) for headers in going),
        *(partial(put, app, headers, movie, "UPVOTE") for headers in going for movie in MOVIES),
        *(partial(put, app, staying, movie, "DOWNVOTE") for movie in MOVIES),
    ]
    statuses = at_once(partial(until_done, request) for request in requests)
    assert statuses[:10] == [204] * 10
    assert set(statuses[10:40]) <= {200, 201, 401}
    assert statuses[40:] == [201] * 3
    assert [tally(app, movie_id) for movie_id in MOVIES] == [(0, 1)] * 3
    assert wrong(app) == 0


def test_deleting_an_account_removes_its_votes(app: Flask) -> None:
    one, other = crowd(app, 2)
    for headers in (one, other):
        for movie_id in MOVIES:
            put(app, headers, movie_id, "UPVOTE")
    assert app.test_client().delete("/api/v1/users/me/", headers=one).status_code == 204
    assert [tally(app, movie_id) for movie_id in MOVIES] == [(1, 0)] * 3
    assert wrong(app) == 0


@pytest.mark.parametrize("values", [{"upvotes": 2}, {"downvotes": 1}, {"score": 0.5}])
def test_a_wrong_tally_is_found_and_corrected(app: Flask, values: dict[str, Any]) -> None:
    (headers,) = crowd(app, 1)
    put(app, headers, MOVIES[0], "UPVOTE")
    (right,) = rows(app, "SELECT max(score) FROM movies")
    corrupt(app, **values)
    assert wrong(app) == 1
    with app.app_context():
        assert tallies.rebuild() == len(MOVIES)
    assert (wrong(app), tally(app)) == (0, (1, 0))
    assert rows(app, "SELECT max(score) FROM movies") == [right]


def test_a_rebuild_counts_every_movie(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "BATCH", 7)
    with app.app_context():
        record(sample_movies())
        db.session.execute(update(Movie).values(upvotes=3))
        db.session.commit()
        assert tallies.count_wrong_movies() == 104
        assert tallies.rebuild() == 104
        assert tallies.count_wrong_movies() == 0


def test_tallies_can_be_rebuilt_while_votes_are_cast(app: Flask) -> None:
    corrupt(app, upvotes=1000)

    def rebuild() -> int:
        with app.app_context():
            return tallies.rebuild()

    votes = [
        partial(put, app, headers, movie_id, "UPVOTE")
        for headers in crowd(app, 12)
        for movie_id in MOVIES
    ]
    results = at_once([*votes[:18], rebuild, *votes[18:], rebuild])
    assert Counter(results) == {201: 36, 3: 2}
    assert [tally(app, movie_id) for movie_id in MOVIES] == [(12, 0)] * 3
    assert wrong(app) == 0


def test_a_rebuild_waits_for_an_uncommitted_vote(app: Flask) -> None:
    (headers,) = crowd(app, 1)
    assert put(app, headers, MOVIES[0], "UPVOTE") == 201

    def rebuild() -> int:
        with app.app_context():
            return tallies.rebuild()

    with app.app_context(), ThreadPoolExecutor() as pool:
        db.session.execute(delete(Rating))
        tallies.add_votes([UUID(MOVIES[0])], RatingType.UPVOTE, by=-1)
        rebuilt = pool.submit(rebuild)
        until = monotonic() + 30
        while db.engine.name == "postgresql" and monotonic() < until and not waits():
            pass
        db.session.commit()
        assert rebuilt.result(5) == len(MOVIES)
    assert (wrong(app), tally(app)) == (0, (0, 0))


def test_ratings_check_exits_with_1_if_a_tally_is_wrong(app: Flask, runner: FlaskCliRunner) -> None:
    good = runner.invoke(args=["ratings", "check"])
    assert (good.exit_code, good.stdout) == (0, "all vote counts match the ratings\n")
    corrupt(app, upvotes=2)
    bad = runner.invoke(args=["ratings", "check"])
    assert bad.exit_code == 1
    assert (
        bad.stderr == "Error: the vote counts of 1 movie are wrong; run `flask ratings rebuild`\n"
    )


def test_ratings_rebuild_corrects_what_check_finds(app: Flask, runner: FlaskCliRunner) -> None:
    corrupt(app, upvotes=2)
    rebuilt = runner.invoke(args=["ratings", "rebuild"])
    assert (rebuilt.exit_code, rebuilt.stdout) == (0, "3 movies recounted\n")
    assert runner.invoke(args=["ratings", "check"]).exit_code == 0
