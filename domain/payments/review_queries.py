"""Read the outcomes of cases that waited for finance, and the amounts that wait for a review."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Account, Payment, PaymentEvent, PaymentReview
from domain.payments.review_cases import case_of, is_open_discrepancy
from domain.permissions import require

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.payments.review_cases import ReviewCase

MAX_DISCREPANCIES = 100


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """Who requested to accept a case and who decided it; people are named as facts name them."""

    state: str
    requested_by: str | None
    requested_at: datetime | None
    decided_by: str | None
    decided_at: datetime | None


def find_outcome(session: Session, *, case_id: int, actor: Actor) -> ReviewOutcome | None:
    """Return, for staff, the outcome of a case; None where no decision was made."""
    require(actor, "look_up_payments")
    row = session.scalars(
        select(PaymentReview).where(PaymentReview.case_id == case_id)
    ).one_or_none()
    if row is None:
        return None
    return ReviewOutcome(
        row.state, row.requested_by, row.requested_at, row.decided_by, row.decided_at
    )


@dataclass(frozen=True, slots=True)
class DiscrepancyView:
    """An amount that a gateway states and the books of a payment do not have."""

    payment_reference: str
    account_id: int
    account_name: str
    discrepancy: ReviewCase


def list_discrepancies(session: Session, *, actor: Actor) -> tuple[DiscrepancyView, ...]:
    """Return, for staff, the amounts that wait for a review, the oldest first."""
    require(actor, "look_up_payments")
    rows = session.execute(
        select(PaymentEvent, Payment.reference, Account.name)
        .join(Payment, Payment.id == PaymentEvent.payment_id)
        .join(Account, Account.id == PaymentEvent.account_id)
        .where(is_open_discrepancy())
        .order_by(PaymentEvent.id)
        .limit(MAX_DISCREPANCIES)
    )
    return tuple(
        DiscrepancyView(reference, step.account_id, name, case_of(step))
        for step, reference, name in rows
    )
