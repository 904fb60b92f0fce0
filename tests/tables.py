"""Reads the application's database with SQL."""

import uuid
from typing import Any

import sqlalchemy as sa
from flask import Flask

from movies.extensions import db


def execute(statement: str, **values: Any) -> list[Any]:
    """Run a statement and commit. Returns its rows. UUIDs are bound as in the models."""
    types = [
        sa.bindparam(name, type_=sa.Uuid())
        for name, value in values.items()
        if isinstance(value, uuid.UUID)
    ]
    with db.engine.begin() as connection:
        result = connection.execute(sa.text(statement).bindparams(*types), values)
        return [tuple(row) for row in result] if result.returns_rows else []


def rows(app: Flask, statement: str) -> list[Any]:
    """The rows that a SQL statement returns."""
    with app.app_context():
        return list(db.session.execute(sa.text(statement)).all())


def described() -> dict[str, Any]:
    """The tables, columns, constraints and indexes, from the database's own catalogue."""
    return _of_postgresql() if db.engine.name == "postgresql" else _of_sqlite()


def _of_postgresql() -> dict[str, Any]:
    return {
        "columns": execute(
            "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable,"
            " column_default FROM information_schema.columns WHERE table_schema = 'public'"
            " AND table_name != 'alembic_version' ORDER BY 1, 2"
        ),
        "constraints": execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
            " AND conrelid::regclass::text != 'alembic_version' ORDER BY 1, 2"
        ),
        "indexes": execute(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
            " AND tablename != 'alembic_version' ORDER BY 1"
        ),
    }


def _of_sqlite() -> dict[str, Any]:
    names = [
        name
        for (name,) in execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
            " AND name NOT LIKE 'sqlite_%' AND name != 'alembic_version' ORDER BY 1"
        )
    ]
    return {
        "columns": {name: sorted(columns(name)) for name in names},
        "references": {
            name: execute(f"SELECT * FROM pragma_foreign_key_list('{name}')") for name in names
        },
        "indexes": execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index'"
            " AND tbl_name != 'alembic_version' ORDER BY name"
        ),
        "checks": execute(
            "SELECT name, sql LIKE '%AUTOINCREMENT%', sql LIKE '%CONSTRAINT rating_type CHECK%',"
            " sql LIKE '%CONSTRAINT fk_ratings_movie_id_movies%'"
            " FROM sqlite_master WHERE type = 'table' AND name IN ('users', 'ratings') ORDER BY 1"
        ),
    }


def columns(table: str) -> list[Any]:
    """A SQLite table's columns; whether a default is quoted makes no difference."""
    return [
        (name, kind, required, default and default.strip("'"), key)
        for _, name, kind, required, default, key in execute(
            f"SELECT * FROM pragma_table_info('{table}')"
        )
    ]
