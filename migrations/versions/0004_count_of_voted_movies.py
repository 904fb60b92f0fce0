"""A running count of the movies that have votes, so that the top list does not count them.

Triggers update the count, so it is correct whichever release changes `movies`. It is the sum of
SHARDS rows, so that two transactions on PostgreSQL rarely wait for the same row. The triggers run
at the end of a statement, when it has locked its movies.

The migration waits for transactions that have changed `movies`. New ones wait until the movies are
counted, which takes well under a second for a million movies.

Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

SHARDS = 16
TRIGGERS = {  # name: (event, condition, change of the count)
    "voted_movie_inserted": ("INSERT", "{new}", 1),
    "voted_movie_gained": ("UPDATE OF title, upvotes, downvotes", "{new} AND NOT {old}", 1),
    "voted_movie_lost": ("UPDATE OF title, upvotes, downvotes", "{old} AND NOT {new}", -1),
    "voted_movie_deleted": ("DELETE", "{old}", -1),
}
VOTED = "({row}.title IS NOT NULL AND {row}.upvotes + {row}.downvotes > 0)"
OLD, NEW = VOTED.format(row="OLD"), VOTED.format(row="NEW")


def upgrade() -> None:
    counts = op.create_table(
        "voted_movies",
        sa.Column("shard", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("count", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("shard", name="pk_voted_movies"),
    )
    op.bulk_insert(counts, [{"shard": shard} for shard in range(SHARDS)])
    if op.get_bind().dialect.name == "postgresql":
        _create_postgresql_triggers()
    else:
        _create_sqlite_triggers()
    op.execute(
        "UPDATE voted_movies SET count = (SELECT count(*) FROM movies"
        " WHERE title IS NOT NULL AND upvotes + downvotes > 0) WHERE shard = 0"
    )


def _create_postgresql_triggers() -> None:
    op.execute(
        f"""
        CREATE FUNCTION count_voted_movie() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE voted_movies SET count = count + TG_ARGV[0]::int
                WHERE shard = pg_backend_pid() % {SHARDS};
            RETURN NULL;
        END $$
        """  # noqa: S608
    )
    for name, (event, condition, change) in TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} ON movies FOR EACH ROW"
            f" WHEN ({condition.format(old=OLD, new=NEW)})"
            f" EXECUTE FUNCTION count_voted_movie('{change}')"
        )
    op.execute(
        """
        CREATE FUNCTION forget_voted_movies() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE voted_movies SET count = 0;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER voted_movies_truncated AFTER TRUNCATE ON movies"
        " FOR EACH STATEMENT EXECUTE FUNCTION forget_voted_movies()"
    )


def _create_sqlite_triggers() -> None:
    for name, (event, condition, change) in TRIGGERS.items():
        count = f"UPDATE voted_movies SET count = count + {change} WHERE shard = 0"  # noqa: S608
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} ON movies"
            f" WHEN {condition.format(old=OLD, new=NEW)} BEGIN {count}; END"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for name in (*TRIGGERS, "voted_movies_truncated"):
            op.execute(f"DROP TRIGGER {name} ON movies")
        op.execute("DROP FUNCTION count_voted_movie()")
        op.execute("DROP FUNCTION forget_voted_movies()")
    else:
        for name in TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
    op.drop_table("voted_movies")
