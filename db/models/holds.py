"""Define the tables of holds, their ends, and refusals."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, BigKey, Instant, Json, Micros, one_of


class Hold(Base):
    """Credit set aside for work that has begun."""

    __tablename__ = "holds"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    hold_number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    service: Mapped[str]
    source: Mapped[str]
    description_code: Mapped[str]
    description_parameters: Mapped[Json]
    amount_micros: Mapped[Micros]
    placed_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    actor: Mapped[str]

    __table_args__ = (
        CheckConstraint("amount_micros > 0", name="amount"),
        CheckConstraint("expires_at > placed_at", name="expires_after_placing"),
    )


class HoldAllocation(Base):
    """How much of a hold is set aside in which grant."""

    __tablename__ = "hold_allocations"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    hold_number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    grant_number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    amount_micros: Mapped[Micros]

    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "hold_number"], ["holds.account_id", "holds.hold_number"]
        ),
        ForeignKeyConstraint(
            ["account_id", "grant_number"], ["grants.account_id", "grants.grant_number"]
        ),
        CheckConstraint("amount_micros > 0", name="amount"),
    )


class HoldResolution(Base):
    """How a hold ended; a hold ends once."""

    __tablename__ = "hold_resolutions"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    hold_number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    outcome: Mapped[str]
    entry_sequence: Mapped[int | None] = mapped_column(BigInteger)
    resolved_at: Mapped[Instant]
    actor: Mapped[str]

    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "hold_number"], ["holds.account_id", "holds.hold_number"]
        ),
        CheckConstraint(one_of("outcome", "captured", "voided", "expired"), name="outcome"),
        CheckConstraint(
            "(outcome = 'captured') = (entry_sequence IS NOT NULL)",
            name="captured_by_entry",
        ),
    )


class OpenHold(Base):
    """The holds that have not ended: a queue for the expiry job and for the history page."""

    __tablename__ = "open_holds"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    hold_number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    expires_at: Mapped[Instant]

    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "hold_number"], ["holds.account_id", "holds.hold_number"]
        ),
        Index(None, "expires_at"),
    )


class Refusal(Base):
    """A declined charge or hold, and the reason."""

    __tablename__ = "refusals"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    refusal_number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    operation: Mapped[str]
    reason: Mapped[str]
    service: Mapped[str]
    source: Mapped[str]
    description_code: Mapped[str]
    description_parameters: Mapped[Json]
    amount_micros: Mapped[Micros]
    available_micros: Mapped[Micros]
    occurred_at: Mapped[Instant]
    posted_at: Mapped[Instant]
    actor: Mapped[str]

    __table_args__ = (
        CheckConstraint(one_of("operation", "charge", "hold"), name="operation"),
        CheckConstraint(
            one_of("reason", "insufficient_credit", "account_frozen", "in_debt", "too_old"),
            name="reason",
        ),
        Index("ix_refusals_history", "account_id", "operation", "occurred_at", "refusal_number"),
        Index(
            "ix_refusals_service_history",
            "account_id",
            "operation",
            "service",
            "occurred_at",
            "refusal_number",
        ),
    )
