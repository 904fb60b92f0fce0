"""Accounts that vote and read, and what they get while the database is unavailable."""

from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from movies.november7.sample.catalogue import sample_movies

MOVIE_ID = sample_movies()[0]["id"]
VOTE = f"/api/v1/movies/{MOVIE_ID}/rating/"
TOP = "/api/v1/movies/top/"


class Caller:
    """An account that votes and reads."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()
        self.headers = Accounts(self.client).headers(f"user{id(self)}@example.com")

    def vote(self, rating_type: str = "UPVOTE") -> TestResponse:
        client = self.app.test_client()
        return client.put(VOTE, json={"rating_type": rating_type}, headers=self.headers)

    def read(self) -> TestResponse:
        return self.app.test_client().get(TOP, headers=self.headers)


def assert_unavailable(answer: TestResponse) -> None:
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json"), answer.text
    assert int(answer.headers["Retry-After"]) > 0
