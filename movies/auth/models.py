"""Tables of accounts and sign-ins."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from movies.database import BigId, UtcDateTime, now
from movies.extensions import db

CLOSED = "closed "  # begins the `email_key` of an account that is being deleted; no address does


class User(db.Model):
    """An account.

    `email` is the address as it was given, trimmed. `email_key` identifies the account: it is the
    same for all spellings of the address, and unique. An id is never used again.
    """

    __tablename__ = "users"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    email_key: Mapped[str] = mapped_column(String(1024), unique=True)
    first_name: Mapped[str] = mapped_column(String(150), default="")
    last_name: Mapped[str] = mapped_column(String(150), default="")
    password_hash: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

    @property
    def is_closed(self) -> bool:
        """Whether the account is being deleted, and nothing but its ratings is left."""
        return self.email_key.startswith(CLOSED)

    def close(self) -> None:
        """Forget everything personal, and free the email address for another account."""
        self.email_key = f"{CLOSED}{self.id}"
        self.email = self.first_name = self.last_name = self.password_hash = ""


class SignIn(db.Model):
    """A sign-in. Its refresh token, and access tokens issued from that, are valid while it exists.

    Tokens carry `id` as their claim `sid`. `expires_at` is that of the refresh token.
    """

    __tablename__ = "sign_ins"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
