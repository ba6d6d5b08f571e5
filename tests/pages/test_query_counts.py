"""A page asks the database the same few questions, however much there is to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.actors import StaffRole
from domain.history import pages
from portal.ui.labels import ledger as ledger_labels
from tests.factories import make_account
from tests.support.query_counts import MOST, account, counted, fill, statements_of_a_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

__all__ = ["account"]

ENTRY = "e4"
"""The first charge with calls, after three grants."""


@pytest.fixture(autouse=True)
def _still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the names of services, which are kept for a time, not end between two runs."""
    monkeypatch.setattr(ledger_labels, "monotonic", lambda: 0)


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("overview", {}),
        ("history", {"tab": "history"}),
        ("history", {"tab": "history", "service": "gpu-vm", "kind": "charge"}),
        ("history", {"tab": "history", "text": "model"}),
        ("row", {"tab": "history", "row": ENTRY}),
    ],
)
def test_billing_asks_as_little_whatever_there_is(
    show: Callable[..., AppTest], account: int, page: str, query: dict[str, str]
) -> None:
    statements = statements_of_a_run(show(account, **query))
    assert 0 < len(statements) <= MOST[page], "\n".join(statements)


def test_usage_asks_as_little_whatever_there_is(show: Callable[..., AppTest], account: int) -> None:
    app = show(account)
    app.switch_page("pages/usage.py").run()
    statements = statements_of_a_run(app)
    assert 0 < len(statements) <= MOST["usage"], "\n".join(statements)


def test_members_asks_as_little_whatever_there_is(
    show: Callable[..., AppTest], account: int
) -> None:
    app = show(account)
    app.switch_page("pages/members.py").run()
    statements = statements_of_a_run(app)
    assert 0 < len(statements) <= MOST["members"], "\n".join(statements)


@pytest.mark.usefixtures("account")
def test_analytics_asks_as_little_whatever_there_is(show: Callable[..., AppTest]) -> None:
    app = show(None, staff_role=StaffRole.FINANCE)
    app.switch_page("pages/analytics.py")
    app.query_params["accounts"] = "yes"
    app.run()
    statements = statements_of_a_run(app)
    assert 0 < len(statements) <= MOST["analytics"], "\n".join(statements)


@pytest.mark.parametrize("count", [1, 20])
def test_accounts_asks_as_little_however_many_are_found(
    show: Callable[..., AppTest], session: Session, count: int
) -> None:
    for _ in range(count):
        make_account(session)
    session.commit()
    app = show(None, staff_role=StaffRole.SUPPORT)
    statements = statements_of_a_run(app)
    assert 0 < len(statements) <= MOST["accounts"], "\n".join(statements)


@pytest.mark.parametrize(
    ("query", "closed"),
    [
        ({}, ("FROM refusals", "FROM holds", "FROM usage_events")),
        ({"tab": "history"}, ("FROM grants", "FROM debts", "FROM usage_events")),
        ({"tab": "history", "row": ENTRY}, ("FROM refusals", "FROM debts")),
    ],
)
def test_what_is_closed_is_not_asked_for(
    show: Callable[..., AppTest], account: int, query: dict[str, str], closed: tuple[str, ...]
) -> None:
    statements = statements_of_a_run(show(account, **query))
    asked = [part for part in closed for statement in statements if part in statement]
    assert not asked, "\n".join(statements)


def test_a_history_that_is_known_to_be_long_is_not_counted_again(
    show: Callable[..., AppTest], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "COUNT_CAP", 5)
    account = make_account(session)
    fill(session, account, 4)
    with counted() as first:
        app = show(account, tab="history")
    assert [statement for statement in first if "count(*)" in statement]
    again = statements_of_a_run(app)
    assert not [statement for statement in again if "count(*)" in statement]
    assert "More than 5 rows" in [caption.value for caption in app.caption]
    app.query_params["kind"] = "plan"
    other = statements_of_a_run(app)
    assert [statement for statement in other if "count(*)" in statement]
    assert "1 row" in [caption.value for caption in app.caption]
