"""Why November 7 could not be had.

Unavailable          no true answer, for whatever reason
├── TimedOut         no answer within the deadline
├── Busy             refused by our own bulkhead, nothing was asked
├── BadStatus          a status other than 200 or 422, or no connection
├── BadResponse      a 200 that breaks the provider's contract
└── InvalidRequest         422: the provider calls our request wrong, a defect of ours
"""


class Unavailable(Exception):
    """No true answer could be had.

    `retry_after`: whole seconds after which asking again makes sense.
    """

    retry_after: int = 5

    def __init__(self, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        if retry_after is not None:
            self.retry_after = retry_after


class TimedOut(Unavailable):
    """November 7 did not answer in time."""


class Busy(Unavailable):
    """More is asked at once than can be answered within the deadline."""

    retry_after = 2


class BadStatus(Unavailable):
    """November 7 answered with a status that is no answer, or could not be connected to.

    `pause`: the seconds its `Retry-After` asked for, where it sent one.
    """

    def __init__(
        self, reason: str, *, pause: float | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.pause = pause


class BadResponse(Unavailable):
    """A 200 whose body is not what the provider's contract says."""


class InvalidRequest(Unavailable):
    """422, the one status that is about the request: trying again would not help."""


BY_NAME = {
    kind.__name__: kind
    for kind in (Unavailable, TimedOut, Busy, BadStatus, BadResponse, InvalidRequest)
}
