"""Liveness, readiness and metrics."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accounts import Accounts
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from movies import health
from movies.extensions import db

MakeApp = Callable[..., Flask]
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@ONE_DATABASE
def test_liveness_needs_no_database(make_app: MakeApp) -> None:
    app = make_app(DATABASE_URL="postgresql://postgres@127.0.0.1:1/nothing", REVISION="c0ffee")
    answer = app.test_client().get("/health/live")
    assert answer.status_code == 200
    assert answer.get_json() == {"status": "live", "version": "1.0.0", "revision": "c0ffee"}


@ONE_DATABASE
def test_the_document_has_the_version_of_liveness(client: FlaskClient) -> None:
    version = client.get("/health/live").get_json()["version"]
    assert client.get("/api/schema/").get_json()["info"]["version"] == version


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("", "the embedded sample catalogue"),
        ("http://user:secret@november7.example/", "November 7 at november7.example"),
    ],
)
def test_readiness_reports_database_provider_and_cache(
    make_app: MakeApp, url: str, name: str
) -> None:
    answer = make_app(NOVEMBER7_URL=url).test_client().get("/health/ready")
    assert answer.get_json() == {
        "status": "ready",
        "database": "up",
        "provider": {"name": name, "state": "up"},
        "cache": {"name": "sqlite", "state": "up"},
    }


@ONE_DATABASE
def test_readiness_is_503_without_the_database(make_app: MakeApp) -> None:
    app = make_app(DATABASE_URL="postgresql://postgres:secret@127.0.0.1:1/nothing")
    answer = app.test_client().get("/health/ready")
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    problem = answer.get_json()
    assert (problem["database"], problem["provider"]["state"]) == ("down", "up")
    assert "secret" not in answer.text


@pytest.mark.slow
@ONE_DATABASE
def test_readiness_does_not_wait_for_a_database_that_hangs(
    make_app: MakeApp, silent_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second caller does not wait at all: the check it would join is already late."""
    monkeypatch.setattr(health, "CHECK_TIMEOUT", 0.2)
    app = make_app(
        DATABASE_URL=f"postgresql://postgres@127.0.0.1:{silent_server}/nothing?connect_timeout=2"
    )
    client = app.test_client()
    assert client.get("/health/ready").status_code == 503
    monkeypatch.setattr(health, "CHECK_TIMEOUT", 0.0)
    assert client.get("/health/ready").status_code == 503
    check = app.extensions["database_check"]
    assert check._check is not None
    assert check._check.result(timeout=30) == "down"


def test_readiness_does_not_depend_on_the_connection_pool(app: Flask, client: FlaskClient) -> None:
    """A pool whose connections are all in use is a busy service, not a missing database."""
    with app.app_context():
        pool = app.config["SQLALCHEMY_ENGINE_OPTIONS"]
        taken = [db.engine.connect() for _ in range(pool["pool_size"] + pool["max_overflow"])]
    try:
        assert client.get("/health/ready").status_code == 200
    finally:
        for connection in taken:
            connection.close()


def test_readiness_is_503_until_the_database_is_migrated(app: Flask, client: FlaskClient) -> None:
    """A table of versions without a version counts as not migrated, and so does none."""
    with app.app_context():
        version = db.session.scalar(text("SELECT version_num FROM alembic_version"))
        db.session.execute(text("DELETE FROM alembic_version"))
        db.session.commit()
    try:
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.get_json()["database"]) == (503, "not migrated")
    finally:
        with app.app_context():
            insert = text("INSERT INTO alembic_version (version_num) VALUES (:version)")
            db.session.execute(insert, {"version": version})
            db.session.commit()
    assert client.get("/health/ready").status_code == 200


@ONE_DATABASE
def test_readiness_is_503_on_an_empty_database(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    answer = app.test_client().get("/health/ready")
    assert (answer.status_code, answer.get_json()["database"]) == (503, "not migrated")


@ONE_DATABASE
def test_a_failing_provider_does_not_make_the_instance_unready(
    app: Flask, client: FlaskClient
) -> None:
    breaker = app.extensions["november7"].breaker
    for _ in range(100):
        breaker.failed()
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.get_json()["provider"]["state"]) == (200, "down")


@ONE_DATABASE
def test_a_redis_that_refuses_commands_is_reported(
    make_app: MakeApp, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In readiness, as a gauge and with the error's text in the log; searches go on."""
    refused = redis_url.replace("redis://", "redis://nobody:wrong@")
    client = make_app(REDIS_URL=refused).test_client()
    headers = Accounts(client).headers()
    assert client.get("/api/v1/movies/?query=matrix", headers=headers).status_code == 200
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.get_json()["cache"] == {"name": "redis", "state": "down"}
    assert "november7_cache_failing 1.0" in client.get("/metrics").text
    reasons = [getattr(record, "reason", "") for record in caplog.records]
    assert any("AuthenticationError: invalid" in reason for reason in reasons)


@ONE_DATABASE
def test_metrics_are_in_prometheus_text_format(client: FlaskClient, auth: Accounts) -> None:
    client.get("/api/v1/movies/?query=matrix", headers=auth.headers())
    answer = client.get("/metrics")
    assert answer.mimetype == "text/plain"
    assert 'november7_cache_total{result="miss"}' in answer.text
