"""Connections to a provider with several addresses, some of them dead, and over TLS."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from helpers import eventually
from requests import Request, Response
from sockets import black_hole

from movies.november7 import deadline, refresher
from movies.november7.errors import ConnectionFailed, TimedOut
from movies.november7.transport import BoundedHTTPAdapter, Transport
from november7.clients import build_client, fail
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

HOST = "provider.test"
GOOD, DEAD, UNUSED = "127.0.0.1", "127.0.0.2", "127.0.0.3"  # nothing listens at the last


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the addresses that HOST resolves to, in order."""
    real = socket.getaddrinfo

    def resolve(*addresses: str) -> None:
        def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
            hosts = addresses if host == HOST else [host]
            return [info for one in hosts for info in real(one, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return resolve


@pytest.fixture
def dead(stand_in: StandIn) -> Iterator[None]:
    """At DEAD, connections to the stand-in's port are neither accepted nor refused."""
    with black_hole(DEAD, stand_in.port):
        yield


@pytest.fixture
def transport() -> Iterator[Transport]:
    with closing(Transport(BoundedHTTPAdapter(), sleep=lambda seconds: None)) as transport:
        yield transport


def send(
    transport: Transport, port: int, *, host: str = HOST, scheme: str = "http", timeout: float = 30
) -> Response:
    url = f"{scheme}://{host}:{port}/movies/?skip=0&limit=5"
    return transport.send(Request("GET", url).prepare(), timeout=timeout)


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize("addresses", [(DEAD, GOOD), (UNUSED, GOOD), (DEAD, UNUSED, GOOD)])
def test_dead_addresses_do_not_use_up_the_time_of_a_good_one(
    transport: Transport,
    stand_in: StandIn,
    resolve: Callable[..., None],
    addresses: tuple[str, ...],
) -> None:
    resolve(*addresses)
    assert send(transport, stand_in.port).status_code == 200
    assert len(stand_in.requests) == 1


@pytest.mark.usefixtures("dead", "no_backoff")
def test_probes_reach_a_provider_whose_first_address_is_dead(
    stand_in: StandIn,
    resolve: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve(DEAD, GOOD)
    monkeypatch.setattr(refresher, "INTERVAL", 0.1)
    client = build_client(f"http://{HOST}:{stand_in.port}/", tmp_path)
    with closing(client):
        stand_in.faults = Faults(refuse=1)
        fail(client)
        assert client.breaker.is_open
        stand_in.faults = Faults()
        assert eventually(lambda: not client.breaker.is_open, within=30)


@pytest.mark.usefixtures("dead")
def test_a_host_with_dead_addresses_only_times_out(
    transport: Transport, stand_in: StandIn, resolve: Callable[..., None]
) -> None:
    resolve(DEAD, DEAD)
    with pytest.raises(TimedOut):
        send(transport, stand_in.port, timeout=0.5)


def test_a_host_that_refuses_at_every_address_is_a_failed_connection(
    transport: Transport, stand_in: StandIn, resolve: Callable[..., None]
) -> None:
    resolve(UNUSED, UNUSED)
    with pytest.raises(ConnectionFailed):
        send(transport, stand_in.port)


def test_a_host_name_that_does_not_resolve_is_a_failed_connection(transport: Transport) -> None:
    with pytest.raises(ConnectionFailed):
        send(transport, 80, host="no-such-host.invalid", timeout=0.5)


@pytest.fixture
def tls(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port at which the stand-in speaks TLS, with a certificate for HOST that is trusted."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    monkeypatch.setattr(deadline, "tls_context", lambda: trusted)
    with socket.create_server((GOOD, 0)) as listening:
        thread = threading.Thread(target=_serve_tls, args=(listening, context, stand_in))
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _serve_tls(listening: socket.socket, context: ssl.SSLContext, stand_in: StandIn) -> None:
    """Answer one request on each connection until `listening` is shut down."""
    while True:
        try:
            connection = listening.accept()[0]
        except OSError:
            return
        try:
            with context.wrap_socket(connection, server_side=True) as encrypted:
                target = encrypted.recv(65536).split(b" ")[1].decode()
                answer = stand_in.catalogue.answer("GET", target)
                encrypted.sendall(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(answer.body), answer.body)
                )
        except OSError:  # the client does not trust the certificate
            connection.close()


def test_a_provider_is_reached_over_tls(
    transport: Transport, tls: int, resolve: Callable[..., None]
) -> None:
    resolve(UNUSED, GOOD)
    assert send(transport, tls, scheme="https").json()["items"]


def test_a_certificate_for_another_host_is_not_accepted(transport: Transport, tls: int) -> None:
    with pytest.raises(ConnectionFailed):
        send(transport, tls, host="localhost", scheme="https")


def test_a_certificate_of_an_unknown_authority_is_not_accepted(
    transport: Transport, tls: int, resolve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = ssl.create_default_context()
    monkeypatch.setattr(deadline, "tls_context", lambda: usual)
    resolve(GOOD)
    with pytest.raises(ConnectionFailed):
        send(transport, tls, scheme="https")


def test_a_tls_handshake_ends_at_the_deadline(transport: Transport) -> None:
    with socket.create_server((GOOD, 0)) as silent, pytest.raises(TimedOut):
        send(transport, silent.getsockname()[1], host=GOOD, scheme="https", timeout=0.5)
