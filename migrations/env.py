"""Runs migrations on the application's own engine, one transaction for all of them."""

from alembic import context
from click import ClickException
from flask import current_app
from sqlalchemy.exc import DBAPIError

from movies.database import explain, without_timeouts

db = current_app.extensions["migrate"].db
options = {
    "target_metadata": db.metadata,
    "transactional_ddl": True,
    **current_app.extensions["migrate"].configure_args,
}

if context.is_offline_mode():
    context.configure(
        url=db.engine.url.render_as_string(hide_password=False), literal_binds=True, **options
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    try:
        connected = db.engine.connect()
    except DBAPIError as error:
        raise ClickException(f"The database failed: {explain(error)}") from None
    with connected as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # its driver begins none before DDL
            without_timeouts(connection)
            context.run_migrations()
