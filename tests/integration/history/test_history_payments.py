"""Payments under way stand among the rows of the history, on its pages and in its files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, func, select
from sqlalchemy import update as sql_update

from db.models import Entry, Payment
from domain.actors import MemberRole, user_actor
from domain.errors import NotFound
from domain.history.details import entry_detail
from domain.history.export_rows import StatusTotal, history_lines, history_totals
from domain.history.pages import history_page, history_view
from domain.history.rows import HistoryFilter, HistoryStatus
from domain.payments.gateway_updates import apply_updates
from tests.factories import SYSTEM, grant, make_account
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.support.owner import as_owner

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.history.rows import HistoryPage
    from domain.payments import StartedPayment

ALL = HistoryFilter()
NOW = datetime.now(UTC)
CREDIT = dong(500_000)
PROCESSING = frozenset({HistoryStatus.PROCESSING})


class Paying:
    """An account with three grants and two payments under way, the second the newer."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.account, self.owner = payer(session)
        for _ in range(3):
            grant(session, self.account, 1_000_000)
        self.first, self.second = self.begin(), self.begin()
        session.flush()

    def begin(self) -> StartedPayment:
        return begin(self.session, ScriptedGateway(), self.account, self.owner, CREDIT)

    def shown(self, filters: HistoryFilter = ALL) -> list[str]:
        page = history_page(
            self.session, actor=self.owner, account_id=self.account, filters=filters
        )
        return [row.payment_reference for row in page.rows if row.payment_reference is not None]

    def credit(self, payment: StartedPayment) -> None:
        update = paid(payment.reference, CREDIT)
        apply_updates(self.session, gateway=ScriptedGateway(), updates=(update,), actor=GATEWAYS)


@pytest.fixture
def paying(session: Session) -> Paying:
    return Paying(session)


def test_payments_under_way_stand_in_the_order_of_dates(paying: Paying) -> None:
    chosen = Payment.reference == paying.first.reference
    started = datetime.now(UTC) - timedelta(days=2)
    with as_owner(paying.session):
        paying.session.execute(sql_update(Payment).where(chosen).values(created_at=started))
    page = history_page(paying.session, actor=paying.owner, account_id=paying.account, filters=ALL)
    moments = [row.occurred_at for row in page.rows]
    assert moments == sorted(moments, reverse=True)
    assert [row.payment_reference for row in page.rows] == [
        paying.second.reference,
        None,
        None,
        None,
        paying.first.reference,
    ]
    newest = page.rows[0]
    assert newest.status is HistoryStatus.PROCESSING
    assert (newest.kind, newest.service, newest.description_code) == ("top_up", "vnpay", "created")
    assert newest.amount_micros == CREDIT.micros
    with pytest.raises(ValueError, match="reference"):
        _ = newest.reference


@pytest.mark.parametrize(
    ("filters", "is_shown"),
    [
        (HistoryFilter(statuses=PROCESSING), True),
        (HistoryFilter(statuses=frozenset({HistoryStatus.SUCCESS})), False),
        (HistoryFilter(kinds=frozenset({"top_up", "charge"})), True),
        (HistoryFilter(kinds=frozenset({"top_up"}), statuses=PROCESSING), True),
        (HistoryFilter(kinds=frozenset({"charge"})), False),
        (HistoryFilter(services=frozenset({"vnpay"})), True),
        (HistoryFilter(services=frozenset({"paypal", "gpu-vm"})), False),
        (HistoryFilter(occurred_from=NOW - timedelta(days=1)), True),
        (HistoryFilter(occurred_from=NOW + timedelta(days=1)), False),
        (HistoryFilter(occurred_before=NOW + timedelta(days=1)), True),
        (HistoryFilter(occurred_before=NOW - timedelta(days=1)), False),
        (HistoryFilter(text="vnpa"), True),
        (HistoryFilter(text="nothing such"), False),
        (HistoryFilter(text="VNPAY", kinds=frozenset({"top_up"}), statuses=PROCESSING), True),
    ],
)
def test_every_filter_is_asked(paying: Paying, filters: HistoryFilter, is_shown: bool) -> None:  # noqa: FBT001
    assert len(paying.shown(filters)) == (2 if is_shown else 0)


