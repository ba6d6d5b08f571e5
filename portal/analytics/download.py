"""The Excel file of the page, made when somebody asks for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from domain.queries.analytics import account_shares, analytics_report
from portal import backend
from portal.analytics import filters
from portal.analytics.workbook import make_workbook
from portal.i18n import _, current_language, using

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.queries.analytics import AccountShares, AnalyticsChoices, AnalyticsReport
    from portal.analytics.filters import Wanted

_MIME = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def draw(actor: Actor, wanted: Wanted, choices: AnalyticsChoices) -> None:
    """Draw the button."""
    name = f"analytics-{wanted.days.first}-{wanted.days.last}.xlsx"
    st.download_button(
        _("Download as Excel"),
        partial(_make, actor, wanted, choices, current_language()),
        file_name=name,
        mime=_MIME,
        on_click="ignore",
        icon=":material/download:",
        key="analytics_download",
    )


def _make(actor: Actor, wanted: Wanted, choices: AnalyticsChoices, language: str) -> bytes:
    """Return the file; it is made in a thread that knows nothing of the page's language."""
    report, shares = backend.read(_everything, actor=actor, wanted=wanted)
    with using(language):
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
