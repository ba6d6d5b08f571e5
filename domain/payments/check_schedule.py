"""Compute when a gateway is queried next for a payment or a refund.

The times follow from the payment alone, so that any code that changes it can plan the next query.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from db.models import OPEN_PAYMENT_STATES, PaymentState
from domain.payments.review_cases import GATEWAY_REVIEW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from db.models import Payment

GRACE = timedelta(hours=1)
"""How long after its end a payment that nobody made is still open."""

REFUND_UNANSWERED_AFTER = timedelta(days=7)
"""How long a refund that no gateway answers is sent again and again."""

_DAY = timedelta(days=1)


def _minutes(*counts: int) -> tuple[timedelta, ...]:
    return tuple(timedelta(minutes=count) for count in counts)


_OPEN_WAITS = _minutes(1, 2, 5, 10, 30, 60)
_FAILURE_WAITS = (*_OPEN_WAITS, *_minutes(120, 360, 720, 1440))
_REFUND_WAITS = _minutes(1, 5, 30, 60, 360, 1440)
_AFTER_CREATION_IF_CANCELLED = _minutes(10, 30, 60, 120, 170)
_AFTER_EXPIRY = _minutes(60, 360, 1440, 4320)
_AFTER_CREDIT = tuple(_DAY * days for days in (1, 2, 3, 4, 5, 6, 7, 30, 60, 120))
_AFTER_CREDIT_WITHOUT_FEE = (*_minutes(1, 10, 60, 360), *_AFTER_CREDIT)
_AWAITING_AT_FIRST, _AWAITING, _REVIEW = timedelta(hours=1), timedelta(hours=6), timedelta(hours=6)
_OVERDUE = timedelta(hours=6)
_REVIEWED_WITHIN = timedelta(days=30)
_FAILURES_WITHIN = timedelta(days=30)

MAX_REFUND_CHECKS = len(_REFUND_WAITS) - 1 + REFUND_UNANSWERED_AFTER // _DAY
"""How often a refund without an answer is sent: as often as fits into that time."""


def next_check(payment: Payment, now: datetime) -> datetime | None:
    """Return when the gateway is asked about a payment after it was asked now, None for never.

    Open payments are asked about soon at first, then hourly to their end; those promised at a
    store a few times a day. What failed or expired is looked at a few times more: a gateway may
    hear of money long after its customer's time is over, and a customer may approve in another
    tab what was cancelled in this one. A credited payment is asked about for months, because a
    refund or a chargeback may never be announced; and daily while a dispute of it is open, because
    its account is frozen until the end is known.
    """
    if payment.credited_at is not None:
        waits = _AFTER_CREDIT if payment.fee_micros is not None else _AFTER_CREDIT_WITHOUT_FEE
        planned = _first_after(now, payment.credited_at, waits)
        return earliest(planned, now + _DAY) if payment.disputed_micros else planned
    if payment.state == PaymentState.UNDER_REVIEW:
        is_asked = payment.code == GATEWAY_REVIEW and now < payment.expires_at + _REVIEWED_WITHIN
        return now + _REVIEW if is_asked else None
    if payment.state == PaymentState.AWAITING:
        return _next_while_awaiting(payment, now)
    if payment.state in OPEN_PAYMENT_STATES:
        return now + _open_wait(payment, now)
    late = _first_after(now, payment.expires_at, _AFTER_EXPIRY)
    if payment.state != PaymentState.CANCELLED:
        return late
    return earliest(late, _first_after(now, payment.created_at, _AFTER_CREATION_IF_CANCELLED))


def next_check_after_failure(payment: Payment, now: datetime) -> datetime | None:
    """Return when to query again after a query failed, or its response could not be processed.

    Later and later by `payment.checks`, and no later than the payment's own time. Never again,
    None, once there has been nothing left to query for a month.
    """
    planned = next_check(payment, now)
    if planned is None and not _is_worth_retrying(payment, now):
        return None
    return earliest(planned, now + failure_wait(payment))


def failure_wait(payment: Payment) -> timedelta:
    """Return how long a payment is not queried after a query that failed, or failed in part."""
    return _step(_FAILURE_WAITS, payment.checks)


def refund_wait(checks: int) -> timedelta:
    """Return how long a refund is left alone after it was sent, or asked about, so many times."""
    return _step(_REFUND_WAITS, checks)


def payment_end(payment: Payment) -> datetime:
    """Return when a payment is over that the gateway knows no money of."""
    return (payment.pay_by or payment.expires_at) + GRACE


def earliest(*moments: datetime | None) -> datetime | None:
    """Return the first of the moments that are there."""
    return min((moment for moment in moments if moment is not None), default=None)


def _next_while_awaiting(payment: Payment, now: datetime) -> datetime | None:
    is_fresh = now < payment.created_at + _AWAITING_AT_FIRST
    regular = now + (_AWAITING_AT_FIRST if is_fresh else _AWAITING)
    if payment.pay_by is None:
        return regular
    end = _first_after(now, payment.pay_by, (timedelta(0), *_AFTER_EXPIRY))
    if now < payment.pay_by:
        return earliest(regular, end)
    return end or now + _DAY


def _open_wait(payment: Payment, now: datetime) -> timedelta:
    """Return the wait of a payment that may be paid any minute; long past its end, hours."""
    wait = _step(_OPEN_WAITS, payment.checks)
    end = payment_end(payment)
    if now >= end + _DAY:
        return max(wait, _DAY)
    return max(wait, _OVERDUE) if now >= end + _OVERDUE else wait


def _is_worth_retrying(payment: Payment, now: datetime) -> bool:
    last = payment.expires_at if payment.credited_at is None else payment.credited_at
    waits = _AFTER_EXPIRY if payment.credited_at is None else _AFTER_CREDIT
    return now < last + waits[-1] + _FAILURES_WITHIN


def _first_after(now: datetime, start: datetime, waits: Sequence[timedelta]) -> datetime | None:
    return next((start + wait for wait in waits if start + wait > now), None)


def _step(waits: Sequence[timedelta], count: int) -> timedelta:
    return waits[min(max(count, 1), len(waits)) - 1]
