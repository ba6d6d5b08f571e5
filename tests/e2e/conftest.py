"""The real portal in a process of its own with its demo data, and a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Error, Locator, expect, sync_playwright
from sqlalchemy import select

from db.embedded import acquire, remove
from db.engine import make_engine, make_sessions
from db.models import AccountMember, User
from domain import identity
from domain.accounts import open_account
from domain.actors import system_actor
from portal import demo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page
    from sqlalchemy.orm import Session, sessionmaker

ROOT = Path(__file__).resolve().parents[2]
PROCESS_ID = "portal.pid"
PATIENCE_MILLISECONDS = 120_000
"""How long a journey waits for what it expects, on the slowest machine; it goes on at once."""

expect.set_options(timeout=PATIENCE_MILLISECONDS)
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def portal_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the portal of this run keeps its data."""
    return tmp_path_factory.mktemp("a portal")


@pytest.fixture(scope="session")
def portal_url(portal_folder: Path) -> Iterator[str]:
    """The address of a portal that `python -m portal serve` started on an empty folder."""
    folder = portal_folder
    with socket.socket() as free, socket.socket() as another:
        free.bind(("127.0.0.1", 0))
        another.bind(("127.0.0.1", 0))
        port, sandbox_port = free.getsockname()[1], another.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    portal = subprocess.Popen(
        [sys.executable, "-m", "portal", "serve"],
        cwd=ROOT,
        env={
            **kept,
            "DATA_DIR": str(folder / "data"),
            "PORT": str(port),
            "SANDBOX_PORT": str(sandbox_port),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert portal.stdout is not None
    printed = []
    for line in portal.stdout:
        printed.append(line)
        if re.search(rf"ready: http://localhost:{port}", line):
            break
    else:
        pytest.fail("The portal did not start:\n" + "".join(printed))
    (folder / PROCESS_ID).write_text(str(portal.pid))
    drain = threading.Thread(target=portal.stdout.read)
    drain.start()
    yield f"http://localhost:{port}"
    portal.send_signal(signal.SIGTERM)
    portal.wait(timeout=240)
    drain.join(timeout=60)
    portal.stdout.close()
    assert portal.returncode in {0, -signal.SIGTERM}
    remove(folder / "data")


@pytest.fixture(scope="session")
def portal_sessions(portal_folder: Path, portal_url: str) -> Iterator[sessionmaker[Session]]:
    """Sessions on the database of the portal that runs."""
    assert portal_url
    server = acquire(portal_folder / "data", report=lambda _: None)
    engine = make_engine(server.url)
    yield make_sessions(engine)
    engine.dispose()
    server.release()


@pytest.fixture
def new_owner(portal_sessions: sessionmaker[Session]) -> Callable[[str], str]:
    """Make a person with an empty account of their own at a site; return their address."""
    currencies = {"vn": "VND", "jp": "JPY", "global": "USD"}

    def make(site: str) -> str:
        email = f"{uuid.uuid4().hex[:12]}@example.com"
        actor = system_actor("tests")
        with portal_sessions.begin() as session:
            user = identity.create_user(
                session,
                email=email,
                display_name="Lan Tran",
                password=demo.PASSWORD,
                staff_role=None,
                actor=actor,
            )
            open_account(
                session,
                site_code=site,
                name="Lan's account",
                currency=currencies[site],
                actor=actor,
                owner_user_id=user,
            )
        return email

    return make


@pytest.fixture
def new_billing_member(portal_sessions: sessionmaker[Session]) -> Callable[[str], str]:
    """Make a person with the role Billing in the account of an owner; return their address."""

    def make(owner: str) -> str:
        email = f"{uuid.uuid4().hex[:12]}@example.com"
        with portal_sessions.begin() as session:
            user = identity.create_user(
                session,
                email=email,
                display_name="Minh Le",
                password=demo.PASSWORD,
                staff_role=None,
                actor=system_actor("tests"),
            )
            account = session.scalars(
                select(AccountMember.account_id)
                .join(User, User.id == AccountMember.user_id)
                .where(User.email == owner)
            ).one()
            session.add(AccountMember(account_id=account, user_id=user, role="billing"))
        return email

    return make


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
    """Wait until no script runs any more: meanwhile what moves down a page stands there twice."""
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-script-state", "notRunning")


def open_popover(place: Page | Locator, name: str) -> None:
    """Press the button that opens a popover, once its page and all elements of it are drawn.

    What is drawn late moves the button and its popover, perhaps out of the window, where a
    person scrolls and a test cannot.
    """
    page = place.page if isinstance(place, Locator) else place
    settle(page)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
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
def sign_in(portal_url: str, open_page: Callable[..., Page]) -> Callable[..., Page]:
    """Sign in as one of the demo's people and wait for the first page."""

    def signed_in(email: str, viewport: dict[str, int] = DESKTOP, path: str = "/") -> Page:
        page = open_page(viewport)
        page.goto(portal_url + path)
        page.wait_for_url("**/sign-in**")
        page.get_by_label("Email").fill(email)
        page.get_by_label("Password", exact=True).fill(demo.PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Menu").wait_for()
        return page

    return signed_in
