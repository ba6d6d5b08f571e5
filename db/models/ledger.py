"""The ledger: insert-only facts, and the cached projections that stand beside them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import HOT_ROWS, Base, BigKey, Instant, Json, Micros, one_of

ENTRY_KINDS = (
    "top_up",
    "voucher",
    "plan",
    "adjustment",
    "charge",
    "expiry",
    "refund",
    "dispute",
    "write_off",
    "reversal",
    "settlement_of_debt",
)
GRANT_KINDS = ("overdraft", "plan", "voucher", "adjustment", "top_up")
DEBT_CAUSES = ("usage", "refund", "dispute", "reversal")
OVERDRAFT_NUMBER = 0
"""Every account's overdraft grant: the only one that goes below zero."""


class Grant(Base):
    """Credit of one origin, and what was paid for it."""

    __tablename__ = "grants"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    grant_number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    amount_micros: Mapped[Micros]
    consideration_micros: Mapped[Micros]
    services: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    starts_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    priority: Mapped[int] = mapped_column(SmallInteger)
    origin: Mapped[str | None]
    paid_micros: Mapped[int | None] = mapped_column(BigInteger)
    paid_currency: Mapped[str | None]
    tax_point: Mapped[str]
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(7, 6))
    place_of_supply: Mapped[str]
    customer_tax_status: Mapped[str | None]
    granted_at: Mapped[Instant]
    entry_sequence: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        CheckConstraint(one_of("kind", *GRANT_KINDS), name="kind"),
        CheckConstraint("(kind = 'overdraft') = (grant_number = 0)", name="overdraft_is_zero"),
        CheckConstraint("(kind = 'overdraft') = (entry_sequence IS NULL)", name="entry_named"),
        CheckConstraint("(amount_micros > 0) = (kind <> 'overdraft')", name="amount"),
        CheckConstraint("consideration_micros >= 0", name="consideration"),
        CheckConstraint("services IS NULL OR cardinality(services) > 0", name="services"),
        CheckConstraint("expires_at > starts_at", name="expires_after_start"),
        CheckConstraint(
            "mod(extract(epoch FROM starts_at), 60) = 0"
            " AND mod(extract(epoch FROM expires_at), 60) = 0",
            name="whole_minutes",
        ),
        CheckConstraint("(paid_micros IS NULL) = (paid_currency IS NULL)", name="paid"),
        CheckConstraint(one_of("tax_point", "TOP_UP", "USAGE"), name="tax_point"),
    )


class GrantBalance(Base):
    """What remains of a grant, how much of that is held, and what has been taken from it.

    `clawed_back_micros` was clawed back (reversals, refunds, disputes), spent or not;
    `expired_micros` expired.

    `is_open` is true while anything remains (always, for the overdraft): it keeps spent grants out
    of the hot path. What a posting needs of the grant's terms is repeated here, so that it reads
    one table.
    """

    __tablename__ = "grant_balances"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    grant_number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    amount_micros: Mapped[Micros]
    consideration_micros: Mapped[Micros]
    rate_millionths: Mapped[int] = mapped_column(Integer)
    services: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    starts_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    priority: Mapped[int] = mapped_column(SmallInteger)
    granted_at: Mapped[Instant]
    remaining_micros: Mapped[Micros]
    held_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    is_open: Mapped[bool]
    clawed_back_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    expired_micros: Mapped[Micros] = mapped_column(server_default=text("0"))

    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "grant_number"], ["grants.account_id", "grants.grant_number"]
        ),
        CheckConstraint(
            "(grant_number = 0 AND remaining_micros <= 0 AND held_micros = 0)"
            " OR (grant_number > 0 AND remaining_micros >= held_micros AND held_micros >= 0)",
            name="only_overdraft_below_zero",
        ),
        CheckConstraint("clawed_back_micros >= 0 AND expired_micros >= 0", name="gone"),
        Index(None, "account_id", postgresql_where=text("is_open")),
        Index(
            "ix_grant_balances_due",
            "expires_at",
            postgresql_where=text("is_open AND expires_at IS NOT NULL"),
        ),
        HOT_ROWS,
    )


