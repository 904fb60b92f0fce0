"""What proxies, clients, databases and the provider do to a deployed server.

Every test runs through gunicorn, and on both deployments where a database or a store is involved.
"""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import jwt
import pytest
import redis as redis_py
import requests
from argon2 import PasswordHasher
from deployments import (
    GOOD,
    MOVIE_ID,
    ORIGIN,
    PROVIDER,
    VOTE,
    Deployment,
    on_postgresql,
    on_sqlite,
)
from helpers import eventually
from launcher import ROOT
from served import WORKERS
from sockets import black_hole

from movies.november7.blocks import BlockKey
from movies.november7.cache import NAMESPACE
from movies.november7.sqlite_store import SQLiteStore
from movies.problems import EXAMPLE_URL
from stand_in.server import Faults

pytestmark = pytest.mark.slow

TOKEN = "/api/v1/auth/token/"
END_BACKENDS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
numbers = count(1)


@pytest.fixture(scope="module")
def sqlite_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with on_sqlite(tmp_path_factory.mktemp("sqlite")) as running:
        yield running


@pytest.fixture(scope="module")
def postgresql_and_redis(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with on_postgresql(tmp_path_factory.mktemp("postgresql"), redis_url) as running:
        yield running


@pytest.fixture(params=["sqlite_alone", "postgresql_and_redis"])
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Either deployment, with a provider without faults."""
    running: Deployment = request.getfixturevalue(request.param)
    running.provider.reset()
    yield running
    running.provider.faults = Faults()


def assert_unavailable(answer: requests.Response) -> None:
    kind = answer.headers["Content-Type"]
    assert (answer.status_code, kind) == (503, "application/problem+json"), answer.text
    assert int(answer.headers["Retry-After"]) > 0


# Connections


def test_a_provider_is_reached_if_its_first_address_is_dead(deployment: Deployment) -> None:
    """Requests are sent to it directly: the variables of a proxy have no effect."""
    answers = [deployment.api.search(f"{query} {next(numbers)}") for query in ("up", "dogs")]
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
    postgresql_and_redis.api.search(f"unix {next(numbers)}")
    with redis_py.Redis.from_url(redis_url) as client:
        assert client.keys(f"*{NAMESPACE}*")
        assert client.keys("movies:rate-limit:api:*")


def test_a_locked_cache_file_does_not_keep_workers_from_starting(sqlite_alone: Deployment) -> None:
    """They say so, and use the file once it is free."""
    api, text = sqlite_alone.api, f"locked {next(numbers)}"
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
        return deployment.api.ask("POST", TOKEN, json={}, headers=headers).status_code

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


# Accounts and tokens


def test_domains_are_compared_as_in_dns(deployment: Deployment) -> None:
    first, other = "user@straße.example", "user@strasse.example"
    assert [deployment.register(email) for email in (first, other)] == [201, 201]
    for same in ("USER@Straße.Example", "user@xn--strae-oqa.example", "User@STRASSE.example"):
        assert deployment.register(same) == 409
        assert deployment.sign_in(same).ok


@pytest.mark.parametrize(("chosen", "typed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_password_is_the_same_in_every_normal_form(
    deployment: Deployment, chosen: Literal["NFC", "NFD"], typed: Literal["NFC", "NFD"]
) -> None:
    email, password = f"{chosen}@example.com", "Ångström brûlée 東京"
    assert deployment.register(email, normalize(chosen, password)) == 201
    assert deployment.sign_in(email, normalize(typed, password)).ok
    assert deployment.sign_in(email, password.lower()).status_code == 401


def test_a_hash_that_was_made_before_normalization_works(deployment: Deployment) -> None:
    """And is replaced, so that the other form works from then on."""
    email, typed = "old@example.com", normalize("NFD", "Ångström brûlée 東京")
    deployment.register(email)
    old = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(typed)
    deployment.sql(f"UPDATE users SET password_hash = '{old}' WHERE email = '{email}'")
    assert deployment.sign_in(email, typed).ok
    assert deployment.sign_in(email, normalize("NFC", typed)).ok


@pytest.mark.parametrize(
    ("times", "status"),
    [
        ({"iat": 8, "nbf": 8, "exp": 900}, 200),
        ({"iat": -900, "nbf": -900, "exp": -1}, 200),
        ({"iat": 60, "nbf": 60, "exp": 900}, 401),
        ({"iat": 60, "nbf": 0, "exp": 900}, 401),
        ({"iat": 0, "nbf": 60, "exp": 900}, 401),
        ({"iat": -900, "nbf": -900, "exp": -60}, 401),
    ],
)
def test_a_token_is_valid_within_the_leeway(
    deployment: Deployment, times: dict[str, int], status: int
) -> None:
    """An instance whose clock differs by this number of seconds would issue such a token."""
    api = deployment.api
    token, key = api.headers["Authorization"].split()[1], api.environment["JWT_SECRET_KEY"]
    claims = jwt.decode(token, options={"verify_signature": False})
    claims |= {name: int(time.time()) + seconds for name, seconds in times.items()}
    changed = jwt.encode(claims, key, headers={"kid": jwt.get_unverified_header(token)["kid"]})
    headers = {"Authorization": f"Bearer {changed}"}
    assert api.ask("GET", "/api/v1/users/me/", headers=headers).status_code == status
    assert api.ask("POST", "/api/v1/auth/verify/", json={"token": changed}).status_code == status


# Databases


def test_a_read_only_server_is_503_until_it_is_writable_again(
    postgresql_and_redis: Deployment,
) -> None:
    """Connections that were opened meanwhile would stay read-only, so they are replaced."""
    deployment, api = postgresql_and_redis, postgresql_and_redis.api
    assert deployment.vote().ok
    ((name,),) = deployment.sql("SELECT current_database()")
    deployment.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on', END_BACKENDS)
    for kind in ("DOWNVOTE", "UPVOTE"):
        assert_unavailable(deployment.vote(kind))
        assert api.ask("GET", "/api/v1/movies/top/").ok
    deployment.sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert eventually(lambda: all(deployment.vote(kind).ok for kind in ("DOWNVOTE", "UPVOTE")))
    assert "Traceback" not in api.log


def test_a_vote_that_cannot_be_serialized_is_cast_again(postgresql_and_redis: Deployment) -> None:
    deployment = postgresql_and_redis
    assert deployment.vote("UPVOTE").ok
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    waiting += " AND datname = current_database()"
    with ThreadPoolExecutor() as pool, deployment.connection(autocommit=False) as other:
        other.execute(f"UPDATE movies SET title = title WHERE id = '{MOVIE_ID}'")
        vote = pool.submit(deployment.vote, "DOWNVOTE")
        assert eventually(lambda: bool(deployment.sql(waiting)))
        other.commit()
        assert vote.result(30).json()["rating_type"] == "DOWNVOTE"


def test_a_locked_file_is_503_until_it_is_free(sqlite_alone: Deployment) -> None:
    assert sqlite_alone.vote("UPVOTE").ok
    with sqlite_alone.connection() as other:
        other.execute("BEGIN IMMEDIATE")
        assert_unavailable(sqlite_alone.vote("DOWNVOTE"))
        assert sqlite_alone.api.ask("GET", "/api/v1/movies/top/").ok
    assert sqlite_alone.vote("DOWNVOTE").ok


def test_an_unmigrated_database_is_503_and_the_log_says_what_to_run(deployment: Deployment) -> None:
    advice = "Run `flask --app wsgi db upgrade`"
    assert advice not in deployment.api.log
    with deployment.without_tables():
        assert_unavailable(deployment.sign_in("ada@example.com"))
        ready = deployment.api.ask("GET", "/health/ready")
    assert (ready.status_code, ready.json()["database"]) == (503, "not migrated")
    assert advice in deployment.api.log
    assert deployment.sign_in("ada@example.com").ok


def test_a_repeated_vote_uses_up_no_id(deployment: Deployment) -> None:
    last_id = "SELECT last_value FROM ratings_id_seq"
    if not deployment.is_postgresql:
        last_id = "SELECT seq FROM sqlite_sequence WHERE name = 'ratings'"
    deployment.vote()
    before = deployment.sql(last_id)
    votes = [deployment.vote(kind) for kind in ("UPVOTE", "UPVOTE", "DOWNVOTE", "DOWNVOTE")]
    assert [answer.status_code for answer in votes] == [200] * 4
    assert deployment.sql(last_id) == before


def test_times_always_have_microseconds(deployment: Deployment) -> None:
    deployment.vote()
    moment = "'2026-01-02 03:04:05.000000'"
    deployment.sql(f"UPDATE ratings SET created_at = {moment}, updated_at = {moment}")
    rating = deployment.api.ask("GET", VOTE).json()
    assert rating["created_at"].endswith(":04:05.000000+00:00")
    assert rating["updated_at"] == rating["created_at"]


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


# The provider


@pytest.mark.parametrize(
    ("fault", "queries"), [("bad_movie", ["a", "e", "i"]), ("short", ["n", "r", "s"])]
)
def test_responses_that_lack_a_movie_are_served(
    deployment: Deployment, fault: str, queries: list[str]
) -> None:
    """After one retry, for a short time; what is left out is counted. The breaker stays closed."""
    api, left_out = deployment.api, "november7_movies_left_out_total"
    before = api.metric(left_out)
    deployment.provider.faults = Faults(**{fault: 1})  # type: ignore[arg-type]
    for query in queries:
        answer = api.ask("GET", "/api/v1/movies/", params={"query": query, "page_size": 100})
        page, status = answer.json(), answer.headers["Cache-Status"].split("; ")
        assert len(page["results"]) == page["count"] - 1
        assert (status[1], status[-1]) == ("fwd=miss", "incomplete")
        assert int(status[2].removeprefix("ttl=")) <= 60
    assert len(deployment.provider.requests) == 2 * len(queries)
    assert api.metric("november7_breaker_open") == 0
    assert api.metric(left_out) - before == (len(queries) if fault == "bad_movie" else 0)
    assert "an answer of November 7 that lacks movies is used" in api.log


def test_bodies_that_break_the_contract_do_not_open_the_breaker(deployment: Deployment) -> None:
    """Each search sends three requests, not eight."""
    deployment.provider.faults = Faults(html=1)
    answers = [deployment.api.search(f"html {next(numbers)}") for _ in range(4)]
    for answer in answers:
        assert_unavailable(answer)
    assert len(deployment.provider.requests) == 3 * len(answers)
    deployment.provider.faults = Faults()
    assert all(deployment.api.search(f"html {next(numbers)}").ok for _ in range(4))


def test_a_failure_that_a_newer_release_published_is_503(
    postgresql_and_redis: Deployment, redis_url: str
) -> None:
    text, port = f"newer {next(numbers)}", postgresql_and_redis.provider.port
    lease = BlockKey(text, 0, 100).cache_key(f"http://{PROVIDER}:{port}/movies/")
    failure = {"kind": "from_the_future", "reason": "no", "retry_after": 9}
    with redis_py.Redis.from_url(redis_url) as client:
        client.set(f"{NAMESPACE}-flight:{lease}", "newer", px=30_000)
        client.set(f"{NAMESPACE}-failure:newer", json.dumps(failure), px=30_000)
    answer = postgresql_and_redis.api.search(text)
    assert_unavailable(answer)
    assert answer.headers["Retry-After"] == "9"


def test_a_clear_gives_disk_space_back(sqlite_alone: Deployment) -> None:
    """Although the server has the file open. This is what `flask cache clear` does."""
    path = Path(sqlite_alone.api.environment["INSTANCE_DIR"]) / "november7-cache.sqlite"

    def size() -> int:
        return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))

    for query in "aeiounrst":
        assert sqlite_alone.api.search(query).ok
    before = size()
    with closing(SQLiteStore(path, max_bytes=2**20, stale=600)) as store:
        assert store.delete("") > 0
    assert size() < before / 2


def test_a_provider_that_asks_for_a_pause_is_left_alone(deployment: Deployment) -> None:
    """The last test on each deployment, since the pause goes on: a single refusal is random."""
    deployment.provider.faults = Faults(refuse=1, codes=(429,), retry_after="60")
    answers = [deployment.api.search(f"pause {next(numbers)}") for _ in range(12)]
    for answer in answers:
        assert_unavailable(answer)
        assert 5 < int(answer.headers["Retry-After"]) <= 60
    assert len(deployment.provider.requests) <= 2 * WORKERS
