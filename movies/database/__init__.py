"""Everything about databases. To support another one, change only these modules.

`types`: base class and column types. `connections`: options, pools and timeouts.
`outages`: what an error means. `extension`: how statements are run.
"""

from movies.database.connections import (
    READS,
    bind,
    connection_options,
    lock_timeout,
    without_timeouts,
)
from movies.database.extension import Database
from movies.database.outages import ServerStalled, explain, is_outage
from movies.database.types import Base, BigId, UtcDateTime, now

__all__ = [
    "READS",
    "Base",
    "BigId",
    "Database",
    "ServerStalled",
    "UtcDateTime",
    "bind",
    "connection_options",
    "explain",
    "is_outage",
    "lock_timeout",
    "now",
    "without_timeouts",
]
