"""Walks through the whole catalogue, and what is known after one."""

from collections.abc import Iterator

import pytest
import time_machine

from movies.november7.client import Client, Page
from movies.november7.errors import TimedOut, Unavailable
from movies.november7.sample.catalogue import Catalogue
from november7.clients import STRANGER, TTL, movie
from stand_in.server import Faults, StandIn


def total(pages: Iterator[Page]) -> int:
    return sum(len(page.movies) for page in pages)


@pytest.fixture
def many(stand_in: StandIn) -> int:
    """How many movies the provider holds: more than two requests bring."""
    stand_in.catalogue = Catalogue([movie(number) for number in range(2300)])
    return 2300


def test_a_walk_meets_every_movie(client: Client, stand_in: StandIn, many: int) -> None:
    """The whole catalogue in as few requests as there can be, one at a time."""
    client.deadline = 5
    assert total(client.walk()) == many
    assert (len(stand_in.requests), stand_in.most_in_flight) == (3, 1)


def test_a_walk_takes_fresh_pages_from_the_cache(
    client: Client, stand_in: StandIn, many: int
) -> None:
    """A second walk asks nothing, unless everything is wanted anew."""
    client.deadline = 5
    list(client.walk())
    list(client.walk())
    assert len(stand_in.requests) == 3
    list(client.walk(refresh=True))
    assert len(stand_in.requests) == 6


def test_a_walk_takes_no_stale_page(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """What is past its freshness is asked for again before it is said that a movie isn't there."""
    list(client.walk())
    clock.shift(TTL)
    assert [page.source for page in client.walk()] == ["miss"]


def test_a_walk_is_remembered_while_its_pages_are_fresh(
    client: Client, clock: time_machine.Traveller
) -> None:
    """Before a walk, and once its pages are stale, nothing is known to be absent."""
    known = [client.is_absent(STRANGER)]
    list(client.walk())
    for seconds in (TTL - 1, 1):
        clock.shift(seconds)
        known.append(client.is_absent(STRANGER))
    assert known == [False, True, False]


def test_what_a_walk_met_is_not_absent(client: Client) -> None:
    """A movie of the catalogue is never said not to be there."""
    (page,) = client.walk()
    assert not any(client.is_absent(movie["id"]) for movie in page.movies)


def test_a_walk_that_broke_off_is_none(client: Client, stand_in: StandIn, many: int) -> None:
    """Part of the catalogue proves nothing of what isn't in it."""
    client.deadline = 5
    next(client.walk())
    stand_in.faults = Faults(refuse=1, codes=(422,))
    with pytest.raises(Unavailable):
        list(client.walk())
    assert not client.is_absent(STRANGER)


def test_a_walk_ends_at_its_deadline(client: Client, stand_in: StandIn) -> None:
    """A deadline is one for all pages."""
    stand_in.faults = Faults(hang=1)
    with pytest.raises(TimedOut):
        list(client.walk(deadline=0.2))
