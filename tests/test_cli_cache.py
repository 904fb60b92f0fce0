"""`flask cache …`: in applications of their own, while another is in use."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
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
from movies.november7.sample.catalogue import sample_catalogue
from stand_in.server import Faults, StandIn

NOBODY = "redis://127.0.0.1:1/0"

Run = Callable[..., Result]

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(params=["sqlite", "redis"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    """The application that is in use, with its cache in SQLite or in Redis."""
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
    """Searches by the application that is in use, and tells where the answer comes from."""
    client = app.test_client()
    headers = Accounts(client).headers()

    def search(query: str) -> str:
        wanted = {"query": query}
        answer = client.get("/api/v1/movies/", query_string=wanted, headers=headers)
        assert answer.status_code == 200
        return answer.headers["Cache-Status"].split(";")[1].strip()

    return search


def stats(result: Result) -> dict[str, str]:
    """The figures of `flask cache stats` by name."""
    assert result.exit_code == 0, result.output
    return {line[:9].strip(): line[10:] for line in result.stdout.splitlines()}


def misses(search: Callable[..., str], query: str) -> bool:
    """Whether a search is a miss once: within a second, but the machine may be busy."""
    found: list[str] = []

    def is_miss() -> bool:
        found.append(search(query))
        return "fwd=miss" in found

    return eventually(is_miss, within=30)


def test_stats_of_nothing_are_noughts(run: Run) -> None:
    """An empty cache has no entry, no byte and no hit rate."""
    nothing = {"entries": "0", "fresh": "0", "stale": "0", "size": "0 bytes"}
    assert stats(run("cache", "stats")) == {**nothing, "hit rate": "not known"}
    numbers = json.loads(run("cache", "stats", "--json").stdout)
    assert numbers == {"entries": 0, "fresh": 0, "stale": 0, "size": 0, "hit_rate": None}


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)  # nobody can move the clock of Redis
def test_stats_tell_fresh_from_stale(app: Flask, run: Run) -> None:
    """Entries are counted by whether they are past their TTL, and weighed."""
    with time_machine.travel(THEN, tick=False) as clock:
        client = app.test_client()
        headers = Accounts(client).headers()
        for query in ("fargo", "alien", "dune"):
            client.get(f"/api/v1/movies/?query={query}", headers=headers)
            clock.shift(40)
        found = stats(run("cache", "stats"))
    assert (found["entries"], found["fresh"], found["stale"]) == ("3", "1", "2")
    assert int(found["size"].removesuffix(" bytes")) > 600


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_stats_tell_the_hit_rate_of_the_server(run: Run, tmp_path: Path) -> None:
    """The rate is of all look-ups that the server's workers counted, stale pages being hits."""
    for counts in ({"hit": 5, "miss": 1}, {"stale": 1, "miss": 1}):
        counted = "".join(f"; CACHE.labels({name!r}).inc({n})" for name, n in counts.items())
        code = f"import runpy; CACHE = runpy.run_path({metrics.__file__!r})['CACHE']{counted}"
        directory = tmp_path / "metrics" / "8000"
        directory.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert stats(run("cache", "stats"))["hit rate"] == "75.0%"
    assert json.loads(run("cache", "stats", "--json").stdout)["hit_rate"] == 0.75


def test_clear_makes_the_next_search_ask(
    run: Run, search: Callable[..., str], stand_in: StandIn
) -> None:
    """After `flask cache clear` the application in use asks November 7 again for every page."""
    assert [search(query) for query in ("fargo", "alien", "fargo")] == ["fwd=miss"] * 2 + ["hit"]
    cleared = run("cache", "clear")
    assert (cleared.exit_code, cleared.stdout) == (0, "2 pages cleared\n")
    stand_in.reset()
    assert misses(search, "fargo")
    assert misses(search, "alien")
    assert len(stand_in.requests) == 2


@pytest.mark.parametrize("query", ["100% Wolf & #Alive", "  100% Wolf & #Alive "])
def test_clear_of_a_query_leaves_the_others(
    run: Run, search: Callable[..., str], query: str
) -> None:
    """With `--query` the pages of that search go, however it was spaced, and no other."""
    for text in (query, "100% wolf & #alive", "100% Wolf"):
        search(text)
    assert run("cache", "clear", "--query", query).stdout == "1 pages cleared\n"
    assert misses(search, query)
    assert [search("100% wolf & #alive"), search("100% Wolf")] == ["hit", "hit"]


@pytest.mark.parametrize("query", ["fargo", ""])
def test_clear_of_what_was_not_asked_clears_nothing(
    run: Run, search: Callable[..., str], query: str
) -> None:
    """A search that the cache doesn't hold, the empty one too, costs no other its pages."""
    search("alien")
    assert run("cache", "clear", "--query", query).stdout == "0 pages cleared\n"
    assert search("alien") == "hit"


def test_warm_remembers_the_whole_catalogue(
    app: Flask, run: Run, search: Callable[..., str], stand_in: StandIn
) -> None:
    """`flask cache warm` asks one request at a time, and every movie is known afterwards."""
    warmed = run("cache", "warm")
    assert warmed.exit_code == 0
    assert warmed.stdout.endswith("104 movies cached\n")
    assert (len(stand_in.requests), stand_in.most_in_flight) == (1, 1)
    assert rows(app, "SELECT count(*) FROM movies") == [(104,)]


def test_warm_spares_the_application_a_walk(app: Flask, run: Run, stand_in: StandIn) -> None:
    """After `flask cache warm` the application in use tells an unknown id without asking."""
    run("cache", "warm")
    stand_in.reset()
    client = app.test_client()
    headers = Accounts(client).headers()
    movie_ids = [sample_catalogue().movies[-1]["id"], uuid4()]
    answers = [client.get(f"/api/v1/movies/{one}/", headers=headers) for one in movie_ids]
    assert [answer.status_code for answer in answers] == [200, 404]
    assert stand_in.requests == []


def test_warm_asks_anew_for_what_is_fresh(run: Run, stand_in: StandIn) -> None:
    """`flask cache warm` takes no page from the cache, however fresh."""
    run("cache", "warm")
    run("cache", "warm")
    assert len(stand_in.requests) == 2


def test_warm_says_what_november_7_did(run: Run, stand_in: StandIn) -> None:
    """Where November 7 fails, `flask cache warm` says so in a line, and exits with 1."""
    stand_in.faults = Faults(error=1)
    failed = run("cache", "warm", NOVEMBER7_DEADLINE=0.2)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: November 7 failed after 0 movies: ")
    assert "Traceback" not in failed.output


@pytest.mark.parametrize("app", ["sqlite"], indirect=True)
def test_a_locked_cache_is_reported_in_one_line(run: Run, tmp_path: Path) -> None:
    run("cache", "stats")
    with closing(sqlite3.connect(tmp_path / "november7-cache.sqlite")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        failed = run("cache", "clear")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: The provider cache failed: ")


@pytest.mark.parametrize("command", [["stats"], ["clear"], ["clear", "--query", "fargo"]])
def test_a_cache_that_is_away_is_told(run: Run, command: list[str]) -> None:
    """Where Redis can't be had, the commands on the cache say so in a line, and exit with 1."""
    failed = run("cache", *command, REDIS_URL=NOBODY)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("Error: The provider cache failed: ")
