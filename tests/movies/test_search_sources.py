"""The sources of search results, and the problems when there is no result."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
import time_machine
from accounts import Accounts
from crowd import at_once
from flask import Flask
from flask.testing import FlaskClient
from helpers import eventually
from november7.clients import JoinedCatalogue

from stand_in.faults import ERROR_PAGE, REFUSAL, TRACEBACK
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.usefixtures("no_backoff")

SEARCH = "/api/v1/movies/?query=matrix"


@pytest.fixture
def app(make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    return make_app(
        NOVEMBER7_URL=stand_in.url,
        NOVEMBER7_TTL=60,
        NOVEMBER7_STALE=600,
        NOVEMBER7_DEADLINE=30,
    )


def source(client: FlaskClient, headers: dict[str, str]) -> tuple[str, str]:
    """`Cache-Status` and `Age` of a search."""
    answer = client.get(SEARCH, headers=headers)
    assert answer.status_code == 200
    assert len(answer.get_json()["results"]) == 5
    return answer.headers["Cache-Status"], answer.headers["Age"]


def test_a_miss_is_reported(
    client: FlaskClient, auth: Accounts, clock: time_machine.Traveller
) -> None:
    assert source(client, auth.headers()) == ("november7; fwd=miss; ttl=60", "0")


def test_a_hit_has_its_age(
    client: FlaskClient, auth: Accounts, clock: time_machine.Traveller
) -> None:
    headers = auth.headers()
    source(client, headers)
    clock.shift(45)
    assert source(client, headers) == ("november7; hit; ttl=15", "45")


def test_a_stale_page_is_served_while_it_is_refreshed(
    client: FlaskClient, auth: Accounts, clock: time_machine.Traveller, stand_in: StandIn
) -> None:
    headers = auth.headers()
    source(client, headers)
    clock.shift(70)
    stale = ("november7; hit; detail=stale-while-revalidate; ttl=-10", "70")
    assert source(client, headers) == stale
    assert eventually(lambda: source(client, headers) != stale)
    assert source(client, headers) == ("november7; hit; ttl=60", "0")
    assert len(stand_in.requests) == 2


def test_a_stale_page_is_served_when_november_7_is_down(
    client: FlaskClient, auth: Accounts, clock: time_machine.Traveller, stand_in: StandIn
) -> None:
    headers = auth.headers()
    source(client, headers)
    stand_in.stop()
    clock.shift(660 - 1)
    status, age = source(client, headers)
    assert status.startswith("november7; hit; detail=stale-")
    assert age == "659"


def test_a_page_past_its_stale_window_is_fetched_again(
    client: FlaskClient, auth: Accounts, clock: time_machine.Traveller
) -> None:
    headers = auth.headers()
    source(client, headers)
    clock.shift(660)
    assert source(client, headers) == ("november7; fwd=miss; ttl=60", "0")


def test_simultaneous_searches_share_one_fetch(
    app: Flask, clock: time_machine.Traveller, auth: Accounts, stand_in: StandIn
) -> None:
    headers = auth.headers()
    stand_in.catalogue = JoinedCatalogue(stand_in.catalogue.movies, callers=3)
    found = at_once(partial(source, app.test_client(), headers) for _ in range(4))
    assert Counter(status for status, _ in found) == {
        "november7; fwd=miss; ttl=60": 1,
        "november7; fwd=miss; collapsed; ttl=60": 3,
    }
    assert len(stand_in.requests) == 1


def test_the_embedded_catalogue_has_the_same_headers(
    make_app: Callable[..., Flask], clock: time_machine.Traveller
) -> None:
    client = make_app(NOVEMBER7_TTL=60).test_client()
    headers = Accounts(client).headers()
    sources = [source(client, headers) for _ in range(2)]
    assert sources == [
        ("november7; fwd=miss; ttl=60", "0"),
        ("november7; hit; ttl=60", "0"),
    ]


@pytest.mark.parametrize("fault", ["short", "bad_movie"])
def test_a_response_that_lacks_a_movie_is_served(
    client: FlaskClient, auth: Accounts, stand_in: StandIn, fault: str
) -> None:
    stand_in.faults = Faults(**{fault: 1})  # type: ignore[arg-type]
    answer = client.get(f"{SEARCH}&page_size=100", headers=auth.headers())
    assert answer.status_code == 200
    assert len(answer.get_json()["results"]) == answer.get_json()["count"] - 1
    assert len(stand_in.requests) == 2


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("faults", "status"),
    [
        pytest.param(Faults(refuse=1), 503, id="refused"),
        pytest.param(Faults(refuse=1, codes=(429,), retry_after="60"), 503, id="told to wait"),
        pytest.param(Faults(error=1), 503, id="error"),
        pytest.param(Faults(html=1), 503, id="html"),
        pytest.param(Faults(malformed=1, seed=7), 503, id="malformed"),
        pytest.param(Faults(truncated=1), 503, id="truncated"),
        pytest.param(Faults(reset=1), 503, id="reset"),
        pytest.param(Faults(redirect=1), 503, id="redirected"),
        pytest.param(Faults(hang=1), 504, id="hanging"),
        pytest.param(Faults(drip=1), 504, id="dripping"),
        pytest.param(Faults(drip_headers=1), 504, id="dripping headers"),
    ],
)
def test_each_failure_is_a_problem_with_retry_after(
    app: Flask,
    client: FlaskClient,
    auth: Accounts,
    stand_in: StandIn,
    faults: Faults,
    status: int,
) -> None:
    """The problem contains no text of the provider."""
    if status == 504:
        app.extensions["november7"].deadline = 1
    stand_in.faults = faults
    answer = client.get(SEARCH, headers=auth.headers())
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert int(answer.headers["Retry-After"]) >= 1
    assert set(answer.get_json()) == {"type", "title", "status", "detail"}
    for text in (REFUSAL, TRACEBACK.strip(), ERROR_PAGE.strip(), "127.0.0.1", "Matrix"):
        assert text not in answer.text


def test_a_failure_is_not_cached(client: FlaskClient, auth: Accounts, stand_in: StandIn) -> None:
    headers = auth.headers()
    stand_in.faults = Faults(error=1)
    assert client.get(SEARCH, headers=headers).status_code == 503
    stand_in.faults = Faults()
    assert source(client, headers)[0].startswith("november7; fwd=miss")


def test_an_unreachable_provider_is_503(
    client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    headers = auth.headers()
    stand_in.stop()
    answer = client.get(SEARCH, headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
