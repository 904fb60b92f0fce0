"""Tables of movies and ratings."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Enum, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from movies.database import BigId, UtcDateTime
from movies.extensions import db


class RatingType(StrEnum):
    """The two ways to vote."""

    UPVOTE = "UPVOTE"
    DOWNVOTE = "DOWNVOTE"


VOTED = text("title IS NOT NULL AND upvotes + downvotes > 0")


# The columns of a movie that November 7 sends.
CONTENT = ("id", "title", "description", "image_url", "rating")


class Movie(db.Model):
    """A movie that November 7 has sent, or that somebody rated, with the tally of its votes.

    `title` is null until November 7 has sent the movie, and never null afterwards. `upvotes` and
    `downvotes` are the numbers of its ratings, and `score` is the lower bound of their Wilson
    interval; only `tallies` and `votes` change these three.
    """

    __tablename__ = "movies"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    title: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    image_url: Mapped[str | None] = mapped_column(Text)
    rating: Mapped[float | None]
    first_seen: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime | None] = mapped_column(UtcDateTime)
    upvotes: Mapped[int] = mapped_column(default=0, server_default="0")
    downvotes: Mapped[int] = mapped_column(default=0, server_default="0")
    score: Mapped[float] = mapped_column(default=0.0, server_default="0")

    __table_args__ = (
        Index(
            "ix_movies_best_voted",
            score.desc(),
            upvotes.desc(),
            id,
            postgresql_where=VOTED,
            sqlite_where=VOTED,
        ),
    )


class VotedMovies(db.Model):
    """The number of movies that have votes, as the sum of several rows.

    Triggers of the table `movies` keep it (migration 0004), each session in a row of its own, so
    that two votes rarely wait for the same row.
    """

    __tablename__ = "voted_movies"

    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class Rating(db.Model):
    """A user's vote on a movie."""

    __tablename__ = "ratings"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    movie_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("movies.id"), index=True)
    rating_type: Mapped[RatingType] = mapped_column(
        Enum(RatingType, native_enum=False, create_constraint=True, length=8, name="rating_type")
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (
        UniqueConstraint("user_id", "movie_id"),
        Index("ix_ratings_newest", user_id, created_at.desc(), id.desc()),
        {"sqlite_autoincrement": True},
    )
