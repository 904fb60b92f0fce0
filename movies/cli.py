"""The `flask` commands of this project. Each calls a service.

A command writes its result to standard output, with `--json` as JSON. Errors and progress go to
standard error. It exits with 0 on success, 1 on failure, and 2 on wrong usage.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError

from movies import provider
from movies.auth import service as auth
from movies.database import explain, without_timeouts
from movies.extensions import db
from movies.metrics import Workers
from movies.movies import tallies
from movies.movies.registry import record
from movies.november7.blocks import key_prefix
from movies.november7.errors import Unavailable
from movies.november7.store import STORE_ERRORS
from movies.users import service as users
from movies.users.schemas import UserCreateSchema


class Group(AppGroup):
    """A group of commands that accept `--json`, and report a failed store in one line."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, with the option `--json`."""
        option = click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=lambda context, _, value: context.meta.update(json=value),
            help="Print the result as JSON.",
        )
        cmd.params.append(option)
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises ClickException."""
        try:
            return super().invoke(ctx)
        except DBAPIError as error:
            raise click.ClickException(f"The database failed: {explain(error)}") from None
        except STORE_ERRORS as error:
            raise click.ClickException(f"The provider cache failed: {error}") from None


def report(text: str, **result: Any) -> None:
    """Print the result of a command, as text or as JSON."""
    as_json = click.get_current_context().meta["json"]
    click.echo(json.dumps(result) if as_json else text)


def pluralize(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_running() -> bool:
    """Whether this process runs a command that is not a server."""
    context = click.get_current_context(silent=True)
    return context is not None and context.info_name != "run"


cache = Group("cache", help="Manage the cache of November 7's pages.")
tokens = Group("tokens", help="Manage sign-ins.")
accounts = Group("users", help="Manage accounts.")
ratings = Group("ratings", help="Check and rebuild the vote counts of movies.")


def init_app(app: Flask) -> None:
    """Add the commands to `flask`."""
    for group in (cache, tokens, accounts, ratings):
        app.cli.add_command(group)


@cache.command("stats")
def cache_stats() -> None:
    """Show the number of entries, their size in bytes and the hit rate."""
    fresh = stale = size = 0
    now = time.time()
    for _, expires_at, entry_size in provider.client().cache.store.store.entries():
        fresh += now < expires_at
        stale += now >= expires_at
        size += entry_size
    lookups = _lookups()
    total = lookups.total()
    rate = (total - lookups["miss"]) / total if total else None
    lines = [f"entries   {fresh + stale}", f"fresh     {fresh}", f"stale     {stale}"]
    lines += [f"size      {size} bytes"]
    lines += [f"hit rate  {'not known' if rate is None else format(rate, '.1%')}"]
    counts = {"entries": fresh + stale, "fresh": fresh, "stale": stale, "size": size}
    report("\n".join(lines), **counts, hit_rate=rate)


def _lookups() -> Counter[str]:
    """The number of cache lookups by result, in all workers since the server started."""
    lookups: Counter[str] = Counter()
    for directory in Path(current_app.config["INSTANCE_DIR"], "metrics").glob("*"):
        for metric in Workers(directory).collect():
            for sample in metric.samples:
                if sample.name == "november7_cache_total":
                    lookups[sample.labels["result"]] += int(sample.value)
    return lookups


@cache.command("clear")
@click.option("--query", metavar="TEXT", help="Delete only the pages of this search.")
def cache_clear(query: str | None) -> None:
    """Delete cached pages, so that the next search asks November 7."""
    client = provider.client()
    prefix = "" if query is None else key_prefix(client.url, query.strip())
    cleared = client.cache.store.store.delete(prefix)
    report(f"{pluralize(cleared, 'page')} cleared", cleared=cleared)


@cache.command("warm")
def cache_warm() -> None:
    """Fetch the whole catalogue from November 7, one request at a time."""
    movies = 0
    try:
        walk = provider.client().walk(refresh=True)
        first = next(walk)
        with click.progressbar(length=first.total, label="Fetching", file=sys.stderr) as bar:
            for page in (first, *walk):
                record(page.movies)
                movies += len(page.movies)
                bar.update(len(page.movies))
    except Unavailable as error:
        raise click.ClickException(
            f"November 7 failed after {pluralize(movies, 'movie')}: {error}"
        ) from None
    report(f"{pluralize(movies, 'movie')} cached", movies=movies)


@tokens.command("purge")
def tokens_purge() -> None:
    """Delete expired sign-ins."""
    purged = 0
    with click.progressbar(auth.purge(), label="Purging", file=sys.stderr) as batches:
        for size in batches:
            purged += size
    report(f"{pluralize(purged, 'sign-in')} purged", purged=purged)


def _check_email(_context: click.Context, _parameter: click.Parameter, email: str) -> str:
    """Refuse an invalid email address before prompting for the password."""
    try:
        UserCreateSchema(only=["email"]).load({"email": email})
    except ValidationError as error:
        raise click.BadParameter(" ".join(error.messages_dict["email"])) from None
    return email


@accounts.command("create")
@click.argument("email", callback=_check_email)
@click.password_option(help="Prompted for if not given.")
@click.option("--first-name", default="", metavar="TEXT")
@click.option("--last-name", default="", metavar="TEXT")
def users_create(**account: str) -> None:
    """Create an account with the email address EMAIL."""
    try:
        user = users.register(**UserCreateSchema().load(account))
    except ValidationError as error:
        faults = error.normalized_messages()  # type: ignore[no-untyped-call]
        lines = [f"{member}: {' '.join(texts)}" for member, texts in faults.items()]
        raise click.ClickException("\n".join(lines)) from None
    except users.EmailTaken:
        raise click.ClickException("An account with this email address already exists.") from None
    report(f"account {user.id} created", id=user.id, email=user.email)


@accounts.command("purge")
def users_purge() -> None:
    """Finish interrupted deletions of accounts."""
    purged = users.remove_closed()
    report(f"{pluralize(purged, 'account')} purged", purged=purged)


@ratings.command("check")
def ratings_check() -> None:
    """Compare every movie's vote counts with its ratings; exit with 1 if any differ."""
    without_timeouts(db.session.connection())
    if wrong := tallies.count_wrong_movies():
        raise click.ClickException(
            f"the vote counts of {pluralize(wrong, 'movie')} are wrong; run `flask ratings rebuild`"
        )
    if missing := tallies.total_error():
        raise click.ClickException(
            f"the number of rated movies is wrong by {missing}; run `flask ratings rebuild`"
        )
    report("all vote counts match the ratings", wrong=0)


@ratings.command("rebuild")
def ratings_rebuild() -> None:
    """Count the votes of every movie again."""
    rebuilt = tallies.rebuild()
    report(f"{pluralize(rebuilt, 'movie')} recounted", rebuilt=rebuilt)
