"""Orders the IP addresses of PostgreSQL: the one that accepted the last connection comes first.

psycopg tries addresses in their order, each for the whole `connect_timeout`. An address that does
not respond would delay every connection, and readiness checks would time out.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg

from movies.addresses import connect_to_first

DEFAULT_PORT = "5432"
RACE_TIMEOUT = 1.0  # seconds in which an address has to answer to be preferred

_last_good: tuple[str, str] | None = None  # address and port of this process's last new connection


def best_address_first(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a connection, with the best of several addresses first.

    It is the last good one or, if there is none, the first that answers.
    """
    found = list(_addresses(settings))
    if len(found) < 2:
        return settings
    best = _last_good
    if best not in [address for _, address, _ in found]:
        best = _first_to_answer([info for _, _, info in found])
    found.sort(key=lambda one: one[1] != best)
    return {
        **settings,
        "host": ",".join(host for host, _, _ in found),
        "hostaddr": ",".join(address for _, (address, _), _ in found),
        "port": ",".join(port for _, (_, port), _ in found),
    }


def remember_address(connection: psycopg.Connection[Any]) -> None:
    """Prefer the address of this connection from now on."""
    global _last_good  # noqa: PLW0603  a process has one database
    _last_good = (connection.info.hostaddr, str(connection.info.port))


def forget_address() -> None:
    """Prefer no address: the server at the last one could not serve."""
    global _last_good  # noqa: PLW0603
    _last_good = None


def _addresses(settings: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str], Any]]:
    """Host, address and port, and what the resolver returned, of every TCP address.

    Yields nothing if the settings name IP addresses or Unix sockets themselves.
    """
    hosts = str(settings.get("host", "")).split(",")
    ports = str(settings.get("port", DEFAULT_PORT)).split(",")
    is_local = any(not host or host[0] in "/@" for host in hosts)
    if is_local or "hostaddr" in settings or len(ports) not in (1, len(hosts)):
        return
    for host, given in zip(hosts, ports * (len(hosts) // len(ports)), strict=True):
        port = given or DEFAULT_PORT
        with suppress(OSError):  # psycopg leaves out a name that does not resolve, too
            for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                yield host, (str(info[4][0]), port), info


def _first_to_answer(infos: list[Any]) -> tuple[str, str] | None:
    """The address and port that answers first; None if none does, which psycopg reports."""
    try:
        with connect_to_first(infos, RACE_TIMEOUT) as connected:
            address, port, *_ = connected.getpeername()
    except OSError:
        return None
    return address, str(port)
