"""Pairs of duties that one person may not hold: rates and transfers, or all of a campaign."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from db.models import BankTransfer, ExchangeRate
from domain.actors import StaffRole, system_actor, user_actor
from domain.errors import NotAuthorised
from domain.money import Money
from domain.payments.bank_transfers import Evidence, decide_transfer, record_transfer
from domain.payments.exchange_duties import (
    DutiesConflict,
    find_currencies_without_rates,
    may_record_transfers,
)
from domain.payments.exchange_rates import decide_rate, load_rate, request_rate
from domain.vouchers import decide_campaign, find_campaign, request_campaign
from tests.gateways import dong, payer
from tests.support.campaigns import terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

FIRST = user_actor(900, staff_role=StaffRole.FINANCE)
SECOND = user_actor(901, staff_role=StaffRole.FINANCE)
ADMIN = user_actor(902, staff_role=StaffRole.ADMIN)


def propose(session: Session, actor: Actor, rate: str = "25400", **changes: Any) -> int:
    given: dict[str, Any] = {
        "base_currency": "USD",
        "quote_currency": "VND",
        "rate": Decimal(rate),
        "margin_basis_points": 150,
        "source": "bank",
        "as_of": datetime.now(UTC) - timedelta(minutes=5),
        "actor": actor,
    }
    return request_rate(session, **(given | changes))


def approve(session: Session, rate_id: int, actor: Actor) -> None:
    decide_rate(session, rate_id=rate_id, is_approved=True, actor=actor)


def record(
    session: Session, account: int, actor: Actor, line: str = "FT1", amount: Money | None = None
) -> int:
    return record_transfer(
        session,
        account_id=account,
        amount=amount or dong(1_000_000),
        bank_reference=line,
        received_on=date(2026, 1, 15),
        evidence=Evidence("slip.pdf", b"%PDF-1.7 a slip"),
        remark="",
        is_confirmed=True,
        actor=actor,
    )


def refused(reason: str, work: Callable[[], Any]) -> str:
    """Return the currency of a refusal."""
    with pytest.raises(DutiesConflict) as caught:
        work()
    assert caught.value.reason == reason
    return caught.value.currency


def test_record_transfer_with_own_rate_waiting_or_in_force_is_refused(session: Session) -> None:
    account, _owner = payer(session)
    rate = propose(session, FIRST)
    assert refused("own_rate", lambda: record(session, account, FIRST)) == "VND"
    approve(session, rate, ADMIN)
    assert refused("own_rate", lambda: record(session, account, FIRST)) == "VND"
    transfer = record(session, account, SECOND)
    # Whoever set the rate may still be the second person of a transfer.
    assert decide_transfer(session, transfer_id=transfer, is_approved=True, actor=FIRST)


def test_record_transfer_with_rate_approved_by_oneself_is_refused(session: Session) -> None:
    account, _owner = payer(session)
    approve(session, propose(session, FIRST), ADMIN)
    approve(session, propose(session, FIRST, "25500"), SECOND)
    for person in (FIRST, SECOND):
        refused("own_rate", lambda person=person: record(session, account, person))  # type: ignore[misc]
    # Once another rate replaces it, they may again.
    approve(session, propose(session, ADMIN, "25600"), FIRST)
    record(session, account, SECOND)


def test_record_transfer_in_paid_currency_of_own_rate_is_refused(session: Session) -> None:
    account, _owner = payer(session, site="global")
    yen, _other = payer(session, site="jp")
    approve(session, propose(session, FIRST), ADMIN)
    dollars = Money(1_000_000, "USD")
    assert refused("own_rate", lambda: record(session, account, FIRST, amount=dollars)) == "USD"
    record(session, yen, FIRST, amount=Money(1_000_000_000, "JPY"))


def test_record_transfer_after_rate_was_rejected_or_is_old_is_allowed(session: Session) -> None:
    account, _owner = payer(session)
    rate = propose(session, FIRST)
    decide_rate(session, rate_id=rate, is_approved=False, actor=SECOND)
    record(session, account, FIRST)
    record(session, account, SECOND, "FT2")


def test_record_transfer_with_own_rate_out_of_date_is_allowed(session: Session) -> None:
    account, _owner = payer(session)
    old = datetime.now(UTC) - timedelta(days=40)
    approve(session, propose(session, FIRST, as_of=old), ADMIN)
    record(session, account, FIRST)


def test_record_transfer_with_rates_of_the_product_is_allowed(session: Session) -> None:
    account, _owner = payer(session)
    rate = propose(session, system_actor("demo"))
    load_rate(session, rate_id=rate, actor=system_actor("startup"))
    for line, person in (("FT1", FIRST), ("FT2", SECOND)):
        record(session, account, person, line)


def test_record_transfer_again_answers_the_first_id_whatever_came_since(session: Session) -> None:
    account, _owner = payer(session)
    transfer = record(session, account, FIRST)
    decide_transfer(session, transfer_id=transfer, is_approved=True, actor=SECOND)
    approve(session, propose(session, FIRST), ADMIN)
    assert record(session, account, FIRST) == transfer


def test_set_rate_with_own_transfer_undecided_is_refused(session: Session) -> None:
    account, _owner = payer(session)
    waiting = propose(session, SECOND)
    transfer = record(session, account, FIRST)
    far = propose(session, ADMIN, "25401")
    assert refused("own_transfer", lambda: propose(session, FIRST)) == "VND"
    approve(session, waiting, ADMIN)
    assert refused("own_transfer", lambda: approve(session, far, FIRST)) == "VND"
    # Of other currencies they may, and rejecting puts nothing in force.
    propose(session, FIRST, quote_currency="JPY")
    decide_transfer(session, transfer_id=transfer, is_approved=False, actor=SECOND)
    approve(session, far, FIRST)


def test_reject_rate_with_own_transfer_undecided_is_allowed(session: Session) -> None:
    account, _owner = payer(session)
    rate = propose(session, SECOND)
    record(session, account, FIRST)
    decide_rate(session, rate_id=rate, is_approved=False, actor=FIRST)


@pytest.mark.parametrize(
    "check", ["bank_transfers.check_own_rates", "exchange_rates.check_own_transfers"]
)
def test_duties_without_their_check_would_be_held_by_one(
    session: Session, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    """The check is what stops it: without one of them, one person holds both sides."""
    account, _owner = payer(session)
    monkeypatch.setattr(f"domain.payments.{check}", lambda *_args, **_named: None)
    if check.startswith("bank_transfers"):
        approve(session, propose(session, FIRST), ADMIN)
        record(session, account, FIRST)
    else:
        record(session, account, FIRST)
        propose(session, FIRST)


def test_rate_and_transfer_by_one_person_at_once_leave_one(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        account, _owner = payer(session)
    start = Barrier(2)

    def both(number: int) -> bool:
        start.wait()
        try:
            with sessions.begin() as mine:
                _ = record(mine, account, FIRST) if number else propose(mine, FIRST)
        except DutiesConflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(both, range(2)))
    assert sorted(done) == [False, True]
    with sessions() as session:
        rows = [
            session.scalars(select(func.count()).select_from(m)).one()
            for m in (BankTransfer, ExchangeRate)
        ]
    assert sorted(rows) == [0, 1]


# ── Asked before a form is filled in ───────────────────────────────────────────────────────────
def test_currencies_without_rates_are_those_of_own_undecided_transfers(session: Session) -> None:
    account, _owner = payer(session)
    yen, _other = payer(session, site="jp")

    def closed(person: Actor) -> frozenset[str]:
        return find_currencies_without_rates(session, actor=person)

    assert closed(FIRST) == frozenset()
    dong_transfer = record(session, account, FIRST)
    record(session, yen, FIRST, "FT2", Money(1_000_000_000, "JPY"))
    assert closed(FIRST) == {"VND", "JPY"}
    assert closed(SECOND) == closed(ADMIN) == closed(system_actor("demo")) == frozenset()
    for quoted in ("VND", "JPY"):
        work = partial(propose, session, FIRST, quote_currency=quoted)
        assert refused("own_transfer", work) == quoted
    decide_transfer(session, transfer_id=dong_transfer, is_approved=True, actor=SECOND)
    assert closed(FIRST) == {"JPY"}
    propose(session, FIRST)


def test_transfers_may_be_recorded_where_no_own_rate_waits_or_serves(session: Session) -> None:
    account, _owner = payer(session)

    def may(person: Actor, currency: str = "VND") -> bool:
        return may_record_transfers(session, currency=currency, actor=person)

    assert may(FIRST)
    rate = propose(session, FIRST)
    assert not may(FIRST)
    assert not may(FIRST, "USD")
    assert may(FIRST, "JPY")
    assert may(SECOND)
    approve(session, rate, ADMIN)
    assert not may(FIRST)
    refused("own_rate", lambda: record(session, account, FIRST))
    approve(session, propose(session, ADMIN, "25500"), SECOND)
    assert may(FIRST)
    record(session, account, FIRST)


def test_what_is_asked_before_is_for_who_may_do_it(session: Session) -> None:
    agent = user_actor(903, staff_role=StaffRole.SUPPORT)
    with pytest.raises(NotAuthorised):
        find_currencies_without_rates(session, actor=agent)
    for person in (agent, ADMIN):
        with pytest.raises(NotAuthorised):
            may_record_transfers(session, currency="VND", actor=person)


def test_campaign_by_its_proposer_is_not_approved(session: Session) -> None:
    campaign = request_campaign(session, terms=terms(), actor=FIRST, idempotency_key="campaign")
    for is_approved in (True, False):
        with pytest.raises(NotAuthorised):
            decide_campaign(session, campaign_id=campaign, is_approved=is_approved, actor=FIRST)
    decide_campaign(session, campaign_id=campaign, is_approved=True, actor=SECOND)
    assert find_campaign(session, campaign_id=campaign, actor=FIRST).state == "approved"


def test_campaign_without_the_check_is_stopped_by_the_database(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.approvals.decisions.require_another", lambda *_: None)
    campaign = request_campaign(session, terms=terms(), actor=FIRST, idempotency_key="campaign")
    with pytest.raises(IntegrityError, match="ck_campaigns_two_people"):
        decide_campaign(session, campaign_id=campaign, is_approved=True, actor=FIRST)
