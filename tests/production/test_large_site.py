"""Many cached pages, movies, ratings and expired rows, on SQLite alone and on both services."""

import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
import requests
from helpers import eventually
from keepalive import connection_to_each_worker, get
from served import served
from services import postgresql_database

from movies.november7.refresher import MAX_PENDING
from movies.november7.sqlite_store import WAL_BYTES
from production.large_site import (
    CACHE_BYTES,
    CACHE_FILE,
    LargeCatalogue,
    LargeSite,
    MovableClock,
    cpu_time,
    movie,
)
from production.process_limits import limited
from stand_in.server import Faults, StandIn

pytestmark = pytest.mark.slow

ROOM = 4 * 2**20  # bytes of address space: too few for the stack of another thread
EXPIRED = 30_000
RATINGS = 10_000


@pytest.fixture(scope="module", params=["sqlite", "postgresql and redis"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LargeSite]:
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("large")
        clock = MovableClock(directory)
        provider = stack.enter_context(StandIn(LargeCatalogue()))
        settings = {
            "NOVEMBER7_URL": provider.url,
            "NOVEMBER7_DEADLINE": "50",  # a busy machine takes long to read the catalogue
            "NOVEMBER7_CACHE_BYTES": str(CACHE_BYTES),
        }
        if request.param != "sqlite":
            settings["DATABASE_URL"] = stack.enter_context(postgresql_database("large"))
            settings["REDIS_URL"] = request.getfixturevalue("redis_url")
        api = stack.enter_context(served(directory, clock.code, **settings))
        yield LargeSite(api, provider, clock)


only_on_sqlite = pytest.mark.parametrize("site", ["sqlite"], indirect=True)


def test_a_movie_that_moves_while_the_catalogue_is_read_is_found(site: LargeSite) -> None:
    """The first movie is removed after the first block was read: the others move forward."""
    wanted = site.catalogue.movies[1000]

    def remove_the_first(_target: str) -> None:
        site.catalogue.on_answer = lambda target: None
        site.catalogue.movies.pop(0)

    site.catalogue.on_answer = remove_the_first
    assert site.movie(wanted["id"]).json()["title"] == wanted["title"]


def test_a_movie_that_is_new_is_found_after_a_minute_or_a_clear(site: LargeSite) -> None:
    for become_known in (
        lambda: site.clock.move(61),
        lambda: site.api.run("cache", "clear"),
    ):
        new = movie("New in the catalogue")
        assert [site.movie(new["id"]).status_code for _ in range(8)] == [404] * 8
        site.catalogue.movies.append(new)
        become_known()
        assert eventually(lambda: site.movie(new["id"]).ok, within=5)  # noqa: B023
        assert [site.movie(new["id"]).status_code for _ in range(8)] == [200] * 8


@only_on_sqlite
def test_a_thread_that_cannot_start_delays_recovery_and_does_not_prevent_it(
    site: LargeSite,
) -> None:
    """No stack of an ended thread is there to be used again: no refresher has run before."""
    with ThreadPoolExecutor(40) as pool:  # so that the threads of searches are there
        site.provider.faults = Faults(latency=(0.2, 0.2))
        assert all(answer.ok for answer in pool.map(site.api.search, map(str, range(40))))
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[0]) for pid in site.api.pids]
    limits = [number * resource.getpagesize() + ROOM for number in pages]
    with limited(site.api.pids, resource.RLIMIT_AS, limits):
        site.take_down()
        assert "the background refresher could not be started" in site.api.log
    site.provider.faults = Faults()
    site.bring_back()


@only_on_sqlite
def test_an_invented_id_costs_little_more_than_a_refused_search_in_an_outage(
    site: LargeSite,
) -> None:
    """In CPU time, once the workers have read the catalogue, more than a minute ago."""

    def cost(call: Callable[[], requests.Response]) -> float:
        before = sum(map(cpu_time, site.api.pids))
        assert {call().status_code for _ in range(100)} == {503}
        return sum(map(cpu_time, site.api.pids)) - before

    with connection_to_each_worker(site.api) as workers:
        path = f"/api/v1/movies/{uuid4()}/"
        assert {get(one, path, **site.api.headers).status for one in workers} == {404}
    site.take_down()
    site.clock.move(61)
    refused_search = cost(lambda: site.api.search(f"refused {uuid4()}"))
    assert cost(lambda: site.movie(str(uuid4()))) < 3 * refused_search
    site.bring_back()


