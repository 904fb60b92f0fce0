"""Generates load, and computes figures from the results.

The generator is wrk. If it is not installed, threads of this process send the requests. The ratios
are then lower for fast routes, because the generator takes up CPU time.
"""

import json
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

CONNECTIONS = 16
SECONDS = 2.0  # of one run
# Alternating runs, after one that only warms up: at least and at most.
MIN_ROUNDS, MAX_ROUNDS = 7, 45
MAX_SPREAD = 0.15  # of a median: width of its 95 % confidence interval / itself

SCRIPT = """
local tokens, paths = {}, {}
for line in io.lines("%(tokens)s") do tokens[#tokens + 1] = line end
for line in io.lines("%(paths)s") do paths[#paths + 1] = line end
local bodies = {%(bodies)s}
local count, threads = 0, 0
function setup(thread)
  thread:set("offset", threads * 7919)
  threads = threads + 1
end
function request()
  count = count + 1
  local turn = count + offset
  local headers = {["Authorization"] = "Bearer " .. tokens[turn %% #tokens + 1],
                   ["Content-Type"] = "application/json"}
  return wrk.format("%(method)s", paths[turn %% #paths + 1], headers,
    #bodies > 0 and bodies[math.random(#bodies)] or nil)
end
function done(summary, latency)
  local errors = summary.errors
  local line = '{"requests": %%d, "seconds": %%f, "p50": %%f, "p99": %%f, "errors": %%d}\\n'
  io.write(string.format(line,
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Target:
    """Requests for each of `paths` in turn, by the user of each token in turn.

    Each request has one of `bodies`, chosen at random.
    """

    url: str
    paths: Sequence[str]
    tokens: Sequence[str]
    method: str = "GET"
    bodies: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """The results of one run. `p50` and `p99` in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


class TooNoisy(Exception):
    """The runs differ so much that their median means nothing."""


def load(target: Target, seconds: float = SECONDS, connections: int = CONNECTIONS) -> Run:
    """Send requests for `seconds`. Raises RuntimeError if a response was not 2xx."""
    run = (_wrk if shutil.which("wrk") else _threads)(target, seconds, connections)
    if run.errors:
        raise RuntimeError(f"{run.errors} of {run.requests} requests failed: {target.paths[0]}")
    return run


def ratio(measured: Target, floor: Target) -> tuple[float, Run, Run]:
    """The rate of `measured` as a share of the floor's, and the median run of each.

    The two are measured in turn, so that a slow moment of the machine affects both, until the
    median of their ratios is known well enough. Raises TooNoisy.
    """
    load(measured)
    load(floor)
    runs: list[Run] = []
    floor_runs: list[Run] = []
    while len(runs) < MAX_ROUNDS:
        runs.append(load(measured))
        floor_runs.append(load(floor))
        ratios = sorted(one.rate / other.rate for one, other in zip(runs, floor_runs, strict=True))
        low, high = interval_of_median(ratios)
        middle = statistics.median(ratios)
        if len(runs) >= MIN_ROUNDS and (high - low) / middle <= MAX_SPREAD:
            return middle, _median(runs), _median(floor_runs)
    raise TooNoisy(f"after {MAX_ROUNDS} rounds, the ratio is between {low:.2f} and {high:.2f}")


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median of sorted values.

    Its ends are order statistics, chosen with the normal approximation of the binomial distribution
    (W. J. Conover, "Practical Nonparametric Statistics", section 3.2).
    """
    count = len(values)
    outside = max(0, int((count - 1.96 * count**0.5) / 2))
    return values[outside], values[count - 1 - outside]


def _median(runs: list[Run]) -> Run:
    return sorted(runs, key=lambda run: run.rate)[len(runs) // 2]


def _wrk(target: Target, seconds: float, connections: int) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        names = {"tokens": target.tokens, "paths": target.paths}
        files = {name: str(Path(directory, name)) for name in names}
        for name, lines in names.items():
            Path(files[name]).write_text("\n".join(lines))
        script = Path(directory, "load.lua")
        bodies = ", ".join(json.dumps(body) for body in target.bodies)
        script.write_text(SCRIPT % {**files, "method": target.method, "bodies": bodies})
        command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(script)]
        printed = subprocess.run(
            [*command, target.url], check=True, capture_output=True, text=True
        ).stdout
    return Run(**json.loads(printed.splitlines()[-1]))


def _threads(target: Target, seconds: float, connections: int) -> Run:
    taken: list[float] = []
    errors = [0]
    end = time.monotonic() + seconds
    address = urlsplit(target.url)

    def send(first: int) -> None:
        connection = HTTPConnection(address.hostname or "", address.port)
        turn = first
        while time.monotonic() < end:
            begun = time.perf_counter()
            token = target.tokens[turn % len(target.tokens)]
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            path = target.paths[turn % len(target.paths)]
            body = random.choice(target.bodies) if target.bodies else None
            connection.request(target.method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            taken.append(time.perf_counter() - begun)
            errors[0] += not 200 <= answer.status < 300
            turn += connections
        connection.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p50, p99 = (statistics.quantiles(taken, n=100)[at] * 1000 for at in (49, 98))
    return Run(len(taken), seconds, p50, p99, errors[0])
