"""Read payments for display: the history of an account, one payment, and its whole timeline."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, func, or_, select, tuple_

from db.models import (
    OPEN_PAYMENT_STATES,
    BankTransfer,
    BillingProfileVersion,
    Dispute,
    Grant,
    Payment,
    PaymentCredit,
    PaymentEvent,
    PaymentReview,
    PaymentState,
    Refund,
)
from db.models.payments import ReturnState
from domain.errors import NotFound
from domain.money import Money
from domain.payments.records import ATTEMPT_REFUSED, INSTRUCTIONS
from domain.payments.reviews import needs_decision
from domain.permissions import allows, require
from domain.validation import is_whole_number

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.orm import Session

    from domain.actors import Actor


PAGE_SIZE = 50
_MAX_REFERENCE_LENGTH = 20
_MAX_SEARCH_LENGTH = 200
MERGED = "merged"
PENDING_REFUNDS = ("requested", "pending")
"""States of a refund whose credit was taken and whose money has not gone out."""


class PaymentStatus(StrEnum):
    """How a payment reads in the history: the three that customers know."""

    SUCCESS = "success"
    PENDING = "pending"
    FAILED = "failed"


STATES_OF = {
    PaymentStatus.SUCCESS: (PaymentState.SUCCEEDED,),
    PaymentStatus.PENDING: (
        PaymentState.CREATED,
        PaymentState.PENDING,
        PaymentState.AWAITING,
        PaymentState.UNDER_REVIEW,
    ),
    PaymentStatus.FAILED: (PaymentState.FAILED, PaymentState.CANCELLED, PaymentState.EXPIRED),
}
_STATUS_OF = {state: status for status, states in STATES_OF.items() for state in states}


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A payment. `state` is the detail behind `status`.

    `redirect_url` is where an open payment is paid, and `instructions_url` where the customer reads
    how to pay one that a store awaits. `email` is who gets the receipt. `has_receipt` says that it
    was issued, `has_open_dispute` that the bank asks the money back, and `has_lost_dispute` that it
    got it. `refunded` is what went back, `refund_pending` what is to go back and has not yet.
    `received_on` is the day of a bank transfer, None for any other. `has_declined_attempt` is of an
    open payment: what it was to be paid with was declined, and it may still be paid with something
    else. `is_given_back` is of a rejected one: all the money that came for it went back.
    """

    payment_id: int
    account_id: int
    reference: str
    gateway: str
    is_sandbox: bool
    state: PaymentState
    code: str | None
    method: str | None
    pay: Money
    credit: Money
    refunded: Money
    refund_pending: Money
    disputed: Money
    has_open_dispute: bool
    has_lost_dispute: bool
    has_declined_attempt: bool
    is_given_back: bool
    created_at: datetime
    received_on: date | None
    expires_at: datetime
    paid_at: datetime | None
    pay_by: datetime | None
    entry_sequence: int | None
    redirect_url: str | None
    instructions_url: str | None
    gateway_reference: str | None
    gateway_payment_id: str | None
    email: str | None
    has_receipt: bool

    @property
    def status(self) -> PaymentStatus:
        """The status that the history shows."""
        return _STATUS_OF[self.state]

    @property
    def refundable(self) -> Money:
        """The amount neither refunded, nor about to be, nor disputed."""
        left = self.pay - self.refunded - self.refund_pending - self.disputed
        return max(left, Money(0, left.currency))

    @property
    def is_open(self) -> bool:
        """Whether it may still come to an end by itself."""
        return self.state in OPEN_PAYMENT_STATES

    @property
    def pay_url(self) -> str | None:
        """Where the customer goes on paying; None where there is nothing to do, or not yet."""
        if self.state == PaymentState.AWAITING:
            return self.instructions_url
        return self.redirect_url if self.is_open else None


@dataclass(frozen=True, slots=True)
class PaymentPage:
    """Payments, newest first, and the id to go on from, where there are more.

    `imported_top_ups` is how many top-ups of the account were paid elsewhere and brought in by the
    system: credit without a payment, such as that of sample accounts.
    """

    rows: tuple[PaymentView, ...]
    older_than: int | None
    imported_top_ups: int


@dataclass(frozen=True, slots=True)
class PaymentOutcome:
    """A payment, and what was refunded of it, for those who may see its account."""

    payment: PaymentView
    refunds: tuple[RefundView, ...]
    disputes: tuple[DisputeView, ...]


