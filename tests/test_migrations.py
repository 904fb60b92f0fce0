"""Migrations on both databases, in both directions."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_migrate import downgrade, upgrade
from tables import described, execute
from unmigrated import fill, ratings

from movies.extensions import db
from movies.movies import tallies

pytestmark = pytest.mark.slow


@pytest.fixture
def app(make_empty: Callable[[], Flask]) -> Flask:
    """The application on a database without tables."""
    return make_empty()


def test_migrations_create_the_tables_of_the_models(app: Flask) -> None:
    with app.app_context():
        upgrade()
        with db.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, db.metadata) == []
    checked = app.test_cli_runner().invoke(args=["db", "check"])
    assert checked.exit_code == 0, checked.output


def test_migrations_create_the_same_database_as_create_all(make_empty: Callable[[], Flask]) -> None:
    found = []
    for make_tables in (upgrade, db.create_all):
        with make_empty().app_context():
            make_tables()
            found.append(described())
    migrated, modeled = found
    assert migrated == modeled


@pytest.mark.parametrize("revision", ["0001", "0002", "base"])
def test_migrations_go_down_and_up_again(app: Flask, revision: str) -> None:
    """From every older revision."""
    with app.app_context():
        upgrade()
        newest = described()
        downgrade(revision=revision)
        assert described() != newest
        upgrade()
        assert described() == newest


def voted() -> int:
    """The running count of the movies that have votes."""
    ((count,),) = execute("SELECT sum(count) FROM voted_movies")
    return int(count)


def test_the_running_count_includes_existing_votes(app: Flask) -> None:
    """Also those of an older release that runs between two upgrades."""
    with app.app_context():
        upgrade(revision="0003")
        insert = (
            "INSERT INTO movies (id, title, upvotes, downvotes, score) VALUES (:id, 'x', :n, 0, 0)"
        )
        for number in range(5):
            execute(insert, id=uuid.UUID(int=number + 1), n=number)
        upgrade()
        assert voted() == 4
        downgrade(revision="0003")
        execute(insert, id=uuid.UUID(int=9), n=1)
        upgrade()
        assert voted() == 5


@pytest.mark.parametrize(
    ("statement", "change"),
    [
        ("UPDATE movies SET upvotes = upvotes + 1", 2),
        ("UPDATE movies SET upvotes = 0, downvotes = 0", -1),
        ("UPDATE movies SET title = 'named' WHERE title IS NULL", 1),
        ("UPDATE movies SET score = 1", 0),
        ("DELETE FROM movies", -1),
        ("INSERT INTO movies (id, title, upvotes) VALUES (:id, 'new', 3)", 1),
        ("INSERT INTO movies (id, upvotes) VALUES (:id, 3)", 0),
    ],
)
def test_the_running_count_follows_every_change_of_movies(
    app: Flask, statement: str, change: int
) -> None:
    """Also those of a release that does not know the count."""
    with app.app_context():
        upgrade()
        for number, (title, upvotes) in enumerate([("a", 1), ("b", 0), ("c", 0), (None, 2)]):
            execute(
                "INSERT INTO movies (id, title, upvotes) VALUES (:id, :title, :upvotes)",
                id=uuid.UUID(int=number),
                title=title,
                upvotes=upvotes,
            )
        before = voted()
        values = {"id": uuid.UUID(int=9)} if ":id" in statement else {}
        execute(statement, **values)
        assert (before, voted() - before) == (1, change)
        assert tallies.total_error() == 0


def test_a_full_downgrade_drops_all_tables(app: Flask) -> None:
    with app.app_context():
        upgrade()
        downgrade(revision="base")
        assert sa.inspect(db.engine).get_table_names() == ["alembic_version"]


def test_a_failed_migration_is_rolled_back(app: Flask) -> None:
    def fail(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "DROP TABLE tallies" in statement:
            raise OSError("the power is gone")

    with app.app_context():
        upgrade(revision="0002")
        fill()
        before = described(), ratings()
        sa.event.listen(db.engine, "before_cursor_execute", fail)
        with pytest.raises(OSError, match="the power is gone"):
            upgrade()
        assert (described(), ratings()) == before
        sa.event.remove(db.engine, "before_cursor_execute", fail)
        upgrade()
        assert len(ratings()) == len(before[1])


def test_the_list_of_ratings_has_an_index(app: Flask) -> None:
    with app.app_context():
        upgrade()
        catalogue = "pg_indexes" if db.engine.name == "postgresql" else "sqlite_master"
        column, name = ("indexdef", "indexname") if catalogue == "pg_indexes" else ("sql", "name")
        ((definition,),) = execute(
            f"SELECT {column} FROM {catalogue} WHERE {name} = 'ix_ratings_newest'"
        )
    assert definition.endswith("(user_id, created_at DESC, id DESC)")
