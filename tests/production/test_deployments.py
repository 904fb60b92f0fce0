"""Connections, addresses and documents of a deployed server.

Every test runs through gunicorn, and on both deployments where a database or a store is involved.
"""

import json
import socket
import time

import pytest
import redis as redis_py
from helpers import eventually
from launcher import ROOT
from sockets import black_hole

from movies.november7.cache import NAMESPACE
from movies.problems import EXAMPLE_URL
from production.deployments import END_BACKENDS, GOOD, ORIGIN, VOTE, Deployment, unique

pytestmark = pytest.mark.slow


# Connections


def test_a_provider_is_reached_if_its_first_address_is_dead(deployment: Deployment) -> None:
    """Requests are sent to it directly: the variables of a proxy have no effect."""
    answers = [deployment.api.search(unique(query)) for query in ("up", "dogs")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(deployment.provider.requests) == 2


def test_a_database_is_reached_if_its_first_address_is_dead(
    postgresql_and_redis: Deployment,
) -> None:
    """Readiness, too. An attempt at the dead address would take 20 seconds."""
    api = postgresql_and_redis.api
    assert postgresql_and_redis.vote().ok
    with black_hole(GOOD, postgresql_and_redis.refused_port):
        ready = [api.ask("GET", "/health/ready").status_code for _ in range(6)]
        postgresql_and_redis.sql(END_BACKENDS)
        votes = [postgresql_and_redis.vote(kind) for kind in ("DOWNVOTE", "UPVOTE")]
    assert ready == [200] * 6
    assert [answer.status_code for answer in votes] == [200, 200]


def test_parameters_of_the_database_url_take_effect(postgresql_and_redis: Deployment) -> None:
    tables = postgresql_and_redis.sql(
        "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename IN ('users', 'alembic_version')"
    )
    assert tables == [("tenant",)]


def test_redis_is_used_at_a_unix_socket(postgresql_and_redis: Deployment, redis_url: str) -> None:
    """For the cache and for the rate limits."""
    postgresql_and_redis.api.search(unique("unix"))
    with redis_py.Redis.from_url(redis_url) as client:
        assert client.keys(f"*{NAMESPACE}*")
        assert client.keys("movies:rate-limit:api:*")


def test_a_locked_cache_file_does_not_keep_workers_from_starting(sqlite_alone: Deployment) -> None:
    """They say so, and use the file once it is free."""
    api, text = sqlite_alone.api, unique("locked")
    assert "the provider cache failed; continuing without it" in api.log
    assert "locked" in api.log

    def is_cached() -> bool:
        return "hit" in api.search(text).headers["Cache-Status"] and bool(
            api.ask("GET", "/health/ready").json()["cache"]["state"] == "up"
        )

    assert eventually(is_cached)


def test_an_idle_connection_is_kept_for_as_long_as_the_setting_says(
    sqlite_alone: Deployment,
) -> None:
    with socket.create_connection((GOOD, int(sqlite_alone.api.url.rpartition(":")[2]))) as client:
        client.settimeout(30)
        sent, received = time.monotonic(), b""
        client.sendall(b"HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while data := client.recv(65536):
            received += data
        assert received.startswith(b"HTTP/1.1 200")
        assert time.monotonic() - sent >= float(sqlite_alone.api.environment["KEEPALIVE"])


# Addresses and origins


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "movies_api:8000"}, "http://movies_api:8000"),
        ({"Host": "Bücher.example".encode()}, "http://xn--bcher-kva.example"),
        ({"Host": "xn--strae-oqa.example:80"}, "http://xn--strae-oqa.example"),
        ({"Host": "[::1]:8000", "X-Forwarded-Proto": "HTTPS"}, "https://[::1]:8000"),
        (
            {
                "Host": "movies.example.com",
                "X-Forwarded-Proto": "http, https",
                "X-Forwarded-Port": "8443",
                "X-Forwarded-Prefix": "/base",
                "X-Forwarded-Host": "evil.example",
                "Forwarded": "for=192.0.2.1;host=evil.example;proto=http",
            },
            "https://movies.example.com:8443/base",
        ),
    ],
    ids=["container", "IDN", "A-label", "IPv6", "forwarded"],
)
def test_every_url_begins_with_the_address_that_the_client_used(
    deployment: Deployment, headers: dict[str, str], base: str
) -> None:
    """Links, `Location`, problem types, page assets and the document's server."""
    api = deployment.api
    sent = api.headers | headers
    page = api.search("the", headers=sent).json()
    api.ask("DELETE", VOTE)
    created = api.ask("PUT", VOTE, json={"rating_type": "UPVOTE"}, headers=sent)
    missing = api.ask("GET", "/api/v1/movies/ratings/?page=9", headers=sent).json()
    document = api.ask("GET", "/api/schema/", headers=sent).json()
    reference = api.ask("GET", "/api/schema/redoc/", headers=sent).text
    prefix = "/" + base.partition("://")[2].partition("/")[2]
    assert page["next"] == f"{base}/api/v1/movies/?query=the&page=2"
    assert created.headers["Location"].startswith(f"{base}/api/v1/movies/ratings/")
    assert missing["type"] == f"{base}/api/schema/problems/#page-past-the-end"
    assert document["servers"] == [{"url": base}]
    assert f'src="{prefix.rstrip("/")}/api/schema/assets/' in reference


