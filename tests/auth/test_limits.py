"""How many requests one may send, and what who sends more is told."""

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import time_machine
from accounts import PASSWORD, Accounts
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from movies.extensions import limiter

TOKEN = "/api/v1/auth/token/"
REGISTER = "/api/v1/users/register/"
ADA = "ada@example.com"
MakeApp = Callable[..., Flask]


@pytest.fixture(autouse=True)
def _limits_are_off_again() -> Iterator[None]:
    """The limiter is one for all applications of a process; leave it as it is found."""
    yield
    limiter.enabled = False


@pytest.fixture
def limited(make_app: MakeApp) -> MakeApp:
    """Makes applications with rate limits."""
    return partial(make_app, RATELIMIT_ENABLED=True)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of either place where limits are counted, empty."""
    if request.param == "memory":
        return {}
    request.getfixturevalue("redis")
    return {"REDIS_URL": request.getfixturevalue("redis_url")}


def sign_in(client: FlaskClient, email: str = ADA, **options: Any) -> TestResponse:
    return client.post(TOKEN, json={"email": email, "password": "not the password"}, **options)


def statuses(times: int, send: Callable[[], TestResponse]) -> list[int]:
    return [send().status_code for _ in range(times)]


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_account_is_guessed_at_twenty_times_a_minute(
    limited: MakeApp, store: dict[str, str]
) -> None:
    """The twenty-first wrong password in a minute is not even looked at."""
    client = limited(**store).test_client()
    assert statuses(21, lambda: sign_in(client)) == [401] * 20 + [429]


def test_the_limit_of_an_account_holds_for_all_its_spellings(limited: MakeApp) -> None:
    """Letter case and white space of the address don't buy more guesses."""
    client = limited().test_client()
    spellings = iter([ADA, ADA.upper(), f" {ADA}", "ADA@example.com"] * 6)
    assert statuses(21, lambda: sign_in(client, next(spellings)))[-1] == 429


def test_the_limit_of_an_account_holds_for_all_addresses(limited: MakeApp) -> None:
    """Guessing from many machines doesn't buy more guesses."""
    client = limited().test_client()
    hosts = iter(range(1, 22))

    def guess() -> TestResponse:
        return sign_in(client, environ_base={"REMOTE_ADDR": f"192.0.2.{next(hosts)}"})

    assert statuses(21, guess)[-1] == 429


def test_other_accounts_are_not_held_up(limited: MakeApp) -> None:
    """Who is guessed at keeps nobody else from signing in."""
    client = limited().test_client()
    accounts = Accounts(client)
    email = accounts.register()["email"]
    statuses(21, lambda: sign_in(client))
    assert accounts.sign_in(email)


def test_signing_in_often_is_no_guessing(limited: MakeApp) -> None:
    """Fifteen sign-ins in a minute are within an account's limit."""
    client = limited().test_client()
    accounts = Accounts(client)
    accounts.register(ADA)
    right = {"email": ADA, "password": PASSWORD}
    assert statuses(15, lambda: client.post(TOKEN, json=right)) == [200] * 15


def test_an_address_signs_in_sixty_times_a_minute(limited: MakeApp, store: dict[str, str]) -> None:
    """The sixty-first sign-in from one machine is refused, whatever the accounts."""
    client = limited(**store).test_client()
    emails = iter(range(61))
    seen = statuses(61, lambda: sign_in(client, f"user{next(emails)}@example.com"))
    assert seen == [401] * 60 + [429]


def test_an_address_registers_sixty_times_a_minute(limited: MakeApp) -> None:
    """The sixty-first registration from one machine is refused, valid or not."""
    client = limited().test_client()
    seen = statuses(61, lambda: client.post(REGISTER, json={}))
    assert seen == [422] * 60 + [429]


def test_a_user_sends_1200_requests_a_minute(limited: MakeApp) -> None:
    """The limit of the API counts the requests of a user, on all endpoints together."""
    client = limited().test_client()
    accounts = Accounts(client)
    ada, eve = accounts.headers(ADA), accounts.headers("eve@example.com")
    limiter.storage.incr("LIMITER/movies/user-1/api/1200/1/minute", 60, amount=1198)
    paths = iter(["/api/v1/users/me/", "/api/v1/movies/top/", "/api/v1/users/me/"])
    assert statuses(3, lambda: client.get(next(paths), headers=ada)) == [200, 200, 429]
    assert client.get("/api/v1/users/me/", headers=eve).status_code == 200


def test_what_cannot_be_read_is_no_guess(limited: MakeApp) -> None:
    """Malformed sign-ins are refused for what they are, not counted against one account of all."""
    client = limited().test_client()
    malformed = {"data": "{", "content_type": "application/json"}
    assert statuses(25, lambda: client.post(TOKEN, **malformed)) == [400] * 25


