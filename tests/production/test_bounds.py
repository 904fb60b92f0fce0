"""Metrics need no more space than their files have from the start."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from movies import metrics
from movies.access_log import REQUESTS, SECONDS

STATUSES = 12  # of one method and route, more than any has
BUCKETS = 12


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_series_fits_into_the_files_of_a_process(app: Flask, tmp_path: Path) -> None:
    metrics.reserve(1, tmp_path)
    routes = [
        (method, str(rule))
        for rule in app.url_map.iter_rules()
        for method in {*(rule.methods or ()), "HEAD", "OPTIONS", "other"}
    ]
    fill(tmp_path, "counter", REQUESTS, "status", [str(400 + n) for n in range(STATUSES)], routes)
    fill(tmp_path, "histogram", SECONDS, "le", [f"0.{n:03}" for n in range(BUCKETS + 1)], routes)
    assert {path.name: path.stat().st_size for path in tmp_path.glob("*.db")} == {
        f"{kind}_1.db": size for kind, size in metrics.SIZES.items()
    }


def fill(
    directory: Path, kind: str, metric: Any, label: str, values: list[str], routes: list[Any]
) -> None:
    """Write a series for each route and value of `label`, which take half of the file at most."""
    file: Any = MmapedDict(str(directory / f"{kind}_1.db"))  # type: ignore[no-untyped-call]
    (described,) = metric.describe()
    name, text = described.name, described.documentation
    for (method, route), value in product(routes, values):
        labels = ["method", "route", label]
        key = mmap_key(name, f"{name}_total", labels, [method, route, value], text)
        file.write_value(key, 1.0, 0.0)
    assert file._used < metrics.SIZES[kind] / 2
    file.close()
