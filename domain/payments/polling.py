"""Poll the gateways for payments and refunds, which repairs lost webhooks and lost responses.

Each gateway is polled by itself, and each payment alone: any error in a query or its response
postpones that payment, longer each time, and the next one is polled.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, select
from sqlalchemy.exc import OperationalError

from db.models import OPEN_PAYMENT_STATES, Payment, PaymentState, Refund
from domain import clock
from domain.errors import NotFound
from domain.gateways.interface import GatewayPaymentState, GatewayRefused, GatewayUnavailable
from domain.payments.check_schedule import (
    earliest,
    failure_wait,
    next_check,
    next_check_after_failure,
    payment_end,
    refund_wait,
)
from domain.payments.gateway_updates import apply_payment_update, apply_updates, as_of
from domain.payments.records import (
    GATEWAY_ACTOR,
    add_event,
    add_event_once,
    count_events,
    known,
    lock_payment,
)
from domain.permissions import require
from domain.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.interface import (
        DisputeUpdate,
        Gateway,
        GatewayUpdate,
        KnownPayment,
        RefundUpdate,
        Snapshot,
    )

__all__ = [
    "CHECK_EVERY",
    "CHECK_FAILED",
    "REFUND_UNANSWERED",
    "ask_later",
    "check_payment",
    "due_payments",
    "due_refunds",
    "next_check",
    "note_failed_check",
]

_log = logging.getLogger(__name__)

CHECK_EVERY = timedelta(seconds=5)
PASS_DEADLINE_SECONDS = 60
"""How long a pass over one gateway goes on to the next payment."""

CHECK_FAILED = "check_failed"
"""The event that a question failed, or that its answer could not be processed: once an error."""

REFUND_UNANSWERED = "refund_unanswered"
"""The event that a refund is not sent again: no gateway said whether it was made."""

_BATCH_SIZE = 50
_MAX_FAILURE_EVENTS = 20
_MAX_ERROR_LENGTH = 120
HELD_REFUND_WAIT = timedelta(minutes=5)
_IN_PROGRESS = ("requested", "pending")


@dataclass(frozen=True, slots=True)
class DueRefund:
    """A refund to send, or to query where it `is_sent`."""

    refund_id: int
    payment_id: int
    is_sent: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A query, its time, and the payment's plan then; `is_due` if the schedule asks."""

    payment_id: int
    about: KnownPayment
    asked_at: datetime
    state: str
    planned: datetime | None
    is_due: bool


# ── One payment ───────────────────────────────────────────────────────────────────────────────
def check_payment(
    sessions: sessionmaker[Session],
    *,
    gateway: Gateway,
    payment_id: int,
    actor: Actor,
    on_failure: Callable[[str], None] | None = None,
) -> str:
    """Query the gateway for a payment, take what was approved, and return its state afterwards.

    Those who may pay for the account, staff and the system may call this. A gateway that does not
    respond, or whose response cannot be processed, leaves everything as it is: `on_failure` is
    given its name, and it is queried again later. Raises NotFound and NotAuthorised.
    """
    with sessions.begin() as session:
        payment = session.get(Payment, payment_id)
        if payment is None or payment.gateway != gateway.name:
            raise NotFound("payment")
        require(actor, "ask_gateway", payment.account_id)
        if payment.is_sandbox != gateway.is_sandbox:
            return payment.state
        question = prepare_question(session, payment, clock.now(session), is_due=False)
    return ask(sessions, gateway, question, on_failure)


def prepare_question(
    session: Session, payment: Payment, asked_at: datetime, *, is_due: bool
) -> Question:
    return Question(
        payment_id=payment.id,
        about=known(session, payment),
        asked_at=asked_at,
        state=payment.state,
        planned=payment.next_check_at,
        is_due=is_due,
    )


def ask(
    sessions: sessionmaker[Session],
    gateway: Gateway,
    question: Question,
    on_failure: Callable[[str], None] | None,
) -> str:
    try:
        snapshot = gateway.complete_payment(question.about)
        return run_transaction(
            sessions, lambda session: _apply(session, gateway, question, snapshot)
        )
    except Exception as error:  # noqa: BLE001 - a payment must not hold up the others
        if on_failure is not None:
            on_failure(gateway.name)
        return set_aside(sessions, question.payment_id, error)


def _apply(session: Session, gateway: Gateway, question: Question, snapshot: Snapshot) -> str:
    payment = lock_payment(session, question.payment_id)
    if payment is None:
        raise NotFound("payment")
    now = clock.now(session)
    state, planned = payment.state, payment.next_check_at
    update = as_of(snapshot.payment, question.asked_at)
    apply_payment_update(session, payment, update, actor=GATEWAY_ACTOR)
    updates: list[GatewayUpdate] = [
        _stated(update, question.asked_at) for update in snapshot.refunds
    ]
    updates += [_stated(update, question.asked_at) for update in snapshot.disputes]
    apply_updates(session, gateway=gateway, updates=updates, actor=GATEWAY_ACTOR)
    _expire(session, payment, snapshot.payment.state, now)
    scheduled = next_check(payment, now)
    if payment.state != state:
        payment.checks = 0
        if payment.next_check_at != planned:  # the update may need an early check
            scheduled = earliest(scheduled, payment.next_check_at)
    elif not question.is_due and not snapshot.unread:
        return payment.state  # frequent manual checks do not slow down the schedule
    if snapshot.unread:
        _log.warning(
            "payment %d: %s told nothing of %s", payment.id, gateway.name, sorted(snapshot.unread)
        )
        scheduled = earliest(scheduled, now + failure_wait(payment))
    # A webhook received during the query may know more than the response.
    is_replanned = planned != question.planned
    payment.next_check_at = earliest(scheduled, planned) if is_replanned else scheduled
    return payment.state


