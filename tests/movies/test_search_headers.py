"""Request headers of a search that control caching, and its response headers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import time_machine
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from stand_in.server import Faults, StandIn

SEARCH = "/api/v1/movies/?query=matrix"
TTL = 60

pytestmark = pytest.mark.usefixtures("clock")
once = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Search = Callable[..., TestResponse]


@pytest.fixture
def app(make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    return make_app(
        NOVEMBER7_URL=stand_in.url,
        NOVEMBER7_TTL=TTL,
        NOVEMBER7_DEADLINE=30,
        RATELIMIT_ENABLED=True,
    )


@pytest.fixture
def search(client: FlaskClient, auth: Accounts, clock: time_machine.Traveller) -> Search:
    """Searches as a user, with a `Cache-Control`."""
    headers = auth.headers()

    def search(directives: str = "", path: str = SEARCH, **more: str) -> TestResponse:
        wanted = {**headers, **more, **({"Cache-Control": directives} if directives else {})}
        return client.get(path, headers=wanted)

    return search


def source(response: TestResponse) -> tuple[str, str]:
    """The source of a response without its `ttl`, and its age."""
    assert response.status_code == 200, response.text
    status = response.headers["Cache-Status"].rpartition(";")[0].removeprefix("november7; ")
    return status, response.headers["Age"]


@once
@pytest.mark.parametrize(
    ("directives", "found"),
    [
        ("", ("hit", "20")),
        ("max-age=20", ("hit", "20")),
        ("max-age=19", ("fwd=request", "0")),
        ("MAX-AGE=19", ("fwd=request", "0")),
        ('max-age="19"', ("fwd=request", "0")),
        ("max-age=0", ("fwd=request", "0")),
        ("no-cache", ("fwd=request", "0")),
        ("max-stale=0", ("hit", "20")),
        ("min-fresh=40", ("hit", "20")),
        ("min-fresh=41", ("fwd=request", "0")),
        ("only-if-cached", ("hit", "20")),
        ("only-if-cached, max-age=30", ("hit", "20")),
        ("max-age=99999999999999999999999", ("hit", "20")),
        ("max-age=soon, max-stale=x, min-fresh=-1", ("hit", "20")),
        ("max-age, no-store, no-transform, stale-if-error=5, unknown=1", ("hit", "20")),
        (", ;=,,", ("hit", "20")),
    ],
)
def test_a_fresh_page_is_served_if_the_directives_allow_it(
    search: Search, clock: time_machine.Traveller, directives: str, found: tuple[str, str]
) -> None:
    search()
    clock.shift(20)
    assert source(search(directives)) == found


@once
@pytest.mark.parametrize(
    ("directives", "found"),
    [
        ("", ("hit; detail=stale-while-revalidate", "80")),
        ("max-stale", ("hit; detail=stale-while-revalidate", "80")),
        ("max-stale=20", ("hit; detail=stale-while-revalidate", "80")),
        ("max-stale=19", ("fwd=stale", "0")),
        ("max-stale=0", ("fwd=stale", "0")),
        ("max-age=100", ("fwd=stale", "0")),
        ("max-age=100, max-stale", ("hit; detail=stale-while-revalidate", "80")),
        ("max-age=79, max-stale", ("fwd=request", "0")),
    ],
)
def test_a_stale_page_is_served_if_the_directives_allow_it(
    search: Search, clock: time_machine.Traveller, directives: str, found: tuple[str, str]
) -> None:
    search()
    clock.shift(80)
    assert source(search(directives)) == found


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("directives", ["max-stale=0", "no-cache", "max-age=60"])
def test_no_stale_page_is_served_when_november_7_fails(
    search: Search, stand_in: StandIn, clock: time_machine.Traveller, directives: str
) -> None:
    search()
    clock.shift(TTL)
    stand_in.stop()
    response = search(directives)
    assert (response.status_code, response.content_type) == (503, "application/problem+json")
    assert int(response.headers["Retry-After"]) >= 1
    assert source(search())[1] == "60"


def test_only_if_cached_is_504_at_once(search: Search, stand_in: StandIn) -> None:
    response = search("only-if-cached")
    assert (response.status_code, response.content_type) == (504, "application/problem+json")
    assert response.get_json()["type"].endswith("#not-cached")
    assert stand_in.requests == []


def test_ten_fetches_a_minute_may_be_forced(
    search: Search, client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    """Further ones get a 429 response. Other searches and other users are not affected."""
    for _ in range(10):
        assert source(search("no-cache"))[1] == "0"
    response = search("no-cache")
    assert (response.status_code, response.content_type) == (429, "application/problem+json")
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert search("max-age=0").status_code == 429
    assert source(search()) == ("hit", "0")
    assert source(search("max-age=60")) == ("hit", "0")
    assert source(search(path="/api/v1/movies/?query=fargo")) == ("fwd=miss", "0")
    other = {**auth.headers(), "Cache-Control": "no-cache"}
    assert client.get(SEARCH, headers=other).status_code == 200
    assert len(stand_in.requests) == 12


def test_misses_do_not_count_as_forced_fetches(search: Search) -> None:
    """So clients may send the same `max-age` with every search."""
    for number in range(15):
        response = search("max-age=30", path=f"/api/v1/movies/?query={number}")
        assert source(response) == ("fwd=miss", "0")


@pytest.mark.slow
def test_prefer_wait_limits_the_wait(search: Search, stand_in: StandIn) -> None:
    """The fetch continues, so a later search finds its result."""
    stand_in.faults = Faults(latency=(0.3, 0.3))
    response = search(Prefer="wait=0")
    assert (response.status_code, response.headers["Preference-Applied"]) == (504, "wait=0")
    assert response.get_json()["type"].endswith("#provider-timeout")
    assert "Retry-After" in response.headers
    response = search(Prefer="wait=30")
    assert response.status_code == 200
    assert response.headers["Preference-Applied"] == "wait=30"
    assert len(stand_in.requests) == 1


@once
@pytest.mark.parametrize(
    ("preference", "applied"),
    [
        ("wait=5", "wait=5"),
        ("Wait=5", "wait=5"),
        ('wait="5"', "wait=5"),
        ("wait = 5", "wait=5"),
        ("respond-async, wait=5; x=1", "wait=5"),
        ("wait=5, wait=1", "wait=5"),
        ('note="later, wait=1", wait=5', "wait=5"),
        ("wait=9999999999", "wait=2147483648"),
        ("wait", None),
        ("wait=soon", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("return=minimal", None),
    ],
)
def test_the_preference_that_was_applied_is_confirmed(
    search: Search, preference: str, applied: str | None
) -> None:
    assert search(Prefer=preference).headers.get("Preference-Applied") == applied


def test_head_returns_the_headers_of_get(
    client: FlaskClient, auth: Accounts, clock: time_machine.Traveller
) -> None:
    headers = auth.headers()
    client.get(SEARCH, headers=headers)
    clock.shift(7)
    response = client.head(SEARCH, headers=headers)
    assert source(response) == ("hit", "7")
    assert response.data == b""


@once
def test_a_page_that_lacks_movies_says_so(search: Search, stand_in: StandIn) -> None:
    """From November 7 and from the cache."""
    stand_in.faults = Faults(short=1)
    found = [search(path="/api/v1/movies/") for _ in range(2)]
    assert all(response.status_code == 200 for response in found)
    sources = [response.headers["Cache-Status"].split("; ") for response in found]
    assert [(status[1], status[-1]) for status in sources] == [
        ("fwd=miss", "incomplete"),
        ("hit", "incomplete"),
    ]


def test_a_page_past_the_end_says_where_it_comes_from(search: Search) -> None:
    response = search(path=f"{SEARCH}&page=9")
    assert response.status_code == 404
    assert response.headers["Cache-Status"].startswith("november7; fwd=miss")
    assert response.headers["Age"] == "0"


def test_without_a_query_the_whole_catalogue_is_listed(search: Search, stand_in: StandIn) -> None:
    catalogue = stand_in.catalogue.movies
    path = "/api/v1/movies/?page_size=40"
    seen: list[Any] = []
    for page in (1, 2, 3):
        body = search(path=f"{path}&page={page}").get_json()
        seen += [movie["id"] for movie in body["results"]]
        assert body["count"] == len(catalogue)
    assert seen == [movie["id"] for movie in catalogue]
    assert body["next"] is None
    assert body["previous"].endswith("/api/v1/movies/?page_size=40&page=2")
    assert len(stand_in.requests) == 1


def test_the_embedded_catalogue_has_the_same_headers(
    make_app: Callable[..., Flask], clock: time_machine.Traveller
) -> None:
    client = make_app(NOVEMBER7_TTL=TTL).test_client()
    ask = partial(client.get, SEARCH, headers=Accounts(client).headers())
    assert source(ask()) == ("fwd=miss", "0")
    clock.shift(5)
    assert source(ask()) == ("hit", "5")


def test_the_request_headers_are_documented(client: FlaskClient) -> None:
    paths = client.get("/api/schema/").get_json()["paths"]
    path = next(item for url, item in paths.items() if url.endswith("/movies/"))
    parameters = [*path.get("parameters", []), *path["get"].get("parameters", [])]
    names = {parameter["name"] for parameter in parameters if parameter["in"] == "header"}
    assert names == {"Cache-Control", "Prefer"}
    assert {"query", "page", "page_size"} <= {parameter["name"] for parameter in parameters}
