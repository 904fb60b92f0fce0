"""Fetches for the tests of single flight."""

import threading
from collections.abc import Callable
from typing import Any

from movies.november7.deadline import Deadline
from movies.november7.errors import BadStatus
from movies.november7.singleflight import Call, SingleFlight


class Gate:
    """A fetch that counts its calls, and returns "page" once it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.calls = self.under_way = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, _call: Call) -> str:
        with self._lock:
            self.calls += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self.opened.wait(60)
        with self._lock:
            self.under_way -= 1
        return "page"


def fetch(
    single_flight: SingleFlight,
    fetcher: Callable[[Call], Any],
    key: str = "k",
    seconds: float = 30,
    caller: str | None = None,
) -> Any:
    """The result of a caller."""
    deadline = Deadline.after(seconds)
    call, _ = single_flight.submit(key, deadline, fetcher, caller)
    return single_flight.wait(call, deadline, caller)


def fails(_call: Call) -> None:
    raise BadStatus("no", retry_after=7)