def test_one_user_cannot_fill_the_store_of_pages(site: LargeSite) -> None:
    """Each search asks for another block of 100 movies, 70 kB."""
    site.provider.reset()
    for spelling in ("movie", "Movie", "mOvie", "moVie"):
        for page in range(1, 1100, 100):
            parameters = {"query": spelling, "page": str(page), "page_size": "1"}
            assert site.api.ask("GET", "/api/v1/movies/", params=parameters).ok
    assert len(site.provider.requests) * 70_000 > CACHE_BYTES
    with site.store() as store:
        kept = sum(size for _, _, size in store.entries())
    assert CACHE_BYTES / 2 < kept < CACHE_BYTES
    if not site.is_postgresql:
        assert (site.directory / CACHE_FILE).stat().st_size < 1.2 * CACHE_BYTES


def test_pages_of_every_size_are_cut_from_one_block(site: LargeSite) -> None:
    site.provider.reset()
    for size in (7, 8, 100):
        parameters = {"query": "movie 01", "page_size": str(size)}
        found = site.api.ask("GET", "/api/v1/movies/", params=parameters)
        assert len(found.json()["results"]) == size
    assert len(site.provider.requests) == 1


@pytest.mark.parametrize(
    "entry",
    [b"not JSON", b"[]", b'{"page": {}}', b'{"total": 1, "items": [{"id": 1}], "fetched_at": 0}'],
)
def test_a_page_that_another_release_cached_is_fetched(site: LargeSite, entry: bytes) -> None:
    text, now = f"cached otherwise {uuid4()}", time.time()
    with site.store() as store:
        store.write(site.key_of(text), entry, now, now + 600)
    found = site.api.search(text)
    assert (found.status_code, found.headers["Cache-Status"].split("; ")[1]) == (200, "fwd=miss")


def test_a_page_that_was_slow_to_arrive_has_no_age(site: LargeSite) -> None:
    """A miss of two blocks: seconds pass while the second one is fetched."""
    site.catalogue.on_answer = lambda target: site.clock.move(5)
    parameters = {"query": "mOVIe", "page": "2", "page_size": "60"}
    try:
        found = site.api.ask("GET", "/api/v1/movies/", params=parameters)
    finally:
        site.catalogue.on_answer = lambda target: None
    assert found.headers["Cache-Status"].startswith("november7; fwd=miss")
    assert found.headers["Age"] == "0"


def test_voters_for_movies_that_are_not_recorded_record_one_each(site: LargeSite) -> None:
    """The catalogue is cached, and the database has been restored from an older backup."""
    assert site.movie(str(uuid4())).status_code == 404
    site.provider.stop()  # a refresh in the background would record more
    assert eventually(lambda: site.api.metric("november7_bulkhead_in_use") == 0)
    site.execute("DELETE FROM movies WHERE upvotes + downvotes = 0")
    recorded = site.execute("SELECT count(*) FROM movies")
    wanted = [movie["id"] for movie in site.catalogue.movies[300:420]]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(site.vote, wanted))
    assert {answer.status_code for answer in answers} == {201}
    assert site.execute("SELECT count(*) FROM movies") == recorded + len(wanted)
    site.bring_back()


def test_a_purge_of_many_sign_ins_deletes_them_in_batches(site: LargeSite) -> None:
    """Others see that some are gone before all are, and sign in meanwhile."""
    site.repeat(
        "INSERT INTO sign_ins (id, user_id, expires_at) SELECT {uuid}, 1, {time} FROM numbers",
        EXPIRED,
    )
    expired = "SELECT count(*) FROM sign_ins WHERE expires_at < '2026-01-02'"
    with ThreadPoolExecutor(1) as pool:
        purge = pool.submit(site.api.run, "tokens", "purge", "--json")
        assert eventually(lambda: 0 < site.execute(expired) < EXPIRED)
        assert site.api.sign_in("grace@example.com")
    assert json.loads(purge.result().stdout) == {"purged": EXPIRED}
    assert site.execute(expired) == 0
    assert site.api.ask("GET", "/api/v1/users/me/").ok


