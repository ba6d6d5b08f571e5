"""Every row of the credit history that matches a filter, for files, and the totals of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, func, literal, select

from db.bulk import stream_query
from domain.history.streams import PAYMENT_RANK, RANKS, choose_streams, every_row, sum_rows
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import ColumnElement, Subquery
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.history.rows import HistoryFilter, HistoryStatus

_FETCH_BATCH_SIZE = 2_000


@dataclass(frozen=True, slots=True)
class StatusTotal:
    """The number of rows with a status, and the sum of their amounts."""

    row_count: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class HistoryTotals:
    """Totals of rows by status; payments in progress, not yet in a balance, are separate."""

    by_status: Mapping[HistoryStatus, StatusTotal]
    payments: StatusTotal

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return sum(total.row_count for total in (*self.by_status.values(), self.payments))


def history_totals(
    session: Session, *, actor: Actor, account_id: int, filters: HistoryFilter
) -> HistoryTotals:
    """Return the totals of the filter's rows by status; none is left out.

    Raises NotFound where the actor may not read the account.
    """
    require(actor, "see_account", account_id)
    streams = choose_streams(account_id, filters)
    found = session.execute(sum_rows(streams, filters.search_text)).all() if streams else []
    by_rank = {row.rank: StatusTotal(row.rows, int(row.micros)) for row in found}
    none = StatusTotal(0, 0)
    return HistoryTotals(
        {status: by_rank.get(rank, none) for status, rank in RANKS.items()},
        by_rank.get(PAYMENT_RANK, none),
    )


def history_lines(
    session: Session, *, actor: Actor, account_id: int, filters: HistoryFilter, zone: str
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield every row that matches the filter, in batches from a server-side cursor.

    A row is (rank, kind, service, source, description code, its parameters as JSON text, amount
    and balance after in micros, the date on the zone's clocks to the second, the UTC instant as
    ISO text). Raises NotFound where the actor may not read the account.
    """
    rows = _rows(actor, account_id, filters)
    if rows is None:
        return
    utc = func.timezone("UTC", rows.c.occurred_at)
    statement = select(
        rows.c.rank,
        rows.c.kind,
        rows.c.service,
        rows.c.source,
        rows.c.description_code,
        cast(rows.c.description_parameters, Text),
        rows.c.amount_micros,
        rows.c.balance_after_micros,
        _on_clocks(rows, zone),
        func.to_char(utc, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    ).order_by(*_newest_first(rows))
    yield from stream_query(session, statement, _FETCH_BATCH_SIZE)


def _rows(actor: Actor, account_id: int, filters: HistoryFilter) -> Subquery | None:
    """Return the rows that match the filter, or None where there can be none."""
    require(actor, "see_account", account_id)
    streams = choose_streams(account_id, filters)
    return every_row(streams, filters.search_text).subquery("rows_in_order") if streams else None


def _newest_first(rows: Subquery) -> tuple[ColumnElement[Any], ...]:
    return rows.c.occurred_at.desc(), rows.c.rank.desc(), rows.c.number.desc()


def _on_clocks(rows: Subquery, zone: str) -> ColumnElement[Any]:
    """Return the date on the zone's clocks, to the second."""
    return func.date_trunc("second", func.timezone(literal(zone), rows.c.occurred_at))
