"""Rate limits of the API, and their response headers."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import time_machine
from accounts import PASSWORD, Accounts
from applications import empty
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from redis.connection import Connection
from werkzeug.test import TestResponse

from movies.limits import client_address

TOKEN = "/api/v1/auth/token/"
REGISTER = "/api/v1/users/register/"
ME = "/api/v1/users/me/"
ADA = "ada@example.com"
ITEM = r'"[a-z-]+";r=\d+;t=\d+'
MakeApp = Callable[..., Flask]


@pytest.fixture
def database_url(sqlite: str) -> str:
    """The tests use one database only, because no count is kept in it."""
    empty(sqlite)
    return sqlite


@pytest.fixture
def limited(make_app: MakeApp) -> Iterator[MakeApp]:
    """Makes applications with rate limits. The clock stands still, so that no window ends."""
    with time_machine.travel(datetime.now(UTC), tick=False):
        yield partial(make_app, RATELIMIT_ENABLED=True)


@pytest.fixture(params=["file", "redis"])
def store(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of each store for counts, which is empty."""
    if request.param == "file":
        return {}
    request.getfixturevalue("redis")
    return {"REDIS_URL": request.getfixturevalue("redis_url")}


def sign_in(client: FlaskClient, email: str = ADA, **options: Any) -> TestResponse:
    return client.post(TOKEN, json={"email": email, "password": "not the password"}, **options)


def statuses(times: int, send: Callable[[], TestResponse]) -> list[int]:
    return [send().status_code for _ in range(times)]


def test_an_account_allows_20_sign_ins_a_minute(limited: MakeApp, store: dict[str, str]) -> None:
    client = limited(**store).test_client()
    assert statuses(21, lambda: sign_in(client)) == [401] * 20 + [429]


def test_all_spellings_of_an_email_address_share_a_limit(limited: MakeApp) -> None:
    client = limited().test_client()
    spellings = iter([ADA, ADA.upper(), f" {ADA}", "ADA@example.com"] * 6)
    assert statuses(21, lambda: sign_in(client, next(spellings)))[-1] == 429


def test_an_account_shares_its_limit_among_ip_addresses(limited: MakeApp) -> None:
    client = limited().test_client()
    hosts = iter(range(1, 22))

    def guess() -> TestResponse:
        return sign_in(client, environ_base={"REMOTE_ADDR": f"192.0.2.{next(hosts)}"})

    assert statuses(21, guess)[-1] == 429


def test_the_limit_of_one_account_leaves_others_alone(limited: MakeApp) -> None:
    client = limited().test_client()
    accounts = Accounts(client)
    email = accounts.register()["email"]
    statuses(21, lambda: sign_in(client))
    assert accounts.sign_in(email)


def test_successful_sign_ins_count_as_well(limited: MakeApp) -> None:
    client = limited().test_client()
    Accounts(client).register(ADA)
    right = {"email": ADA, "password": PASSWORD}
    assert statuses(21, lambda: client.post(TOKEN, json=right)) == [200] * 20 + [429]


def test_an_ip_address_allows_60_sign_ins_a_minute(limited: MakeApp, store: dict[str, str]) -> None:
    client = limited(**store).test_client()
    emails = iter(range(61))
    seen = statuses(61, lambda: sign_in(client, f"user{next(emails)}@example.com"))
    assert seen == [401] * 60 + [429]


def test_an_ip_address_allows_60_registrations_a_minute(limited: MakeApp) -> None:
    """Valid and invalid ones."""
    client = limited().test_client()
    assert statuses(61, lambda: client.post(REGISTER, json={})) == [422] * 60 + [429]


def test_a_user_may_send_1200_requests_a_minute(limited: MakeApp, store: dict[str, str]) -> None:
    """To all endpoints together."""
    app = limited(**store)
    client = app.test_client()
    accounts = Accounts(client)
    ada, eve = accounts.headers(ADA), accounts.headers("eve@example.com")
    for _ in range(1198):
        app.extensions["rate_limits"].hit({"api:user-1": 12})
    paths = iter([ME, "/api/v1/movies/top/", ME])
    assert statuses(3, lambda: client.get(next(paths), headers=ada)) == [200, 200, 429]
    assert client.get(ME, headers=eve).status_code == 200


def test_an_invalid_body_is_not_counted_for_an_account(limited: MakeApp) -> None:
    client = limited().test_client()
    malformed = {"data": "{", "content_type": "application/json"}
    assert statuses(25, lambda: client.post(TOKEN, **malformed)) == [400] * 25


def test_parallel_requests_are_counted_exactly(limited: MakeApp, store: dict[str, str]) -> None:
    client = limited(**store).test_client()
    with ThreadPoolExecutor(30) as pool:
        seen = [
            got.result().status_code for got in [pool.submit(sign_in, client) for _ in range(30)]
        ]
    assert Counter(seen) == {401: 20, 429: 10}


def test_a_user_may_change_the_password_10_times_a_minute(limited: MakeApp) -> None:
    client = limited().test_client()
    headers = Accounts(client).headers()
    change = {"current_password": "not the password", "new_password": "notes on the engine"}

    def guess() -> TestResponse:
        return client.post(f"{ME}password/", json=change, headers=headers)

    assert statuses(11, guess) == [403] * 10 + [429]


