"""Finance's Analytics page as Streamlit runs it, and the Excel file of it."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from openpyxl import load_workbook

from domain.accounts import open_account
from domain.actors import StaffRole, user_actor
from domain.analytics.queries import (
    AccountShare,
    AccountShares,
    AnalyticsChoices,
    account_shares,
    analytics_choices,
    analytics_report,
)
from portal.ui import query_params
from portal.ui.formats import MINUS
from portal.ui.labels import analytics as analytics_labels
from portal.ui.labels import ledger as ledger_labels
from portal.ui.period_picker import Days
from portal.views.analytics import report as drawing
from portal.views.analytics.filters import AnalyticsFilters
from portal.views.analytics.workbook import make_workbook
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, make_site
from tests.pages.conftest import FURTHEST_EAST, FURTHEST_WEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from openpyxl import Workbook
    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

PAGE = "pages/analytics.py"
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
FINANCE = user_actor(1, staff_role=StaffRole.FINANCE)
FIRST, LAST = NOW.date() - timedelta(days=29), NOW.date() + timedelta(days=1)
FILTERS = [("Site", "All"), ("Service", "=All")]


@pytest.fixture
def dollars(session: Session) -> int:
    """An account in dollars with most entries; one in yen beside it."""
    account = make_account(session)
    grant(session, account, 100)
    for days, amount, service in ((0, 6, "gpu-vm"), (2, 3, "ai-notebook"), (45, 10, "gpu-vm")):
        moment = NOW - timedelta(days=days)
        charge(session, account, amount, occurred_at=moment, service=service, refusable=False)
    yen = open_account(
        session, site_code="jp", name="Yen", currency="JPY", country="JP", actor=SYSTEM
    )
    grant(session, yen, 700, kind="voucher")
    charge(session, yen, 200, occurred_at=NOW, service="gpu-vm")
    session.commit()
    return account


@pytest.fixture
def page(show: Callable[..., AppTest]) -> Callable[..., AppTest]:
    """Open the page for a member of finance, with filters in its address."""

    def opened(**query: str) -> AppTest:
        app = show(None, staff_role=StaffRole.FINANCE)
        app.switch_page(PAGE)
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        return app

    return opened


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value.replace("\\", "") for metric in app.metric}


def table(app: AppTest, column: str) -> list[dict[str, str]]:
    """Return the table whose first column has this name."""
    (found,) = [one.value for one in app.dataframe if one.value.columns[0] == column]
    return [dict(row) for _, row in found.iterrows()]


@pytest.mark.usefixtures("dollars")
def test_figures_add_up_in_the_currency_of_most_entries(page: Callable[..., AppTest]) -> None:
    app = page()
    assert metrics(app) == {
        "Opening balance": f"{MINUS}$10.00",
        "Credits issued": "+$100.00",
        "Usage": f"{MINUS}$9.00",
        "Expired": "$0.00",
        "Refunds and chargebacks": "$0.00",
        "Reversals and write-offs": "$0.00",
        "Closing balance": "$81.00",
    }
    yen = page(shown="JPY")
    assert metrics(yen)["Closing balance"] == "¥500"


@pytest.mark.usefixtures("dollars")
def test_tables_show_each_currency_on_a_line_of_its_own(page: Callable[..., AppTest]) -> None:
    app = page()
    sites = [(row["Site"], row["Currency"], row["Closing balance"]) for row in table(app, "Site")]
    assert sites == [("Global", "USD", "$81.00"), ("Japan", "JPY", "¥500")]
    countries = [(row["Country"], row["Usage"]) for row in table(app, "Country")]
    assert countries == [("No country", f"{MINUS}$9.00"), ("Japan", f"{MINUS}¥200")]
    services = [(row["Service"], row["Usage"]) for row in table(app, "Service")]
    assert services == [("GPU VM", "$6.00"), ("AI Notebook", "$3.00"), ("GPU VM", "¥200")]
    granted = [(row["Credit"], row["Credits issued"]) for row in table(app, "Credit")]
    assert granted == [("Top-up credit", "$100.00"), ("Voucher credit", "¥700")]


@pytest.mark.usefixtures("dollars")
def test_filters_stand_in_the_address_and_narrow_the_page(page: Callable[..., AppTest]) -> None:
    app = page(site="jp")
    assert metrics(app)["Closing balance"] == "¥500"
    app.selectbox(key="usage_site").select("global").run()
    assert app.query_params["site"] == "global"
    assert metrics(app)["Closing balance"] == "$81.00"
    assert metrics(page(country="none"))["Closing balance"] == "$81.00"
    assert metrics(page(country="JP"))["Closing balance"] == "¥500"
    assert metrics(page(currency="JPY"))["Closing balance"] == "¥500"
    app = page(period="365")
    assert metrics(app)["Usage"] == f"{MINUS}$19.00"
    app.button[0].click().run()
    assert metrics(app)["Usage"] == f"{MINUS}$9.00"
    assert "period" not in app.query_params


@pytest.mark.usefixtures("dollars")
@pytest.mark.parametrize("site", ["", "east"])
def test_a_viewer_behind_the_sites_clock_sees_the_sites_day(
    show: Callable[..., AppTest], session: Session, site: str
) -> None:
    """The viewer's clock is a day and an hour behind the one site's, and hours behind the rest."""
    account = make_account(session, site=make_site(session, code="east", zone=FURTHEST_EAST))
    charge(session, account, 7, occurred_at=NOW, refusable=False)
    session.commit()
    app = show(None, staff_role=StaffRole.FINANCE, time_zone=FURTHEST_WEST)
    app.switch_page(PAGE)
    app.query_params["site"] = site
    app.run()
    assert metrics(app)["Usage"] == (f"{MINUS}$7.00" if site else f"{MINUS}$16.00")


@pytest.mark.usefixtures("dollars")
def test_services_of_one_name_keep_their_figures_apart(
    page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_labels, "service", lambda _slug: "Credits issued")
    figures = page().dataframe[0].value
    assert set(figures.columns) == {
        "Credits issued",
        "Credits issued (gpu-vm)",
        "Credits issued (ai-notebook)",
    }
    assert set(figures["Credits issued"]) == {"", "$100.00"}
    assert set(figures["Credits issued (gpu-vm)"]) == {"", "$6.00"}
    assert set(figures["Credits issued (ai-notebook)"]) == {"", "$3.00"}


@pytest.mark.parametrize(
    ("key", "opened"),
    [
        (drawing._REST, None),
        (drawing._GRANTED, "ai-notebook"),
        ("granted", "granted"),
    ],
)
def test_a_bar_opens_what_it_stands_for(
    key: str, opened: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several services together there is no list, and of all of them it would be another's."""
    kept: dict[str, str] = {}
    point = {"customdata": [key, LAST.isoformat(), "$1.00"]}
    monkeypatch.setattr("streamlit.session_state", {"bars": {"selection": {"points": [point]}}})
    monkeypatch.setattr(query_params, "put_all", kept.update)
    filters = AnalyticsFilters(Days(FIRST, LAST, "day"), "", "", "", "ai-notebook")
    drawing._open_bar("bars", filters, "USD")
    assert kept.get("service") == opened
    assert bool(kept) == (opened is not None)