def test_the_deletion_of_a_large_account_delays_no_voter(site: LargeSite) -> None:
    """Its ratings disappear in batches, and its tokens are refused before the last of them."""
    headers = site.api.sign_in("charles@example.com")
    user_id = site.api.ask("GET", "/api/v1/users/me/", headers=headers).json()["id"]
    site.repeat(
        "INSERT INTO movies (id, title, upvotes) SELECT {numbered}, 'Rated', 1 FROM numbers",
        RATINGS,
    )
    site.repeat(
        "INSERT INTO ratings (user_id, movie_id, rating_type, created_at, updated_at)"
        f" SELECT {user_id}, {{numbered}}, 'UPVOTE', {{time}}, {{time}} FROM numbers",
        RATINGS,
    )
    ratings = f"SELECT count(*) FROM ratings WHERE user_id = {user_id}"
    wanted = [str(UUID(int=number)) for number in (1, RATINGS // 2, RATINGS)]
    seen: list[int] = []
    answers: list[requests.Response] = []
    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(site.api.ask, "DELETE", "/api/v1/users/me/", headers=headers)
        while not deletion.done():
            seen.append(site.execute(ratings))
            answers += [site.vote(one, ("UPVOTE", "DOWNVOTE")[len(seen) % 2]) for one in wanted]
    assert deletion.result().status_code == 204
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert [number for number in seen if 0 < number < RATINGS]
    assert site.execute(ratings) == 0
    assert site.execute("SELECT sum(upvotes + downvotes) FROM movies") == site.execute(
        "SELECT count(*) FROM ratings"
    )


@only_on_sqlite
def test_pages_past_their_stale_window_are_deleted_a_few_at_a_time(site: LargeSite) -> None:
    site.cache_empty_pages(EXPIRED, expires_at=2.0)
    for number in range(10):
        assert site.api.search(f"stored while others expire {number}").ok
    with site.store() as store:
        expired = sum(expires_at == 2.0 for _, expires_at, _ in store.entries())
    assert 0.9 * EXPIRED < expired < EXPIRED
    assert (site.directory / f"{CACHE_FILE}-wal").stat().st_size < 2 * WAL_BYTES


@only_on_sqlite
def test_stale_pages_beyond_those_that_can_wait_are_not_reported_as_a_failure(
    site: LargeSite,
) -> None:
    """More than MAX_PENDING are served by one worker while November 7 is up, but slow."""
    texts = site.cache_empty_pages(MAX_PENDING + 40, expires_at=time.time() - 1)
    site.provider.faults = Faults(latency=(5, 5))
    with connection_to_each_worker(site.api) as workers:
        details = Counter(
            get(workers[0], f"/api/v1/movies/?query={quote(text)}", **site.api.headers)
            .headers["Cache-Status"]
            .split("; ")[2]
            for text in texts
        )
    site.provider.faults = Faults()
    assert details.keys() == {"detail=stale-while-revalidate", "detail=stale"}
    assert details["detail=stale-while-revalidate"] >= MAX_PENDING
    assert site.api.metric("november7_breaker_open") == 0


@only_on_sqlite
def test_a_cache_file_that_becomes_corrupt_under_both_workers_costs_misses(
    site: LargeSite,
) -> None:
    for part in site.directory.glob(f"{CACHE_FILE}*"):
        part.write_bytes(b"rotten" * 2000)
    numbers = iter(range(10_000))

    def search() -> requests.Response:
        return site.api.search(f"asked of a corrupt file {next(numbers)}")

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(search) for _ in range(24)]]
    assert {answer.status_code for answer in answers} == {200}
    assert "the provider cache was corrupt and was replaced by an empty one" in site.api.log
    assert "database is locked" not in site.api.log

    def is_stored() -> bool:
        with site.store() as store:
            return search().ok and bool(list(store.entries()))

    assert eventually(is_stored)
