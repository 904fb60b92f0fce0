"""Decides whether and when to repeat a failed request to the provider."""

import logging
import time
from collections.abc import Callable

from requests import Response
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from movies.november7.deadline import Deadline
from movies.november7.errors import BadStatus, Overloaded, Unavailable

log = logging.getLogger(__name__)

MAX_TRIES = 8  # requests of one fetch, whatever their failures
BACKOFF = wait_random_exponential(multiplier=0.1, max=2)  # seconds: up to 0.1, 0.2, 0.4 … 2
MIN_TRY_TIME = 0.05  # seconds that must be left of the deadline for another request


class Retries:
    """The requests of one fetch, all of them within `deadline`.

    Every kind of failure has its own `max_tries`. `tries` counts the requests so far, `failures`
    lists how they failed. `sleep` waits for a number of seconds.
    """

    def __init__(self, deadline: Deadline, sleep: Callable[[float], None] = time.sleep) -> None:
        self.tries = 0
        self._deadline = deadline
        self.failures: list[Unavailable] = []
        self._retrying = Retrying(
            sleep=sleep,
            retry=retry_if_exception_type(Unavailable),
            wait=self._pause,
            stop=self._is_over,
            before_sleep=self._log,
            reraise=True,
        )

    def run(self, request: Callable[[], Response]) -> Response:
        """The response of the first `request` that succeeds. Raises the last failure."""

        def counted() -> Response:
            self.tries += 1
            try:
                return request()
            except Unavailable as error:
                self.failures.append(error)
                raise

        return self._retrying(counted)

    def _pause(self, state: RetryCallState) -> float:
        """Seconds before the next request: `Retry-After` if there is time for it, else backoff."""
        error = _failure(state)
        left = self._deadline.left()
        backoff = min(BACKOFF(state), left / 2)
        wanted = error.pause if isinstance(error, BadStatus) else None
        if wanted is not None and wanted < left - MIN_TRY_TIME:
            return max(wanted, backoff)
        return backoff

    def _is_over(self, state: RetryCallState) -> bool:
        error = _failure(state)
        left = self._deadline.left() - MIN_TRY_TIME
        failures = sum(type(failure) is type(error) for failure in self.failures)
        if isinstance(error, Overloaded) and (error.pause or 0) >= left:
            return failures >= 2  # a single refusal may be one of the random ones
        return self.tries >= MAX_TRIES or failures >= error.max_tries or state.upcoming_sleep > left

    def _log(self, state: RetryCallState) -> None:
        error = _failure(state)
        log.warning(
            "a request to November 7 failed and is retried",
            extra={
                "outcome": error.outcome,
                "reason": str(error),
                "try": self.tries,
                "pause": round(state.upcoming_sleep, 3),
            },
        )


def _failure(state: RetryCallState) -> Unavailable:
    """The failure of the request that has just ended."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Unavailable):
        raise TypeError("only failures of the provider are retried")
    return error
