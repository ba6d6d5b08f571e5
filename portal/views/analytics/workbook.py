"""The Analytics page as an Excel file."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from domain.money import EXACT, MICRO_DECIMALS, currency_exponent
from portal.exports.spreadsheets import SmallWorkbook, write_cell
from portal.ui.i18n import _
from portal.ui.labels import analytics as analytics_labels
from portal.ui.labels import ledger as ledger_labels
from portal.views.analytics.report import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from openpyxl.worksheet.worksheet import Worksheet

    from domain.analytics.queries import AccountShares, AnalyticsChoices, AnalyticsReport, Flow

_NARROW = 14
_WIDE = 30
_BOLD = Font(bold=True)
_DAY = "yyyy-mm-dd"
_COUNT = "#,##0"


class _Amount:
    """An amount in a row: two cells, a number to calculate with and its exact text."""

    def __init__(self, micros: int, currency: str) -> None:
        self.value = Decimal(micros).scaleb(-MICRO_DECIMALS, EXACT)
        decimals = currency_exponent(currency)
        self.format = f"#,##0.{'0' * decimals}" if decimals else _COUNT


def make_workbook(
    report: AnalyticsReport,
    shares: Sequence[AccountShares],
    choices: AnalyticsChoices,
    filters: Sequence[tuple[str, str]],
) -> bytes:
    """Return the file; each sheet has the filters on top, then a frozen row of headings.

    What went has a minus, so that a row adds up. Accounts are those with most use.
    """
    book = SmallWorkbook()
    currency = _("Currency")
    flow = _flow_headings(report)
    sheets: list[tuple[str, list[str], Iterable[list[Any]]]] = [
        (_("Summary"), [currency, _("What"), *_amount_headings(_("Amount"))], _summary(report)),
        (
            _("By period"),
            [_("From"), currency, *flow],
            ([one.begins, one.currency, *_flow(one.flow, one.currency)] for one in report.buckets),
        ),
        (
            _("By site"),
            [_("Site"), _("Name"), currency, *flow],
            (
                [one.code, choices.sites.get(one.code, ""), one.currency,
                 *_flow(one.flow, one.currency)]
                for one in report.sites
            ),
        ),
        (
            _("By country"),
            [_("Country"), _("Name"), currency, *flow],
            (
                [
                    one.code,
                    analytics_labels.country(one.code),
                    one.currency,
                    *_flow(one.flow, one.currency),
                ]
                for one in report.countries
            ),
        ),
        (
            _("By service"),
            [_("Service"), _("Name"), currency, *_amount_headings(_("Used")), _("Calls")],
            (
                [one.service, ledger_labels.service(one.service), one.currency,
                 _Amount(one.used_micros, one.currency), one.calls]
                for one in report.services
            ),
        ),
        (
            _("Accounts"),
            [_("Account"), _("Name"), _("Site"), _("Country"), currency,
             *_amount_headings(_("Used")), _("Calls")],
            _accounts(shares),
        ),
    ]  # fmt: skip
    for title, headings, rows in sheets:
        _fill(book.add_sheet(title), headings, rows, filters)
    return book.content()


def _amount_headings(name: str) -> list[str]:
    return [name, _("{amount}, exact").format(amount=name)]


def _flow_headings(report: AnalyticsReport) -> list[str]:
    """Return the headings of what came and went; none where nothing did, and there are no rows."""
    flow = next(iter(report.totals.values()), None)
    named = parts(flow) if flow is not None else []
    return [heading for name, _micros in named for heading in _amount_headings(name)]


def _flow(flow: Flow, currency: str) -> list[_Amount]:
    return [_Amount(micros, currency) for _name, micros in parts(flow)]


def _summary(report: AnalyticsReport) -> Iterable[list[Any]]:
    for currency, flow in report.totals.items():
        for name, micros in parts(flow):
            if name != _("Granted"):
                yield [currency, name, _Amount(micros, currency)]
                continue
            for kind, granted in flow.granted.items():
                what = f"{name}: {ledger_labels.credit_kind(kind)}"
                yield [currency, what, _Amount(granted, currency)]


def _accounts(shares: Sequence[AccountShares]) -> Iterable[list[Any]]:
    for found in shares:
        for one in found.accounts:
            used = _Amount(one.used_micros, found.currency)
            yield [one.account_id, one.name, one.site_code, one.country, found.currency, used,
                   one.calls]  # fmt: skip
        if found.other_accounts:
            others = _("{count} other accounts").format(count=found.other_accounts)
            used = _Amount(found.other_micros, found.currency)
            yield ["", others, "", "", found.currency, used, found.other_calls]


def _fill(
    sheet: Worksheet,
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    filters: Sequence[tuple[str, str]],
) -> None:
    for number, (name, value) in enumerate(filters, start=1):
        _write(sheet, number, 1, name)
        _write(sheet, number, 2, value)
    top = len(filters) + 2
    for column, heading in enumerate(headings, start=1):
        _write(sheet, top, column, heading)
        sheet.cell(top, column).font = _BOLD
        width = _WIDE if heading in {_("Name"), _("What")} else max(_NARROW, len(heading) + 2)
        sheet.column_dimensions[get_column_letter(column)].width = width
    for number, row in enumerate(rows, start=top + 1):
        column = 1
        for value in row:
            column += _write(sheet, number, column, value)
    sheet.freeze_panes = f"A{top + 1}"


def _write(sheet: Worksheet, row: int, column: int, value: Any) -> int:  # noqa: ANN401 - texts, counts, days, amounts
    """Write a value and return how many cells it took."""
    if isinstance(value, _Amount):
        write_cell(sheet, row, column, value.value).number_format = value.format
        write_cell(sheet, row, column + 1, f"{value.value:f}")
        return 2
    cell = write_cell(sheet, row, column, value)
    if not isinstance(value, str):
        cell.number_format = _COUNT if isinstance(value, int) else _DAY
    return 1
