"""Connections to the provider, at whichever of its addresses answers first, and TLS."""

import socket
import ssl
from functools import cache

import certifi

from movies.addresses import connect_to_first


def open_socket(host: str, port: int, timeout: float) -> socket.socket:
    """A blocking socket that is connected to the first address of `host` that answers.

    `timeout`: seconds for all addresses together. Raises TimeoutError, or another OSError if no
    address can be connected to.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    connected = connect_to_first(addresses, timeout)
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
