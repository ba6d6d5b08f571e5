"""The real portal with its demo data, in a process of its own, one for all tests of a run."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from db.embedded.server import acquire, remove
from db.engine import make_engine, make_sessions
from db.models import AccountMember, User
from domain import identity
from domain.accounts import open_account
from domain.actors import system_actor
from portal import demo
from tests.support.environment import bare_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session, sessionmaker

ROOT = Path(__file__).resolve().parents[2]
PROCESS_ID = "portal.pid"


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
    portal = subprocess.Popen(
        [sys.executable, "-m", "portal", "serve"],
        cwd=ROOT,
        env={
            **bare_environment(),
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
