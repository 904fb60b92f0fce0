"""Pagination of lists: pages and the links between them."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import BigInteger, ScalarSelect, Select, Subquery, bindparam

from movies.database import Statement
from movies.extensions import db
from movies.urls import page_url

MAX_OFFSET = 2**31 - 1  # no list is longer


class NoSuchPage(Exception):
    """The list has fewer pages."""


def rows_of_page(ordered: Select[*tuple[Any, ...]]) -> Subquery:
    """The rows of one page of an ordered SELECT.

    Other tables are joined to these rows only, and not to those of the pages before.
    """
    return (
        ordered.limit(bindparam("page_size", type_=BigInteger))
        .offset(bindparam("offset", type_=BigInteger))
        .subquery("page")
    )


def listing(page: Select[*tuple[Any, ...]], total: ScalarSelect[int]) -> Statement:
    """A statement for `paginate`: one page in order, and the number of rows of all pages."""
    return Statement(page.add_columns(total.label("total")))


def paginate(
    statement: Statement,
    as_item: Callable[[Any], dict[str, Any]],
    *,
    page: int,
    page_size: int,
    **parameters: Any,
) -> dict[str, Any]:
    """One page of a `listing`, as `page_schema` describes it. Raises NoSuchPage."""
    rows = db.fetch_all(
        statement, page_size=page_size, offset=offset_of(page, page_size), **parameters
    )
    total = rows[0].total if rows else 0
    return page_of([as_item(row) for row in rows], total, page, page_size)


def offset_of(page: int, page_size: int) -> int:
    """The number of results before `page`. Raises NoSuchPage if no list is that long."""
    offset = (page - 1) * page_size
    if offset > MAX_OFFSET:
        raise NoSuchPage
    return offset


def page_of(results: Sequence[Any], count: int, page: int, page_size: int) -> dict[str, Any]:
    """A page as `page_schema` describes it, linked by the URL of the request.

    Raises NoSuchPage past the end of the list. Page 1 of an empty list exists.
    """
    if page > 1 and not results:
        raise NoSuchPage
    return {
        "count": count,
        "next": page_url(page + 1) if page * page_size < count else None,
        "previous": page_url(page - 1) if page > 1 else None,
        "results": results,
    }
