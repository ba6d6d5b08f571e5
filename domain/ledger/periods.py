"""The books of a site, month by month: which day a posting belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.errors import PeriodClosed

if TYPE_CHECKING:
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session

_LOCK_PERIOD = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:period, 0))")
_PERIOD_IS_CLOSED = text(
    "SELECT is_closed FROM accounting_periods WHERE site_code = :site AND month = :month"
)


class Books:
    """The open and closed months that one transaction has asked for, each locked once."""

    def __init__(self, session: Session, now: datetime) -> None:
        """Take what time it is from the posting, so that all its entries agree."""
        self._session = session
        self._now = now
        self._open: dict[tuple[str, date], bool] = {}

    def accounting_date(self, site_code: str, time_zone: ZoneInfo, occurred_on: date) -> date:
        """Return the day of occurrence in the site's zone, or today where its month is closed.

        Takes the shared lock on the site's month, so that closing it waits for this posting.
        Raises PeriodClosed where the month of today is closed too.
        """
        if self._is_open(site_code, occurred_on):
            return occurred_on
        today = self._now.astimezone(time_zone).date()
        if self._is_open(site_code, today):
            return today
        raise PeriodClosed(site_code, today.replace(day=1))

    def _is_open(self, site_code: str, on: date) -> bool:
        month = on.replace(day=1)
        known = self._open.get((site_code, month))
        if known is None:
            self._session.execute(_LOCK_PERIOD, {"period": period_lock_name(site_code, month)})
            closed = self._session.execute(_PERIOD_IS_CLOSED, {"site": site_code, "month": month})
            known = not closed.scalar_one_or_none()
            self._open[site_code, month] = known
        return known


def period_lock_name(site_code: str, month: date) -> str:
    """Return the name under which posting into a site's month is locked."""
    return f"books:{site_code}:{month:%Y-%m}"
