"""How the transport treats an answer: retries, pauses, redirects and limits."""

import email.utils
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import time_machine

from movies.november7.errors import (
    MAX_PAUSE,
    BadResponse,
    BadStatus,
    ConnectionFailed,
    InvalidRequest,
    Overloaded,
    TimedOut,
    Unavailable,
)
from movies.november7.retries import MAX_TRIES
from movies.november7.transport import MAX_REDIRECTS
from november7.scripted import SECRET, Provider, scripted_provider

STATUSES = [201, 204, 304, 400, 401, 402, 403, 404, 405, 406, 409, 410, 418, 429]
STATUSES += [500, 501, 502, 503, 504]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with scripted_provider() as provider:
        yield provider


def test_a_valid_answer_takes_one_request(provider: Provider) -> None:
    provider.answer(json={**provider.page, "unknown": 1})
    response = provider.send()
    assert (response.status_code, response.json()) == (200, provider.page)
    assert (len(provider.requests), provider.pauses) == (1, [])


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_but_200_and_422_is_retried(provider: Provider, status: int) -> None:
    provider.answer(status=status, json={"total": 0, "items": []})
    provider.answer(json=provider.page)
    assert provider.send().json() == provider.page
    assert len(provider.requests) == 2


def test_422_is_not_retried(provider: Provider) -> None:
    provider.refuse(1, 422)
    with pytest.raises(InvalidRequest):
        provider.send()
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.ConnectionError(SECRET), ConnectionFailed),
        (requests.exceptions.ChunkedEncodingError(SECRET), ConnectionFailed),
        (ConnectionResetError(SECRET), ConnectionFailed),
        (requests.ConnectTimeout(SECRET), TimedOut),
        (requests.ReadTimeout(SECRET), TimedOut),
        (TimeoutError(SECRET), TimedOut),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failed_connection_is_retried_and_raises_its_own_kind(
    provider: Provider, error: Exception, kind: type[Unavailable]
) -> None:
    provider.answer(body=error)
    with pytest.raises(kind) as failure:
        provider.send()
    assert len(provider.requests) == MAX_TRIES
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize(
    ("status", "body"), [(429, SECRET), (200, SECRET), (200, f'{{"{SECRET}": [')]
)
def test_exceptions_do_not_quote_the_provider(provider: Provider, status: int, body: str) -> None:
    provider.answer(status=status, body=body)
    with pytest.raises(Unavailable) as failure:
        provider.send()
    assert SECRET not in str(failure.value)


def test_the_number_of_requests_is_limited_whatever_time_is_left(provider: Provider) -> None:
    provider.refuse(20)
    with pytest.raises(BadStatus):
        provider.send(timeout=1000)
    assert len(provider.requests) == MAX_TRIES


def test_a_body_that_breaks_the_contract_is_retried_twice(provider: Provider) -> None:
    """The provider is up and says the same again: more requests would not change that."""
    provider.answer(body="<html>")
    with pytest.raises(BadResponse):
        provider.send()
    assert len(provider.requests) == 3


def test_bad_bodies_and_bad_statuses_are_limited_separately(provider: Provider) -> None:
    for _ in range(2):
        provider.answer(body="<html>")
        provider.answer(status=403)
    provider.answer(json=provider.page)
    assert provider.send().json() == provider.page
    assert len(provider.requests) == 5


def test_backoff_doubles_up_to_two_seconds_with_jitter(provider: Provider) -> None:
    for _ in range(20):
        provider.forget()
        provider.refuse(20)
        with pytest.raises(BadStatus):
            provider.send(timeout=1000)
    by_try = [provider.pauses[number :: MAX_TRIES - 1] for number in range(MAX_TRIES - 1)]
    limits = [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2]
    for pauses, limit in zip(by_try, limits, strict=True):
        assert 0 <= min(pauses) < max(pauses) <= limit
        assert len(set(pauses)) == 20
    assert max(by_try[-1]) > 1


@pytest.mark.parametrize("seconds", [3, 7])
def test_retry_after_in_seconds_is_honored(provider: Provider, seconds: int) -> None:
    provider.refuse(1, retry_after=str(seconds))
    assert provider.send().json() == provider.page
    assert provider.pauses == [seconds]


def test_retry_after_as_a_date_is_honored(provider: Provider) -> None:
    with time_machine.travel(1_800_000_000, tick=False):
        moment = email.utils.formatdate(time.time() + 4, usegmt=True)
        provider.refuse(1, retry_after=moment)
        assert provider.send().json() == provider.page
    assert provider.pauses == [4]


