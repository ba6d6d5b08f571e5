"""A real browser on the portal that tests/support/running_portal.py starts."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Error, Locator, expect, sync_playwright
from sqlalchemy import select

from db.models import User
from domain import identity
from domain.identity import AuthPolicy, Client
from tests.support.running_portal import PROCESS_ID

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page
    from sqlalchemy.orm import Session, sessionmaker

PATIENCE_MILLISECONDS = 120_000
"""How long a journey waits for what it expects, on the slowest machine; it goes on at once."""

expect.set_options(timeout=PATIENCE_MILLISECONDS)
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
SESSION_COOKIE = "credit_portal_session"
BROWSER = Client("127.0.0.1", "Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0.0.0 Safari/537.36")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def hanging_gateways(portal_folder: Path, portal_url: str) -> Iterator[Callable[[], None]]:
    """Return what stops the stand-ins: their socket takes connections and never answers.

    They go on when the test calls it again, or ends.
    """
    assert portal_url
    portal_id = int((portal_folder / PROCESS_ID).read_text())
    sandbox_id = next(each for each in children_of(portal_id) if "sandbox" in command_of(each))
    is_stopped = False

    def toggle() -> None:
        nonlocal is_stopped
        is_stopped = not is_stopped
        os.kill(sandbox_id, signal.SIGSTOP if is_stopped else signal.SIGCONT)

    yield toggle
    os.kill(sandbox_id, signal.SIGCONT)


def reference_in(address: str) -> str:
    """Return the reference of the payment that a page's address names."""
    [reference] = parse_qs(urlsplit(address).query)["ref"]
    return reference


def settle(page: Page) -> None:
    """Wait until no script runs any more and all that it drew is there.

    Meanwhile what moves down a page stands there twice, and what needs code that is not loaded yet
    is a placeholder.
    """
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)


def open_popover(place: Page | Locator, name: str) -> None:
    """Press the button that opens a popover, once its page and all elements of it are drawn.

    What is drawn late moves the button and its popover, perhaps out of the window, where a
    person scrolls and a test cannot.
    """
    page = place.page if isinstance(place, Locator) else place
    settle(page)
    place.get_by_role("button", name=name).click()


def choose(page: Page, label: str, option: str | re.Pattern[str], typed: str = "") -> None:
    """Choose one option of a list, after typing a part of it.

    A list closes when what is above it is drawn late and moves it; a person opens it again.
    """
    settle(page)
    field = page.get_by_role("combobox", name=label)
    offered = page.get_by_role("option", name=option)
    for _ in range(5):
        field.press("ArrowDown")
        if typed:
            field.fill(typed)
        try:
            offered.click(timeout=10_000)
        except Error as error:
            missed = error
        else:
            return
    raise missed


def children_of(process_id: int) -> list[int]:
    """Return the processes that any thread of a process started."""
    listed = Path(f"/proc/{process_id}/task").glob("*/children")
    return [int(number) for path in listed for number in path.read_text().split()]


def command_of(process_id: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{process_id}/cmdline").read_text().replace("\0", " ")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that CHROMIUM names, or Debian's."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=list(CHROMIUM_FLAGS),
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def free_contexts() -> list[BrowserContext]:
    """Contexts that a test has left: they hold the compiled code of the pages, and nothing else."""
    return []


@pytest.fixture
def open_page(
    browser: Browser, free_contexts: list[BrowserContext], portal_url: str
) -> Iterator[Callable[..., Page]]:
    """Open a page in a browser window of its own, desktop or phone, where nobody signed in."""
    used = []

    def opened(viewport: dict[str, int] = DESKTOP) -> Page:
        if free_contexts:
            context = free_contexts.pop()
        else:
            context = browser.new_context(locale="en-US", timezone_id="Asia/Tokyo")
            context.set_default_timeout(PATIENCE_MILLISECONDS)
        used.append(context)
        page = context.new_page()
        page.set_viewport_size(viewport)  # type: ignore[arg-type]
        return page

    yield opened
    for context in used:
        _forget(context, portal_url)
        free_contexts.append(context)


def _forget(context: BrowserContext, origin: str) -> None:
    """Close a context's pages and drop what they stored; a new context loads all code anew."""
    for page in context.pages[1:]:
        page.close()
    [last] = context.pages
    context.new_cdp_session(last).send(
        "Storage.clearDataForOrigin",
        {"origin": origin, "storageTypes": "local_storage,session_storage,indexeddb"},
    )
    last.close()
    context.clear_cookies()


@pytest.fixture
def sign_in(
    portal_url: str, portal_sessions: sessionmaker[Session], open_page: Callable[..., Page]
) -> Callable[..., Page]:
    """Open a page as one of the portal's people, with a session as their sign-in makes one.

    The form itself is filled in by the journeys of the keyboard and of plain texts.
    """

    def signed_in(email: str, viewport: dict[str, int] = DESKTOP, path: str = "/") -> Page:
        with portal_sessions.begin() as session:
            user_id = session.scalars(select(User.id).where(User.email == email)).one()
            opened = identity.create_session(
                session, user_id=user_id, client=BROWSER, policy=AuthPolicy(key=b"unused")
            )
        page = open_page(viewport)
        page.context.add_cookies(
            [{"name": SESSION_COOKIE, "value": opened.token, "url": portal_url, "httpOnly": True}]
        )
        page.goto(portal_url + path)
        page.get_by_role("button", name="Menu").wait_for()
        return page

    return signed_in
