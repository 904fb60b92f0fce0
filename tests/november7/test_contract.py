"""What counts as a true answer of the provider's."""

import json
from typing import Any

import pytest
from requests import PreparedRequest

from movies.november7.contract import CheckedResponse, checked_page
from movies.november7.errors import BadResponse
from november7.clients import movie

WRONG: dict[str, list[Any]] = {  # values that the members of a movie can't have
    "id": [None, "", "not-a-uuid", 7, [], True],
    "title": [None, 7, [], {}, True],
    "description": [7, [], False],
    "image_url": [7, {}, True],
    "rating": ["7.5", True, [], {}],
}


def checked(page: Any, *, skip: int = 0, limit: int = 10) -> Any:
    """The page as it is kept, from a page as the provider sends it."""
    found = checked_page(json.dumps(page).encode(), skip=skip, limit=limit)
    return json.loads(CheckedResponse(PreparedRequest(), found).content)


def of_one(**members: Any) -> dict[str, Any]:
    """A page of one movie with some members of its own."""
    return {"total": 1, "items": [movie(**members)]}


def without(name: str) -> dict[str, Any]:
    """A page of one movie that lacks a member."""
    return {"total": 1, "items": [{key: value for key, value in movie().items() if key != name}]}


def test_a_true_answer_is_kept_as_it_is() -> None:
    """A page that keeps the contract goes through with its members and their order."""
    page = {"total": 2, "items": [movie(1), movie(2)]}
    assert checked(page) == page


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><title>Error</title>",
        b'{"total": 1, "items": [',
        b'{"total": 0, "items": []} and more',
        b"\xff\xfe",
        b'{"total": NaN, "items": []}',
        b"[" * 100_000,
    ],
    ids=["empty", "html", "half", "trailing", "not-utf8", "nan", "nested"],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    """A body that isn't one JSON document is a bad response."""
    with pytest.raises(BadResponse):
        checked_page(body, skip=0, limit=10)


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
        {"total": 1, "items": [None]},
        {"total": 1, "items": ["movie"]},
        {"total": 1, "items": [[]]},
    ],
    ids=repr,
)
def test_a_page_of_another_shape_is_refused(page: Any) -> None:
    """A page whose total or items are missing or of another type is a bad response."""
    with pytest.raises(BadResponse):
        checked(page)


@pytest.mark.parametrize(
    "page",
    [
        without("id"),
        without("title"),
        *[of_one(**{name: value}) for name, values in WRONG.items() for value in values],
    ],
    ids=lambda page: json.dumps(page["items"][0])[:60],
)
def test_a_movie_of_another_shape_is_refused(page: Any) -> None:
    """A movie whose members are missing or of another type makes a bad response."""
    with pytest.raises(BadResponse):
        checked(page)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e999"])
def test_a_rating_is_a_finite_number(number: bytes) -> None:
    """A rating that no JSON number can be, or none that a database takes, is refused."""
    body = json.dumps(of_one(rating="?")).encode().replace(b'"?"', number)
    with pytest.raises(BadResponse):
        checked_page(body, skip=0, limit=10)


@pytest.mark.parametrize("rating", [0, 10, 7, 8.25, -1.5])
def test_a_rating_may_be_any_number(rating: float) -> None:
    """Whole numbers are ratings as well as fractions; their range is the provider's business."""
    assert checked(of_one(rating=rating))["items"][0]["rating"] == rating


@pytest.mark.parametrize("member", ["description", "image_url", "rating"])
def test_a_member_that_is_left_out_is_null(member: str) -> None:
    """The live service has been recorded leaving out three members; they are null then."""
    assert checked(without(member)) == of_one(**{member: None})


@pytest.mark.parametrize("member", ["description", "image_url", "rating"])
def test_a_member_may_be_null(member: str) -> None:
    """Null is the same as leaving it out."""
    assert checked(of_one(**{member: None})) == of_one(**{member: None})


def test_unknown_members_are_dropped() -> None:
    """What a newer provider adds is neither an error nor passed on."""
    assert checked({**of_one(year=1999), "next": "/movies/?skip=10"}) == of_one()


@pytest.mark.parametrize(
    "spelling",
    [
        "ABCDEF01-2345-4678-9ABC-DEF012345678",
        "abcdef0123454678 9abcdef012345678".replace(" ", ""),
        "{abcdef01-2345-4678-9abc-def012345678}",
    ],
)
def test_an_id_has_one_spelling(spelling: str) -> None:
    """Ids come out in lower case with hyphens, however the provider writes them."""
    kept = checked(of_one(id=spelling))["items"][0]["id"]
    assert kept == "abcdef01-2345-4678-9abc-def012345678"


@pytest.mark.parametrize("member", ["title", "description", "image_url"])
@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a\x00b", "ab"), ("\x00", ""), ("🎬 Amélie\n", "🎬 Amélie\n"), ("", "")],
)
def test_texts_hold_what_every_database_can(member: str, sent: str, kept: str) -> None:
    """NULs, which PostgreSQL can't hold, go; everything else stays."""
    assert checked(of_one(**{member: sent}))["items"][0][member] == kept


def test_a_lone_surrogate_never_gets_through() -> None:
    """Half a character, which no UTF-8 can hold, isn't JSON, so its page is refused."""
    with pytest.raises(BadResponse):
        checked(of_one(title="half \ud83d"))


@pytest.mark.parametrize(
    ("total", "skip", "limit", "number"),
    [(0, 0, 10, 0), (3, 0, 10, 3), (30, 0, 10, 10), (30, 25, 10, 5), (30, 30, 10, 0), (3, 9, 1, 0)],
)
def test_a_page_holds_what_its_total_promises(
    total: int, skip: int, limit: int, number: int
) -> None:
    """A whole page, a last page, a page past the end and an empty catalogue are all true."""
    page = {"total": total, "items": [movie(n) for n in range(number)]}
    assert checked(page, skip=skip, limit=limit) == page


@pytest.mark.parametrize(
    ("total", "skip", "limit", "number"),
    [
        (3, 0, 10, 2),
        (3, 0, 10, 4),
        (30, 0, 10, 11),
        (30, 25, 10, 6),
        (30, 30, 10, 1),
        (1, 0, 10, 0),
    ],
)
def test_a_page_too_short_or_too_long_is_refused(
    total: int, skip: int, limit: int, number: int
) -> None:
    """A page that lacks movies, or holds more than were asked for, is a bad response."""
    page = {"total": total, "items": [movie(n) for n in range(number)]}
    with pytest.raises(BadResponse):
        checked(page, skip=skip, limit=limit)


def test_the_reason_does_not_quote_the_provider() -> None:
    """What the provider wrote isn't in the exception's text."""
    with pytest.raises(BadResponse) as failure:
        checked_page(b"Traceback: secret", skip=0, limit=10)
    assert "secret" not in str(failure.value)
