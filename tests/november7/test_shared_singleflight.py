"""One fetch for all processes that share a Redis. Two clients represent two processes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from typing import Any

import orjson
import pytest
import time_machine
from helpers import eventually
from redis import Redis
from redis.lock import Lock

from movies.november7 import shared_singleflight as module
from movies.november7.client import Client
from movies.november7.deadline import Deadline
from movies.november7.errors import BadStatus, Busy, TimedOut, Unavailable
from movies.november7.shared_singleflight import SharedSingleFlight
from november7.clients import QUERY, JoinedCatalogue, unreachable_redis
from stand_in.catalogue import Answer
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

LEASE_KEY = "test-flight:k"


class Fetch:
    """A fetch that waits until it is released. Its page is then visible to both processes."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.calls = 0
        self.page: str | None = None
        self._failure = failure

    def lead(self) -> str:
        self.calls += 1
        self.begun.set()
        self.let_go.wait(30)
        if self._failure:
            raise self._failure
        self.page = "page"
        return self.page

    def by(self, redis: Redis, seconds: float = 5) -> Any:
        """What a process gets."""
        shared = SharedSingleFlight(redis, "test", lambda: False)
        with closing(shared):
            return shared.fetch("k", Deadline.after(seconds), self.lead, lambda: self.page)


class Watched(Redis):
    """A Redis client that notices when a process follows a fetch."""

    following = False

    def mget(self, *keys: Any) -> Any:
        self.following = True
        return super().mget(*keys)


def leader_and_follower(redis: Redis, fetch: Fetch) -> list[Future[Any]]:
    """The results of two processes, of which the second starts while the first fetches."""
    watched = Watched(connection_pool=redis.connection_pool)
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(fetch.by, redis)
        fetch.begun.wait(30)
        follower = pool.submit(fetch.by, watched)
        assert eventually(lambda: watched.following)
        fetch.let_go.set()
    return [leader, follower]


def test_the_second_process_waits_for_the_first(redis: Redis) -> None:
    fetch = Fetch()
    assert [got.result() for got in leader_and_follower(redis, fetch)] == ["page", "page"]
    assert fetch.calls == 1


@pytest.mark.parametrize(
    "kind", [kind for kind in (Unavailable, *Unavailable.__subclasses__()) if kind is not Busy]
)
def test_a_failure_is_shared(redis: Redis, kind: type[Unavailable]) -> None:
    """With its kind, text and `retry_after`."""
    fetch = Fetch(kind("no", retry_after=7))
    failures = [got.exception() for got in leader_and_follower(redis, fetch)]
    assert [(type(failure), str(failure)) for failure in failures] == [(kind, "no")] * 2
    assert [failure.retry_after for failure in failures if isinstance(failure, kind)] == [7, 7]
    assert fetch.calls == 1


def test_a_failure_is_not_cached(redis: Redis) -> None:
    """A process that starts later fetches again."""
    failed, fetch = Fetch(BadStatus("no")), Fetch()
    failed.let_go.set()
    fetch.let_go.set()
    with pytest.raises(BadStatus):
        failed.by(redis)
    assert fetch.by(redis) == "page"


@pytest.mark.parametrize("failure", [ZeroDivisionError(), Busy("the client was closed")])
def test_a_follower_takes_over_if_the_leader_stops_or_fails_unexpectedly(
    redis: Redis, failure: Exception
) -> None:
    fetch = Fetch(failure)
    assert [got.exception() for got in leader_and_follower(redis, fetch)] == [failure] * 2
    assert fetch.calls == 2


def test_a_dead_leader_is_replaced(redis: Redis) -> None:
    """The lease expires and a follower leads, well before the deadline."""
    redis.set(LEASE_KEY, "dead", px=100)
    fetch = Fetch()
    fetch.let_go.set()
    assert fetch.by(redis) == "page"


def test_only_one_follower_replaces_a_dead_leader(redis: Redis) -> None:
    redis.set(LEASE_KEY, "dead", px=100)
    fetch = Fetch()
    with ThreadPoolExecutor(5) as pool:
        followers = [pool.submit(fetch.by, redis) for _ in range(5)]
        fetch.begun.wait(30)
        fetch.let_go.set()
    assert [follower.result() for follower in followers] == ["page"] * 5
    assert fetch.calls == 1


