"""Searching: the movies that November 7 finds, with their current votes."""

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest
from accounts import Accounts
from crowd import at_once
from flask import Flask
from flask.testing import FlaskClient

from movies.november7.sample.catalogue import sample_movies
from stand_in.catalogue import Catalogue, query_parameters
from stand_in.server import StandIn

SEARCH = "/api/v1/movies/"
MEMBERS = {
    *("id", "title", "description", "image_url", "rating"),
    *("upvotes", "downvotes", "my_rating"),
}
TEXTS = [
    "Tom & Jerry",
    "#Alive",
    "100% Wolf",
    "Romeo + Juliet",
    "🦊 7=8?",
    '"O\'Brien"',
    "a/b;c\\d",
]


once = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def app(make_app: Callable[..., Flask], stand_in: StandIn) -> Flask:
    return make_app(NOVEMBER7_URL=stand_in.url)


def named(*titles: str) -> Catalogue:
    return Catalogue([{"id": str(uuid4()), "title": title} for title in titles])


def parameters(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, strict_parsing=True))


def test_a_result_has_the_documented_members(client: FlaskClient, auth: Accounts) -> None:
    answer = client.get(SEARCH, query_string={"query": "matrix"}, headers=auth.headers())
    theirs = [m for m in sample_movies() if "matrix" in m["title"].casefold()]
    votes = {"upvotes": 0, "downvotes": 0, "my_rating": None}
    assert answer.get_json() == {
        "count": len(theirs),
        "next": None,
        "previous": None,
        "results": [{**movie, **votes} for movie in theirs],
    }
    assert all(set(movie) == MEMBERS for movie in answer.get_json()["results"])


