"""Credit History: posted, declined and held amounts, newest first, in pages of constant cost.

A page is one query over entries (Success), refusals (Failed), and open holds and payments under way
(Processing), in the order of their dates. Text has no index: it is searched in the newest
`SEARCH_WINDOW` rows that pass the other filters, and where that window ends, the next page goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from domain.history.cursors import HistoryCursor
from domain.history.rows import CappedCount, HistoryFilter, HistoryPage, HistoryRow
from domain.history.streams import (
    PAYMENT_RANK,
    PAYMENT_REFERENCE,
    STATUS_OF_RANK,
    Span,
    choose_streams,
    count_rows,
    merge_rows,
    search_rows,
)
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.orm import Session

    from domain.actors import Actor

PAGE_SIZE = 50
COUNT_CAP = 10_000
SEARCH_WINDOW = 2_500

_EMPTY = HistoryPage(rows=(), newer=None, older=None)


def history_page(
    session: Session,
    *,
    actor: Actor,
    account_id: int,
    filters: HistoryFilter,
    older_than: HistoryCursor | None = None,
    newer_than: HistoryCursor | None = None,
    page_size: int = PAGE_SIZE,
) -> HistoryPage:
    """Return the newest rows that the filter wants, or those next to a cursor.

    Raises NotFound where the actor may not read the account.
    """
    require(actor, "see_account", account_id)
    is_backwards = newer_than is not None and older_than is None
    cursor = newer_than if is_backwards else older_than
    span = Span(cursor, is_backwards, page_size + 1)
    statement = _rows_of(account_id, filters, span)
    if statement is None:
        return _EMPTY
    found = session.execute(statement).all()
    edges = [row for row in found if filters.search_text and row.is_edge]
    rows = found[: len(found) - len(edges)]
    page = _page(rows, edges, span)
    if is_backwards and page.newer is None:
        # The newest page has been reached, perhaps short: show it whole.
        return history_page(
            session, actor=actor, account_id=account_id, filters=filters, page_size=page_size
        )
    return page


# A page is drawn repeatedly, and building its statement takes longer than running it.
@lru_cache(maxsize=128)
def _rows_of(account_id: int, filters: HistoryFilter, span: Span) -> Select[Any] | None:
    """Return the statement that selects the rows of a page, or None where there can be none."""
    streams = choose_streams(account_id, filters)
    if not streams:
        return None
    if filters.search_text:
        return search_rows(streams, span, SEARCH_WINDOW, filters.search_text)
    return merge_rows(streams, span)


@dataclass(frozen=True, slots=True)
class HistoryView:
    """A page, and how many rows there are over all pages (None where that is not counted)."""

    page: HistoryPage
    count: CappedCount | None


def history_view(
    session: Session,
    *,
    actor: Actor,
    account_id: int,
    filters: HistoryFilter,
    older_than: HistoryCursor | None = None,
    newer_than: HistoryCursor | None = None,
    is_counted: bool = True,
) -> HistoryView:
    """Return a page and its row count; raise as `history_page` does.

    A caller that already knows that there are more rows than are counted can skip the count: facts
    are never removed.
    """
    page = history_page(
        session,
        actor=actor,
        account_id=account_id,
        filters=filters,
        older_than=older_than,
        newer_than=newer_than,
    )
    if not is_counted:
        return HistoryView(page, CappedCount(COUNT_CAP, is_capped=True))
    count = history_count(session, actor=actor, account_id=account_id, filters=filters)
    return HistoryView(page, count)


def history_count(
    session: Session, *, actor: Actor, account_id: int, filters: HistoryFilter
) -> CappedCount | None:
    """Return how many rows the filter wants, up to `COUNT_CAP`; None where it has a text.

    Raises NotFound where the actor may not read the account.
    """
    require(actor, "see_account", account_id)
    if filters.search_text:
        return None
    streams = choose_streams(account_id, filters)
    if not streams:
        return CappedCount(0, is_capped=False)
    count = session.execute(count_rows(streams, COUNT_CAP)).scalar_one()
    return CappedCount(min(count, COUNT_CAP), is_capped=count > COUNT_CAP)


def _page(rows: Sequence[Row[Any]], edges: Sequence[Row[Any]], span: Span) -> HistoryPage:
    shown = list(rows[: span.limit - 1])
    beyond = None
    searched_to = None
    if len(rows) == span.limit:
        beyond = _cursor(shown[-1])
    elif edges:
        beyond = _cursor(edges[0])
        searched_to = beyond.occurred_at
    behind = _cursor(shown[0]) if shown and span.cursor is not None else None
    if span.is_backwards:
        shown.reverse()
    newer, older = (beyond, behind) if span.is_backwards else (behind, beyond)
    return HistoryPage(tuple(_history_row(row) for row in shown), newer, older, searched_to)


def _cursor(row: Row[Any]) -> HistoryCursor:
    return HistoryCursor(row.occurred_at, row.rank, row.number)


def _history_row(row: Row[Any]) -> HistoryRow:
    is_payment = row.rank == PAYMENT_RANK
    return HistoryRow(
        status=STATUS_OF_RANK[row.rank],
        number=row.number,
        occurred_at=row.occurred_at,
        kind=row.kind,
        service=row.service,
        source=row.source,
        description_code=row.description_code,
        description_parameters=row.description_parameters,
        amount_micros=row.amount_micros,
        reason=row.reason,
        payment_reference=row.description_parameters[PAYMENT_REFERENCE] if is_payment else None,
    )
