"""The page of staff for an administrator who has caused many mails within the hour."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import User
from domain.actors import StaffRole
from domain.staff import change_staff_role
from domain.staff.rate_limit import MAX_CHANGES
from tests.support.staff_actions import make_person
from tests.support.staff_pages import field, press, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.actors import Actor

__all__ = ["make_person"]


def test_page_says_when_there_is_room_and_disables_meanwhile(
    session: Session,
    staff_page: Callable[..., AppTest],
    make_person: Callable[[StaffRole], Actor],
) -> None:
    admin, person = make_person(StaffRole.ADMIN), make_person(StaffRole.SUPPORT)
    assert admin.user_id == 1, "the person who looks"
    for _ in range(2 * MAX_CHANGES):  # removing a role has twice as much room
        change_staff_role(
            session,
            user_id=make_person(StaffRole.SUPPORT).user_id or 0,
            role=None,
            reason="left",
            actor=admin,
        )
    session.commit()
    app = staff_page("staff", StaffRole.ADMIN)
    field(app, "staff_change_reason").set_value("Moved")
    for _ in range(2):
        press(app, "Remove role")
        (refusal,) = texts(app.error)
        assert re.fullmatch(
            r"You have made 30 changes within an hour\. Wait \d\d minutes\. You can still"
            r" disable people and sign them out\.",
            refusal,
        )
    field(app, "staff_change_reason").set_value("Left")
    press(app, "Disable person")
    session.rollback()
    found = session.scalars(select(User).where(User.id == person.user_id)).one()
    assert (found.staff_role, found.disabled_at is None) == ("support", False)
