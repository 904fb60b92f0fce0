"""The list of the best voted movies, at a thousand votes and at a million, in one run."""

import random
import statistics
import time
import uuid
from pathlib import Path

from sqlalchemy import insert, text, update

from bench.common import application, signed_in
from movies.extensions import db
from movies.movies.models import Movie
from movies.movies.tallies import lower_bound

CALLS = 200
SIZES = ((1_000, 1_000), (100_000, 1_000_000))  # movies, votes


def run(directory: Path) -> None:
    """Print the median of the first page and of a late one, at both sizes."""
    app = application(directory)
    headers = signed_in(app)
    client = app.test_client()
    dice = random.Random(7)
    held = 0
    for movies, votes in SIZES:
        with app.app_context():
            add_movies(dice, movies - held, votes)
        held = movies
        for page in (1, 50):
            taken = []
            for _ in range(CALLS):
                begun = time.perf_counter()
                answer = client.get(f"/api/v1/movies/top/?page={page}", headers=headers)
                taken.append(time.perf_counter() - begun)
                assert answer.status_code == 200, answer.text
            p50 = statistics.median(taken) * 1000
            print(f"  {votes:>9,} votes on {movies:>7,} movies, page {page:>2}: p50 {p50:.1f} ms")


def add_movies(dice: random.Random, count: int, votes: int) -> None:
    """Movies with about `votes` votes in all, as tallies: a list reads no ratings but one's own."""
    share = max(1, votes // max(1, count))
    rows = [
        {
            "id": uuid.UUID(int=dice.getrandbits(128), version=4),
            "title": f"Movie {number}",
            "upvotes": dice.randrange(2 * share + 1),
            "downvotes": dice.randrange(share + 1),
        }
        for number in range(count)
    ]
    for start in range(0, len(rows), 5000):
        db.session.execute(insert(Movie), rows[start : start + 5000])
    db.session.execute(update(Movie).values(score=lower_bound(Movie.upvotes, Movie.downvotes)))
    db.session.commit()
    with db.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