def test_members_that_november_7_omits_are_null(
    client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    stand_in.catalogue = named("Bare")
    answer = client.get(SEARCH, query_string={"query": "bare"}, headers=auth.headers())
    (movie,) = answer.get_json()["results"]
    assert (movie["description"], movie["image_url"], movie["rating"]) == (None, None, None)


def test_vote_counts_are_current_on_a_cached_page(
    client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    mine, theirs = auth.headers(), auth.headers()
    before = client.get(f"{SEARCH}?query=fargo", headers=mine).get_json()["results"][0]
    vote = f"{SEARCH}{before['id']}/rating/"
    rating = client.put(vote, json={"rating_type": "UPVOTE"}, headers=mine).get_json()
    client.put(vote, json={"rating_type": "DOWNVOTE"}, headers=theirs)
    after = client.get(f"{SEARCH}?query=fargo", headers=mine).get_json()["results"][0]
    my_rating = {"id": rating["id"], "rating_type": "UPVOTE"}
    assert after == {**before, "upvotes": 1, "downvotes": 1, "my_rating": my_rating}
    assert len(stand_in.requests) == 1


def test_my_rating_is_null_for_users_who_have_not_voted(
    client: FlaskClient, auth: Accounts
) -> None:
    mine, theirs = auth.headers(), auth.headers()
    movie = client.get(f"{SEARCH}?query=fargo", headers=mine).get_json()["results"][0]
    client.put(f"{SEARCH}{movie['id']}/rating/", json={"rating_type": "UPVOTE"}, headers=mine)
    seen = client.get(f"{SEARCH}?query=fargo", headers=theirs).get_json()["results"][0]
    assert (seen["upvotes"], seen["my_rating"]) == (1, None)


def test_users_who_search_at_the_same_time_see_their_own_votes_at_once(
    app: Flask, auth: Accounts
) -> None:
    """On different pages and with ratings of their own, although they share statements."""
    users = [auth.headers() for _ in range(8)]

    def vote_and_search(number: int) -> None:
        client, headers = app.test_client(), users[number]
        for turn in range(15):
            wanted = {"query": "a", "page": number % 3 + 1, "page_size": 10}
            movies = client.get(SEARCH, query_string=wanted, headers=headers).get_json()["results"]
            movie = movies[turn % 10]
            rating_type = ("UPVOTE", "DOWNVOTE")[(turn + number) % 2]
            at = f"{SEARCH}{movie['id']}/rating/"
            rating = client.put(at, json={"rating_type": rating_type}, headers=headers).get_json()
            movies = client.get(SEARCH, query_string=wanted, headers=headers).get_json()["results"]
            seen = next(each for each in movies if each["id"] == movie["id"])
            assert seen["my_rating"] == {"id": rating["id"], "rating_type": rating_type}
            assert seen["upvotes" if rating_type == "UPVOTE" else "downvotes"] > 0

    at_once(partial(vote_and_search, number) for number in range(len(users)))


@pytest.mark.parametrize("size", [1, 100])
def test_a_cached_search_takes_one_select(
    client: FlaskClient, auth: Accounts, statements: list[str], size: int
) -> None:
    headers = auth.headers()
    wanted = {"query": "a", "page_size": size}
    assert len(client.get(SEARCH, query_string=wanted, headers=headers).get_json()["results"]) > 0
    statements.clear()
    answer = client.get(SEARCH, query_string=wanted, headers=headers)
    assert answer.headers["Cache-Status"].startswith("november7; hit")
    assert [statement.split()[0] for statement in statements] == ["SELECT"]


@once
@pytest.mark.parametrize("text", TEXTS)
def test_every_query_is_sent_to_november_7_unchanged(
    client: FlaskClient, auth: Accounts, stand_in: StandIn, text: str
) -> None:
    client.get(SEARCH, query_string={"query": text}, headers=auth.headers())
    assert [query_parameters(target) for target in stand_in.requests] == [
        {"skip": "0", "limit": "100", "query": text}
    ]


@once
@pytest.mark.parametrize("text", TEXTS)
def test_links_keep_every_parameter(
    client: FlaskClient, auth: Accounts, stand_in: StandIn, text: str
) -> None:
    stand_in.catalogue = named(*(f"{text} {part}" for part in range(3)))
    headers = auth.headers()
    wanted = {"query": text, "page_size": "1", "page": "2"}
    page = client.get(SEARCH, query_string=wanted, headers=headers).get_json()
    for link, number in (("next", "3"), ("previous", "1")):
        assert page[link].startswith("http://localhost/api/v1/movies/?")
        assert parameters(page[link]) == {**wanted, "page": number}
        (movie,) = client.get(page[link], headers=headers).get_json()["results"]
        assert movie["title"] == f"{text} {int(number) - 1}"


def test_following_next_visits_every_movie_once(
    client: FlaskClient, auth: Accounts, stand_in: StandIn
) -> None:
    headers = auth.headers()
    seen: list[str] = []
    following: str | None = f"{SEARCH}?query=the&page_size=7"
    while following:
        page = client.get(following, headers=headers).get_json()
        seen += [movie["id"] for movie in page["results"]]
        following = page["next"]
    wanted = [m["id"] for m in sample_movies() if "the" in m["title"].casefold()]
    assert seen == wanted
    assert page["count"] == len(wanted)


@pytest.mark.parametrize("page", ["2", "1000000", "214748365", "9" * 30])
def test_a_page_past_the_end_is_404(client: FlaskClient, auth: Accounts, page: str) -> None:
    wanted = {"query": "fargo", "page": page}
    answer = client.get(SEARCH, query_string=wanted, headers=auth.headers())
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert answer.get_json()["detail"] == "This page does not exist. The list has fewer pages."


def test_page_1_without_results_is_empty(client: FlaskClient, auth: Accounts) -> None:
    answer = client.get(f"{SEARCH}?query=no+such+film", headers=auth.headers())
    nothing: dict[str, Any] = {"count": 0, "next": None, "previous": None, "results": []}
    assert (answer.status_code, answer.get_json()) == (200, nothing)


@once
@pytest.mark.parametrize(
    "same",
    ["query=+fargo%20", "query=%09fargo", "query=fargo&page=1", "page_size=10&query=fargo"],
)
def test_equivalent_requests_share_a_cache_entry(
    client: FlaskClient, auth: Accounts, stand_in: StandIn, same: str
) -> None:
    """Surrounding whitespace, explicit defaults and the order of parameters do not matter."""
    headers = auth.headers()
    first = client.get(f"{SEARCH}?query=fargo", headers=headers)
    second = client.get(f"{SEARCH}?{same}", headers=headers)
    assert second.get_json()["results"] == first.get_json()["results"]
    assert len(stand_in.requests) == 1


@once
@pytest.mark.parametrize("other", ["Fargo", "far go", "fargo\u200b"])
def test_a_different_query_is_sent_to_november_7(
    client: FlaskClient, auth: Accounts, stand_in: StandIn, other: str
) -> None:
    """Even if only the letter case differs."""
    headers = auth.headers()
    for text in ("fargo", other):
        client.get(SEARCH, query_string={"query": text}, headers=headers)
    assert [query_parameters(target)["query"] for target in stand_in.requests] == ["fargo", other]


@once
@pytest.mark.parametrize(
    ("wanted", "member"),
    [
        ("query=", "query"),
        ("query=%20%09", "query"),
        (f"query={'x' * 201}", "query"),
        ("query=a&page=0", "page"),
        ("query=a&page=-1", "page"),
        ("query=a&page=1.0", "page"),
        ("query=a&page=", "page"),
        ("query=a&page_size=0", "page_size"),
        ("query=a&page_size=101", "page_size"),
        ("query=a&ids=1", "ids"),
        ("query=a&query=b", "query"),
    ],
)
def test_parameters_out_of_range_are_422(
    client: FlaskClient, auth: Accounts, stand_in: StandIn, wanted: str, member: str
) -> None:
    answer = client.get(f"{SEARCH}?{wanted}", headers=auth.headers())
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]) == [member]
    assert stand_in.requests == []


def test_the_length_of_a_query_is_validated_after_trimming(
    client: FlaskClient, auth: Accounts
) -> None:
    wanted = {"query": f"  {'é' * 200}\t"}
    answer = client.get(SEARCH, query_string=wanted, headers=auth.headers())
    assert answer.status_code == 200
