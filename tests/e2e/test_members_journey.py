"""An owner invites somebody, who joins by the mail's link, gets another role, and is removed."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE, choose, open_popover, settle
from tests.support.accessibility import axe_source, serious_violations
from tests.support.journeys import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def open_members(page: Page, portal_url: str) -> None:
    settle(page)
    page.goto(portal_url + "/members")
    expect(page.get_by_role("table", name="Members")).to_be_visible()
    settle(page)


def row_of(page: Page, email: str, table: str = "Members") -> str:
    row = page.get_by_role("table", name=table).get_by_role("row").filter(has_text=email)
    return row.inner_text()


def choose_member(page: Page, email: str) -> None:
    """Choose a member and wait for what may be done with them."""
    choose(page, "Member", re.compile(email), email)
    settle(page)


def choose_role(page: Page, role: str) -> None:
    """Choose a role until it is taken: a run that is under way draws the choice anew."""
    button = page.get_by_role("button", name="Change role")
    for _ in range(5):
        page.get_by_test_id("stRadio").last.get_by_text(role, exact=True).click()
        settle(page)
        try:
            expect(button).to_be_enabled(timeout=3_000)
        except AssertionError:
            continue
        return
    expect(button).to_be_enabled()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_members_have_no_serious_violation(
    portal_url: str, sign_in: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = sign_in(OWNER, viewport)
    open_members(page, portal_url)
    assert serious_violations(page) == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_what_came_of_a_button_is_in_view(
    portal_url: str,
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    viewport: dict[str, int],
) -> None:
    owner = sign_in(new_owner("global"), viewport)
    open_members(owner, portal_url)
    emails = [f"{number}-{uuid.uuid4().hex[:10]}@journey.example" for number in range(2)]
    for each in emails:  # the second time there is a list above
        invite(owner, each)
        settle(owner)
    email = emails[0]  # which was the only one to choose
    open_popover(owner, "Withdraw invitation…")
    expect(owner.get_by_text(f"The link sent to {email} stops working.")).to_be_visible()
    assert serious_violations(owner) == {}
    owner.get_by_role("button", name="Withdraw invitation", exact=True).click()
    expect(owner.get_by_text(f"Invitation of {email} withdrawn.")).to_be_in_viewport()
    expect(owner.get_by_role("table", name="Invitations")).not_to_contain_text(email)
    settle(owner)
    owner.get_by_role("button", name="Leave this account…").click()
    expect(owner.get_by_text("You lose access to Lan's account immediately.")).to_be_visible()
    owner.get_by_role("button", name="Leave account", exact=True).click()
    expect(owner.get_by_text("An account needs an owner.")).to_be_in_viewport()


@pytest.mark.timeout(300)
def test_an_invitation_is_sent_accepted_changed_and_taken_away(
    portal_url: str, sign_in: Callable[..., Page], open_page: Callable[..., Page]
) -> None:
    email = "colleague@journey.example"
    owner = sign_in(OWNER)
    open_members(owner, portal_url)
    colleague = open_page(PHONE)
    invite(owner, email)
    open_letter(colleague, portal_url, email)
    colleague.get_by_label("Your name").fill("Colleague")
    colleague.get_by_label("Password", exact=True).fill("a long sentence of words")
    colleague.get_by_role("button", name="Accept and sign in").click()
    change_and_remove(owner, colleague, portal_url, email)

    # Who was removed is invited again, and is known by now.
    invite(owner, email)
    open_letter(colleague, portal_url, email)
    colleague.get_by_role("button", name="Accept invitation").click()
    change_and_remove(owner, colleague, portal_url, email)


def invite(owner: Page, email: str) -> None:
    """Invite an address from the page of members."""
    owner.get_by_role("textbox", name="Email").fill(email)
    owner.get_by_role("button", name="Send invitation").click()
    message = owner.get_by_text(f"{email} is invited with the role Reader.")
    expect(message).to_be_in_viewport()
    expect(owner.get_by_role("textbox", name="Email")).to_have_value("")
    assert "Reader" in row_of(owner, email, "Invitations")


def open_letter(colleague: Page, portal_url: str, email: str) -> None:
    """Follow the link of the newest invitation."""
    letters = colleague.get_by_role("article").filter(has_text=f"to {email}")
    colleague.goto(portal_url + "/mailbox")
    letters.first.get_by_role("link", name=re.compile("accept-invitation")).click()


def change_and_remove(owner: Page, colleague: Page, portal_url: str, email: str) -> None:
    """Give who joined another role, and remove them."""
    expect(colleague.get_by_role("link", name=re.compile(r"Balance \$\d"))).to_be_visible()

    open_members(owner, portal_url)
    assert "Reader" in row_of(owner, email)
    choose_member(owner, email)
    choose_role(owner, "Billing")
    owner.get_by_role("button", name="Change role").click()
    expect(owner.get_by_text("Role of Colleague changed to Billing.")).to_be_in_viewport()
    assert "Billing" in row_of(owner, email)

    choose_member(owner, email)
    owner.get_by_role("button", name="Remove…").click()
    owner.get_by_role("button", name="Remove Colleague").click()
    expect(owner.get_by_text("Colleague removed.")).to_be_in_viewport()
    expect(owner.get_by_role("table", name="Members")).not_to_contain_text(email)
    colleague.reload()
    expect(colleague.get_by_text("You are not a member of an account yet.")).to_be_visible()


def test_a_months_statement_is_one_page(portal_url: str, sign_in: Callable[..., Page]) -> None:
    page = sign_in(OWNER)
    settle(page)
    link = page.get_by_test_id("stLinkButton").get_by_role("link", name="Statement")
    page.goto(portal_url + (link.get_attribute("href") or ""))
    expect(page.get_by_text("Opening balance").first).to_be_visible()
    expect(page.get_by_text("Closing balance").first).to_be_visible()
    page.evaluate(axe_source())
    result = page.evaluate("async () => await axe.run(document)")
    assert [violation["id"] for violation in result["violations"]] == []
