"""How many statements a page runs."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from domain.metering.usage import UsageEvent, record_usage
from portal.runtime import database
from tests.factories import SYSTEM, charge, grant, make_account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest


NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
MANY = 60
MOST = {
    # The header asks who looks at which account (1); the rest is the page's own.
    "overview": 8,
    "history": 3,
    "row": 6,
    "usage": 14,
    "members": 3,
    "accounts": 2,
    "analytics": 3,
}
"""Statements of one run, by page and tab."""


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect the statements that the portal sends meanwhile."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(database.engine(), "before_cursor_execute", note)
    yield statements
    event.remove(database.engine(), "before_cursor_execute", note)


def fill(session: Session, account: int, count: int) -> None:
    """Give the account credit, and so many charges and calls."""
    for kind in ("plan", "voucher", "top_up"):
        terms = {} if kind == "top_up" else {"expires_at": NOW + timedelta(days=20)}
        grant(session, account, 100, kind=kind, **terms)
    calls = [
        UsageEvent(
            account,
            "tests",
            f"{account}-{number}",
            "ai-inference",
            NOW,
            {"input-tokens": 1_000, "output-tokens": 1},
            "deepseek-v3",
        )
        for number in range(count)
    ]
    record_usage(session, events=calls, actor=SYSTEM)
    for number in range(count):
        moment = NOW - timedelta(days=number % 25, minutes=number)
        charge(
            session, account, 1, occurred_at=moment, service=("gpu-vm", "ai-notebook")[number % 2]
        )
    session.commit()


@pytest.fixture(params=[2, MANY])
def account(session: Session, request: pytest.FixtureRequest) -> int:
    """An account with a few rows of everything, and one with many."""
    account = make_account(session)
    fill(session, account, request.param)
    return account


def statements_of_a_run(app: AppTest) -> list[str]:
    with counted() as statements:
        app.run()
    assert not app.exception
    return statements