def payment_page(
    session: Session,
    *,
    actor: Actor,
    account_id: int,
    status: PaymentStatus | None = None,
    older_than: int | None = None,
) -> PaymentPage:
    """Return the account's newest payments, or those before another.

    Raises NotFound where the actor may not read the account.
    """
    require(actor, "see_account", account_id)
    statement = _payments().where(Payment.account_id == account_id)
    if status is not None:
        statement = statement.where(Payment.state.in_(STATES_OF[status]))
    if older_than is not None:
        edge = select(Payment.created_at, Payment.id).where(Payment.id == older_than)
        statement = statement.where(tuple_(Payment.created_at, Payment.id) < edge.scalar_subquery())
    newest_first = (Payment.created_at.desc(), Payment.id.desc())
    rows = session.execute(statement.order_by(*newest_first).limit(PAGE_SIZE + 1)).all()
    shown = tuple(_view(row) for row in rows[:PAGE_SIZE])
    return PaymentPage(
        shown,
        shown[-1].payment_id if len(rows) > PAGE_SIZE else None,
        _count_imported(session, account_id),
    )


def _count_imported(session: Session, account_id: int) -> int:
    has_payment = exists().where(
        PaymentCredit.account_id == Grant.account_id,
        PaymentCredit.entry_sequence == Grant.entry_sequence,
    )
    imported = select(func.count()).where(
        Grant.account_id == account_id, Grant.kind == "top_up", ~has_payment
    )
    return session.scalars(imported).one()


def find_payment(session: Session, *, actor: Actor, reference: str) -> PaymentView:
    """Return the payment of a reference. Raises NotFound, also where it is not theirs to see."""
    row = None
    if len(reference) <= _MAX_REFERENCE_LENGTH and reference.isascii() and reference.isalnum():
        row = session.execute(_payments().where(Payment.reference == reference)).one_or_none()
    if row is None:
        raise NotFound("payment")
    found = _view(row)
    try:
        require(actor, "see_account", found.account_id)
    except NotFound:
        raise NotFound("payment") from None
    return found


def payment_outcome(session: Session, *, actor: Actor, reference: str) -> PaymentOutcome:
    """Return a payment with its refunds and disputes. Raises NotFound as `find_payment` does."""
    payment = find_payment(session, actor=actor, reference=reference)
    if payment.entry_sequence is None:
        return PaymentOutcome(payment, (), ())
    is_staff = allows(actor, "look_up_payments")
    return PaymentOutcome(
        payment,
        find_refunds(session, payment, is_staff=is_staff),
        find_disputes(session, payment),
    )


def find_payments(
    session: Session,
    *,
    actor: Actor,
    search_text: str,
    only_waiting: bool = False,
    limit: int = PAGE_SIZE,
) -> tuple[PaymentView, ...]:
    """Return the newest payments by our reference, a gateway's name of it, or an account's id.

    An empty search finds the newest of all; `only_waiting` leaves those that people have to
    decide about. Raises NotAuthorised for anyone who is no staff.
    """
    require(actor, "look_up_payments")
    tidy = search_text.replace("\0", "").strip()[:_MAX_SEARCH_LENGTH]
    statement = _payments()
    if tidy:
        names = [
            Payment.reference == tidy.upper(),
            Payment.gateway_reference == tidy,
            Payment.gateway_payment_id == tidy,
        ]
        if is_whole_number(tidy):
            names.append(Payment.account_id == int(tidy))
        statement = statement.where(or_(*names))
    if only_waiting:
        statement = statement.where(needs_decision())
    rows = session.execute(statement.order_by(Payment.id.desc()).limit(limit))
    return tuple(_view(row) for row in rows)


