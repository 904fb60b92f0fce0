"""Checks that the server can listen on HOST and PORT, and explains what to change if it cannot."""

import socket


def bind_error(host: str, port: int) -> str | None:
    """Why no server can listen on this address, and what to change; None if one can."""
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return (
            f"Error: cannot listen on {host}, port {port}: {error.strerror}. "
            f"Set HOST or PORT to another value, such as PORT={port % 65535 + 1}."
        )
    return None
