"""Compares Movies API with the alternatives: November 7 itself, and nginx as a cache."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import requests

from bench.figures import Row
from bench.stack import Missing, Stack, free_port, listens, process, wait_until
from movies.november7.sample.catalogue import page, sample_movies

CLIENTS = 16
COLD, WARM = 600, 3000  # searches
# Of November 7's statuses, those that nginx can pass to the next upstream.
FAULTS = {"refuse": 0.09, "codes": (403, 404, 429), "latency": (0.13, 0.43), "seed": 7}
BROKEN = {"html": 0.02, "malformed": 0.02, "truncated": 0.02, "short": 0.02, "reset": 0.02}

NGINX = """
worker_processes 2;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  proxy_cache_path {directory}/cache keys_zone=pages:10m max_size=1g;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {provider};
      proxy_cache pages;
      proxy_cache_valid 200 1h;
      proxy_cache_use_stale error timeout updating http_403 http_404 http_429 http_500;
      proxy_cache_lock on;
      {retries}
    }}
  }}
}}
"""
# The same server is listed four times, so that nginx has another one to repeat a request on.
RETRIES = "proxy_next_upstream error timeout http_403 http_404 http_429 http_500 non_idempotent;"


@dataclass(frozen=True)
class Answer:
    """One search: its time in seconds, and whether it failed or was wrong."""

    seconds: float
    failed: bool
    wrong: bool


Search = Callable[[str], tuple[int, object]]


def measure(search: Search, queries: list[str]) -> dict[str, float]:
    """The shares of errors and of wrong results, p50 and p99 in ms, and searches per second."""

    def once(query: str) -> Answer:
        begun = time.perf_counter()
        try:
            status, titles = search(query)
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return Answer(time.perf_counter() - begun, failed=False, wrong=True)
        taken = time.perf_counter() - begun
        return Answer(taken, status != 200, status == 200 and titles != expected(query))

    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(once, queries))
    total = time.perf_counter() - begun
    times = sorted(answer.seconds * 1000 for answer in answers)
    return {
        "errors": sum(answer.failed for answer in answers) / len(answers),
        "wrong": sum(answer.wrong for answer in answers) / len(answers),
        "p50": statistics.median(times),
        "p99": times[int(len(times) * 0.99)],
        "rate": len(answers) / total,
    }


def expected(query: str) -> list[str]:
    """The titles that the catalogue holds for a query."""
    return [movie["title"] for movie in page(sample_movies(), query, 0, 10)["items"]]


def direct(base: str) -> Search:
    """Searches at a server with the interface of November 7."""
    session = pooled_session()

    def search(query: str) -> tuple[int, object]:
        answer = session.get(f"{base}movies/", params={"limit": "10", "query": query}, timeout=60)
        if answer.status_code != 200:
            return answer.status_code, None
        return 200, [movie["title"] for movie in answer.json()["items"]]

    return search


def through_api(url: str, tokens: Sequence[str]) -> Search:
    """Searches at Movies API, by the users of the tokens in turn."""
    session, turns = pooled_session(), cycle(tokens)

    def search(query: str) -> tuple[int, object]:
        headers = {"Authorization": f"Bearer {next(turns)}"}
        answer = session.get(
            f"{url}/api/v1/movies/", params={"query": query}, headers=headers, timeout=60
        )
        if answer.status_code != 200:
            return answer.status_code, None
        return 200, [movie["title"] for movie in answer.json()["results"]]

    return search


def pooled_session() -> requests.Session:
    """A session with a connection for each client. It ignores the proxies of the environment."""
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=CLIENTS))
    return session


def nginx(stack: Stack, provider: str, *, retries: bool) -> str:
    """The URL of an nginx that caches the responses of the provider."""
    found = next((path for path in (Path("/usr/sbin/nginx"),) if path.exists()), None)
    if found is None:
        raise Missing("nginx: install it to compare with it")
    directory, port = stack.directory(), free_port()
    directory.chmod(0o755)
    upstream = provider.rstrip("/")
    extra = ""
    if retries:
        server = upstream.removeprefix("http://")
        extra = RETRIES
        upstream = "http://november7"
        block = "upstream november7 {" + f" server {server} max_fails=0;" * 4 + " }"
    text = NGINX.format(directory=directory, port=port, provider=upstream, retries=extra)
    if retries:
        text = text.replace("http {", "http {\n  " + block, 1)
    (directory / "nginx.conf").write_text(text)
    log = directory / "log"
    command = [str(found), "-c", str(directory / "nginx.conf"), "-g", "daemon off;"]
    stack.enter(process(command, log))
    wait_until(lambda: listens(port), "nginx", log)
    return f"http://127.0.0.1:{port}/"


def run(stack: Stack) -> list[Row]:
    """Cold and warm searches at November 7, at two nginx caches and at Movies API, in one run."""
    rows = []
    for name, broken in (("refusals", {}), ("refusals and broken bodies", BROKEN)):
        provider = stack.provider(**FAULTS, **broken)
        unlimited = {"NOVEMBER7_URL": provider.url, "RATELIMIT_ENABLED": "false"}
        api = stack.api({**unlimited, **stack.services()}, users=CLIENTS)
        gateways = {
            "November 7": direct(provider.url),
            "nginx cache": direct(nginx(stack, provider.url, retries=False)),
            "nginx cache, three retries": direct(nginx(stack, provider.url, retries=True)),
            "Movies API": through_api(api.url, api.tokens),
        }
        for gateway, search in gateways.items():
            queries = [
                f"e {number}" if number % 4 else "e" * (number % 3 + 1) for number in range(COLD)
            ]
            cold = measure(search, queries)
            warm = measure(search, queries[: WARM // 10] * 10)
            for temperature, seen in (("cold", cold), ("warm", warm)):
                note = (
                    f"{seen['wrong']:.1%} wrong; p50 {seen['p50']:.0f} ms,"
                    f" p99 {seen['p99']:.0f} ms, {seen['rate']:.0f}/s"
                )
                rows.append(
                    Row(f"{gateway}, {temperature}, {name}", seen["errors"] * 100, "% errors", note)
                )
    return rows
