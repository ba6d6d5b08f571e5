"""Metered calls, the keys that make them count once, fractions not yet charged, and roll-ups."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Numeric,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import HOT_ROWS, Base, BigKey, Digest, ExactMicros, Instant, Json, Micros


class UsageKey(Base):
    """The idempotency store of charges: what was said about an event, and the answer.

    It names no foreign key: that check cost a tenth of a charge, and verify-ledger proves it.
    """

    __tablename__ = "usage_keys"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    origin: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[Digest]
    account_sequence: Mapped[int | None] = mapped_column(BigInteger)
    refusal_number: Mapped[int | None] = mapped_column(BigInteger)
    recorded_at: Mapped[Instant]

    __table_args__ = (
        CheckConstraint("num_nonnulls(account_sequence, refusal_number) = 1", name="one_answer"),
    )


class UsageEvent(Base):
    """A metered call, behind the entry that charged it."""

    __tablename__ = "usage_events"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    account_sequence: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    line_number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    origin: Mapped[str]
    event_id: Mapped[str]
    service: Mapped[str]
    model: Mapped[str]
    occurred_at: Mapped[Instant]
    quantities: Mapped[Json]
    exact_micros: Mapped[ExactMicros]
    catalogue_version: Mapped[int]

    __table_args__ = (CheckConstraint("exact_micros >= 0", name="exact"),)


class DailyTotal(Base):
    """What an account's entries of one kind, service and source add up to on a day.

    `day` is the day of occurrence in the zone of the account's site; `service` is empty where an
    entry names none; `calls` counts the metered calls behind the entries.
    """

    __tablename__ = "daily_totals"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    day: Mapped[date] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    service: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    amount_micros: Mapped[Micros]
    entries: Mapped[BigKey]
    calls: Mapped[BigKey]

    __table_args__ = (CheckConstraint("entries > 0 AND calls >= 0", name="counts"), HOT_ROWS)


class DailyQuantity(Base):
    """How much of a meter the metered calls of a day, service and source used, exactly."""

    __tablename__ = "daily_quantities"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    day: Mapped[date] = mapped_column(primary_key=True)
    service: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    meter: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[Decimal] = mapped_column(Numeric)

    __table_args__ = (HOT_ROWS,)
