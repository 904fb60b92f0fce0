"""Rate limits, and their response headers (draft-ietf-httpapi-ratelimit-headers-11).

A limit allows a number of requests in each fixed window of WINDOW seconds, which begins with the
first request. Every request to which a limit applies is counted, whether or not it succeeds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

from flask import Flask, current_app, g, request

from movies.counters import WINDOW, Count, open_counters
from movies.headers import set_header
from movies.settings import open_redis

IPV6_PREFIX = 64  # bits: the least that one customer is given (RFC 6177)


@dataclass(frozen=True)
class RateLimit:
    """At most `quota` requests in WINDOW seconds for each value of `key`.

    `name` is its name in the response headers. A `key` of None means that the limit does not apply.
    Processes count together, but each may keep up to 1 % of the quota to itself for a moment.
    """

    name: str
    quota: int
    key: Callable[[], str | None]

    @cached_property
    def policy(self) -> str:
        """Its item in `RateLimit-Policy`."""
        return f'"{self.name}";q={self.quota};w={WINDOW}'


class RateLimitExceeded(Exception):
    """A rate limit does not allow the request. `retry_after` in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("rate limit exceeded")
        self.retry_after = retry_after


def client_address() -> str:
    """The client's IP address; an IPv6 address is reduced to its /64 network.

    The port that some proxies add in `X-Forwarded-For` is removed.
    """
    text = request.remote_addr or ""
    without_port = text.rpartition(":")[0] or text
    address = _parsed(text) or _parsed(without_port)
    if address is None:
        return without_port[:64]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(ip_network((address, IPV6_PREFIX), strict=False))
        address = address.ipv4_mapped
    return str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address, which may be in brackets and have a zone; None if it is not an address."""
    try:
        return ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def caller() -> str:
    """The user who is calling, or the IP address of a caller who is not signed in."""
    return f"user-{g.caller.user_id}" if "caller" in g else f"address-{client_address()}"


API_LIMIT = RateLimit("api", 1200, caller)


def init_app(app: Flask) -> None:
    """Have `app` count requests, unless RATELIMIT_ENABLED is false."""
    if not app.config["RATELIMIT_ENABLED"]:
        return
    directory = Path(app.config["INSTANCE_DIR"])
    app.extensions["rate_limits"] = open_counters(open_redis(app.config), directory)


def check_limits(*limits: RateLimit) -> None:
    """Count the current request by `limits`. Raises RateLimitExceeded."""
    counters = current_app.extensions.get("rate_limits")
    if counters is None:
        return
    keys = [(limit, key) for limit in limits if (key := limit.key()) is not None]
    counts = counters.hit({f"{limit.name}:{key}": limit.quota // 100 for limit, key in keys})
    counted = [(limit, count) for (limit, _), count in zip(keys, counts, strict=True)]
    _set_headers(counted)
    exceeded = [count.resets_in for limit, count in counted if count.hits > limit.quota]
    if exceeded:
        raise RateLimitExceeded(max(1, math.ceil(max(exceeded))))


def _set_headers(counted: list[tuple[RateLimit, Count]]) -> None:
    """Set `RateLimit-Policy` and `RateLimit` to all limits that were counted for this request."""
    g.rate_limits = counted = [*g.get("rate_limits", ()), *counted]
    left = [
        f'"{limit.name}";r={max(0, limit.quota - count.hits)};t={math.ceil(count.resets_in)}'
        for limit, count in counted
    ]
    set_header("RateLimit-Policy", ", ".join([limit.policy for limit, _ in counted]))
    set_header("RateLimit", ", ".join(left))
