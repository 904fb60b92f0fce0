"""The check of the contract against the last release."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.breaking_changes import breaking_changes

DOCUMENT: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "docs/openapi.json").read_text(encoding="utf-8")
)
MOVIES = "/api/v1/movies/"


def changed(change: Callable[[dict[str, Any]], object]) -> list[str]:
    """What the check says of the document after a change."""
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return list(breaking_changes(DOCUMENT, document))


def test_an_unchanged_document_breaks_nothing() -> None:
    assert changed(lambda document: None) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["paths"].pop(MOVIES), "GET /api/v1/movies/ is gone"),
        (
            lambda d: d["components"]["schemas"]["Movie"]["properties"].pop("upvotes"),
            "GET /api/v1/movies/ does not return results.upvotes",
        ),
        (
            lambda d: d["components"]["schemas"]["UserCreate"]["required"].append("first_name"),
            "POST /api/v1/users/register/ requires the member first_name",
        ),
        (
            lambda d: d["components"]["schemas"]["UserUpdate"]["properties"].pop("last_name"),
            "PATCH /api/v1/users/me/ does not accept the member last_name",
        ),
        (
            lambda d: d["paths"]["/api/v1/movies/{movie_id}/rating/"]["put"]["responses"].pop(
                "201"
            ),
            "PUT /api/v1/movies/{movie_id}/rating/ does not respond with 201",
        ),
        (
            lambda d: d["paths"][MOVIES]["get"]["parameters"][0].update(required=True),
            "GET /api/v1/movies/ requires the parameter",
        ),
    ],
)
def test_a_breaking_change_is_named(change: Callable[[dict[str, Any]], object], said: str) -> None:
    assert any(line.startswith(said) for line in changed(change))


def test_an_addition_breaks_nothing() -> None:
    def add(document: dict[str, Any]) -> None:
        document["components"]["schemas"]["Movie"]["properties"]["year"] = {"type": "integer"}
        document["paths"]["/api/v1/new/"] = {}

    assert changed(add) == []
