"""Files that staff take away: what each holds, for whom it is made, and for whom it is not."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import openpyxl
import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.testclient import TestClient

from domain import identity
from domain.actors import StaffRole, system_actor, user_actor
from domain.identity import Client
from domain.payments.bank_transfers import Evidence, record_transfer
from portal.routes import files
from portal.runtime import cookies, database
from portal.runtime.settings import settings
from tests.factories import charge, grant, make_account
from tests.gateways import dong, payer
from tests.support.campaigns import a_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

HERE = "http://localhost:8501"
PDF = b"%PDF-1.7 a slip"
PATHS = [
    "/files/audit.xlsx",
    "/files/audit.csv",
    "/files/access-review.xlsx",
    "/files/access-review.csv",
    "/files/codes.xlsx?batch=1",
    "/files/codes.csv?batch=1",
    "/files/analytics.xlsx?first=2026-01-01&last=2026-01-31&grain=day",
    "/files/evidence?transfer=1",
]
SYSTEM = system_actor("tests")


@pytest.fixture(autouse=True)
def _filled(portal: None) -> None:  # noqa: ARG001 - it is connected before this
    """The portal has one of everything that a file holds."""
    database.transaction(fill)


def fill(session: Session) -> None:
    account, _owner = payer(session)
    record_transfer(
        session,
        account_id=account,
        amount=dong(20_000_000),
        bank_reference="FT1",
        received_on=date(2026, 1, 15),
        evidence=Evidence("slip.pdf.exe", PDF),
        remark="",
        actor=user_actor(900, staff_role=StaffRole.FINANCE),
    )
    used = make_account(session)
    grant(session, used, 10)
    charge(session, used, 1, occurred_at=datetime(2026, 1, 15, tzinfo=UTC))
    a_code(session)


@pytest.fixture
def browser() -> TestClient:
    return TestClient(Starlette(routes=files.routes()), base_url=HERE, follow_redirects=False)


@pytest.fixture
def sign_in(browser: TestClient) -> Callable[..., int]:
    """Sign a new person in; return their number."""

    def signed_in(role: StaffRole | None = None) -> int:
        name = f"{role or 'customer'}@example.com"
        user = database.transaction(
            identity.create_user,
            email=name,
            display_name="Lan",
            password="violet-kettle-9-march",
            staff_role=role,
            actor=SYSTEM,
        )
        opened = database.transaction(
            identity.create_session,
            user_id=user,
            client=Client("203.0.113.7", "a browser"),
            policy=settings().policy,
        )
        browser.cookies.set(cookies.session_cookie(settings()), opened.token)
        return user

    return signed_in


def rows_of(content: bytes) -> list[tuple[object, ...]]:
    return list(openpyxl.load_workbook(io.BytesIO(content)).worksheets[0].values)


@pytest.mark.parametrize("path", PATHS)
def test_finance_takes_each_file(
    browser: TestClient, sign_in: Callable[..., int], path: str
) -> None:
    sign_in(StaffRole.FINANCE)
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
    if ".xlsx" in path:
        assert len(rows_of(answer.content)) > 1
    elif ".csv" in path:
        assert len(list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))) > 1


def test_analytics_of_a_period_in_which_nothing_happened_are_headings(
    browser: TestClient, sign_in: Callable[..., int]
) -> None:
    sign_in(StaffRole.FINANCE)
    answer = browser.get("/files/analytics.xlsx?first=2025-01-01&last=2025-01-31&grain=day")
    assert answer.status_code == 200, answer.text
    sheets = openpyxl.load_workbook(io.BytesIO(answer.content)).worksheets
    assert [sheet.title for sheet in sheets][:2] == ["Summary", "By period"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("role", [None, StaffRole.SUPPORT], ids=["customer", "support"])
def test_others_take_none(
    browser: TestClient, sign_in: Callable[..., int], path: str, role: StaffRole | None
) -> None:
    sign_in(role)
    answer = browser.get(path)
    assert answer.status_code == 403
    assert "content-disposition" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_nobody_takes_one_without_being_signed_in(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("UPDATE users SET staff_role = NULL WHERE id = :id", 403),
        ("UPDATE users SET disabled_at = now() WHERE id = :id", 303),
        ("UPDATE user_sessions SET revoked_at = now() WHERE user_id = :id", 303),
    ],
    ids=["role", "person", "session"],
)
def test_an_address_is_worth_nothing_once_a_right_is_gone(
    browser: TestClient, sign_in: Callable[..., int], path: str, change: str, status: int
) -> None:
    user = sign_in(StaffRole.FINANCE)
    assert browser.get(path).status_code == 200

    def take_away(session: Session) -> None:
        session.execute(text(change), {"id": user})

    database.transaction(take_away)
    answer = browser.get(path)
    assert answer.status_code == status
    assert "content-disposition" not in answer.headers


def test_evidence_goes_out_under_a_name_of_ours(
    browser: TestClient, sign_in: Callable[..., int]
) -> None:
    sign_in(StaffRole.FINANCE)
    answer = browser.get("/files/evidence?transfer=1")
    assert answer.content == PDF
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"].endswith("''evidence-1.pdf")


@pytest.mark.parametrize(
    "path",
    [
        "/files/analytics.xlsx",
        "/files/analytics.xlsx?first=x&last=2026-01-31&grain=day",
        "/files/analytics.xlsx?first=2026-02-01&last=2026-01-31&grain=day",
        "/files/analytics.xlsx?first=2026-01-01&last=2026-01-31&grain=year",
        "/files/analytics.xlsx?first=2026-01-01&last=2026-01-31&grain=day&site=zz",
        "/files/analytics.xlsx?first=2026-01-01&last=2026-01-31&grain=day&service=%07",
        "/files/analytics.xlsx?first=0001-01-01&last=9999-12-31&grain=day",
        "/files/audit.csv?who=%07",
        "/files/audit.csv?since=yesterday",
        "/files/audit.csv?until=2026-01-01T00:00:00",
        "/files/codes.csv?batch=999999999999999999",
        "/files/codes.csv?batch=\uff11",
        "/files/codes.csv",
        "/files/evidence?transfer=" + "9" * 400,
    ],
)
def test_odd_addresses_are_refused_with_words(
    browser: TestClient, sign_in: Callable[..., int], path: str
) -> None:
    sign_in(StaffRole.FINANCE)
    answer = browser.get(path)
    assert answer.status_code in {404, 422}
    assert "File not found" in answer.text
