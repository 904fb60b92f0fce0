"""What the application adds to its databases' drivers."""

import psycopg
import pytest

from movies.database import BoundedConnection


def test_a_server_that_stops_answering_is_given_up(postgresql: str) -> None:
    """A statement that gets no answer in time fails, and its connection is not used again."""
    connection = BoundedConnection.connect(postgresql)
    connection.patience = 0.1
    with pytest.raises(psycopg.OperationalError, match="does not answer"):
        connection.execute("SELECT pg_sleep(5)")
    assert connection.closed


def test_a_server_that_answers_in_time_is_waited_for(postgresql: str) -> None:
    """Patience is for each answer, not for the connection's life."""
    with BoundedConnection.connect(postgresql) as connection:
        connection.patience = 0.5
        for _ in range(3):
            assert connection.execute("SELECT 1 FROM pg_sleep(0.2)").fetchone() == (1,)