def test_every_response_names_the_limits_that_apply(
    limited: MakeApp, store: dict[str, str]
) -> None:
    """Successes, 304 and errors. A 401 without a token has none, because no limit was counted."""
    client = limited(**store).test_client()
    headers = Accounts(client).headers()
    found = client.get(ME, headers=headers)
    assert found.headers["RateLimit-Policy"] == '"api";q=1200;w=60'
    assert re.fullmatch(r'"api";r=1199;t=(60|[1-5]?\d)', found.headers["RateLimit"])
    unchanged = client.get(ME, headers={**headers, "If-None-Match": found.headers["ETag"]})
    invalid = client.get(f"{ME}?x=1", headers=headers)
    missing = client.get("/api/v1/movies/ratings/1", headers=headers)
    for left, (answer, status) in enumerate([(unchanged, 304), (invalid, 422), (missing, 404)]):
        assert answer.status_code == status
        assert answer.headers["RateLimit"].startswith(f'"api";r={1198 - left};t=')
    assert "RateLimit" not in client.get(ME).headers


def test_a_sign_in_response_lists_all_limits(limited: MakeApp) -> None:
    answer = sign_in(limited().test_client())
    policies = ['"api";q=1200;w=60', '"sign-in-address";q=60;w=60', '"sign-in-account";q=20;w=60']
    assert answer.headers["RateLimit-Policy"].split(", ") == policies
    assert re.fullmatch(rf"{ITEM}, {ITEM}, {ITEM}", answer.headers["RateLimit"])


def test_429_says_when_to_retry(limited: MakeApp, store: dict[str, str]) -> None:
    client = limited(**store).test_client()
    statuses(20, lambda: sign_in(client))
    answer = sign_in(client)
    assert answer.mimetype == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert f'"sign-in-account";r=0;t={answer.headers["Retry-After"]}' in answer.headers["RateLimit"]


def test_requests_are_accepted_again_after_retry_after(limited: MakeApp) -> None:
    client = limited().test_client()
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        statuses(20, lambda: sign_in(client))
        wait = int(sign_in(client).headers["Retry-After"])
        clock.shift(timedelta(seconds=wait))
        assert sign_in(client).status_code == 401


@pytest.mark.parametrize("path", [ME, TOKEN])
def test_a_request_makes_at_most_one_round_trip_to_redis(
    limited: MakeApp, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """However many limits apply. None if only large limits do, and hits were shared just now."""
    client = limited(REDIS_URL=redis_url).test_client()
    headers = Accounts(client).headers()
    sent: list[Any] = []
    send = Connection.send_packed_command

    def count(self: Connection, *args: Any, **options: Any) -> None:
        sent.append(args)
        send(self, *args, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Connection, "send_packed_command", count)
    client.open(path, method="GET" if path == ME else "POST", json={}, headers=headers)
    assert len(sent) == (0 if path == ME else 1)


def test_processes_share_their_counts(limited: MakeApp, store: dict[str, str]) -> None:
    first, second = limited(**store).test_client(), limited(**store).test_client()
    assert statuses(20, lambda: sign_in(first)) == [401] * 20
    assert sign_in(second).status_code == 429


@pytest.mark.slow
def test_the_store_contains_no_email_address(
    limited: MakeApp, redis: Redis, redis_url: str
) -> None:
    sign_in(limited(REDIS_URL=redis_url).test_client())
    keys = str(redis.keys("*"))
    assert "movies:rate-limit:sign-in-account:" in keys
    assert "ada" not in keys
    assert "example.com" not in keys


@pytest.mark.slow
def test_forwarded_addresses_are_ignored_without_a_trusted_proxy(limited: MakeApp) -> None:
    client = limited().test_client()
    numbers = iter(range(70))

    def attempt() -> TestResponse:
        number = next(numbers)
        forwarded = {"X-Forwarded-For": f"192.0.2.{number}"}
        return sign_in(client, f"user{number}@example.com", headers=forwarded)

    assert statuses(70, attempt)[-1] == 429


@pytest.mark.parametrize(
    ("forwarded", "last"),
    [
        ("192.0.2.{}", 401),
        ("192.0.2.{}, 198.51.100.1", 429),
        ("198.51.100.1:400{}", 429),
        ("[2001:db8::{}]:40001", 429),
        ("2001:db8:0:0:{}::1", 429),
        ("2001:db8:0:{}::1", 401),
    ],
)
def test_the_address_that_the_trusted_proxy_saw_is_counted(
    limited: MakeApp, forwarded: str, last: int
) -> None:
    """Without its port, and IPv6 by /64."""
    client = limited(TRUSTED_PROXIES=1).test_client()
    numbers = iter(range(10, 71))

    def attempt() -> TestResponse:
        number = next(numbers)
        headers = {"X-Forwarded-For": forwarded.format(number)}
        return sign_in(client, f"user{number}@example.com", headers=headers)

    assert statuses(61, attempt)[-1] == last


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:40001", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:3:4:5:6]:40001", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::]", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:40001", "203.0.113.9"),
        ("::ffff:203.0.113.9:40001", "203.0.113.9"),
        ("_hidden:40001", "_hidden"),
        ("unknown", "unknown"),
        ("_hidden" * 100, ("_hidden" * 100)[:64]),
        ("", ""),
    ],
)
def test_addresses_are_normalized(remote: str, counted: str) -> None:
    with Flask(__name__).test_request_context(environ_base={"REMOTE_ADDR": remote}):
        assert client_address() == counted


def test_a_setting_turns_limits_off(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_ENABLED=False).test_client()
    assert statuses(25, lambda: sign_in(client)) == [401] * 25
    assert "RateLimit" not in sign_in(client).headers
