"""Checks that the server can listen on HOST and PORT, before gunicorn or a command starts it."""

import socket
import sys

from config import Config


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


if __name__ == "__main__":
    sys.exit(refusal(Config.HOST, Config.PORT))
