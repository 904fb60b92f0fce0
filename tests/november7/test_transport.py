"""What the transport makes of an answer: tries, pauses, the check, the counts and the log."""

import email.utils
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import responses
import tenacity.nap
import time_machine
from makers import movie
from requests import PreparedRequest, Request, Response

from movies.november7.errors import BadResponse, BadStatus, InvalidRequest, TimedOut, Unavailable
from movies.november7.transport import MAX_REDIRECTS, MAX_TRIES, BoundedHTTPAdapter, Transport

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


def test_a_true_answer_takes_one_request(wire: responses.RequestsMock, pauses: list[float]) -> None:
    """What is true at once is answered at once, in canonical form."""
    wire.get(URL, json={**PAGE, "unknown": 1})
    response = send()
    assert (response.status_code, response.json()) == (200, PAGE)
    assert (len(wire.calls), pauses) == (1, [])


@pytest.mark.parametrize(
    "status",
    [201, 204, 304, 400, 401, 402, 403, 404, 405, 406, 409, 410, 418, 429, 500, 501, 502, 503, 504],
)
def test_every_other_status_is_tried_again(wire: responses.RequestsMock, status: int) -> None:
    """All statuses but 200 and 422 lie, whatever comes with them; the second try is believed."""
    wire.get(URL, status=status, json={"total": 0, "items": []})
    wire.get(URL, json=PAGE)
    assert send().json() == PAGE
    assert len(wire.calls) == 2


def test_422_is_not_tried_again(wire: responses.RequestsMock) -> None:
    """The one status that is about the request raises InvalidRequest at the first try."""
    refuse(wire, 1, 422)
    with pytest.raises(InvalidRequest):
        send()
    assert len(wire.calls) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.ConnectionError(SECRET), BadStatus),
        (requests.exceptions.ChunkedEncodingError(SECRET), BadStatus),
        (ConnectionResetError(SECRET), BadStatus),
        (requests.ConnectTimeout(SECRET), TimedOut),
        (requests.ReadTimeout(SECRET), TimedOut),
        (TimeoutError(SECRET), TimedOut),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failing_connection_has_its_name(
    wire: responses.RequestsMock, error: Exception, kind: type[Unavailable]
) -> None:
    """A connection that fails in any way is tried again, and told as one of our own errors."""
    wire.get(URL, body=error)
    with pytest.raises(kind) as failure:
        send()
    assert len(wire.calls) == MAX_TRIES
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [(429, SECRET), (200, SECRET), (200, f'{{"{SECRET}": [')],
)
def test_no_exception_quotes_the_provider(
    wire: responses.RequestsMock, status: int, body: str
) -> None:
    """The text of what is raised in the end holds none of the provider's."""
    wire.get(URL, status=status, body=body)
    with pytest.raises(Unavailable) as failure:
        send()
    assert SECRET not in str(failure.value)


def test_tries_come_to_an_end(wire: responses.RequestsMock) -> None:
    """A provider that only refuses is asked so often and no more, however much time is left."""
    refuse(wire, 20)
    with pytest.raises(BadStatus):
        send(timeout=1000)
    assert len(wire.calls) == MAX_TRIES


def test_backoff_grows_has_jitter_and_a_cap(
    wire: responses.RequestsMock, pauses: list[float]
) -> None:
    """Each pause is drawn from a range that doubles with every try, up to two seconds."""
    for _ in range(20):
        wire.reset()
        refuse(wire, 20)
        with pytest.raises(BadStatus):
            send(timeout=1000)
    by_try = [pauses[number :: MAX_TRIES - 1] for number in range(MAX_TRIES - 1)]
    tops = [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2]
    assert all(
        min(taken) >= 0 and max(taken) <= top for taken, top in zip(by_try, tops, strict=True)
    )
    assert all(len(set(taken)) == 20 for taken in by_try)
    assert max(by_try[-1]) > 1


@pytest.mark.parametrize("wanted", [3, 7])
def test_retry_after_in_seconds_is_honoured(
    wire: responses.RequestsMock, pauses: list[float], wanted: int
) -> None:
    """A pause that the provider asks for is made where it fits in."""
    refuse(wire, 1, retry_after=str(wanted))
    assert send().json() == PAGE
    assert pauses == [wanted]


def test_retry_after_as_a_date_is_honoured(
    wire: responses.RequestsMock, pauses: list[float]
) -> None:
    """So is one that is told as a moment."""
    with time_machine.travel(1_800_000_000, tick=False):
        then = email.utils.formatdate(time.time() + 4, usegmt=True)
        refuse(wire, 1, retry_after=then)
        assert send().json() == PAGE
    assert pauses == [4]


@pytest.mark.parametrize("wanted", ["60", "-1", "soon", "", "9" * 400, "Wed, 99 Foo 2026", "1e3"])
def test_a_retry_after_that_does_not_fit_is_ignored(
    wire: responses.RequestsMock, pauses: list[float], wanted: str
) -> None:
    """One past the deadline, or one that says nothing, leaves the usual backoff."""
    refuse(wire, 1, retry_after=wanted)
    assert send().json() == PAGE
    assert 0 <= pauses[0] <= 0.1


def test_retry_after_zero_keeps_the_backoff(
    wire: responses.RequestsMock, pauses: list[float]
) -> None:
    """A provider that wants no pause isn't hammered: the backoff is made all the same."""
    refuse(wire, 20, retry_after="0")
    with pytest.raises(BadStatus):
        send()
    assert all(pauses)


def test_no_try_is_begun_without_time_for_it(
    wire: responses.RequestsMock, pauses: list[float]
) -> None:
    """Where too little is left of the deadline the last failure is the answer."""
    refuse(wire, 1)
    with pytest.raises(BadStatus):
        send(timeout=0.04)
    assert (len(wire.calls), pauses) == (1, [])


def test_a_redirect_on_the_same_host_is_followed(wire: responses.RequestsMock) -> None:
    """`/movies` leads to `/movies/`, and the answer is held against what was asked."""
    wire.get(URL, status=307, headers={"Location": "/elsewhere"})
    wire.get("http://november7.example/elsewhere", json=PAGE)
    assert send().json() == PAGE


@pytest.mark.parametrize(
    "location",
    [
        "http://stranger.example/movies/?skip=0&limit=2",
        "//stranger.example/",
        "http://[broken",
        "http://",
        "javascript:alert(1)",
    ],
)
def test_a_redirect_elsewhere_is_not_followed(wire: responses.RequestsMock, location: str) -> None:
    """One to another host, or to what isn't HTTP, is a refusal; nothing is sent there."""
    wire.get(URL, status=302, headers={"Location": location})
    with pytest.raises(BadStatus):
        send()
    assert {call.request.url for call in wire.calls} == {asked().url}


def test_redirects_come_to_an_end(wire: responses.RequestsMock) -> None:
    """A provider that leads in circles is left after a few steps, each time."""
    wire.get(URL, status=307, headers={"Location": URL})
    with pytest.raises(BadStatus):
        send()
    assert len(wire.calls) == MAX_TRIES * (MAX_REDIRECTS + 1)


def test_an_endless_body_is_refused(
    wire: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More bytes than any page has are a bad response, true or not."""
    monkeypatch.setattr("movies.november7.transport.MAX_BODY", 100)
    wire.get(URL, json=PAGE)
    with pytest.raises(BadResponse):
        send()
