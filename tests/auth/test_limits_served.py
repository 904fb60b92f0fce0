"""Rate limits and password checks of a real server with two workers."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count

import pytest
from accounts import PASSWORD
from served import WORKERS, Served, served

from movies.auth.passwords import MAX_CALLERS

pytestmark = pytest.mark.slow

TOKEN = "/api/v1/auth/token/"
REGISTER = "/api/v1/users/register/"
COSTLY = "4@8({[<369&1!|0$57+%2" * 6  # one of those that take longest to check
ADA = {"email": "ada@example.com", "password": PASSWORD}  # whom the server has registered
networks = count(1)


@pytest.fixture(scope="module", params=["file", "redis"])
def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server with rate limits behind one proxy, which is the test."""
    settings = {"RATELIMIT_ENABLED": "true", "TRUSTED_PROXIES": "1"}
    if request.param == "redis":
        settings["REDIS_URL"] = request.getfixturevalue("redis_url")
    with served(tmp_path_factory.mktemp("limits"), **settings) as running:
        yield running


def address(network: int, host: int = 1) -> dict[str, str]:
    """The header that a proxy adds for an IPv6 client."""
    return {"X-Forwarded-For": f"2001:db8:0:{network:x}::{host:x}"}


def sign_in(app: Served, email: str) -> int:
    credentials = {"email": email, "password": "not the password"}
    return app.ask("POST", TOKEN, json=credentials).status_code


def test_workers_share_the_limit_of_an_account(app: Served) -> None:
    """Each request opens a connection, so both workers handle some of them."""
    email = f"grace{id(app)}@example.com"
    assert [sign_in(app, email) for _ in range(21)] == [401] * 20 + [429]


def test_an_ipv6_network_has_one_limit(app: Served) -> None:
    """A client with 2^64 addresses does not get 2^64 limits."""

    def try_to_sign_in(network: int, host: int) -> int:
        headers = address(network, host)
        return app.ask("POST", TOKEN, json={}, headers=headers).status_code

    first, second = next(networks), next(networks)
    assert [try_to_sign_in(first, host) for host in range(61)] == [422] * 60 + [429]
    assert try_to_sign_in(second, 1) == 422


@pytest.mark.parametrize("app", ["file"], indirect=True)
def test_slow_password_checks_do_not_block_registration(app: Served) -> None:
    """They are checked at registrations and at password changes. A slow one would delay all."""
    user = app.sign_in("slow@example.com")

    def register(number: int) -> int:
        account = {"email": f"honest{number}@example.com", "password": PASSWORD}
        return app.ask("POST", REGISTER, json=account, headers=address(next(networks))).status_code

    def attack(_: int) -> int:
        account = {**ADA, "password": COSTLY}
        return app.ask("POST", REGISTER, json=account, headers=address(next(networks))).status_code

    def change(_: int) -> int:
        change = {"current_password": "not the password", "new_password": COSTLY}
        headers = {**user, **address(next(networks))}
        path = "/api/v1/users/me/password/"
        return app.ask("POST", path, json=change, headers=headers).status_code

    with ThreadPoolExecutor(30) as pool:
        calls = [attack] * 20 + [change] * 4
        attacks = [pool.submit(call, number) for number, call in enumerate(calls)]
        honest = list(pool.map(register, range(4)))
    assert honest == [201] * 4
    assert Counter(attack.result() for attack in attacks) == {409: 20, 403: 4}


@pytest.mark.parametrize("app", ["file"], indirect=True)
def test_many_sign_ins_at_once_leave_threads_for_others(app: Served) -> None:
    """More than may wait for a password check. tests/auth/test_sign_in.py counts those."""
    host, port = app.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        clients: list[socket.socket] = []
        for number in range((MAX_CALLERS + 20) * WORKERS):
            body = json.dumps({**ADA, "email": f"nobody{number}@example.com"})
            head = [f"POST {TOKEN} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
            head += [f"{name}: {value}" for name, value in address(next(networks)).items()]
            head += ["Connection: close", f"Content-Length: {len(body)}", "", body]
            clients.append(stack.enter_context(socket.create_connection((host, int(port)), 30)))
            clients[-1].sendall("\r\n".join(head).encode())
        assert app.ask("GET", "/health/live").ok
        assert app.ask("GET", "/api/v1/users/me/").ok
        statuses = {client.recv(12).split()[1] for client in clients}
    assert statuses <= {b"401", b"429"}
