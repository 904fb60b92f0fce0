"""Tables of accounts and sign-ins."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from movies.database import BigId, UtcDateTime, now
from movies.extensions import db

CLOSED = "closed "  # prefix of the `email_key` of an account that is being deleted


class User(db.Model):
    """An account.

    `email` is the address as it was given, trimmed. `email_key` is unique, and is the same for all
    spellings of the address. An id is never used again.
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
        """Whether the account is being deleted, and only its ratings are left."""
        return self.email_key.startswith(CLOSED)

    def close(self) -> None:
        """Delete personal data, and make the email address available to other accounts."""
        self.email_key = f"{CLOSED}{self.id}"
        self.email = self.first_name = self.last_name = self.password_hash = ""


class SignIn(db.Model):
    """A sign-in. Its refresh token and the access tokens issued from it are valid while it exists.

    The claim `sid` of its tokens is `id`. `expires_at` is the expiry of the refresh token.
    """

    __tablename__ = "sign_ins"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
