"""Connects to the first of a host's addresses that answers ("Happy Eyeballs", RFC 8305).

Libraries try the addresses one after the other, each with the whole timeout. Here the next attempt
starts after DELAY, while the first may still succeed.
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
    Raises TimeoutError, or another OSError if no connection can be made.
    """

    async def race() -> socket.socket:
        async with asyncio.timeout(timeout):
            return await start_connection(addresses, happy_eyeballs_delay=DELAY, interleave=1)

    connected = asyncio.run(race())
    connected.settimeout(timeout)
    return connected
