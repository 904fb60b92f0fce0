"""The cost of each endpoint when it is used often: SQL statements and commands to Redis.

Times depend on the machine, counts do not. A request that does more work than this is noticed here.
"""

from collections.abc import Callable
from typing import Any

import pytest
from accounts import PASSWORD, Accounts
from cachetools import TTLCache
from flask import Flask
from flask.testing import FlaskClient
from helpers import eventually
from redis import Redis
from redis.connection import Connection

from movies.auth import tokens

ADA = "ada@example.com"
OTHER = "22e4b44f-b5cb-4c7c-bf75-53ff10ca7a84"
DOWNVOTE = {"rating_type": "DOWNVOTE"}
REGISTERED = {"email": "eve@example.com", "password": PASSWORD}
CHANGED = {"current_password": PASSWORD, "new_password": "notes on the analytical engine"}

# By endpoint: method, path, body, and the most statements that PostgreSQL and SQLite are sent.
COSTS: dict[str, tuple[str, str, Any, int, int]] = {
    "movies.search_movies": ("GET", "/movies/?query=inception", None, 1, 1),
    "movies.list_top_movies": ("GET", "/movies/top/", None, 1, 1),
    "movies.get_movie": ("GET", "/movies/{movie}/", None, 1, 1),
    "movies.get_my_rating": ("GET", "/movies/{movie}/rating/", None, 1, 1),
    "movies.set_my_rating": ("PUT", "/movies/{movie}/rating/", DOWNVOTE, 1, 3),
    "movies.clear_my_rating": ("DELETE", "/movies/{movie}/rating/", None, 1, 2),
    "movies.create_rating": ("POST", "/movies/ratings/", {"movie_id": OTHER, **DOWNVOTE}, 1, 3),
    "movies.list_ratings": ("GET", "/movies/ratings/", None, 1, 1),
    "movies.get_rating": ("GET", "/movies/ratings/{rating}", None, 1, 1),
    "movies.replace_rating": ("PUT", "/movies/ratings/{rating}", DOWNVOTE, 1, 3),
    "movies.update_rating": ("PATCH", "/movies/ratings/{rating}", DOWNVOTE, 1, 3),
    "movies.delete_rating": ("DELETE", "/movies/ratings/{rating}", None, 1, 2),
    "users.register": ("POST", "/users/register/", REGISTERED, 3, 3),
    "users.get_me": ("GET", "/users/me/", None, 1, 1),
    "users.update_me": ("PATCH", "/users/me/", {"first_name": "Augusta"}, 1, 1),
    "users.change_password": ("POST", "/users/me/password/", CHANGED, 3, 3),
    "users.delete_me": ("DELETE", "/users/me/", None, 6, 6),
    "auth.sign_in": ("POST", "/auth/token/", {"email": ADA, "password": PASSWORD}, 3, 3),
    "auth.refresh_token": ("POST", "/auth/refresh/", "refresh", 1, 1),
    "auth.verify_token": ("POST", "/auth/verify/", "token", 1, 1),
    "auth.sign_out": ("POST", "/auth/logout/", "refresh", 2, 2),
}


@pytest.fixture
def app(make_app: Callable[..., Flask], redis: Redis, redis_url: str) -> Flask:
    """An application with rate limits and all shared stores."""
    return make_app(REDIS_URL=redis_url, RATELIMIT_ENABLED=True)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The round trips to Redis."""
    sent: list[Any] = []
    send = Connection.send_packed_command

    def count(self: Connection, *args: Any, **options: Any) -> None:
        sent.append(args)
        send(self, *args, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Connection, "send_packed_command", count)
    return sent


def test_every_endpoint_is_counted(app: Flask) -> None:
    assert COSTS.keys() == {
        endpoint for endpoint, view in app.view_functions.items() if hasattr(view, "access")
    }


@pytest.mark.parametrize("endpoint", COSTS)
def test_an_endpoint_costs_no_more_than_this(
    app: Flask,
    client: FlaskClient,
    auth: Accounts,
    statements: list[str],
    commands: list[Any],
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: str,
) -> None:
    """The caller's token was seen a moment ago, and so was the search."""
    monkeypatch.setattr(tokens, "_valid", TTLCache(100, ttl=3600))
    method, path, body, on_postgresql, on_sqlite = COSTS[endpoint]
    auth.register(ADA)
    signed_in = auth.sign_in(ADA)
    headers = {"Authorization": f"Bearer {signed_in['access']}"}
    found = client.get("/api/v1/movies/", headers=headers).get_json()["results"]
    movie = next(movie["id"] for movie in found if movie["id"] != OTHER)
    client.get("/api/v1/movies/?query=inception", headers=headers)
    rated = client.put(
        f"/api/v1/movies/{movie}/rating/", json={"rating_type": "UPVOTE"}, headers=headers
    )
    path = f"/api/v1{path}".format(movie=movie, rating=rated.get_json()["id"])
    if isinstance(body, str):
        body = {body: signed_in["refresh"]}
    assert eventually(lambda: not redis.keys("*-flight:*"))  # released after the response
    statements.clear()
    commands.clear()
    answer = client.open(path, method=method, json=body, headers=headers)
    assert answer.status_code < 300, answer.text
    is_sqlite = app.config["SQLALCHEMY_DATABASE_URI"].get_backend_name() == "sqlite"
    assert len(statements) == (on_sqlite if is_sqlite else on_postgresql), statements
    round_trips = 1 + (endpoint == "movies.search_movies")  # the page may have left memory
    assert len(commands) <= round_trips, commands