@pytest.mark.usefixtures("dollars")
def test_of_one_service_its_use_alone_is_shown(page: Callable[..., AppTest]) -> None:
    app = page(service="ai-notebook")
    assert metrics(app) == {"Usage": f"{MINUS}$3.00"}
    assert any("Credit is not recorded by service" in caption.value for caption in app.caption)
    assert [row["Service"] for row in table(app, "Service")] == ["AI Notebook"]


def test_accounts_behind_it_are_shown_when_asked_for(
    page: Callable[..., AppTest], dollars: int
) -> None:
    app = page()
    assert "Account" not in [one.value.columns[0] for one in app.dataframe]
    app.toggle(key="analytics_accounts").set_value(True).run()
    assert app.query_params["accounts"] == "yes"
    (row,) = table(app, "Account")
    assert (row["Number"], row["Usage"]) == (str(dollars), "$9.00")
    day = (NOW - timedelta(days=10)).date().isoformat()
    quiet = page(accounts="yes", period="own", **{"from": day, "to": day})
    assert [info.value.split(".")[0] for info in quiet.info] == [
        "No credits issued and no usage in this period",
        "No usage in this period",
    ]


def test_without_any_credit_it_says_so(page: Callable[..., AppTest]) -> None:
    assert "Grant credit" in page().info[0].value


@pytest.mark.usefixtures("dollars")
def test_filters_that_find_nothing_say_what_to_do(page: Callable[..., AppTest]) -> None:
    app = page(site="jp", currency="USD")
    assert "Reset the filters" in app.info[0].value
    app = page(site="vn")  # nothing ever happened there: it is no choice
    assert metrics(app)["Closing balance"] == "$81.00"


@pytest.mark.parametrize("role", [None, StaffRole.SUPPORT])
def test_nobody_else_has_the_page(
    show: Callable[..., AppTest], dollars: int, role: StaffRole | None
) -> None:
    app = show(None if role else dollars, staff_role=role)
    with pytest.raises(ValueError, match="Could not find a navigation page"):
        app.switch_page(PAGE)


@pytest.mark.usefixtures("dollars")
def test_administrators_have_the_page(show: Callable[..., AppTest]) -> None:
    app = show(None, staff_role=StaffRole.ADMIN)
    app.switch_page(PAGE).run()
    assert metrics(app)["Closing balance"] == "$81.00"


def test_sums_beyond_one_account_are_shown_in_full() -> None:
    most = 40_000_000_000_000 * UNIT + UNIT // 2
    assert analytics_labels.amount(most, "USD", signed=True) == "+$40,000,000,000,001.00"
    assert analytics_labels.amount(-most, "VND") == f"{MINUS}₫40,000,000,000,001"
    assert analytics_labels.amount(5 * UNIT, "USD", signed=True) == "+$5.00"


