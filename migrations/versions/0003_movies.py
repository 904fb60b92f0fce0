"""The table of movies, which replaces the table of tallies and adds a score.

Every movie that was rated gets a row. Its title is unknown until November 7 sends the movie, in a
search or for `flask cache warm`.

Revises: 0002
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0003"
down_revision = "0002"

VOTED = sa.text("title IS NOT NULL AND upvotes + downvotes > 0")
Z = 1.959963984540054  # the 97.5th percentile of the normal distribution


def upgrade() -> None:
    movies = op.create_table(
        "movies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text()),
        sa.Column("description", sa.Text()),
        sa.Column("image_url", sa.Text()),
        sa.Column("rating", sa.Double()),
        sa.Column("first_seen", sa.DateTime(timezone=True)),
        sa.Column("last_seen", sa.DateTime(timezone=True)),
        sa.Column("upvotes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("downvotes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("score", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_movies"),
    )
    tallies = sa.table(
        "tallies",
        sa.column("movie_id", sa.Uuid()),
        sa.column("upvotes", sa.Integer()),
        sa.column("downvotes", sa.Integer()),
    )
    ratings = sa.table("ratings", sa.column("movie_id", sa.Uuid()))
    op.execute(
        movies.insert().from_select(
            ["id", "upvotes", "downvotes"],
            sa.select(tallies.c.movie_id, tallies.c.upvotes, tallies.c.downvotes),
        )
    )
    op.execute(
        movies.insert().from_select(
            ["id"],
            sa.select(ratings.c.movie_id)
            .where(ratings.c.movie_id.not_in(sa.select(tallies.c.movie_id)))
            .distinct(),
        )
    )
    _score(movies)
    op.create_index(
        "ix_movies_best_voted",
        "movies",
        [sa.text("score DESC"), sa.text("upvotes DESC"), "id"],
        postgresql_where=VOTED,
        sqlite_where=VOTED,
    )
    with _ratings() as batch:
        batch.create_foreign_key("fk_ratings_movie_id_movies", "movies", ["movie_id"], ["id"])
    op.drop_table("tallies")


@contextmanager
def _ratings() -> Iterator[BatchOperations]:
    """Alter the table of ratings. SQLite copies it, and would lose AUTOINCREMENT and an index."""
    is_copied = op.get_bind().dialect.name == "sqlite"
    if is_copied:
        op.drop_index("ix_ratings_newest", "ratings")
    with op.batch_alter_table("ratings", table_kwargs={"sqlite_autoincrement": True}) as batch:
        yield batch
    if is_copied:
        columns = ["user_id", sa.text("created_at DESC"), sa.text("id DESC")]
        op.create_index("ix_ratings_newest", "ratings", columns)


def _score(movies: sa.Table) -> None:
    """Set the score of the movies that have votes, as movies/movies/tallies.py does.

    The formula is repeated, because a migration must not change when the application does.
    """
    connection = op.get_bind()
    voted = connection.execute(
        sa.select(movies.c.upvotes, movies.c.downvotes)
        .where(movies.c.upvotes + movies.c.downvotes > 0)
        .distinct()
    ).all()
    for ups, downs in voted:
        count = ups + downs
        root = math.sqrt(Z * Z + 4 * ups * downs / count)
        bound = (2 * ups + Z * Z - Z * root) / (2 * (count + Z * Z))
        connection.execute(
            movies.update()
            .where(movies.c.upvotes == ups, movies.c.downvotes == downs)
            .values(score=bound)
        )


def downgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("movie_id", sa.Uuid(), nullable=False),
        sa.Column("upvotes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("downvotes", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("movie_id", name="pk_tallies"),
    )
    op.execute(
        "INSERT INTO tallies (movie_id, upvotes, downvotes) "
        "SELECT id, upvotes, downvotes FROM movies WHERE upvotes + downvotes > 0"
    )
    with _ratings() as batch:
        batch.drop_constraint("fk_ratings_movie_id_movies", type_="foreignkey")
    op.drop_table("movies")
