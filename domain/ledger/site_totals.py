"""Total the accounts of a site by day: a queue that postings add to, and its sums.

Charges of a site would wait for each other at one row, so a posting only inserts; a job adds the
queue to the sums. Who reads takes both, and so sees every charge from its commit on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from db.bulk import integer_array, plain_array, text_array
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.ledger.state import AccountState

_ADD_CHANGES = """
INSERT INTO total_changes
  (site_code, country, currency, day, kind, service, amount_micros, entries, calls)
SELECT * FROM unnest(CAST(%(sites)s AS text[]), CAST(%(countries)s AS text[]),
                     CAST(%(currencies)s AS text[]), CAST(%(days)s AS date[]),
                     CAST(%(kinds)s AS text[]), CAST(%(services)s AS text[]),
                     CAST(%(amounts)s AS numeric[]), CAST(%(entries)s AS bigint[]),
                     CAST(%(calls)s AS bigint[]))
"""
# What commits later with a lower number waits for the next run. The rows go in one order, so that
# two of these never wait for each other in turn.
_FOLD = text("""
WITH gone AS (
  DELETE FROM total_changes
  WHERE change_number <= (
    SELECT max(change_number) FROM (
      SELECT change_number FROM total_changes ORDER BY change_number LIMIT :limit) oldest)
  RETURNING site_code, country, currency, day, kind, service, amount_micros, entries, calls
), added AS (
  INSERT INTO site_totals AS t
    (site_code, country, currency, day, kind, service, amount_micros, entries, calls)
  SELECT site_code, country, currency, day, kind, service,
    sum(amount_micros), sum(entries), sum(calls)
  FROM gone GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
  ON CONFLICT (site_code, country, currency, day, kind, service)
  DO UPDATE SET amount_micros = t.amount_micros + EXCLUDED.amount_micros,
    entries = t.entries + EXCLUDED.entries, calls = t.calls + EXCLUDED.calls
)
SELECT count(*) FROM gone
""")


def add_changes(
    totals: Mapping[tuple[int, date, str, str, str], list[int]],
    accounts: Mapping[int, AccountState],
) -> tuple[str, dict[str, str]]:
    """Return the statement that queues what a posting adds to its sites' days.

    `totals` holds amount, entries and calls by account, day, kind, service and source.
    """
    sums: dict[tuple[str, str, str, date, str, str], list[int]] = {}
    for (account_id, day, kind, service, _), (amount, entries, calls) in totals.items():
        account = accounts[account_id]
        key = (account.site_code, account.country, account.currency, day, kind, service)
        found = sums.get(key)
        if found is None:
            sums[key] = [amount, entries, calls]
        else:
            found[0] += amount
            found[1] += entries
            found[2] += calls
    sites, countries, currencies, days, kinds, services = zip(*sums, strict=True)
    amounts, counts, calls_made = zip(*sums.values(), strict=True)
    return _ADD_CHANGES, {
        "sites": text_array(sites),
        "countries": text_array(countries),
        "currencies": text_array(currencies),
        "days": plain_array(days),
        "kinds": text_array(kinds),
        "services": text_array(services),
        "amounts": plain_array(amounts),
        "entries": integer_array(counts),
        "calls": integer_array(calls_made),
    }


def fold_totals(session: Session, *, actor: Actor, limit: int = 500) -> int:
    """Add the oldest queued changes to the sums; return how many (call again while it is `limit`).

    Two at once share the queue: what one of them has taken, the other does not find.
    """
    require(actor, "run_jobs")
    count: int = session.execute(_FOLD, {"limit": limit}).scalar_one()
    return count
