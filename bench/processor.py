"""The CPU time of a request, in the process and without the HTTP server.

It depends less on what else runs on the machine than requests per second do.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from werkzeug.test import EnvironBuilder, run_wsgi_app

from bench.data import add_movies, movie_ids
from bench.figures import SEARCH, VOTES, Row, vote_on
from bench.stack import API, ROOT, Missing, Stack

BATCHES, BATCH = 20, 50
RATINGS = 1_000  # movies to vote on


def processor(stack: Stack) -> list[Row]:
    """The CPU time of a request in the process."""
    rows = []
    for name, settings in stack.both():
        api = stack.api({"NOVEMBER7_URL": stack.provider().url, **settings})
        movies = [movie["id"] for movie in api.get(SEARCH).json()["results"]]
        vote_on(api, movies[:5])
        add_movies(api.settings["DATABASE_URL"], movie_ids(RATINGS))
        child = subprocess.run(
            [sys.executable, "-m", "bench.processor"],
            input=json.dumps({"tokens": api.tokens, "movie": movies[0]}),
            env={**api.environment, **stack.floor_settings(api)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode:
            raise Missing(f"the requests of a process failed:\n{child.stderr[-2000:]}")
        times = json.loads(child.stdout.splitlines()[-1])
        rows += [Row(f"{request}, {name}", least, "µs") for request, least in times.items()]
    return rows


def main() -> None:
    """Print the times of all requests as JSON, for the tokens and the movie in the input."""
    given = json.load(sys.stdin)
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # log lines cost, too
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    from bench import floor  # noqa: PLC0415  the environment names its database
    from wsgi import app  # noqa: PLC0415

    tokens = given["tokens"]
    one = f"{API}/movies/{given['movie']}/"
    votes = [f"{API}/movies/{movie}/rating/" for movie in movie_ids(RATINGS)]
    requests: dict[str, tuple[Any, Iterator[dict[str, Any]]]] = {
        "the floor": (floor.app, gets("/floor", tokens)),
        "the floor with an INSERT": (floor.app, puts(["/floor"], ["{}"], tokens)),
        "GET /movies/?query=…": (app, gets(API + SEARCH, tokens)),
        "GET /movies/{id}/": (app, gets(one, tokens)),
        "GET /movies/top/": (app, gets(f"{API}/movies/top/", tokens)),
        "GET /movies/ratings/": (app, gets(f"{API}/movies/ratings/", tokens)),
        "GET /users/me/": (app, gets(f"{API}/users/me/", tokens)),
        "PUT /movies/{id}/rating/": (app, puts(votes, VOTES, tokens)),
    }
    times = {name: [batch(*request)] for name, request in requests.items()}
    for _ in range(BATCHES):
        for name, request in requests.items():
            times[name].append(batch(*request))
    print(json.dumps({name: min(taken) for name, taken in times.items()}), file=output, flush=True)


def gets(path: str, tokens: list[str]) -> Iterator[dict[str, Any]]:
    """The WSGI environments of GETs by all users in turn."""
    return (environment("GET", path, token) for token in cycle(tokens))


def puts(paths: list[str], bodies: list[str], tokens: list[str]) -> Iterator[dict[str, Any]]:
    """The WSGI environments of PUTs, on all paths and by all users in turn."""
    turns = zip(cycle(paths), cycle(tokens), cycle([*bodies, bodies[0]]), strict=False)
    return (environment("PUT", path, token, body) for path, token, body in turns)


def environment(method: str, path: str, token: str, body: str | None = None) -> dict[str, Any]:
    """The WSGI environment of a request."""
    headers = [("Authorization", f"Bearer {token}")]
    kind = "application/json" if body else None
    builder = EnvironBuilder(path, method=method, headers=headers, data=body, content_type=kind)
    return builder.get_environ()


def batch(app: Any, environments: Iterator[dict[str, Any]]) -> float:
    """The CPU time that a request takes on average, in microseconds."""
    prepared = list(islice(environments, BATCH))
    begun = time.thread_time()
    for environ in prepared:
        body, status, _ = run_wsgi_app(app, environ)
        b"".join(body)
        if not status.startswith("2"):
            raise RuntimeError(f"{environ['PATH_INFO']}: {status}")
        if close := getattr(body, "close", None):
            close()
    return (time.thread_time() - begun) / BATCH * 1e6


if __name__ == "__main__":
    main()
