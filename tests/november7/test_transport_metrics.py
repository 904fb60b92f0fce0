"""What the transport counts and logs."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from helpers import counted

from movies.november7.errors import BadStatus, Unavailable
from november7.scripted import SECRET, Provider, scripted_provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with scripted_provider() as provider:
        yield provider


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"status": 403}, "bad_status"),
        ({"body": TimeoutError()}, "timed_out"),
        ({"body": ConnectionResetError()}, "connection_failed"),
        ({"body": "<html>"}, "bad_response"),
        ({"status": 422}, "invalid_request"),
        ({"json": Provider.page}, "ok"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_are_counted_by_outcome_and_timed(
    provider: Provider, answer: dict[str, Any], outcome: str
) -> None:
    before = counted("november7_requests_total", outcome=outcome)
    timed = counted("november7_request_seconds_count")
    provider.answer(**answer)
    with suppress(Unavailable):
        provider.send()
    sent = len(provider.requests)
    assert counted("november7_requests_total", outcome=outcome) - before == sent
    assert counted("november7_request_seconds_count") - timed == sent


@pytest.mark.parametrize("refusals", [0, 2, 20])
def test_the_tries_of_each_fetch_are_counted(provider: Provider, refusals: int) -> None:
    fetches, tries = counted("november7_tries_count"), counted("november7_tries_sum")
    provider.refuse(refusals)
    with suppress(BadStatus):
        provider.send()
    assert counted("november7_tries_count") - fetches == 1
    assert counted("november7_tries_sum") - tries == len(provider.requests)


def test_each_retry_is_logged_with_its_reason_and_pause(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.refuse(2, 403)
    provider.send()
    lines = [vars(record) for record in caplog.records]
    assert [(line["message"], line["outcome"], line["try"]) for line in lines] == [
        ("a request to November 7 failed and is retried", "bad_status", number) for number in (1, 2)
    ]
    assert [line["reason"] for line in lines] == ["November 7 answered 403"] * 2
    assert [line["pause"] for line in lines] == [round(pause, 3) for pause in provider.pauses]


def test_log_lines_do_not_quote_the_provider(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.refuse(20)
    with pytest.raises(BadStatus):
        provider.send()
    assert caplog.records
    assert SECRET not in caplog.text
