"""Apply verified gateway updates: grant credit, once, and make every other change of state.

An update may be delivered twice, late, or in any order. The payment's row is locked, the money has
a unique id, and the credit an idempotency key of its own: each of the three would be enough.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from db.models import OPEN_PAYMENT_STATES, Payment, PaymentState
from domain import clock
from domain.gateways.interface import (
    DisputeUpdate,
    GatewayPaymentState,
    KnownName,
    Outcome,
    PaymentUpdate,
    RefundUpdate,
)
from domain.payments import review_cases
from domain.payments.check_schedule import next_check
from domain.payments.crediting import credit, find_before_credit, keep_method, record_instrument
from domain.payments.disputes import apply_dispute, deny_money, restore_money
from domain.payments.fees import book_payment_fee
from domain.payments.records import (
    ATTEMPT_REFUSED,
    FIRST_CHECK,
    INSTRUCTIONS,
    add_event,
    add_event_once,
    count_events,
    find_id,
    lock_by_name,
    lock_payment,
    pay_amount,
    report_discrepancy,
)
from domain.payments.refund_updates import apply_refund
from domain.payments.starter_packs import settle_packs
from domain.payments.unapplied_receipts import (
    refused_money,
    settle_by_failure,
    settle_by_refunds,
    was_denied_before,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Any

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.interface import Gateway, GatewayUpdate

AnyUpdate = TypeVar("AnyUpdate", bound="GatewayUpdate")

_log = logging.getLogger(__name__)

REVIEW_CHECK = timedelta(hours=6)
"""How often a gateway that doubts money is asked whether it still does."""


_CLOCKS_DIFFER = timedelta(minutes=1)
"""By how much a gateway's clock may be ahead of ours."""

_TAKEN_BACK = "denied_after_credit"


_CLOSING = {
    GatewayPaymentState.FAILED: PaymentState.FAILED,
    GatewayPaymentState.CANCELLED: PaymentState.CANCELLED,
    GatewayPaymentState.EXPIRED: PaymentState.EXPIRED,
}


def as_of(update: AnyUpdate, moment: datetime) -> AnyUpdate:
    """Return an update, with a date in the future replaced by the time it was received.

    The gateway's clock may be wrong. A statement dated in the future would count as newer than all
    that the gateway states until then, and a dispute that it closed would stay open.
    """
    latest = moment + _CLOCKS_DIFFER
    if update.occurred_at is not None and update.occurred_at > latest:
        update = replace(update, occurred_at=moment)
    if isinstance(update, PaymentUpdate) or update.stated_at is None or update.stated_at <= latest:
        return update
    return replace(update, stated_at=moment)


def apply_updates(
    session: Session, *, gateway: Gateway, updates: Iterable[GatewayUpdate], actor: Actor
) -> tuple[Outcome, Payment | None]:
    """Write the changes that the updates of one message make; return the outcome and the payment.

    The outcome is RECORDED where anything changed, else that of the last update.
    """
    outcome, found = Outcome.REPEATED, None
    for update, payment in _with_payments(session, gateway, tuple(updates)):
        if payment is None:
            became = Outcome.UNKNOWN_PAYMENT
            _report_unknown(gateway, update)
        else:
            found = payment
            became = _apply(session, payment, update, actor)
        if outcome is not Outcome.RECORDED:
            outcome = became
    return outcome, found


def _with_payments(
    session: Session, gateway: Gateway, updates: tuple[GatewayUpdate, ...]
) -> list[tuple[GatewayUpdate, Payment | None]]:
    """Return each update with its payment, locked: several payments in the order of their ids."""
    if len(updates) > 1:
        ids = {
            payment_id
            for update in updates
            if (payment_id := find_id(session, gateway, name_of(update))) is not None
        }
        for payment_id in sorted(ids):
            lock_payment(session, payment_id)
    return [
        (
            update,
            lock_by_name(
                session, gateway=gateway.name, is_sandbox=gateway.is_sandbox, name=name_of(update)
            ),
        )
        for update in updates
    ]


def _report_unknown(gateway: Gateway, update: GatewayUpdate) -> None:
    """Log money received for a payment that is unknown here, which staff have to investigate."""
    if (
        isinstance(update, PaymentUpdate)
        and update.state is GatewayPaymentState.PAID
        and update.reference
    ):
        _log.error("%s took money for a payment that is not known here", gateway.name)


def name_of(update: GatewayUpdate) -> KnownName:
    """Return how an update names its payment."""
    if isinstance(update, PaymentUpdate):
        return KnownName(update.reference, update.gateway_reference, update.gateway_payment_id)
    return KnownName(update.payment_reference, None, update.gateway_payment_id, is_money_first=True)


def _apply(session: Session, payment: Payment, update: GatewayUpdate, actor: Actor) -> Outcome:
    if isinstance(update, RefundUpdate):
        return apply_refund(session, payment, update, actor=actor)
    if isinstance(update, DisputeUpdate):
        return apply_dispute(session, payment, update, actor=actor)
    return apply_payment_update(session, payment, update, actor=actor)


