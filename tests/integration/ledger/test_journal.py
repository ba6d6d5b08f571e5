"""The journal: every row of the table of legs, exactly, and the worked example."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from domain import ledger
from domain.errors import IdempotencyMismatch, InvalidInput, NotFound
from domain.ledger import chart_of_accounts as chart
from domain.ledger.journal import JournalLine, post_journal_entry
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock

Legs = dict[str, float]
"""Debits (positive) and credits (negative) by account, in currency units; small and exact."""


def legs(session: Session, account_id: int, *, after: int = 0, currency: str = "") -> Legs:
    rows = session.execute(
        text(
            "SELECT ledger_code, currency, sum(amount_micros)::bigint FROM journal"
            " WHERE account_id = :id AND account_sequence > :after GROUP BY 1, 2"
        ),
        {"id": account_id, "after": after},
    )
    return {
        code: amount / UNIT
        for code, in_currency, amount in rows
        if amount and currency in {"", in_currency}
    }


def last(session: Session, account_id: int) -> int:
    row = session.execute(
        text("SELECT last_entry_sequence FROM account_balances WHERE account_id = :id"),
        {"id": account_id},
    )
    return int(row.scalar_one())


def unbalanced(session: Session) -> list[Any]:
    return list(
        session.execute(
            text(
                "SELECT account_id, account_sequence, posting_id, currency, sum(amount_micros)"
                " FROM journal GROUP BY 1, 2, 3, 4 HAVING sum(amount_micros) <> 0"
            )
        )
    )


def claw_back(session: Session, account_id: int, kind: str, number: int, amount: int) -> int:
    return ledger.claw_back_credit(
        session,
        account_id=account_id,
        kind=kind,
        grant_numbers=[number],
        amount_micros=amount * UNIT,
        source="stripe",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )


def reverse(session: Session, account_id: int, sequence: int | None, amount: int = 0) -> int:
    assert sequence is not None
    return ledger.reverse_entry(
        session,
        account_id=account_id,
        entry_sequence=sequence,
        amount_micros=amount * UNIT or None,
        reason="mistake",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )


def record_liability(
    session: Session, account_id: int, amount: int, clock: TestClock
) -> int | None:
    return charge(
        session, account_id, amount, occurred_at=clock.instant, refusable=False
    ).entry_sequence


def post(
    session: Session, clock: TestClock, kind: str, account_id: int | None, **amounts: int
) -> int:
    return post_journal_entry(
        session,
        site_code="jp",
        account_id=account_id,
        kind=kind,
        reference="po_1",
        lines=[
            JournalLine(name.removeprefix("a").replace("_", "."), amount * UNIT, "JPY")
            for name, amount in amounts.items()
        ],
        occurred_at=clock.instant,
        actor=SYSTEM,
        idempotency_key=next_key(),
    )


@pytest.fixture
def jp(session: Session, clock: TestClock) -> int:
    """An account at a site that taxes use, at 10 %."""
    session.info["clock"] = clock
    return make_account(session, site="jp", currency="JPY")


@pytest.fixture
def vn(session: Session, clock: TestClock) -> int:
    """An account at a site that taxes payments, at 10 %."""
    session.info["clock"] = clock
    return make_account(session, site="vn", currency="VND")


def test_the_worked_example(session: Session, clock: TestClock, jp: int) -> None:
    top_up = grant(session, jp, 11_000, source="stripe")
    assert legs(session, jp) == {"1110.stripe": 11_000, "2100": -11_000}

    grant(session, jp, 2_200, kind="voucher")
    assert legs(session, jp, after=1) == {}

    charge(session, jp, 5_500, occurred_at=clock.instant)
    by_grant: dict[str, Legs] = defaultdict(dict)
    for kind, code, amount in session.execute(
        text(
            "SELECT grant_kind, ledger_code, amount_micros FROM journal WHERE account_sequence = 3"
        )
    ):
        by_grant[kind][code] = amount / UNIT
    assert by_grant == {
        "voucher": {"4900": 2_000, "4100.ai-inference": -2_000},
        "top_up": {"2100": 3_300, "4100.ai-inference": -3_000, "2400": -300},
    }

    post(session, clock, "payout", None, a1010=10_604, a6100=396, a1110_stripe=-11_000)
    post(session, clock, "dispute_opened", jp, a1120=11_000, a1110_stripe=-11_000)
    post(session, clock, "dispute_fee", jp, a6110=1_500, a1110_stripe=-1_500)
    claw_back(session, jp, "dispute", top_up, 11_000)
    assert legs(session, jp, after=3) == {"2100": 7_700, "1300": 3_300, "1120": -11_000}

    trial = {
        code: amount / UNIT
        for code, amount in session.execute(
            text("SELECT ledger_code, sum(amount_micros)::bigint FROM journal GROUP BY 1")
        )
        if amount
    }
    assert trial == {
        "1010": 10_604,
        "1300": 3_300,
        "6100": 396,
        "6110": 1_500,
        "4900": 2_000,
        "1110.stripe": -12_500,
        "4100.ai-inference": -5_000,
        "2400": -300,
    }
    assert sum(amount for amount in trial.values() if amount > 0) == 17_800
    assert unbalanced(session) == []


def test_top_up_by_bank_is_taxed_where_payments_are(session: Session, vn: int) -> None:
    grant(session, vn, 110)
    assert legs(session, vn) == {"1010": 110, "2100": -100, "2400": -10}


def test_top_up_by_gateway_is_not_taxed_where_use_is(session: Session, jp: int) -> None:
    grant(session, jp, 110, source="paypal")
    assert legs(session, jp) == {"1110.paypal": 110, "2100": -110}


def test_top_up_that_settles_debt_where_payments_are_taxed(
    session: Session, clock: TestClock, vn: int
) -> None:
    record_liability(session, vn, 110, clock)
    assert legs(session, vn) == {"1300": 110, "4100.ai-inference": -100, "2400": -10}
    grant(session, vn, 220, source="vnpay")
    assert legs(session, vn, after=2) == {"2100": 100, "2400": 10, "1300": -110}


def test_top_up_that_settles_debt_where_use_is_taxed(
    session: Session, clock: TestClock, jp: int
) -> None:
    record_liability(session, jp, 110, clock)
    assert legs(session, jp) == {"1300": 110, "4100.ai-inference": -100, "2400": -10}
    grant(session, jp, 220)
    assert legs(session, jp, after=2) == {"2100": 110, "1300": -110}


@pytest.mark.parametrize("kind", ["voucher", "adjustment"])
def test_free_credit_comes_lapses_and_goes_without_a_leg(
    session: Session, clock: TestClock, jp: int, kind: str
) -> None:
    grant(session, jp, 110, kind=kind)
    reverse(session, jp, 1, 10)
    grant(session, jp, 50, kind=kind, expires_at=clock.instant + timedelta(hours=1))
    clock.advance(hours=3)
    assert ledger.expire_grants(session, actor=SYSTEM) == 1
    assert last(session, jp) == 4
    assert legs(session, jp) == {}


def test_charge_on_paid_credit(session: Session, clock: TestClock, jp: int, vn: int) -> None:
    for account in (jp, vn):
        grant(session, account, 220)
        charge(session, account, 110, occurred_at=clock.instant, service="gpu-vm")
    assert legs(session, jp, after=1) == {"2100": 110, "4100.gpu-vm": -100, "2400": -10}
    assert legs(session, vn, after=1) == {"2100": 100, "4100.gpu-vm": -100}


@pytest.mark.parametrize("site", ["jp", "vn"])
def test_charge_on_free_credit_nets_to_nothing(
    session: Session, clock: TestClock, site: str, request: pytest.FixtureRequest
) -> None:
    account: int = request.getfixturevalue(site)
    grant(session, account, 220, kind="voucher")
    charge(session, account, 110, occurred_at=clock.instant)
    assert legs(session, account) == {"4900": 100, "4100.ai-inference": -100}


def test_charge_on_a_plan_is_worth_what_was_paid_for_it(
    session: Session, clock: TestClock, jp: int, vn: int
) -> None:
    for account in (jp, vn):
        terms: dict[str, Any] = {"consideration_micros": 88 * UNIT, "source": "stripe"}
        grant(session, account, 100, kind="plan", **terms)
        charge(session, account, 50, occurred_at=clock.instant)
    assert legs(session, jp, after=1) == {"2110": 44, "4100.ai-inference": -40, "2400": -4}
    assert legs(session, vn, after=1) == {"2110": 40, "4100.ai-inference": -40}


def test_a_plan_by_gateway(session: Session, jp: int, vn: int) -> None:
    for account in (jp, vn):
        grant(session, account, 110, kind="plan", source="stripe")
    assert legs(session, jp) == {"1110.stripe": 110, "2110": -110}
    assert legs(session, vn) == {"1110.stripe": 110, "2110": -100, "2400": -10}


@pytest.mark.parametrize("site", ["jp", "vn"])
def test_a_voucher_that_settles_debt(
    session: Session, clock: TestClock, site: str, request: pytest.FixtureRequest
) -> None:
    account: int = request.getfixturevalue(site)
    record_liability(session, account, 110, clock)
    grant(session, account, 220, kind="voucher")
    assert legs(session, account, after=2) == {"4900": 100, "2400": 10, "1300": -110}


def test_paid_credit_that_expires_is_breakage(
    session: Session, clock: TestClock, jp: int, vn: int
) -> None:
    for account in (jp, vn):
        for kind in ("top_up", "plan"):
            grant(session, account, 110, kind=kind, expires_at=clock.instant + timedelta(1))
    clock.advance(days=2)
    assert ledger.expire_grants(session, actor=SYSTEM) == 4
    assert legs(session, jp, after=2) == {"2100": 110, "2110": 110, "4800": -220}
    assert legs(session, vn, after=2) == {"2100": 100, "2110": 100, "4800": -200}


def test_a_refund_approved_then_paid(session: Session, clock: TestClock, jp: int, vn: int) -> None:
    for account in (jp, vn):
        number = grant(session, account, 220, source="stripe")
        claw_back(session, account, "refund", number, 110)
    assert legs(session, jp, after=1) == {"2100": 110, "2150": -110}
    assert legs(session, vn, after=1) == {"2100": 100, "2400": 10, "2150": -110}
    post(session, clock, "refund_paid", jp, a2150=110, a1110_stripe=-110)
    rows = session.execute(
        text("SELECT ledger_code, amount_micros FROM journal WHERE source = 'finance' ORDER BY 1")
    )
    assert [tuple(row) for row in rows] == [("1110.stripe", -110 * UNIT), ("2150", 110 * UNIT)]


def test_a_dispute_lost(session: Session, clock: TestClock, vn: int) -> None:
    number = grant(session, vn, 110, source="stripe")
    charge(session, vn, 33, occurred_at=clock.instant)
    claw_back(session, vn, "dispute", number, 110)
    assert legs(session, vn, after=2) == {"2100": 70, "2400": 7, "1300": 33, "1120": -110}
    grant(session, vn, 55)
    assert legs(session, vn, after=4) == {"2100": 30, "2400": 3, "1300": -33}


def test_what_is_spent_of_a_plan_goes_back_at_what_was_paid_for_it(
    session: Session, clock: TestClock, jp: int
) -> None:
    terms: dict[str, Any] = {"consideration_micros": 88 * UNIT, "source": "stripe"}
    number = grant(session, jp, 110, kind="plan", **terms)
    charge(session, jp, 55, occurred_at=clock.instant)
    claw_back(session, jp, "refund", number, 110)
    assert legs(session, jp, after=2) == {
        "2110": 44,
        "1300": 55,
        "2150": -88,
        "4900": -10,
        "2400": -1,
    }
    assert unbalanced(session) == []


def test_a_write_off(session: Session, clock: TestClock, jp: int) -> None:
    record_liability(session, jp, 110, clock)
    ledger.write_off_debt(
        session,
        account_id=jp,
        amount_micros=44 * UNIT,
        reason="bankrupt",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    assert legs(session, jp, after=1) == {"6300": 44, "1300": -44}


def test_dollars_pay_a_dong_wallet(session: Session, clock: TestClock, vn: int) -> None:
    paid: dict[str, Any] = {"paid_micros": 10 * UNIT, "paid_currency": "USD", "source": "paypal"}
    number = grant(session, vn, 275_000, **paid)
    assert legs(session, vn, currency="USD") == {"1110.paypal": 10, "1900": -10}
    assert legs(session, vn, currency="VND") == {"1900": 275_000, "2100": -250_000, "2400": -25_000}
    charge(session, vn, 110_000, occurred_at=clock.instant)
    assert legs(session, vn, after=1) == {"2100": 100_000, "4100.ai-inference": -100_000}
    claw_back(session, vn, "dispute", number, 275_000)
    assert legs(session, vn, after=2, currency="USD") == {"1120": -10, "1900": 10}
    assert legs(session, vn, after=2, currency="VND") == {
        "2100": 150_000,
        "2400": 15_000,
        "1300": 110_000,
        "1900": -275_000,
    }
    assert unbalanced(session) == []


def test_a_foreign_payment_reversed_leaves_no_position(
    session: Session, clock: TestClock, vn: int
) -> None:
    paid: dict[str, Any] = {"paid_micros": 10 * UNIT, "paid_currency": "USD", "source": "paypal"}
    grant(session, vn, 275_000, **paid)
    charge(session, vn, 275_000, occurred_at=clock.instant)
    reverse(session, vn, 1)
    assert legs(session, vn, currency="USD") == {}
    assert legs(session, vn, currency="VND") == {
        "2400": -25_000,
        "1300": 275_000,
        "4100.ai-inference": -250_000,
    }


@pytest.mark.parametrize("site", ["jp", "vn"])
@pytest.mark.parametrize("kind", ["top_up", "voucher", "plan"])
def test_a_reversed_charge_leaves_what_was_there_before(
    session: Session, clock: TestClock, site: str, kind: str, request: pytest.FixtureRequest
) -> None:
    account: int = request.getfixturevalue(site)
    grant(session, account, 100, kind=kind)
    before = legs(session, account)
    spent = charge(session, account, 33, occurred_at=clock.instant)
    for part in (10, 11, 12):
        reverse(session, account, spent.entry_sequence, part)
        assert unbalanced(session) == []
    assert legs(session, account) == before


@pytest.mark.parametrize("site", ["jp", "vn"])
@pytest.mark.parametrize("kind", ["top_up", "voucher", "plan"])
def test_a_reversed_credit_leaves_no_leg(
    session: Session, site: str, kind: str, request: pytest.FixtureRequest
) -> None:
    account: int = request.getfixturevalue(site)
    grant(session, account, 100, kind=kind)
    for part in (33, 33, 34):
        reverse(session, account, 1, part)
    assert legs(session, account) == {}


def test_a_voucher_revoked_after_it_was_spent_is_owed_with_its_tax(
    session: Session, clock: TestClock, jp: int
) -> None:
    grant(session, jp, 110, kind="voucher")
    charge(session, jp, 110, occurred_at=clock.instant)
    reverse(session, jp, 1)
    assert legs(session, jp, after=2) == {"1300": 110, "4900": -100, "2400": -10}


@pytest.mark.parametrize("site", ["jp", "vn"])
@pytest.mark.parametrize("kind", ["top_up", "voucher"])
def test_a_reversed_charge_of_which_the_debt_was_settled(
    session: Session, clock: TestClock, site: str, kind: str, request: pytest.FixtureRequest
) -> None:
    account: int = request.getfixturevalue(site)
    owed = record_liability(session, account, 77, clock)
    grant(session, account, 100, kind=kind)
    issued = legs(session, account, after=1)
    for part in (30, 26, 21):
        reverse(session, account, owed, part)
        assert unbalanced(session) == []
    settled = {"1300": 0.0}
    assert settled.keys() & legs(session, account).keys() == set()
    grant_only = make_account(session, site=site, currency="JPY" if site == "jp" else "VND")
    grant(session, grant_only, 100, kind=kind)
    assert legs(session, account) == legs(session, grant_only)
    assert issued.keys() <= {"1010", "2100", "2400", "1300", "4900"}


def test_a_partly_settled_debt_reversed_goes_first_to_what_is_owed(
    session: Session, clock: TestClock, jp: int
) -> None:
    owed = record_liability(session, jp, 110, clock)
    grant(session, jp, 44)
    reversal = reverse(session, jp, owed, 88)
    assert legs(session, jp, after=reversal - 1) == {
        "4100.ai-inference": 80,
        "2400": 8,
        "1300": -66,
        "2100": -22,
    }


def test_fractions_never_unbalance_an_entry(
    session: Session, clock: TestClock, jp: int, vn: int
) -> None:
    for account in (jp, vn):
        grant(session, account, "0.000101", kind="plan", consideration_micros=77)
        grant(session, account, "0.000033", kind="voucher")
        grant(session, account, "0.000057", paid_micros=3, paid_currency="USD")
        for amount in ("0.000007", "0.000104", "0.000031", "0.000083"):
            done = charge(session, account, amount, occurred_at=clock.instant, refusable=False)
        reverse(session, account, done.entry_sequence)
        take_back_micros = [(3, 20), (1, 100)]
        for number, micros in take_back_micros:
            ledger.claw_back_credit(
                session,
                account_id=account,
                kind="dispute",
                grant_numbers=[number],
                amount_micros=micros,
                source="stripe",
                actor=SYSTEM,
                idempotency_key=next_key(),
            )
        grant(session, account, "0.000500", kind="plan", consideration_micros=333)
    assert unbalanced(session) == []


def test_the_debtors_account_is_what_customers_owe(
    session: Session, clock: TestClock, jp: int
) -> None:
    number = grant(session, jp, 40, consideration_micros=13 * UNIT)
    record_liability(session, jp, 100, clock)
    claw_back(session, jp, "dispute", number, 25)
    grant(session, jp, 30, kind="voucher")
    assert legs(session, jp)["1300"] == 100 - 40 + 25 - 30


def test_a_finance_posting_is_made_once(session: Session, clock: TestClock) -> None:
    facts: dict[str, Any] = {
        "site_code": "jp",
        "kind": "payout",
        "reference": "po_9",
        "occurred_at": clock.instant,
        "actor": SYSTEM,
        "idempotency_key": next_key(),
    }
    lines = [JournalLine("1010", 5, "JPY"), JournalLine("1110.stripe", -5, "JPY")]
    first = post_journal_entry(session, lines=lines, **facts)
    assert post_journal_entry(session, lines=lines, **facts) == first
    assert session.execute(text("SELECT count(*) FROM finance_entries")).scalar_one() == 2
    other = [JournalLine("1010", 6, "JPY"), JournalLine("1110.stripe", -6, "JPY")]
    with pytest.raises(IdempotencyMismatch):
        post_journal_entry(session, lines=other, **facts)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [JournalLine("1010", 5, "JPY")],
        [JournalLine("1010", 5, "JPY"), JournalLine("1110.stripe", -5, "USD")],
        [JournalLine("1010", 0, "JPY")],
        [JournalLine("1010", 5, "JPY"), JournalLine("1110", -5, "JPY")],
        [JournalLine("1010", 5, "JPY"), JournalLine("9999", -5, "JPY")],
    ],
    ids=["none", "one", "two_currencies", "nothing", "no_gateway", "no_account"],
)
def test_lines_that_do_not_balance_or_have_no_account_are_refused(
    session: Session, clock: TestClock, lines: list[JournalLine]
) -> None:
    with pytest.raises(InvalidInput):
        post_journal_entry(
            session,
            site_code="jp",
            kind="payout",
            reference="po",
            lines=lines,
            occurred_at=clock.instant,
            actor=SYSTEM,
            idempotency_key=next_key(),
        )


def test_an_account_of_another_site_is_not_found(
    session: Session, clock: TestClock, vn: int
) -> None:
    with pytest.raises(NotFound):
        post(session, clock, "payout", vn, a1010=5, a1110_stripe=-5)


def test_view_knows_the_accounts_of_the_chart_and_no_other(session: Session) -> None:
    view: str = session.execute(text("SELECT pg_get_viewdef('journal')")).scalar_one()
    codes = {code.rstrip(".") for code in re.findall(r"'(\d{4}\.?)'", view)}
    of_finance_alone = {
        chart.INPUT_TAX,
        chart.GATEWAY_FEES,
        chart.DISPUTE_FEES,
        chart.EXCHANGE_DIFFERENCE,
    }
    assert codes == {each.code for each in chart.CHART if each not in of_finance_alone}