# ── Excel ──────────────────────────────────────────────────────────────────────────────────────
def workbook(session: Session, *, name: str | None = None) -> Workbook:
    """Return the file of all accounts as openpyxl reads it, an account with another name."""
    report = analytics_report(session, actor=FINANCE, first=FIRST, last=LAST)
    shares = [
        account_shares(session, actor=FINANCE, first=FIRST, last=LAST, currency=currency)
        for currency in report.totals
    ]
    if name is not None:
        first, *others = shares[0].accounts
        shares[0] = replace(shares[0], accounts=(replace(first, name=name), *others))
    choices = analytics_choices(session, actor=FINANCE)
    return load_workbook(io.BytesIO(make_workbook(report, shares, choices, FILTERS)))


def rows(book: Workbook, sheet: str) -> list[dict[str, object]]:
    """Return the rows under the headings, which are frozen below the filters."""
    found = list(book[sheet].iter_rows(values_only=True))
    nothing = [None] * (len(found[0]) - 2)
    assert found[: len(FILTERS)] == [("Site", "All", *nothing), ("Service", "'=All", *nothing)]
    top = len(FILTERS) + 1
    assert book[sheet].freeze_panes == f"A{top + 2}"
    return [dict(zip(map(str, found[top]), row, strict=True)) for row in found[top + 1 :]]


@pytest.mark.usefixtures("dollars", "show")
def test_the_file_has_the_figures_of_the_page_on_sheets_that_tie(session: Session) -> None:
    book = workbook(session)
    assert book.sheetnames == [
        "Summary", "By period", "By site", "By country", "By service", "Accounts",
    ]  # fmt: skip
    summary = rows(book, "Summary")
    dollars = [row for row in summary if row["Currency"] == "USD"]
    assert {row["Item"]: row["Amount"] for row in dollars} == {
        "Opening balance": -10, "Credits issued: Top-up credit": 100, "Usage": -9, "Expired": 0,
        "Refunds and chargebacks": 0, "Reversals and write-offs": 0, "Closing balance": 81,
    }  # fmt: skip
    for sheet in ("By site", "By country", "By period"):
        found = [row for row in rows(book, sheet) if row["Currency"] == "USD"]
        assert sum(Decimal(str(row["Usage (exact)"])) for row in found) == -9
        assert found[-1]["Closing balance"] == 81
        for row in found:
            parts = [
                "Opening balance", "Credits issued", "Usage", "Expired",
                "Refunds and chargebacks", "Reversals and write-offs",
            ]  # fmt: skip
            ends = sum(Decimal(str(row[f"{part} (exact)"])) for part in parts)
            assert ends == Decimal(str(row["Closing balance (exact)"]))
    for sheet in ("By service", "Accounts"):
        found = [row for row in rows(book, sheet) if row["Currency"] == "USD"]
        assert sum(Decimal(str(row["Usage (exact)"])) for row in found) == 9
    assert isinstance(rows(book, "By period")[0]["From"], datetime | date)


@pytest.mark.usefixtures("show")
def test_amounts_are_numbers_and_exact_texts(session: Session, dollars: int) -> None:
    charge(session, dollars, "0.000001", occurred_at=NOW, service="gpu-vm")
    session.commit()
    cells = next(
        row for row in workbook(session)["By service"].iter_rows(min_row=5) if row[2].value == "USD"
    )
    assert (cells[3].data_type, cells[3].value) == ("n", 6.000001)
    assert (cells[4].data_type, cells[4].value) == ("s", "6.000001")
    assert cells[3].number_format == "#,##0.00"


@pytest.mark.usefixtures("dollars", "show")
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff20", " ="])
def test_a_text_that_begins_like_a_formula_stays_a_text(session: Session, sign: str) -> None:
    name = f'{sign}HYPERLINK("http://x.example")'
    sheet = workbook(session, name=name)["Accounts"]
    cell = sheet.cell(5, 2)
    assert str(cell.value).splitlines() == f"'{name}".splitlines()  # XML has one kind of line end
    assert cell.data_type == "s"


@pytest.mark.usefixtures("dollars", "show")
def test_signs_that_no_sheet_can_hold_are_left_out(session: Session) -> None:
    assert workbook(session, name="A\x00B\x0b")["Accounts"].cell(5, 2).value == "AB"


@pytest.mark.usefixtures("dollars", "show")
def test_accounts_beyond_the_first_are_one_line(session: Session) -> None:
    report = analytics_report(session, actor=FINANCE, first=FIRST, last=LAST, currency="USD")
    share = AccountShare(1, "A", "global", "", "UTC", 3 * UNIT, 1)
    shares = [AccountShares("USD", (share,), 7, 6 * UNIT, 2)]
    choices = AnalyticsChoices(
        {"global": "Global"}, {"global": "UTC"}, ("",), ("USD",), ("gpu-vm",)
    )
    book = load_workbook(io.BytesIO(make_workbook(report, shares, choices, FILTERS)))
    assert [(row["Name"], row["Usage"], row["Calls"]) for row in rows(book, "Accounts")] == [
        ("A", 3, 1),
        ("7 other accounts", 6, 2),
    ]
