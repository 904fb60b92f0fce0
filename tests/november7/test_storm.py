"""Hundreds of searches while the provider fails at random: every response is checked.

`STORM_SEARCHES` is the number of searches. Faults and searches are drawn from seeded generators.
"""

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import time_machine
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from november7.clients import movie
from stand_in.catalogue import Catalogue
from stand_in.faults import ERROR_PAGE, REFUSAL, TRACEBACK
from stand_in.server import Faults, StandIn

SEARCHES = int(os.environ.get("STORM_SEARCHES") or 500)
CALLERS = 16
TTL = 60
ROUNDS = 5  # after each of which every page is stale
WORDS = [
    "matrix",
    "Dogs & Cats",
    "100%",
    "a+b",
    "#1",
    "Amélie",
    "Straße",
    "🎬",
    '"quoted"',
    "x=1&y",
]
MOVIES = [
    movie(number, title=f"{WORDS[number % 10]} {WORDS[number // 10 % 10]} {number}")
    for number in range(400)
]
SHARES: dict[str, Any] = {
    **dict.fromkeys(["error", "malformed", "html", "truncated", "reset"], 0.04),
    **dict.fromkeys(["short", "bad_movie"], 0.04),
    **dict.fromkeys(["redirect", "drip", "drip_headers", "hang"], 0.01),
}
CACHE_STATUS = re.compile(
    r"november7; (?P<how>hit|hit; detail=stale(-while-revalidate|-if-error)?"
    r"|fwd=(miss|partial)(; collapsed)?); ttl=(?P<ttl>-?\d+)(; incomplete)?"
)
PROVIDER_TEXTS = [REFUSAL, TRACEBACK.strip(), ERROR_PAGE.strip(), "Traceback", "doctype"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_backoff"),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn(Catalogue(MOVIES)) as running:
        yield running


@pytest.fixture
def app(
    make_app: Callable[..., Flask], stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> Flask:
    monkeypatch.setattr("movies.november7.transport.TRY_SHARE", 0.1)  # of the deadline, if it hangs
    return make_app(
        NOVEMBER7_URL=stand_in.url,
        NOVEMBER7_TTL=TTL,
        NOVEMBER7_STALE=600,
        NOVEMBER7_DEADLINE=30,  # so that no answer depends on how busy this machine is
    )


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def all_at_once(
    app: Flask, auth: Accounts, searches: list[dict[str, Any]]
) -> list[tuple[dict[str, Any], TestResponse]]:
    """Each search with its response, by many callers at the same time."""
    headers = auth.headers()

    def answer(search: dict[str, Any]) -> tuple[dict[str, Any], TestResponse]:
        return search, app.test_client().get(
            "/api/v1/movies/", query_string=search, headers=headers
        )

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(answer, searches))


def matching(search: dict[str, Any]) -> list[str]:
    """The ids of all movies that match a search."""
    wanted = search["query"].casefold()
    return [film["id"] for film in MOVIES if wanted in film["title"].casefold()]


def truth(stand_in: StandIn, search: dict[str, Any]) -> tuple[int, list[str], bool]:
    """The total of a search, the ids on its page, and whether the page is past the end."""
    ids = matching(search)
    skip = (search["page"] - 1) * search["page_size"]
    return len(ids), ids[skip : skip + search["page_size"]], bool(skip) and skip >= len(ids)


def check(stand_in: StandIn, search: dict[str, Any], answer: TestResponse) -> str:
    """Fail unless the response is correct. Returns the kind of response."""
    total, ids, is_past_the_end = truth(stand_in, search)
    assert not any(text in answer.text for text in PROVIDER_TEXTS)
    body = json.loads(answer.text)
    if answer.status_code == 200:
        assert not is_past_the_end
        found = [film["id"] for film in body["results"]]
        assert body["count"] == total
        if found != ids:  # the provider lacked movies twice in a row, so later ones move up
            assert answer.headers["Cache-Status"].endswith("; incomplete")
            assert len(found) == len(set(found)) <= search["page_size"]
            assert set(found) <= set(matching(search))
            return "incomplete"
        status = CACHE_STATUS.fullmatch(answer.headers["Cache-Status"])
        assert status, answer.headers["Cache-Status"]
        age, ttl = int(answer.headers["Age"]), int(status["ttl"])
        assert 0 <= age < ROUNDS * TTL
        assert abs(age + ttl) <= TTL  # both are rounded down, a moment apart
        if "stale" in status["how"]:
            assert age >= TTL
        elif "miss" in status["how"]:
            assert age == 0
        return status["how"]
    assert answer.content_type == "application/problem+json"
    assert body["status"] == answer.status_code
    if answer.status_code == 404:
        assert is_past_the_end
    else:
        assert answer.status_code in (503, 504)
        assert int(answer.headers["Retry-After"]) >= 1
    return str(answer.status_code)


def test_every_response_is_correct_or_a_problem(
    app: Flask, auth: Accounts, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    dice = random.Random(1)
    searches: list[dict[str, Any]] = [
        {
            "query": dice.choice([*WORDS, "1", "2", "no such title", "dogs"]),
            "page": dice.choice([1, 1, 1, 2, 3, 9]),
            "page_size": dice.choice([1, 5, 10, 50, 100]),
        }
        for _ in range(SEARCHES)
    ]
    stand_in.faults = Faults(seed=1, latency=(0, 0.05), refuse=0.15, **SHARES)
    kinds: Counter[str] = Counter()
    for number in range(ROUNDS):
        answers = all_at_once(app, auth, searches[number::ROUNDS])
        kinds.update(check(stand_in, search, answer) for search, answer in answers)
        clock.shift(TTL)
    assert {"hit", "fwd=miss", "hit; detail=stale-while-revalidate", "404"} <= set(kinds)
    assert kinds["503"] + kinds["504"] < SEARCHES / 4, kinds
    assert kinds["incomplete"] < SEARCHES / 20, kinds  # about 50 without a second request


@pytest.mark.parametrize(
    ("refusals", "answered", "requests"), [(0.09, 0.999, 1.3), (0.3, 0.99, 1.7)]
)
def test_nearly_all_searches_succeed_with_few_requests(
    app: Flask,
    auth: Accounts,
    stand_in: StandIn,
    refusals: float,
    answered: float,
    requests: float,
) -> None:
    """Whatever share of the requests is refused."""
    stand_in.faults = Faults(seed=1, refuse=refusals)
    number = SEARCHES // 2
    searches = [{"query": f"{n}", "page": 1, "page_size": 10} for n in range(number)]
    answers = all_at_once(app, auth, searches)
    kinds = Counter(check(stand_in, search, answer) for search, answer in answers)
    assert sum(kinds[kind] for kind in ("fwd=miss", "fwd=miss; collapsed")) >= (answered * number)
    assert len(stand_in.requests) <= requests * number
