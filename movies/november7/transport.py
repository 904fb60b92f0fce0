"""Sends requests to the provider: deadline, retries, and the check of each answer.

November 7 refuses about one valid request in ten at random, with statuses that mean nothing. So
every status but 200 and 422 is retried, and so are timeouts, lost connections and, less often,
bodies that break the contract. `send` returns a checked answer or raises an `Unavailable`; the
cache above sees nothing else.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from requests import PreparedRequest, RequestException, Response, Timeout
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.exceptions import DecodeError, HTTPError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError
from urllib3.util import Retry

from movies.logs import trace_headers
from movies.november7 import metrics
from movies.november7.contract import DOUBTFUL_TTL, CheckedPage, CheckedResponse, checked_page
from movies.november7.deadline import (
    BoundedHTTPConnectionPool,
    BoundedHTTPSConnectionPool,
    Deadline,
    reading_until,
)
from movies.november7.errors import (
    BadResponse,
    BadStatus,
    Busy,
    ConnectionFailed,
    Doubtful,
    InvalidRequest,
    Overloaded,
    TimedOut,
    Unavailable,
)
from movies.november7.retries import MIN_TRY_TIME, Retries

log = logging.getLogger(__name__)

TRY_SHARE = 0.75  # of the time that is left, for one request; the rest is for another
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

    `wire` sends a single request: a BoundedHTTPAdapter, or the embedded catalogue. `doubtful_ttl`:
    seconds for which an answer that lacks movies may be cached. `sleep` waits between requests, by
    default until the time is over or `end_pauses` is called.
    """

    def __init__(
        self,
        wire: BaseAdapter,
        *,
        doubtful_ttl: int = DOUBTFUL_TTL,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__()
        self._doubtful_ttl = doubtful_ttl
        self._wire = wire
        self._sleep = sleep or self._pause
        self._ended = threading.Event()

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """The provider's checked answer to `request`.

        `timeout`: seconds for all requests and pauses together. An answer that lacks movies is
        returned if there is no better one; if `request.needs_complete()`, only if it has as many
        movies as its total promises. `request.on_answer` is called with the answer first. Raises an
        `Unavailable`.
        """
        deadline = Deadline.after(timeout)
        for name, value in trace_headers().items():
            request.headers.setdefault(name, value)
        retries = Retries(deadline, self._sleep)
        try:
            answer = retries.run(partial(self._try, request, deadline, verify))
        except Unavailable:
            needs_complete = getattr(request, "needs_complete", lambda: False)
            page = _best_doubtful(retries.failures, needs_complete)
            if page is None:
                raise
            answer = CheckedResponse(request, page, self._doubtful_ttl)
        finally:
            metrics.TRIES.observe(retries.tries)
        if on_answer := getattr(request, "on_answer", None):
            on_answer(answer)
        return answer

    def _try(self, request: PreparedRequest, deadline: Deadline, verify: bool | str) -> Response:
        """Send one request and count it by its outcome."""
        started = time.monotonic()
        outcome = "ok"
        try:
            return self._request(request, Deadline.after(deadline.left() * TRY_SHARE), verify)
        except Unavailable as error:
            outcome = error.outcome
            raise
        finally:
            metrics.REQUESTS.labels(outcome).inc()
            metrics.REQUEST_SECONDS.observe(time.monotonic() - started)

    def _request(self, request: PreparedRequest, until: Deadline, verify: bool | str) -> Response:
        """Send, follow redirects within the provider's own host, read and check."""
        hop = request
        try:
            with reading_until(until):
                for _ in range(MAX_REDIRECTS + 1):
                    response = self._wire.send(
                        hop, stream=True, timeout=until.left() or MIN_TRY_TIME, verify=verify
                    )
                    try:
                        if not response.is_redirect:
                            return _answer(request, response)
                        hop = _redirected(hop, response)
                    finally:
                        response.close()
        except (Timeout, Urllib3TimeoutError, TimeoutError) as error:
            raise TimedOut("November 7 did not answer in time") from error
        except DecodeError as error:
            raise BadResponse("the answer's Content-Encoding is wrong") from error
        except (RequestException, HTTPError, OSError) as error:
            raise ConnectionFailed(f"the connection failed: {type(error).__name__}") from error
        raise BadStatus("November 7 redirected too often")

    def end_pauses(self) -> None:
        """Fail the fetches that wait for another try, and retry no others."""
        self._ended.set()

    def _pause(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise Busy("the client was closed")

    def close(self) -> None:
        self._wire.close()


def _best_doubtful(
    failures: list[Unavailable], needs_complete: Callable[[], bool]
) -> CheckedPage | None:
    """The doubtful page with the most movies, if there is one that may be used."""
    pages = [failure.page for failure in failures if isinstance(failure, Doubtful)]
    if pages and needs_complete():
        pages = [page for page in pages if page.is_complete]
    if not pages:
        return None
    best = max(pages, key=lambda page: len(page.movies))
    metrics.LEFT_OUT.inc(best.left_out)
    log.warning(
        "an answer of November 7 that lacks movies is used",
        extra={"total": best.total, "movies": len(best.movies), "left_out": best.left_out},
    )
    return best


def _answer(request: PreparedRequest, response: Response) -> Response:
    """The response with its body read, checked and in canonical form."""
    if response.status_code == 422:
        raise InvalidRequest("November 7 rejected the request as invalid")
    if response.status_code != 200:
        reason = f"November 7 answered {response.status_code}"
        pause = _seconds(response.headers.get("Retry-After"))
        if response.status_code in (429, 503) and pause:
            raise Overloaded(reason, pause)
        raise BadStatus(reason, pause=pause)
    body = response.raw.read(MAX_BODY + 1, decode_content=True)
    if len(body) > MAX_BODY:
        raise BadResponse("the answer is larger than any page")
    asked = parse_qs(urlsplit(request.url or "").query)
    page = checked_page(body, skip=int(asked["skip"][0]), limit=int(asked["limit"][0]))
    if page.is_doubtful:
        raise Doubtful("the answer lacks movies", page)
    return CheckedResponse(request, page)


def _redirected(request: PreparedRequest, response: Response) -> PreparedRequest:
    """The request to the target of a redirect: same origin, or same host over HTTPS."""
    try:
        target = urljoin(request.url or "", response.headers["Location"])
        here, there = urlsplit(request.url or ""), urlsplit(target)
        is_upgrade = (here.scheme, there.scheme) == ("http", "https")
        is_same_origin = (here.scheme, here.port) == (there.scheme, there.port)
    except ValueError as error:
        raise BadStatus("November 7 redirected to no valid URL") from error
    if here.hostname != there.hostname or not (is_upgrade or is_same_origin):
        raise BadStatus("November 7 redirected to another host")
    following = request.copy()
    following.url = target
    return following


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds, from a number or a date; None if it is neither."""
    if retry_after is None:
        return None
    try:
        return Retry().parse_retry_after(retry_after)
    except (HTTPError, ValueError, OverflowError):
        return None
