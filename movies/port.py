"""Checks that a server can listen on an address, so that it can say what to set if it cannot."""

import socket


def refusal(host: str, port: int) -> str | None:
    """Why no server can listen on this address, and what to set; None if one can."""
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
            f"Set HOST or PORT to another one, such as PORT={port % 65535 + 1}."
        )
    return None