def test_a_lease_is_short_and_renewed(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE", 2.0)
    fetch = Fetch()
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(fetch.by, redis)
        fetch.begun.wait(30)
        token, lefts = redis.get(LEASE_KEY), [redis.pttl(LEASE_KEY)]

        def is_renewed() -> bool:
            lefts.append(redis.pttl(LEASE_KEY))
            return any(later > earlier for earlier, later in pairwise(lefts))

        renewed, held = eventually(is_renewed), redis.get(LEASE_KEY)
        fetch.let_go.set()
    assert leader.result() == "page"
    assert (renewed, held) == (True, token)
    assert set(lefts) <= set(range(1, 2001))


def test_a_lease_is_released(redis: Redis) -> None:
    fetch = Fetch()
    fetch.let_go.set()
    fetch.by(redis)
    assert not redis.exists(LEASE_KEY)


def test_a_slow_renewal_of_a_lease_ends_with_the_fetch(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it could use a connection while the client closes it."""
    monkeypatch.setattr(module, "LEASE", 0.3)
    fetch, renewing = Fetch(), threading.Event()
    reacquire = Lock.reacquire

    def slow(lease: Lock) -> Any:
        renewing.set()
        threading.Event().wait(0.2)
        return reacquire(lease)

    monkeypatch.setattr(Lock, "reacquire", slow)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(fetch.by, redis)
        assert renewing.wait(5)
        fetch.let_go.set()
        assert leader.result() == "page"
        assert module.RENEWAL not in {thread.name for thread in threading.enumerate()}


def test_only_failures_leave_a_key_which_expires(redis: Redis) -> None:
    fetch, failed = Fetch(), Fetch(BadStatus("no"))
    fetch.let_go.set()
    failed.let_go.set()
    fetch.by(redis)
    assert list(redis.scan_iter()) == []
    with pytest.raises(BadStatus):
        failed.by(redis)
    (key,) = redis.scan_iter()
    assert redis.ttl(key) in range(1, module.FAILURE_TTL + 1)


def test_following_ends_at_the_deadline(redis: Redis) -> None:
    redis.set(LEASE_KEY, "hanging")
    with pytest.raises(TimedOut):
        Fetch().by(redis, seconds=0.1)


def test_a_page_that_was_cached_meanwhile_is_not_fetched(redis: Redis) -> None:
    fetch = Fetch()
    fetch.page = "page"
    assert fetch.by(redis) == "page"
    assert fetch.calls == 0


def test_without_redis_every_process_fetches(caplog: pytest.LogCaptureFixture) -> None:
    """This is logged."""
    fetch = Fetch()
    fetch.let_go.set()
    assert fetch.by(unreachable_redis()) == "page"
    assert [record.message for record in caplog.records] == [
        "fetches are not shared with other processes"
    ]


# Two clients, each with threads of its own


@pytest.fixture
def clients(make_client: Callable[..., Client], redis: Redis) -> list[Client]:
    return [make_client(redis=redis) for _ in range(2)]


def search_everywhere(clients: list[Client]) -> list[Future[Any]]:
    """The results of ten callers in each process for one search."""

    def caller(client: Client) -> Callable[[], Any]:
        return lambda: client.search(QUERY, skip=0, limit=3)

    with ThreadPoolExecutor(20) as pool:
        return [pool.submit(caller(client)) for _ in range(10) for client in clients]


def test_all_processes_make_one_request(stand_in: StandIn, clients: list[Client]) -> None:
    stand_in.catalogue = JoinedCatalogue(stand_in.catalogue.movies, callers=18)
    pages = [got.result() for got in search_everywhere(clients)]
    assert {page.total for page in pages} == {5}
    assert len(stand_in.requests) == 1


def test_all_processes_share_a_failure(stand_in: StandIn, clients: list[Client]) -> None:
    """It takes as many requests as one fetch."""
    stand_in.catalogue = JoinedCatalogue(stand_in.catalogue.movies, callers=18)
    stand_in.faults = Faults(refuse=1, latency=(0.3, 0.3), codes=(422,))
    failures = {type(got.exception()).__name__ for got in search_everywhere(clients)}
    assert failures == {"InvalidRequest"}
    assert len(stand_in.requests) == 1


def test_all_processes_refresh_once(
    stand_in: StandIn, clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, answer = threading.Event(), stand_in.catalogue.answer

    def answer_later(method: str, target: str) -> Answer:
        let_go.wait(30)
        return answer(method, target)

    with time_machine.travel("2026-03-01T12:00:00Z", tick=False) as clock:
        for client in clients:
            client.search(QUERY, skip=0, limit=3)
        clock.shift(61)
        monkeypatch.setattr(stand_in.catalogue, "answer", answer_later)
        pages = [got.result() for got in search_everywhere(clients)]
        let_go.set()
        assert {page.source for page in pages} == {"stale"}
        assert eventually(lambda: clients[1].search(QUERY, skip=0, limit=3).source == "hit")
    assert len(stand_in.requests) == 2


def test_a_failure_of_an_unknown_kind_is_unavailable(redis: Redis) -> None:
    """A newer release may publish one."""
    redis.set(LEASE_KEY, "newer", px=30_000)
    failure = {"kind": "from_the_future", "reason": "no", "retry_after": 9}
    redis.set("test-failure:newer", orjson.dumps(failure))
    with pytest.raises(Unavailable) as raised:
        Fetch().by(redis)
    assert (type(raised.value), raised.value.retry_after) == (Unavailable, 9)
