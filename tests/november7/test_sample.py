"""The sample catalogue, and the adapter that answers from it."""

from collections import Counter
from collections.abc import Iterator
from uuid import UUID

import pytest
import requests

from movies.november7.sample.adapter import EmbeddedAdapter
from movies.november7.sample.catalogue import page, sample_movies


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session whose requests to sample.example are answered in process."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy on the way to this machine
        session.mount("http://sample.example/", EmbeddedAdapter())
        yield session


def test_every_movie_has_all_five_members() -> None:
    for movie in sample_movies():
        assert list(movie) == ["id", "title", "description", "image_url", "rating"]
        assert all(movie[name].strip() for name in ("title", "description"))
        assert movie["image_url"].startswith("https://images.november7.example/")
        assert 0 <= movie["rating"] <= 10
        assert round(movie["rating"], 1) == movie["rating"]


@pytest.mark.parametrize("member", ["id", "description", "image_url"])
def test_no_two_movies_share_an_id_a_description_or_an_image(member: str) -> None:
    values = [movie[member] for movie in sample_movies()]
    assert len(set(values)) == len(values) > 100


def test_ids_are_version_4_uuids_in_canonical_form() -> None:
    for movie in sample_movies():
        assert UUID(movie["id"]).version == 4
        assert str(UUID(movie["id"])) == movie["id"]


def test_some_titles_stand_for_several_movies() -> None:
    shared = Counter(movie["title"] for movie in sample_movies())
    assert shared["The Matrix"] == 3
    assert sum(count > 1 for count in shared.values()) >= 5


@pytest.mark.parametrize("sign", ["&", "#", "%", "+", "/", "'", '"', "(", "é", "·", "の"])
def test_titles_have_characters_that_escaping_or_encoding_may_break(sign: str) -> None:
    assert any(sign in movie["title"] for movie in sample_movies())


def test_ids_that_examples_use_are_stable() -> None:
    """The documentation shows this movie; do not change its id or title."""
    titles = {movie["id"]: movie["title"] for movie in sample_movies()}
    assert titles["5f6bceff-eb97-4c9b-a0da-4292651ed524"] == "The Matrix"


def test_the_catalogue_is_read_once() -> None:
    assert sample_movies() is sample_movies()


def test_the_adapter_answers_in_process(session: requests.Session) -> None:
    asked: dict[str, str | int] = {"query": "Amélie", "skip": 0, "limit": 10}
    response = session.get("http://sample.example/movies/", params=asked)
    assert response.json() == page(sample_movies(), "amélie", 0, 10)
    assert response.json()["total"] == 1
    assert response.headers["content-type"] == "application/json"
    assert (response.status_code, response.reason) == (200, "OK")


def test_without_a_query_the_adapter_answers_with_all_movies(session: requests.Session) -> None:
    response = session.get("http://sample.example/movies/?skip=5&limit=10")
    movies = sample_movies()
    assert response.json() == {"total": len(movies), "items": movies[5:15]}


def test_a_streamed_answer_can_be_read_in_parts(session: requests.Session) -> None:
    url = "http://sample.example/movies/?skip=0&limit=10"
    with session.get(url, stream=True) as response:
        parts = list(response.iter_content(100))
    assert len(parts) > 1
    assert b"".join(parts) == session.get(url).content
