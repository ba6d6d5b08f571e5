"""The page of an account's members: what an action says, where, and what its form keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from db.models import AccountInvitation
from domain.actors import MemberRole, user_actor
from domain.identity import create_user
from tests.factories import SYSTEM, make_account
from tests.support.people import join_before, register
from tests.support.staff_pages import facts, field, labels, press, shown, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    Page = Callable[[], AppTest]

EMAIL = "lan@example.com"
WITHDRAWN = f"Invitation of {EMAIL} withdrawn. Its link no longer works."


@pytest.fixture
def account(session: Session) -> int:
    account = make_account(session)
    session.commit()
    return account


@pytest.fixture
def page(show: Callable[..., AppTest], account: int) -> Page:
    """Run the page for an owner, the person with number 1."""

    def opened() -> AppTest:
        app = show(account)
        app.switch_page("pages/members.py").run()
        assert not app.exception
        return app

    return opened


@pytest.fixture
def member(session: Session, account: int) -> int:
    """Somebody else who belongs to the account, as an owner."""
    register(session, user_actor(1, memberships={account: MemberRole.OWNER}))
    person = create_user(
        session,
        email="member@example.com",
        display_name="Minh Le",
        password="a long word of these tests",
        staff_role=None,
        actor=SYSTEM,
    )
    join_before(session, account_id=account, user_id=person, role=MemberRole.OWNER)
    session.commit()
    return person


def invite(app: AppTest, email: str = EMAIL) -> AppTest:
    field(app, "invite_email").set_value(email)
    return press(app, "Send invitation")


def test_invitation_is_named_sent_again_and_withdrawn_after_one_more_question(page: Page) -> None:
    app = page()
    for email in (EMAIL, "minh@example.com"):  # the second meets the page that the first left
        app = invite(app, email)
        assert texts(app.success) == [f"{email} is invited with the role Reader."]
        app = press(app, "Send again")
        assert texts(app.success) == [
            f"New invitation link sent to {email}. The previous link no longer works."
        ]
        about = f"The link sent to {email} stops working. You can invite them again."
        assert about in texts(app.markdown)
        app = press(app, "Withdraw invitation")
        message = f"Invitation of {email} withdrawn. Its link no longer works."
        assert texts(app.success) == [message]
        assert "Withdraw invitation" not in labels(app)


def test_outcome_stands_beside_what_was_pressed_and_comes_into_view(page: Page) -> None:
    app = invite(page())
    order = shown(app)
    message = order.index(f"{EMAIL} is invited with the role Reader.")
    assert order.index("Send invitation") < message < order.index("Change or remove a member")
    assert "st-key-drawn-flash-members_inviting" in facts(app)
    app = press(app, "Withdraw invitation")
    order = shown(app)
    assert order.index("Open invitations") < order.index(WITHDRAWN)
    assert order.index(WITHDRAWN) < order.index("Invite a member")
    assert "st-key-drawn-flash-members_pending" in facts(app)
    assert "scrollIntoView" not in facts(app.run()), "it is said once"


def test_address_that_is_invited_already_is_selected_where_it_is_sent_again(
    session: Session, page: Page, account: int
) -> None:
    app = invite(invite(page()), "minh@example.com")
    chosen = f"chosen_invitation-{account}"
    found = select(AccountInvitation.email, AccountInvitation.id)
    numbers = {row.email: row.id for row in session.execute(found)}
    for email in (EMAIL, "minh@example.com", f" {EMAIL.upper()} "):
        app = invite(app, email)
        (message,) = texts(app.error)
        assert message == (
            "This address is already invited. To email a new link, select Send again under"
            " Open invitations above."
        )
        order = shown(app)
        assert order.index("Open invitations") < order.index("Send again") < order.index(message)
        assert app.selectbox(key=chosen).value == numbers[email.strip().lower()]
        # It is the reader's again from then on.
        app.selectbox(key=chosen).set_value(numbers["minh@example.com"]).run()
        assert app.selectbox(key=chosen).value == numbers["minh@example.com"]
    app = press(invite(app), "Send again")
    (message,) = texts(app.success)
    assert message.startswith(f"New invitation link sent to {EMAIL}.")


def test_form_is_empty_once_sent_and_keeps_what_was_refused(page: Page) -> None:
    app = page()
    role = next(each for each in app.radio if (each.key or "").startswith("invite_role-"))
    role.set_value(MemberRole.BILLING)
    app = invite(app, "no address")
    assert app.error
    assert field(app, "invite_email").value == "no address"
    app = invite(app)
    assert texts(app.success) == [f"{EMAIL} is invited with the role Billing."]
    assert not field(app, "invite_email").value
    assert invite(app).error, "the same again"
    assert field(app, "invite_email").value == EMAIL


def test_too_many_invitations_say_what_and_until_when(session: Session, page: Page) -> None:
    app = invite(page())
    session.execute(
        text("UPDATE throttles SET failures = 1000, window_started_at = now() - :past"),
        {"past": timedelta(minutes=47)},
    )
    session.commit()
    app = invite(app, "other@example.com")
    assert texts(app.error) == ["Too many invitations. Try again in 13 minutes."]
    assert field(app, "invite_email").value == "other@example.com"


def test_who_gives_up_their_own_role_reads_so(page: Page, account: int, member: int) -> None:
    assert member
    app = page()
    app.selectbox(key=f"chosen_member-{account}").set_value(1).run()
    app.radio(key=f"new_role-{account}-1").set_value(MemberRole.READER).run()
    app = press(app, "Change role")
    (message,) = texts(app.success)
    assert message.endswith(" changed to Reader.")
    # Where the role goes, the forms go with it.
    assert shown(app).index(message) < shown(app).index("Change or remove a member")


def test_last_owner_reads_beside_the_button_why_they_stay(page: Page, account: int) -> None:
    app = page()
    app.radio(key=f"new_role-{account}-1").set_value(MemberRole.READER).run()
    app = press(app, "Change role")
    (message,) = texts(app.error)
    assert message == "An account needs an owner. Make another member an owner first."
    assert shown(app).index("Change role") < shown(app).index(message)
    assert "st-key-drawn-flash-members_changing" in facts(app)
