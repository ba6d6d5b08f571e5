"""Inviting colleagues on the page of staff, and the invitations that are open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text

from db.models import OutboxMessage, StaffInvitation
from domain.actors import StaffRole
from domain.staff import (
    Invitation,
    invite_staff,
    resend_staff_invitation,
    withdraw_staff_invitation,
)
from portal.runtime.settings import settings
from tests.support.staff_actions import make_person
from tests.support.staff_pages import admin, email_of, facts, field, labels, page, press, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.actors import Actor

    Make = Callable[[StaffRole], Actor]
    Page = Callable[..., AppTest]

__all__ = ["admin", "make_person", "page"]

EMAIL = "lan@example.com"
OPEN = "Open invitations"


def fill(app: AppTest, email: str = EMAIL, reason: str = "Night shift") -> AppTest:
    field(app, "colleague_email").set_value(email)
    field(app, "colleague_reason").set_value(reason)
    return press(app, "Send invitation")


def invited(session: Session, by: Actor) -> Invitation:
    made = invite_staff(
        session,
        email=EMAIL,
        role=StaffRole.FINANCE,
        reason="Hired",
        actor=by,
        policy=settings().policy,
    )
    session.commit()
    return made


def count_links(session: Session) -> int:
    session.rollback()
    sent = select(func.count()).where(OutboxMessage.template == "staff_invitation")
    return session.scalars(sent).one()


def subheaders(app: AppTest) -> list[str]:
    return texts(app.subheader)


def test_colleague_is_invited_sent_to_again_and_withdrawn(
    session: Session, page: Page, admin: Actor
) -> None:
    del admin
    app = fill(page())
    (message,) = texts(app.success)
    assert message.startswith(f"{EMAIL} is invited with the role Support. The link works until ")
    assert OPEN in subheaders(app)
    assert "Night shift" in facts(app)
    assert "The link works until " in facts(app)
    # The same again is the same invitation.
    app = fill(app)
    (message,) = texts(app.success)
    assert message.startswith(
        f"{EMAIL} was already invited with the role Support, so no email was sent"
    )
    assert count_links(session) == 1
    app = press(app, "Send again")
    assert texts(app.success) == [
        f"New invitation link sent to {EMAIL}. The previous link no longer works."
    ]
    assert count_links(session) == 2
    app = press(app, "Withdraw invitation")
    assert texts(app.success) == [f"Invitation of {EMAIL} withdrawn. Its link no longer works."]
    assert OPEN not in subheaders(app)
    app = fill(app)
    assert OPEN in subheaders(app)


def test_form_says_what_is_wrong(
    session: Session, page: Page, admin: Actor, make_person: Make
) -> None:
    del admin
    known = email_of(session, make_person(StaffRole.SUPPORT))
    session.commit()
    app = page()
    for email, reason, shown in (
        ("no address", "Hired", "This is not an email address."),
        (EMAIL, " ", "Enter a reason."),
        (
            known,
            "Hired",
            "This person already has a sign-in. Assign the role under Assign a role.",
        ),
    ):
        app = fill(app, email, reason)
        assert texts(app.error) == [shown]
    app = fill(app, EMAIL, "Hired")
    app.selectbox(key="colleague_role-1").set_value(StaffRole.ADMIN)
    app = fill(app, EMAIL, "Hired")
    assert texts(app.error) == [
        "This address is already invited with another role. Withdraw that invitation first."
    ]


def test_link_that_does_not_work_says_why(
    session: Session, page: Page, admin: Actor, make_person: Make
) -> None:
    del admin
    gone = make_person(StaffRole.ADMIN)
    invited(session, gone)
    assert "The link works until " in facts(page())
    session.execute(text("UPDATE users SET staff_role = NULL WHERE id = :id"), {"id": gone.user_id})
    session.commit()
    assert "Admin Person is no longer an administrator. Send the invitation again" in facts(page())
    session.execute(
        text("UPDATE staff_invitations SET expires_at = created_at + interval '1 microsecond'")
    )
    session.commit()
    app = page()
    assert "Expired on " in facts(app)
    press(app, "Send again")
    assert "The link works until " in facts(page())
    session.execute(
        text("INSERT INTO users (email, display_name, password_hash) VALUES (:email, 'Lan', 'x')"),
        {"email": EMAIL},
    )
    session.commit()
    assert "The link works until " in facts(page()), "who has proven nothing may be a stranger"
    session.execute(
        text("UPDATE users SET email_verified_at = now() WHERE email = :email"), {"email": EMAIL}
    )
    session.commit()
    app = page()
    assert "This person has signed up." in facts(app)
    assert "Send again" not in labels(app)
    press(app, "Withdraw invitation")
    assert OPEN not in subheaders(page())


def test_old_page_says_what_happened_meanwhile(
    session: Session, page: Page, admin: Actor, make_person: Make
) -> None:
    made = invited(session, make_person(StaffRole.ADMIN))
    app = page()
    withdraw_staff_invitation(session, invitation_id=made.invitation_id, actor=admin)
    session.commit()
    press(app, "Send again")
    assert texts(app.error) == [
        f"Nothing was changed: the invitation of {EMAIL} has been used or withdrawn."
    ]
    assert count_links(session) == 1


def test_withdrawing_asks_once_more(session: Session, page: Page, admin: Actor) -> None:
    invited(session, admin)
    app = page()
    about = f"The link sent to {EMAIL} stops working. You can invite them again."
    assert about in texts(app.markdown)
    assert "Withdraw invitation…" in [each.proto.popover.label for each in app.get("popover")]


def test_sent_again_by_somebody_else_meanwhile_says_so(
    session: Session, page: Page, admin: Actor, make_person: Make
) -> None:
    made, other = invited(session, admin), make_person(StaffRole.ADMIN)
    app = page()
    resend_staff_invitation(
        session,
        invitation_id=made.invitation_id,
        sent_at=made.sent_at,
        actor=other,
        policy=settings().policy,
    )
    session.commit()
    app = press(app, "Send again")
    assert texts(app.success) == [f"{EMAIL} was already sent a new link, so no email was sent."]
    assert count_links(session) == 2


@pytest.mark.usefixtures("admin")
def test_form_is_empty_once_sent_and_keeps_what_was_refused(page: Page) -> None:
    app = fill(page(), EMAIL, " ")
    assert texts(app.error) == ["Enter a reason."]
    assert field(app, "colleague_email").value == EMAIL
    app = fill(app)
    assert app.success
    for name in ("colleague_email", "colleague_reason"):
        assert not field(app, name).value


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize(
    ("is_new", "wait"),
    [(True, "13 minutes"), (False, "6 hours")],
    ids=["of the sender", "of the address"],
)
def test_too_many_invitations_say_what_and_until_when(
    session: Session, page: Page, *, is_new: bool, wait: str
) -> None:
    app = fill(page())
    assert app.success
    session.execute(
        text("UPDATE throttles SET failures = 1000, window_started_at = now() - :past"),
        {"past": timedelta(minutes=47)},
    )
    session.commit()
    app = fill(app, "other@example.com") if is_new else press(app, "Send again")
    assert texts(app.error) == [f"Too many invitations. Try again in {wait}."]
    if is_new:
        assert field(app, "colleague_email").value == "other@example.com"


@pytest.mark.parametrize("is_new", [True, False])
def test_who_lost_the_role_meanwhile_changes_nothing(
    session: Session, page: Page, admin: Actor, make_person: Make, *, is_new: bool
) -> None:
    invited(session, make_person(StaffRole.ADMIN))
    app = page()
    session.execute(
        text("UPDATE users SET staff_role = 'finance' WHERE id = :id"), {"id": admin.user_id}
    )
    session.commit()
    app = fill(app, "other@example.com") if is_new else press(app, "Withdraw invitation")
    assert texts(app.error) == ["Your role changed: only administrators invite colleagues."]
    assert session.scalars(select(StaffInvitation.withdrawn_at)).all() == [None]


def test_finance_sees_open_invitations_without_buttons(
    session: Session, page: Page, admin: Actor
) -> None:
    invited(session, admin)
    app = page(StaffRole.FINANCE)
    assert OPEN in subheaders(app)
    assert not {"Send again", "Withdraw invitation", "Send invitation"} & labels(app)


@pytest.mark.usefixtures("admin")
def test_page_without_invitations_has_no_list(page: Page) -> None:
    app = page()
    assert OPEN not in subheaders(app)
    assert "Invite a colleague" in subheaders(app)