@pytest.mark.parametrize("text", ["60", "-1", "soon", "", "9" * 400, "Wed, 99 Foo 2026", "1e3"])
def test_a_retry_after_past_the_deadline_or_invalid_is_ignored(
    provider: Provider, text: str
) -> None:
    provider.refuse(1, retry_after=text)
    assert provider.send().json() == provider.page
    assert 0 <= provider.pauses[0] <= 0.1


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_past_the_deadline_that_is_asked_for_twice_ends_the_fetch(
    provider: Provider, status: int
) -> None:
    """Once may be one of the random refusals."""
    provider.refuse(8, status, retry_after="60")
    with pytest.raises(Overloaded) as failure:
        provider.send()
    assert len(provider.requests) == 2
    assert failure.value.is_confirmed
    assert (failure.value.pause, failure.value.retry_after) == (60, 60)


@pytest.mark.parametrize(
    "between", [{"status": 403}, {"status": 429, "headers": {"Retry-After": "1"}}]
)
def test_a_pause_past_the_deadline_twice_but_not_in_a_row_does_not_end_the_fetch(
    provider: Provider, between: dict[str, Any]
) -> None:
    too_long = {"status": 429, "headers": {"Retry-After": "60"}}
    for answer in (too_long, between, too_long, {"json": provider.page}):
        provider.answer(**answer)
    assert provider.send().json() == provider.page
    assert len(provider.requests) == 4


def test_a_pause_past_the_deadline_does_not_extend_the_number_of_requests(
    provider: Provider,
) -> None:
    for _ in range(MAX_TRIES - 1):
        provider.answer(status=403)
    provider.refuse(1, retry_after="60")
    with pytest.raises(Overloaded) as failure:
        provider.send(timeout=30)
    assert len(provider.requests) == MAX_TRIES
    assert not failure.value.is_confirmed


def test_a_pause_is_limited(provider: Provider) -> None:
    provider.refuse(8, retry_after="86400")
    with pytest.raises(Overloaded) as failure:
        provider.send()
    assert (failure.value.pause, failure.value.retry_after) == (MAX_PAUSE, MAX_PAUSE)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 502])
def test_retry_after_with_another_status_does_not_end_the_fetch(
    provider: Provider, status: int
) -> None:
    provider.refuse(5, status, retry_after="60")
    assert provider.send().json() == provider.page


def test_retry_after_zero_keeps_the_backoff(provider: Provider) -> None:
    provider.refuse(20, retry_after="0")
    with pytest.raises(BadStatus):
        provider.send()
    assert all(provider.pauses)


@pytest.mark.parametrize("retry_after", [None, "60"])
def test_no_request_is_sent_without_time_for_it(
    provider: Provider, retry_after: str | None
) -> None:
    provider.refuse(1, retry_after=retry_after)
    with pytest.raises(BadStatus):
        provider.send(timeout=0.04)
    assert (len(provider.requests), provider.pauses) == (1, [])


def test_a_redirect_on_the_same_host_is_followed(provider: Provider) -> None:
    """The answer is checked against the page that was asked for at first."""
    provider.answer(status=307, headers={"Location": "/elsewhere"})
    provider.answer("http://november7.example/elsewhere", json=provider.page)
    assert provider.send().json() == provider.page


@pytest.mark.parametrize(
    "location",
    [
        "http://stranger.example/movies/?skip=0&limit=2",
        "//stranger.example/",
        "http://[broken",
        "http://november7.example:port/",
        "http://",
        "javascript:alert(1)",
    ],
)
def test_a_redirect_to_another_host_or_scheme_is_not_followed(
    provider: Provider, location: str
) -> None:
    provider.answer(status=302, headers={"Location": location})
    with pytest.raises(BadStatus):
        provider.send()
    assert {(request.url or "").partition("?")[0] for request in provider.requests} == {
        provider.url
    }


def test_the_number_of_redirects_is_limited(provider: Provider) -> None:
    provider.answer(status=307, headers={"Location": provider.url})
    with pytest.raises(BadStatus):
        provider.send()
    assert len(provider.requests) == MAX_TRIES * (MAX_REDIRECTS + 1)


def test_a_body_over_the_size_limit_is_a_bad_response(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("movies.november7.transport.MAX_BODY", 100)
    provider.answer(json=provider.page)
    with pytest.raises(BadResponse):
        provider.send()
