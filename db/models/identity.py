"""Define the tables of people, sessions, authentication factors, and rate limits of guesses."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, BigKey, Digest, Instant, one_of


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
    factor: Mapped[str] = mapped_column(server_default=text("'password'"))
    factor_confirmed_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(
            one_of("factor", "password", "authenticator", "passkey", "recovery_code"),
            name="factor",
        ),
        Index(None, "user_id"),
    )


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


class PendingSignIn(Base):
    """A sign-in whose password was right and whose second factor is pending."""

    __tablename__ = "pending_sign_ins"

    token_digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())
    expires_at: Mapped[Instant]

    __table_args__ = (Index(None, "user_id"),)


class Authenticator(Base):
    """A person's authenticator app: its secret is sealed, and each code works once.

    A secret is offered first, to who holds the token of `offer_digest`, and is the app's once a
    first code of it was entered. `last_step` is
    the number of the 30 seconds whose code was used last.
    """

    __tablename__ = "authenticators"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    sealed_secret: Mapped[Digest | None]
    confirmed_at: Mapped[datetime | None]
    last_step: Mapped[int | None] = mapped_column(BigInteger)
    sealed_offer: Mapped[Digest | None]
    offer_digest: Mapped[Digest | None]
    offered_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(sealed_secret IS NULL) = (confirmed_at IS NULL)", name="confirmed"),
        CheckConstraint(
            "num_nonnulls(sealed_offer, offer_digest, offered_at) IN (0, 3)", name="offered"
        ),
    )


class RecoveryCode(Base):
    """A code that stands in for a lost device, once. Only a keyed digest of it is kept."""

    __tablename__ = "recovery_codes"

    code_digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "user_id"),)


class Passkey(Base):
    """A WebAuthn credential of a person: its public key, and how often it has signed."""

    __tablename__ = "passkeys"

    credential_id: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    public_key: Mapped[Digest]
    sign_count: Mapped[int] = mapped_column(BigInteger)
    transports: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[Instant] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "user_id"),)


class UsedChallenge(Base):
    """A challenge that a passkey has answered: it is taken once."""

    __tablename__ = "used_challenges"

    challenge_digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    expires_at: Mapped[Instant]


class Throttle(Base):
    """Failures counted in a window of time under the digest of who or where they came from."""

    __tablename__ = "throttles"

    key_digest: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    window_started_at: Mapped[Instant]
    failures: Mapped[int] = mapped_column(server_default=text("0"))
