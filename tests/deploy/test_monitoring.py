"""The alert rules and the dashboard: every metric that they name exists."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = {"sum", "max", "min", "rate", "increase", "by", "histogram_quantile"}
MADE_BY_PROMETHEUS = {"up"}


def alert_expressions() -> list[str]:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    return loaded


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def metrics_of(expression: str) -> set[str]:
    """The names of the metrics in an expression, with the suffix of a histogram taken off."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", "", expression)
    names = set(re.findall(r"[a-z_][a-z0-9_]+", bare)) - FUNCTIONS - MADE_BY_PROMETHEUS
    return {name.removesuffix("_bucket") for name in names}


@pytest.mark.parametrize("expression", alert_expressions() + dashboard_expressions())
def test_every_metric_is_documented(expression: str) -> None:
    """Another test compares the documented metrics with those of the server."""
    text = (ROOT / "docs/operations.md").read_text()
    named = metrics_of(expression)
    for name in named:
        assert f"`{name}`" in text, name


def test_panels_do_not_overlap() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in dashboard()["panels"]]
    assert len(places) == len(set(places))
