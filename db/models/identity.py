"""People, their sessions, and the throttling of wrong guesses."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, BigKey, Instant, one_of


class User(Base):
    """A person who signs in. Staff have a role; customers act through account membership."""

    __tablename__ = "users"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    password_hash: Mapped[str]
    staff_role: Mapped[str | None]
    locale: Mapped[str | None]
    time_zone: Mapped[str | None]
    email_verified_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint("email = lower(email)", name="email_lower"),
        CheckConstraint(one_of("staff_role", "support", "finance", "admin"), name="staff_role"),
        Index("ix_users_staff", "staff_role", postgresql_where=text("staff_role IS NOT NULL")),
    )


class UserSession(Base):
    """A signed-in browser. Only a digest of its token is kept; revoking is setting a time."""

    __tablename__ = "user_sessions"

    token_digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[Instant] = mapped_column(server_default=func.now())
    expires_at: Mapped[Instant]
    revoked_at: Mapped[datetime | None]
    address: Mapped[str]
    user_agent: Mapped[str]

    __table_args__ = (Index(None, "user_id"),)


class EmailToken(Base):
    """A link that was mailed: it verifies an address or resets a password, once."""

    __tablename__ = "email_tokens"

    token_digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    purpose: Mapped[str]
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())
    expires_at: Mapped[Instant]
    used_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("purpose", "verify_email", "reset_password"), name="purpose"),
        Index(None, "user_id"),
    )


class Throttle(Base):
    """Failures counted in a window of time under the digest of who or where they came from."""

    __tablename__ = "throttles"

    key_digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    window_started_at: Mapped[Instant]
    failures: Mapped[int] = mapped_column(server_default=text("0"))
