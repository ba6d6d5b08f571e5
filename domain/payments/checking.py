"""Asking gateways about payments that stayed open: what mends lost messages and lost answers."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Payment
from domain import clock
from domain.errors import NotFound
from domain.gateways.base import GatewayRefused, GatewayUnavailable, PaymentState
from domain.payments.doubts import GATEWAY_REVIEW
from domain.payments.facts import REVIEW_CHECK, apply_facts, apply_payment_fact
from domain.payments.records import GATEWAY_ACTOR, OPEN_STATES, known, lock_payment, note
from domain.payments.refunds import WAITS, ask_later, due_refunds, send_refund
from domain.permissions import require

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.base import Fact, Gateway, Snapshot

_log = logging.getLogger(__name__)

CHECK_EVERY = timedelta(seconds=5)
_WAITS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 30, 60))
_GRACE = timedelta(hours=1)
_LATE = tuple(timedelta(hours=hours) for hours in (1, 6, 24, 72))
_REVIEWED_WITHIN = timedelta(days=30)
_AT_ONCE = 50


def check_payment(
    sessions: sessionmaker[Session], *, gateway: Gateway, payment_id: int, actor: Actor
) -> str:
    """Ask the gateway how a payment stands, take what was approved, and return its state after.

    Whoever may pay for the account, staff and the system may ask. A gateway that does not answer
    leaves everything as it is, and is asked again later.
    """
    with sessions.begin() as session:
        payment = session.get(Payment, payment_id)
        if payment is None or payment.gateway != gateway.name:
            raise NotFound("payment")
        require(actor, "ask_gateway", payment.account_id)
        if payment.is_sandbox != gateway.is_sandbox:
            return payment.state
        about = known(session, payment)
    try:
        snapshot = gateway.complete_payment(about)
    except (GatewayUnavailable, GatewayRefused) as error:
        _log.warning("payment %d cannot be asked about: %s", payment_id, error)
        snapshot = None
    with sessions.begin() as session:
        return _take(session, gateway, payment_id, snapshot)


def _take(session: Session, gateway: Gateway, payment_id: int, snapshot: Snapshot | None) -> str:
    payment = lock_payment(session, payment_id)
    if payment is None:
        raise NotFound("payment")
    now = clock.now(session)
    # Set first: what the facts change may set another time.
    payment.checks += 1
    payment.next_check_at = next_check(payment, now)
    if snapshot is not None:
        apply_payment_fact(session, payment, snapshot.payment, actor=GATEWAY_ACTOR)
        told: tuple[Fact, ...] = (*snapshot.refunds, *snapshot.disputes)
        apply_facts(session, gateway=gateway, facts=told, actor=GATEWAY_ACTOR)
        _expire(session, payment, snapshot.payment.state, now)
        if payment.state == "succeeded":
            payment.next_check_at = None
    elif payment.credited_at is not None and now < payment.credited_at + _LATE[-1]:
        # The fee and what it was paid with are still to be told.
        payment.next_check_at = now + _WAITS[min(payment.checks, len(_WAITS)) - 1]
    return payment.state


def next_check(payment: Payment, now: datetime) -> datetime | None:
    """Return when to ask again: soon at first, later and later, and a few times after the end.

    A gateway may hear of money long after its customer's time is over.
    """
    if payment.state == "under_review" and payment.code == GATEWAY_REVIEW:
        return now + REVIEW_CHECK if now < payment.expires_at + _REVIEWED_WITHIN else None
    if payment.state in {"succeeded", "under_review"}:
        return None
    if payment.state in OPEN_STATES:
        return now + _WAITS[min(payment.checks, len(_WAITS)) - 1]
    later = [payment.expires_at + wait for wait in _LATE if payment.expires_at + wait > now]
    return later[0] if later else None


def _expire(session: Session, payment: Payment, said: PaymentState, now: datetime) -> None:
    """Call a payment expired whose time is over and of which the gateway knows no money."""
    over_at = (payment.pay_by or payment.expires_at) + _GRACE
    is_unpaid = said in {PaymentState.OPEN, PaymentState.UNKNOWN}
    if payment.state in OPEN_STATES and is_unpaid and now >= over_at:
        payment.state = "expired"
        payment.next_check_at = next_check(payment, now)
        note(session, payment, "expired", actor=GATEWAY_ACTOR)


def due_payments(session: Session, *, limit: int = _AT_ONCE) -> tuple[tuple[int, str], ...]:
    """Return (payment, gateway) of those whose time to be asked about has come."""
    rows = session.execute(
        select(Payment.id, Payment.gateway)
        .where(Payment.next_check_at <= clock.now(session))
        .order_by(Payment.next_check_at)
        .limit(limit)
    )
    return tuple((row.id, row.gateway) for row in rows)


def check_due(
    sessions: sessionmaker[Session],
    *,
    gateways: Mapping[str, Gateway],
    actor: Actor,
    stop: threading.Event | None = None,
) -> str:
    """Ask about every payment that is due and send refunds that wait; return what was done."""
    with sessions.begin() as session:
        due = due_payments(session)
    closed = asked = 0
    for payment_id, name in due:
        if stop is not None and stop.is_set():
            break
        gateway = gateways.get(name)
        if gateway is None:
            _postpone(sessions, payment_id)
            continue
        asked += 1
        state = check_payment(sessions, gateway=gateway, payment_id=payment_id, actor=actor)
        closed += state not in OPEN_STATES
    sent = _send_refunds(sessions, gateways, actor)
    return f"{asked} asked about, {closed} of them closed, {sent} refunds sent"


def _send_refunds(
    sessions: sessionmaker[Session], gateways: Mapping[str, Gateway], actor: Actor
) -> int:
    with sessions.begin() as session:
        due = due_refunds(session, limit=_AT_ONCE)
    sent = 0
    for refund in due:
        gateway = gateways.get(refund.gateway)
        if gateway is None or refund.is_sent:
            with sessions.begin() as session:
                ask_later(session, refund_id=refund.refund_id)
        if gateway is None:
            continue
        if refund.is_sent:
            check_payment(sessions, gateway=gateway, payment_id=refund.payment_id, actor=actor)
        else:
            state = send_refund(sessions, gateway=gateway, refund_id=refund.refund_id)
            sent += state not in {"requested", WAITS}
    return sent


def _postpone(sessions: sessionmaker[Session], payment_id: int) -> None:
    """Leave a payment of a gateway that is not set up here, and look again in a day."""
    with sessions.begin() as session:
        payment = lock_payment(session, payment_id)
        if payment is not None:
            payment.next_check_at = clock.now(session) + _LATE[2]
