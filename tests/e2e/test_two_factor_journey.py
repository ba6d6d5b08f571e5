"""Two-factor authentication in a real browser: an app, a passkey, recovery codes, a day later."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyotp
import pytest
from playwright.sync_api import expect

from portal import demo
from tests.e2e.conftest import DESKTOP, PHONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def code_of(secret: str, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(datetime.now(UTC), counter_offset=steps)


def with_passkeys(page: Page) -> None:
    """Give the browser a device that keeps passkeys, and a person who touches it at once."""
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    devices.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )


def give_password(page: Page, portal_url: str, email: str) -> None:
    page.goto(f"{portal_url}/sign-in")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(demo.PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def sign_out(page: Page, portal_url: str) -> None:
    page.goto(f"{portal_url}/sessions")
    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_text("You are signed out everywhere.").wait_for()


def change(page: Page, portal_url: str, button: str) -> None:
    """Press a button of the page of second factors, with the password that it wants."""
    page.goto(f"{portal_url}/two-factor")
    page.get_by_label("Current password").fill(demo.PASSWORD)
    page.get_by_role("button", name=button, exact=True).click()


def enter_first_code(page: Page, secret: str) -> None:
    """Enter the code before the present one, which is used then; a late one again, as people do."""
    done = page.get_by_role("heading", name="Save your recovery codes")
    while True:
        page.get_by_label("Code from your authenticator app").fill(code_of(secret, -1))
        with page.expect_navigation():
            page.get_by_role("button", name="Continue").click()
        late = page.get_by_text("The code is wrong, expired or already used.")
        expect(done.or_(late)).to_be_visible()
        if done.is_visible():
            return


def keep_codes(page: Page, portal_url: str, codes: list[str]) -> None:
    """Take the codes as a file, and as a copy."""
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == "recovery-codes.txt"
    text = saved.value.path().read_text("utf-8").splitlines()
    assert text == [f"Credit Portal: {portal_url}", "Recovery codes", "", *codes]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").splitlines() == codes


def prove_by_recovery_code(page: Page, portal_url: str, *, used: str, unused: str) -> None:
    """Prove that it is you, at the second try, so that factors can be changed."""
    page.goto(f"{portal_url}/two-factor")
    page.get_by_role("link", name="Change these settings").click()
    page.get_by_text("Confirm your identity before you change how you sign in.").wait_for()
    page.get_by_role("link", name="Use a recovery code").click()
    for code in (used, unused):
        page.get_by_label("Recovery code").fill(code)
        with page.expect_navigation():
            page.get_by_role("button", name="Continue").click()
        if code == used:
            page.get_by_text("The recovery code is wrong, already used or replaced.").wait_for()
    page.get_by_label("Current password").wait_for()


def is_in(page: Page) -> None:
    page.get_by_role("button", name="Menu").wait_for()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_an_app_protects_a_sign_in_from_the_next_day_on(
    portal_url: str,
    new_owner: Callable[[str], str],
    sign_in: Callable[..., Page],
    open_page: Callable[..., Page],
    viewport: dict[str, int],
) -> None:
    email = new_owner("global")
    page = sign_in(email, viewport)
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Two-factor authentication").click()
    page.get_by_text("Off. You sign in with your password only.").wait_for()
    page.get_by_label("Current password").fill("a wrong password 1")
    page.get_by_role("button", name="Set up app").click()
    page.get_by_text("The current password is wrong.").wait_for()
    page.get_by_label("Current password").fill(demo.PASSWORD)
    page.get_by_role("button", name="Set up app").click()
    expect(page.get_by_alt_text(f"QR code for {email}")).to_be_visible()
    secret = page.locator("code.secret").inner_text().replace(" ", "")
    page.get_by_label("Code from your authenticator app").fill("000000")
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("The code is wrong, expired or already used.").wait_for()
    enter_first_code(page, secret)
    codes = page.locator("ul.codes code").all_inner_texts()
    assert len(codes) == 10
    keep_codes(page, portal_url, codes)
    page.get_by_role("link", name="I have saved them").click()
    page.get_by_text("On. You sign in with your password and a second factor").wait_for()
    sign_out(page, portal_url)

    for steps in (0, 1):
        day = open_page(viewport)
        give_password(day, portal_url, email)
        day.get_by_text(f"Signing in as {email}").wait_for()
        day.get_by_label("Code from your authenticator app").fill(code_of(secret, steps))
        day.get_by_role("button", name="Continue").click()
        is_in(day)

    lost = open_page(viewport)
    give_password(lost, portal_url, email)
    lost.get_by_role("link", name="Use a recovery code").click()
    lost.get_by_label("Recovery code").fill(codes[0])
    lost.get_by_role("button", name="Continue").click()
    is_in(lost)
    prove_by_recovery_code(lost, portal_url, used=codes[0], unused=codes[1])
    change(lost, portal_url, "Create new codes")
    lost.get_by_role("heading", name="Save your recovery codes").wait_for()
    newest = lost.locator("ul.codes code").all_inner_texts()
    assert not set(newest) & set(codes)
    lost.reload()  # sends the form again
    expect(
        lost.get_by_text("Your new recovery codes are active and were shown once.")
    ).to_be_visible()
    expect(lost.get_by_text("Codes left: 10.")).to_be_visible()
    expect(lost.locator("ul.codes code")).to_have_count(0)
    change(lost, portal_url, "Remove app")
    lost.get_by_text("Off. You sign in with your password only.").wait_for()
    sign_out(lost, portal_url)
    give_password(lost, portal_url, email)
    is_in(lost)


def test_a_passkey_signs_in_with_and_without_the_password(
    portal_url: str, new_owner: Callable[[str], str], sign_in: Callable[..., Page]
) -> None:
    email = new_owner("global")
    page = sign_in(email, path="/")
    with_passkeys(page)
    page.goto(f"{portal_url}/two-factor")
    page.get_by_label("New passkey name").fill("My laptop")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("Save your recovery codes")).to_have_count(0)  # no password was given
    change(page, portal_url, "Add a passkey")
    page.get_by_role("heading", name="Save your recovery codes").wait_for()
    page.get_by_role("link", name="I have saved them").click()
    page.get_by_text("On. You sign in with your password and a second factor").wait_for()
    # The device has one already for this person, and says so; it is proven first.
    page.get_by_role("link", name="Change these settings").click()
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_label("Current password").fill(demo.PASSWORD)
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_text("No passkey was added.").wait_for()

    for _day in range(2):
        sign_out(page, portal_url)
        give_password(page, portal_url, email)
        page.get_by_role("button", name="Use a passkey").click()
        is_in(page)
        sign_out(page, portal_url)
        page.goto(f"{portal_url}/sign-in?next=/usage")
        page.get_by_role("button", name="Sign in with a passkey").click()
        is_in(page)
        assert page.url.startswith(f"{portal_url}/usage")
    page.goto(f"{portal_url}/sessions")
    page.get_by_text("127.0.0.1 · passkey").wait_for()

    page.goto(f"{portal_url}/two-factor")
    page.get_by_role("link", name="Change these settings").click()
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_label("Current password").fill(demo.PASSWORD)
    page.get_by_role("button", name="Remove passkey").click()
    page.get_by_text("Off. You sign in with your password only.").wait_for()
    sign_out(page, portal_url)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_text("The passkey was not accepted. Sign in with your password.").wait_for()
