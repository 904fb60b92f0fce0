"""Fills the databases of measured applications with accounts, movies and ratings."""

import random
import uuid
from typing import Any

import requests
from sqlalchemy import Engine, create_engine, text

PASSWORD = "lovelace-and-babbage"
MOVIE = {
    "id": "22e4b44f-b5cb-4c7c-bf75-53ff10ca7a84",
    "title": "The Matrix",
    "description": "A programmer learns that the world he knows is a simulation. " * 2,
    "image_url": "https://images.november7.example/the-matrix.jpg",
    "rating": 8.7,
    "upvotes": 0,
    "downvotes": 0,
    "my_rating": None,
}
SAMPLE_PAGE = {"count": 10, "next": None, "previous": None, "results": [MOVIE] * 10}


def sign_in_users(api: str, count: int) -> list[str]:
    """The access tokens of `count` new users of the API at `api`.

    It trusts one proxy: each address may register and sign in 60 users a minute.
    """
    tokens = []
    with requests.Session() as session:
        session.trust_env = False
        for number in range(count):
            account = {"email": f"bench-{number}@example.com", "password": PASSWORD}
            session.headers["X-Forwarded-For"] = f"192.0.2.{number // 50}"
            session.post(f"{api}/users/register/", json=account).raise_for_status()
            answer = session.post(f"{api}/auth/token/", json=account)
            answer.raise_for_status()
            tokens.append(answer.json()["access"])
    return tokens


def movie_ids(count: int, seed: int = 7) -> list[uuid.UUID]:
    """The ids of the first `count` movies of a sequence that is always the same."""
    dice = random.Random(seed)
    return [uuid.UUID(int=dice.getrandbits(128), version=4) for _ in range(count)]


def add_movies(url: str, ids: list[uuid.UUID]) -> None:
    """Insert movies as if November 7 had sent them."""
    rows = [{"id": _bind(url, movie), "title": f"Movie {movie}"} for movie in ids]
    _write(
        url,
        "INSERT INTO movies (id, title, first_seen, last_seen) "
        "VALUES (:id, :title, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP) ON CONFLICT DO NOTHING",
        rows,
    )


def add_ratings(url: str, ids: list[uuid.UUID]) -> None:
    """Insert ten upvotes of each movie, by users who have a hundred ratings each.

    `ids`: a multiple of a hundred. The users have the ids from 1; missing ones are inserted.
    """
    _write(
        url,
        "INSERT INTO users (id, email, email_key, first_name, last_name, password_hash, created_at)"
        " VALUES (:id, :email, :email, '', '', '', CURRENT_TIMESTAMP) ON CONFLICT DO NOTHING",
        [{"id": number, "email": f"voter-{number}"} for number in range(1, len(ids) // 10 + 1)],
    )
    rows = [
        {"user": index // 100 * 10 + voter, "movie": _bind(url, movie)}
        for index, movie in enumerate(ids)
        for voter in range(1, 11)
    ]
    _write(
        url,
        "INSERT INTO ratings (user_id, movie_id, rating_type, created_at, updated_at)"
        " VALUES (:user, :movie, 'UPVOTE', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
        " ON CONFLICT DO NOTHING",
        rows,
    )


def engine_of(url: str) -> Engine:
    """An engine for the database at `url`."""
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def _write(url: str, statement: str, rows: list[dict[str, Any]]) -> None:
    engine = engine_of(url)
    for start in range(0, len(rows), 10_000):
        with engine.begin() as connection:
            connection.execute(text(statement), rows[start : start + 10_000])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "postgresql":  # no site changes 10,000 movies in a transaction
            connection.execute(text("VACUUM FULL voted_movies"))
        connection.execute(text("ANALYZE"))
    engine.dispose()


def _bind(url: str, movie: uuid.UUID) -> Any:
    """An id as the database's driver takes it; SQLite keeps it as 32 hexadecimal digits."""
    return movie.hex if url.startswith("sqlite") else movie
