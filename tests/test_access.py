"""Who may use which endpoint, checked for every rule of the URL map."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from movies import create_app
from movies.api import Access

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Endpoint(NamedTuple):
    """A path with ids filled in, one of its methods, who may use it, and the methods it lacks."""

    method: str
    path: str
    access: Access | None
    others: tuple[str, ...]


def endpoints(settings: dict[str, Any], directory: Any) -> list[Endpoint]:
    """All endpoints of the API."""
    app = create_app("testing", {**settings, "INSTANCE_DIR": directory})
    app.extensions["november7"].close()
    methods: dict[str, dict[str, str]] = {}
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<uuid:movie_id>", str(uuid.UUID(int=1)))
        path = path.replace("<id:rating_id>", "1")
        if path.startswith("/api/v1/"):
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                methods.setdefault(path, {})[method] = rule.endpoint
    return [
        Endpoint(
            method,
            path,
            getattr(app.view_functions[endpoint], "access", None),
            tuple(sorted(set(METHODS) - set(had))),
        )
        for path, had in sorted(methods.items())
        for method, endpoint in sorted(had.items())
    ]


@pytest.fixture(scope="session")
def every(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Endpoint]:
    """All endpoints of the API."""
    found = endpoints(settings, tmp_path_factory.mktemp("access"))
    assert len(found) == 21
    return found


@pytest.fixture
def for_users(every: list[Endpoint]) -> list[Endpoint]:
    """The endpoints that require a user."""
    return [endpoint for endpoint in every if endpoint.access is Access.USER]


@pytest.fixture
def send(client: FlaskClient) -> Callable[..., TestResponse]:
    """Sends a request with an empty object as its body."""
    return partial(client.open, json={}, follow_redirects=False)


def both(path: str) -> tuple[str, str]:
    """A path with its trailing slash and without."""
    return path.rstrip("/"), path.rstrip("/") + "/"


def test_every_endpoint_declares_its_access(every: list[Endpoint]) -> None:
    assert [endpoint for endpoint in every if endpoint.access is None] == []


def test_exactly_five_endpoints_are_open_to_anyone(every: list[Endpoint]) -> None:
    assert {endpoint.path for endpoint in every if endpoint.access is Access.ANYONE} == {
        "/api/v1/auth/token/",
        "/api/v1/auth/refresh/",
        "/api/v1/auth/verify/",
        "/api/v1/auth/logout/",
        "/api/v1/users/register/",
    }


@pytest.mark.parametrize("token", ["none", "garbage", "refresh", "access, without its scheme"])
def test_every_user_endpoint_is_401_without_a_valid_token(
    send: Callable[..., TestResponse], auth: Accounts, for_users: list[Endpoint], token: str
) -> None:
    tokens = auth.sign_in(auth.register()["email"])
    headers = {
        "none": {},
        "garbage": {"Authorization": "Bearer garbage"},
        "refresh": {"Authorization": f"Bearer {tokens['refresh']}"},
        "access, without its scheme": {"Authorization": tokens["access"]},
    }[token]
    for endpoint in for_users:
        for path in both(endpoint.path):
            answer = send(path, method=endpoint.method, headers=headers)
            seen = (answer.status_code, answer.mimetype, "WWW-Authenticate" in answer.headers)
            assert seen == (401, "application/problem+json", True), endpoint


def test_no_user_endpoint_is_401_with_a_valid_token(
    send: Callable[..., TestResponse], auth: Accounts, for_users: list[Endpoint]
) -> None:
    """With and without the trailing slash, the status is the same."""
    for endpoint in for_users:
        seen = {
            send(path, method=endpoint.method, headers=auth.headers()).status_code
            for path in both(endpoint.path)
        }
        assert len(seen) == 1, endpoint
        assert seen <= {200, 204, 404, 422}, endpoint


def test_no_endpoint_redirects(send: Callable[..., TestResponse], every: list[Endpoint]) -> None:
    for endpoint in every:
        for path in both(endpoint.path):
            assert send(path, method=endpoint.method).status_code >= 400, endpoint


def test_unsupported_methods_are_405_with_allow(
    send: Callable[..., TestResponse], every: list[Endpoint]
) -> None:
    for endpoint in every:
        for path in both(endpoint.path):
            for method in (*endpoint.others, "TRACE", "FOO"):
                answer = send(path, method=method)
                seen = (answer.status_code, answer.mimetype)
                assert seen == (405, "application/problem+json"), (method, path)
                assert endpoint.method in answer.headers["Allow"].split(", "), (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/v1/",
        "/api/v1/nothing/",
        "/api/v1//users/me/",
        "/api/v1/users/me/x",
        "/api/v1/USERS/ME/",
        "/api/v1/movies/1/",
        "/api/v1/movies/ratings/0",
        "/api/v1/movies/ratings/01",
        "/api/v1/movies/ratings/-1",
        "/api/v1/movies/ratings/1.0",
        "/api/v1/movies/ratings/١",
        "/api/v1/movies/ratings/9223372036854775808",
        "/api/v1/movies/ratings/99999999999999999999999999",
        f"/api/v1/movies/{uuid.UUID(int=1).hex}/",
        f"/api/v1/movies/{{{uuid.UUID(int=1)}}}/",
        f"/api/v1/movies/urn:uuid:{uuid.UUID(int=1)}/rating/",
        "/api/v1/movies/%00/",
        "/%ff",
    ],
)
@ONE_DATABASE
def test_unknown_paths_are_404(client: FlaskClient, path: str) -> None:
    """So are path segments that cannot be an id, whatever the method, for anyone."""
    for method in (*METHODS, "FOO"):
        answer = client.open(path, method=method)
        seen = (answer.status_code, answer.mimetype)
        assert seen == (404, "application/problem+json"), method


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_the_token_comes_before_the_body(client: FlaskClient, method: str) -> None:
    answer = client.open("/api/v1/movies/ratings/1", method=method, data=b"{", content_type="x/y")
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"{", "text/plain", 415),
        (b"{", "application/json", 400),
        (b'{"x": 1}', "application/json", 422),
        (b'{"rating_type": "UPVOTE"}', "application/json", 404),
    ],
)
def test_media_type_syntax_shape_and_state_are_checked_in_this_order(
    client: FlaskClient, auth: Accounts, body: bytes, content_type: str, expected: int
) -> None:
    options: dict[str, Any] = {"data": body, "content_type": content_type}
    answer = client.put("/api/v1/movies/ratings/1", **options, headers=auth.headers())
    assert answer.status_code == expected


def test_the_token_comes_before_the_query_string(client: FlaskClient) -> None:
    assert client.get("/api/v1/movies/top/?page=0&x=1").status_code == 401


def test_options_lists_the_methods_without_a_token(
    client: FlaskClient, every: list[Endpoint]
) -> None:
    for endpoint in every:
        for path in both(endpoint.path):
            answer = client.options(path)
            assert answer.status_code == 204
            assert endpoint.method in answer.headers["Allow"], path


def test_head_is_get_without_the_body(client: FlaskClient, auth: Accounts) -> None:
    answer = client.head("/api/v1/users/me/", headers=auth.headers())
    assert (answer.status_code, answer.data) == (200, b"")


def test_pages_and_probes_only_support_get(app: Flask, client: FlaskClient) -> None:
    for page in ("/api/schema/", "/api/schema/redoc/", "/health/live", "/health/ready", "/metrics"):
        for path in both(page):
            assert client.post(path).status_code == 405, path
