"""Define the tables of incoming money: payments, gateway messages, reviews and documents."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from db.models.approvals import Decidable
from db.models.base import Base, BigKey, Digest, Instant, Json, Micros, one_of


class PaymentState(StrEnum):
    """The state of a payment. AWAITING: the customer has promised to pay, at a store or bank."""

    CREATED = "created"
    PENDING = "pending"
    AWAITING = "awaiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNDER_REVIEW = "under_review"


OPEN_PAYMENT_STATES = frozenset((PaymentState.CREATED, PaymentState.PENDING, PaymentState.AWAITING))
"""States in which the customer may still be about to pay."""

DOCUMENT_KINDS = ("receipt", "credit_note", "cancellation")


class Payment(Base):
    """One checkout at a gateway, or one bank transfer: what is paid, and what is credited for it.

    `reference` is ours, `gateway_reference` the gateway's id of the checkout, and
    `gateway_payment_id` that of the money itself. `next_check_at` is when the gateway is polled
    next.
    """

    __tablename__ = "payments"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    reference: Mapped[str]
    gateway: Mapped[str]
    is_sandbox: Mapped[bool] = mapped_column(Boolean)
    state: Mapped[str]
    pay_micros: Mapped[Micros]
    pay_currency: Mapped[str]
    credit_micros: Mapped[Micros]
    credit_currency: Mapped[str]
    quote_id: Mapped[int | None] = mapped_column(ForeignKey("exchange_quotes.id"))
    profile_version: Mapped[int] = mapped_column(Integer)
    consent_version: Mapped[str]
    language: Mapped[str]
    created_by: Mapped[str]
    idempotency_key: Mapped[str]
    request_hash: Mapped[Digest]
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    redirect_url: Mapped[str | None]
    gateway_reference: Mapped[str | None]
    gateway_payment_id: Mapped[str | None]
    method: Mapped[str | None]
    code: Mapped[str | None]
    pay_by: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    credited_at: Mapped[datetime | None]
    entry_sequence: Mapped[int | None] = mapped_column(BigInteger)
    grant_number: Mapped[int | None] = mapped_column(BigInteger)
    fee_micros: Mapped[int | None] = mapped_column(BigInteger)
    fee_currency: Mapped[str | None]
    refunded_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    disputed_micros: Mapped[Micros] = mapped_column(server_default=text("0"))
    has_receipt: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    next_check_at: Mapped[datetime | None]
    checks: Mapped[int] = mapped_column(Integer, server_default=text("0"))

    __table_args__ = (
        CheckConstraint(one_of("state", *PaymentState), name="state"),
        CheckConstraint("pay_micros > 0 AND credit_micros > 0", name="amounts"),
        CheckConstraint(
            "(state = 'succeeded') = (entry_sequence IS NOT NULL)"
            " AND (entry_sequence IS NULL) = (grant_number IS NULL)"
            " AND (entry_sequence IS NULL) = (credited_at IS NULL)",
            name="credited",
        ),
        CheckConstraint(
            "entry_sequence IS NULL OR gateway_payment_id IS NOT NULL", name="credit_has_money"
        ),
        # A gateway may refund more than was paid; the excess waits for a person.
        CheckConstraint("refunded_micros >= 0", name="refunded"),
        CheckConstraint("disputed_micros >= 0", name="disputed"),
        CheckConstraint("(fee_micros IS NULL) = (fee_currency IS NULL)", name="fee"),
        Index("uq_payments_reference", "reference", unique=True),
        Index("uq_payments_key", "account_id", "idempotency_key", unique=True),
        Index("uq_payments_gateway_reference", "gateway", "gateway_reference", unique=True),
        Index("uq_payments_gateway_payment_id", "gateway", "gateway_payment_id", unique=True),
        Index("uq_payments_quote_id", "quote_id", unique=True),
        Index(None, "account_id", "created_at", "id"),
        Index(
            "ix_payments_next_check_at",
            "next_check_at",
            postgresql_where=text("next_check_at IS NOT NULL"),
        ),
        Index(
            "ix_payments_without_receipt",
            "credited_at",
            postgresql_where=text("state = 'succeeded' AND NOT has_receipt"),
        ),
        Index(
            "ix_payments_under_review",
            "id",
            postgresql_where=text("state = 'under_review'"),
        ),
    )


class PaymentEvent(Base):
    """A step of a payment's life, for its timeline. Insert-only."""

    __tablename__ = "payment_events"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    payment_id: Mapped[int] = mapped_column(
        ForeignKey("payments.id"), primary_key=True, autoincrement=False
    )
    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    happened_at: Mapped[Instant] = mapped_column(server_default=func.clock_timestamp())
    kind: Mapped[str]
    actor: Mapped[str]
    details: Mapped[Json]

    __table_args__ = (
        Index(
            "ix_payment_events_second_money",
            "payment_id",
            postgresql_where=text("kind = 'second_money'"),
        ),
        Index(
            "ix_payment_events_discrepancies",
            "payment_id",
            postgresql_where=text(
                "kind IN ('refund_in_other_currency', 'refund_amount_changed', 'amount_changed',"
                " 'refund_of_another_payment', 'dispute_of_another_payment',"
                " 'dispute_outcome_unknown')"
            ),
        ),
    )


