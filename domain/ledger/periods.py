"""Determine the posting date from the accounting periods of a site, month by month."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.bulk import fetch_rows
from domain.errors import PeriodClosed

if TYPE_CHECKING:
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session

# Locks first and reads then, by itself: in one statement the month would be read as it was before
# the lock was waited for.
_LOCK_PERIOD = "SELECT lock_accounting_period(%(period)s, %(site)s, %(month)s)"


class AccountingPeriods:
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
            name = period_lock_name(site_code, month)
            asked = {"period": name, "site": site_code, "month": month}
            [(is_closed,)] = fetch_rows(self._session, _LOCK_PERIOD, **asked)
            known = not is_closed
            self._open[site_code, month] = known
        return known


def period_lock_name(site_code: str, month: date) -> str:
    """Return the name under which posting into a site's month is locked."""
    return f"books:{site_code}:{month:%Y-%m}"
