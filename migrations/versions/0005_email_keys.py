"""Keys of email addresses with the domain in its ASCII form (IDNA 2008).

Before, the whole address was case-folded in Unicode, so `straße.example` and `strasse.example`
counted as one domain. Only addresses whose domain is not plain ASCII get a new key. Two different
keys never become equal.

Until the new release runs, the old one does not find accounts with such an address. A downgrade
fails if it would give two accounts the same key.

Revises: 0004
"""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op
from email_validator import EmailNotValidError, ValidatedEmail, validate_email

revision = "0005"
down_revision = "0004"

BATCH = 1000
USERS = sa.table(
    "users", sa.column("id", sa.BigInteger), sa.column("email"), sa.column("email_key")
)


def upgrade() -> None:
    _rewrite(lambda email: f"{email.local_part.casefold()}@{email.ascii_domain}")


def downgrade() -> None:
    _rewrite(lambda email: email.normalized.casefold())


def _rewrite(key_of: Callable[[ValidatedEmail], str]) -> None:
    """Give every account whose address is internationalized another key, in batches."""
    connection = op.get_bind()
    length_in_bytes = (
        sa.func.octet_length(USERS.c.email)
        if connection.dialect.name == "postgresql"
        else sa.func.length(sa.cast(USERS.c.email, sa.LargeBinary))
    )
    affected = sa.or_(
        length_in_bytes != sa.func.length(USERS.c.email), USERS.c.email.ilike("%xn--%")
    )
    last = 0
    while True:
        page = sa.select(USERS).where(affected, USERS.c.id > last).order_by(USERS.c.id)
        rows = connection.execute(page.limit(BATCH)).all()
        for row in rows:
            try:
                email = validate_email(
                    row.email, check_deliverability=False, globally_deliverable=False
                )
            except EmailNotValidError:  # no release accepted it: leave it alone
                continue
            if (key := key_of(email)) != row.email_key:
                change = sa.update(USERS).where(USERS.c.id == row.id).values(email_key=key)
                connection.execute(change)
        if not rows:
            return
        last = rows[-1].id
