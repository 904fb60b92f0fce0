"""What the provider does to a deployed server, on both caches."""

import json
from contextlib import closing
from pathlib import Path

import pytest
import redis as redis_py
from served import WORKERS

from movies.november7.blocks import BlockKey
from movies.november7.cache import NAMESPACE
from movies.november7.sqlite_store import SQLiteStore
from production.deployments import PROVIDER, Deployment, assert_unavailable, unique
from stand_in.server import Faults

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("fault", "queries"), [("bad_movie", ["a", "e", "i"]), ("short", ["n", "r", "s"])]
)
def test_responses_that_lack_a_movie_are_served(
    deployment: Deployment, fault: str, queries: list[str]
) -> None:
    """After one retry, for a short time; what is left out is counted. The breaker stays closed."""
    api, left_out = deployment.api, "november7_movies_left_out_total"
    before = api.metric(left_out)
    deployment.provider.faults = Faults(**{fault: 1})  # type: ignore[arg-type]
    for query in queries:
        answer = api.ask("GET", "/api/v1/movies/", params={"query": query, "page_size": 100})
        page, status = answer.json(), answer.headers["Cache-Status"].split("; ")
        assert len(page["results"]) == page["count"] - 1
        assert (status[1], status[-1]) == ("fwd=miss", "incomplete")
        assert int(status[2].removeprefix("ttl=")) <= 60
    assert len(deployment.provider.requests) == 2 * len(queries)
    assert api.metric("november7_breaker_open") == 0
    assert api.metric(left_out) - before == (len(queries) if fault == "bad_movie" else 0)
    assert "an answer of November 7 that lacks movies is used" in api.log


def test_bodies_that_break_the_contract_do_not_open_the_breaker(deployment: Deployment) -> None:
    """Each search sends three requests, not eight."""
    deployment.provider.faults = Faults(html=1)
    answers = [deployment.api.search(unique("html")) for _ in range(4)]
    for answer in answers:
        assert_unavailable(answer)
    assert len(deployment.provider.requests) == 3 * len(answers)
    deployment.provider.faults = Faults()
    assert all(deployment.api.search(unique("html")).ok for _ in range(4))


def test_a_failure_that_a_newer_release_published_is_503(
    postgresql_and_redis: Deployment, redis_url: str
) -> None:
    text, port = unique("newer"), postgresql_and_redis.provider.port
    lease = BlockKey(text, 0, 100).cache_key(f"http://{PROVIDER}:{port}/movies/")
    failure = {"kind": "from_the_future", "reason": "no", "retry_after": 9}
    with redis_py.Redis.from_url(redis_url) as client:
        client.set(f"{NAMESPACE}-flight:{lease}", "newer", px=30_000)
        client.set(f"{NAMESPACE}-failure:newer", json.dumps(failure), px=30_000)
    answer = postgresql_and_redis.api.search(text)
    assert_unavailable(answer)
    assert answer.headers["Retry-After"] == "9"


def test_a_clear_gives_disk_space_back(sqlite_alone: Deployment) -> None:
    """Although the server has the file open. This is what `flask cache clear` does."""
    path = Path(sqlite_alone.api.environment["INSTANCE_DIR"]) / "november7-cache.sqlite"

    def size() -> int:
        return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))

    for query in "aeiounrst":
        assert sqlite_alone.api.search(query).ok
    before = size()
    with closing(SQLiteStore(path, max_bytes=2**20, stale=600)) as store:
        assert store.delete("") > 0
    assert size() < before / 2


def test_a_provider_that_asks_for_a_pause_is_left_alone(deployment: Deployment) -> None:
    """The last test on each deployment, since the pause goes on: a single refusal is random."""
    deployment.provider.faults = Faults(refuse=1, codes=(429,), retry_after="60")
    answers = [deployment.api.search(unique("pause")) for _ in range(12)]
    for answer in answers:
        assert_unavailable(answer)
        assert 5 < int(answer.headers["Retry-After"]) <= 60
    assert len(deployment.provider.requests) <= 2 * WORKERS
