"""Rates that two people decide, quotes that are locked, and dollars that buy dong."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from domain import ledger
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import (
    AlreadyDecided,
    BillingError,
    Conflict,
    InvalidInput,
    NotAuthorised,
    NotFound,
)
from domain.money import Money
from domain.payments.exchange_rates import (
    Distance,
    RateSuperseded,
    decide_rate,
    find_newer_rate,
    get_distance,
    list_rates,
    make_quote,
    price_of,
    request_rate,
)
from domain.payments.gateway_updates import apply_updates
from domain.payments.rates_in_force import Rate, RateUnavailable, get_end_of_rate, rate_in_force
from domain.support.queries import waiting_counts
from tests.factories import SYSTEM
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from tests.conftest import TestClock

MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
ADMIN = user_actor(902, staff_role=StaffRole.ADMIN)
SUPPORT = user_actor(903, staff_role=StaffRole.SUPPORT)
CREDIT = dong(1_000_000)


def propose(session: Session, rate: str = "25400", **changes: Any) -> int:
    terms: dict[str, Any] = {
        "base_currency": "USD",
        "quote_currency": "VND",
        "rate": Decimal(rate),
        "margin_basis_points": 150,
        "source": "Vietcombank, transfer",
        "as_of": datetime.now(UTC) - timedelta(minutes=5),
        "actor": MAKER,
    }
    return request_rate(session, **(terms | changes))


def put_in_force(session: Session, rate: str = "25400", **changes: Any) -> int:
    rate_id = propose(session, rate, **changes)
    decide_rate(session, rate_id=rate_id, is_approved=True, actor=ADMIN)
    return rate_id


def in_force(session: Session) -> Rate:
    return rate_in_force(session, base_currency="USD", quote_currency="VND")


# ── Two people ────────────────────────────────────────────────────────────────────────────────
def test_a_rate_is_in_force_once_somebody_else_approved_it(session: Session) -> None:
    put_in_force(session)
    near = propose(session, "25900")
    assert in_force(session).rate == Decimal(25400)
    decide_rate(session, rate_id=near, is_approved=True, actor=CHECKER)
    assert in_force(session).rate == Decimal(25900)


def test_nobody_approves_their_own(session: Session) -> None:
    for maker in (MAKER, ADMIN):
        rate_id = propose(session, actor=maker)
        with pytest.raises(NotAuthorised):
            decide_rate(session, rate_id=rate_id, is_approved=True, actor=maker)


def test_a_first_rate_and_one_that_moved_far_need_an_administrator(session: Session) -> None:
    first = propose(session)
    with pytest.raises(NotAuthorised):
        decide_rate(session, rate_id=first, is_approved=True, actor=CHECKER)
    decide_rate(session, rate_id=first, is_approved=True, actor=ADMIN)
    for far in ("0.0000393701", "27000", "23000"):
        rate_id = propose(session, far, reason="The central bank let it go")
        with pytest.raises(NotAuthorised):
            decide_rate(session, rate_id=rate_id, is_approved=True, actor=CHECKER)
    decide_rate(session, rate_id=propose(session, "26000"), is_approved=True, actor=CHECKER)


def test_rate_is_counted_for_those_who_may_approve_it(session: Session) -> None:
    def counted() -> list[int]:
        return [waiting_counts(session, actor=each).rates for each in (MAKER, CHECKER, ADMIN)]

    first = propose(session)
    assert counted() == [0, 0, 1]
    decide_rate(session, rate_id=first, is_approved=True, actor=ADMIN)
    assert counted() == [0, 0, 0]
    propose(session, "26000")
    assert counted() == [0, 1, 1]
    propose(session, "27000", reason="The central bank let it go")
    assert counted() == [0, 1, 2]
    assert waiting_counts(session, actor=SUPPORT).total == 0


def test_a_rejected_rate_is_never_in_force(session: Session) -> None:
    rate_id = propose(session)
    decide_rate(session, rate_id=rate_id, is_approved=False, actor=CHECKER)
    decide_rate(session, rate_id=rate_id, is_approved=False, actor=CHECKER)
    with pytest.raises(Conflict):
        decide_rate(session, rate_id=rate_id, is_approved=True, actor=ADMIN)
    with pytest.raises(RateUnavailable):
        in_force(session)


def test_what_was_in_force_before_and_after_is_written_down(session: Session) -> None:
    first = put_in_force(session)
    second = put_in_force(session, "25900.50")
    refused = propose(session, "1", reason="A slip of the pen")
    decide_rate(session, rate_id=refused, is_approved=False, actor=CHECKER)
    rows = session.execute(
        text("SELECT action, details FROM audit_log WHERE action LIKE '%_rate' ORDER BY id")
    ).all()
    message = [
        (row.action, *(row.details[name] for name in ("rate", "from", "to"))) for row in rows
    ]
    before, after = message[1][3], message[3][3]
    assert (before["rate"], before["price"], before["pair"]) == (first, "25400", "USD/VND")
    assert (after["price"], after["margin_basis_points"]) == ("25900.5", 150)
    assert message[:4] == [
        ("request_rate", first, None, before),
        ("approved_rate", first, None, before),
        ("request_rate", second, before, after),
        ("approved_rate", second, before, after),
    ]
    assert message[4][:3] == ("request_rate", refused, after)
    assert message[5] == ("rejected_rate", refused, after, after)


def test_two_decisions_at_once_decide_once(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        rate_id = propose(session)
    barrier = Barrier(2)

    def decide(is_approved: bool) -> str:  # noqa: FBT001 - mapped over both answers
        barrier.wait()
        try:
            with sessions.begin() as session:
                decide_rate(session, rate_id=rate_id, is_approved=is_approved, actor=ADMIN)
        except BillingError:
            return "refused"
        return "done"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(decide, (True, False))) == ["done", "refused"]


def test_who_may_not(session: Session) -> None:
    rate_id = propose(session)
    with pytest.raises(NotAuthorised):
        propose(session, actor=SUPPORT)
    with pytest.raises(NotAuthorised):
        decide_rate(session, rate_id=rate_id, is_approved=True, actor=SUPPORT)
    with pytest.raises(NotAuthorised):
        list_rates(session, actor=user_actor(1))
    assert [rate.id for rate in list_rates(session, actor=SUPPORT)] == [rate_id]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rate": "0"}, "out_of_range"),
        ({"rate": "-1"}, "out_of_range"),
        ({"rate": "NaN"}, "out_of_range"),
        ({"rate": "1.12345678901"}, "too_many_decimals"),
        ({"quote_currency": "USD"}, "same_currency"),
        ({"margin_basis_points": 2001}, "out_of_range"),
        ({"source": " "}, "empty"),
        ({"as_of": datetime(2999, 1, 1, tzinfo=UTC)}, "in_future"),
    ],
)
def test_what_is_no_rate_is_named(session: Session, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        propose(session, **({"rate": "25400"} | changes))
    assert caught.value.reason == reason


# ── Far from the one in force ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("rate", "percent"), [("26671", "5.00"), ("24129", "-5.00"), ("1", "-100.00")]
)
def test_far_rate_without_reason_is_refused(session: Session, rate: str, percent: str) -> None:
    put_in_force(session)
    with pytest.raises(InvalidInput) as caught:
        propose(session, rate)
    assert (caught.value.field, caught.value.reason) == ("reason", "empty")
    distance = distance_of(session, rate)
    assert distance is not None
    assert (distance.is_far, str(distance.percent)) == (True, percent)


@pytest.mark.parametrize("rate", ["26670", "24130", "25400"])
def test_near_rate_needs_no_reason(session: Session, rate: str) -> None:
    put_in_force(session)
    distance = distance_of(session, rate)
    assert distance is not None
    assert not distance.is_far
    assert propose(session, rate)


def test_margin_counts_for_how_far_a_rate_is(session: Session) -> None:
    put_in_force(session)
    with pytest.raises(InvalidInput) as caught:
        propose(session, margin_basis_points=2_000)
    assert (caught.value.field, caught.value.reason) == ("reason", "empty")
    rate_id = propose(session, margin_basis_points=2_000, reason="The bank takes more")
    with pytest.raises(NotAuthorised):
        decide_rate(session, rate_id=rate_id, is_approved=True, actor=CHECKER)
    decide_rate(session, rate_id=rate_id, is_approved=True, actor=ADMIN)
    # 98.5 of 100 were kept, and 80 are now.
    distance = distance_of(session, "25400")
    assert distance is not None
    assert (str(distance.percent), str(distance.price_percent)) == ("0.00", "-18.78")


def distance_of(session: Session, rate: str) -> Distance | None:
    return get_distance(
        session,
        base_currency="USD",
        quote_currency="VND",
        rate=Decimal(rate),
        margin_basis_points=150,
        actor=CHECKER,
    )


def test_far_rate_is_audited_with_distance_and_reason(session: Session) -> None:
    put_in_force(session)
    far = propose(session, "27940", reason="  The central bank\n let it go ")
    decide_rate(session, rate_id=far, is_approved=True, actor=ADMIN)
    rows = session.execute(
        text("SELECT details FROM audit_log WHERE details ->> 'rate' = :rate ORDER BY id"),
        {"rate": str(far)},
    ).scalars()
    message = [(row["distance_percent"], row["reason"]) for row in rows]
    assert message == [("10.00", "The central bank let it go")] * 2
    assert list_rates(session, actor=CHECKER)[0].reason == "The central bank let it go"


def test_rate_that_became_far_while_it_waited_is_not_approved(session: Session) -> None:
    put_in_force(session)
    far = propose(session, "28000", reason="The central bank let it go")
    near = propose(session, "25900")
    decide_rate(session, rate_id=far, is_approved=True, actor=ADMIN)
    with pytest.raises(Conflict, match="rate_moved_meanwhile"):
        decide_rate(session, rate_id=near, is_approved=True, actor=ADMIN)
    decide_rate(session, rate_id=near, is_approved=False, actor=CHECKER)
    assert in_force(session).rate == Decimal(28000)


def test_older_proposal_does_not_replace_a_newer_rate(session: Session) -> None:
    put_in_force(session)
    older, newer = propose(session, "25500"), propose(session, "25600")
    other_pair = propose(session, "25500", base_currency="EUR")
    decide_rate(session, rate_id=newer, is_approved=True, actor=CHECKER)
    with pytest.raises(RateSuperseded, match="newer_rate_in_force") as caught:
        decide_rate(session, rate_id=older, is_approved=True, actor=ADMIN)
    assert (caught.value.newer.id, caught.value.newer.decided_by) == (newer, "user:901")
    waiting = {rate.id: rate for rate in list_rates(session, actor=SUPPORT)}
    superseding = find_newer_rate(session, rate=waiting[older], actor=SUPPORT)
    assert superseding is not None
    assert superseding.id == newer
    assert find_newer_rate(session, rate=waiting[other_pair], actor=SUPPORT) is None
    decide_rate(session, rate_id=other_pair, is_approved=True, actor=ADMIN)
    decide_rate(session, rate_id=older, is_approved=False, actor=CHECKER)
    assert in_force(session).rate == Decimal(25600)


def test_newer_proposal_replaces_an_older_rate(session: Session) -> None:
    put_in_force(session)
    older, newer = propose(session, "25500"), propose(session, "25600")
    decide_rate(session, rate_id=older, is_approved=True, actor=CHECKER)
    decide_rate(session, rate_id=newer, is_approved=True, actor=ADMIN)
    assert in_force(session).rate == Decimal(25600)


def test_two_rates_approved_at_once_leave_the_newer_in_force(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        put_in_force(session)
        both = propose(session, "25500"), propose(session, "25600")
    barrier = Barrier(2)

    def approve(rate_id: int, actor: Actor) -> str:
        barrier.wait()
        try:
            with sessions.begin() as session:
                decide_rate(session, rate_id=rate_id, is_approved=True, actor=actor)
        except RateSuperseded:
            return "superseded"
        return "approved"

    with ThreadPoolExecutor(2) as pool:
        older, newer = pool.map(approve, both, (CHECKER, ADMIN))
    assert newer == "approved"
    assert older in {"approved", "superseded"}
    with sessions() as session:
        assert in_force(session).rate == Decimal(25600)


def test_person_who_approves_second_sees_what_the_first_put_in_force(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        put_in_force(session)
        older, newer = propose(session, "25500"), propose(session, "25600")

    def approve_older() -> None:
        with sessions.begin() as session:
            decide_rate(session, rate_id=older, is_approved=True, actor=CHECKER)

    waits = text(
        "SELECT EXISTS (SELECT FROM pg_locks"
        " WHERE NOT granted AND transactionid = CAST(pg_current_xact_id() AS xid))"
    )
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as session:
            decide_rate(session, rate_id=newer, is_approved=True, actor=ADMIN)
            late = pool.submit(approve_older)
            while not session.execute(waits).scalar_one():
                assert not late.done()
                time.sleep(0.02)  # noqa: TID251 - a poll; the test's time-out is its deadline
        with pytest.raises(RateSuperseded):
            late.result()


def test_second_decision_says_who_decided_and_when(session: Session) -> None:
    rate_id = propose(session)
    decide_rate(session, rate_id=rate_id, is_approved=True, actor=ADMIN)
    with pytest.raises(AlreadyDecided) as caught:
        decide_rate(session, rate_id=rate_id, is_approved=True, actor=CHECKER)
    assert (caught.value.state, caught.value.decided_by) == ("approved", "user:902")
    assert caught.value.decided_at is not None


# ── Age ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("made", "good_hours", "bad_hours"),
    [
        (datetime(2026, 3, 10, 9, tzinfo=UTC), 25, 27),
        (datetime(2026, 3, 13, 9, tzinfo=UTC), 73, 75),
    ],
    ids=["on a Tuesday", "on a Friday, over the weekend"],
)
def test_a_rate_that_is_too_old_is_not_gone_by(
    session: Session, clock: TestClock, made: datetime, good_hours: int, bad_hours: int
) -> None:
    session.info["clock"] = clock
    clock.instant = made + timedelta(minutes=1)
    put_in_force(session, as_of=made)
    clock.instant = made + timedelta(hours=good_hours)
    assert in_force(session).rate == Decimal(25400)
    clock.instant = made + timedelta(hours=bad_hours)
    with pytest.raises(RateUnavailable, match="rate_too_old"):
        in_force(session)


@pytest.mark.parametrize(
    ("quote", "made", "end"),
    [
        ("VND", "2026-03-13 09:00", "2026-03-16 11:00"),  # Friday: over the weekend
        ("VND", "2026-03-14 09:00", "2026-03-16 11:00"),  # Saturday
        ("VND", "2026-03-15 16:00", "2026-03-16 18:00"),  # Sunday does not serve until Thursday
        ("VND", "2026-03-12 23:30", "2026-03-16 01:30"),  # Friday already in Vietnam
        ("VND", "2027-02-03 03:00", "2027-02-11 05:00"),  # the day before Tet
        ("VND", "2027-02-07 03:00", "2027-02-11 05:00"),  # in the middle of Tet
        ("JPY", "2027-02-03 03:00", "2027-02-04 05:00"),  # Tet is no holiday in Japan
        ("JPY", "2027-04-30 03:00", "2027-05-06 05:00"),  # Golden Week after Showa Day
        ("JPY", "2027-04-28 03:00", "2027-04-30 05:00"),  # Showa Day itself
        ("VND", "2027-04-29 03:00", "2027-05-04 05:00"),  # Reunification and Labour Day
        ("JPY", "2026-12-30 03:00", "2027-01-04 05:00"),  # banks of Japan end the year early
        ("VND", "2026-12-31 03:00", "2027-01-04 05:00"),  # New Year on a Friday
        ("VND", "2027-01-15 03:00", "2027-01-19 05:00"),  # a Monday off in the United States
    ],
)
def test_rate_serves_until_the_next_business_day(
    session: Session, clock: TestClock, quote: str, made: str, end: str
) -> None:
    session.info["clock"] = clock
    as_of = datetime.fromisoformat(f"{made}+00:00")
    over = datetime.fromisoformat(f"{end}+00:00")
    clock.instant = as_of
    rate_id = put_in_force(session, "150", quote_currency=quote, as_of=as_of)
    pair = {"base_currency": "USD", "quote_currency": quote}
    clock.instant = over - timedelta(seconds=1)
    rate = rate_in_force(session, **pair)
    assert (rate.id, get_end_of_rate(session, rate=rate, actor=CHECKER)) == (rate_id, over)
    clock.instant = over
    with pytest.raises(RateUnavailable, match="rate_too_old"):
        rate_in_force(session, **pair)


def test_euro_follows_the_central_bank_of_europe(session: Session, clock: TestClock) -> None:
    session.info["clock"] = clock
    clock.instant = as_of = datetime(2027, 3, 25, 3, tzinfo=UTC)  # the Thursday before Easter
    put_in_force(session, "27000", base_currency="EUR", as_of=as_of)
    clock.instant = datetime(2027, 3, 30, 4, 59, tzinfo=UTC)  # the Tuesday after it
    rate = rate_in_force(session, base_currency="EUR", quote_currency="VND")
    assert get_end_of_rate(session, rate=rate, actor=CHECKER) == datetime(
        2027, 3, 30, 5, tzinfo=UTC
    )


# ── Price ─────────────────────────────────────────────────────────────────────────────────────
@settings(max_examples=300, deadline=None)
@given(
    credit=st.integers(1, 10**9),
    rate=st.decimals("0.001", "100000", places=6, allow_nan=False, allow_infinity=False),
    margin=st.integers(0, 2000),
)
def test_rounding_never_favours_the_payer(credit: int, rate: Decimal, margin: int) -> None:
    priced = Rate(
        1, "USD", "VND", rate, margin, "s", datetime.now(UTC), "approved", "a",
        datetime.now(UTC), "b", datetime.now(UTC),
    )  # fmt: skip
    pay, effective = price_of(dong(credit), priced)
    assert effective <= rate
    bought = pay.to_decimal() * effective
    assert bought >= credit
    assert (pay.to_decimal() - Decimal("0.01")) * effective < credit


def test_the_margin_is_in_the_price(session: Session) -> None:
    put_in_force(session)
    pay, effective = price_of(CREDIT, in_force(session))
    assert effective == Decimal(25019)
    assert pay == Money.from_minor_units(3_997, "USD")


# ── Quotes ────────────────────────────────────────────────────────────────────────────────────
def test_dollars_buy_exactly_the_dong_that_were_quoted(session: Session) -> None:
    put_in_force(session)
    account, owner = payer(session)
    quote = make_quote(session, account_id=account, credit=CREDIT, pay_currency="USD", actor=owner)
    gateway = ScriptedGateway("paypal")
    started = begin(session, gateway, account, owner, CREDIT, quote_id=quote.id)
    # The rate moves before the money comes: the quote counts.
    decide_rate(session, rate_id=propose(session, "26500"), is_approved=True, actor=CHECKER)
    apply_updates(
        session, gateway=gateway, updates=(paid(started.reference, quote.pay),), actor=GATEWAYS
    )
    rows = session.execute(
        text("SELECT ledger_code, currency, sum(amount_micros)::bigint FROM journal GROUP BY 1, 2")
    )
    legs = {(row[0], row[1]): row[2] for row in rows}
    assert legs["1110.paypal", "USD"] == quote.pay.micros
    assert legs["1900", "USD"] == -quote.pay.micros
    assert legs["1900", "VND"] == CREDIT.micros
    assert legs["2100", "VND"] + legs["2400", "VND"] == -CREDIT.micros
    assert ledger.verify_ledger(session, actor=SYSTEM) == []


def test_a_quote_is_used_once_in_time_and_for_its_own_amount(
    session: Session, clock: TestClock
) -> None:
    session.info["clock"] = clock
    put_in_force(session, as_of=clock())
    account, owner = payer(session)
    gateway = ScriptedGateway("paypal")
    quote = make_quote(session, account_id=account, credit=CREDIT, pay_currency="USD", actor=owner)
    with pytest.raises(InvalidInput, match="another_amount"):
        begin(session, gateway, account, owner, dong(2_000_000), quote_id=quote.id)
    begin(session, gateway, account, owner, CREDIT, quote_id=quote.id)
    with pytest.raises(Conflict, match="quote_used"):
        begin(session, gateway, account, owner, CREDIT, quote_id=quote.id)
    late = make_quote(session, account_id=account, credit=CREDIT, pay_currency="USD", actor=owner)
    clock.advance(minutes=16)
    with pytest.raises(Conflict, match="quote_lapsed"):
        begin(session, gateway, account, owner, CREDIT, quote_id=late.id)


def test_a_quote_is_its_account_s_alone(session: Session) -> None:
    put_in_force(session)
    account, owner = payer(session)
    other, stranger = payer(session)
    quote = make_quote(session, account_id=account, credit=CREDIT, pay_currency="USD", actor=owner)
    with pytest.raises(NotFound):
        begin(session, ScriptedGateway("paypal"), other, stranger, CREDIT, quote_id=quote.id)
    with pytest.raises(NotFound):
        make_quote(session, account_id=account, credit=CREDIT, pay_currency="USD", actor=stranger)
    reader = user_actor(5, memberships={account: MemberRole.READER})
    with pytest.raises(NotAuthorised):
        make_quote(session, account_id=account, credit=CREDIT, pay_currency="USD", actor=reader)
