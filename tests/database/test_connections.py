"""How connections are opened, and what DATABASE_URL can set."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
from flask import Flask
from helpers import eventually
from private_postgresql import PrivatePostgresql
from services import free_port
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from movies.database import bind, connection_options, connections
from movies.database.connections import MAX_WAITERS, POOL_SIZES, AdmissionPool
from movies.extensions import db

SILENCE = {"tcp_user_timeout": 10000, "keepalives_idle": 60}
OUR_OPTIONS = "-c statement_timeout=10000 -c lock_timeout=3000"
ONE_DATABASE = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+psycopg://db/movies",
            {**SILENCE, "connect_timeout": 3, "options": OUR_OPTIONS},
        ),
        (
            "postgresql+psycopg://db/movies?options=-csearch_path%3Dtenant&connect_timeout=20",
            {**SILENCE, "options": f"{OUR_OPTIONS} -csearch_path=tenant"},
        ),
        ("sqlite:////tmp/movies.sqlite3", {"timeout": 5}),
        ("sqlite:////tmp/movies.sqlite3?timeout=30", {}),
    ],
)
def test_defaults_fill_the_gaps_of_the_url(url: str, expected: dict[str, Any]) -> None:
    assert connection_options(make_url(url))["connect_args"] == expected


@ONE_DATABASE
def test_parameters_of_the_url_take_effect(
    make_app: Callable[..., Flask], database_url: str
) -> None:
    parameters = "options=-c%20search_path%3Dtenant%20-c%20lock_timeout%3D1234"
    url = f"{database_url}&{parameters}&application_name=movies&prepare_threshold=0"
    app = make_app(DATABASE_URL=url)
    with app.app_context():

        def shown(name: str) -> Any:
            return db.session.scalar(text(f"SHOW {name}"))

        assert shown("search_path") == "tenant"
        assert shown("lock_timeout") == "1234ms"
        assert shown("statement_timeout") == "10s"
        assert shown("application_name") == "movies"
        driver: Any = db.session.connection().connection.driver_connection
        assert driver.prepare_threshold is None
        assert driver.response_timeout == 12.0


@pytest.mark.slow
def test_a_writable_server_is_chosen_among_several(
    private_server: PrivatePostgresql,
) -> None:
    """`target_session_attrs=read-write` skips servers that are down or read-only."""
    hosts = f"host=127.0.0.1:{free_port()}&host=127.0.0.1:{private_server.port}"
    url = f"postgresql+psycopg://movies@/postgres?{hosts}&target_session_attrs=read-write"
    engine = create_engine(url, **connection_options(make_url(url)))
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW port")) == str(private_server.port)
    engine.dispose()


@pytest.mark.slow
def test_callers_beyond_the_limit_are_refused_at_once(
    private_server: PrivatePostgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "POOL_TIMEOUT", 30)
    url = make_url(private_server.url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, **{**bind(url), "pool_size": 1})
    done = Event()

    def wait() -> None:
        with engine.connect():
            done.wait(30)

    taken = engine.connect()
    waiting = [Thread(target=wait) for _ in range(MAX_WAITERS)]
    for thread in waiting:
        thread.start()
    try:
        assert eventually(lambda: AdmissionPool.waiters._value == 0, within=30)
        with pytest.raises(PoolTimeout, match="192 callers are waiting"):
            engine.connect()
    finally:
        done.set()
        taken.close()
        for thread in waiting:
            thread.join(30)
        engine.dispose()
    assert AdmissionPool.waiters._value == MAX_WAITERS


@ONE_DATABASE
def test_a_process_opens_at_most_20_connections(app: Flask) -> None:
    with app.app_context():
        sizes = {name: engine.pool.size() for name, engine in db.engines.items()}  # type: ignore[attr-defined]
        assert sizes == POOL_SIZES
        assert [engine.pool._max_overflow for engine in db.engines.values()] == [0, 0]  # type: ignore[attr-defined]
    assert sum(POOL_SIZES.values()) == 20
