"""Why November 7 gave no usable answer. Each kind says how it is retried and how it is counted.

Unavailable            no usable answer, for any reason
├── TimedOut           no answer within the deadline
├── Busy               our own limit on concurrent requests was reached; nothing was sent
├── ConnectionFailed   no connection, or one that broke off
├── BadStatus          a status other than 200 or 422
│   └── Overloaded     429 or 503 with `Retry-After`
├── BadResponse        a 200 whose body breaks the provider's contract
│   └── Doubtful       a 200 of which a part can be used
└── InvalidRequest     422: our request is wrong, which is a bug in Movies API
"""

import math
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from movies.november7.contract import CheckedPage

MAX_PAUSE = 300  # seconds for which a `Retry-After` keeps us from asking again


class Unavailable(Exception):
    """November 7 gave no usable answer.

    `retry_after`: whole seconds after which another attempt makes sense. `max_tries`: how many
    requests of one fetch may end like this before the fetch fails; 1 means it is not retried.
    `is_outage`: whether such a fetch suggests that November 7 is down. `outcome`: the label under
    which such a request is counted and logged.
    """

    outcome: ClassVar[str] = "unavailable"
    max_tries: ClassVar[int] = 1
    is_outage: ClassVar[bool] = False
    retry_after: int = 5

    def __init__(self, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        if retry_after is not None:
            self.retry_after = retry_after

    @classmethod
    def kind(cls, outcome: str) -> type["Unavailable"]:
        """The kind with this `outcome`; Unavailable itself if this release has no such kind."""
        return next((kind for kind in cls.__subclasses__() if kind.outcome == outcome), cls)


class TimedOut(Unavailable):
    """November 7 did not answer in time."""

    outcome = "timed_out"
    max_tries = 8
    is_outage = True


class Busy(Unavailable):
    """More requests are waiting than can be answered within the deadline."""

    outcome = "busy"
    retry_after = 2


class ConnectionFailed(Unavailable):
    """No connection to November 7 could be made, or it broke off during the answer."""

    outcome = "connection_failed"
    max_tries = 8
    is_outage = True


class BadStatus(Unavailable):
    """November 7 answered with a status other than 200 or 422.

    `pause`: the seconds that its `Retry-After` asks for, if it sent one.
    """

    outcome = "bad_status"
    max_tries = 8  # at 30 % refusals 0.3^8 of fetches fail: 1 in 15,000; at 60 % 1 in 60
    is_outage = True

    def __init__(
        self, reason: str, *, pause: float | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.pause = pause


class Overloaded(BadStatus):
    """429 or 503: November 7 asks not to be contacted for `pause` seconds, MAX_PAUSE at most.

    A single one may be random. `is_confirmed`: whether it is the second one in a row in its fetch,
    and there was no time for either pause.
    """

    pause: float
    is_confirmed = False

    def __init__(self, reason: str, pause: float) -> None:
        pause = min(pause, MAX_PAUSE)
        super().__init__(reason, pause=pause, retry_after=math.ceil(pause))


class BadResponse(Unavailable):
    """A 200 whose body breaks the provider's contract.

    November 7 is reachable, but its response is invalid.
    """

    outcome = "bad_response"
    max_tries = 3


class Doubtful(BadResponse):
    """A 200 that lacks movies. It is retried once, and then `page` may be used."""

    max_tries = 2

    def __init__(self, reason: str, page: "CheckedPage") -> None:
        super().__init__(reason)
        self.page = page


class InvalidRequest(Unavailable):
    """422, the only status that is about the request: a retry would not help."""

    outcome = "invalid_request"


class NotCached(Exception):
    """The caller accepts cached answers only, and the cache has none that is fresh enough."""
