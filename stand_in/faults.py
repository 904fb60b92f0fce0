"""The faults of the stand-in: which fault a request gets, and the answer that it produces."""

import json
import math
import random
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

from stand_in.catalogue import (
    DEFAULTS,
    Answer,
    json_answer,
    make_answer,
    query_parameters,
    redirect_answer,
)

REFUSAL = "refused by November 7"
TRACEBACK = "provider traceback: the stand-in failed as it was told to\n"
ERROR_PAGE = "<!doctype html><title>Error</title><h1>November 7 is having a moment</h1>\n"

FAULT_KINDS = (
    "refuse",
    "hang",
    "malformed",
    "html",
    "truncated",
    "short",
    "bad_movie",
    "drip",
    "drip_headers",
    "reset",
    "error",
    "redirect",
)

_LARGEST_PAGE = 1000  # movies; the most that an answer with too many movies has, less one
_LARGE_TOTAL = 1_000_000  # movies
_BAD_MEMBERS: list[dict[str, Any]] = [
    {"title": None},
    {"title": 7},
    {"id": None},
    {"id": "not-a-uuid"},
    {"rating": "8.1"},
    {"description": ["a list"]},
]
_STRANGER = {
    "id": "00000000-0000-4000-8000-000000000000",
    "title": "Not in the catalogue",
    "description": "A movie that nobody asked for.",
    "image_url": "https://images.november7.example/stranger.jpg",
    "rating": 0.0,
}


class Fault(NamedTuple):
    """The fault of one request.

    `latency`: seconds. `kind`: one of FAULT_KINDS or None. `pick`: a number in [0, 1) that chooses
    among the variants of the kind.
    """

    latency: float
    kind: str | None
    pick: float


@dataclass
class Faults:
    """The probability of each fault for a valid request. Times are in seconds.

    A request has at most one fault, so the probabilities must not add up to more than 1. The same
    `seed` gives the same sequence of faults. Raises ValueError for numbers out of range.
    """

    refuse: float = 0  # one of `codes`, with `retry_after` as Retry-After where given
    codes: tuple[int, ...] = (400, 401, 402, 403, 404, 405, 429)
    retry_after: str | None = None
    latency: tuple[float, float] = (0, 0)  # least and most, before any answer
    hang: float = 0  # no answer until the client or the server closes
    malformed: float = 0  # 200, JSON that breaks the contract as a whole
    html: float = 0  # 200, an HTML page
    truncated: float = 0  # closed before all of Content-Length is sent
    short: float = 0  # 200, fewer items than the total promises
    bad_movie: float = 0  # 200, one item breaks the contract
    drip: float = 0  # the right body, a byte at a time
    drip_interval: float = 0.05  # between two bytes
    drip_headers: float = 0  # the right answer, its headers a byte at a time
    reset: float = 0  # closed with RST instead of an answer
    error: float = 0  # 500 with a text that must not reach a client
    redirect: float = 0  # 307 to the very same target
    cookies: bool = False  # every answer sets a cookie; a request that sends one is refused
    seed: int | None = None

    def __post_init__(self) -> None:
        shares = [getattr(self, name) for name in FAULT_KINDS]
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ValueError("shares must not be negative, nor add up to more than 1")
        least, most = self.latency
        if not 0 <= least <= most < math.inf or not 0 <= self.drip_interval < math.inf:
            raise ValueError("times must be finite, not negative, the least not above the most")
        if not all(200 <= code <= 599 for code in self.codes) or not self.codes:
            raise ValueError("codes must be status codes from 200 to 599, at least one")
        self._dice = random.Random(self.seed)
        self._lock = threading.Lock()

    def draw(self) -> Fault:
        """The fault of the next request. Always three draws, so that sequences can be compared."""
        with self._lock:
            latency = self._dice.uniform(*self.latency)
            roll, pick = self._dice.random(), self._dice.random()
        for name in FAULT_KINDS:
            roll -= getattr(self, name)
            if roll < 0:
                return Fault(latency, name, pick)
        return Fault(latency, None, pick)


def apply_fault(answer: Answer, fault: Fault, faults: Faults, target: str) -> Answer:
    """The answer with the fault applied. Faults in how it is sent leave it unchanged."""
    match fault.kind:
        case "refuse":
            code = faults.codes[int(fault.pick * len(faults.codes))]
            headers = {"Retry-After": faults.retry_after} if faults.retry_after else {}
            return json_answer(code, {"detail": REFUSAL}, headers)
        case "error":
            return make_answer(500, "text/plain; charset=utf-8", TRACEBACK.encode())
        case "html":
            return make_answer(200, "text/html; charset=utf-8", ERROR_PAGE.encode())
        case "redirect":
            return redirect_answer(target)
        case "malformed":
            limit = int(query_parameters(target).get("limit", DEFAULTS["limit"]))
            variants = _malformed(json.loads(answer.body), limit)
            return json_answer(200, variants[int(fault.pick * len(variants))])
        case "short":
            page = json.loads(answer.body)
            if page["items"]:
                page["items"].pop()
            else:  # nothing to leave out, so promise more: a total past any skip
                page["total"] = _LARGE_TOTAL
            return json_answer(200, page)
        case "bad_movie":
            page = json.loads(answer.body)
            if page["items"]:
                page["items"][0] |= _BAD_MEMBERS[int(fault.pick * len(_BAD_MEMBERS))]
            return json_answer(200, page)
        case _:
            return answer


def with_cookie(answer: Answer, cookie: str | None) -> Answer:
    """`answer` with a cookie, or a refusal if the request sent `cookie`."""
    if cookie is not None:
        return json_answer(400, {"detail": REFUSAL})
    return answer._replace(headers={**answer.headers, "Set-Cookie": "session=1; Path=/"})


def _malformed(page: dict[str, Any], limit: int) -> list[Any]:
    total, items = page["total"], page["items"]
    return [
        {"total": total, "items": None},
        {"total": total, "movies": items},
        {"total": str(total), "items": items},
        items,
        {"total": total, "items": [{"name": "of another contract"}] * limit},
        {"total": total, "items": [_STRANGER] * (min(limit, _LARGEST_PAGE) + 1)},
    ]
