"""Migrations on both databases, in both directions and with data."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from accounts import PASSWORD, Accounts
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_migrate import downgrade, upgrade
from services import postgresql_database
from tables import described, execute

from movies import create_app
from movies.auth import passwords
from movies.auth.emails import address_key
from movies.extensions import db
from movies.movies import tallies
from movies.november7.sample.catalogue import sample_catalogue

MOVIE = sample_catalogue().movies[0]
SEEN, GONE, UNCOUNTED = uuid.UUID(MOVIE["id"]), uuid.UUID(int=1), uuid.UUID(int=2)
BEFORE_EMAIL_KEYS = "0004"
THEN = "2026-03-01 12:00:00+00:00"


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """The URL of a PostgreSQL database that each test empties for itself."""
    with postgresql_database("migrations") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def make_empty(
    request: pytest.FixtureRequest, settings: dict[str, Any], tmp_path: Path
) -> Iterator[Callable[[], Flask]]:
    """Creates applications, each on a database without tables."""
    made: list[Flask] = []

    def make() -> Flask:
        url = f"sqlite:///{tmp_path / f'{len(made)}.sqlite3'}"
        if request.param == "postgresql":
            url = request.getfixturevalue("server_url")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
        own = {"DATABASE_URL": url, "INSTANCE_DIR": tmp_path}
        made.append(create_app("testing", {**settings, **own}))
        return made[-1]

    yield make
    for app in made:
        app.extensions["november7"].close()
        with app.app_context():
            db.dispose()


@pytest.fixture
def app(make_empty: Callable[[], Flask]) -> Flask:
    """The application on a database without tables."""
    return make_empty()


def fill() -> None:
    """Insert ratings of three users, as of revision 0002. One of them was never counted."""
    for number in (1, 2, 3):
        execute(
            "INSERT INTO users (email, email_key, first_name, last_name, password_hash, created_at)"
            " VALUES (:email, :email, '', '', 'none', :then)",
            email=f"user{number}@example.com",
            then=THEN,
        )
    ratings = [(1, SEEN, "UPVOTE"), (2, SEEN, "UPVOTE"), (3, SEEN, "DOWNVOTE")]
    ratings += [(1, GONE, "DOWNVOTE"), (1, UNCOUNTED, "UPVOTE")]
    for user_id, movie_id, rating_type in ratings:
        execute(
            "INSERT INTO ratings (user_id, movie_id, rating_type, created_at, updated_at)"
            " VALUES (:user_id, :movie_id, :rating_type, :then, :then)",
            user_id=user_id,
            movie_id=movie_id,
            rating_type=rating_type,
            then=THEN,
        )
    for movie_id, upvotes, downvotes in ((SEEN, 2, 1), (GONE, 0, 1)):
        execute(
            "INSERT INTO tallies VALUES (:movie_id, :upvotes, :downvotes)",
            movie_id=movie_id,
            upvotes=upvotes,
            downvotes=downvotes,
        )


def ratings() -> list[Any]:
    return execute("SELECT * FROM ratings ORDER BY id")


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
    migrated, modelled = found
    assert migrated == modelled


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
        assert tallies.miscount() == 0


def test_a_full_downgrade_drops_all_tables(app: Flask) -> None:
    with app.app_context():
        upgrade()
        downgrade(revision="base")
        assert sa.inspect(db.engine).get_table_names() == ["alembic_version"]


def test_the_upgrade_to_0003_keeps_ratings_and_tallies(app: Flask) -> None:
    with app.app_context():
        upgrade(revision="0002")
        fill()
        before = ratings()
        upgrade()
        assert ratings() == before
        found = execute("SELECT upvotes, downvotes, title, score FROM movies ORDER BY 1, 2")
        wilson = 0.2076596  # of 2 upvotes and 1 downvote
        assert found[:2] == [(0, 0, None, 0), (0, 1, None, 0)]
        assert found[2:] == [(2, 1, None, pytest.approx(wilson, abs=1e-7))]


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


def test_check_finds_a_rating_that_was_never_counted(app: Flask) -> None:
    """`ratings rebuild` then corrects the tally and the score."""
    with app.app_context():
        upgrade(revision="0002")
        fill()
        upgrade()
        assert tallies.disagreements() == 1
        tallies.rebuild()
        assert tallies.disagreements() == 0


def test_the_downgrade_to_0002_keeps_ratings_and_tallies(app: Flask) -> None:
    with app.app_context():
        upgrade(revision="0002")
        fill()
        before = ratings(), execute("SELECT * FROM tallies ORDER BY upvotes")
        upgrade()
        downgrade(revision="0002")
        assert (ratings(), execute("SELECT * FROM tallies ORDER BY upvotes")) == before


def test_ids_of_ratings_are_not_reused(app: Flask) -> None:
    """Although the migration copies the table."""
    with app.app_context():
        upgrade(revision="0002")
        fill()
        upgrade()
        ((newest,),) = execute("SELECT max(id) FROM ratings")
        execute("DELETE FROM ratings WHERE id = :id", id=newest)
        ((following,),) = execute(
            "INSERT INTO ratings (user_id, movie_id, rating_type, created_at, updated_at)"
            " VALUES (2, :movie_id, 'UPVOTE', :then, :then) RETURNING id",
            movie_id=GONE,
            then=THEN,
        )
        assert following > newest


def test_the_list_of_ratings_has_an_index(app: Flask) -> None:
    with app.app_context():
        upgrade()
        catalogue = "pg_indexes" if db.engine.name == "postgresql" else "sqlite_master"
        column, name = ("indexdef", "indexname") if catalogue == "pg_indexes" else ("sql", "name")
        ((definition,),) = execute(
            f"SELECT {column} FROM {catalogue} WHERE {name} = 'ix_ratings_newest'"
        )
    assert definition.endswith("(user_id, created_at DESC, id DESC)")


def test_ratings_without_a_described_movie_work(app: Flask) -> None:
    """`cache warm` fetches the description."""
    with app.app_context():
        upgrade(revision="0002")
        fill()
        upgrade()
        tallies.rebuild()
        execute("UPDATE users SET password_hash = :hash", hash=passwords.hash_password(PASSWORD))
    client = app.test_client()
    tokens = Accounts(client).sign_in("user1@example.com")
    headers = {"Authorization": f"Bearer {tokens['access']}"}

    def listed() -> dict[str, Any]:
        found = client.get("/api/v1/movies/ratings/", headers=headers).get_json()["results"]
        return {rating["movie_id"]: rating for rating in found}

    before = listed()
    assert [rating["movie"] for rating in before.values()] == [None] * 3
    at = f"/api/v1/movies/ratings/{before[str(SEEN)]['id']}"
    changed = client.patch(at, json={"rating_type": "DOWNVOTE"}, headers=headers)
    assert (changed.status_code, changed.get_json()["movie"]) == (200, None)
    assert client.get("/api/v1/movies/top/", headers=headers).get_json()["count"] == 0
    assert app.test_cli_runner().invoke(args=["cache", "warm"]).exit_code == 0
    after = listed()
    assert after[str(SEEN)]["movie"] == {key: MOVIE[key] for key in ("id", "title", "image_url")}
    assert after[str(GONE)]["movie"] is None
    (best,) = client.get("/api/v1/movies/top/", headers=headers).get_json()["results"]
    assert (best["id"], best["upvotes"], best["downvotes"]) == (str(SEEN), 1, 2)


def test_email_keys_distinguish_internationalized_domains(app: Flask) -> None:
    """Accounts are found by their new keys, and by their old keys after a downgrade."""
    emails = {
        "user@straße.example": ("user@strasse.example", "user@xn--strae-oqa.example"),
        "Ada@BÜCHER.example": ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        "ada@xn--fiqs8s.example": ("ada@中国.example", "ada@xn--fiqs8s.example"),
        "Straße@example.com": ("strasse@example.com", "strasse@example.com"),
        "Eve@Example.com": ("eve@example.com", "eve@example.com"),
    }
    with app.app_context():
        upgrade(revision=BEFORE_EMAIL_KEYS)
        for email, (old, _) in emails.items():
            execute(
                "INSERT INTO users (email, email_key, first_name, last_name, password_hash,"
                " created_at) VALUES (:email, :key, '', '', 'none', :then)",
                email=email,
                key=old,
                then=THEN,
            )
        upgrade()
        found = dict(execute("SELECT email, email_key FROM users"))
        assert found == {email: new for email, (_, new) in emails.items()}
        assert found == {email: address_key(email) for email in emails}
        downgrade(revision=BEFORE_EMAIL_KEYS)
        found = dict(execute("SELECT email, email_key FROM users"))
        assert found == {email: old for email, (old, _) in emails.items()}
