"""Commands, beside those of Flask and its extensions. Each calls a service."""

import click
from flask import Flask
from flask.cli import AppGroup
from marshmallow import ValidationError

from movies.auth import service as auth
from movies.movies import tallies
from movies.movies.registry import november7, remember
from movies.november7 import upkeep
from movies.november7.errors import Unavailable
from movies.users import service as users
from movies.users.schemas import RegistrationSchema

cache = AppGroup("cache", help="The cache of November 7's pages.")
tokens = AppGroup("tokens", help="Sign-ins and their tokens.")
accounts = AppGroup("users", help="Accounts.")
ratings = AppGroup("ratings", help="The tallies of the votes.")


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


def _hits() -> dict[str, float]:
    """How many look-ups had each result, in all workers since the server started."""
    from movies.pages import registry

    return {
        sample.labels["result"]: sample.value
        for metric in registry().collect()
        for sample in metric.samples
        if sample.name == "november7_cache_total"
    }


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
    """Delete what is left of sign-ins that have expired."""
    click.echo(f"{auth.purge()} sign-ins purged")


@accounts.command("create")
@click.argument("email")
@click.password_option()
@click.option("--first-name", default="")
@click.option("--last-name", default="")
def users_create(**account: str) -> None:
    """Create an account."""
    try:
        user = users.register(**RegistrationSchema().load(account))
    except ValidationError as error:
        raise click.ClickException(str(error)) from None
    except users.AddressTaken:
        raise click.ClickException("There is an account with this address.") from None
    click.echo(f"account {user.id} created")


@ratings.command("check")
def ratings_check() -> None:
    """Say whether every tally is the count of its ratings; exit with 1 where not."""
    if wrong := tallies.disagreements():
        raise click.ClickException(
            f"{wrong} movies have a wrong tally; see `flask ratings rebuild`"
        )
    click.echo("every tally agrees with its ratings")


@ratings.command("rebuild")
def ratings_rebuild() -> None:
    """Make every tally anew from the ratings."""
    click.echo(f"{tallies.rebuild()} tallies rebuilt")
