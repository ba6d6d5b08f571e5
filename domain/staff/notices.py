"""Mail all administrators about changes that make or remove one, or need a second person.

The person who is changed gets a separate mail (person_notice.py). People are named by their email
addresses alone: a display name is free text of its owner.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from db.models import User
from domain import outbox
from domain.staff.changes import list_admins
from domain.staff.person_notice import find_address

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from db.models import StaffInvitation
    from domain.staff.changes import Standing

TEMPLATE = "staff_change"


def mail_admins(
    session: Session,
    step: str,
    *,
    person: User | StaffInvitation,
    before: Standing | None,
    after: Standing,
    requested_by: str,
    reason: str,
    decided_by: str | None = None,
    remark: str | None = None,
    until: datetime | None = None,
    is_by_time: bool = False,
    may_object: bool = False,
) -> None:
    """Mail all active administrators about a step, also the one concerned (`is_you`).

    `before` is None for a person who was made with the role, and for one who is invited. `until`
    is when the change takes effect by itself (`is_by_time`), or expires; `may_object`: the person
    concerned can stop it.
    """
    parameters: dict[str, Any] = {
        "step": step,
        "email": person.email,
        "is_new": before is None,
        "role_before": None if before is None else before.role,
        "role_after": after.role,
        "is_disabling": before is not None and after.is_disabled and not before.is_disabled,
        "is_enabling": before is not None and before.is_disabled and not after.is_disabled,
        "requested_by": find_address(session, requested_by),
        "decided_by": None if decided_by is None else find_address(session, decided_by),
        "reason": reason,
        "remark": remark,
        "until": None if until is None else f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        "is_by_time": is_by_time,
        "may_object": may_object,
    }
    admins = list_admins(session)
    recipients = select(User.email, User.locale).where(User.id.in_(admins)).order_by(User.id)
    for email, locale in session.execute(recipients).all():
        outbox.enqueue(
            session,
            recipient=email,
            template=TEMPLATE,
            parameters={**parameters, "is_you": email == person.email},
            locale=locale or "en",
        )
