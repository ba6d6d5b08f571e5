"""Define the tables of exchange rates and quotes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.approvals import Decidable
from db.models.base import Base, BigKey, Instant, Micros, one_of


class ExchangeRate(Decidable, Base):
    """What one unit of `base_currency` costs in `quote_currency`, in force once it is approved.

    `margin_basis_points` is added to what customers pay. A rate is requested by one person and
    approved by another; `reason` states why it is far from the one before it.
    """

    __tablename__ = "exchange_rates"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    base_currency: Mapped[str]
    quote_currency: Mapped[str]
    rate: Mapped[Decimal] = mapped_column(Numeric(20, 10))
    margin_basis_points: Mapped[int] = mapped_column(Integer)
    source: Mapped[str]
    as_of: Mapped[Instant]
    reason: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default=text("'requested'"))
    requested_by: Mapped[str]
    requested_at: Mapped[Instant]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("state", "requested", "approved", "rejected"), name="state"),
        CheckConstraint("rate > 0", name="rate"),
        CheckConstraint("margin_basis_points BETWEEN 0 AND 2000", name="margin"),
        CheckConstraint("base_currency <> quote_currency", name="currencies"),
        CheckConstraint("decided_by IS NULL OR decided_by <> requested_by", name="two_people"),
        CheckConstraint("(state = 'requested') = (decided_at IS NULL)", name="decided"),
        Index(
            "ix_exchange_rates_in_force",
            "base_currency",
            "quote_currency",
            "decided_at",
            postgresql_where=text("state = 'approved'"),
        ),
    )


class ExchangeQuote(Base):
    """A price that was shown: what an amount of credit costs in another currency. Insert-only."""

    __tablename__ = "exchange_quotes"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    rate_id: Mapped[int] = mapped_column(ForeignKey("exchange_rates.id"))
    pay_micros: Mapped[Micros]
    pay_currency: Mapped[str]
    credit_micros: Mapped[Micros]
    credit_currency: Mapped[str]
    effective_rate: Mapped[Decimal] = mapped_column(Numeric(20, 10))
    made_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    made_by: Mapped[str]

    __table_args__ = (
        CheckConstraint("pay_micros > 0 AND credit_micros > 0", name="amounts"),
        Index(None, "account_id", "id"),
    )
