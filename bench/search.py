"""A warm search against a bare Flask route that verifies the same token; statements a search."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, jsonify
from flask_jwt_extended import JWTManager, jwt_required
from sqlalchemy import event
from werkzeug.test import EnvironBuilder, run_wsgi_app

from bench.common import application, seconds, signed_in
from movies.extensions import db

ROUNDS = 15
CALLS = 200
SEARCH = ("/api/v1/movies/", "query=e")


def run(directory: Path) -> None:
    """Print the share of a bare route's speed that a warm search has, and its statements."""
    app = application(directory)
    headers = signed_in(app)
    search = caller(app, *SEARCH, headers)
    search()
    bare = caller(bare_app(app), "/bare", "", headers)
    bare()
    ratios = []
    for _ in range(ROUNDS):
        ratios.append(seconds(bare, CALLS) / seconds(search, CALLS))
    print(f"  speed against the bare route: {statistics.median(ratios):.2f}", end=" ")
    print(f"(from {min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds)")
    statements = []
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    search()  # which may look up the sign-in anew
    statements.clear()
    search()
    print(f"  statements of a warm search: {len(statements)}")


def bare_app(like: Flask) -> Flask:
    """A route that verifies the same token and answers ten constant movies, and no more."""
    app = Flask("bare")
    for name, value in like.config.items():
        if name.startswith("JWT_"):
            app.config[name] = value
    manager = JWTManager(app)
    manager.decode_key_loader(lambda _headers, _claims: like.config["JWT_SECRET_KEY"])
    movie = {
        "id": "3f0e5a52-5d0c-4f6f-9d0b-3c6d7f1f2a10",
        "title": "The Matrix",
        "description": "A programmer learns that the world he knows is a simulation." * 2,
        "image_url": "https://images.november7.example/the-matrix.jpg",
        "rating": 8.7,
        "upvotes": 0,
        "downvotes": 0,
        "my_rating": None,
    }

    @app.get("/bare")
    @jwt_required()
    def bare() -> Any:
        return jsonify(count=10, next=None, previous=None, results=[movie] * 10)

    return app


def caller(app: Flask, path: str, query: str, headers: dict[str, str]) -> Callable[[], None]:
    """A call of the WSGI application with a request for `path`, which must succeed."""
    environment = EnvironBuilder(
        path=path, query_string=query, headers=list(headers.items())
    ).get_environ()

    def call() -> None:
        _body, status, _headers = run_wsgi_app(app, environment)
        assert status == "200 OK", status

    return call
