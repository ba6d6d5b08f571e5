"""The Analytics page as an Excel file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portal.exports.spreadsheets import COUNTS, Amount, Column, SmallWorkbook
from portal.ui.i18n import _
from portal.ui.labels import analytics as analytics_labels
from portal.ui.labels import ledger as ledger_labels
from portal.views.analytics.report import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from domain.analytics.queries import AccountShares, AnalyticsChoices, AnalyticsReport, Flow

_NARROW = 14
_WIDE = 30


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
    for title, headings, rows in _sheets(report, shares, choices):
        columns = [_column(heading) for heading in headings]
        book.add_table(title, columns=columns, rows=rows, heading=filters)
    return book.content()


def _sheets(
    report: AnalyticsReport, shares: Sequence[AccountShares], choices: AnalyticsChoices
) -> list[tuple[str, list[str], Iterable[list[Any]]]]:
    """Return each sheet's title, headings and rows."""
    currency = _("Currency")
    flow = _flow_headings(report)
    return [
        (_("Summary"), [currency, _("Item"), *_amount_headings(_("Amount"))], _summary(report)),
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
            [_("Service"), _("Name"), currency, *_amount_headings(_("Usage")), _("Calls")],
            (
                [one.service, ledger_labels.service(one.service), one.currency,
                 Amount(one.used_micros, one.currency), one.calls]
                for one in report.services
            ),
        ),
        (
            _("Accounts"),
            [_("Account"), _("Name"), _("Site"), _("Country"), currency,
             *_amount_headings(_("Usage")), _("Calls")],
            _accounts(shares),
        ),
    ]  # fmt: skip


def _amount_headings(name: str) -> list[str]:
    return [name, _("{amount} (exact)").format(amount=name)]


def _flow_headings(report: AnalyticsReport) -> list[str]:
    """Return the headings of what came and went; none where nothing did, and there are no rows."""
    flow = next(iter(report.totals.values()), None)
    named = parts(flow) if flow is not None else []
    return [heading for name, _micros in named for heading in _amount_headings(name)]


def _flow(flow: Flow, currency: str) -> list[Amount]:
    return [Amount(micros, currency) for _name, micros in parts(flow)]


def _summary(report: AnalyticsReport) -> Iterable[list[Any]]:
    for currency, flow in report.totals.items():
        for name, micros in parts(flow):
            if name != _("Credits issued"):
                yield [currency, name, Amount(micros, currency)]
                continue
            for kind, granted in flow.granted.items():
                what = f"{name}: {ledger_labels.credit_kind(kind)}"
                yield [currency, what, Amount(granted, currency)]


def _accounts(shares: Sequence[AccountShares]) -> Iterable[list[Any]]:
    for found in shares:
        for one in found.accounts:
            used = Amount(one.used_micros, found.currency)
            yield [one.account_id, one.name, one.site_code, one.country, found.currency, used,
                   one.calls]  # fmt: skip
        if found.other_accounts:
            others = _("{count} other accounts").format(count=found.other_accounts)
            used = Amount(found.other_micros, found.currency)
            yield ["", others, "", "", found.currency, used, found.other_calls]


def _column(heading: str) -> Column:
    width = _WIDE if heading in {_("Name"), _("Item")} else max(_NARROW, len(heading) + 2)
    return Column(heading, width, COUNTS if heading == _("Calls") else None)
