"""A page stays open when its session ends: what it had drawn before does nothing any more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.exceptions import ConnectionClosed

from portal.shell.open_pages import LOOK_EVERY_SECONDS, POLICY_VIOLATION
from tests.security.streamlit_client import open_page
from tests.support.loops import run_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from tests.security.streamlit_client import Run, StreamlitPage

WITHIN_SECONDS = 60
_ACCOUNT = text("""
SELECT account_id FROM account_members m JOIN users u ON u.id = m.user_id WHERE u.email = :email
""")
FACTS = ("account_members", "account_invitations", "payments", "exchange_quotes", "audit_log")


@dataclass(frozen=True)
class Owner:
    """The owner of an account of two members, signed in, and what the account has."""

    email: str
    cookies: str
    account_id: int
    sessions: sessionmaker[Session]

    def counts(self) -> dict[str, int]:
        """Count what the account has of each kind of fact."""
        with self.sessions() as session:
            return {
                table: session.execute(
                    text(f"SELECT count(*) FROM {table} WHERE account_id = :account"),  # noqa: S608
                    {"account": self.account_id},
                ).scalar_one()
                for table in FACTS
            }


@pytest.fixture
def owner(
    portal_sessions: sessionmaker[Session],
    new_owner: Callable[[str], str],
    new_billing_member: Callable[[str], str],
    cookies_of: Callable[[str], str],
) -> Owner:
    """Somebody with an account and a colleague."""
    email = new_owner("vn")
    new_billing_member(email)
    with portal_sessions() as session:
        account = session.execute(_ACCOUNT, {"email": email}).scalar_one()
    return Owner(email, cookies_of(email), account, portal_sessions)


def pressed(run: Run, label: str) -> WidgetState:
    """Return the state of a button that was pressed."""
    return WidgetState(id=run.widget_id(label), trigger_value=True)


async def press(page: StreamlitPage, path: str, run: Run, label: str) -> Run | None:
    """Press a button where it stands, in the page or in its dialog; None where the page ends."""
    try:
        return await page.run(
            path, widgets=[pressed(run, label)], fragment_id=run.fragment_of(label)
        )
    except ConnectionClosed:
        return None


STEPS = [
    ("/members", "Remove…", "Remove Minh Le"),
    ("/members", "Leave this account…", "Leave account"),
    ("/members", "Remove…", None),
    ("/", "Add credit", None),
]
"""A page, the button that opens a dialog of it, and the one that acts in it."""


async def take_steps(
    page: StreamlitPage, steps: tuple[str, str, str | None], meanwhile: Callable[[], None]
) -> Run | None:
    """Open the dialog and act in it, and have something happen before the last press."""
    path, opening, acting = steps
    run = await page.run(path)
    assert not run.has_failed
    if acting is None:
        meanwhile()
        return await press(page, path, run, opening)
    dialog = await press(page, path, run, opening)
    assert dialog is not None
    meanwhile()
    return await press(page, path, dialog, acting)


@pytest.mark.parametrize("steps", STEPS)
def test_a_dialog_that_was_drawn_before_does_nothing_after(
    portal_url: str,
    owner: Owner,
    revoke: Callable[[str], None],
    steps: tuple[str, str, str | None],
) -> None:
    async def act() -> Run | None:
        async with open_page(portal_url, owner.cookies) as page:
            return await take_steps(page, steps, lambda: revoke(owner.email))

    before = owner.counts()
    answer = run_async(act())
    assert owner.counts() == before
    assert answer is None or "/sign-in" in answer.text
    assert answer is None or "Minh Le" not in answer.text


def test_the_same_press_acts_for_who_is_signed_in(portal_url: str, owner: Owner) -> None:
    async def act() -> None:
        async with open_page(portal_url, owner.cookies) as page:
            await take_steps(page, STEPS[0], lambda: None)

    before = owner.counts()
    run_async(act())
    assert owner.counts()["account_members"] == before["account_members"] - 1


def test_an_open_page_is_closed_when_its_session_ends(
    portal_url: str,
    new_owner: Callable[[str], str],
    cookies_of: Callable[[str], str],
    revoke: Callable[[str], None],
) -> None:
    """Its reader only looks at it: nothing runs, and it goes to sign in all the same."""
    leaving, staying = new_owner("vn"), new_owner("vn")
    leaving_cookies, staying_cookies = cookies_of(leaving), cookies_of(staying)

    async def watch() -> tuple[str | None, int | None]:
        async with (
            open_page(portal_url, staying_cookies) as another,
            open_page(portal_url, leaving_cookies) as page,
        ):
            await another.run()
            await page.run()
            revoke(leaving)
            async with asyncio.timeout(WITHIN_SECONDS):
                messages, code = await page.until_closed()
            assert not (await another.run()).has_failed
            return messages[-1].WhichOneof("type"), code

    assert LOOK_EVERY_SECONDS < WITHIN_SECONDS
    assert run_async(watch()) == ("auth_redirect", POLICY_VIOLATION)
