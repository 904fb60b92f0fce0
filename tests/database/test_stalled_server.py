"""The wait for a response of PostgreSQL is bounded, which psycopg and libpq have no way to do."""

from time import monotonic

import pytest
from private_postgresql import PrivatePostgresql
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from movies.database import ServerStalled, connection_options, connections

pytestmark = pytest.mark.slow


def test_a_statement_fails_when_the_server_does_not_respond(
    private_server: PrivatePostgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later than the server would have canceled it, and the connection is closed."""
    url = make_url(private_server.url).set(drivername="postgresql+psycopg")
    monkeypatch.setattr(connections, "RESPONSE_MARGIN", 0.1)
    url = url.update_query_dict({"options": "-c statement_timeout=200"})
    engine = create_engine(url, **connection_options(url))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
        private_server.pause()
        started = monotonic()
        try:
            with pytest.raises(OperationalError) as caught:
                connection.scalar(text("SELECT 1"))
        finally:
            private_server.resume()
        assert isinstance(caught.value.orig, ServerStalled)
        assert caught.value.connection_invalidated
        assert monotonic() - started > 0.2
    engine.dispose()


def test_a_statement_may_take_as_long_as_the_server_allows(
    private_server: PrivatePostgresql,
) -> None:
    url = make_url(private_server.url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, **connection_options(url))
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.response_timeout == 12.0
        connection.execute(text("SELECT pg_sleep(0.2)"))
    engine.dispose()
