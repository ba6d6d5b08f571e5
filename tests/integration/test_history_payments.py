"""Payments under way stand above the history: on its newest page, and in no figure of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, update

from db.models import Payment
from domain.actors import MemberRole, user_actor
from domain.errors import NotFound
from domain.payments.facts import apply_facts
from domain.queries.details import entry_detail
from domain.queries.history import history_page, history_view
from domain.queries.history_export import history_lines, history_totals
from domain.queries.history_rows import HistoryFilter, HistoryStatus
from tests.factories import SYSTEM, grant, make_account
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor
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

    def shown(self, wanted: HistoryFilter = ALL) -> list[str]:
        page = history_page(self.session, actor=self.owner, account_id=self.account, wanted=wanted)
        return [payment.reference for payment in page.payments]

    def credit(self, payment: StartedPayment) -> None:
        fact = paid(payment.reference, CREDIT)
        apply_facts(self.session, gateway=ScriptedGateway(), facts=(fact,), actor=GATEWAYS)


@pytest.fixture
def paying(session: Session) -> Paying:
    return Paying(session)


def test_payments_under_way_come_first_with_what_will_be_credited(paying: Paying) -> None:
    page = history_page(paying.session, actor=paying.owner, account_id=paying.account, wanted=ALL)
    assert [payment.reference for payment in page.payments] == [
        paying.second.reference,
        paying.first.reference,
    ]
    assert {payment.amount_micros for payment in page.payments} == {CREDIT.micros}
    assert {(payment.gateway, payment.state) for payment in page.payments} == {("vnpay", "created")}
    assert [row.number for row in page.rows] == [3, 2, 1]


@pytest.mark.parametrize(
    ("wanted", "is_shown"),
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
def test_every_filter_is_asked(paying: Paying, wanted: HistoryFilter, is_shown: bool) -> None:  # noqa: FBT001
    assert len(paying.shown(wanted)) == (2 if is_shown else 0)


def test_a_payment_is_found_by_its_reference(paying: Paying) -> None:
    assert paying.shown(HistoryFilter(text=paying.first.reference.lower())) == [
        paying.first.reference
    ]


@pytest.mark.parametrize("wanted", [ALL, HistoryFilter(text="ank")])
def test_pages_go_on_as_if_there_were_no_payments(paying: Paying, wanted: HistoryFilter) -> None:
    def page(**place: object) -> tuple[list[int], int, object, object]:
        found = history_page(
            paying.session,
            actor=paying.owner,
            account_id=paying.account,
            wanted=wanted,
            page_size=2,
            **place,  # type: ignore[arg-type]
        )
        return [row.number for row in found.rows], len(found.payments), found.newer, found.older

    payments = 0 if wanted.text else 2
    rows, shown, newer, older = page()
    assert (rows, shown, newer) == ([3, 2], payments, None)
    rows, shown, newer, beyond = page(older_than=older)
    assert (rows, shown, beyond) == ([1], 0, None)
    rows, shown, _newer, _older = page(newer_than=newer)
    assert (rows, shown) == ([3, 2], payments)


def test_no_figure_and_no_file_has_them(paying: Paying) -> None:
    session, who = paying.session, {"actor": paying.owner, "account_id": paying.account}
    view = history_view(session, wanted=ALL, **who)  # type: ignore[arg-type]
    assert view.count is not None
    assert view.count.count == 3
    totals = history_totals(session, wanted=ALL, **who)  # type: ignore[arg-type]
    assert totals[HistoryStatus.PROCESSING].row_count == 0
    assert sum(total.row_count for total in totals.values()) == 3
    files = history_lines(session, wanted=ALL, zone="UTC", **who)  # type: ignore[arg-type]
    assert sum(len(lines) for lines in files) == 3


def test_what_is_credited_is_an_entry_that_names_its_payment(paying: Paying) -> None:
    paying.credit(paying.first)
    page = history_page(paying.session, actor=paying.owner, account_id=paying.account, wanted=ALL)
    assert [payment.reference for payment in page.payments] == [paying.second.reference]
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
    paying.session.execute(update(Payment).where(chosen).values(state=state))
    assert paying.shown() == [paying.first.reference]


def test_what_is_under_review_is_under_way(paying: Paying) -> None:
    chosen = Payment.reference == paying.second.reference
    paying.session.execute(update(Payment).where(chosen).values(state="under_review"))
    assert paying.second.reference in paying.shown()


def test_they_are_nobody_elses(paying: Paying) -> None:
    session = paying.session
    other = make_account(session)
    stranger: Actor = user_actor(9, memberships={other: MemberRole.OWNER})
    assert not history_page(session, actor=stranger, account_id=other, wanted=ALL).payments
    with pytest.raises(NotFound):
        history_page(session, actor=stranger, account_id=paying.account, wanted=ALL)


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
            history_page(paying.session, actor=SYSTEM, account_id=account, wanted=ALL)
            assert len(statements) == 1
    finally:
        event.remove(bind, "before_cursor_execute", note)
