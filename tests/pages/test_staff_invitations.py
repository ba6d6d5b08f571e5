"""Inviting colleagues on the page of staff, and the invitations that are open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text

from db.models import OutboxMessage, StaffInvitation
from domain.actors import StaffRole
from domain.staff import Invitation, invite_staff, withdraw_staff_invitation
from portal.settings import settings
from tests.integration.test_support import make_person
from tests.pages.test_staff import admin, email_of, facts, labels, page, press, texts

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
    app.text_input(key="colleague_email").set_value(email)
    app.text_input(key="colleague_reason").set_value(reason)
    return press(app, "Send invitation")


def invited(session: Session, by: Actor) -> Invitation:
    made = invite_staff(
        session,
        email=EMAIL,
        role=StaffRole.FINANCE,
        reason="Hired",
        actor=by,
        rules=settings().rules,
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
    (told,) = texts(app.success)
    assert told.startswith(f"{EMAIL} is invited with the role Support. The link works until ")
    assert OPEN in subheaders(app)
    assert "Night shift" in facts(app)
    assert "The link works until " in facts(app)
    # The same again is the same invitation.
    app = fill(app)
    (told,) = texts(app.success)
    assert told.startswith(f"{EMAIL} was invited with the role Support before, and no mail was")
    assert count_links(session) == 1
    app = press(app, "Send again")
    assert texts(app.success) == [
        f"A new link is on its way to {EMAIL}; the one before it works no more."
    ]
    assert count_links(session) == 2
    app = press(app, "Withdraw invitation")
    assert texts(app.success) == ["Invitation withdrawn. Its link does not work any more."]
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
    for email, reason, said in (
        ("no address", "Hired", "This is not an email address."),
        (EMAIL, " ", "Say why."),
        (
            known,
            "Hired",
            "This person has a sign-in already. Give them the role under Give somebody a role.",
        ),
    ):
        app = fill(app, email, reason)
        assert texts(app.error) == [said]
    app = fill(app, EMAIL, "Hired")
    app.selectbox(key="colleague_role").set_value(StaffRole.ADMIN)
    app = fill(app, EMAIL, "Hired")
    assert texts(app.error) == [
        "This address is invited with another role. Withdraw that invitation first."
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
    assert "Admin Person is no administrator any more. Send it again in your name" in facts(page())
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
    assert "This person has signed up meanwhile." in facts(app)
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
        "Nothing was changed: the invitation was used or withdrawn meanwhile."
    ]
    assert count_links(session) == 1


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
