"""The audit log's page and files."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest

from domain import audit
from domain.actors import StaffRole, user_actor
from domain.audit.chain import seal_audit_log
from domain.audit.queries import AuditFilter, audit_page
from portal.views.audit import download
from tests.factories import SYSTEM, make_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.actors import Actor

ADMIN = user_actor(1, staff_role=StaffRole.ADMIN)
OTHER = user_actor(77, staff_role=StaffRole.SUPPORT, ip="203.0.113.9")


@pytest.fixture
def page(staff_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def shown(role: StaffRole = StaffRole.ADMIN, **query: str) -> AppTest:
        return staff_page("audit", role, **query)

    return shown


@pytest.fixture
def account(session: Session) -> int:
    account = make_account(session)
    for number in range(3):
        audit.record(session, action="look_at_account", actor=OTHER, account_id=account)
        audit.record(
            session,
            action="change_limits",
            actor=ADMIN,
            details={"from": number, "to": "=1+1"},
        )
    audit.record(session, action="fold_totals", actor=SYSTEM)
    session.commit()
    return account


def column(app: AppTest, name: str) -> list[Any]:
    return list(app.dataframe[0].value[name].tolist())


def test_people_come_first_the_newest_on_top(
    account: int, page: Callable[..., AppTest], session: Session
) -> None:
    seal_audit_log(session, actor=SYSTEM)
    session.commit()
    app = page()
    assert column(app, "Action") == ["change limits", "look at account"] * 3
    assert column(app, "User") == ["You", "user:77"] * 3
    assert column(app, "Account")[1::2] == [f"/account?account={account}"] * 3
    assert column(app, "From")[1] == "203.0.113.9"
    assert column(app, "Details")[0] == "from: 2, to: =1+1"
    assert any("entries are in the hash chain" in each.value for each in app.caption)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"what": "change_limits"}, 3),
        ({"who": "person", "person": "nobody@example.com"}, 0),
        ({"who": "nonsense", "before": "x~y", "of": "z"}, 6),
        ({"what": "no_such_act"}, 0),
    ],
)
def test_filters(
    account: int, page: Callable[..., AppTest], query: dict[str, str], count: int
) -> None:
    del account
    app = page(**query)
    assert [len(each.value) for each in app.dataframe] == ([count] if count else [])
    assert len(app.info) == (0 if count else 1)


def test_one_account_and_what_the_system_did(account: int, page: Callable[..., AppTest]) -> None:
    assert column(page(of=str(account)), "Action") == ["look at account"] * 3
    assert column(page(who="system"), "Action")[0] == "fold totals"


def test_pages_give_every_row_once(account: int, session: Session) -> None:
    del account
    filters, older = AuditFilter(who="all"), None
    seen: list[int] = []
    while not seen or older is not None:
        found = audit_page(session, actor=ADMIN, filters=filters, older_than=older, page_size=2)
        seen += [row.number for row in found.rows]
        older = found.older
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) >= 8


def test_support_has_no_such_page(show: Callable[..., AppTest]) -> None:
    app = show(None, staff_role=StaffRole.SUPPORT)
    with pytest.raises(Exception, match="audit"):
        app.switch_page("pages/audit.py").run()


def files(actor: Actor) -> tuple[list[list[str]], list[tuple[Any, ...]]]:
    """Return the rows of both files."""
    filters = AuditFilter()
    text = download.make(actor, filters, download.csv_file).decode("utf-8-sig")
    content = download.make(actor, filters, download.workbook)
    book = openpyxl.load_workbook(io.BytesIO(content))
    (sheet,) = book.worksheets
    return list(csv.reader(io.StringIO(text))), list(sheet.values)


def test_files_hold_what_matches_and_are_recorded(
    account: int, page: Callable[..., AppTest], session: Session
) -> None:
    page()  # connects
    rows, cells = files(ADMIN)
    assert rows[0][0] == "Number"
    assert [row[4] for row in rows[1:]] == [
        "export_audit",
        *["change_limits", "look_at_account"] * 3,
    ]
    assert rows[3][5] == str(account)
    assert [row[4] for row in cells[2:] if row[4]][:3] == [
        "Action",
        "export_audit",
        "export_audit",
    ]
    assert len(audit_page(session, actor=ADMIN, filters=AuditFilter()).rows) == 8
