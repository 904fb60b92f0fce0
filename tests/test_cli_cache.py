"""`flask cache …`, run next to an application that uses the same cache."""

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from accounts import Accounts
from click.testing import Result
from flask import Flask
from helpers import THEN, eventually
from tables import rows

from movies.november7 import metrics
from movies.november7.sample.catalogue import sample_movies
from stand_in.server import Faults, StandIn

NOBODY = "redis://127.0.0.1:1/0"

Run = Callable[..., Result]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.fixture(params=["sqlite", "redis"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    """An application, with its cache in SQLite or in Redis."""
    if request.param == "redis":
        request.getfixturevalue("redis")
        redis_url = request.getfixturevalue("redis_url")
    else:
        redis_url = ""
    return make_app(NOVEMBER7_URL=stand_in.url, NOVEMBER7_TTL=60, REDIS_URL=redis_url)


@pytest.fixture
def run(app: Flask, make_app: Callable[..., Flask]) -> Run:
    """Runs a command in an application of its own, on the stores of the one that is in use."""
    shared = {name: app.config[name] for name in ("NOVEMBER7_URL", "NOVEMBER7_TTL", "REDIS_URL")}

    def run(*args: str, **settings: Any) -> Result:
        return make_app(**{**shared, **settings}).test_cli_runner().invoke(args=args)

    return run


@pytest.fixture
def search(app: Flask) -> Callable[..., str]:
    """Searches with the application, and returns the source of the result."""
    client = app.test_client()
    headers = Accounts(client).headers()

    def search(query: str) -> str:
        wanted = {"query": query}
        answer = client.get("/api/v1/movies/", query_string=wanted, headers=headers)
        assert answer.status_code == 200
        return answer.headers["Cache-Status"].split(";")[1].strip()

    return search


def stats(result: Result) -> dict[str, str]:
    """The figures of `flask cache stats`, by name."""
    assert result.exit_code == 0, result.output
    return {line[:9].strip(): line[10:] for line in result.stdout.splitlines()}


def misses(search: Callable[..., str], query: str) -> bool:
    """Whether a search becomes a miss, which can take a second."""
    found: list[str] = []

    def is_miss() -> bool:
        found.append(search(query))
        return "fwd=miss" in found

    return eventually(is_miss, within=30)


def test_stats_of_an_empty_cache_are_zero(run: Run) -> None:
    nothing = {"entries": "0", "fresh": "0", "stale": "0", "size": "0 bytes"}
    assert stats(run("cache", "stats")) == {**nothing, "hit rate": "not known"}
    numbers = json.loads(run("cache", "stats", "--json").stdout)
    assert numbers == {"entries": 0, "fresh": 0, "stale": 0, "size": 0, "hit_rate": None}


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)  # nobody can move the clock of Redis
def test_stats_count_fresh_and_stale_entries(app: Flask, run: Run) -> None:
    with time_machine.travel(THEN, tick=False) as clock:
        client = app.test_client()
        headers = Accounts(client).headers()
        for query in ("fargo", "alien", "dune"):
            client.get(f"/api/v1/movies/?query={query}", headers=headers)
            clock.shift(40)
        found = stats(run("cache", "stats"))
    assert (found["entries"], found["fresh"], found["stale"]) == ("3", "1", "2")
    assert int(found["size"].removesuffix(" bytes")) > 600


@pytest.fixture
def counters(app: Flask) -> list[Path]:
    """The files in which two workers have counted six of eight lookups as hits."""
    directory = Path(app.config["INSTANCE_DIR"], "metrics", "8000")
    directory.mkdir(parents=True)
    for counts in ({"hit": 5, "miss": 1}, {"stale": 1, "miss": 1}):
        counted = "".join(f"; CACHE.labels({name!r}).inc({n})" for name, n in counts.items())
        code = f"import runpy; CACHE = runpy.run_path({metrics.__file__!r})['CACHE']{counted}"
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return sorted(directory.glob("counter_*.db"))


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_stats_show_the_hit_rate_of_all_workers(run: Run, counters: list[Path]) -> None:
    """Stale pages count as hits."""
    assert stats(run("cache", "stats"))["hit rate"] == "75.0%"
    assert json.loads(run("cache", "stats", "--json").stdout)["hit_rate"] == 0.75


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_stats_count_a_worker_once_while_it_ends(run: Run, counters: list[Path]) -> None:
    """Its counts are in two files for a moment. The file `merge.lock` is locked meanwhile."""
    ended = counters[0]
    with ThreadPoolExecutor(1) as pool, ended.with_name("merge.lock").open("a") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        shutil.copy(ended, ended.with_name("counter_0.db"))
        result = pool.submit(run, "cache", "stats")
        wait([result], timeout=1)
        ended.unlink()
        fcntl.flock(locked, fcntl.LOCK_UN)
        assert stats(result.result())["hit rate"] == "75.0%"


def test_clear_deletes_all_entries(run: Run, search: Callable[..., str], stand_in: StandIn) -> None:
    assert [search(query) for query in ("fargo", "alien", "fargo")] == ["fwd=miss"] * 2 + ["hit"]
    cleared = run("cache", "clear")
    assert (cleared.exit_code, cleared.stdout) == (0, "2 pages cleared\n")
    stand_in.reset()
    assert misses(search, "fargo")
    assert misses(search, "alien")
    assert len(stand_in.requests) == 2


@pytest.mark.parametrize("query", ["100% Wolf & #Alive", "  100% Wolf & #Alive "])
def test_clear_with_a_query_deletes_the_entries_of_that_search_only(
    run: Run, search: Callable[..., str], query: str
) -> None:
    for text in (query, "100% wolf & #alive", "100% Wolf"):
        search(text)
    assert run("cache", "clear", "--query", query).stdout == "1 page cleared\n"
    assert misses(search, query)
    assert [search("100% wolf & #alive"), search("100% Wolf")] == ["hit", "hit"]


@pytest.mark.parametrize("query", ["fargo", ""])
def test_clear_with_an_unknown_query_deletes_nothing(
    run: Run, search: Callable[..., str], query: str
) -> None:
    search("alien")
    assert run("cache", "clear", "--query", query).stdout == "0 pages cleared\n"
    assert search("alien") == "hit"


def test_warm_records_the_whole_catalogue(
    app: Flask, run: Run, search: Callable[..., str], stand_in: StandIn
) -> None:
    """One request at a time."""
    warmed = run("cache", "warm")
    assert warmed.exit_code == 0
    assert warmed.stdout.endswith("104 movies cached\n")
    assert (len(stand_in.requests), stand_in.most_in_flight) == (1, 1)
    assert rows(app, "SELECT count(*) FROM movies") == [(104,)]


def test_the_application_uses_the_blocks_that_warm_fetched(
    app: Flask, run: Run, stand_in: StandIn
) -> None:
    """An unknown id takes no further request."""
    run("cache", "warm")
    stand_in.reset()
    client = app.test_client()
    headers = Accounts(client).headers()
    movie_ids = [sample_movies()[-1]["id"], uuid4()]
    answers = [client.get(f"/api/v1/movies/{one}/", headers=headers) for one in movie_ids]
    assert [answer.status_code for answer in answers] == [200, 404]
    assert stand_in.requests == []


def test_warm_fetches_fresh_blocks_again(run: Run, stand_in: StandIn) -> None:
    run("cache", "warm")
    run("cache", "warm")
    assert len(stand_in.requests) == 2


def test_warm_reports_a_failure_of_november_7_in_one_line(run: Run, stand_in: StandIn) -> None:
    stand_in.faults = Faults(error=1)
    failed = run("cache", "warm", NOVEMBER7_DEADLINE=0.2)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: November 7 failed after 0 movies: ")
    assert "Traceback" not in failed.output


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_a_locked_cache_is_reported_in_one_line(run: Run, directory: Path) -> None:
    run("cache", "stats")
    with closing(sqlite3.connect(directory / "november7-cache.sqlite")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        failed = run("cache", "clear")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: The provider cache failed: ")


@pytest.mark.parametrize("command", [["stats"], ["clear"], ["clear", "--query", "fargo"]])
def test_commands_report_an_unreachable_cache_in_one_line(run: Run, command: list[str]) -> None:
    failed = run("cache", *command, REDIS_URL=NOBODY)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: The provider cache failed: ")
