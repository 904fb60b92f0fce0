"""The answers of the stand-in: without faults, and with those that change an answer."""

import json
from collections import Counter
from typing import Any

import pytest

from movies.november7.contract import checked_page
from movies.november7.errors import BadResponse
from movies.november7.sample.catalogue import sample_movies
from stand_in.catalogue import Catalogue
from stand_in.faults import FAULT_KINDS, Fault, Faults, apply_fault

SMALL = Catalogue([{"title": "Straße"}, {"title": "Cats & Dogs"}, {"title": "Reservoir Dogs"}])


def page(target: str, catalogue: Catalogue = SMALL) -> Any:
    """The JSON of the answer to `target`."""
    return json.loads(catalogue.answer("GET", target).body)


def test_the_default_page_is_the_first_ten_movies() -> None:
    everything = sample_movies()
    expected = {"total": len(everything), "items": everything[:10]}
    assert page("/movies/", Catalogue(everything)) == expected


def test_an_answer_is_json_without_caching_headers() -> None:
    answer = SMALL.answer("GET", "/movies/")
    assert answer.status == 200
    assert answer.headers == {
        "Content-Type": "application/json",
        "Content-Length": str(len(answer.body)),
    }
    assert "Straße".encode() in answer.body


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("skip=1", ["Cats & Dogs", "Reservoir Dogs"]),
        ("limit=1", ["Straße"]),
        ("skip=1&limit=1", ["Cats & Dogs"]),
        ("limit=0", []),
        ("skip=3", []),
        ("skip=1000000000000000000000", []),
        ("skip=0&skip=2", ["Reservoir Dogs"]),
    ],
)
def test_skip_and_limit_select_a_part_and_the_last_of_each_counts(
    window: str, expected: list[str]
) -> None:
    answer = page(f"/movies/?{window}")
    assert [movie["title"] for movie in answer["items"]] == expected
    assert answer["total"] == 3


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("DOGS", ["Cats & Dogs", "Reservoir Dogs"]),
        ("cats+%26", ["Cats & Dogs"]),
        ("STRASSE", ["Straße"]),
        ("stra%C3%9Fe", ["Straße"]),
        ("", ["Straße", "Cats & Dogs", "Reservoir Dogs"]),
        ("nothing", []),
    ],
)
def test_a_query_finds_titles_that_contain_it_in_any_letter_case(
    query: str, expected: list[str]
) -> None:
    """An empty query finds every movie."""
    answer = page(f"/movies/?query={query}")
    assert [movie["title"] for movie in answer["items"]] == expected
    assert page(f"/movies/?query={query}&limit=1")["total"] == len(expected)


@pytest.mark.parametrize(
    ("parameters", "faults"),
    [
        ("skip=x", [("skip", "int_parsing")]),
        ("limit=", [("limit", "int_parsing")]),
        ("limit=1.5", [("limit", "int_parsing")]),
        ("skip=-1&limit=-1", [("skip", "greater_than_equal"), ("limit", "greater_than_equal")]),
    ],
)
def test_invalid_numbers_are_422_in_the_format_of_fastapi(
    parameters: str, faults: list[tuple[str, str]]
) -> None:
    assert SMALL.answer("GET", f"/movies/?{parameters}").status == 422
    detail = page(f"/movies/?{parameters}")["detail"]
    assert [(fault["loc"], fault["type"]) for fault in detail] == [
        (["query", name], kind) for name, kind in faults
    ]
    assert all(fault["msg"] for fault in detail)


@pytest.mark.parametrize("query", ["", "?query=a%26b&skip=2"])
def test_a_missing_slash_redirects_with_the_same_query_string(query: str) -> None:
    answer = SMALL.answer("GET", f"/movies{query}")
    assert (answer.status, answer.headers["Location"]) == (307, f"/movies/{query}")


def test_only_get_is_allowed() -> None:
    answer = SMALL.answer("POST", "/movies/")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("target", ["/", "/movies/1", "/MOVIES/", "/movies//", ""])
def test_other_paths_are_404(target: str) -> None:
    answer = SMALL.answer("GET", target)
    assert (answer.status, json.loads(answer.body)) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("target", ["/movies/?limit=2", "/movies/?query=nothing"])
def test_every_malformed_variant_breaks_the_contract(target: str) -> None:
    answer = SMALL.answer("GET", target)
    bodies = [
        json.loads(apply_fault(answer, Fault(0, "malformed", pick / 6), Faults(), target).body)
        for pick in range(6)
    ]
    limit = 2 if "limit" in target else 10
    for body in bodies:
        with pytest.raises(BadResponse):
            checked_page(json.dumps(body).encode(), skip=0, limit=limit)


@pytest.mark.parametrize(
    "wrong",
    [
        {"refuse": 1.1},
        {"refuse": 0.6, "hang": 0.6},
        {"reset": -0.1},
        {"latency": (2, 1)},
        {"latency": (0, float("inf"))},
        {"drip_interval": -1},
        {"codes": ()},
        {"codes": (99,)},
    ],
)
def test_impossible_faults_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Faults(**wrong)


def test_a_request_meets_one_fault_at_most() -> None:
    shares: dict[str, Any] = dict.fromkeys(FAULT_KINDS, 1 / len(FAULT_KINDS))
    faults = Faults(**shares, seed=1)
    drawn = Counter(faults.draw().kind for _ in range(2200))
    assert set(drawn) == set(FAULT_KINDS)
    assert min(drawn.values()) > 100
