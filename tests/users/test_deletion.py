"""Deleting accounts that have more ratings than one transaction deletes."""

from collections.abc import Callable

import pytest
from accounts import PASSWORD, Accounts
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from tables import rows

from movies.movies import tallies
from movies.november7.sample.catalogue import sample_movies

ME = "/api/v1/users/me/"
ADA = "ada@example.com"
MOVIES = [movie["id"] for movie in sample_movies()[:5]]


@pytest.fixture
def headers(client: FlaskClient, auth: Accounts, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The request headers of Ada, whose ratings are deleted in three batches."""
    monkeypatch.setattr(tallies, "BATCH", 2)
    headers, other = auth.headers(ADA), auth.headers("eve@example.com")
    client.get("/api/v1/movies/", query_string={"query": "the"}, headers=headers)
    for movie_id in MOVIES:
        for voter in (headers, other):
            path = f"/api/v1/movies/{movie_id}/rating/"
            body = {"rating_type": "UPVOTE"}
            assert client.put(path, json=body, headers=voter).status_code == 201
    return headers


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have the deletion of ratings fail after so many batches."""
    delete_batch: Callable[[int], int] = tallies.remove_ratings
    batches = iter(range(after))

    def fail_later(user_id: int) -> int:
        next(batches)  # raises when there are no more
        return delete_batch(user_id)

    monkeypatch.setattr(tallies, "remove_ratings", fail_later)


def miscounts(app: Flask) -> tuple[int, int]:
    with app.app_context():
        return tallies.count_wrong_movies(), tallies.total_error()


def test_a_large_account_is_deleted_with_all_its_ratings(
    app: Flask, client: FlaskClient, headers: dict[str, str]
) -> None:
    assert client.delete(ME, headers=headers).status_code == 204
    assert rows(app, "SELECT email FROM users") == [("eve@example.com",)]
    assert rows(app, "SELECT count(*) FROM ratings") == [(5,)]
    assert rows(app, "SELECT DISTINCT upvotes, downvotes FROM movies WHERE upvotes > 0") == [(1, 0)]
    assert miscounts(app) == (0, 0)


def test_an_interrupted_deletion_has_closed_the_account(
    app: Flask,
    client: FlaskClient,
    auth: Accounts,
    headers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tokens are revoked, the address is free, personal data is gone, and tallies are correct."""
    interrupt(monkeypatch, after=1)
    assert client.delete(ME, headers=headers).status_code == 500
    assert client.get(ME, headers=headers).status_code == 401
    sign_in = {"email": ADA, "password": PASSWORD}
    assert client.post("/api/v1/auth/token/", json=sign_in).status_code == 401
    assert rows(app, "SELECT email, first_name, password_hash FROM users WHERE id = 1") == [
        ("", "", "")
    ]
    assert miscounts(app) == (0, 0)
    auth.headers(ADA)


def test_the_command_finishes_interrupted_deletions(
    app: Flask,
    client: FlaskClient,
    runner: FlaskCliRunner,
    headers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, after=1)
        assert client.delete(ME, headers=headers).status_code == 500
    assert rows(app, "SELECT count(*) FROM ratings") == [(8,)]
    assert runner.invoke(args=["users", "purge"]).stdout == "1 account purged\n"
    assert rows(app, "SELECT count(*) FROM ratings") == [(5,)]
    assert rows(app, "SELECT email FROM users") == [("eve@example.com",)]
    assert miscounts(app) == (0, 0)
    assert runner.invoke(args=["users", "purge"]).stdout == "0 accounts purged\n"
