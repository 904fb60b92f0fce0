"""The sample of November 7: its catalogue, its faults in process, and the command."""

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

from movies.november7.sample.adapter import EmbeddedAdapter
from movies.november7.sample.catalogue import Catalogue, sample_catalogue
from stand_in.__main__ import main
from stand_in.faults import FAULT_KINDS, Fault, Faults, apply_fault

SMALL = Catalogue([{"title": "Straße"}, {"title": "Cats & Dogs"}, {"title": "Reservoir Dogs"}])


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session that asks the sample in process wherever the host is sample.example."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy on the way to this machine
        session.mount("http://sample.example/", EmbeddedAdapter())
        yield session


def page(target: str, catalogue: Catalogue = SMALL) -> Any:
    """The JSON that a well-behaved November 7 gives for `target`."""
    return json.loads(catalogue.answer("GET", target).body)


# The catalogue


def test_every_movie_has_the_five_members() -> None:
    """Each movie is whole: id, title, description, image URL and a rating from 0 to 10."""
    for movie in sample_catalogue().movies:
        assert list(movie) == ["id", "title", "description", "image_url", "rating"]
        assert all(movie[name].strip() for name in ("title", "description"))
        assert movie["image_url"].startswith("https://images.november7.example/")
        assert 0 <= movie["rating"] <= 10
        assert round(movie["rating"], 1) == movie["rating"]


@pytest.mark.parametrize("member", ["id", "description", "image_url"])
def test_movies_differ(member: str) -> None:
    """No two movies share an id, a description or a picture."""
    values = [movie[member] for movie in sample_catalogue().movies]
    assert len(set(values)) == len(values) > 100


def test_ids_are_random_uuids() -> None:
    """Ids are version 4 UUIDs in their usual spelling."""
    for movie in sample_catalogue().movies:
        assert UUID(movie["id"]).version == 4
        assert str(UUID(movie["id"])) == movie["id"]


def test_titles_are_shared() -> None:
    """At least five titles stand for several movies, The Matrix for three."""
    shared = Counter(movie["title"] for movie in sample_catalogue().movies)
    assert shared["The Matrix"] == 3
    assert sum(count > 1 for count in shared.values()) >= 5


@pytest.mark.parametrize("sign", ["&", "#", "%", "+", "/", "'", '"', "(", "é", "·", "の"])
def test_titles_hold_what_is_easily_broken(sign: str) -> None:
    """Some title holds each character that escaping or encoding tends to break."""
    assert any(sign in movie["title"] for movie in sample_catalogue().movies)


def test_sample_catalogue_is_read_once() -> None:
    """Every caller gets the one catalogue that was read."""
    assert sample_catalogue() is sample_catalogue()


# Good faults


def test_first_page_by_default() -> None:
    """Without parameters the first ten movies come, with the number of all of them."""
    everything = sample_catalogue().movies
    assert page("/movies/", sample_catalogue()) == {
        "total": len(everything),
        "items": everything[:10],
    }


def test_answer_is_plain_json() -> None:
    """A page is JSON of the announced length, and nothing is said about caching."""
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
def test_window(window: str, expected: list[str]) -> None:
    """`skip` and `limit` cut the page out, the last of each wins, and the total stays."""
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
def test_query_is_part_of_the_title(query: str, expected: list[str]) -> None:
    """A query finds titles that contain it in any letter case; an empty one finds them all."""
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
def test_wrong_numbers_are_422(parameters: str, faults: list[tuple[str, str]]) -> None:
    """A `skip` or `limit` that isn't a natural number is told in the shape of FastAPI."""
    assert SMALL.answer("GET", f"/movies/?{parameters}").status == 422
    detail = page(f"/movies/?{parameters}")["detail"]
    assert [(fault["loc"], fault["type"]) for fault in detail] == [
        (["query", name], kind) for name, kind in faults
    ]
    assert all(fault["msg"] for fault in detail)


@pytest.mark.parametrize("query", ["", "?query=a%26b&skip=2"])
def test_missing_slash_redirects(query: str) -> None:
    """`/movies` leads to `/movies/` with the query string as it was."""
    answer = SMALL.answer("GET", f"/movies{query}")
    assert (answer.status, answer.headers["Location"]) == (307, f"/movies/{query}")


def test_other_methods_are_405() -> None:
    """Only GET is allowed on the movies."""
    answer = SMALL.answer("POST", "/movies/")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("target", ["/", "/movies/1", "/MOVIES/", "/movies//", ""])
def test_other_paths_are_404(target: str) -> None:
    """There is nothing but the list."""
    answer = SMALL.answer("GET", target)
    assert (answer.status, json.loads(answer.body)) == (404, {"detail": "Not Found"})


# The adapter


@pytest.mark.parametrize("path", ["movies/", "movies"])
def test_embedded_adapter_answers(session: requests.Session, path: str) -> None:
    """A session with the adapter finds a movie without a network, redirect included."""
    response = session.get(f"http://sample.example/{path}", params={"query": "Amélie"})
    assert response.json() == page("/movies/?query=am%C3%A9lie", sample_catalogue())
    assert response.json()["total"] == 1
    assert response.headers["content-type"] == "application/json"
    assert (response.status_code, response.reason) == (200, "OK")
    assert response.url.startswith("http://sample.example/movies/?query=Am")


def test_embedded_adapter_streams(session: requests.Session) -> None:
    """A streamed answer can be read in parts, and the parts make the whole."""
    response = session.get("http://sample.example/movies/", stream=True)
    parts = list(response.iter_content(100))
    assert len(parts) > 1
    assert b"".join(parts) == sample_catalogue().answer("GET", "/movies/").body


# Bad faults


@pytest.mark.parametrize("target", ["/movies/?limit=2", "/movies/?query=nothing"])
def test_malformed_variants_break_the_contract(target: str) -> None:
    """Each of the six variants is JSON that isn't a page, even where nothing was found."""
    answer = SMALL.answer("GET", target)
    bodies = [
        json.loads(apply_fault(answer, Fault(0, "malformed", pick / 6), Faults(), target).body)
        for pick in range(6)
    ]
    assert bodies[0]["items"] is None
    assert "id" not in bodies[1]["items"][-1]
    assert isinstance(bodies[2]["total"], str)
    assert isinstance(bodies[3], list)
    with pytest.raises(ValueError, match="badly formed"):
        UUID(bodies[4]["items"][-1]["id"])
    assert len(bodies[5]["items"]) > (2 if "limit" in target else 10)


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
def test_impossible_faults(wrong: dict[str, Any]) -> None:
    """Shares that can't be probabilities of one draw, and other nonsense, are refused."""
    with pytest.raises(ValueError, match="must"):
        Faults(**wrong)


def test_fault_kinds_exclude_each_other() -> None:
    """Shares that fill the whole range leave nobody spared, and each gets its part."""
    shares: dict[str, Any] = dict.fromkeys(FAULT_KINDS, 1 / len(FAULT_KINDS))
    faults = Faults(**shares, seed=1)
    drawn = Counter(faults.draw().kind for _ in range(2200))
    assert set(drawn) == set(FAULT_KINDS)
    assert min(drawn.values()) > 100


# The command


def test_help_names_every_switch() -> None:
    """`--help` tells of each of the faults."""
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
def test_wrong_switches_are_usage_errors(arguments: list[str]) -> None:
    """Switches that make no sense end the command with a usage error."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error" in result.output


def test_command_serves_until_sigterm(session: requests.Session) -> None:
    """Started as a process, it says where and how it answers, and ends on SIGTERM."""
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
            assert session.get(url + "movies/", timeout=2).status_code == 418
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
