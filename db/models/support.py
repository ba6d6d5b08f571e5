"""Define the tables of support: limits, requests that wait for approval, actions and notes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.approvals import ApprovalState, Decidable
from db.models.base import Base, BigKey, Instant, Json, Micros, one_of


class ActionLimit(Base):
    """How much one person of a role may do of an action for an account in a day, alone."""

    __tablename__ = "action_limits"

    action: Mapped[str] = mapped_column(Text, primary_key=True)
    role: Mapped[str] = mapped_column(Text, primary_key=True)
    currency: Mapped[str] = mapped_column(Text, primary_key=True)
    daily_micros: Mapped[Micros]
    version: Mapped[int] = mapped_column(Integer)
    updated_at: Mapped[Instant]
    updated_by: Mapped[str]

    __table_args__ = (
        CheckConstraint("daily_micros >= 0", name="daily"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("version > 0", name="version"),
    )


class ApprovalRequest(Decidable, Base):
    """An action that waits for another person, with all that is needed to carry it out then."""

    __tablename__ = "approval_requests"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    action: Mapped[str]
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    currency: Mapped[str]
    amount_micros: Mapped[Micros]
    parameters: Mapped[Json]
    reason: Mapped[str]
    idempotency_key: Mapped[str]
    requested_by: Mapped[str]
    requested_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    state: Mapped[str] = mapped_column(server_default=text("'requested'"))
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    remark: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(one_of("state", *ApprovalState), name="state"),
        CheckConstraint("(state = 'requested') = (decided_at IS NULL)", name="decided"),
        CheckConstraint(
            "state NOT IN ('approved', 'rejected') OR decided_by <> requested_by", name="two_people"
        ),
        CheckConstraint("amount_micros > 0", name="amount"),
        UniqueConstraint("requested_by", "idempotency_key"),
        Index("ix_approval_requests_requested", "id", postgresql_where=text("state = 'requested'")),
        Index(None, "account_id", "id"),
    )


class StaffAct(Base):
    """Something that staff did to an account's credit, alone or after an approval. Insert-only.

    `refund_id` is the refund of a payment where the act requested one; its amount is then of the
    currency that was paid.
    """

    __tablename__ = "staff_acts"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    action: Mapped[str]
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    currency: Mapped[str]
    amount_micros: Mapped[Micros]
    maker: Mapped[str]
    checker: Mapped[str | None]
    request_id: Mapped[int | None] = mapped_column(ForeignKey("approval_requests.id"))
    reason: Mapped[str]
    entries: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    code: Mapped[str | None]
    refund_id: Mapped[int | None] = mapped_column(ForeignKey("refunds.id"))
    acted_at: Mapped[Instant]

    __table_args__ = (
        CheckConstraint("amount_micros > 0", name="amount"),
        CheckConstraint("checker <> maker", name="two_people"),
        CheckConstraint("(checker IS NULL) = (request_id IS NULL)", name="approved"),
        UniqueConstraint("request_id"),
        Index(None, "maker", "account_id", "action", "acted_at"),
        Index(None, "maker", "action", "currency", "acted_at"),
        Index(
            "uq_staff_acts_refund_id",
            "refund_id",
            unique=True,
            postgresql_where=text("refund_id IS NOT NULL"),
        ),
        Index(None, "account_id", "id"),
    )


class AccountNote(Base):
    """What staff wrote down about an account, for other staff. Insert-only."""

    __tablename__ = "account_notes"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    text: Mapped[str]
    written_by: Mapped[str]
    written_at: Mapped[Instant]

    __table_args__ = (Index(None, "account_id", "id"),)