def _stated(
    update: RefundUpdate | DisputeUpdate, asked_at: datetime
) -> RefundUpdate | DisputeUpdate:
    """Date a statement that has no date of its own: it is true as of the query, not later.

    Gateways date their events to the second, truncated: what they report in the second of the query
    may have happened after it, and must not count as older than the response.
    """
    if update.stated_at is not None:
        return as_of(update, asked_at)
    return replace(update, stated_at=asked_at.replace(microsecond=0))


def _expire(
    session: Session, payment: Payment, message: GatewayPaymentState, now: datetime
) -> None:
    """Expire a payment whose time is over and for which the gateway knows no money."""
    is_unpaid = message in {GatewayPaymentState.OPEN, GatewayPaymentState.UNKNOWN}
    if payment.state in OPEN_PAYMENT_STATES and is_unpaid and now >= payment_end(payment):
        payment.state = PaymentState.EXPIRED
        add_event(session, payment, "expired", actor=GATEWAY_ACTOR)


# ── What fails ────────────────────────────────────────────────────────────────────────────────
def set_aside(
    sessions: sessionmaker[Session],
    payment_id: int,
    error: Exception,
    *,
    refund_id: int | None = None,
) -> str:
    """Store why a payment could not be queried, plan the next time, and return its state."""
    if isinstance(error, GatewayUnavailable | GatewayRefused):
        _log.warning("payment %d cannot be asked about: %s", payment_id, error)
    else:
        _log.error("the check of payment %d failed", payment_id, exc_info=error)
    with sessions.begin() as session:
        payment = lock_payment(session, payment_id)
        if payment is None:
            raise NotFound("payment")
        now = clock.now(session)
        if payment.next_check_at is not None and payment.next_check_at <= now:
            back_off(payment, now)
        note_failed_check(session, payment, error, refund_id=refund_id)
        return payment.state


def note_failed_check(
    session: Session, payment: Payment, error: Exception, *, refund_id: int | None = None
) -> None:
    """Record on a payment, once per error, that a gateway's statement could not be processed."""
    # A lost connection or a lock timeout says nothing about the payment.
    is_reported = count_events(session, payment, CHECK_FAILED) >= _MAX_FAILURE_EVENTS
    if not is_reported and not isinstance(error, OperationalError):
        details: dict[str, Any] = {"error": _error_name(error)}
        if refund_id is not None:
            details["refund"] = refund_id
        add_event_once(session, payment, CHECK_FAILED, actor=GATEWAY_ACTOR, details=details)


def _error_name(error: Exception) -> str:
    """Return the name of an error without its message, which may hold names and addresses."""
    if isinstance(error, GatewayUnavailable | GatewayRefused):
        return f"{error.code}: {error.reason}"[:_MAX_ERROR_LENGTH]
    place, trace = "", error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.startswith("domain."):
            place = f" in {module}.{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"[:_MAX_ERROR_LENGTH]


def back_off(payment: Payment, now: datetime) -> None:
    payment.checks += 1
    payment.next_check_at = next_check_after_failure(payment, now)


# ── What is due ───────────────────────────────────────────────────────────────────────────────
def due_payments(
    session: Session, *, gateway: Gateway, limit: int = _BATCH_SIZE
) -> tuple[int, ...]:
    """Return the payments of a gateway that are due to be queried, those without credit first.

    A payment created in the sandbox is not the live gateway's, and the reverse.
    """
    rank = case(
        (Payment.state.in_(OPEN_PAYMENT_STATES), 0), (Payment.credited_at.is_(None), 1), else_=2
    )
    rows = session.scalars(
        select(Payment.id)
        .where(
            Payment.gateway == gateway.name,
            Payment.is_sandbox == gateway.is_sandbox,
            Payment.next_check_at <= clock.now(session),
        )
        .order_by(rank, Payment.next_check_at, Payment.id)
        .limit(limit)
    )
    return tuple(rows)


def due_refunds(
    session: Session, *, gateway: Gateway, limit: int = _BATCH_SIZE
) -> tuple[DueRefund, ...]:
    """Return the refunds of a gateway that are due to be sent or queried."""
    rows = session.execute(
        select(Refund.id, Refund.payment_id, Refund.state)
        .join(Payment, Payment.id == Refund.payment_id)
        .where(
            Payment.gateway == gateway.name,
            Payment.is_sandbox == gateway.is_sandbox,
            Refund.next_check_at <= clock.now(session),
            Refund.state.in_(_IN_PROGRESS),
        )
        .order_by(Refund.next_check_at, Refund.id)
        .limit(limit)
    )
    return tuple(DueRefund(row.id, row.payment_id, row.state != "requested") for row in rows)


def ask_later(session: Session, *, refund_id: int) -> None:
    """Count an attempt to send or query a refund, and plan the next one, later each time."""
    refund = session.get_one(Refund, refund_id)
    refund.checks += 1
    refund.next_check_at = clock.now(session) + refund_wait(refund.checks)
