"""The figures of the API alone: each GET, votes, a cold search, start, memory and more."""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import requests

from bench.data import PASSWORD, add_movies, add_ratings, movie_ids
from bench.load import Target, load, ratio
from bench.stack import Api, Stack
from movies.auth.passwords import hasher
from movies.november7.sample.catalogue import sample_movies


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, its value and unit, and details."""

    name: str
    value: float
    unit: str
    note: str = ""


VOTES = ['{"rating_type": "UPVOTE"}', '{"rating_type": "DOWNVOTE"}']
SEARCH = "/movies/?query=e"
SIZES = (1_000, 1_000_000)
SEARCHES = 1_000


def search(stack: Stack) -> list[Row]:
    """A warm search as a share of the floor, on both sets of stores."""
    rows = []
    for name, settings in stack.both():
        api = stack.api({"NOVEMBER7_URL": stack.provider().url, **settings})
        api.get(SEARCH)
        rows += compared(f"warm search, {name}", api.target(SEARCH), stack.floor(api))
    return rows


def reads(stack: Stack) -> list[Row]:
    """Every other GET as a share of the floor, on both sets of stores."""
    rows = []
    for name, settings in stack.both():
        api = stack.api({"NOVEMBER7_URL": stack.provider().url, **settings})
        movies = [movie["id"] for movie in api.get(SEARCH).json()["results"]]
        vote_on(api, movies)
        floor = stack.floor(api)
        for path in ("/movies/{id}/", "/movies/top/", "/movies/ratings/", "/users/me/"):
            target = api.target(path.format(id=movies[0]))
            rows += compared(f"GET {path}, {name}", target, floor)
    return rows


def votes(stack: Stack) -> list[Row]:
    """Votes on distinct movies, as a share of a route that commits one INSERT."""
    api = stack.api({"NOVEMBER7_URL": stack.provider().url, **stack.services()})
    ids = movie_ids(20_000)
    add_movies(api.settings["DATABASE_URL"], ids)
    floor = replace(stack.floor(api), method="PUT", bodies=["{}"])
    return compared("votes on distinct movies", vote_target(api, ids), floor)


def hot(stack: Stack) -> list[Row]:
    """Votes per second on one movie and on a thousand movies, for 1, 2 and 4 workers."""
    rows = []
    for workers in (1, 2, 4):
        settings = {"RATELIMIT_ENABLED": "false", "WEB_CONCURRENCY": str(workers)}
        api = stack.api({"NOVEMBER7_URL": stack.provider().url, **stack.services(), **settings})
        ids = movie_ids(1_000)
        add_movies(api.settings["DATABASE_URL"], ids)
        for name, chosen in (("one movie", ids[:1]), ("1,000 movies", ids)):
            vote_on(api, chosen[:1])
            run = load(vote_target(api, chosen))
            note = f"p50 {run.p50:.1f} ms, p99 {run.p99:.1f} ms"
            rows.append(Row(f"votes on {name}, {workers} workers", run.rate, "votes/s", note))
    return rows


def growth(stack: Stack) -> list[Row]:
    """The median time of each list with a million ratings, divided by that with a thousand."""
    rows = []
    ids = movie_ids(max(SIZES) // 10)
    for name, stores in (("PostgreSQL and Redis", stack.services), ("SQLite", stack.embedded)):
        apis = []
        for size in SIZES:
            unlimited = {"NOVEMBER7_URL": stack.provider().url, "RATELIMIT_ENABLED": "false"}
            api = stack.api({**unlimited, **stores()}, users=1)
            add_movies(api.settings["DATABASE_URL"], ids[: size // 10])
            add_ratings(api.settings["DATABASE_URL"], ids[: size // 10])
            api.run("ratings", "rebuild")
            apis.append(api)
        for path in (SEARCH, "/movies/top/", "/movies/ratings/", "/movies/top/?page=10"):
            small, large = medians_of(apis, path)
            note = f"{small:.1f} ms and {large:.1f} ms"
            rows.append(Row(f"GET {path}, {name}", large / small, "times", note))
    return rows


def cold(stack: Stack) -> list[Row]:
    """The time of a search that is not cached, minus the time of the provider."""
    provider = stack.provider(latency=(0.1, 0.1))
    api = stack.api({"NOVEMBER7_URL": provider.url, **stack.services()}, users=1)
    api.get(SEARCH)
    urls = (f"{api.url}/api/v1/movies/", f"{provider.url}movies/")
    ours: list[float] = []
    theirs: list[float] = []
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {api.tokens[0]}"
        titles = [movie["title"] for movie in sample_movies()]
        for query in sorted({title[:4] for title in titles})[:80]:
            for url, times in zip(urls, (ours, theirs), strict=True):
                begun = time.perf_counter()
                session.get(url, params={"query": query}).raise_for_status()
                times.append(time.perf_counter() - begun)
    own = (statistics.median(ours) - statistics.median(theirs)) * 1000
    note = f"{statistics.median(ours) * 1000:.1f} ms, of which the provider takes 100"
    return [Row("a cold search beyond the provider's time", own, "ms", note)]


def memory(stack: Stack) -> list[Row]:
    """Time until ready, and the memory of a worker at first and after 100,000 requests."""
    settings = {"RATELIMIT_ENABLED": "false", "NOVEMBER7_URL": stack.provider().url}
    api = stack.api({**stack.services(), **settings})
    api.get(SEARCH)
    load(api.target(SEARCH), 3)
    first, sent = max(api.worker_megabytes()), 0
    while sent < 100_000:
        sent += load(api.target(SEARCH, "/movies/top/", "/users/me/"), 10).requests
    last = max(api.worker_megabytes())
    return [
        Row("start until ready", api.seconds_to_ready, "s"),
        Row("memory of the largest worker at first", first, "MB"),
        Row("the same after 100,000 requests", last, "MB", f"{last / first - 1:+.1%}"),
    ]


def refusals(stack: Stack) -> list[Row]:
    """The share of successful searches, and their requests, for several rates of refusals."""
    rows = []
    for share in (0.0, 0.09, 0.3, 0.6):
        provider = stack.provider(refuse=share, seed=7)
        settings = {"NOVEMBER7_URL": provider.url, "RATELIMIT_ENABLED": "false"}
        api = stack.api({**settings, **stack.embedded()}, users=1)
        provider.reset()

        def answered(number: int, api: Api = api) -> bool:
            try:
                api.get(f"/movies/?query=refused {number}")
            except requests.HTTPError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            good = sum(pool.map(answered, range(SEARCHES)))
        note = f"{len(provider.requests) / SEARCHES:.2f} requests a search"
        rows.append(Row(f"{share:.0%} refused", good / SEARCHES * 100, "% answered", note))
    return rows


def passwords(_stack: Stack) -> list[Row]:
    """The time to hash a password."""
    taken = []
    for _ in range(20):
        begun = time.perf_counter()
        hasher.hash(PASSWORD)
        taken.append(time.perf_counter() - begun)
    return [Row("argon2id", statistics.median(taken) * 1000, "ms")]


def compared(name: str, measured: Target, floor: Target) -> list[Row]:
    """The rate and the p99 of a target, each divided by that of the floor."""
    share, run, floor_run = ratio(measured, floor)
    note = f"{run.rate:,.0f} of {floor_run.rate:,.0f} requests/s; p50 {run.p50:.1f} ms"
    return [
        Row(name, share, "of the floor", note),
        Row(f"{name}: p99", run.p99 / floor_run.p99, "times the floor's"),
    ]


def vote_target(api: Api, movies: Sequence[object]) -> Target:
    """Upvotes and downvotes on these movies in turn, by all users in turn."""
    return api.target(*(f"/movies/{movie}/rating/" for movie in movies), method="PUT", bodies=VOTES)


def vote_on(api: Api, movies: Sequence[object]) -> None:
    """Have ten users vote on each of these movies."""
    target = vote_target(api, movies)
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Content-Type"] = "application/json"
        for token in target.tokens[:10]:
            session.headers["Authorization"] = f"Bearer {token}"
            for path in target.paths:
                session.put(target.url + path, data=VOTES[0]).raise_for_status()


def medians_of(apis: Sequence[Api], path: str, calls: int = 300) -> list[float]:
    """The median time of a GET at each API, in milliseconds. They are called in turn."""
    taken: list[list[float]] = [[] for _ in apis]
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(calls):
            for api, times in zip(apis, taken, strict=True):
                headers = {"Authorization": f"Bearer {api.tokens[0]}"}
                begun = time.perf_counter()
                session.get(f"{api.url}/api/v1{path}", headers=headers).raise_for_status()
                times.append(time.perf_counter() - begun)
    return [statistics.median(times) * 1000 for times in taken]


FIGURES = {
    figure.__name__: figure
    for figure in (search, reads, votes, hot, growth, cold, memory, refusals, passwords)
}
