"""Whoever was lowered to another role while their page was open reads so on their next click."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from domain.accounts.invitations import invite_member
from domain.actors import MemberRole, user_actor
from domain.vouchers import issue_code, lock_campaign
from portal.runtime.settings import settings
from portal.shell import page_context
from tests.factories import SYSTEM
from tests.support.campaigns import FINANCE, campaign
from tests.support.profiles import account_with_profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

REDEEM = "Your role changed; you can no longer redeem codes. Ask an owner of the account."
SAVE = (
    "Your role changed; you can no longer change the billing information. Ask an owner of the"
    " account."
)
MANAGE = "Your role changed; you can no longer manage members. Ask an owner of the account."


@pytest.fixture
def account(session: Session) -> int:
    """An account with a voucher that waits and a person who is invited."""
    account = account_with_profile(session)
    named = lock_campaign(session, campaign(session, is_for_named_accounts=True))
    issue_code(session, campaign=named, account_id=account, actor=FINANCE)
    invite_member(
        session,
        account_id=account,
        email="invited@example.com",
        role=MemberRole.READER,
        actor=SYSTEM,
        idempotency_key="invitation",
        policy=settings().policy,
    )
    session.commit()
    return account


def texts(elements: Any) -> list[str]:
    return [element.value.replace("\\", "") for element in elements]


def lower(monkeypatch: pytest.MonkeyPatch, app: AppTest, account: int) -> None:
    """Make the person of a page that was drawn a reader."""
    visitor = vars(page_context)["require_visitor"]()
    reader = replace(visitor, actor=user_actor(1, memberships={account: MemberRole.READER}))
    monkeypatch.setattr(page_context, "require_visitor", lambda: reader)
    # A page that runs alone is not told by the portal around it.
    app.session_state["page_context"] = replace(app.session_state["page_context"], visitor=reader)


def press(app: AppTest, label: str) -> None:
    next(each for each in app.button if each.label.startswith(label)).click().run()
    assert not app.exception


@pytest.mark.parametrize(
    ("tab", "button", "message"),
    [
        ("overview", "Apply Code", REDEEM),
        ("vouchers", "Apply Code", REDEEM),
        ("vouchers", "Redeem ", REDEEM),
        ("settings", "Save", SAVE),
    ],
)
def test_button_on_billing_that_a_new_role_has_not_says_so(  # noqa: PLR0917 - fixtures, and one row
    show: Callable[..., AppTest],
    monkeypatch: pytest.MonkeyPatch,
    account: int,
    tab: str,
    button: str,
    message: str,
) -> None:
    app = show(account, tab=tab)
    lower(monkeypatch, app, account)
    press(app, button)
    assert texts(app.error) == [message]
    assert message not in texts(app.run().error), "it is said once"


@pytest.mark.parametrize("button", ["Send invitation", "Send again", "Withdraw invitation"])
def test_button_on_members_that_a_new_role_has_not_says_so(
    show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, account: int, button: str
) -> None:
    app = show(account)
    app.switch_page("pages/members.py").run()
    lower(monkeypatch, app, account)
    press(app, button)
    assert texts(app.error) == [MANAGE]
