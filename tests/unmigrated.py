"""Databases without tables, and ratings as of an old revision."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from applications import close
from flask import Flask
from services import postgresql_database
from tables import execute

from movies import create_app
from movies.november7.sample.catalogue import sample_movies

MOVIE = sample_movies()[0]
SEEN, GONE, UNCOUNTED = uuid.UUID(MOVIE["id"]), uuid.UUID(int=1), uuid.UUID(int=2)
THEN = "2026-03-01 12:00:00+00:00"


@pytest.fixture(scope="session")
def postgresql_to_migrate() -> Iterator[str]:
    """The URL of a PostgreSQL database that each test empties for itself."""
    with postgresql_database("migrations") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def make_empty(
    request: pytest.FixtureRequest, settings: dict[str, Any], directory: Path
) -> Iterator[Callable[[], Flask]]:
    """Creates applications, each on a database without tables."""
    made: list[Flask] = []

    def make() -> Flask:
        url = f"sqlite:///{directory / f'{len(made)}.sqlite3'}"
        if request.param == "postgresql":
            url = request.getfixturevalue("postgresql_to_migrate")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
        own = {"DATABASE_URL": url, "INSTANCE_DIR": directory}
        made.append(create_app("testing", {**settings, **own}))
        return made[-1]

    yield make
    for app in made:
        close(app)


def fill() -> None:
    """Insert ratings of three users, as of revision 0002. One of them was never counted."""
    for number in (1, 2, 3):
        execute(
            "INSERT INTO users (email, email_key, first_name, last_name, password_hash, created_at)"
            " VALUES (:email, :email, '', '', 'none', :then)",
            email=f"user{number}@example.com",
            then=THEN,
        )
    ratings = [(1, SEEN, "UPVOTE"), (2, SEEN, "UPVOTE"), (3, SEEN, "DOWNVOTE")]
    ratings += [(1, GONE, "DOWNVOTE"), (1, UNCOUNTED, "UPVOTE")]
    for user_id, movie_id, rating_type in ratings:
        execute(
            "INSERT INTO ratings (user_id, movie_id, rating_type, created_at, updated_at)"
            " VALUES (:user_id, :movie_id, :rating_type, :then, :then)",
            user_id=user_id,
            movie_id=movie_id,
            rating_type=rating_type,
            then=THEN,
        )
    for movie_id, upvotes, downvotes in ((SEEN, 2, 1), (GONE, 0, 1)):
        execute(
            "INSERT INTO tallies VALUES (:movie_id, :upvotes, :downvotes)",
            movie_id=movie_id,
            upvotes=upvotes,
            downvotes=downvotes,
        )


def ratings() -> list[Any]:
    return execute("SELECT * FROM ratings ORDER BY id")