def _payments() -> Select[Any]:
    email = (
        select(BillingProfileVersion.email)
        .where(
            BillingProfileVersion.account_id == Payment.account_id,
            BillingProfileVersion.version == Payment.profile_version,
        )
        .scalar_subquery()
    )
    declined = exists().where(
        PaymentEvent.account_id == Payment.account_id,
        PaymentEvent.payment_id == Payment.id,
        PaymentEvent.kind == ATTEMPT_REFUSED,
    )
    instructions = (
        select(PaymentEvent.details["url"].astext)
        .where(
            PaymentEvent.account_id == Payment.account_id,
            PaymentEvent.payment_id == Payment.id,
            PaymentEvent.kind == INSTRUCTIONS,
        )
        .order_by(PaymentEvent.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    pending = (
        select(func.coalesce(func.sum(Refund.outflow_micros), 0))
        .where(Refund.payment_id == Payment.id, Refund.state.in_(PENDING_REFUNDS))
        .scalar_subquery()
    )
    received_on = (
        select(BankTransfer.received_on)
        .where(
            BankTransfer.account_id == Payment.account_id,
            BankTransfer.payment_id == Payment.id,
        )
        .scalar_subquery()
    )
    return select(
        Payment,
        received_on.label("received_on"),
        pending.label("refund_pending_micros"),
        email.label("email"),
        instructions.label("instructions_url"),
        _has_dispute("open").label("has_open_dispute"),
        _has_dispute("lost").label("has_lost_dispute"),
        and_(Payment.state.in_(OPEN_PAYMENT_STATES), declined).label("has_declined_attempt"),
        and_(_has_return(ReturnState.RETURNED), ~_has_return(ReturnState.DUE)).label(
            "is_given_back"
        ),
    )


def _has_return(state: str) -> ColumnElement[bool]:
    return exists().where(
        PaymentReview.payment_id == Payment.id, PaymentReview.return_state == state
    )


def _has_dispute(state: str) -> ColumnElement[bool]:
    return exists().where(Dispute.payment_id == Payment.id, Dispute.state == state)


def _view(row: Row[Any]) -> PaymentView:
    payment: Payment = row.Payment
    pending = Money(int(row.refund_pending_micros), payment.pay_currency)
    return PaymentView(
        payment_id=payment.id,
        account_id=payment.account_id,
        reference=payment.reference,
        gateway=payment.gateway,
        is_sandbox=payment.is_sandbox,
        state=PaymentState(payment.state),
        code=payment.code,
        method=payment.method,
        pay=Money(payment.pay_micros, payment.pay_currency),
        credit=Money(payment.credit_micros, payment.credit_currency),
        refunded=Money(payment.refunded_micros, payment.pay_currency) - pending,
        refund_pending=pending,
        disputed=Money(payment.disputed_micros, payment.pay_currency),
        has_open_dispute=row.has_open_dispute,
        has_lost_dispute=row.has_lost_dispute,
        has_declined_attempt=row.has_declined_attempt,
        is_given_back=row.is_given_back,
        created_at=payment.created_at,
        received_on=row.received_on,
        expires_at=payment.expires_at,
        paid_at=payment.paid_at,
        pay_by=payment.pay_by,
        entry_sequence=payment.entry_sequence,
        redirect_url=payment.redirect_url,
        instructions_url=row.instructions_url if payment.state == PaymentState.AWAITING else None,
        gateway_reference=payment.gateway_reference,
        gateway_payment_id=payment.gateway_payment_id,
        email=row.email,
        has_receipt=payment.has_receipt,
    )


@dataclass(frozen=True, slots=True)
class RefundView:
    """A refund of a payment.

    `is_reversal` says that the gateway took the money by itself. `reason` and `requested_by` are
    for staff, None for anybody else.
    """

    refund_id: int
    state: str
    is_reversal: bool
    pay: Money
    credit: Money
    reason: str | None
    requested_by: str | None
    requested_at: datetime
    settled_at: datetime | None

    @property
    def is_pending(self) -> bool:
        """Whether its money has not gone out yet."""
        return self.state in PENDING_REFUNDS


@dataclass(frozen=True, slots=True)
class DisputeView:
    """A dispute of a payment: `lost` is what went to the customer, `reason` the gateway's code."""

    dispute_id: int
    state: str
    pay: Money
    lost: Money
    reason: str | None
    opened_at: datetime
    respond_by: datetime | None
    closed_at: datetime | None


def find_refunds(
    session: Session, payment: PaymentView, *, is_staff: bool
) -> tuple[RefundView, ...]:
    """Return the refunds, without reversals that became part of a dispute."""
    rows = session.scalars(
        select(Refund)
        .where(Refund.payment_id == payment.payment_id, Refund.state != MERGED)
        .order_by(Refund.id)
    )
    return tuple(
        RefundView(
            refund_id=row.id,
            state=row.state,
            is_reversal=row.is_reversal,
            pay=Money(row.pay_micros, payment.pay.currency),
            credit=Money(row.credit_micros, payment.credit.currency),
            reason=row.reason if is_staff else None,
            requested_by=row.requested_by if is_staff else None,
            requested_at=row.requested_at,
            settled_at=row.settled_at,
        )
        for row in rows
    )


def find_disputes(session: Session, payment: PaymentView) -> tuple[DisputeView, ...]:
    """Return the disputes of a payment."""
    rows = session.scalars(
        select(Dispute).where(Dispute.payment_id == payment.payment_id).order_by(Dispute.id)
    )
    return tuple(
        DisputeView(
            dispute_id=row.id,
            state=row.state,
            pay=Money(row.pay_micros, payment.pay.currency),
            lost=Money(row.outflow_micros, payment.pay.currency),
            reason=row.reason,
            opened_at=row.opened_at,
            respond_by=row.respond_by,
            closed_at=row.closed_at,
        )
        for row in rows
    )
