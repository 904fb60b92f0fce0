"""Two gunicorn workers and a failing provider, over real sockets.

The tests read the log and the metrics. They do not measure times.
"""

import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from uuid import uuid4

import pytest
import requests
from helpers import eventually
from redis import Redis
from served import WORKERS, Served, served

from movies.november7.blocks import SEARCH_BLOCK, BlockKey
from movies.november7.cache import NAMESPACE
from movies.november7.errors import BadStatus
from movies.november7.singleflight import share_of
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

DEADLINE = 3
CALLERS = 60
fresh_texts = (f"cold {number}" for number in count())


@pytest.fixture(scope="module")
def provider() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def app(
    request: pytest.FixtureRequest, provider: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The application, with its cache in a SQLite file or in Redis."""
    settings = {"NOVEMBER7_URL": provider.url, "NOVEMBER7_DEADLINE": str(DEADLINE)}
    if request.param == "redis":
        settings["REDIS_URL"] = request.getfixturevalue("redis_url")
    with served(tmp_path_factory.mktemp(request.param), **settings) as running:
        yield running
    if running.is_shared:
        Redis.from_url(settings["REDIS_URL"]).flushdb()


@pytest.fixture
def stand_in(app: Served, provider: StandIn) -> StandIn:
    """The provider without faults. The breakers of both workers are closed."""
    provider.stop()
    provider.faults = Faults()
    provider.start()
    assert eventually(lambda: app.metric("november7_breaker_open") == 0)
    provider.reset()
    return provider


def many(calls: Sequence[Callable[[], requests.Response]]) -> list[requests.Response]:
    """The responses to simultaneous requests."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


def statuses(answers: list[requests.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def take_down(app: Served, stand_in: StandIn) -> None:
    """Stop the provider, and search until the breakers of both workers are open."""
    stand_in.stop()
    for _ in range(4):
        many([lambda: app.search(next(fresh_texts))] * 16)
    assert eventually(lambda: all(fails_fast(app) for _ in range(6)))


def fails_fast(app: Served) -> bool:
    """Whether a search is 503 without a request to the provider."""
    name = f"unasked-{uuid4()}"
    answer = app.search(next(fresh_texts), headers={**app.headers, "X-Request-ID": name})
    lines = [line for line in app.log.splitlines() if name in line]
    return answer.status_code == 503 and not any("November 7 failed" in line for line in lines)


def test_sixty_callers_share_one_request_per_process(app: Served, stand_in: StandIn) -> None:
    """With Redis, all processes share one."""
    stand_in.faults = Faults(latency=(0.3, 0.3))
    text = next(fresh_texts)
    answers = many([lambda: app.search(text)] * CALLERS)
    assert statuses(answers) == {200: CALLERS}
    most = 1 if app.is_shared else WORKERS
    assert 1 <= len(stand_in.requests) <= most


def test_a_search_of_a_hanging_provider_is_504(app: Served, stand_in: StandIn) -> None:
    stand_in.faults = Faults(hang=1)
    answer = app.search(next(fresh_texts))
    assert answer.status_code == 504
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["title"] == "Gateway Timeout"


def test_a_hanging_provider_does_not_delay_other_requests(app: Served, stand_in: StandIn) -> None:
    movie = app.search("matrix").json()["results"][0]["id"]
    others = [
        lambda: app.ask("GET", "/health/live"),
        lambda: app.ask("GET", "/health/ready"),
        lambda: app.search("matrix"),
        lambda: app.ask("GET", "/api/v1/movies/ratings/"),
        lambda: app.ask("GET", f"/api/v1/movies/{movie}/"),
        lambda: app.ask("PUT", f"/api/v1/movies/{movie}/rating/", json={"rating_type": "UPVOTE"}),
        lambda: app.ask(
            "POST",
            "/api/v1/auth/token/",
            json={"email": "ada@example.com", "password": "lovelace-and-babbage"},
        ),
    ]
    stand_in.faults = Faults(hang=1)
    with ThreadPoolExecutor(CALLERS) as pool:
        cold = [pool.submit(app.search, next(fresh_texts)) for _ in range(CALLERS)]
        assert eventually(lambda: stand_in.in_flight > 0)
        answers = [answer for _ in range(5) for answer in many(others)]
        under_way = stand_in.most_in_flight  # before second tries overlap with first ones' ends
    assert set(statuses(answers)) <= {200, 201}
    assert median(answer.elapsed.total_seconds() for answer in answers) < DEADLINE
    assert {caller.result().status_code for caller in cold} <= {503, 504}
    assert under_way <= 8 * WORKERS


def test_searches_fail_fast_in_an_outage_and_succeed_after_it(
    app: Served, stand_in: StandIn
) -> None:
    stand_in.stop()
    answer = app.search(next(fresh_texts))
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0
    take_down(app, stand_in)
    assert app.metric("november7_breaker_open") == 1
    assert app.ask("GET", "/health/ready").json()["provider"]["state"] == "down"
    stand_in.start()
    text = next(fresh_texts)
    assert eventually(lambda: app.search(text).status_code == 200)
    assert eventually(lambda: all(app.search(text).ok for _ in range(6)))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells which worker is connected")
def test_callers_get_their_result_if_the_worker_that_fetches_is_killed(
    app: Served, stand_in: StandIn
) -> None:
    stand_in.stop()  # ends connections that probes have left open
    stand_in.start()
    stand_in.faults = Faults(hang=1)
    text = next(fresh_texts)

    def search() -> int | None:
        try:
            return app.search(text).status_code
        except requests.ConnectionError:
            return None  # it was with the worker that died

    before = app.pids
    with ThreadPoolExecutor(20) as pool:
        callers = [pool.submit(search) for _ in range(20)]
        expected = 1 if app.is_shared else WORKERS
        assert eventually(lambda: stand_in.in_flight == expected)
        leaders: list[int] = []

        def are_known() -> bool:  # Linux may omit a socket while others open and close
            leaders[:] = app.connected_to(stand_in.port)
            return len(leaders) == expected

        assert eventually(are_known)
        stand_in.faults = Faults()
        app.kill(leaders[0])
        answers = Counter(caller.result() for caller in callers)
    assert answers == {None: answers[None], 200: 20 - answers[None]}
    assert 0 < answers[None] < 20
    assert eventually(lambda: len(app.pids) == WORKERS and app.pids != before)


def test_metrics_cover_all_workers(app: Served, stand_in: StandIn) -> None:
    sample = 'november7_requests_total{outcome="ok"}'
    before = app.metric(sample)
    answers = many([lambda: app.search(next(fresh_texts))] * 6)
    assert statuses(answers) == {200: 6}
    assert {app.metric(sample) - before for _ in range(6)} == {6.0}


def test_a_retried_request_is_logged_with_the_id_of_its_search(
    app: Served, stand_in: StandIn
) -> None:
    """After 20 lines in 10 seconds, a worker logs a summary without an id."""
    stand_in.faults = Faults(refuse=0.3, seed=7)
    sample = f'november7_requests_total{{outcome="{BadStatus.outcome}"}}'
    before = app.metric(sample)

    def headers(name: str) -> dict[str, str]:
        return {**app.headers, "X-Request-ID": name}

    ids = [f"search-{uuid4()}" for _ in range(40)]
    calls = [partial(app.search, next(fresh_texts), headers=headers(name)) for name in ids]
    answers = many(calls)
    assert statuses(answers) == {200: 40}
    lines = [line for line in app.log.splitlines() if any(f'"{name}"' in line for name in ids)]
    retried = [line for line in lines if "a request to November 7 failed and is retried" in line]
    assert 0 < len(retried) <= app.metric(sample) - before
    assert len([line for line in lines if "movies.access_log" in line]) == 40


def test_cached_pages_are_served_while_others_are_stored(app: Served, stand_in: StandIn) -> None:
    texts = [next(fresh_texts) for _ in range(5)]
    for text in texts * 4:
        app.search(text)
    warm = [partial(app.search, text) for text in texts * 20]
    cold = [partial(app.search, next(fresh_texts)) for _ in range(20)]
    answers = many([*warm, *cold])
    assert statuses(answers) == {200: 120}
    found = Counter(answer.headers["Cache-Status"].split(";")[1] for answer in answers[:100])
    assert found == {" hit": 100}


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_a_locked_cache_file_delays_no_search(app: Served, stand_in: StandIn) -> None:
    """Cached pages are served; others are fetched and not stored."""
    text = next(fresh_texts)
    app.search(text)
    with closing(
        sqlite3.connect(Path(app.environment["INSTANCE_DIR"], "november7-cache.sqlite"))
    ) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        warm = [partial(app.search, text) for _ in range(20)]
        cold = [partial(app.search, next(fresh_texts)) for _ in range(10)]
        answers = many([*warm, *cold])
    assert statuses(answers) == {200: 30}
    found = [answer.headers["Cache-Status"].split(";")[1] for answer in answers]
    assert found[:20] == [" hit"] * 20
    assert set(found[20:]) == {" fwd=miss"}


@pytest.mark.parametrize("app", ["redis"], indirect=True)
def test_a_key_of_the_wrong_type_costs_its_own_page_only(
    app: Served, stand_in: StandIn, redis_url: str
) -> None:
    cached, text = [next(fresh_texts) for _ in range(12)], next(fresh_texts)
    for one in cached:
        app.search(one)
    key = BlockKey(text, 0, SEARCH_BLOCK).cache_key(f"{stand_in.url}movies/")
    with Redis.from_url(redis_url) as redis:
        redis.rpush(f"{{{NAMESPACE}}}:entry:{key}", "an element")
    assert app.search(text).ok
    found = {app.search(one).headers["Cache-Status"].split("; ")[1] for one in cached * 2}
    assert found == {"hit"}


def test_no_cookie_of_the_provider_is_kept(app: Served, stand_in: StandIn) -> None:
    stand_in.faults = Faults(cookies=True)  # a request that sends one is refused
    assert statuses([app.search(next(fresh_texts)) for _ in range(8)]) == {200: 8}
    assert not any("Cookie" in headers for headers in stand_in.headers)


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_a_user_with_many_searches_leaves_room_for_others(app: Served, stand_in: StandIn) -> None:
    """There are more than November 7 can answer before the deadline."""
    grace = app.sign_in("grace@example.com")
    stand_in.faults = Faults(latency=(0.5, 0.5))
    with ThreadPoolExecutor(150) as pool:
        for _ in range(150):
            pool.submit(app.search, next(fresh_texts))
        assert eventually(lambda: stand_in.in_flight == share_of(8) * WORKERS)
        answers = [app.search(next(fresh_texts), headers=grace) for _ in range(2)]
    assert statuses(answers) == {200: 2}


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_workers_that_stop_wait_for_november_7_until_the_deadline(
    app: Served, stand_in: StandIn
) -> None:
    """The caller has left, but the fetch goes on in the background."""
    stand_in.faults = Faults(hang=1)
    before = set(app.pids)
    headers = {**app.headers, "Prefer": "wait=1"}
    assert app.search(next(fresh_texts), headers=headers).status_code == 504
    assert stand_in.in_flight == 1
    os.kill(app.pid, signal.SIGHUP)
    assert eventually(lambda: len(app.pids) == WORKERS and not before & set(app.pids))
    assert eventually(lambda: stand_in.in_flight == 0)
    assert "Traceback" not in app.log
    stand_in.faults = Faults()
    assert app.search(next(fresh_texts)).ok