def test_a_payment_is_found_by_its_reference(paying: Paying) -> None:
    assert paying.shown(HistoryFilter(text=paying.first.reference.lower())) == [
        paying.first.reference
    ]


@pytest.mark.parametrize("page_size", [1, 2, 3])
@pytest.mark.parametrize("filters", [ALL, HistoryFilter(text="a")])
def test_pages_go_through_rows_and_payments_both_ways(
    paying: Paying, filters: HistoryFilter, page_size: int
) -> None:
    chosen = Payment.reference == paying.first.reference
    between = select(func.min(Entry.occurred_at)).where(Entry.account_id == paying.account)
    started = paying.session.scalars(between).one() + timedelta(microseconds=1)
    with as_owner(paying.session):
        paying.session.execute(sql_update(Payment).where(chosen).values(created_at=started))

    def page(**place: object) -> HistoryPage:
        return history_page(
            paying.session,
            actor=paying.owner,
            account_id=paying.account,
            filters=filters,
            page_size=page_size,
            **place,  # type: ignore[arg-type]
        )

    forth = [page()]
    while forth[-1].older is not None:
        forth.append(page(older_than=forth[-1].older))
    shown = [(row.status, row.number) for each in forth for row in each.rows]
    assert len(shown) == len(set(shown)) == 5
    back = [forth[-1]]
    while back[-1].newer is not None:
        back.append(page(newer_than=back[-1].newer))
    assert {(row.status, row.number) for each in back for row in each.rows} == set(shown)


def test_counts_sums_and_files_have_them(paying: Paying) -> None:
    session, who = paying.session, {"actor": paying.owner, "account_id": paying.account}
    view = history_view(session, filters=ALL, **who)  # type: ignore[arg-type]
    assert view.count is not None
    assert view.count.count == 5
    totals = history_totals(session, filters=ALL, **who)  # type: ignore[arg-type]
    assert totals.by_status[HistoryStatus.PROCESSING].row_count == 0
    assert totals.payments == StatusTotal(2, 2 * CREDIT.micros)
    assert totals.row_count == 5
    files = history_lines(session, filters=ALL, zone="UTC", **who)  # type: ignore[arg-type]
    assert sum(len(lines) for lines in files) == 5


def test_what_is_credited_is_an_entry_that_names_its_payment(paying: Paying) -> None:
    paying.credit(paying.first)
    page = history_page(paying.session, actor=paying.owner, account_id=paying.account, filters=ALL)
    assert [row.payment_reference for row in page.rows] == [
        None,
        paying.second.reference,
        None,
        None,
        None,
    ]
    assert page.rows[0].number == 4

    def named(sequence: int) -> str | None:
        detail = entry_detail(
            paying.session, actor=paying.owner, account_id=paying.account, sequence=sequence
        )
        return detail.payment_reference

    assert named(4) == paying.first.reference
    assert named(3) is None


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired"])
def test_what_came_to_nothing_is_gone(paying: Paying, state: str) -> None:
    chosen = Payment.reference == paying.second.reference
    paying.session.execute(sql_update(Payment).where(chosen).values(state=state))
    assert paying.shown() == [paying.first.reference]


def test_what_is_under_review_is_under_way(paying: Paying) -> None:
    chosen = Payment.reference == paying.second.reference
    paying.session.execute(sql_update(Payment).where(chosen).values(state="under_review"))
    assert paying.second.reference in paying.shown()


def test_they_are_nobody_elses(paying: Paying) -> None:
    session = paying.session
    other = make_account(session)
    stranger: Actor = user_actor(9, memberships={other: MemberRole.OWNER})
    assert not history_page(session, actor=stranger, account_id=other, filters=ALL).rows
    with pytest.raises(NotFound):
        history_page(session, actor=stranger, account_id=paying.account, filters=ALL)


def test_a_page_is_one_statement_with_them_and_without(paying: Paying) -> None:
    statements: list[str] = []
    bind = paying.session.get_bind()
    without = make_account(paying.session)

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(bind, "before_cursor_execute", note)
    try:
        for account in (without, paying.account):
            statements.clear()
            history_page(paying.session, actor=SYSTEM, account_id=account, filters=ALL)
            assert len(statements) == 1
    finally:
        event.remove(bind, "before_cursor_execute", note)
