"""Check the port, then migrate the database, before `make run` and `make dev` serve."""

import sys

from flask.cli import cli

from config import Config
from movies.port import bind_error

if __name__ == "__main__":
    if error := bind_error(Config.HOST, Config.PORT):
        sys.exit(error)
    cli.main(["--app", "wsgi", "db", "upgrade"])
