"""Live responses match the OpenAPI document: status, headers and body."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from accounts import PASSWORD, Accounts
from flask import Flask
from flask.testing import FlaskClient
from helpers import operations_of
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from werkzeug.test import TestResponse

from stand_in.server import Faults, StandIn

ADA = "ada@example.com"
NEW_PASSWORD = "notes on the analytical engine"
UNKNOWN = str(uuid.UUID(int=1))
Ask = Callable[..., TestResponse]


class Contract:
    """Checks responses against the OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._operations = operations_of(document)
        for schema in document["components"]["schemas"].values():
            if "properties" in schema:  # open to clients, but every member has to be documented
                schema.setdefault("additionalProperties", False)
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource("urn:document", resource)

    def check(self, answer: TestResponse) -> None:
        """Fail unless the status, media type, headers and body are as documented."""
        method, path = answer.request.method, answer.request.path
        documented = self._operation(method, path)["responses"]
        assert str(answer.status_code) in documented, (method, path, answer.status_code)
        described = documented[str(answer.status_code)]
        for name, header in described.get("headers", {}).items():
            if header.get("required", True):
                assert name in answer.headers, (method, path, answer.status_code, name)
        if "content" not in described:
            assert answer.data == b"", (method, path)
            return
        schema = described["content"][answer.content_type]["schema"]
        pointer = {"$ref": "urn:document" + schema["$ref"]} if "$ref" in schema else schema
        validator = Draft202012Validator(
            pointer, registry=self._registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        validator.validate(json.loads(answer.data))

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        for name, operation in sorted(self._operations.items(), key=lambda item: "{" in item[0]):
            pattern = re.sub(r"{[a-z_]+}", "[^/]+", name.rstrip("/"))
            if re.fullmatch(pattern, f"{method} {path.rstrip('/')}"):
                return operation
        raise AssertionError(f"{method} {path} is not in the document")


@pytest.fixture
def ask(client: FlaskClient, auth: Accounts) -> Ask:
    """Sends a request of Ada's, whose response must have a given status and be as documented."""
    contract = Contract(client.get("/api/schema/").get_json())
    headers = auth.headers(ADA)

    def ask(expected: int, method: str, path: str, **options: Any) -> TestResponse:
        options = {"headers": headers} | options
        answer = client.open(f"/api/v1{path}", method=method, **options)
        assert answer.status_code == expected, (method, path, answer.text)
        contract.check(answer)
        return answer

    return ask


@pytest.fixture
def movie_id(ask: Ask) -> str:
    """The id of a movie that a search has found."""
    found: str = ask(200, "GET", "/movies/?query=matrix").get_json()["results"][0]["id"]
    return found


@pytest.fixture
def rating_id(ask: Ask, movie_id: str) -> int:
    """Ada's rating of that movie."""
    new = {"movie_id": movie_id, "rating_type": "UPVOTE"}
    rated: int = ask(201, "POST", "/movies/ratings/", json=new).get_json()["id"]
    return rated


def test_signing_in(ask: Ask) -> None:
    """With valid and with wrong credentials."""
    ask(200, "POST", "/auth/token/", json={"email": ADA, "password": PASSWORD})
    ask(401, "POST", "/auth/token/", json={"email": ADA, "password": "not the password"})


@pytest.mark.parametrize(
    ("path", "member", "good"),
    [("refresh", "refresh", 200), ("verify", "token", 200), ("logout", "refresh", 204)],
)
def test_endpoints_that_take_a_token(
    ask: Ask, auth: Accounts, path: str, member: str, good: int
) -> None:
    """With a valid token, an invalid one, and invalid bodies."""
    token = auth.sign_in(ADA)["refresh"]
    ask(good, "POST", f"/auth/{path}/", json={member: token})
    ask(401, "POST", f"/auth/{path}/", json={member: "garbage"})
    ask(400, "POST", f"/auth/{path}/", data="{", content_type="application/json")
    ask(413, "POST", f"/auth/{path}/", data=b"x" * 2**21, content_type="application/json")
    ask(415, "POST", f"/auth/{path}/", data="{}", content_type="text/plain")
    ask(422, "POST", f"/auth/{path}/", json={})


def test_registering(ask: Ask) -> None:
    """A new account, an existing one, and an invalid one."""
    account = {"email": "eve@example.com", "password": PASSWORD, "first_name": "Eve"}
    ask(201, "POST", "/users/register/", json=account)
    ask(409, "POST", "/users/register/", json=account)
    ask(422, "POST", "/users/register/", json=account | {"password": "password"})


def test_the_account(ask: Ask) -> None:
    """Reading, changing and deleting it. Its token is then refused."""
    ask(200, "GET", "/users/me/")
    ask(200, "PATCH", "/users/me/", json={"first_name": "Ada"})
    ask(422, "PATCH", "/users/me/", json={"first_name": 1})
    ask(204, "DELETE", "/users/me/")
    ask(401, "GET", "/users/me/")
    ask(401, "PATCH", "/users/me/", json={})
    ask(401, "DELETE", "/users/me/")


def test_changing_the_password(ask: Ask) -> None:
    """With a wrong current password, a weak new one, and valid ones."""
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    ask(403, "POST", "/users/me/password/", json=change | {"current_password": "wrong"})
    ask(422, "POST", "/users/me/password/", json=change | {"new_password": "password"})
    ask(204, "POST", "/users/me/password/", json=change)
    ask(401, "POST", "/users/me/password/", json=change)


def test_searching(ask: Ask, rating_id: int) -> None:
    """Pages with and without movies, past the end, and invalid ones."""
    ask(200, "GET", "/movies/?query=matrix")
    ask(200, "GET", "/movies/?query=matrix&page=2&page_size=1")
    ask(200, "GET", "/movies/?query=no+such+movie")
    ask(404, "GET", "/movies/?query=matrix&page=1000")
    ask(200, "GET", "/movies/")
    ask(422, "GET", "/movies/?query=")
    ask(401, "GET", "/movies/?query=matrix", headers={})


def test_one_movie(ask: Ask, movie_id: str) -> None:
    """A known movie, an unknown one, and a request without a token."""
    ask(200, "GET", f"/movies/{movie_id}/")
    ask(404, "GET", f"/movies/{UNKNOWN}/")
    ask(422, "GET", f"/movies/{movie_id}/?x=1")
    ask(401, "GET", f"/movies/{movie_id}/", headers={})


def test_the_top_list(ask: Ask, rating_id: int) -> None:
    """A page, one past the end, and an invalid one."""
    assert ask(200, "GET", "/movies/top/").get_json()["count"] == 1
    ask(404, "GET", "/movies/top/?page=2")
    ask(422, "GET", "/movies/top/?page=0")


def test_rating_a_movie(ask: Ask, movie_id: str, rating_id: int) -> None:
    """A rated movie, an unknown one, and an invalid rating."""
    new = {"movie_id": movie_id, "rating_type": "UPVOTE"}
    ask(409, "POST", "/movies/ratings/", json=new)
    ask(404, "POST", "/movies/ratings/", json=new | {"movie_id": UNKNOWN})
    ask(422, "POST", "/movies/ratings/", json=new | {"movie_id": "x"})


def test_listing_ratings(ask: Ask, rating_id: int) -> None:
    """All, those of a type, none, past the end, and invalid parameters."""
    assert ask(200, "GET", "/movies/ratings/").get_json()["count"] == 1
    assert ask(200, "GET", "/movies/ratings/?rating_type=DOWNVOTE").get_json()["count"] == 0
    ask(404, "GET", "/movies/ratings/?page=2")
    ask(422, "GET", "/movies/ratings/?rating_type=x")


def test_one_rating(ask: Ask, rating_id: int) -> None:
    """Reading, replacing, changing and deleting it. Afterwards, the response is 404."""
    path = f"/movies/ratings/{rating_id}"
    ask(200, "GET", path)
    ask(200, "PUT", path, json={"rating_type": "DOWNVOTE"})
    ask(422, "PUT", path, json={})
    ask(200, "PATCH", path, json={})
    ask(422, "PATCH", path, json={"rating_type": "x"})
    ask(204, "DELETE", path)
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = {"json": {"rating_type": "UPVOTE"}} if method in ("PUT", "PATCH") else {}
        ask(404, method, path, **body)


def test_the_rating_of_a_movie(ask: Ask, movie_id: str) -> None:
    """Setting it twice, clearing it, and rating an unknown movie."""
    path = f"/movies/{movie_id}/rating/"
    ask(201, "PUT", path, json={"rating_type": "UPVOTE"})
    ask(200, "PUT", path, json={"rating_type": "DOWNVOTE"})
    ask(204, "DELETE", path)
    ask(204, "DELETE", path)
    ask(404, "PUT", f"/movies/{UNKNOWN}/rating/", json={"rating_type": "UPVOTE"})
    ask(404, "DELETE", "/movies/1/rating/")


class TestWithoutProvider:
    """Responses while November 7 fails."""

    @pytest.fixture
    def app(self, make_app: Callable[..., Flask], no_backoff: None) -> Iterator[Flask]:
        """An application whose provider refuses everything."""
        with StandIn(faults=Faults(refuse=1.0)) as stand_in:
            yield make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_DEADLINE=30)

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/movies/?query=matrix", None),
            ("GET", f"/movies/{UNKNOWN}/", None),
            ("POST", "/movies/ratings/", {"movie_id": UNKNOWN, "rating_type": "UPVOTE"}),
            ("PUT", f"/movies/{UNKNOWN}/rating/", {"rating_type": "UPVOTE"}),
        ],
    )
    def test_a_lookup_is_503(
        self, ask: Ask, method: str, path: str, body: dict[str, str] | None
    ) -> None:
        ask(503, method, path, json=body)