def test_guesses_in_parallel_are_counted_too(limited: MakeApp) -> None:
    """Sending all guesses at once gets no more of them looked at."""
    client = limited().test_client()
    with ThreadPoolExecutor(30) as pool:
        seen = [
            got.result().status_code for got in [pool.submit(sign_in, client) for _ in range(30)]
        ]
    assert Counter(seen) == {401: 20, 429: 10}


def test_a_current_password_is_guessed_at_ten_times_a_minute(limited: MakeApp) -> None:
    """Who holds a token can't use it to find out the password."""
    client = limited().test_client()
    headers = Accounts(client).headers()
    change = {"current_password": "not the password", "new_password": "notes on the engine"}

    def guess() -> TestResponse:
        return client.post("/api/v1/users/me/password/", json=change, headers=headers)

    assert statuses(11, guess) == [403] * 10 + [429]


def test_who_sends_too_much_is_told_when_to_come_back(
    limited: MakeApp, store: dict[str, str]
) -> None:
    """429 is a problem with Retry-After and the RateLimit headers, in whole seconds."""
    client = limited(**store).test_client()
    statuses(20, lambda: sign_in(client))
    answer = sign_in(client)
    assert answer.mimetype == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    assert answer.headers["RateLimit-Limit"] == "20"
    assert answer.headers["RateLimit-Remaining"] == "0"
    assert answer.headers["RateLimit-Reset"] == answer.headers["Retry-After"]


def test_the_limit_ends_when_it_says(limited: MakeApp) -> None:
    """After the seconds of Retry-After the next attempt is looked at again."""
    client = limited().test_client()
    start = datetime.now(UTC)
    with time_machine.travel(start, tick=False) as clock:
        statuses(20, lambda: sign_in(client))
        wait = int(sign_in(client).headers["Retry-After"])
        clock.shift(timedelta(seconds=wait + 1))
        assert sign_in(client).status_code == 401


def test_processes_share_their_limits_on_redis(
    limited: MakeApp, redis: Redis, redis_url: str
) -> None:
    """What one process has counted on Redis, another goes on from."""
    first = limited(REDIS_URL=redis_url).test_client()
    statuses(20, lambda: sign_in(first))
    second = limited(REDIS_URL=redis_url).test_client()  # with a store of its own from here on
    assert sign_in(second).status_code == 429


def test_processes_without_redis_count_for_themselves(limited: MakeApp) -> None:
    """Without Redis another process starts from zero, so that the test above means something."""
    first = limited().test_client()
    statuses(20, lambda: sign_in(first))
    second = limited().test_client()
    assert sign_in(second).status_code == 401


def test_no_address_is_in_the_store(limited: MakeApp, redis: Redis, redis_url: str) -> None:
    """The keys on Redis name accounts by a hash."""
    sign_in(limited(REDIS_URL=redis_url).test_client())
    keys = str(redis.keys("*"))
    assert "movies" in keys
    assert "ada" not in keys
    assert "example.com" not in keys


def test_limits_go_on_without_redis(limited: MakeApp) -> None:
    """Where Redis is away nobody is locked out, and guessing is limited all the same."""
    client = limited(REDIS_URL=f"redis://127.0.0.1:{unused_port()}/0").test_client()
    assert Accounts(client).headers()
    assert statuses(21, lambda: sign_in(client)) == [401] * 20 + [429]


def test_forwarded_addresses_are_not_believed(limited: MakeApp) -> None:
    """Without proxies in front, X-Forwarded-For doesn't buy more sign-ins."""
    client = limited().test_client()
    numbers = iter(range(70))

    def attempt() -> TestResponse:
        number = next(numbers)
        forwarded = {"X-Forwarded-For": f"192.0.2.{number}"}
        return sign_in(client, f"user{number}@example.com", headers=forwarded)

    assert statuses(70, attempt)[-1] == 429


@pytest.mark.parametrize(
    ("forwarded", "last"), [("192.0.2.{}", 401), ("192.0.2.{}, 198.51.100.1", 429)]
)
def test_as_many_forwarded_addresses_are_believed_as_there_are_proxies(
    limited: MakeApp, forwarded: str, last: int
) -> None:
    """With one proxy the last address is the client's, and what stands before it is its fancy."""
    client = limited(TRUSTED_PROXIES=1).test_client()
    numbers = iter(range(70))

    def attempt() -> TestResponse:
        number = next(numbers)
        headers = {"X-Forwarded-For": forwarded.format(number)}
        return sign_in(client, f"user{number}@example.com", headers=headers)

    assert statuses(70, attempt)[-1] == last


def test_limits_are_off_where_a_setting_says_so(make_app: MakeApp) -> None:
    """RATELIMIT_ENABLED=false lets anybody guess."""
    client = make_app(RATELIMIT_ENABLED=False).test_client()
    assert statuses(12, lambda: sign_in(client)) == [401] * 12
