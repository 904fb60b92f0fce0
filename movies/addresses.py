"""Connects to whichever of several addresses answers first (RFC 8305, "Happy Eyeballs").

Libraries try the addresses of a host one after the other, each with the whole timeout. Here the
next address is tried after DELAY, while the first may still succeed.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from aiohappyeyeballs import start_connection

DELAY = 0.25  # seconds between two attempts, as RFC 8305 recommends


def connect_to_first(addresses: Sequence[Any], timeout: float) -> socket.socket:
    """A blocking socket that is connected to the first of `addresses` that answers.

    `addresses`: as `socket.getaddrinfo` returns them. `timeout`: seconds for all of them together.
    Raises TimeoutError, or another OSError if no address can be connected to.
    """

    async def race() -> socket.socket:
        async with asyncio.timeout(timeout):
            return await start_connection(addresses, happy_eyeballs_delay=DELAY, interleave=1)

    connected = asyncio.run(race())
    connected.settimeout(timeout)
    return connected
