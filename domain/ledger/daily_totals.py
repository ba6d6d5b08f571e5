"""Keep the totals of an account's entries by day, written with the entries themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.bulk import integer_array, plain_array, text_array
from domain.ledger.site_totals import add_changes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from decimal import Decimal

    from domain.ledger.state import AccountState

    Key = tuple[int, date, str, str, str]

_ADD_TOTALS = """
INSERT INTO daily_totals AS t
  (account_id, day, kind, service, source, amount_micros, entries, calls)
SELECT * FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(days)s AS date[]), CAST(%(kinds)s AS text[]),
                     CAST(%(services)s AS text[]), CAST(%(sources)s AS text[]),
                     CAST(%(amounts)s AS bigint[]), CAST(%(entries)s AS bigint[]),
                     CAST(%(calls)s AS bigint[]))
ON CONFLICT (account_id, day, kind, service, source)
DO UPDATE SET amount_micros = t.amount_micros + EXCLUDED.amount_micros,
  entries = t.entries + EXCLUDED.entries, calls = t.calls + EXCLUDED.calls
"""
_ADD_QUANTITIES = """
INSERT INTO daily_quantities AS t (account_id, day, service, source, meter, quantity)
SELECT * FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(days)s AS date[]),
                     CAST(%(services)s AS text[]), CAST(%(sources)s AS text[]),
                     CAST(%(meters)s AS text[]), CAST(%(quantities)s AS numeric[]))
ON CONFLICT (account_id, day, service, source, meter)
DO UPDATE SET quantity = t.quantity + EXCLUDED.quantity
"""


class RollUps:
    """What one posting adds to the days of its accounts."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._totals: dict[Key, list[int]] = {}
        self._quantities: dict[Key, Decimal | int] = {}

    def add_entry(self, key: Key, amount_micros: int, calls: int) -> None:
        """Count an entry: its account, day, kind, service and source."""
        total = self._totals.get(key)
        if total is None:
            self._totals[key] = [amount_micros, 1, calls]
        else:
            total[0] += amount_micros
            total[1] += 1
            total[2] += calls

    def add_quantities(self, key: Key, quantities: Mapping[str, Decimal | int]) -> None:
        """Count what an entry's metered calls used, by meter."""
        account_id, day, _, service, source = key
        for meter, quantity in quantities.items():
            place = (account_id, day, service, source, meter)
            self._quantities[place] = self._quantities.get(place, 0) + quantity

    def statements(self, accounts: Mapping[int, AccountState]) -> list[tuple[str, dict[str, str]]]:
        """Return what adds everything to the tables, under the locks of the accounts."""
        made: list[tuple[str, dict[str, str]]] = []
        if self._totals:
            ids, days, kinds, services, sources = zip(*self._totals, strict=True)
            amounts, entries, calls = zip(*self._totals.values(), strict=True)
            totals = {
                "ids": integer_array(ids),
                "days": plain_array(days),
                "kinds": text_array(kinds),
                "services": text_array(services),
                "sources": text_array(sources),
                "amounts": integer_array(amounts),
                "entries": integer_array(entries),
                "calls": integer_array(calls),
            }
            made += [(_ADD_TOTALS, totals), add_changes(self._totals, accounts)]
        if self._quantities:
            ids, days, services, sources, meters = zip(*self._quantities, strict=True)
            quantities = {
                "ids": integer_array(ids),
                "days": plain_array(days),
                "services": text_array(services),
                "sources": text_array(sources),
                "meters": text_array(meters),
                "quantities": plain_array(self._quantities.values()),
            }
            made.append((_ADD_QUANTITIES, quantities))
        return made
