"""The sample catalogue, the adapter that answers from it, and the stand-in's command."""

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
from click.testing import CliRunner

from movies.november7.contract import checked_page
from movies.november7.errors import BadResponse
from movies.november7.sample.adapter import EmbeddedAdapter
from movies.november7.sample.catalogue import Catalogue, sample_catalogue
from stand_in.__main__ import main
from stand_in.faults import FAULT_KINDS, Fault, Faults, apply_fault

SMALL = Catalogue([{"title": "Straße"}, {"title": "Cats & Dogs"}, {"title": "Reservoir Dogs"}])


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session whose requests to sample.example are answered in process."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy on the way to this machine
        session.mount("http://sample.example/", EmbeddedAdapter())
        yield session


def page(target: str, catalogue: Catalogue = SMALL) -> Any:
    """The JSON of the answer to `target`."""
    return json.loads(catalogue.answer("GET", target).body)


# The catalogue


def test_every_movie_has_all_five_members() -> None:
    for movie in sample_catalogue().movies:
        assert list(movie) == ["id", "title", "description", "image_url", "rating"]
        assert all(movie[name].strip() for name in ("title", "description"))
        assert movie["image_url"].startswith("https://images.november7.example/")
        assert 0 <= movie["rating"] <= 10
        assert round(movie["rating"], 1) == movie["rating"]


@pytest.mark.parametrize("member", ["id", "description", "image_url"])
def test_no_two_movies_share_an_id_a_description_or_an_image(member: str) -> None:
    values = [movie[member] for movie in sample_catalogue().movies]
    assert len(set(values)) == len(values) > 100


def test_ids_are_version_4_uuids_in_canonical_form() -> None:
    for movie in sample_catalogue().movies:
        assert UUID(movie["id"]).version == 4
        assert str(UUID(movie["id"])) == movie["id"]


def test_some_titles_stand_for_several_movies() -> None:
    shared = Counter(movie["title"] for movie in sample_catalogue().movies)
    assert shared["The Matrix"] == 3
    assert sum(count > 1 for count in shared.values()) >= 5


@pytest.mark.parametrize("sign", ["&", "#", "%", "+", "/", "'", '"', "(", "é", "·", "の"])
def test_titles_have_characters_that_escaping_or_encoding_may_break(sign: str) -> None:
    assert any(sign in movie["title"] for movie in sample_catalogue().movies)


def test_ids_that_examples_use_are_stable() -> None:
    """The documentation shows this movie; do not change its id or title."""
    titles = {movie["id"]: movie["title"] for movie in sample_catalogue().movies}
    assert titles["5f6bceff-eb97-4c9b-a0da-4292651ed524"] == "The Matrix"


def test_the_catalogue_is_read_once() -> None:
    assert sample_catalogue() is sample_catalogue()


# Answers without faults


def test_the_default_page_is_the_first_ten_movies() -> None:
    everything = sample_catalogue().movies
    assert page("/movies/", sample_catalogue()) == {
        "total": len(everything),
        "items": everything[:10],
    }


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


# The adapter


@pytest.mark.parametrize("path", ["movies/", "movies"])
def test_the_adapter_answers_in_process_and_redirects_are_followed(
    session: requests.Session, path: str
) -> None:
    response = session.get(f"http://sample.example/{path}", params={"query": "Amélie"})
    assert response.json() == page("/movies/?query=am%C3%A9lie", sample_catalogue())
    assert response.json()["total"] == 1
    assert response.headers["content-type"] == "application/json"
    assert (response.status_code, response.reason) == (200, "OK")
    assert response.url.startswith("http://sample.example/movies/?query=Am")


def test_a_streamed_answer_can_be_read_in_parts(session: requests.Session) -> None:
    response = session.get("http://sample.example/movies/", stream=True)
    parts = list(response.iter_content(100))
    assert len(parts) > 1
    assert b"".join(parts) == sample_catalogue().answer("GET", "/movies/").body


# Faults


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


# The command


def test_help_names_every_switch() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert all(f"--{field.name.replace('_', '-')} " in text for field in fields(Faults))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--codes", "4xx"],
        ["--latency", "slow"],
        ["--latency", "2:1"],
        ["--refuse", "0.6", "--hang", "0.6"],
    ],
)
def test_invalid_switches_are_usage_errors(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error" in result.output


@pytest.mark.slow
def test_the_command_prints_its_url_and_faults_and_ends_on_sigterm(
    session: requests.Session,
) -> None:
    switches = ["--port", "0", "--refuse", "1", "--codes", "418", "--latency", "0.01:0.02"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stand_in", *switches],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            url = re.findall(r"http://\S+", process.stdout.readline())[0]
            assert "refuse=1.0, codes=(418,)" in process.stdout.readline()
            assert session.get(url + "movies/", timeout=30).status_code == 418
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
