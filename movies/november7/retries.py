"""Decides whether and when to repeat a failed request to the provider."""

import logging
import random
import time
from collections.abc import Callable

from requests import Response

from movies.november7.deadline import Deadline
from movies.november7.errors import BadStatus, Overloaded, Unavailable

log = logging.getLogger(__name__)

MAX_TRIES = 8  # requests of one fetch, whatever their failures
MIN_BACKOFF, MAX_BACKOFF = 0.1, 2.0  # seconds: up to 0.1, 0.2, 0.4 … 2
MIN_TRY_TIME = 0.05  # seconds that must be left of the deadline for another request


class Retries:
    """The requests of one fetch, all of them within `deadline`.

    Every kind of failure has its own `max_tries`. `tries` counts the requests so far, `failures`
    lists how they failed. `sleep` waits for a number of seconds.
    """

    def __init__(self, deadline: Deadline, sleep: Callable[[float], None] = time.sleep) -> None:
        self.tries = 0
        self.failures: list[Unavailable] = []
        self._deadline = deadline
        self._sleep = sleep
        self._is_pause_too_long = False  # the one that the last response asked for, if any

    def run(self, request: Callable[[], Response]) -> Response:
        """The response of the first `request` that succeeds. Raises the last failure."""
        while True:
            self.tries += 1
            try:
                return request()
            except Unavailable as error:
                self.failures.append(error)
                pause = self._pause(error)
                if pause is None:
                    raise
                log.warning(
                    "a request to November 7 failed and is retried",
                    extra={
                        "outcome": error.outcome,
                        "reason": str(error),
                        "try": self.tries,
                        "pause": round(pause, 3),
                    },
                )
            self._sleep(pause)

    def _pause(self, error: Unavailable) -> float | None:
        """Seconds before the next request, or None if the fetch has failed.

        `Retry-After` if there is time for it, else backoff with full jitter.
        """
        left = self._deadline.left() - MIN_TRY_TIME
        if isinstance(error, Overloaded) and error.pause >= left:
            error.is_confirmed, self._is_pause_too_long = self._is_pause_too_long, True
            if error.is_confirmed:
                return None
        else:
            self._is_pause_too_long = False
        same = sum(type(failure) is type(error) for failure in self.failures)
        if left <= 0 or self.tries >= MAX_TRIES or same >= error.max_tries:
            return None
        longest = min(MIN_BACKOFF * 2 ** (self.tries - 1), MAX_BACKOFF, left / 2)
        backoff = random.uniform(0, longest)  # noqa: S311  it keeps no secret
        wanted = error.pause if isinstance(error, BadStatus) else None
        return max(wanted, backoff) if wanted and wanted < left else backoff
