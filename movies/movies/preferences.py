"""Parses `Cache-Control` and `Prefer` of a search: how fresh it must be, and how long to wait.

Unknown directives and preferences are ignored, and so are malformed values (RFC 9111 section 5.2,
RFC 7240 section 2).
"""

import math
import re

from flask import request
from werkzeug.datastructures import RequestCacheControl
from werkzeug.http import parse_cache_control_header, parse_list_header

from movies.november7.freshness import ANY, Freshness

MAX_SECONDS = 2**31  # longer times are treated as this one (RFC 9111 section 1.2.2)
SECONDS = re.compile(r"[0-9]+")


def freshness() -> Freshness:
    """What the request's `Cache-Control` accepts from the cache (RFC 9111 section 5.2.1).

    `max-age` and `min-fresh` exclude stale responses unless `max-stale` allows them.
    """
    header = request.environ.get("HTTP_CACHE_CONTROL")
    if not header:
        return ANY
    directives = parse_cache_control_header(header.lower(), cls=RequestCacheControl)
    max_age = _seconds(directives.get("max-age"))
    min_fresh = _seconds(directives.get("min-fresh"))
    is_bounded = max_age is not None or min_fresh is not None
    max_stale: float | None = 0 if is_bounded else math.inf
    if "max-stale" in directives:
        stale_for = directives["max-stale"]
        seconds = math.inf if stale_for is None else _seconds(stale_for)
        max_stale = max_stale if seconds is None else seconds
    return Freshness(
        max_age=math.inf if max_age is None else max_age,
        max_stale=math.inf if max_stale is None else max_stale,
        min_fresh=min_fresh or 0,
        no_cache="no-cache" in directives,
        only_if_cached="only-if-cached" in directives,
    )


def wait() -> int | None:
    """The seconds of the preference `wait` (RFC 7240 section 4.3); None if there is none."""
    header = request.environ.get("HTTP_PREFER")
    if not header:
        return None
    for preference in parse_list_header(header):  # values may hold commas, in quotes
        token = preference.partition(";")[0].strip()
        name, _, value = token.partition("=")
        if name.strip().lower() == "wait":  # of several, the first counts
            return _seconds(value.strip().removeprefix('"').removesuffix('"'))
    return None


def _seconds(value: str | None) -> int | None:
    """A whole number of seconds; None if the value is malformed."""
    if value is None or not SECONDS.fullmatch(value):
        return None
    return min(int(value), MAX_SECONDS) if len(value) < 20 else MAX_SECONDS
