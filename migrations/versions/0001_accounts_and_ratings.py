"""Accounts, ratings, and a tally of each movie's votes.

Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", Id, nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("email_key", sa.String(1024), nullable=False),
        sa.Column("first_name", sa.String(150), nullable=False),
        sa.Column("last_name", sa.String(150), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email_key", name="uq_users_email_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ratings",
        sa.Column("id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("movie_id", sa.Uuid(), nullable=False),
        sa.Column("rating_type", sa.String(8), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ratings"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_ratings_user_id_users", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("user_id", "movie_id", name="uq_ratings_user_id_movie_id"),
        sa.CheckConstraint("rating_type IN ('UPVOTE', 'DOWNVOTE')", name="rating_type"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ratings_movie_id", "ratings", ["movie_id"])
    op.create_index(
        "ix_ratings_newest", "ratings", ["user_id", sa.text("created_at DESC"), sa.text("id DESC")]
    )
    op.create_table(
        "tallies",
        sa.Column("movie_id", sa.Uuid(), nullable=False),
        sa.Column("upvotes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("downvotes", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("movie_id", name="pk_tallies"),
    )


def downgrade() -> None:
    op.drop_table("tallies")
    op.drop_table("ratings")
    op.drop_table("users")
