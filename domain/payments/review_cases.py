"""Read review cases from a payment's timeline, which keeps the gateway's verified statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, or_, select

from db.models import Payment, PaymentEvent, PaymentReview, PaymentState, Refund
from domain.gateways.interface import GatewayPaymentState
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

    from domain.gateways.interface import PaymentUpdate

WRONG_AMOUNT = "wrong_amount"
MONEY_OF_ANOTHER = "money_of_another"
GATEWAY_REVIEW = "gateway_review"
"""Why a payment is under review where the gateway itself has doubts."""

MONEY_AFTER_REFUSAL = "money_after_refusal"
SECOND_MONEY = "second_money"
"""Money beside that which was credited, or that is under review: it can only go back."""

RETURN_FAILED = "return_failed"
"""Rejected money that had gone back and came again: it is owed once more."""

REJECTED_BY_STAFF = "rejected_by_staff"
"""The code of a payment that people refused."""

UNFIT_REFUND = "refund_of_too_much"
"""The step that tells of a refund at the gateway that no credit of ours stands for."""

REFUND_IN_OTHER_CURRENCY = "refund_in_other_currency"
REFUND_AMOUNT_CHANGED = "refund_amount_changed"
AMOUNT_CHANGED = "amount_changed"
REFUND_OF_ANOTHER = "refund_of_another_payment"
DISPUTE_OF_ANOTHER = "dispute_of_another_payment"
"""A refund or dispute that is booked on another payment: the gateway reported it there first."""

UNKNOWN_OUTCOME = "dispute_outcome_unknown"
"""A dispute closed with a code that is not known: it stays open until finance ends it."""

DISCREPANCIES = (
    REFUND_IN_OTHER_CURRENCY,
    REFUND_AMOUNT_CHANGED,
    AMOUNT_CHANGED,
    REFUND_OF_ANOTHER,
    DISPUTE_OF_ANOTHER,
    UNKNOWN_OUTCOME,
)
"""Steps that tell of money which the books do not have: a person looks into each."""

_WITH_MONEY = frozenset({GatewayPaymentState.PAID.value, GatewayPaymentState.UNDER_REVIEW.value})


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """A step of the timeline that staff decide on; `said` is the state at the gateway then.

    `amount` and `gateway_payment_id` are of the money as it was verified; None where the gateway
    did not state them. `said` is None in steps that were written before it was kept. Of a
    discrepancy, `expected` is what the ledger has, and `gateway_refund_id` or `gateway_dispute_id`
    names what it is about; `other_payment` is the reference of the payment that has it.
    """

    id: int
    reason: str
    since: datetime
    gateway_state: str | None
    amount: Money | None
    gateway_payment_id: str | None
    code: str | None
    expected: Money | None = None
    gateway_refund_id: str | None = None
    gateway_dispute_id: str | None = None
    other_payment: str | None = None

    @property
    def has_money(self) -> bool:
        """Whether the gateway reported that money was taken for this payment and no other."""
        return self.reason != MONEY_OF_ANOTHER and (
            self.gateway_state is None or self.gateway_state in _WITH_MONEY
        )

    @property
    def is_paid(self) -> bool:
        """Whether the gateway reported it as paid, or may have."""
        return self.gateway_state in {None, GatewayPaymentState.PAID.value}


def gateway_statement(update: PaymentUpdate) -> dict[str, Any]:
    """Return what the timeline keeps of an update: codes, ids and amounts only."""
    amount = None if update.amount is None else [update.amount.micros, update.amount.currency]
    return {
        "state": update.state.value,
        "gateway_payment": update.gateway_payment_id,
        "amount": amount,
        "code": update.code,
    }


def statement_of_case(case: ReviewCase) -> dict[str, Any]:
    """Return the same details for a case under review, for a step of its own."""
    amount = None if case.amount is None else [case.amount.micros, case.amount.currency]
    return {
        "state": case.gateway_state,
        "gateway_payment": case.gateway_payment_id,
        "amount": amount,
        "code": case.code,
    }


def current_case(session: Session, payment: Payment) -> ReviewCase | None:
    """Return the case for which a payment is under review, or None where it is not."""
    if payment.state != PaymentState.UNDER_REVIEW:
        return None
    row = session.scalars(
        _events_of(payment)
        .where(PaymentEvent.kind == payment.code)
        .order_by(PaymentEvent.id.desc())
    ).first()
    return None if row is None else case_of(row)


def open_cases(session: Session, payment: Payment) -> tuple[ReviewCase, ...]:
    """Return the open cases of a payment: its review first, then other money."""
    current = current_case(session, payment)
    decided = select(PaymentReview.case_id).where(
        PaymentReview.payment_id == payment.id, PaymentReview.state != "requested"
    )
    others = session.scalars(
        _events_of(payment)
        .where(PaymentEvent.kind == SECOND_MONEY, PaymentEvent.id.not_in(decided))
        .order_by(PaymentEvent.id)
    )
    found = [] if current is None else [current]
    found += [
        case
        for case in map(case_of, others)
        if not _is_credited(payment, case)
        and (current is None or case.gateway_payment_id != current.gateway_payment_id)
    ]
    return tuple(found)


def open_discrepancies(session: Session, payment: Payment) -> tuple[ReviewCase, ...]:
    """Return the amounts of a payment that differ from the ledger and have not been reviewed."""
    rows = session.scalars(
        _events_of(payment).where(is_open_discrepancy()).order_by(PaymentEvent.id)
    )
    return tuple(map(case_of, rows))


def is_open_discrepancy() -> ColumnElement[bool]:
    """Return the condition of steps of the timeline that wait for a review."""
    reviewed = exists().where(PaymentReview.case_id == PaymentEvent.id)
    return PaymentEvent.kind.in_(DISCREPANCIES) & ~reviewed


def _is_credited(payment: Payment, case: ReviewCase) -> bool:
    return case.gateway_payment_id is not None and (
        case.gateway_payment_id == payment.gateway_payment_id
    )


def is_reported(session: Session, payment: Payment, gateway_payment_id: str | None) -> bool:
    """Return whether this money was reported before as money that can only be refunded."""
    rows = session.scalars(_events_of(payment).where(PaymentEvent.kind == SECOND_MONEY))
    return any(case_of(row).gateway_payment_id == gateway_payment_id for row in rows)


def went_back(session: Session, payment: Payment, gateway_payment_id: str | None) -> bool:
    """Return whether the gateway reported that this money, never credited, was refunded."""
    rows = select(Refund.id).where(
        Refund.payment_id == payment.id,
        Refund.state.in_(("pending", "succeeded")),
        or_(Refund.gateway_payment_id.is_(None), Refund.gateway_payment_id == gateway_payment_id),
    )
    return session.scalars(rows.limit(1)).first() is not None


def is_credited_elsewhere(session: Session, payment: Payment, gateway_payment_id: str) -> bool:
    """Return whether another payment has been credited for this money."""
    other = session.scalars(
        select(Payment.id).where(
            Payment.gateway == payment.gateway,
            Payment.gateway_payment_id == gateway_payment_id,
            Payment.id != payment.id,
        )
    ).first()
    return other is not None


def is_ended_by(case: ReviewCase, update: PaymentUpdate) -> bool:
    """Return whether a failure ends the case: one of another attempt does not."""
    if update.state is not GatewayPaymentState.FAILED:
        return False
    if (
        update.gateway_payment_id is not None
        and update.gateway_payment_id == case.gateway_payment_id
    ):
        return True
    is_nameless = update.gateway_payment_id is None or case.gateway_payment_id is None
    return is_nameless and not case.is_paid


def tells_more(case: ReviewCase, update: PaymentUpdate) -> bool:
    """Return whether an update states more about the money than the step of the case."""
    statement = gateway_statement(update)
    known = statement_of_case(case)
    names = ("state", "gateway_payment", "amount")
    return any(statement[name] is not None and statement[name] != known[name] for name in names)


def _events_of(payment: Payment) -> Select[PaymentEvent]:
    return select(PaymentEvent).where(
        PaymentEvent.account_id == payment.account_id, PaymentEvent.payment_id == payment.id
    )


def case_of(row: PaymentEvent) -> ReviewCase:
    """Return the case that a step of the timeline opens for staff to decide."""
    details: Mapping[str, Any] = row.details
    return ReviewCase(
        id=row.id,
        reason=row.kind,
        since=row.happened_at,
        gateway_state=details.get("state"),
        amount=kept_amount(details),
        gateway_payment_id=details.get("gateway_payment"),
        code=details.get("code"),
        expected=kept_amount(details, "expected"),
        gateway_refund_id=details.get("gateway_refund"),
        gateway_dispute_id=details.get("gateway_dispute"),
        other_payment=details.get("other_payment"),
    )


def kept_amount(details: Mapping[str, Any], name: str = "amount") -> Money | None:
    """Return an amount that the details of a step keep as micros and currency, or None."""
    kept = details.get(name)
    if not isinstance(kept, list):
        return None
    micros, currency, *_rest = kept
    return Money(int(micros), str(currency))
