"""Which answers of the provider are used, and which of their movies."""

import json
from typing import Any

import pytest
from requests import PreparedRequest

from movies.november7.contract import (
    DOUBTFUL_TTL,
    MAX_TOTAL,
    CheckedPage,
    CheckedResponse,
    checked_page,
)
from movies.november7.errors import BadResponse
from november7.clients import movie

WRONG: dict[str, list[Any]] = {  # values that members of a movie must not have
    "id": [None, "", "not-a-uuid", 7, [], True],
    "title": [None, 7, [], {}, True],
    "description": [7, [], False],
    "image_url": [7, {}, True],
    "rating": ["7.5", True, [], {}],
}


def parsed(page: Any, *, skip: int = 0, limit: int = 10) -> CheckedPage:
    """The page that is made of a body with this content."""
    return checked_page(json.dumps(page).encode(), skip=skip, limit=limit)


def stored(page: Any, *, skip: int = 0, limit: int = 10) -> Any:
    """The content of the response that is made of a body with this content."""
    found = parsed(page, skip=skip, limit=limit)
    return json.loads(CheckedResponse(PreparedRequest(), found).content)


def of_one(**members: Any) -> dict[str, Any]:
    """A page of one movie with these members."""
    return {"total": 1, "items": [movie(**members)]}


def without(name: str) -> dict[str, Any]:
    """A movie that lacks a member."""
    return {key: value for key, value in movie().items() if key != name}


def test_a_valid_page_is_unchanged() -> None:
    page = {"total": 2, "items": [movie(1), movie(2)]}
    assert stored(page) == page


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><title>Error</title>",
        b'{"total": 1, "items": [',
        b'{"total": 0, "items": []} and more',
        b"\xff\xfe",
        '{"total": 0, "items": []}'.encode("utf-16"),
        '{"total": 0, "items": []}'.encode("utf-32"),
        b'{"total": NaN, "items": []}',
        b"[" * 100_000,
        b'{"total": 0, "items": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=[
        *("empty", "html", "half", "trailing", "not-utf8", "utf-16", "utf-32", "nan"),
        *("nested", "nested-in-items"),
    ],
)
def test_a_body_that_is_not_json_in_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(BadResponse):
        checked_page(body, skip=0, limit=10)


def test_a_byte_order_mark_is_ignored() -> None:
    body = b"\xef\xbb\xbf" + json.dumps(of_one()).encode()
    assert checked_page(body, skip=0, limit=10) == parsed(of_one())


@pytest.mark.parametrize(
    "page",
    [
        None,
        [],
        [movie()],
        "text",
        {},
        {"items": []},
        {"total": 0},
        {"total": 0, "items": None},
        {"total": 0, "items": {}},
        {"total": None, "items": []},
        {"total": "0", "items": []},
        {"total": -1, "items": []},
        {"total": 0.5, "items": []},
        {"total": True, "items": [movie()]},
        {"total": 2**70, "items": [movie(number) for number in range(10)]},
        {"total": MAX_TOTAL + 1, "items": [movie(number) for number in range(10)]},
        {"total": 1, "items": [None]},
        {"total": 1, "items": ["movie"]},
        {"total": 1, "items": [[]]},
    ],
    ids=lambda page: repr(page)[:60],
)
def test_a_page_of_another_shape_is_refused(page: Any) -> None:
    with pytest.raises(BadResponse):
        parsed(page)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "movie",
        [],
        without("id"),
        without("title"),
        *[movie(**{name: value}) for name, values in WRONG.items() for value in values],
    ],
    ids=lambda bad: json.dumps(bad)[:60],
)
def test_a_movie_that_breaks_the_contract_is_left_out(bad: Any) -> None:
    good = [movie(number) for number in range(10, 19)]
    page = parsed({"total": 10, "items": [*good[:3], bad, *good[3:]]})
    assert page == CheckedPage(10, good, left_out=1)
    assert page.is_doubtful


def test_a_movie_that_comes_twice_is_left_out_once() -> None:
    """Ids are compared in any letter case."""
    twin = movie(id="ABCDEF01-2345-4678-9ABC-DEF012345678")
    page = parsed({"total": 3, "items": [twin, movie(2), twin | {"id": twin["id"].lower()}]})
    assert (len(page.movies), page.left_out) == (2, 1)


@pytest.mark.parametrize(("good", "bad"), [(0, 1), (0, 10), (4, 6), (9, 11)])
def test_an_answer_whose_movies_mostly_break_the_contract_is_refused(good: int, bad: int) -> None:
    """More likely than so many bad movies is a provider with a new contract."""
    items = [movie(number) for number in range(good)] + [without("title")] * bad
    with pytest.raises(BadResponse):
        parsed({"total": good + bad, "items": items}, limit=100)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e999"])
