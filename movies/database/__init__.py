"""Connections, statements and errors of PostgreSQL and SQLite.

Some code elsewhere depends on the database, too: the URL in `movies.settings`, the models, the
statements of `movies.movies`, and the migrations.

`types`: base class and column types. `connections`: options, pools and timeouts.
`hosts`: which address is connected to first. `stalls`: servers that do not respond.
`outages`: what an error means.
`statements`: how they are compiled. `execution`: how they are run. `batches`: how reads share them.
`extension`: the object that the other packages use.
"""

from movies.database.batches import Batches
from movies.database.connections import (
    READS,
    bind,
    connection_options,
    without_timeouts,
)
from movies.database.execution import watchers
from movies.database.extension import Database
from movies.database.outages import ServerStalled, explain, is_not_migrated, is_outage
from movies.database.statements import Statement
from movies.database.types import Base, BigId, UtcDateTime, now

__all__ = [
    "READS",
    "Base",
    "Batches",
    "BigId",
    "Database",
    "ServerStalled",
    "Statement",
    "UtcDateTime",
    "bind",
    "connection_options",
    "explain",
    "is_not_migrated",
    "is_outage",
    "now",
    "watchers",
    "without_timeouts",
]
