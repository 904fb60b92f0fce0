"""A provider with scripted answers, and pauses that are recorded instead of waited for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import responses
from requests import PreparedRequest, Request, Response

from movies.november7.transport import BoundedHTTPAdapter, Transport
from november7.clients import movie

SECRET = "the provider's own words"


class Provider:
    """Scripted answers of a provider. `pauses`: the seconds between the requests sent to it."""

    url = "http://november7.example/movies/"
    page = {"total": 2, "items": [movie(1), movie(2)]}

    def __init__(self, mock: responses.RequestsMock) -> None:
        self._mock = mock
        self.pauses: list[float] = []

    @property
    def requests(self) -> list[PreparedRequest]:
        """The requests received, in order."""
        return [call.request for call in self._mock.calls]

    def answer(self, url: str = url, **answer: Any) -> None:
        """Answer the next request with this, and further requests too if it is the last."""
        self._mock.get(url, **answer)

    def refuse(self, times: int, status: int = 429, retry_after: str | None = None) -> None:
        """Refuse this many requests, then answer."""
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        for _ in range(times):
            self.answer(status=status, body=SECRET, headers=headers)
        self.answer(json=self.page)

    def forget(self) -> None:
        """Drop the script and the requests received."""
        self._mock.reset()

    def send(self, timeout: float = 10) -> Response:
        """One fetch of the first page through the transport, in at most `timeout` seconds."""
        request = Request("GET", self.url, params={"skip": 0, "limit": 2}).prepare()
        transport = Transport(BoundedHTTPAdapter(), sleep=self.pauses.append)
        return transport.send(request, timeout=timeout)


@contextmanager
def scripted_provider() -> Iterator[Provider]:
    """A provider that answers instead of the network."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield Provider(mock)
