"""Statements that are compiled once and run without SQLAlchemy's execution."""

import signal
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import String, bindparam, func, select, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from movies.auth.models import User
from movies.database import Statement, now
from movies.extensions import db
from movies.movies.models import Movie, Rating, RatingType

ID = uuid.UUID("22e4b44f-b5cb-4c7c-bf75-53ff10ca7a84")
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
COLUMNS = [
    column.label(str(column).replace(".", "_"))
    for model in (Movie, Rating, User)
    for column in model.__table__.c
]
PREPARED = Statement(select(func.count()).select_from(text("pg_prepared_statements")))


@pytest.fixture
def vote(app: Flask) -> Iterator[None]:
    """A user who voted on a movie that has no title."""
    moment = now()
    with app.app_context():
        user = User(email="ada@example.com", email_key="ada@example.com", password_hash="é ☃")
        db.session.add_all([user, Movie(id=ID, rating=7.5, first_seen=moment - timedelta(days=1))])
        db.session.flush()
        vote = {"user_id": user.id, "movie_id": ID, "rating_type": RatingType.DOWNVOTE}
        db.session.add(Rating(**vote, created_at=moment, updated_at=moment))
        db.session.commit()
        yield


@pytest.mark.usefixtures("vote")
def test_rows_have_the_values_that_sqlalchemy_returns() -> None:
    everything = select(*COLUMNS).where(Rating.movie_id == Movie.id, Rating.user_id == User.id)
    [expected] = db.session.execute(everything).all()
    [row] = db.fetch_all(Statement(everything))
    assert row._asdict() == expected._asdict()
    assert list(map(type, row)) == list(map(type, expected))


@pytest.mark.usefixtures("vote")
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_parameters_have_the_type_of_their_column(column: Any) -> None:
    value = db.session.scalar(select(column))
    wanted = bindparam("value", type_=column.type)
    found = db.fetch_all(Statement(select(column).where(column == wanted)), value=value)
    assert found == ([] if value is None else [(value,)])


@pytest.mark.usefixtures("vote")
def test_text_that_contains_nul_is_not_cut_off() -> None:
    statement = Statement(select(User.id).where(User.email == bindparam("email")))
    if db.engine.name == "sqlite":
        assert db.fetch_all(statement, email="ada@example.com\0") == []
    else:
        with pytest.raises(ValueError, match="NUL"):
            db.fetch_all(statement, email="ada@example.com\0")


def test_a_failure_is_an_exception_of_sqlalchemy_that_names_the_statement(app: Flask) -> None:
    unknown = Statement(select(func.unknown(1, type_=String)))
    with app.app_context(), pytest.raises((ProgrammingError, OperationalError)) as caught:
        db.fetch_all(unknown)
    assert caught.value.statement is not None
    assert caught.value.statement.startswith("SELECT unknown(")
    assert not caught.value.connection_invalidated


@ON_POSTGRESQL
def test_statements_are_prepared_unless_the_url_forbids_it(
    make_app: Callable[..., Flask], database_url: str
) -> None:
    """PgBouncer before 1.21 does not support prepared statements in transaction mode."""
    for parameters, expected in (("", 1), ("&prepare_threshold=0", 0)):
        with make_app(DATABASE_URL=database_url + parameters).app_context():
            assert db.fetch_all(PREPARED) == [(expected,)]
            db.dispose()


@ON_POSTGRESQL
def test_a_statement_that_is_interrupted_leaves_its_response_to_nobody(app: Flask) -> None:
    def interrupt(*_arguments: object) -> None:
        raise InterruptedError

    number = Statement(select(bindparam("number", type_=Rating.id.type).label("number")))
    usual = signal.signal(signal.SIGALRM, interrupt)
    with app.app_context():
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(InterruptedError):
                db.fetch_all(Statement(select(func.pg_sleep(60, type_=String))))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, usual)
        assert [db.fetch_all(number, number=n) for n in range(9)] == [[(n,)] for n in range(9)]


@ON_POSTGRESQL
@pytest.mark.usefixtures("vote")
def test_statements_are_prepared_again_after_psycopg_has_deallocated_all() -> None:
    """psycopg does so after a rollback on a connection on which it has prepared statements."""
    movies = Statement(select(func.count()).select_from(Movie))
    ratings = Statement(select(func.count()).select_from(Rating))
    assert db.execute_alone(movies) == [(1,)]
    with db.engine.connect() as connection:  # the same one: the pool returns the last used
        for _ in range(6):  # psycopg prepares what has been run five times
            connection.execute(text("SELECT 1"))
        connection.rollback()
    for statement in (ratings, movies, ratings):  # the second was deallocated, the third was not
        assert db.execute_alone(statement) == [(1,)]
