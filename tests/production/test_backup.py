"""The commands in docs/operations.md that back a database up and restore it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from launcher import ROOT
from private_postgresql import PrivatePostgresql
from served import Served, served

from production.traffic import MOVIES, traffic

pytestmark = pytest.mark.slow

VOTE = f"/api/v1/movies/{MOVIES[0]}/rating/"


def documented(heading: str) -> str:
    """The commands below a heading."""
    text = (ROOT / "docs/operations.md").read_text()
    section = text.split(f"### {heading}\n")[1]
    found = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def run(script: str, environment: dict[str, str], *programs: Path) -> str:
    """What a script prints, run in the checkout. It must succeed."""
    path = ":".join(map(str, [*programs, Path(sys.executable).parent, os.environ["PATH"]]))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def vote(api: Served, rating_type: str) -> None:
    assert api.ask("PUT", VOTE, json={"rating_type": rating_type}).ok


def voted(api: Served) -> str:
    return str(api.ask("GET", VOTE).json()["rating_type"])


@pytest.fixture
def on_postgresql(private_server: PrivatePostgresql, tmp_path: Path) -> Iterator[Served]:
    for name in ("movies_before", "movies_restored"):
        private_server.execute(f"CREATE DATABASE {name}")
    url = private_server.url.replace("/postgres", "/movies_before")
    with served(tmp_path, DATABASE_URL=url) as running:
        yield running


def test_postgresql_is_backed_up_under_traffic_and_restored(
    on_postgresql: Served, private_server: PrivatePostgresql, tmp_path: Path
) -> None:
    api, url = on_postgresql, private_server.url.replace("/postgres", "/movies_restored")
    environment = {**api.environment, "BACKUP": str(tmp_path / "movies.dump")}
    vote(api, "UPVOTE")
    with traffic(api.url):
        run(documented("Back up PostgreSQL"), environment, private_server.binaries)
    vote(api, "DOWNVOTE")  # later than the backup
    environment["DATABASE_URL"] = api.environment["DATABASE_URL"] = url
    printed = run(documented("Restore PostgreSQL"), environment, private_server.binaries)
    assert "all vote counts match the ratings" in printed
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) > 1 FROM ratings").fetchone() == (True,)
    api.stop()
    api.start()
    assert voted(api) == "UPVOTE"
    vote(api, "DOWNVOTE")


def test_sqlite_is_backed_up_under_traffic_and_restored(tmp_path: Path) -> None:
    with served(tmp_path) as api:
        environment = {**api.environment, "BACKUP": str(tmp_path / "movies.backup")}
        vote(api, "UPVOTE")
        with traffic(api.url):
            run(documented("Back up SQLite"), environment)
        vote(api, "DOWNVOTE")
        api.stop()
        printed = run(documented("Restore SQLite"), environment)
        assert "all vote counts match the ratings" in printed
        api.start()
        assert voted(api) == "UPVOTE"
        vote(api, "DOWNVOTE")
