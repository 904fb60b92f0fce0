"""The command that runs the stand-in: `python -m stand_in --help`."""

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any

import click

from stand_in.server import Faults, StandIn


def _codes(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(code) for code in text.split(","))
    except ValueError:
        raise click.BadParameter("expected status codes, such as 400,429") from None


def _span(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, float]:
    least, _, most = text.partition(":")
    try:
        return float(least), float(most or least)
    except ValueError:
        raise click.BadParameter("expected seconds, such as 0.3 or 0.3:2.0") from None


def _share(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(name, metavar="SHARE", type=click.FloatRange(0, 1), default=0, help=text)


@click.command("november7")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8007, show_default=True, help="0: a free one."
)
@_share("--refuse", "Refused with one of --codes, although the request is valid.")
@click.option(
    "--codes",
    default="400,401,402,403,404,405,429",
    show_default=True,
    callback=_codes,
    help="Status codes of refusals.",
)
@click.option("--retry-after", metavar="TEXT", help="Retry-After header of refusals.")
@click.option(
    "--latency",
    metavar="SECONDS[:SECONDS]",
    default="0",
    show_default=True,
    callback=_span,
    help="Time before any answer, or its minimum and maximum.",
)
@_share("--hang", "Never answered.")
@_share("--malformed", "200 with JSON that breaks the contract.")
@_share("--html", "200 with an HTML page.")
@_share("--truncated", "Closed before the whole body is sent.")
@_share("--short", "200 with fewer items than the total promises.")
@_share("--bad-movie", "200 with one item that breaks the contract.")
@_share("--drip", "The correct body, one byte at a time.")
@click.option(
    "--drip-interval",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=Faults.drip_interval,
    show_default=True,
    help="Time between two bytes.",
)
@_share("--drip-headers", "The correct answer, with headers sent one byte at a time.")
@_share("--reset", "Connection reset instead of an answer.")
@_share("--error", "500 with a text that must not reach clients.")
@_share("--redirect", "307 to the same URL, endlessly.")
@click.option("--cookies", is_flag=True, help="Set a cookie, and refuse requests that send one.")
@click.option("--seed", type=int, help="Seed of the sequence of faults.")
@click.option("--verbose", is_flag=True, help="Log every request.")
def main(host: str, port: int, verbose: bool, **switches: Any) -> None:
    """Serve the sample catalogue like November 7.

    Every SHARE is the probability, from 0 to 1, that a valid request has that fault. A request has
    at most one fault. Stop with Ctrl-C or SIGTERM.
    """
    try:
        stand_in = StandIn(None, Faults(**switches), host, port, verbose=verbose)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        try:
            stand_in.start()
        except OSError as error:
            raise click.ClickException(f"cannot listen on {host}:{port}: {error}") from None
        click.echo(f"November 7's stand-in listens on {stand_in.url}")
        click.echo(f"Faults: {_described(stand_in.faults)}")
        threading.Event().wait()
    stand_in.stop()


def _described(faults: Faults) -> str:
    """The options that differ from their defaults."""
    changed = [
        f"{field.name}={value}"
        for field in fields(faults)
        if (value := getattr(faults, field.name)) != field.default
    ]
    return ", ".join(changed) or "good"


if __name__ == "__main__":
    main()
