"""Every row of the credit history that a filter wants, for files, and what the rows add up to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Numeric, Text, case, cast, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB

from db.bulk import copy_query, stream_query
from domain.permissions import require
from domain.queries.history_streams import RANKS, choose_streams, every_row, sum_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import ColumnElement, Subquery
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.queries.history_rows import HistoryFilter, HistoryStatus

FORMULA_STARTS = "=+-@\t\r\n"
"""What makes a spreadsheet take a text for a formula, where it begins with one of them."""

_FETCHED_AT_ONCE = 2_000
_FORMULA = f"^[{FORMULA_STARTS.replace('-', '')}-]"


@dataclass(frozen=True, slots=True)
class StatusTotal:
    """How many rows have a status, and what their amounts add up to."""

    row_count: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class HistoryNames:
    """What a reader calls what the ledger keeps as codes; a code without a name stays as it is."""

    services: Mapping[str, str]
    sources: Mapping[str, str]
    kinds: Mapping[str, str]
    statuses: Mapping[str, str]
    reasons: Mapping[str, str]


def history_totals(
    session: Session, *, actor: Actor, account_id: int, wanted: HistoryFilter
) -> dict[HistoryStatus, StatusTotal]:
    """Return what the filter's rows add up to, by status; none is left out.

    Raises NotFound where the actor may not read the account.
    """
    require(actor, "see_account", account_id)
    streams = choose_streams(account_id, wanted)
    found = session.execute(sum_rows(streams, wanted.sought)).all() if streams else []
    by_rank = {row.rank: StatusTotal(row.rows, int(row.micros)) for row in found}
    return {status: by_rank.get(rank, StatusTotal(0, 0)) for status, rank in RANKS.items()}


def history_lines(
    session: Session, *, actor: Actor, account_id: int, wanted: HistoryFilter, zone: str
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield every row that the filter wants, some thousand at a time, from a cursor of the server.

    A row is (rank, kind, service, source, description code, its parameters as JSON text, amount
    and balance after in micros, the date on the zone's clocks to the second, the UTC instant as
    ISO text). Raises NotFound where the actor may not read the account.
    """
    rows = _rows(actor, account_id, wanted)
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
    yield from stream_query(session, statement, _FETCHED_AT_ONCE)


def copy_history(
    session: Session,
    *,
    actor: Actor,
    account_id: int,
    wanted: HistoryFilter,
    zone: str,
    names: HistoryNames,
    write: Callable[[bytes], object],
) -> None:
    """Have the server write every row that the filter wants as a line of CSV, a call each.

    A line has the date on the zone's clocks to the second, the UTC instant, service, source,
    kind, voucher code, details, count of calls, what they used as JSON, status, exact amount and
    balance after. Text never begins as a formula does. Raises NotFound where the actor may not
    read the account.
    """
    rows = _rows(actor, account_id, wanted)
    if rows is None:
        return
    given = rows.c.description_parameters
    is_charge, is_voucher = rows.c.kind == "charge", rows.c.kind == "voucher"
    origin = given["origin"].astext
    words = (given["reason"].astext, given["reverses"].astext, case((~is_voucher, origin)))
    told = case((~is_charge, _inert(func.coalesce(*words))))
    statuses = {str(rank): names.statuses[status] for status, rank in RANKS.items()}
    statement = select(
        _on_clocks(rows, zone),
        rows.c.occurred_at,
        _named(names.services, rows.c.service),
        _named(names.sources, rows.c.source),
        _named(names.kinds, rows.c.kind),
        case((is_voucher, _inert(origin))),
        func.coalesce(_named(names.reasons, rows.c.reason), told),
        given["calls"].astext,
        given["quantities"].astext,
        _named(statuses, cast(rows.c.rank, Text)),
        _exact(rows.c.amount_micros),
        _exact(rows.c.balance_after_micros),
    ).order_by(*_newest_first(rows))
    copy_query(session, statement, write)


def _rows(actor: Actor, account_id: int, wanted: HistoryFilter) -> Subquery | None:
    """Return the rows that the filter wants, or None where there can be none."""
    require(actor, "see_account", account_id)
    streams = choose_streams(account_id, wanted)
    return every_row(streams, wanted.sought).subquery("rows_in_order") if streams else None


def _newest_first(rows: Subquery) -> tuple[ColumnElement[Any], ...]:
    return rows.c.occurred_at.desc(), rows.c.rank.desc(), rows.c.number.desc()


def _on_clocks(rows: Subquery, zone: str) -> ColumnElement[Any]:
    """Return the date on the zone's clocks, to the second."""
    return func.date_trunc("second", func.timezone(literal(zone), rows.c.occurred_at))


def _named(names: Mapping[str, str], code: ColumnElement[Any]) -> ColumnElement[Any]:
    # Names are the product's own words; codes may be anybody's.
    words = cast(literal(json.dumps(dict(names))), JSONB)
    return func.coalesce(words[code].astext, _inert(code))


def _inert(text: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((text.regexp_match(_FORMULA), literal("'").concat(text)), else_=text)


def _exact(micros: ColumnElement[int]) -> ColumnElement[Any]:
    """Return an amount with all its six decimals."""
    return micros * cast(literal("0.000001"), Numeric)
