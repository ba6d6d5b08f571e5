"""The Excel file of the page, made when somebody asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.analytics.queries import account_shares, analytics_report
from portal.runtime import database
from portal.ui.download_link import download_links
from portal.ui.i18n import _
from portal.views.analytics import filters
from portal.views.analytics.workbook import make_workbook

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.analytics.queries import AccountShares, AnalyticsChoices, AnalyticsReport
    from portal.views.analytics.filters import Wanted


def draw(wanted: Wanted) -> None:
    """Draw the link."""
    query = {
        "first": wanted.days.first.isoformat(),
        "last": wanted.days.last.isoformat(),
        "grain": wanted.days.grain,
        "site": wanted.site,
        "country": wanted.country,
        "currency": wanted.currency,
        "service": wanted.service,
    }
    download_links({_("Download as Excel"): "/files/analytics.xlsx"}, query)


def make(actor: Actor, wanted: Wanted, choices: AnalyticsChoices) -> bytes:
    """Return the workbook of what is wanted. Raises NotAuthorised."""
    report, shares = database.read_snapshot(_everything, actor=actor, wanted=wanted)
    return make_workbook(report, shares, choices, filters.told(wanted, choices))


def _everything(
    session: Session, *, actor: Actor, wanted: Wanted
) -> tuple[AnalyticsReport, list[AccountShares]]:
    """Read the report and its accounts at one moment, so that the sheets agree."""
    asked = {**wanted.period, **wanted.places}
    report = analytics_report(
        session, actor=actor, grain=wanted.days.grain, currency=wanted.currency or None, **asked
    )
    shares = [
        account_shares(session, actor=actor, currency=currency, **asked)
        for currency in report.totals
    ]
    return report, shares
