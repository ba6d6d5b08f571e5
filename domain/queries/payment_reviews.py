"""What became of a case that waited for a decision of finance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import PaymentReview
from domain.permissions import require

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """Who requested to accept a case and who decided it; people are named as facts name them."""

    state: str
    proposed_by: str | None
    proposed_at: datetime | None
    decided_by: str | None
    decided_at: datetime | None


def find_outcome(session: Session, *, doubt_id: int, actor: Actor) -> ReviewOutcome | None:
    """Return, for staff, what became of a case; None where nobody did anything about it."""
    require(actor, "look_up_payments")
    row = session.scalars(
        select(PaymentReview).where(PaymentReview.doubt_id == doubt_id)
    ).one_or_none()
    if row is None:
        return None
    return ReviewOutcome(
        row.state, row.proposed_by, row.proposed_at, row.decided_by, row.decided_at
    )
