"""Connects to whichever address of the provider answers first.

urllib3 tries the addresses of a host one after the other, each with the whole timeout. Here the
next address is tried after DELAY, while the first may still succeed (RFC 8305, "Happy Eyeballs").
"""

import asyncio
import socket
import ssl
from functools import cache

import certifi
from aiohappyeyeballs import start_connection

DELAY = 0.25  # seconds between two attempts, as RFC 8305 recommends


def open_socket(host: str, port: int, timeout: float) -> socket.socket:
    """A blocking socket that is connected to the first address of `host` that answers.

    `timeout`: seconds for all addresses together. Raises TimeoutError, or another OSError if no
    address can be connected to.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    async def race() -> socket.socket:
        async with asyncio.timeout(timeout):
            return await start_connection(addresses, happy_eyeballs_delay=DELAY, interleave=1)

    connected = asyncio.run(race())
    connected.settimeout(timeout)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def start_tls(connected: socket.socket, host: str) -> ssl.SSLSocket:
    """TLS over `connected`, with the certificate verified. Closes the socket if that fails."""
    try:
        return tls_context().wrap_socket(connected, server_hostname=host)
    except BaseException:
        connected.close()
        raise


@cache
def tls_context() -> ssl.SSLContext:
    """Verifies certificates against the root certificates of certifi."""
    return ssl.create_default_context(cafile=certifi.where())
