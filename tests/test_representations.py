"""ETags, conditional requests, HEAD and compression, for every resource that can be read."""

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient

from movies.representations import MIN_COMPRESSED

API = (
    "/api/v1/users/me/",
    "/api/v1/movies/?query=matrix",
    "/api/v1/movies/top/",
    "/api/v1/movies/{movie_id}/",
    "/api/v1/movies/ratings/",
    "/api/v1/movies/{movie_id}/rating/",
    "/api/v1/movies/ratings/{rating_id}",
)
DOCUMENTATION = (
    *("/api/schema/", "/api/schema/swagger-ui/", "/api/schema/redoc/"),
    "/api/schema/assets/swagger-ui-start.js",
)
GZIP = {"Accept-Encoding": "gzip"}
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
Read = Callable[..., Any]


@pytest.fixture
def read(client: FlaskClient, auth: Accounts) -> Read:
    """Requests a resource as Ada, who has rated a movie."""
    signed_in = auth.headers("ada@example.com")
    found = client.get("/api/v1/movies/?query=matrix", headers=signed_in).get_json()["results"]
    ids = {"movie_id": found[0]["id"], "rating_id": 1}
    new = {"movie_id": ids["movie_id"], "rating_type": "UPVOTE"}
    client.post("/api/v1/movies/ratings/", json=new, headers=signed_in)

    def read(path: str, method: str = "GET", **headers: str) -> Any:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.open(path.format(**ids), method=method, headers=signed_in | fields)

    return read


@ONE_DATABASE
def test_every_resource_is_in_these_tests(app: Flask) -> None:
    rules = {rule.rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())}
    paths = {
        re.sub("<[a-z]+:(.+?)>", r"{\1}", rule) for rule in rules if rule.startswith("/api/v1")
    }
    assert paths == {path.partition("?")[0] for path in API}


@pytest.mark.parametrize("path", [*API, *DOCUMENTATION])
def test_a_resource_has_a_tag_and_the_tag_gives_304(read: Read, path: str) -> None:
    with read(path) as full:
        tag, length = full.headers["ETag"], full.headers["Content-Length"]
        assert (full.status_code, len(full.data)) == (200, int(length))
    for known in (tag, f"W/{tag}", f'"other", W/{tag}', "*"):
        with read(path, If_None_Match=known) as conditional:
            assert (conditional.status_code, conditional.data) == (304, b""), known
            assert conditional.headers["ETag"] == tag
            assert conditional.headers["Cache-Control"] == full.headers["Cache-Control"]
            assert conditional.headers.get("Vary") == full.headers.get("Vary")
            assert "Content-Type" not in conditional.headers
            assert "X-Request-ID" in conditional.headers
    for other in ('"other"', 'W/"other"', tag[:-2] + '"', "", "é", ","):
        with read(path, If_None_Match=other) as changed:
            assert (changed.status_code, changed.headers["ETag"]) == (200, tag), other


@pytest.mark.parametrize("path", [*API, *DOCUMENTATION])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
@ONE_DATABASE
def test_head_has_the_headers_of_get(read: Read, path: str, coding: str) -> None:
    read(path).close()  # a search is a hit from now on
    with (
        read(path, Accept_Encoding=coding) as full,
        read(path, "HEAD", Accept_Encoding=coding) as head,
    ):
        names = set(full.headers.keys()) - {"X-Request-ID", "Date", "Age", "Cache-Status"}
        assert (head.status_code, head.data) == (200, b"")
        assert {name: head.headers[name] for name in names} == {
            name: full.headers[name] for name in names
        }
        tag = full.headers["ETag"]
    with read(path, "HEAD", If_None_Match=tag, Accept_Encoding=coding) as known:
        assert known.status_code == 304


def test_resources_of_the_api_are_kept_by_clients_only_and_revalidated(read: Read) -> None:
    for path in API:
        assert read(path).headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/movies/ratings/99"),
        ("GET", "/api/v1/movies/top/?page=0"),
        ("GET", "/api/v1/nothing"),
        ("PATCH", "/api/v1/users/me/"),
        ("GET", "/health/live"),
        ("OPTIONS", "/api/v1/users/me/"),
    ],
)
@ONE_DATABASE
def test_other_responses_are_not_stored_and_have_no_tag(read: Read, method: str, path: str) -> None:
    answer = read(path, method, If_None_Match="*")
    assert answer.status_code != 304
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers


