"""The SQL of the credit history: each filter as streams of rows that an index yields in order.

- no service and no kind: one stream on (account, time);
- charges: one stream a service, on the partial index that holds charges only;
- every other kind: one stream a kind, or a kind and service, on partial indexes without charges;
- refusals: one stream an operation, or an operation and service;
- payments under way: one stream on (account, time).

A page is then merged from the first rows of each stream, whatever the size of the account.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    SmallInteger,
    Text,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONPATH

from db.models import Entry, Hold, OpenHold, Payment, Refusal, Service
from db.models.ledger import ENTRY_KINDS
from domain.history.rows import CHARGE, HOLD, HistoryFilter, HistoryStatus
from domain.payments.queries import STATES_OF, PaymentStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, FromClause, Select
    from sqlalchemy.orm import QueryableAttribute

    from domain.history.cursors import HistoryCursor

_PROCESSING = HistoryStatus.PROCESSING
RANKS = {HistoryStatus.SUCCESS: 1, HistoryStatus.FAILED: 2, HistoryStatus.PROCESSING: 3}
"""The order of rows of one instant that come from different tables."""
PAYMENT_RANK = 4
"""The rank of payments under way: they are processing as holds are, and in a table of their own."""
STATUS_OF_RANK = {**{rank: status for status, rank in RANKS.items()}, PAYMENT_RANK: _PROCESSING}
PAYMENT_REFERENCE = "reference"
"""The parameter of a payment's row that names the payment."""
TOP_UP = "top_up"
_SHOWN_SERVICE = func.shown_service(Entry.kind, Entry.service, Entry.source, type_=Text)
"""An entry's own service, else the gateway that moved the money, else "system"."""
_OTHER_KINDS = tuple(kind for kind in ENTRY_KINDS if kind != CHARGE)
_SHOWN = (
    "kind",
    "service",
    "source",
    "description_code",
    "description_parameters",
    "amount_micros",
    "reason",
    "balance_after_micros",
)


class _Table(NamedTuple):
    """One of the tables of the history, and how its rows read there."""

    rank: int
    time: ColumnElement[datetime]
    number: ColumnElement[int]
    columns: tuple[ColumnElement[Any], ...]


class _Key(NamedTuple):
    """A column before the time in an index, and the values to scan (or all)."""

    column: ColumnElement[Any]
    values: tuple[str, ...] | None


class Stream(NamedTuple):
    """Rows of a table that pass conditions, in order for each combination of its keys."""

    table: _Table
    conditions: tuple[ColumnElement[bool], ...]
    keys: tuple[_Key, ...] = ()


class Span(NamedTuple):
    """The start of a page, its direction, and the number of rows it may read."""

    cursor: HistoryCursor | None
    is_backwards: bool
    limit: int


def _table(
    rank_number: int,
    time: QueryableAttribute[datetime],
    number: QueryableAttribute[int],
    *shown: ColumnElement[Any] | QueryableAttribute[Any],
) -> _Table:
    """Describe a table; its displayed columns are in the order of `_SHOWN`."""
    rank = cast(literal(rank_number), SmallInteger).label("rank")
    named = (column.label(name) for column, name in zip(shown, _SHOWN, strict=True))
    columns: tuple[ColumnElement[Any], ...] = (
        time.label("occurred_at"),
        rank,
        number.label("number"),
        *named,
    )
    return _Table(rank_number, time.expression, number.expression, columns)


_ENTRIES = _table(
    RANKS[HistoryStatus.SUCCESS],
    Entry.occurred_at,
    Entry.account_sequence,
    Entry.kind,
    _SHOWN_SERVICE,
    Entry.source,
    Entry.description_code,
    Entry.description_parameters,
    Entry.amount_micros,
    cast(null(), Text),
    Entry.balance_after_micros,
)
_REFUSALS = _table(
    RANKS[HistoryStatus.FAILED],
    Refusal.occurred_at,
    Refusal.refusal_number,
    Refusal.operation,
    Refusal.service,
    Refusal.source,
    Refusal.description_code,
    Refusal.description_parameters,
    -Refusal.amount_micros,
    Refusal.reason,
    cast(null(), BigInteger),
)
_HOLDS = _table(
    RANKS[HistoryStatus.PROCESSING],
    Hold.placed_at,
    Hold.hold_number,
    cast(literal(HOLD), Text),
    Hold.service,
    Hold.source,
    Hold.description_code,
    Hold.description_parameters,
    -Hold.amount_micros,
    cast(null(), Text),
    cast(null(), BigInteger),
)

