"""The commands for accounts, tokens and the database, and their failures."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import time_machine
from accounts import PASSWORD, Accounts
from flask import Flask
from flask.testing import FlaskCliRunner
from helpers import THEN
from launcher import complete
from tables import rows

pytestmark = pytest.mark.slow

LIFETIME = 2592000  # seconds that a sign-in lasts


@pytest.mark.parametrize(
    "command",
    [
        ["tokens", "purge"],
        ["users", "create", "ada@example.com", "--password", PASSWORD],
        ["ratings", "check"],
        ["ratings", "rebuild"],
        ["cache", "warm"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_commands_report_a_database_that_is_not_migrated_in_one_line(
    make_app: Callable[..., Flask], tmp_path: Path, command: list[str]
) -> None:
    app = make_app(DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    failed = app.test_cli_runner().invoke(args=command)
    assert failed.exit_code == 1
    told = failed.stderr.splitlines()[-1]
    assert told.startswith("Error: The database failed: ")
    assert "no such table" in told
    assert told.endswith(". Run `flask --app wsgi db upgrade`")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_commands_report_an_unreachable_database_in_one_line(
    make_app: Callable[..., Flask], database_url: str
) -> None:
    app = make_app(DATABASE_URL="postgresql://postgres@127.0.0.1:1/movies")
    failed = app.test_cli_runner().invoke(args=["tokens", "purge"])
    assert failed.exit_code == 1
    assert "Error: The database failed: connection failed" in failed.stderr
    assert "Traceback" not in failed.output


def test_purge_deletes_expired_sign_ins_only(app: Flask, runner: FlaskCliRunner) -> None:
    with time_machine.travel(THEN, tick=False) as clock:
        accounts = Accounts(app.test_client())
        accounts.headers("ada@example.com")
        clock.shift(LIFETIME - 60)
        accounts.sign_in("ada@example.com")
        clock.shift(60 + 10)  # the leeway
        purged = runner.invoke(args=["tokens", "purge"])
        assert (purged.exit_code, purged.stdout) == (0, "1 sign-in purged\n")
        assert rows(app, "SELECT count(*) FROM sign_ins") == [(1,)]
        assert runner.invoke(args=["tokens", "purge"]).stdout == "0 sign-ins purged\n"


def test_create_makes_an_account_that_can_sign_in(app: Flask, runner: FlaskCliRunner) -> None:
    names = ["--first-name", "Ada", "--last-name", "Lovelace"]
    made = runner.invoke(
        args=["users", "create", "ada@example.com", "--password", PASSWORD, *names]
    )
    assert made.exit_code == 0
    assert made.stdout == "account 1 created\n"
    client = app.test_client()
    access = Accounts(client).sign_in("ada@example.com")["access"]
    me = client.get("/api/v1/users/me/", headers={"Authorization": f"Bearer {access}"})
    assert me.get_json() == {
        "id": 1,
        "email": "ada@example.com",
        "first_name": "Ada",
        "last_name": "Lovelace",
    }


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_commands_report_an_unmigrated_postgresql(
    make_app: Callable[..., Flask], database_url: str
) -> None:
    app = make_app(DATABASE_URL=database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE sign_ins RENAME TO elsewhere")
        try:
            failed = app.test_cli_runner().invoke(args=["tokens", "purge"])
        finally:
            connection.execute("ALTER TABLE elsewhere RENAME TO sign_ins")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].endswith(". Run `flask --app wsgi db upgrade`")


@pytest.mark.parametrize(
    ("email", "password", "told"),
    [
        ("ADA@example.com", PASSWORD, "An account with this email address already exists."),
        ("grace@example.com", "short", "password: Length must be between 8 and 128."),
        ("grace@example.com", "password", "password: This password is too easy to guess."),
    ],
)
def test_create_reports_invalid_members(
    app: Flask, runner: FlaskCliRunner, email: str, password: str, told: str
) -> None:
    """It exits with 1 and creates nothing."""
    Accounts(app.test_client()).register("ada@example.com")
    failed = runner.invoke(args=["users", "create", email, "--password", password])
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith(f"Error: {told}")
    assert rows(app, "SELECT count(*) FROM users") == [(1,)]


def test_create_checks_the_address_before_it_prompts_for_the_password(
    runner: FlaskCliRunner,
) -> None:
    failed = runner.invoke(args=["users", "create", "grace"], input="")
    assert failed.exit_code == 2
    assert failed.stderr.splitlines()[-1] == (
        "Error: Invalid value for 'EMAIL': An email address must have an @-sign."
    )
    assert "Password" not in failed.output


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (
            ["users", "create", "ada@example.com", "--password", PASSWORD],
            {"id": 1, "email": "ada@example.com"},
        ),
        (["tokens", "purge"], {"purged": 0}),
        (["ratings", "check"], {"wrong": 0}),
        (["ratings", "rebuild"], {"rebuilt": 0}),
        (["cache", "warm"], {"movies": 104}),
        (["cache", "clear"], {"cleared": 0}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_every_command_prints_json_on_request(
    runner: FlaskCliRunner, command: list[str], result: dict[str, Any]
) -> None:
    done = runner.invoke(args=[*command, "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, result)


def flask(*args: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """`flask` in a process of its own."""
    environment = {**os.environ, "MOVIES_CONFIG": "development", **settings}
    return complete("flask", "--app", "wsgi", *args, environment=environment)


def test_commands_print_their_result_only(tmp_path: Path) -> None:
    done = flask("cache", "clear", INSTANCE_DIR=str(tmp_path))
    assert (done.stdout, done.stderr) == ("0 pages cleared\n", "")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://postgres@127.0.0.1:1/movies", "Connection refused"),
        (
            "postgresql://127.0.0.1:1/movies?speed=high",
            'invalid connection option "speed"',
        ),
        ("sqlite:////dev/null/movies.sqlite3", "unable to open database file"),
    ],
)
def test_a_migration_reports_an_unreachable_database_in_one_line(
    tmp_path: Path, url: str, reason: str
) -> None:
    done = flask("db", "upgrade", INSTANCE_DIR=str(tmp_path), DATABASE_URL=url)
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: The database failed: ")
    assert reason in line
    assert done.returncode == 1


def test_a_migration_reports_a_locked_database_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "movies.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        url = f"sqlite:///{path}?timeout=0.1"
        done = flask("db", "upgrade", INSTANCE_DIR=str(tmp_path), DATABASE_URL=url)
    assert done.stderr == "Error: The database failed: SQLITE_BUSY: database is locked\n"
    assert done.returncode == 1
