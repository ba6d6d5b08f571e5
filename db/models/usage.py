"""Metered calls, the keys that make them count once, fractions not yet charged, and roll-ups."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
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


class SiteTotal(Base):
    """What all accounts of a site, country and currency add up to on a day, as far as folded.

    The rest waits in `total_changes`: only the two together are exact. `country` and `service`
    are empty where there is none. The sums of many accounts may go beyond what one can hold.
    """

    __tablename__ = "site_totals"

    site_code: Mapped[str] = mapped_column(primary_key=True)
    country: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    service: Mapped[str] = mapped_column(primary_key=True)
    amount_micros: Mapped[Decimal] = mapped_column(Numeric(38, 0))
    entries: Mapped[BigKey]
    calls: Mapped[BigKey]

    __table_args__ = (CheckConstraint("entries > 0 AND calls >= 0", name="counts"), HOT_ROWS)


class TotalChange(Base):
    """What one posting adds to its sites' days, until a job has added it to `site_totals`."""

    __tablename__ = "total_changes"

    change_number: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    site_code: Mapped[str]
    country: Mapped[str]
    currency: Mapped[str]
    day: Mapped[date]
    kind: Mapped[str]
    service: Mapped[str]
    amount_micros: Mapped[Decimal] = mapped_column(Numeric(38, 0))
    entries: Mapped[BigKey]
    calls: Mapped[BigKey]


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