class ReviewState(StrEnum):
    """The state of a case's review; a discrepancy is only reviewed, and moves nothing."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVIEWED = "reviewed"


class ReturnState(StrEnum):
    """Whether rejected money still has to be returned."""

    DUE = "due"
    RETURNED = "returned"
    NOT_RECEIVED = "not_received"


class PaymentReview(Decidable, Base):
    """The decision on money received that was under review: one row for one case.

    A row in the state "reviewed" is about an amount that differs from the ledger, and moves
    nothing.

    `case_id` is the step of the timeline that opened the case. A request to approve counts only
    while that case is the payment's. `received_micros` is what the gateway verified; where it was
    rejected, `return_state` states whether it still has to be returned.
    """

    __tablename__ = "payment_reviews"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"))
    case_id: Mapped[int] = mapped_column(BigInteger)
    case_reason: Mapped[str]
    state: Mapped[str]
    requested_by: Mapped[str | None]
    requested_at: Mapped[datetime | None]
    request_reason: Mapped[str | None]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    decision_reason: Mapped[str | None]
    gateway_payment_id: Mapped[str | None]
    received_micros: Mapped[int | None] = mapped_column(BigInteger)
    received_currency: Mapped[str | None]
    return_state: Mapped[str | None]
    returned_by: Mapped[str | None]
    returned_at: Mapped[datetime | None]
    return_reference: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(one_of("state", *ReviewState), name="state"),
        CheckConstraint("decided_by IS NULL OR decided_by <> requested_by", name="two_people"),
        CheckConstraint(
            "state IN ('rejected', 'reviewed') OR requested_by IS NOT NULL", name="requested"
        ),
        CheckConstraint(
            "(state = 'requested') = (decided_by IS NULL)"
            " AND (decided_by IS NULL) = (decided_at IS NULL)"
            " AND (decided_by IS NULL) = (decision_reason IS NULL)",
            name="decided",
        ),
        CheckConstraint(
            "(received_micros IS NULL) = (received_currency IS NULL) AND received_micros > 0",
            name="received",
        ),
        CheckConstraint(
            "return_state IN ('due', 'returned', 'not_received')"
            " AND (return_state IS NULL OR state = 'rejected')",
            name="return_state",
        ),
        CheckConstraint(
            "(returned_at IS NULL) = (coalesce(return_state, 'due') = 'due')", name="returned"
        ),
        Index("uq_payment_reviews_case_id", "case_id", unique=True),
        Index(None, "payment_id", "id"),
        Index(
            "ix_payment_reviews_due",
            "payment_id",
            postgresql_where=text("return_state = 'due'"),
        ),
    )


class GatewayMessage(Base):
    """A message received from a gateway, or in its name, and its outcome. Insert-only.

    The same message with the same outcome is kept once. `payload` is encrypted, since gateways send
    names and addresses; `account_id` 0 stands for an unknown account. `reason` is why it was
    rejected, or "paid" where it reports money that matches no payment.
    """

    __tablename__ = "gateway_messages"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    gateway: Mapped[str]
    event_id: Mapped[str]
    event_type: Mapped[str]
    outcome: Mapped[str]
    reason: Mapped[str | None]
    payment_id: Mapped[int | None] = mapped_column(BigInteger)
    account_id: Mapped[BigKey] = mapped_column(server_default=text("0"))
    received_at: Mapped[Instant]
    payload_digest: Mapped[Digest]
    payload: Mapped[bytes] = mapped_column(BYTEA)

    __table_args__ = (
        Index("uq_gateway_messages_event", "gateway", "event_id", "outcome", unique=True),
        Index(None, "payment_id", "id", postgresql_where=text("payment_id IS NOT NULL")),
        Index(None, "received_at"),
        Index(
            "ix_gateway_messages_refused",
            "gateway",
            "received_at",
            postgresql_where=text("outcome IN ('bad_signature', 'malformed')"),
        ),
        Index(
            "ix_gateway_messages_unmatched",
            "received_at",
            postgresql_where=text("reason = 'paid'"),
        ),
    )


class DataKey(Base):
    """The key that encrypts data of an account in a year; without it that data cannot be read.

    `wrapped_by` names the secret key that it is encrypted under; None where an older version of the
    portal created it.
    """

    __tablename__ = "data_keys"

    account_id: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    year: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    wrapped_key: Mapped[bytes] = mapped_column(BYTEA)
    wrapped_by: Mapped[str | None]
    made_at: Mapped[Instant] = mapped_column(server_default=func.now())


class PaymentCredit(Base):
    """The effect of a payment on its account's credit: one row for each ledger entry. Insert-only.

    `credit_micros` is positive where credit was granted (the payment itself, and what was restored
    of a refund or a dispute) and negative where it was clawed back; `pay_micros` is the money that
    belongs to it, with the same sign. A row without an entry moves a clawback from a reversal to
    the dispute that it belongs to.
    """

    __tablename__ = "payment_credits"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    refund_id: Mapped[int | None] = mapped_column(ForeignKey("refunds.id"))
    dispute_id: Mapped[int | None] = mapped_column(ForeignKey("disputes.id"))
    entry_sequence: Mapped[int | None] = mapped_column(BigInteger)
    credit_micros: Mapped[Micros]
    pay_micros: Mapped[Micros]
    posted_at: Mapped[Instant]

    __table_args__ = (
        CheckConstraint("number > 0", name="number"),
        CheckConstraint("num_nonnulls(refund_id, dispute_id) <= 1", name="cause"),
        CheckConstraint("credit_micros <> 0 AND pay_micros <> 0", name="amounts"),
        CheckConstraint("sign(credit_micros) = sign(pay_micros)", name="signs"),
        CheckConstraint(
            "entry_sequence IS NOT NULL OR num_nonnulls(refund_id, dispute_id) = 1", name="moved"
        ),
        Index(
            "uq_payment_credits_entry_sequence",
            "account_id",
            "entry_sequence",
            unique=True,
            postgresql_where=text("entry_sequence IS NOT NULL"),
        ),
    )


class BankTransfer(Decidable, Base):
    """Money on the bank account that finance records, and a second person approves.

    `normalised_reference` is the bank's reference as it is compared, and is unique. Of a transfer
    that was recorded under an older rule it may end with # and the transfer's number.
    """

    __tablename__ = "bank_transfers"

    id: Mapped[BigKey] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount_micros: Mapped[Micros]
    currency: Mapped[str]
    bank_reference: Mapped[str]
    normalised_reference: Mapped[str]
    received_on: Mapped[date]
    evidence_name: Mapped[str]
    evidence_type: Mapped[str]
    evidence: Mapped[bytes] = mapped_column(BYTEA)
    note: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=text("'requested'"))
    requested_by: Mapped[str]
    requested_at: Mapped[Instant]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    payment_id: Mapped[int | None] = mapped_column(ForeignKey("payments.id"))

    __table_args__ = (
        CheckConstraint(one_of("state", "requested", "approved", "rejected"), name="state"),
        CheckConstraint("amount_micros > 0", name="amount"),
        CheckConstraint("decided_by IS NULL OR decided_by <> requested_by", name="two_people"),
        CheckConstraint("(state = 'approved') = (payment_id IS NOT NULL)", name="approved"),
        CheckConstraint(
            "normalised_reference ~ '^[a-z0-9]+$' AND normalised_reference ="
            " lower(regexp_replace(bank_reference, '[^A-Za-z0-9]', '', 'g') COLLATE \"C\")"
            " AND bank_reference ~ '^[A-Za-z0-9/?:().,''+ -]+$'"
            " OR normalised_reference ~ '^[a-z0-9]*#[0-9]+$'",
            name="normalised_reference",
        ),
        Index(
            "uq_bank_transfers_normalised_reference",
            "normalised_reference",
            unique=True,
            postgresql_where=text("state <> 'rejected'"),
        ),
        Index(None, "account_id", "id"),
    )


class Document(Base):
    """A numbered document, with everything that is printed on it. Insert-only.

    Numbers have no gap in a site's year and kind: the issuing job assigns them one after the other.
    A cancellation cancels the credit note of a refund that failed after all. `content` is
    encrypted, since it names the customer.
    """

    __tablename__ = "documents"

    site_code: Mapped[str] = mapped_column(ForeignKey("sites.code"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    year: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[BigKey] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"))
    refund_id: Mapped[int | None] = mapped_column(ForeignKey("refunds.id"))
    issued_at: Mapped[Instant]
    content: Mapped[bytes] = mapped_column(BYTEA)

    __table_args__ = (
        CheckConstraint(one_of("kind", *DOCUMENT_KINDS), name="kind"),
        CheckConstraint("number > 0", name="number"),
        CheckConstraint("(kind = 'receipt') = (refund_id IS NULL)", name="refund"),
        Index(
            "uq_documents_payment_id",
            "payment_id",
            unique=True,
            postgresql_where=text("kind = 'receipt'"),
        ),
        Index(None, "refund_id", postgresql_where=text("refund_id IS NOT NULL")),
        Index(None, "account_id", "issued_at"),
    )
