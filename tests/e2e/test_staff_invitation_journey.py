"""An administrator invites a colleague, who joins by the link and sees the pages of staff."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE, open_popover, settle
from tests.support.accessibility import axe_source, serious_violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

PASSWORD = "a long sentence of words"


def invite(page: Page, email: str) -> Locator:
    """Invite an address, and return where the open invitation stands."""
    settle(page)
    page.get_by_role("textbox", name="Work email").fill(email)
    form = page.get_by_test_id("stForm").filter(has=page.get_by_role("textbox", name="Work email"))
    form.get_by_role("textbox", name="Reason").fill("Hired for the night shift")
    form.get_by_role("button", name="Send invitation").click()
    expect(page.get_by_text(f"{email} is invited with the role Support.")).to_be_in_viewport()
    expect(page.get_by_role("textbox", name="Work email")).to_have_value("")
    settle(page)
    place = page.get_by_text(f"{email} · Support").locator(
        "xpath=ancestor::*[contains(@class, 'st-key-staff-invitation-')][1]"
    )
    expect(place.get_by_text("The link works until")).to_be_visible()
    return place


def follow_link(page: Page, portal_url: str, email: str) -> None:
    """Follow the link of the newest invitation in the demo's mailbox."""
    page.goto(portal_url + "/mailbox")
    letters = page.get_by_role("article").filter(has_text=f"to {email}")
    letters.get_by_role("link", name=re.compile("accept-staff-invitation")).first.click()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_colleague_is_invited_withdrawn_invited_again_and_joins(
    portal_url: str,
    sign_in: Callable[..., Page],
    open_page: Callable[..., Page],
    viewport: dict[str, int],
) -> None:
    email = f"{uuid.uuid4().hex[:10]}@staff.example"
    admin = sign_in("admin@demo.example", viewport, "/staff")
    colleague = open_page(viewport)
    place = invite(admin, email)
    assert serious_violations(admin) == {}
    open_popover(place, "Withdraw invitation…")
    expect(admin.get_by_text(f"The link sent to {email} stops working.")).to_be_visible()
    assert serious_violations(admin) == {}
    admin.get_by_role("button", name="Withdraw invitation", exact=True).click()
    expect(admin.get_by_text(f"Invitation of {email} withdrawn.")).to_be_in_viewport()
    follow_link(colleague, portal_url, email)
    expect(colleague.get_by_text("ask an administrator to send it again")).to_be_visible()

    invite(admin, email)
    follow_link(colleague, portal_url, email)
    expect(colleague.get_by_text(f"{email} is invited with the role Support.")).to_be_visible()
    colleague.evaluate(axe_source())
    result = colleague.evaluate("async () => await axe.run(document)")
    assert [violation["id"] for violation in result["violations"]] == []
    colleague.get_by_label("Your name").fill("Colleague")
    colleague.get_by_label("Password", exact=True).fill(PASSWORD)
    colleague.get_by_role("button", name="Accept and sign in").click()
    colleague.get_by_role("button", name="Menu").wait_for()
    settle(colleague)
    colleague.goto(portal_url + "/approvals")
    expect(colleague.get_by_text("No account requests are waiting")).to_be_visible()

    # The second day: the link is over, and the password opens the portal.
    admin.reload()
    settle(admin)
    expect(admin.get_by_text(f"{email} · Support")).to_have_count(0)
    other = open_page(viewport)
    follow_link(other, portal_url, email)
    expect(other.get_by_text("If you have used it, sign in.")).to_be_visible()
    other.get_by_role("link", name="Sign in").click()
    other.get_by_label("Email").fill(email)
    other.get_by_label("Password", exact=True).fill(PASSWORD)
    other.get_by_role("button", name="Sign in", exact=True).click()
    other.get_by_role("button", name="Menu").wait_for()