class Entry(Base):
    """One posted fact about an account, numbered 1, 2, 3 … under the account's lock."""

    __tablename__ = "entries"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    account_sequence: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    service: Mapped[str | None]
    source: Mapped[str]
    description_code: Mapped[str]
    description_parameters: Mapped[Json]
    amount_micros: Mapped[Micros]
    balance_after_micros: Mapped[Micros]
    occurred_at: Mapped[Instant]
    posted_at: Mapped[Instant]
    accounting_date: Mapped[date]
    actor: Mapped[str]
    reverses_sequence: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        CheckConstraint(one_of("kind", *ENTRY_KINDS), name="kind"),
        CheckConstraint("account_sequence > 0", name="sequence"),
        CheckConstraint("(kind = 'reversal') = (reverses_sequence IS NOT NULL)", name="reverses"),
        CheckConstraint("reverses_sequence < account_sequence", name="reverses_earlier"),
        CheckConstraint(
            "CASE WHEN kind IN ('top_up', 'voucher', 'plan', 'write_off') THEN amount_micros > 0"
            " WHEN kind = 'charge' THEN amount_micros <= 0"
            " WHEN kind IN ('expiry', 'refund', 'dispute') THEN amount_micros < 0"
            " WHEN kind = 'settlement_of_debt' THEN amount_micros = 0"
            " ELSE amount_micros <> 0 END",
            name="sign",
        ),
        Index("ix_entries_history", "account_id", "occurred_at", "account_sequence"),
        # Charges are most rows, so each kind of index holds either them or everything else.
        Index(
            "ix_entries_charge_history",
            "account_id",
            "service",
            "occurred_at",
            "account_sequence",
            postgresql_where=text("kind = 'charge'"),
        ),
        Index(
            "ix_entries_kind_history",
            "account_id",
            "kind",
            "occurred_at",
            "account_sequence",
            postgresql_where=text("kind <> 'charge'"),
        ),
        Index(
            "ix_entries_kind_service_history",
            "account_id",
            "kind",
            text("shown_service(kind, service, source)"),
            "occurred_at",
            "account_sequence",
            postgresql_where=text("kind <> 'charge'"),
        ),
        Index(
            None,
            "account_id",
            "reverses_sequence",
            postgresql_where=text("reverses_sequence IS NOT NULL"),
        ),
    )


class Allocation(Base):
    """How much of an entry moved which grant.

    `consideration_micros` and `tax_micros` are the signed shares of what was paid for the grant and
    of the tax inside it. On overdraft lines they are the money that is refunded for what is clawed
    back, and the tax inside the amount. `debt_service` and `debt_cause` name the debt that the line
    creates or settles.
    """

    __tablename__ = "allocations"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    account_sequence: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    line_number: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    grant_number: Mapped[BigKey]
    amount_micros: Mapped[Micros]
    remaining_after_micros: Mapped[Micros]
    consideration_micros: Mapped[Micros]
    tax_micros: Mapped[Micros]
    debt_service: Mapped[str | None]
    debt_cause: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("amount_micros <> 0", name="amount"),
        CheckConstraint("grant_number > 0 OR debt_cause IS NOT NULL", name="overdraft_names_debt"),
        CheckConstraint("(debt_cause IS NULL) = (debt_service IS NULL)", name="debt"),
        Index(None, "account_id", "grant_number", "account_sequence"),
    )


class Debt(Base):
    """What an account owes for one service and cause: the overdraft, broken down.

    `service` is empty where the debt concerns none (a refund or a dispute).
    """

    __tablename__ = "debts"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    service: Mapped[str] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(primary_key=True)
    due_micros: Mapped[Micros]
    opened_at: Mapped[Instant]

    __table_args__ = (
        CheckConstraint(one_of("cause", *DEBT_CAUSES), name="cause"),
        CheckConstraint("due_micros >= 0", name="due"),
    )
