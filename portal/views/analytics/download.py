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
    from portal.views.analytics.filters import AnalyticsFilters


def draw(choice: AnalyticsFilters) -> None:
    """Draw the link."""
    query = {
        "first": choice.days.first.isoformat(),
        "last": choice.days.last.isoformat(),
        "grain": choice.days.grain,
        "site": choice.site,
        "country": choice.country,
        "currency": choice.currency,
        "service": choice.service,
    }
    download_links({_("Download as Excel"): "/files/analytics.xlsx"}, query)


def make(actor: Actor, choice: AnalyticsFilters, choices: AnalyticsChoices) -> bytes:
    """Return the workbook of what is wanted. Raises NotAuthorised."""
    report, shares = database.read_snapshot(_everything, actor=actor, choice=choice)
    return make_workbook(report, shares, choices, filters.message(choice, choices))


def _everything(
    session: Session, *, actor: Actor, choice: AnalyticsFilters
) -> tuple[AnalyticsReport, list[AccountShares]]:
    """Read the report and its accounts at one moment, so that the sheets agree."""
    asked = {**choice.period, **choice.places}
    report = analytics_report(
        session, actor=actor, grain=choice.days.grain, currency=choice.currency or None, **asked
    )
    shares = [
        account_shares(session, actor=actor, currency=currency, **asked)
        for currency in report.totals
    ]
    return report, shares
