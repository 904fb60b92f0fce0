"""Cutting lists into pages, and linking them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func

from movies.extensions import db
from movies.urls import page_url

MAX_OFFSET = 2**31 - 1  # no list of ours or of November 7's is longer


class NoSuchPage(Exception):
    """The list ends before this page."""


def offset_of(page: int, page_size: int) -> int:
    """How many results come before `page`. Raises NoSuchPage where no list is that long."""
    offset = (page - 1) * page_size
    if offset > MAX_OFFSET:
        raise NoSuchPage
    return offset


def rows_of(statement: Select[Any], page: int, page_size: int) -> tuple[int, Sequence[Any]]:
    """How many rows an ordered `statement` has in all, and those of one page."""
    offset = offset_of(page, page_size)
    everything = statement.order_by(None).with_only_columns(
        func.count(), maintain_column_froms=True
    )
    total = db.session.scalar(everything) or 0
    rows = db.session.execute(statement.limit(page_size).offset(offset)).all() if total else []
    return total, rows


def page_of(results: Sequence[Any], count: int, page: int, page_size: int) -> dict[str, Any]:
    """The page as `page_schema` describes it, its links made from the request's own address.

    Raises NoSuchPage past the end; page 1 of nothing is a page.
    """
    if page > 1 and not results:
        raise NoSuchPage
    return {
        "count": count,
        "next": page_url(page + 1) if page * page_size < count else None,
        "previous": page_url(page - 1) if page > 1 else None,
        "results": results,
    }
