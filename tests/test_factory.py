"""The application factory: derived settings, and the files of the instance directory."""

import logging
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from accounts import Accounts
from flask import Flask
from sockets import unix_socket
from sqlalchemy import make_url

from config import CONFIGS
from movies import create_app, settings

Create = Callable[..., Flask]


@pytest.fixture
def create(settings: dict[str, Any], tmp_path: Path) -> Create:
    """Creates applications by the name of their configuration, with some settings."""

    def create(name: str, **overrides: Any) -> Flask:
        app = create_app(name, {**settings, "INSTANCE_DIR": tmp_path, **overrides})
        app.extensions["november7"].close()
        return app

    return create


def test_development_generates_a_secret_once(create: Create, tmp_path: Path) -> None:
    """Only its owner can read it."""
    first = create("development", JWT_SECRET_KEY="").config["JWT_SECRET_KEY"]
    second = create("development", JWT_SECRET_KEY="").config["JWT_SECRET_KEY"]
    assert first == second
    assert len(first) >= 32
    assert stat.S_IMODE((tmp_path / "jwt-secret").stat().st_mode) == 0o600


def test_workers_that_start_at_the_same_time_share_a_secret(tmp_path: Path) -> None:
    def secret(_: int) -> str:
        app = Flask("movies")
        app.config.from_object(CONFIGS["development"])
        app.config.update(INSTANCE_DIR=tmp_path, JWT_SECRET_KEY="", DATABASE_URL="sqlite://")
        settings.init_app(app)
        made: str = app.config["JWT_SECRET_KEY"]
        return made

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(secret, range(8)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["jwt-secret"]


def test_a_configured_secret_is_used(create: Create, tmp_path: Path) -> None:
    create("development", JWT_SECRET_KEY="x" * 40)
    assert not (tmp_path / "jwt-secret").exists()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@db/movies", "postgresql+psycopg://u:***@db/movies"),
        ("postgresql://u:p@db/movies", "postgresql+psycopg://u:***@db/movies"),
        ("postgresql+psycopg://u:p@db/movies", "postgresql+psycopg://u:***@db/movies"),
        ("sqlite:////tmp/x.sqlite3", "sqlite:////tmp/x.sqlite3"),
    ],
)
def test_a_database_url_without_a_driver_gets_the_installed_one(
    create: Create, url: str, expected: str
) -> None:
    app = create("testing", DATABASE_URL=url)
    assert str(app.config["SQLALCHEMY_DATABASE_URI"]) == expected


@pytest.mark.parametrize("form", ["@{quoted}/{database}", "@/{database}?host={path}"])
def test_postgresql_is_reached_by_a_unix_socket(
    create: Create, postgresql: str, tmp_path: Path, form: str
) -> None:
    """In the spelling of libpq and in that of SQLAlchemy."""
    server = make_url(postgresql)
    place = {"quoted": quote(str(tmp_path), safe=""), "path": tmp_path, "database": server.database}
    url = f"postgresql://{server.username}{form.format(**place)}"
    with unix_socket(tmp_path / ".s.PGSQL.5432", server.host or "127.0.0.1", server.port or 5432):
        ready = create("testing", DATABASE_URL=url).test_client().get("/health/ready")
    assert ready.status_code == 200


def test_the_embedded_database_is_in_the_instance_directory(create: Create, tmp_path: Path) -> None:
    app = create("testing", DATABASE_URL="")
    assert app.config["SQLALCHEMY_DATABASE_URI"].database == str(tmp_path / "movies.sqlite3")


def test_the_instance_directory_is_created(create: Create, tmp_path: Path) -> None:
    create("testing", INSTANCE_DIR=tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "the embedded sample catalogue"),
        (
            "http://user:secret@november7.example:8080/api/",
            "November 7 at november7.example",
        ),
    ],
)
def test_the_start_up_log_says_which_provider_is_used(
    create: Create, caplog: pytest.LogCaptureFixture, url: str, said: str
) -> None:
    """Of its URL, only the host is logged."""
    with caplog.at_level(logging.INFO):
        create("testing", NOVEMBER7_URL=url)
    assert f"searches are answered by {said}" in caplog.text
    assert "secret" not in caplog.text


def test_nothing_secret_is_logged(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs nor metrics contain passwords, tokens or email addresses."""
    client = app.test_client()
    secrets = ["ada@example.com", "lovelace-and-babbage", "notes on the engine", "not the password"]
    with caplog.at_level(logging.DEBUG):
        accounts = Accounts(client)
        accounts.register("ada@example.com", "lovelace-and-babbage")
        tokens = accounts.sign_in("ada@example.com", "lovelace-and-babbage")
        headers = {"Authorization": f"Bearer {tokens['access']}"}
        credentials = {"email": "ada@example.com", "password": "not the password"}
        client.post("/api/v1/auth/token/", json=credentials)
        client.post("/api/v1/users/register/", json=credentials)
        client.post("/api/v1/auth/refresh/", json={"refresh": tokens["access"]})
        client.get("/api/v1/movies/?query=matrix", headers=headers)
        change = {
            "current_password": "lovelace-and-babbage",
            "new_password": "notes on the engine",
        }
        client.post("/api/v1/users/me/password/", json=change, headers=headers)
    fields = repr([vars(record) for record in caplog.records if record.name.startswith("movies")])
    logged = caplog.text + fields + client.get("/metrics").text
    secrets += [tokens["access"], tokens["refresh"]]
    assert [secret for secret in secrets if secret in logged] == []