# Credited once its money has been received: it is in no balance yet.
_PAYMENTS = _table(
    PAYMENT_RANK,
    Payment.created_at,
    Payment.id,
    cast(literal(TOP_UP), Text),
    Payment.gateway,
    Payment.gateway,
    Payment.state,
    func.jsonb_build_object(PAYMENT_REFERENCE, Payment.reference),
    Payment.credit_micros,
    cast(null(), Text),
    cast(null(), BigInteger),
)


def choose_streams(account_id: int, filters: HistoryFilter) -> list[Stream]:
    """Return the streams whose rows, together, are those that the filter wants (but its text)."""
    makers = (
        (HistoryStatus.SUCCESS, _entry_streams),
        (HistoryStatus.FAILED, _refusal_streams),
        (HistoryStatus.PROCESSING, _hold_streams),
        (HistoryStatus.PROCESSING, _payment_streams),
    )
    return [
        stream._replace(conditions=(*stream.conditions, *_dates(stream.table, filters)))
        for status, make in makers
        if not filters.statuses or status in filters.statuses
        for stream in make(account_id, filters)
    ]


def _dates(table: _Table, filters: HistoryFilter) -> Iterable[ColumnElement[bool]]:
    if filters.occurred_from is not None:
        yield table.time >= filters.occurred_from
    if filters.occurred_before is not None:
        yield table.time < filters.occurred_before


def _entry_streams(account_id: int, filters: HistoryFilter) -> Iterable[Stream]:
    mine = Entry.account_id == account_id
    if not filters.services and not filters.kinds:
        yield Stream(_ENTRIES, (mine,))
        return
    if not filters.kinds or CHARGE in filters.kinds:
        services = _Key(Entry.service.expression, _sorted(filters.services) or None)
        yield Stream(_ENTRIES, (mine, Entry.kind == CHARGE), (services,))
    kinds = tuple(kind for kind in _OTHER_KINDS if not filters.kinds or kind in filters.kinds)
    if kinds:
        keys = [_Key(Entry.kind.expression, kinds)]
        if filters.services:
            keys.append(_Key(_SHOWN_SERVICE, _sorted(filters.services)))
        yield Stream(_ENTRIES, (mine, Entry.kind != CHARGE), tuple(keys))


def _refusal_streams(account_id: int, filters: HistoryFilter) -> Iterable[Stream]:
    operations = tuple(
        operation for operation in (CHARGE, HOLD) if not filters.kinds or operation in filters.kinds
    )
    if operations:
        keys = [_Key(Refusal.operation.expression, operations)]
        if filters.services:
            keys.append(_Key(Refusal.service.expression, _sorted(filters.services)))
        yield Stream(_REFUSALS, (Refusal.account_id == account_id,), tuple(keys))


def _hold_streams(account_id: int, filters: HistoryFilter) -> Iterable[Stream]:
    if filters.kinds and HOLD not in filters.kinds:
        return
    conditions = [
        OpenHold.account_id == account_id,
        Hold.account_id == OpenHold.account_id,
        Hold.hold_number == OpenHold.hold_number,
    ]
    if filters.services:
        conditions.append(Hold.service.in_(_sorted(filters.services)))
    yield Stream(_HOLDS, tuple(conditions))


def _payment_streams(account_id: int, filters: HistoryFilter) -> Iterable[Stream]:
    if filters.kinds and TOP_UP not in filters.kinds:
        return
    conditions = [
        Payment.account_id == account_id,
        Payment.state.in_(STATES_OF[PaymentStatus.PENDING]),
    ]
    if filters.services:
        conditions.append(Payment.gateway.in_(_sorted(filters.services)))
    yield Stream(_PAYMENTS, tuple(conditions))


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(values))


def merge_rows(streams: Iterable[Stream], span: Span) -> Select[Any]:
    """Return the first rows of all streams from the span's place on, in its direction."""
    parts = [_first_rows(stream, span, span.limit) for stream in streams]
    merged = union_all(*parts).subquery("merged")
    return select(merged).order_by(*_order(merged, span)).limit(span.limit)


def search_rows(
    streams: Iterable[Stream], span: Span, window: int, search_text: str
) -> Select[Any]:
    """Return rows that hold a text, among the first `window` rows of the streams.

    The window's last row is returned too, after the others and marked `is_edge`, where there may be
    more rows behind it.
    """
    searched = merge_rows(streams, span._replace(limit=window)).cte("searched")
    order = _order(searched, span)
    found = (
        select(searched, literal(value=False).label("is_edge"))
        .where(holds_text(searched, search_text))
        .order_by(*order)
        .limit(span.limit)
    )
    edge = (
        select(searched, literal(value=True).label("is_edge"))
        .order_by(*order)
        .offset(window - 1)
        .limit(1)
    )
    both = union_all(found, edge).subquery("both")
    return select(both).order_by(both.c.is_edge, *_order(both, span))


