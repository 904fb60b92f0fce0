"""Migrations run under traffic on PostgreSQL, up and down, with data."""

import shutil
from collections.abc import Iterator

import pytest
from launcher import ROOT
from served import Served, served
from services import postgresql_database

from production.traffic import traffic

pytestmark = pytest.mark.slow

# What the next release may add, and a wider type, which invalidates prepared plans.
NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "next", "{head}"


def upgrade():
    for table in ("users", "sign_ins", "movies", "ratings"):
        op.add_column(table, sa.Column("added", sa.Text, server_default="value"))
    op.create_index("ix_movies_added", "movies", ["added"])
    op.alter_column("users", "first_name", type_=sa.Text)
    op.alter_column("ratings", "rating_type", type_=sa.String(32))


def downgrade():
    op.alter_column("ratings", "rating_type", type_=sa.String(8))
    for table in ("ratings", "movies", "sign_ins", "users"):
        op.drop_column(table, "added")
"""
WITHOUT_MOVIES = "0002"  # the oldest revision that keeps accounts, sign-ins and ratings


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        postgresql_database("schema") as url,
        served(tmp_path_factory.mktemp("schema"), DATABASE_URL=url) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def migrations(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The migrations, and one of the release that comes next."""
    directory = tmp_path_factory.mktemp("next") / "migrations"
    shutil.copytree(ROOT / "migrations", directory)
    head = max(path.name[:4] for path in (directory / "versions").glob("0*.py"))
    (directory / "versions" / "next.py").write_text(NEXT.format(head=head))
    return str(directory)


def flask(api: Served, *command: str) -> None:
    """Run a command; again if PostgreSQL undid it to end a deadlock, as a deployment would."""
    for _ in range(5):
        if "deadlock detected" not in (done := api.run(*command)).stderr:
            break
    assert done.returncode == 0, done.stderr


def test_this_release_serves_on_the_schema_of_the_next(api: Served, migrations: str) -> None:
    with traffic(api.url) as users:
        flask(api, "db", "upgrade", "-d", migrations)
        assert users.goes_on()
        flask(api, "db", "downgrade", "-d", migrations)
        assert users.goes_on()
    assert users.unexpected == []
    assert users.lost() == []


def test_a_schema_that_is_too_old_is_503_until_it_is_migrated(api: Served) -> None:
    with traffic(api.url) as users:
        flask(api, "db", "downgrade", WITHOUT_MOVIES)
        assert users.is_refused()
        flask(api, "db", "upgrade")
        assert users.goes_on()
    assert users.unexpected == []
    assert users.lost() == []
    flask(api, "ratings", "check")