def test_a_rating_that_is_no_finite_number_is_refused(number: bytes) -> None:
    body = json.dumps(of_one(rating="?")).encode().replace(b'"?"', number)
    with pytest.raises(BadResponse):
        checked_page(body, skip=0, limit=10)


@pytest.mark.parametrize("rating", [0, 10, 7, 8.25, -1.5, 1e300])
def test_a_rating_may_be_any_finite_number(rating: float) -> None:
    assert stored(of_one(rating=rating))["items"][0]["rating"] == rating


@pytest.mark.parametrize("member", ["description", "image_url", "rating"])
def test_an_optional_member_that_is_missing_is_null(member: str) -> None:
    """The live service has been recorded leaving out these three."""
    assert stored({"total": 1, "items": [without(member)]}) == of_one(**{member: None})


@pytest.mark.parametrize("member", ["description", "image_url", "rating"])
def test_an_optional_member_may_be_null(member: str) -> None:
    assert stored(of_one(**{member: None})) == of_one(**{member: None})


def test_unknown_members_are_dropped() -> None:
    assert stored({**of_one(year=1999), "next": "/movies/?skip=10"}) == of_one()


@pytest.mark.parametrize(
    "written",
    [
        "ABCDEF01-2345-4678-9ABC-DEF012345678",
        "abcdef01234546789abcdef012345678",
        "{abcdef01-2345-4678-9abc-def012345678}",
    ],
)
def test_ids_are_in_lower_case_with_hyphens(written: str) -> None:
    kept = stored(of_one(id=written))["items"][0]["id"]
    assert kept == "abcdef01-2345-4678-9abc-def012345678"


@pytest.mark.parametrize("member", ["title", "description", "image_url"])
@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a\x00b", "ab"), ("\x00", ""), ("🎬 Amélie\n", "🎬 Amélie\n"), ("", "")],
)
def test_nul_characters_are_removed(member: str, sent: str, kept: str) -> None:
    """PostgreSQL cannot store them."""
    assert stored(of_one(**{member: sent}))["items"][0][member] == kept


def test_a_body_with_a_lone_surrogate_is_refused() -> None:
    """It cannot be encoded as UTF-8."""
    with pytest.raises(BadResponse):
        parsed(of_one(title="half \ud83d"))


@pytest.mark.parametrize(
    ("total", "skip", "limit", "number"),
    [(0, 0, 10, 0), (3, 0, 10, 3), (30, 0, 10, 10), (30, 25, 10, 5), (30, 30, 10, 0), (3, 9, 1, 0)],
)
def test_a_page_with_as_many_movies_as_its_total_promises_is_complete(
    total: int, skip: int, limit: int, number: int
) -> None:
    page = {"total": total, "items": [movie(n) for n in range(number)]}
    assert not parsed(page, skip=skip, limit=limit).is_doubtful
    assert stored(page, skip=skip, limit=limit) == page


@pytest.mark.parametrize(
    ("total", "skip", "limit", "number"), [(3, 0, 10, 2), (20, 0, 10, 3), (30, 25, 10, 1)]
)
def test_a_page_with_fewer_movies_than_its_total_promises_is_incomplete(
    total: int, skip: int, limit: int, number: int
) -> None:
    content = {"total": total, "items": [movie(n) for n in range(number)]}
    page = parsed(content, skip=skip, limit=limit)
    assert (page.is_complete, page.is_doubtful, page.left_out) == (False, True, 0)
    assert stored(content, skip=skip, limit=limit) == content | {"is_complete": False}


@pytest.mark.parametrize(
    ("total", "skip", "limit", "number"),
    [(3, 0, 10, 4), (30, 0, 10, 11), (30, 25, 10, 6), (30, 30, 10, 1), (1, 0, 10, 0)],
)
def test_a_page_with_too_many_movies_or_none_of_those_promised_is_refused(
    total: int, skip: int, limit: int, number: int
) -> None:
    with pytest.raises(BadResponse):
        parsed({"total": total, "items": [movie(n) for n in range(number)]}, skip=skip, limit=limit)


def test_only_doubtful_answers_limit_their_freshness() -> None:
    def cache_control(page: CheckedPage) -> str | None:
        return CheckedResponse(PreparedRequest(), page).headers.get("Cache-Control")

    assert cache_control(CheckedPage(0, [])) is None
    assert cache_control(CheckedPage(2, [], left_out=1)) == f"max-age={DOUBTFUL_TTL}"
    assert cache_control(CheckedPage(2, [], is_complete=False)) == f"max-age={DOUBTFUL_TTL}"


def test_the_reason_does_not_quote_the_provider() -> None:
    with pytest.raises(BadResponse) as failure:
        checked_page(b"Traceback: secret", skip=0, limit=10)
    assert "secret" not in str(failure.value)
