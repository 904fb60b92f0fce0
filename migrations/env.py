"""Runs migrations on the application's own engine, one transaction for all of them."""

from alembic import context
from click import ClickException
from flask import current_app
from sqlalchemy.exc import DBAPIError

from movies.database import explain, is_not_migrated, is_outage, without_timeouts

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
    is_connected = False
    try:
        with db.engine.connect() as connection:
            is_connected = True
            context.configure(connection=connection, **options)
            with context.begin_transaction():
                if connection.dialect.name == "sqlite":  # its driver begins none before DDL
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                without_timeouts(connection)
                context.run_migrations()
    except DBAPIError as error:
        if is_connected and (is_not_migrated(error) or not is_outage(error)):
            raise  # a defect of a migration
        raise ClickException(f"The database failed: {explain(error)}") from None
