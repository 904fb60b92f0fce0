"""Commands, beside those of Flask and its extensions. Each calls a service."""

import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup
from marshmallow import ValidationError
from prometheus_client import CollectorRegistry, multiprocess
from redis import RedisError
from sqlalchemy.exc import DBAPIError

from movies.auth import service as auth
from movies.database import without_timeouts
from movies.extensions import db
from movies.movies import tallies
from movies.movies.registry import november7, remember
from movies.november7 import upkeep
from movies.november7.errors import Unavailable
from movies.users import service as users
from movies.users.schemas import UserCreateSchema


class Group(AppGroup):
    """Commands that fail with a message where a store fails, not with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises ClickException."""
        try:
            return super().invoke(ctx)
        except DBAPIError as error:
            raise click.ClickException(f"The database failed: {error.orig}") from None
        except (RedisError, sqlite3.Error) as error:
            raise click.ClickException(f"The provider cache failed: {error}") from None


cache = Group("cache", help="The cache of November 7's pages.")
tokens = Group("tokens", help="Sign-ins and their tokens.")
accounts = Group("users", help="Accounts.")
ratings = Group("ratings", help="The tallies of the votes.")


def init_app(app: Flask) -> None:
    """Give `flask` these commands."""
    for group in (cache, tokens, accounts, ratings):
        app.cli.add_command(group)


@cache.command("stats")
def cache_stats() -> None:
    """Show how many pages there are, how fresh and how large, and how often they were hit."""
    stats = upkeep.stats(november7(), hits=_hits())
    for name, value in stats.items():
        click.echo(f"{name:<9} {value}")


def _hits() -> Counter[str]:
    """How many look-ups had each result, in all workers since the server started."""
    hits: Counter[str] = Counter()
    for directory in Path(current_app.config["INSTANCE_DIR"], "metrics").glob("*"):
        workers = CollectorRegistry()
        multiprocess.MultiProcessCollector(workers, str(directory))  # type: ignore[no-untyped-call]
        for metric in workers.collect():
            for sample in metric.samples:
                if sample.name == "november7_cache_total":
                    hits[sample.labels["result"]] += int(sample.value)
    return hits


@cache.command("clear")
@click.option("--query", help="Only the pages of this search.")
def cache_clear(query: str | None) -> None:
    """Forget pages, so that the next search asks November 7."""
    click.echo(f"{upkeep.clear(november7(), query)} pages cleared")


@cache.command("warm")
def cache_warm() -> None:
    """Fetch the whole catalogue anew, one request at a time, and remember its movies."""
    movies = 0
    try:
        walk = november7().walk(refresh=True)
        first = next(walk)
        with click.progressbar(length=first.total, label="Fetching") as bar:
            for page in (first, *walk):
                remember(page.movies)
                movies += len(page.movies)
                bar.update(len(page.movies))
    except Unavailable as error:
        raise click.ClickException(f"November 7 failed after {movies} movies: {error}") from None
    click.echo(f"{movies} movies are warm")


@tokens.command("purge")
def tokens_purge() -> None:
    """Delete expired sign-ins."""
    purged = 0
    with click.progressbar(auth.purge(), label="Purging", file=sys.stderr) as batches:
        for size in batches:
            purged += size
    click.echo(f"{purged} sign-ins purged")


@accounts.command("create")
@click.argument("email")
@click.password_option()
@click.option("--first-name", default="")
@click.option("--last-name", default="")
def users_create(**account: str) -> None:
    """Create an account."""
    try:
        user = users.register(**UserCreateSchema().load(account))
    except ValidationError as error:
        faults = error.normalized_messages()  # type: ignore[no-untyped-call]
        lines = [f"{member}: {' '.join(texts)}" for member, texts in faults.items()]
        raise click.ClickException("\n".join(lines)) from None
    except users.AddressTaken:
        raise click.ClickException("An account with this email address already exists.") from None
    click.echo(f"account {user.id} created")


@ratings.command("check")
def ratings_check() -> None:
    """Say whether every tally is the count of its ratings; exit with 1 where not."""
    without_timeouts(db.session.connection())
    if wrong := tallies.disagreements():
        raise click.ClickException(
            f"{wrong} movies have a wrong tally; see `flask ratings rebuild`"
        )
    click.echo("every tally agrees with its ratings")


@ratings.command("rebuild")
def ratings_rebuild() -> None:
    """Make every tally anew from the ratings."""
    click.echo(f"{tallies.rebuild()} tallies rebuilt")
