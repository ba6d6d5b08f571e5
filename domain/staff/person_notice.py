"""Mail the person whose role or access changed: what changed, when, and whom to ask.

It says no reason: that stays with administrators.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import User
from domain import clock, outbox

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.staff.changes import Standing

TEMPLATE = "staff_own_change"


def mail_person(
    session: Session, person: User, *, before: Standing, after: Standing, changed_by: str
) -> None:
    """Mail a person, in their language, that their role or access changed.

    `changed_by` is who made or requested the change ("user:ID"), whom the mail names.
    A customer, who has no role before and after, asks support instead.
    """
    is_customer = before.role is None and after.role is None
    parameters = {
        "role_before": before.role,
        "role_after": after.role,
        "is_disabling": after.is_disabled and not before.is_disabled,
        "is_enabling": before.is_disabled and not after.is_disabled,
        "when": f"{clock.now(session).astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        "is_customer": is_customer,
        "ask": None if is_customer else find_address(session, changed_by),
    }
    outbox.enqueue(
        session,
        recipient=person.email,
        template=TEMPLATE,
        parameters=parameters,
        locale=person.locale or "en",
    )


def find_address(session: Session, name: str) -> str | None:
    """Return the address of a person as facts name them; None for a part of the product."""
    if not name.startswith("user:"):
        return None
    number = int(name.removeprefix("user:"))
    return session.scalars(select(User.email).where(User.id == number)).one_or_none()
