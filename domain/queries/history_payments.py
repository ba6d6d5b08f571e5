"""Payments that are under way, above the newest page of the history.

They are no entries: nothing was credited, so that they are in no count, no sum and no file. They
come with the page in one statement, and stand on top of it whatever their date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    SmallInteger,
    Text,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
)

from db.models import Payment
from domain.queries.history_rows import HistoryFilter, HistoryStatus, OpenPayment
from domain.queries.history_streams import holds_text
from domain.queries.payments import STATES_OF, PaymentStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Row, Select

PAYMENT_RANK = 0
"""Tells the payments of a page from its rows; those have higher ranks."""
TOP_UP = "top_up"
_MOST = 20
_REFERENCE = "reference"


def open_payments(account_id: int, wanted: HistoryFilter) -> Select[Any] | None:
    """Return the statement that finds those that pass the filter; None where none can.

    Its columns are those of the rows of a page.
    """
    is_processing = not wanted.statuses or HistoryStatus.PROCESSING in wanted.statuses
    if not is_processing or (wanted.kinds and TOP_UP not in wanted.kinds):
        return None
    found = (
        select(
            Payment.created_at.label("occurred_at"),
            cast(literal(PAYMENT_RANK), SmallInteger).label("rank"),
            Payment.id.label("number"),
            cast(literal(TOP_UP), Text).label("kind"),
            Payment.gateway.label("service"),
            Payment.gateway.label("source"),
            Payment.state.label("description_code"),
            func.jsonb_build_object(_REFERENCE, Payment.reference).label("description_parameters"),
            Payment.credit_micros.label("amount_micros"),
            cast(null(), Text).label("reason"),
            cast(null(), BigInteger).label("balance_after_micros"),
        )
        .where(Payment.account_id == account_id, *_conditions(wanted))
        .order_by(Payment.created_at.desc(), Payment.id.desc())
        .limit(_MOST)
        .subquery("under_way")
    )
    statement = select(found)
    return statement.where(holds_text(found, wanted.sought)) if wanted.sought else statement


def _conditions(wanted: HistoryFilter) -> Iterable[ColumnElement[bool]]:
    yield Payment.state.in_(STATES_OF[PaymentStatus.PENDING])
    if wanted.services:
        yield Payment.gateway.in_(sorted(wanted.services))
    if wanted.occurred_from is not None:
        yield Payment.created_at >= wanted.occurred_from
    if wanted.occurred_before is not None:
        yield Payment.created_at < wanted.occurred_before


def before_rows(payments: Select[Any], rows: Select[Any], *, has_edge: bool) -> Select[Any]:
    """Return the statement of both for the newest page: payments, then rows in their order."""
    named, on_page = payments.subquery("payments_under_way"), rows.subquery("on_page")
    edge = [literal(value=False).label("is_edge")] if has_edge else []
    both = union_all(select(*named.c, *edge), select(on_page)).subquery("page_and_payments")
    order = [(both.c.rank != PAYMENT_RANK), *([both.c.is_edge] if has_edge else [])]
    newest_first = (both.c.occurred_at.desc(), both.c.rank.desc(), both.c.number.desc())
    return select(both).order_by(*order, *newest_first)


def payment_of(row: Row[Any]) -> OpenPayment:
    """Return what a row of `open_payments` says."""
    return OpenPayment(
        reference=row.description_parameters[_REFERENCE],
        created_at=row.occurred_at,
        gateway=row.service,
        state=row.description_code,
        amount_micros=row.amount_micros,
    )
