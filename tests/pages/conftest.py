"""Pages as Streamlit runs them, for whoever is said to be signed in."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from domain.actors import MemberRole, StaffRole, user_actor
from portal.runtime import database
from portal.shell import page_context
from portal.shell.visitor import Visitor
from tests.support.keys import TEST_VAULT
from tests.support.people import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIN = Path(__file__).resolve().parents[2] / "portal" / "main.py"
FURTHEST_EAST = "Pacific/Kiritimati"
FURTHEST_WEST = "Pacific/Pago_Pago"
"""A day and an hour behind: it is never the same day in both."""


@pytest.fixture(scope="session", autouse=True)
def installed_components() -> Iterator[None]:
    """Look once for components: every AppTest does, through the metadata of all packages."""
    look = manifest_scanner.scan_component_manifests
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", functools.cache(look))
        yield


@pytest.fixture
def show(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AppTest]]:
    """Run the portal for a person: their account, their other memberships, or a staff role."""
    database.connect(database_url, vault=TEST_VAULT)

    def shown(
        account_id: int | None,
        *,
        staff_role: StaffRole | None = None,
        time_zone: str = "Asia/Tokyo",
        **query: str,
    ) -> AppTest:
        memberships = {} if account_id is None else {account_id: MemberRole.OWNER}
        actor = user_actor(1, staff_role=staff_role, memberships=memberships)
        database.transaction(register, actor)
        visitor = Visitor(
            user_id=1,
            display_name="Sample Person",
            email="sample@example.com",
            locale="en",
            time_zone=time_zone,
            actor=actor,
            account_id=account_id,
            session_id="session",
            form_token="token",
        )
        monkeypatch.setattr(page_context, "require_visitor", lambda: visitor)
        app = AppTest.from_file(str(MAIN), default_timeout=120)
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        return app

    yield shown
    database.disconnect()


@pytest.fixture
def staff_page(show: Callable[..., AppTest]) -> Callable[..., AppTest]:
    """Run a page for a member of staff, the person with number 1, at an address."""

    def shown(name: str, role: StaffRole, **query: str) -> AppTest:
        app = show(None, staff_role=role, **query)
        app.switch_page(f"pages/{name}.py")
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        assert not app.exception
        return app

    return shown
