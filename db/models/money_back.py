"""Define the tables of refunds, disputes, and the accounts that disputes freeze."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, BigKey, Instant, Micros, one_of

REFUND_STATES = ("requested", "pending", "succeeded", "failed", "merged")
DISPUTE_STATES = ("open", "won", "lost")


class Refund(Base):
    """Money that goes back for a payment, and the credit that was clawed back for it.

    `reference` is ours where we asked for it; a refund that was made at the gateway has none.
    `gateway_payment_id` names the money that goes back; `is_reversal` says that the gateway took
    it by itself. A reversal that turns out to belong to a dispute is `merged` into it.

    `outflow_micros` is what goes, or went, out of the payment's money: all of it until the refund
    fails. `unapplied_micros` of that is money whose credit staff had reversed before, and for
    `clawed_back_micros` credit was clawed back, `credit_micros` in all. What is left of the
    outflow is more than was left of the payment, and waits for a person.
    """

    __tablename__ = "refunds"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"))
    gateway: Mapped[str]
    gateway_payment_id: Mapped[str | None]
    reference: Mapped[str | None]
    request_key: Mapped[str | None]
    request_hash: Mapped[bytes | None] = mapped_column(BYTEA)
    gateway_refund_id: Mapped[str | None]
    is_reversal: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    state: Mapped[str]
    pay_micros: Mapped[Micros]
    outflow_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    unapplied_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    clawed_back_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    credit_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    reason: Mapped[str]
    requested_by: Mapped[str]
    requested_at: Mapped[Instant]
    settled_at: Mapped[datetime | None]
    stated_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    has_credit_note: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    next_check_at: Mapped[datetime | None]
    checks: Mapped[int] = mapped_column(Integer, server_default=text("0"))

    __table_args__ = (
        CheckConstraint(one_of("state", *REFUND_STATES), name="state"),
        CheckConstraint("pay_micros > 0", name="amount"),
        CheckConstraint(
            "unapplied_micros >= 0 AND clawed_back_micros >= 0"
            " AND unapplied_micros + clawed_back_micros <= outflow_micros"
            " AND (credit_micros = 0) = (clawed_back_micros = 0)",
            name="outflow",
        ),
        CheckConstraint(
            "outflow_micros = 0 OR outflow_micros = pay_micros"
            " AND state IN ('requested', 'pending', 'succeeded')",
            name="outflow_of_state",
        ),
        Index("uq_refunds_reference", "reference", unique=True),
        Index("uq_refunds_request_key", "request_key", unique=True),
        Index("uq_refunds_gateway_refund_id", "gateway", "gateway_refund_id", unique=True),
        Index(None, "payment_id", "id"),
        Index(
            "ix_refunds_next_check_at",
            "next_check_at",
            postgresql_where=text("next_check_at IS NOT NULL"),
        ),
        Index(
            "ix_refunds_without_credit_note",
            "settled_at",
            postgresql_where=text("state = 'succeeded' AND NOT has_credit_note"),
        ),
        Index(
            "ix_refunds_with_void_credit_note",
            "settled_at",
            postgresql_where=text("state <> 'succeeded' AND has_credit_note"),
        ),
        Index(
            "ix_refunds_waits_for_person",
            "payment_id",
            postgresql_where=text("state IN ('requested', 'pending') AND next_check_at IS NULL"),
        ),
        Index(
            "ix_refunds_excess",
            "payment_id",
            postgresql_where=text("outflow_micros > unapplied_micros + clawed_back_micros"),
        ),
    )


class Dispute(Base):
    """A payment that the customer's bank asks back, and how that went.

    `lost_micros` is the part that the customer has been given: nothing at first, all or a part of
    it once it is lost, and still while an appeal is open. `held_micros` is what the gateway holds:
    the rest while the dispute is open. `outflow_micros` is what of the loss is booked, the other
    amounts are as those of a refund. `stated_at` is when the gateway said so; what it said before
    that counts no more. Before the payment is credited nothing is held or booked.
    """

    __tablename__ = "disputes"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"))
    gateway: Mapped[str]
    gateway_payment_id: Mapped[str | None]
    gateway_dispute_id: Mapped[str]
    state: Mapped[str]
    pay_micros: Mapped[Micros]
    lost_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    held_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    outflow_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    unapplied_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    clawed_back_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    credit_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    reason: Mapped[str | None]
    opened_at: Mapped[Instant]
    respond_by: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    stated_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    fee_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    fee_currency: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(one_of("state", *DISPUTE_STATES), name="state"),
        CheckConstraint("pay_micros > 0", name="amount"),
        CheckConstraint(
            "outflow_micros IN (0, lost_micros) AND lost_micros BETWEEN 0 AND pay_micros"
            " AND unapplied_micros >= 0 AND clawed_back_micros >= 0"
            " AND unapplied_micros + clawed_back_micros <= outflow_micros"
            " AND (credit_micros = 0) = (clawed_back_micros = 0)",
            name="outflow",
        ),
        CheckConstraint("state <> 'won' OR lost_micros = 0", name="won"),
        CheckConstraint("state <> 'lost' OR lost_micros > 0", name="lost"),
        CheckConstraint(
            "held_micros = 0 OR state = 'open' AND held_micros = pay_micros - lost_micros",
            name="held",
        ),
        CheckConstraint("(state = 'open') = (closed_at IS NULL)", name="closed"),
        CheckConstraint("fee_micros = 0 OR fee_currency IS NOT NULL", name="fee"),
        Index("uq_disputes_gateway_dispute_id", "gateway", "gateway_dispute_id", unique=True),
        Index(None, "payment_id", "id"),
        Index(None, "account_id", postgresql_where=text("state = 'open'")),
        Index(
            "ix_disputes_excess",
            "payment_id",
            postgresql_where=text("outflow_micros > unapplied_micros + clawed_back_micros"),
        ),
    )


class AccountFreeze(Base):
    """Why an account is frozen: it is as long as one of these is not lifted."""

    __tablename__ = "account_freezes"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    cause: Mapped[str] = mapped_column(primary_key=True)
    frozen_at: Mapped[Instant]
    frozen_by: Mapped[str]
    lifted_at: Mapped[datetime | None]
