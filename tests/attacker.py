"""Sends malformed requests and checks that they are refused properly."""

import json
from typing import Any

from accounts import Accounts
from flask import Flask
from tables import rows
from werkzeug.test import TestResponse

TABLES = ("users", "ratings", "sign_ins", "movies")


class Attacker:
    """A user whose requests must all be refused with 4xx problems and write nothing.

    `check` is called last, and checks what was written.
    """

    def __init__(self, app: Flask, auth: Accounts) -> None:
        self._app = app
        self._client = app.test_client()
        self._headers = auth.headers("ada@example.com")
        self._before = self._rows()

    def __call__(self, method: str, path: str, **options: Any) -> TestResponse:
        """Send a request and check its response."""
        answer = self._client.open(path, method=method, headers=self._headers, **options)
        assert 400 <= answer.status_code < 500, (method, path, answer.text)
        assert answer.mimetype == "application/problem+json"
        problem = json.loads(answer.data)
        assert problem["status"] == answer.status_code
        assert {"type", "title", "status", "detail"} <= set(problem)
        return answer

    def check(self) -> None:
        """Fail if a request has written anything."""
        assert self._rows() == self._before

    def _rows(self) -> list[list[Any]]:
        return [rows(self._app, f"SELECT * FROM {table}") for table in TABLES]