def every_row(streams: Iterable[Stream], search_text: str) -> Select[Any]:
    """Return all rows of the streams that hold the text (if any), in the order of the pages."""
    span = Span(None, is_backwards=False, limit=0)
    parts = [_first_rows(stream, span, limit=None) for stream in streams]
    merged = union_all(*parts).subquery("merged")
    statement = select(merged).order_by(*_order(merged, span))
    return statement.where(holds_text(merged, search_text)) if search_text else statement


def sum_rows(streams: Iterable[Stream], search_text: str) -> Select[Any]:
    """Return for each rank the number of rows and the sum of their amounts."""
    parts = [_any_rows(stream, None, stream.table.columns) for stream in streams]
    summed = union_all(*parts).subquery("every")
    statement = select(
        summed.c.rank, func.count().label("rows"), func.sum(summed.c.amount_micros).label("micros")
    ).group_by(summed.c.rank)
    return statement.where(holds_text(summed, search_text)) if search_text else statement


def count_rows(streams: Iterable[Stream], cap: int) -> Select[int]:
    """Return the count of all streams' rows, at most one more than the cap."""
    one = (literal(1).label("one"),)
    parts = [_any_rows(stream, cap + 1, one) for stream in streams]
    counted = union_all(*parts).subquery("every")
    capped = select(literal(1)).select_from(counted).limit(cap + 1).subquery("counted")
    return select(func.count()).select_from(capped)


def _first_rows(stream: Stream, span: Span, limit: int | None) -> Select[Any]:
    table = stream.table
    order = (
        (table.time, table.number)
        if span.is_backwards
        else (
            table.time.desc(),
            table.number.desc(),
        )
    )
    rows = (
        select(*table.columns)
        .where(*stream.conditions, *_beyond(table, span))
        .order_by(*order)
        .limit(limit)
    )
    return _for_each_key(rows, stream.keys)


def _any_rows(
    stream: Stream, limit: int | None, columns: Iterable[ColumnElement[Any]]
) -> Select[Any]:
    rows = select(*columns).where(*stream.conditions).limit(limit)
    return _for_each_key(rows, stream.keys)


def _for_each_key(rows: Select[Any], keys: tuple[_Key, ...]) -> Select[Any]:
    """Take the rows once for each combination of the keys' values."""
    if not keys:
        return rows
    listed = [_values(key) for key in keys]
    same = [key.column == values.c.value for key, values in zip(keys, listed, strict=True)]
    each = rows.where(*same).lateral()
    source = listed[0]
    for values in (*listed[1:], each):
        source = source.join(values, true())
    return select(each).select_from(source)


def _values(key: _Key) -> FromClause:
    if key.values is None:
        return select(Service.slug.label("value")).subquery()
    listed = func.unnest(cast(list(key.values), ARRAY(Text)))
    return listed.table_valued("value").render_derived()


def _beyond(table: _Table, span: Span) -> Iterable[ColumnElement[bool]]:
    """Yield the condition of a row beyond the cursor, in a form that the index can seek."""
    cursor = span.cursor
    if cursor is None:
        return
    here = tuple_(table.time, table.number)
    there = tuple_(literal(cursor.occurred_at), literal(cursor.number))
    if table.rank == cursor.rank:
        yield here > there if span.is_backwards else here < there
    elif (table.rank > cursor.rank) == span.is_backwards:
        yield (
            table.time >= cursor.occurred_at
            if span.is_backwards
            else (table.time <= cursor.occurred_at)
        )
    else:
        yield (
            table.time > cursor.occurred_at
            if span.is_backwards
            else (table.time < cursor.occurred_at)
        )


def _order(rows: FromClause, span: Span) -> list[ColumnElement[Any]]:
    columns = (rows.c.occurred_at, rows.c.rank, rows.c.number)
    return [column if span.is_backwards else column.desc() for column in columns]


def holds_text(rows: FromClause, search_text: str) -> ColumnElement[bool]:
    """Return whether service, source or a value of the description holds it, whatever the case."""
    escaped = search_text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    pattern = f"%{escaped}%"
    path = f'$.* ? (@ like_regex {json.dumps(search_text)} flag "iq")'
    return or_(
        rows.c.source.ilike(pattern, escape="\\"),
        rows.c.service.ilike(pattern, escape="\\"),
        func.jsonb_path_exists(rows.c.description_parameters, cast(literal(path), JSONPATH)),
    )
