"""Read a payment's timeline: its steps, webhooks, refunds and disputes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from db.models import GatewayMessage, PaymentEvent
from domain.payments.queries import (
    DisputeView,
    PaymentView,
    RefundView,
    find_disputes,
    find_payment,
    find_refunds,
)
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """Something that happened to a payment. `kind` is a code, `details` its parameters."""

    happened_at: datetime
    kind: str
    actor: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message of the gateway about the payment, without what it said."""

    received_at: datetime
    event_type: str
    event_id: str
    outcome: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class PaymentTimeline:
    """Everything that is known of a payment, for staff."""

    payment: PaymentView
    steps: tuple[TimelineStep, ...]
    messages: tuple[ReceivedMessage, ...]
    refunds: tuple[RefundView, ...]
    disputes: tuple[DisputeView, ...]


def payment_timeline(session: Session, *, actor: Actor, reference: str) -> PaymentTimeline:
    """Return everything about a payment, for staff."""
    require(actor, "look_up_payments")
    payment = find_payment(session, actor=actor, reference=reference)
    return PaymentTimeline(
        payment=payment,
        steps=_steps(session, payment),
        messages=_messages(session, payment),
        refunds=find_refunds(session, payment, is_staff=True),
        disputes=find_disputes(session, payment),
    )


def _steps(session: Session, payment: PaymentView) -> tuple[TimelineStep, ...]:
    rows = session.scalars(
        select(PaymentEvent)
        .where(
            PaymentEvent.account_id == payment.account_id,
            PaymentEvent.payment_id == payment.payment_id,
        )
        .order_by(PaymentEvent.id)
    )
    return tuple(TimelineStep(row.happened_at, row.kind, row.actor, row.details) for row in rows)


def _messages(session: Session, payment: PaymentView) -> tuple[ReceivedMessage, ...]:
    rows = session.scalars(
        select(GatewayMessage)
        .where(GatewayMessage.payment_id == payment.payment_id)
        .order_by(GatewayMessage.id)
    )
    return tuple(
        ReceivedMessage(row.received_at, row.event_type, row.event_id, row.outcome, row.reason)
        for row in rows
    )
