"""What the transport tells of its work: counts and log lines."""

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import responses
import tenacity.nap
from makers import counted, movie
from requests import PreparedRequest, Request, Response

from movies.logs import request_id
from movies.november7.errors import BadStatus, Unavailable
from movies.november7.transport import BoundedHTTPAdapter, Transport

URL = "http://november7.example/movies/"
PAGE = {"total": 2, "items": [movie(1), movie(2)]}
SECRET = "the provider's own words"


@pytest.fixture
def wire() -> Iterator[responses.RequestsMock]:
    """Answers in the order in which they are added, and the last of them ever after."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        yield wire


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were paused between tries, which nobody waits for."""
    taken: list[float] = []
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=taken.append))
    return taken


def asked(**parameters: Any) -> PreparedRequest:
    return Request("GET", URL, params={"skip": 0, "limit": 2, **parameters}).prepare()


def send(timeout: float = 10) -> Response:
    return Transport(BoundedHTTPAdapter()).send(asked(), timeout=timeout)


def refuse(
    wire: responses.RequestsMock, times: int, status: int = 429, retry_after: str | None = None
) -> None:
    """So many refusals, and a true answer after them."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    for _ in range(times):
        wire.get(URL, status=status, body=SECRET, headers=headers)
    wire.get(URL, json=PAGE)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"status": 403}, "refused"),
        ({"body": TimeoutError()}, "timed_out"),
        ({"body": "<html>"}, "bad_response"),
        ({"status": 422}, "rejected"),
        ({"json": PAGE}, "ok"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_are_counted_by_outcome(
    wire: responses.RequestsMock, answer: dict[str, Any], outcome: str
) -> None:
    """Each request counts under what came of it, and its seconds in the histogram."""
    outcomes = {"outcome": outcome}
    before = counted("november7_requests_total", **outcomes)
    timed = counted("november7_request_seconds_count")
    wire.get(URL, **answer)
    with suppress(Unavailable):
        send()
    assert counted("november7_requests_total", **outcomes) - before == len(wire.calls)
    assert counted("november7_request_seconds_count") - timed == len(wire.calls)


@pytest.mark.parametrize("refusals", [0, 2, 20])
def test_tries_are_counted(wire: responses.RequestsMock, refusals: int) -> None:
    """The tries of a fetch count, whether it brought an answer or not."""
    fetches, tries = counted("november7_tries_count"), counted("november7_tries_sum")
    refuse(wire, refusals)
    with suppress(BadStatus):
        send()
    assert counted("november7_tries_count") - fetches == 1
    assert counted("november7_tries_sum") - tries == len(wire.calls)


def test_each_absorbed_failure_is_one_log_line(
    wire: responses.RequestsMock, caplog: pytest.LogCaptureFixture, pauses: list[float]
) -> None:
    """What was absorbed, why, at which try and for how long it pauses: a line each."""
    refuse(wire, 2, 403)
    send()
    lines = [vars(record) for record in caplog.records]
    assert [(line["message"], line["outcome"], line["try"]) for line in lines] == [
        ("a failure of November 7 was absorbed", "refused", number) for number in (1, 2)
    ]
    assert [line["reason"] for line in lines] == ["November 7 answered 403"] * 2
    assert [line["pause"] for line in lines] == [round(pause, 3) for pause in pauses]


def test_log_lines_never_quote_the_provider(
    wire: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """No line, exceptions and all, holds what the provider wrote."""
    refuse(wire, 20)
    request_id.set("a-request")
    with pytest.raises(BadStatus):
        send()
    assert caplog.records
    assert SECRET not in caplog.text
