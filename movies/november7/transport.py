"""What happens on the wire: deadline, tries, and the check that an answer is true.

November 7 refuses about one valid request in ten at random, with statuses that lie. So every
status but 200 and 422 is tried again, and so is a 200 that breaks the contract, a time-out and a
lost connection, with jittered and capped backoff, until the deadline. What leaves here is a true
answer or an exception; the cache above never sees anything else.
"""

import logging
import time
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from requests import PreparedRequest, RequestException, Response, Timeout
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError
from urllib3.util import Retry

from movies.november7 import metrics
from movies.november7.contract import checked_body
from movies.november7.deadline import (
    BoundedHTTPConnectionPool,
    BoundedHTTPSConnectionPool,
    Deadline,
    reading_until,
)
from movies.november7.errors import BadResponse, BadStatus, InvalidRequest, TimedOut, Unavailable

log = logging.getLogger(__name__)

MAX_TRIES = 8  # at 30 % refusals 0.3^8 fail: 1 in 15,000; at 60 % 1 in 60
BACKOFF = wait_random_exponential(multiplier=0.1, max=2)  # seconds: up to 0.1, 0.2, 0.4 … 2
PATIENCE = 0.75  # the share of what is left that one silent try may take: the rest tries again
LEAST_TIME = 0.05  # seconds below which a further try is not begun
MAX_BODY = 16 * 1024 * 1024  # bytes; a page of 1,000 movies has about one million
MAX_REDIRECTS = 3


class BoundedHTTPAdapter(HTTPAdapter):
    """requests' own adapter, on connections that end at the deadline."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": BoundedHTTPConnectionPool,
            "https": BoundedHTTPSConnectionPool,
        }


class Transport(BaseAdapter):
    """The adapter that every request to the provider goes through.

    `wire` carries a single request: a BoundedHTTPAdapter, or the embedded catalogue.
    """

    def __init__(self, wire: BaseAdapter) -> None:
        super().__init__()
        self._wire = wire

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """The provider's checked answer to `request`, in at most `timeout` seconds in all.

        Raises an `Unavailable` where there was none.
        """
        deadline = Deadline.after(timeout)
        tries = Retrying(
            retry=retry_if_exception_type((BadStatus, TimedOut, BadResponse)),
            wait=_pause,
            stop=lambda state: _is_over(state, deadline),
            before_sleep=_log_absorbed,
            reraise=True,
        )
        try:
            response: Response = tries(self._try, request, deadline, verify)
            return response
        finally:
            metrics.TRIES.observe(tries.statistics["attempt_number"])

    def _try(self, request: PreparedRequest, deadline: Deadline, verify: bool | str) -> Response:
        """One request, counted by its outcome."""
        begun = time.monotonic()
        outcome = "ok"
        try:
            return self._ask(request, Deadline.after(deadline.left() * PATIENCE), verify)
        except Unavailable as error:
            outcome = _OUTCOMES[type(error)]
            raise
        finally:
            metrics.REQUESTS.labels(outcome).inc()
            metrics.REQUEST_SECONDS.observe(time.monotonic() - begun)

    def _ask(self, request: PreparedRequest, until: Deadline, verify: bool | str) -> Response:
        """Send, follow redirects within the provider's own host, read and check."""
        hop = request
        try:
            with reading_until(until):
                for _ in range(MAX_REDIRECTS + 1):
                    response = self._wire.send(
                        hop, stream=True, timeout=until.left() or LEAST_TIME, verify=verify
                    )
                    try:
                        if not response.is_redirect:
                            return _answer(request, response)
                        hop = _redirected(hop, response)
                    finally:
                        response.close()
        except (Timeout, Urllib3TimeoutError, TimeoutError) as error:
            raise TimedOut("November 7 did not answer in time") from error
        except (RequestException, HTTPError, OSError, ValueError) as error:  # an odd Location, too
            raise BadStatus(f"no answer was had: {type(error).__name__}") from error
        raise BadStatus("November 7 redirects without end")

    def close(self) -> None:
        self._wire.close()


_OUTCOMES: dict[type[Unavailable], str] = {
    TimedOut: "timed_out",
    BadStatus: "refused",
    BadResponse: "bad_response",
    InvalidRequest: "rejected",
}


def _answer(request: PreparedRequest, response: Response) -> Response:
    """The response with its body read, checked and made canonical."""
    if response.status_code == 422:
        raise InvalidRequest("November 7 calls our request wrong")
    if response.status_code != 200:
        pause = _seconds(response.headers.get("Retry-After"))
        raise BadStatus(f"November 7 answered {response.status_code}", pause=pause)
    body = response.raw.read(MAX_BODY + 1, decode_content=True)
    if len(body) > MAX_BODY:
        raise BadResponse("the answer is larger than any page")
    asked = parse_qs(urlsplit(request.url or "").query)
    answer = Response()
    answer._content = checked_body(body, skip=int(asked["skip"][0]), limit=int(asked["limit"][0]))
    answer.status_code = 200
    answer.url = request.url or ""
    answer.request = request
    answer.encoding = "utf-8"
    answer.headers = CaseInsensitiveDict({"Content-Type": "application/json"})
    answer.raw = response.raw
    return answer


def _redirected(request: PreparedRequest, response: Response) -> PreparedRequest:
    """The request that a redirect asks for: of the same origin, or of the same host by HTTPS."""
    target = urljoin(request.url or "", response.headers["Location"])
    here, there = urlsplit(request.url or ""), urlsplit(target)
    is_upgrade = (here.scheme, there.scheme) == ("http", "https")
    if here.hostname != there.hostname or not (
        is_upgrade or (here.scheme, here.port) == (there.scheme, there.port)
    ):
        raise BadStatus("November 7 redirects to another host")
    following = request.copy()
    following.url = target
    return following


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds, from either of its two forms; None if it is neither."""
    if retry_after is None:
        return None
    try:
        return Retry().parse_retry_after(retry_after)
    except (HTTPError, ValueError, OverflowError):
        return None


def _pause(state: RetryCallState) -> float:
    """Seconds before the next try: what the provider asked for if it fits in, else backoff."""
    error = state.outcome.exception() if state.outcome else None
    deadline: Deadline = state.args[1]
    asked = error.pause if isinstance(error, BadStatus) else None
    backoff = min(BACKOFF(state), deadline.left() / 2)
    if asked is not None and asked < deadline.left() - LEAST_TIME:
        return max(asked, backoff)
    return backoff


def _is_over(state: RetryCallState, deadline: Deadline) -> bool:
    return state.attempt_number >= MAX_TRIES or state.upcoming_sleep > deadline.left() - LEAST_TIME


def _log_absorbed(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning(
        "a failure of November 7 was absorbed",
        extra={
            "outcome": _OUTCOMES[type(error)] if isinstance(error, Unavailable) else None,
            "reason": str(error),
            "try": state.attempt_number,
            "pause": round(state.upcoming_sleep, 3),
        },
    )