@pytest.mark.parametrize("host", ["", "a b", "a:99999", "💩.example".encode(), b"\xff"])
def test_a_host_that_cannot_be_one_is_400(deployment: Deployment, host: str) -> None:
    answer = deployment.api.ask("GET", "/health/live", headers={"Host": host})
    assert answer.status_code == 400
    assert "http:///" not in answer.text


@pytest.mark.parametrize(
    "forwarded",
    ["192.0.2.7:{}", "[2001:db8:0:7::{}]:443", "::ffff:192.0.2.8:{}"],
)
def test_one_client_at_many_ports_and_addresses_has_one_limit(
    deployment: Deployment, forwarded: str
) -> None:
    """Ports do not count, and IPv6 is counted by /64. Other clients are not affected."""

    def ask(number: int, pattern: str = forwarded) -> int:
        headers = {"X-Forwarded-For": f"198.51.100.1, {pattern.format(number)}"}
        return deployment.api.ask(
            "POST", "/api/v1/auth/token/", json={}, headers=headers
        ).status_code

    assert [ask(number) for number in range(1000, 1061)] == [422] * 60 + [429]
    assert ask(1, "192.0.2.200") == 422
    assert ask(1, "2001:db8:0:9::{}") == 422


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (ORIGIN, True),
        ("https://app.example.com.evil.test", False),
        ("https://xapp.example.com", False),
        ("https://app-example.com", False),
        (f"{ORIGIN}/", False),
        ("null", False),
    ],
)
def test_exactly_the_origins_of_the_setting_are_allowed(
    sqlite_alone: Deployment, origin: str, allowed: bool
) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    for method, headers in (("OPTIONS", asked), ("PUT", {"Origin": origin})):
        answer = sqlite_alone.api.ask(method, VOTE, headers=headers)
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


# Requests and the document


@pytest.mark.parametrize(
    ("parameters", "errors"),
    [
        ("query=%FF", {"query": ["Must be UTF-8."]}),
        ("query=%ED%A0%80&page=1", {"query": ["Must be UTF-8."]}),
        ("query=the&page=%FF", {"page": ["Must be UTF-8."]}),
    ],
)
def test_a_parameter_that_is_not_utf_8_is_named(
    deployment: Deployment, parameters: str, errors: dict[str, list[str]]
) -> None:
    answer = deployment.api.ask("GET", f"/api/v1/movies/?{parameters}")
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)


def test_the_server_has_the_committed_document(sqlite_alone: Deployment) -> None:
    """The tests of its patterns, ids and components are in tests/test_openapi.py."""
    served = sqlite_alone.api.ask("GET", "/api/schema/").text
    committed = (ROOT / "docs/openapi.json").read_text()
    assert json.loads(served.replace(sqlite_alone.api.url, EXAMPLE_URL)) == json.loads(committed)
