"""Tables of signing in."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from movies.extensions import UtcDateTime, db


class SignIn(db.Model):
    """One signing in: while it is here its refresh token, and what was made with it, is live.

    Tokens carry `id` as their claim `sid`. `expires_at` is that of the refresh token.
    """

    __tablename__ = "sign_ins"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
