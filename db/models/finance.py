"""Define the tables of journal postings without a grant, and the keys of every other write."""

from __future__ import annotations

from datetime import date

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, BigKey, Digest, Instant, Json, Micros


class FinancePosting(Base):
    """The header of a finance posting: one key, one set of balanced lines."""

    __tablename__ = "finance_postings"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    site_code: Mapped[str] = mapped_column(ForeignKey("sites.code"))
    idempotency_key: Mapped[str]
    request_hash: Mapped[Digest]

    __table_args__ = (
        Index("uq_finance_postings_key", "site_code", "idempotency_key", unique=True),
    )


class FinanceEntry(Base):
    """A line of a balanced posting that concerns no grant (fees, payouts, tax, differences).

    `amount_micros` is a debit when positive and a credit when negative.
    """

    __tablename__ = "finance_entries"

    posting_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    line_number: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    site_code: Mapped[str] = mapped_column(ForeignKey("sites.code"))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    reference: Mapped[str]
    ledger_code: Mapped[str]
    amount_micros: Mapped[Micros]
    currency: Mapped[str]
    occurred_at: Mapped[Instant]
    posted_at: Mapped[Instant] = mapped_column(server_default=func.clock_timestamp())
    accounting_date: Mapped[date]
    actor: Mapped[str]

    __table_args__ = (
        CheckConstraint("amount_micros <> 0", name="amount"),
        Index(None, "site_code", "accounting_date"),
    )


class IdempotencyKey(Base):
    """Every other write's key, the digest of its request and the first answer."""

    __tablename__ = "idempotency_keys"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str]
    request_hash: Mapped[Digest]
    answer: Mapped[Json]
    recorded_at: Mapped[Instant] = mapped_column(server_default=func.now())
