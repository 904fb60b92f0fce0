"""Check the port, then bring the database up to date, before `make run` and `make dev` serve."""

import sys

from flask.cli import cli

from config import Config
from movies.port import refusal

if __name__ == "__main__":
    if refused := refusal(Config.HOST, Config.PORT):
        sys.exit(refused)
    cli.main(["--app", "wsgi", "db", "upgrade"])
