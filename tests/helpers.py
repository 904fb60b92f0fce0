"""Helpers for all tests: a fixed time, metrics, threads and waiting."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

from prometheus_client import REGISTRY

THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)  # where the `clock` fixture stops the time of day


def counted(name: str, **labels: str) -> float:
    """The value of a metric; 0 if it has none yet."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def eventually(condition: Callable[[], bool], *, within: float = 30) -> bool:
    """Whether `condition` becomes true within this number of seconds."""
    end = monotonic() + within
    while not (is_met := condition()) and monotonic() < end:
        sleep(0.005)
    return is_met


def in_threads(number: int, call: Callable[[], Any]) -> list[Future[Any]]:
    """The futures of `number` threads that make the same call."""
    with ThreadPoolExecutor(number) as pool:
        return [pool.submit(call) for _ in range(number)]


def operations_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations of an OpenAPI document, by method and path, with all their responses."""
    shared = document["components"]["responses"]
    found = {}
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            responses = {
                status: shared[response["$ref"].rpartition("/")[2]]
                if "$ref" in response
                else response
                for status, response in item[method]["responses"].items()
            }
            found[f"{method.upper()} {path}"] = {**item[method], "responses": responses}
    return found