def test_the_tag_changes_with_every_vote(client: FlaskClient, auth: Accounts) -> None:
    """Another user's vote, the caller's own, a change of it and its removal."""
    ada, eve = auth.headers(), auth.headers()
    search = "/api/v1/movies/?query=matrix"
    movie_id = client.get(search, headers=ada).get_json()["results"][0]["id"]
    paths = (search, f"/api/v1/movies/{movie_id}/")

    def tags() -> tuple[str, ...]:
        return tuple(client.get(path, headers=ada).headers["ETag"] for path in paths)

    seen = [tags()]
    for voter, method, vote in (
        (eve, "PUT", "UPVOTE"),
        (ada, "PUT", "UPVOTE"),
        (ada, "PUT", "DOWNVOTE"),
        (eve, "DELETE", None),
    ):
        assert tags() == seen[-1]
        body = {"rating_type": vote} if vote else None
        client.open(f"/api/v1/movies/{movie_id}/rating/", method=method, json=body, headers=voter)
        seen.append(tags())
    assert all(len(set(versions)) == len(seen) for versions in zip(*seen, strict=True))


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        *(("gzip", True), ("deflate, gzip;q=0.5, br", True), ("*", True), ("GZIP", True)),
        *(("", False), ("identity", False), ("br", False), ("gzip;q=0", False)),
        *(("gzip;q=0.5, identity", False), ("*;q=0", False), ("é", False), ("xgzipx", False)),
    ],
)
@ONE_DATABASE
def test_a_body_is_compressed_for_clients_that_prefer_it(
    read: Read, accepted: str, is_compressed: bool
) -> None:
    path = "/api/v1/movies/?query=matrix"
    plain, answer = read(path), read(path, Accept_Encoding=accepted)
    assert (answer.headers.get("Content-Encoding") == "gzip") is is_compressed
    body = gzip.decompress(answer.data) if is_compressed else answer.data
    assert body == plain.data
    assert len(plain.data) > MIN_COMPRESSED
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert plain.headers["Vary"] == answer.headers["Vary"]


@pytest.mark.parametrize("path", ["/api/v1/movies/?query=matrix", "/api/schema/"])
@ONE_DATABASE
def test_either_tag_of_a_compressed_resource_gives_304(read: Read, path: str) -> None:
    """Codings have different strong tags; a client may hold one and accept the other now."""
    with read(path) as plain, read(path, Accept_Encoding="gzip") as compressed:
        tags = (plain.headers["ETag"], compressed.headers["ETag"])
        assert tags[0] != tags[1]
        assert gzip.decompress(compressed.data) == plain.data
    for coding, tag in zip(("identity", "gzip"), tags, strict=True):
        for known in tags:
            with read(path, Accept_Encoding=coding, If_None_Match=known) as answer:
                assert (answer.status_code, answer.headers["ETag"]) == (304, tag)
                assert "Content-Encoding" not in answer.headers


@ONE_DATABASE
def test_large_errors_and_metrics_are_compressed(client: FlaskClient) -> None:
    body = {f"a member with a long name {number}": 1 for number in range(100)}
    refused = client.post("/api/v1/users/register/", json=body, headers=GZIP)
    assert (refused.status_code, refused.headers["Content-Encoding"]) == (422, "gzip")
    assert client.get("/metrics", headers=GZIP).headers["Content-Encoding"] == "gzip"


@ONE_DATABASE
def test_tokens_and_small_bodies_are_not_compressed(
    app: Flask, client: FlaskClient, auth: Accounts
) -> None:
    account = auth.register("ada@example.com")
    sign_in = {"email": account["email"], "password": "lovelace-and-babbage"}
    tokens = client.post("/api/v1/auth/token/", json=sign_in, headers=GZIP)
    refused = client.post(
        "/api/v1/auth/token/", json=dict.fromkeys(f"{n:099}" for n in range(99)), headers=GZIP
    )
    for answer in (tokens, refused, client.get("/health/live", headers=GZIP)):
        assert "Content-Encoding" not in answer.headers
    assert len(refused.data) > MIN_COMPRESSED
    assert tokens.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_page_that_has_not_changed_keeps_its_policy(client: FlaskClient) -> None:
    """A browser takes the headers of a 304 for those of the page that it has."""
    page = client.get("/api/schema/redoc/")
    tag = page.headers["ETag"]
    unchanged = client.get("/api/schema/redoc/", headers={"If-None-Match": tag})
    assert unchanged.status_code == 304
    assert "Content-Security-Policy" not in unchanged.headers
