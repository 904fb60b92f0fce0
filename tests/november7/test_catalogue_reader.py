"""Reading the whole catalogue: walks through it, and lookups of one movie."""

from collections.abc import Callable, Iterable

import pytest
import time_machine
from helpers import eventually, in_threads

from movies.november7.blocks import Page
from movies.november7.catalogue_reader import EVIDENCE_SECONDS
from movies.november7.client import Client
from movies.november7.errors import Busy, TimedOut, Unavailable
from november7.clients import SHORT, STRANGER, TTL, fail, movie
from stand_in.catalogue import Catalogue
from stand_in.server import Faults, StandIn

MOVIES = [movie(number) for number in range(2300)]


@pytest.fixture
def many(client: Client, stand_in: StandIn) -> Client:
    """A client of a catalogue that takes three requests."""
    stand_in.catalogue = Catalogue(MOVIES)
    return client


def size(blocks: Iterable[Page]) -> int:
    return sum(len(block.movies) for block in blocks)


def find(client: Client, number: int) -> bool:
    """Whether movie `number` is found."""
    return client.find_movie(movie(number)["id"]) is not None


def test_a_walk_returns_every_movie(many: Client, stand_in: StandIn) -> None:
    """In as few requests as possible, one at a time."""
    assert size(many.walk()) == 2300
    assert (len(stand_in.requests), stand_in.most_in_flight) == (3, 1)


def test_a_walk_takes_fresh_blocks_from_the_cache(many: Client, stand_in: StandIn) -> None:
    list(many.walk())
    list(many.walk())
    assert len(stand_in.requests) == 3


def test_a_walk_that_refreshes_fetches_every_block(many: Client, stand_in: StandIn) -> None:
    list(many.walk())
    assert size(many.walk(refresh=True)) == 2300
    assert len(stand_in.requests) == 6


def test_a_walk_takes_no_stale_block(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    list(client.walk())
    clock.shift(TTL)
    list(client.walk())
    assert len(stand_in.requests) == 2


@pytest.mark.slow
def test_a_walk_ends_at_the_deadline_of_a_block(client: Client, stand_in: StandIn) -> None:
    stand_in.faults = Faults(hang=1)
    client.deadline = SHORT
    with pytest.raises((TimedOut, Busy)):  # Busy if no thread has started by then
        list(client.walk())


def test_browsing_and_walking_share_their_blocks(many: Client, stand_in: StandIn) -> None:
    list(many.walk())
    page = many.search(None, skip=995, limit=10)
    assert [movie["id"] for movie in page.movies] == [movie["id"] for movie in MOVIES[995:1005]]
    assert (page.source, page.total) == ("hit", 2300)
    assert len(stand_in.requests) == 3


def test_a_movie_is_found_without_reading_further(many: Client, stand_in: StandIn) -> None:
    found = many.find_movie(movie(1500)["id"])
    assert found == movie(1500)
    assert len(stand_in.requests) == 2


def test_a_movie_of_a_stale_block_is_found_without_a_request(
    client: Client, stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """It was in the catalogue, and movies seldom leave it."""
    (block,) = client.walk()
    clock.shift(TTL + 1)
    assert client.find_movie(block.movies[7]["id"]) == block.movies[7]
    assert len(stand_in.requests) == 1


def test_unknown_ids_cost_one_walk(many: Client, stand_in: StandIn) -> None:
    for found in in_threads(10, lambda: many.find_movie(STRANGER)):
        assert found.result() is None
    assert many.find_movie(STRANGER) is None
    assert len(stand_in.requests) == 3


def test_a_movie_that_was_added_is_found_within_a_minute(
    make_client: Callable[..., Client], stand_in: StandIn, clock: time_machine.Traveller
) -> None:
    """Long before the catalogue's blocks are stale."""
    client = make_client(ttl=3600)
    assert not find(client, 1)
    stand_in.catalogue = Catalogue([*stand_in.catalogue.movies, movie(1)])
    clock.shift(EVIDENCE_SECONDS - 1)
    assert not find(client, 1)
    clock.shift(1)
    assert find(client, 1)


def test_a_movie_that_was_added_is_found_after_a_clear(
    make_client: Callable[..., Client], stand_in: StandIn
) -> None:
    client = make_client(memory=0)
    assert not find(client, 1)
    stand_in.catalogue = Catalogue([*stand_in.catalogue.movies, movie(1)])
    client.cache.store.store.delete("")
    assert find(client, 1)


class Shrinking(Catalogue):
    """A catalogue that loses its first movie after each of its first `losses` answers."""

    losses = 0

    def answer(self, method: str, target: str):  # type: ignore[no-untyped-def]
        answer = super().answer(method, target)
        if self.losses:
            self.losses -= 1
            self.movies = self.movies[1:]
        return answer


def test_a_movie_is_found_while_the_catalogue_shrinks(many: Client, stand_in: StandIn) -> None:
    """A removal moves movie 1000 into the block that was read before it."""
    shrinking = Shrinking(MOVIES)
    shrinking.losses = 1
    stand_in.catalogue = shrinking
    assert find(many, 1000)
    assert not find(many, 0)


def test_a_catalogue_that_changes_during_every_walk_is_unavailable(
    many: Client, stand_in: StandIn
) -> None:
    shrinking = Shrinking(MOVIES)
    shrinking.losses = 100
    stand_in.catalogue = shrinking
    with pytest.raises(Unavailable):
        many.find_movie(STRANGER)


def test_a_failed_walk_does_not_prove_that_a_movie_is_absent(
    many: Client, stand_in: StandIn
) -> None:
    assert find(many, 1)  # in the first block
    stand_in.faults = Faults(refuse=1, codes=(422,))
    with pytest.raises(Unavailable):
        many.find_movie(STRANGER)


def test_an_unknown_id_in_an_outage_reads_no_block(
    client: Client,
    stand_in: StandIn,
    clock: time_machine.Traveller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused as fast as a search; a movie of the catalogue is still found."""
    assert client.find_movie(STRANGER) is None
    clock.shift(TTL)
    stand_in.faults = Faults(reset=1)
    fail(client)
    known = stand_in.catalogue.movies[3]["id"]
    assert client.find_movie(known) is not None
    monkeypatch.setattr(client.cache.store, "read", None)
    assert eventually(lambda: client.breaker.is_open)
    with pytest.raises(Unavailable):
        client.find_movie(movie(9)["id"])