def apply_payment_update(
    session: Session, payment: Payment, update: PaymentUpdate, *, actor: Actor
) -> Outcome:
    """Move a locked payment to the state that the gateway reports."""
    if update.state is GatewayPaymentState.FAILED and settle_by_failure(session, payment, update):
        return Outcome.RECORDED
    if payment.state not in OPEN_PAYMENT_STATES:
        settled = _of_refused(session, payment, update, actor)
        if settled is not None:
            return settled
    if update.state is GatewayPaymentState.PAID:
        return _take_money(session, payment, update, actor)
    if payment.state == PaymentState.SUCCEEDED:
        return _after_the_money(session, payment, update, actor)
    return _without_money(session, payment, update, actor)


def _without_money(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> Outcome:
    """Apply an update that does not report a payment, to a payment that is not credited."""
    case = review_cases.current_case(session, payment)
    if case is not None and review_cases.is_ended_by(case, update):
        outcome = _step(session, payment, update, actor)
        if case.reason == review_cases.MONEY_AFTER_REFUSAL:
            payment.code = review_cases.REJECTED_BY_STAFF
        return outcome
    if update.state is GatewayPaymentState.UNDER_REVIEW:
        is_right = update.amount in {None, pay_amount(payment)}
        reason = review_cases.GATEWAY_REVIEW if is_right else review_cases.WRONG_AMOUNT
        return _open_case(session, payment, reason, update, actor)
    if update.refusal is not None:
        return _note_refusal(session, payment, update, actor)
    says_nothing = update.state in {GatewayPaymentState.OPEN, GatewayPaymentState.UNKNOWN}
    if says_nothing or payment.state not in OPEN_PAYMENT_STATES:
        return Outcome.REPEATED
    return _step(session, payment, update, actor)


def _of_refused(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> Outcome | None:
    """Apply an update of rejected money; None where the update is about something else.

    Rejected money is not credited later: it is refunded, or has been. Other money received for a
    payment whose money was rejected is a new decision for staff.
    """
    is_refused = (
        payment.state == PaymentState.FAILED and payment.code == review_cases.REJECTED_BY_STAFF
    )
    review = refused_money(session, payment, update.gateway_payment_id)
    if review is not None and was_denied_before(review, update):
        return _paid_after_all(session, payment, update, actor)
    if review is None and not is_refused:
        return None
    if review is not None or update.state is not GatewayPaymentState.PAID:
        return Outcome.REPEATED
    return _open_case(session, payment, review_cases.MONEY_AFTER_REFUSAL, update, actor)


def _paid_after_all(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> Outcome:
    """Reopen the case of rejected money that the gateway denied, and then took after all."""
    if payment.state != PaymentState.SUCCEEDED:
        return _open_case(session, payment, review_cases.MONEY_AFTER_REFUSAL, update, actor)
    waiting = review_cases.open_cases(session, payment)
    if any(case.gateway_payment_id == update.gateway_payment_id for case in waiting):
        return Outcome.REPEATED
    _report(
        session, payment, review_cases.SECOND_MONEY, review_cases.gateway_statement(update), actor
    )
    return Outcome.RECORDED


def _note_refusal(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> Outcome:
    """Count a declined attempt, once however often it was reported: the next is a new one."""
    if update.refusal != count_events(session, payment, ATTEMPT_REFUSED):
        return Outcome.REPEATED
    details = {
        "code": update.code,
        "is_offered_again": update.state is GatewayPaymentState.APPROVED,
    }
    add_event(session, payment, ATTEMPT_REFUSED, actor=actor, details=details)
    return Outcome.RECORDED


def _after_the_money(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> Outcome:
    """Treat an update after the credit as late, unless the gateway withdraws its statement."""
    is_same_money = update.gateway_payment_id == payment.gateway_payment_id
    if update.state is not GatewayPaymentState.FAILED or not is_same_money:
        return Outcome.REPEATED
    outcome = deny_money(session, payment, update, actor=actor)
    if outcome is Outcome.RECORDED:
        _report(session, payment, _TAKEN_BACK, review_cases.gateway_statement(update), actor)
    return outcome


def _step(session: Session, payment: Payment, update: PaymentUpdate, actor: Actor) -> Outcome:
    """Make a change of state of an open payment that brings no money."""
    now = clock.now(session)
    keep_method(payment, update)
    if update.state is GatewayPaymentState.AWAITING:
        is_new = payment.state != PaymentState.AWAITING
        payment.state = PaymentState.AWAITING
        payment.pay_by = update.pay_by or payment.pay_by
        payment.next_check_at = next_check(payment, now)
        if update.instructions_url is not None:
            where = {"url": update.instructions_url}
            add_event_once(session, payment, INSTRUCTIONS, actor=actor, details=where)
    elif update.state is GatewayPaymentState.APPROVED:
        is_new = True
        payment.next_check_at = now
    else:
        is_new = True
        payment.state = _CLOSING[update.state]
        payment.code = update.code
        # Money may still be on its way: the gateway is queried once more, later.
        payment.next_check_at = now + FIRST_CHECK
    if not is_new:
        return Outcome.REPEATED
    details = {"code": update.code, "method": update.method}
    add_event(session, payment, update.state.value, actor=actor, details=details)
    return Outcome.RECORDED


def _take_money(session: Session, payment: Payment, update: PaymentUpdate, actor: Actor) -> Outcome:
    if payment.state == PaymentState.SUCCEEDED:
        if update.gateway_payment_id not in {None, payment.gateway_payment_id}:
            return _second_money(session, payment, update, actor)
        settle_packs(session, payment, update, actor)
        record_instrument(session, payment, update)
        book_payment_fee(session, payment, update, actor)
        is_restated = _report_restated(session, payment, update, actor)
        outcome = restore_money(session, payment, update, actor=actor)
        return Outcome.RECORDED if is_restated else outcome
    if (
        payment.state == PaymentState.UNDER_REVIEW
        and payment.code == review_cases.MONEY_AFTER_REFUSAL
    ):
        return _open_case(session, payment, review_cases.MONEY_AFTER_REFUSAL, update, actor)
    if update.amount != pay_amount(payment) or update.gateway_payment_id is None:
        return _open_case(session, payment, review_cases.WRONG_AMOUNT, update, actor)
    found = find_before_credit(session, payment, update.gateway_payment_id)
    if found.is_credited_elsewhere:
        return _open_case(session, payment, review_cases.MONEY_OF_ANOTHER, update, actor)
    _keep_other_money(session, payment, update, actor)
    credit(session, payment, update, found, actor)
    book_payment_fee(session, payment, update, actor)
    return Outcome.RECORDED


def _report_restated(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> bool:
    """Report, once, credited money for which the gateway now states another amount."""
    booked = pay_amount(payment)
    if update.amount in {None, booked}:
        return False
    details = {
        **review_cases.gateway_statement(update),
        "gateway_payment": payment.gateway_payment_id,
        "expected": [booked.micros, booked.currency],
    }
    kind = review_cases.AMOUNT_CHANGED
    return report_discrepancy(session, payment, kind, actor=actor, details=details)


def _keep_other_money(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> None:
    """Open a case for the money under review that another money of the payment replaces."""
    case = review_cases.current_case(session, payment)
    if case is None or not case.has_money or case.gateway_payment_id is None:
        return
    if case.gateway_payment_id == update.gateway_payment_id:
        return
    if not review_cases.is_reported(session, payment, case.gateway_payment_id):
        _report(
            session, payment, review_cases.SECOND_MONEY, review_cases.statement_of_case(case), actor
        )


def _open_case(
    session: Session, payment: Payment, reason: str, update: PaymentUpdate, actor: Actor
) -> Outcome:
    """Put a payment under review: money was received, and it is unclear for what.

    A repeated report opens no second case; one that states more about the money does.
    """
    known = review_cases.current_case(session, payment)
    if known is not None and not _is_news(session, payment, known, reason, update):
        is_known = True
    else:
        is_known = known is not None and known.reason == reason
        _keep_other_money(session, payment, update, actor)
        payment.state = PaymentState.UNDER_REVIEW
        payment.code = reason
        is_at_gateway = reason == review_cases.GATEWAY_REVIEW
        payment.next_check_at = clock.now(session) + REVIEW_CHECK if is_at_gateway else None
        keep_method(payment, update)
        _report(session, payment, reason, review_cases.gateway_statement(update), actor)
    if reason in {review_cases.WRONG_AMOUNT, review_cases.MONEY_OF_ANOTHER}:
        return Outcome.WRONG_AMOUNT
    return Outcome.REPEATED if is_known else Outcome.RECORDED


def _is_news(
    session: Session,
    payment: Payment,
    known: review_cases.ReviewCase,
    reason: str,
    update: PaymentUpdate,
) -> bool:
    brings_money = update.state in {GatewayPaymentState.PAID, GatewayPaymentState.UNDER_REVIEW}
    if known.has_money and not brings_money:
        return False
    if update.gateway_payment_id is None and update.amount is None:
        return False
    is_aside = review_cases.is_reported(session, payment, update.gateway_payment_id)
    return not is_aside and (known.reason != reason or review_cases.tells_more(known, update))


def _second_money(
    session: Session, payment: Payment, update: PaymentUpdate, actor: Actor
) -> Outcome:
    """Open a case, once, for a payment that was paid twice: the second money bought no credit."""
    if review_cases.is_reported(session, payment, update.gateway_payment_id):
        return Outcome.REPEATED
    _report(
        session, payment, review_cases.SECOND_MONEY, review_cases.gateway_statement(update), actor
    )
    settle_by_refunds(session, payment, update.gateway_payment_id)
    return Outcome.RECORDED


def _report(
    session: Session, payment: Payment, reason: str, details: Mapping[str, Any], actor: Actor
) -> None:
    add_event(session, payment, reason, actor=actor, details=details)
    _log.error("payment %d needs a person: %s", payment.id, reason)
