"""Acts of staff, limits, the second person and notes, on a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text

from db.models import ApprovalRequest, Entry, IdempotencyKey, StaffAct, VoucherCode
from domain import ledger, support
from domain.actors import MemberRole, StaffRole, user_actor
from domain.clock import CLOCK
from domain.errors import (
    BillingError,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NotAuthorised,
    NotFound,
    ReversalExceedsOriginal,
    VoucherRefused,
)
from domain.identity.queries import names_of
from domain.ledger.balances import account_overview, account_summary
from domain.ledger.verify import verify_ledger
from domain.money import Money
from domain.support import (
    ApplyCode,
    CompletedAction,
    GiveGoodwill,
    IssueVoucher,
    PendingApproval,
    ReverseEntry,
    approve_request,
    perform_or_request,
    preview_action,
    reject_request,
    withdraw_request,
)
from domain.support.queries import acts_of_entry, list_requests, waiting_counts
from domain.vouchers import CurrencyTerms, GrantTemplate, redeem_code_unlimited
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key
from tests.support.campaigns import campaign, codes, customer, dollars, offer
from tests.support.staff_actions import LIMIT, agent, checker, do, goodwill, make_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

__all__ = ["agent", "checker", "make_person"]

YEN = (
    CurrencyTerms(
        (GrantTemplate(Money.from_minor_units(5_000, "JPY")),),
        Money.from_minor_units(50_000, "JPY"),
    ),
)


def balance(session: Session, account: int) -> int:
    """Return the balance in whole units."""
    return account_summary(session, actor=SYSTEM, account_id=account).balance_micros // UNIT


def facts(session: Session) -> list[int]:
    """Count everything that an act may leave behind."""
    kept = (Entry, StaffAct, ApprovalRequest, VoucherCode, IdempotencyKey)
    return [session.scalars(select(func.count()).select_from(each)).one() for each in kept]


# ── Within the limit ──────────────────────────────────────────────────────────────────────────
def test_an_act_within_the_limit_is_done_at_once(session: Session, agent: Actor) -> None:
    account = make_account(session)
    done = do(session, account, goodwill(LIMIT), agent, "one")
    assert isinstance(done, CompletedAction)
    assert done.amount == dollars(LIMIT)
    assert balance(session, account) == LIMIT
    assert do(session, account, goodwill(LIMIT), agent, "one") == done
    assert balance(session, account) == LIMIT
    with pytest.raises(IdempotencyMismatch):
        do(session, account, goodwill(1), agent, "one")
    (view,) = acts_of_entry(session, actor=agent, account_id=account, entry_sequence=1)
    assert (view.maker, view.checker, view.reason) == (
        f"user:{agent.user_id}",
        None,
        "Slow answers in March",
    )


def test_the_limit_is_on_the_sum_of_a_day(session: Session, agent: Actor) -> None:
    account, other = make_account(session), make_account(session)
    now = datetime.now(UTC)
    session.info[CLOCK] = lambda: now
    for _ in range(LIMIT // 10):
        assert isinstance(do(session, account, goodwill(10), agent), CompletedAction)
    assert isinstance(do(session, account, goodwill(1), agent), PendingApproval)
    assert isinstance(do(session, other, goodwill(LIMIT), agent), CompletedAction)
    session.info[CLOCK] = lambda: now + timedelta(hours=23, minutes=59)
    assert isinstance(do(session, account, goodwill(1), agent), PendingApproval)
    session.info[CLOCK] = lambda: now + timedelta(hours=24, minutes=1)
    assert isinstance(do(session, account, goodwill(1), agent), CompletedAction)


def test_what_two_people_did_leaves_the_limit_as_it_was(
    session: Session, agent: Actor, checker: Actor
) -> None:
    account = make_account(session)
    waiting = do(session, account, goodwill(LIMIT + 1), agent)
    approve_request(session, request_id=waiting.request_id, actor=checker)
    assert isinstance(do(session, account, goodwill(LIMIT), agent), CompletedAction)


def test_without_a_limit_everything_takes_two(session: Session, agent: Actor) -> None:
    account = make_account(session)
    session.execute(text("UPDATE action_limits SET daily_micros = 0"))
    assert isinstance(do(session, account, GiveGoodwill(UNIT, days=1), agent), PendingApproval)


def test_at_once_is_no_way_around_the_limit(
    session: Session, sessions: sessionmaker[Session], agent: Actor
) -> None:
    account = make_account(session)
    session.commit()

    def ask(number: int) -> bool:
        with sessions.begin() as mine:
            return isinstance(
                do(mine, account, goodwill(20), agent, f"at-once-{number}"), CompletedAction
            )

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(ask, range(8)))
    assert sum(done) == LIMIT // 20
    assert balance(session, account) == 40


# ── Above the limit ───────────────────────────────────────────────────────────────────────────
def test_above_the_limit_somebody_else_decides(
    session: Session, agent: Actor, checker: Actor
) -> None:
    account = make_account(session)
    waiting = do(session, account, goodwill(500), agent, "big")
    assert isinstance(waiting, PendingApproval)
    assert do(session, account, goodwill(500), agent, "big") == waiting
    assert balance(session, account) == 0
    assert waiting_counts(session, actor=checker).requests == 1
    done = approve_request(session, request_id=waiting.request_id, actor=checker)
    assert approve_request(session, request_id=waiting.request_id, actor=checker) == done
    assert balance(session, account) == 500
    assert waiting_counts(session, actor=checker).total == 0
    (view,) = acts_of_entry(session, actor=checker, account_id=account, entry_sequence=1)
    assert (view.maker, view.checker) == (f"user:{agent.user_id}", f"user:{checker.user_id}")
    (request,) = list_requests(session, actor=agent)
    assert (request.state, request.decided_by) == ("approved", f"user:{checker.user_id}")
    assert do(session, account, goodwill(500), agent, "big") == waiting
    assert not list(verify_ledger(session, actor=SYSTEM))


def test_nobody_agrees_to_their_own_wish(session: Session, checker: Actor) -> None:
    account = make_account(session)
    waiting = do(session, account, goodwill(50_000), checker)
    assert isinstance(waiting, PendingApproval)
    assert waiting_counts(session, actor=checker).requests == 0
    for decide in (approve_request, refuse):
        with pytest.raises(NotAuthorised):
            decide(session, request_id=waiting.request_id, actor=checker)


def refuse(session: Session, *, request_id: int, actor: Actor) -> None:
    reject_request(session, request_id=request_id, reason="Too much", actor=actor)


@pytest.mark.parametrize("role", [StaffRole.SUPPORT, StaffRole.ADMIN])
def test_only_finance_decides(
    session: Session, agent: Actor, make_person: Callable[[StaffRole], Actor], role: StaffRole
) -> None:
    waiting = do(session, make_account(session), goodwill(500), agent)
    for decide in (approve_request, refuse):
        with pytest.raises(NotAuthorised):
            decide(session, request_id=waiting.request_id, actor=make_person(role))


def test_a_refusal_needs_a_reason_and_ends_it(
    session: Session, agent: Actor, checker: Actor
) -> None:
    account = make_account(session)
    waiting = do(session, account, goodwill(500), agent)
    with pytest.raises(InvalidInput):
        reject_request(session, request_id=waiting.request_id, reason=" ", actor=checker)
    refuse(session, request_id=waiting.request_id, actor=checker)
    refuse(session, request_id=waiting.request_id, actor=checker)
    with pytest.raises(Conflict, match="already_decided"):
        approve_request(session, request_id=waiting.request_id, actor=checker)
    (request,) = list_requests(session, actor=agent, account_id=account)
    assert (request.state, request.remark) == ("rejected", "Too much")
    assert balance(session, account) == 0


def test_a_wish_can_be_taken_back_by_its_maker_only(
    session: Session, agent: Actor, checker: Actor
) -> None:
    waiting = do(session, make_account(session), goodwill(500), agent)
    with pytest.raises(NotAuthorised):
        withdraw_request(session, request_id=waiting.request_id, actor=checker)
    withdraw_request(session, request_id=waiting.request_id, actor=agent)
    withdraw_request(session, request_id=waiting.request_id, actor=agent)
    with pytest.raises(Conflict, match="already_decided"):
        approve_request(session, request_id=waiting.request_id, actor=checker)


@pytest.mark.parametrize("is_ended_by_job", [True, False])
def test_a_stale_wish_is_refused(
    session: Session, agent: Actor, checker: Actor, *, is_ended_by_job: bool
) -> None:
    account = make_account(session)
    waiting = do(session, account, goodwill(500), agent)
    session.info[CLOCK] = lambda: waiting.expires_at
    if is_ended_by_job:
        assert support.expire_requests(session, actor=SYSTEM) == 1
        assert support.expire_requests(session, actor=SYSTEM) == 0
    for decide in (approve_request, refuse):
        with pytest.raises(Conflict, match="request_expired"):
            decide(session, request_id=waiting.request_id, actor=checker)
    assert balance(session, account) == 0


def test_two_who_agree_at_once_do_it_once(
    session: Session,
    sessions: sessionmaker[Session],
    agent: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    account = make_account(session)
    waiting = do(session, account, goodwill(500), agent)
    checkers = [make_person(StaffRole.FINANCE) for _ in range(4)]
    session.commit()

    def agree(one: Actor) -> bool:
        with sessions.begin() as mine:
            try:
                approve_request(mine, request_id=waiting.request_id, actor=one)
            except Conflict:
                return False
            return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(agree, checkers)) == 1
    assert balance(session, account) == 500


# ── Judged again when somebody agrees ─────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET staff_role = NULL WHERE id = :maker",
        "UPDATE users SET staff_role = 'admin' WHERE id = :maker",
        "UPDATE users SET disabled_at = now() WHERE id = :maker",
        "INSERT INTO account_members VALUES (:account, :maker, 'owner', now())",
    ],
)
def test_a_maker_who_may_no_more_is_refused(
    session: Session, agent: Actor, checker: Actor, change: str
) -> None:
    account = make_account(session)
    waiting = do(session, account, goodwill(500), agent)
    values = {"maker": agent.user_id, "account": account}
    session.execute(text(change), {name: values[name] for name in values if f":{name}" in change})
    with pytest.raises(Conflict, match="maker_may_not"):
        approve_request(session, request_id=waiting.request_id, actor=checker)
    assert balance(session, account) == 0


def test_a_reversal_that_was_done_meanwhile_is_not_done_twice(
    session: Session, agent: Actor, checker: Actor
) -> None:
    account = make_account(session)
    grant(session, account, 1_000)
    outcome = charge(session, account, 500, occurred_at=datetime.now(UTC))
    wish = ReverseEntry(outcome.entry_sequence or 0)
    waiting = do(session, account, wish, agent)
    again = do(session, account, wish, agent)
    assert waiting.amount == again.amount == dollars(500)
    approve_request(session, request_id=waiting.request_id, actor=checker)
    with pytest.raises(ReversalExceedsOriginal):
        approve_request(session, request_id=again.request_id, actor=checker)
    assert balance(session, account) == 1_000


def test_nobody_acts_for_an_account_of_their_own(
    session: Session, agent: Actor, checker: Actor
) -> None:
    account = make_account(session)
    mine = {account: MemberRole.READER}
    with pytest.raises(NotAuthorised):
        do(session, account, goodwill(1), replace(agent, memberships=mine))
    waiting = do(session, account, goodwill(500), agent)
    with pytest.raises(NotAuthorised):
        approve_request(
            session,
            request_id=waiting.request_id,
            actor=replace(checker, memberships=mine),
        )


@pytest.mark.parametrize(
    "actor",
    [
        SYSTEM,
        user_actor(1, staff_role=StaffRole.ADMIN),
        user_actor(1, memberships={1: MemberRole.OWNER}),
    ],
)
def test_others_do_not_act(session: Session, actor: Actor) -> None:
    account = make_account(session)
    with pytest.raises((NotAuthorised, NotFound)):
        do(session, account, goodwill(1), actor)


# ── What can be done ──────────────────────────────────────────────────────────────────────────
def test_a_voucher_is_issued_and_the_customer_redeems_it(session: Session, agent: Actor) -> None:
    account, owner = customer(session)
    wish = IssueVoucher(campaign(session, is_for_support=True))
    done = do(session, account, wish, agent)
    assert isinstance(done, CompletedAction)
    assert done.code is not None
    assert balance(session, account) == 0
    redeem_code_unlimited(
        session, account_id=account, typed=done.code, actor=owner, idempotency_key="redeem"
    )
    assert balance(session, account) == 50
    with pytest.raises(VoucherRefused, match="used_by_this_account"):
        do(session, account, wish, agent)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "not_for_support"),
        ({"is_for_support": True, "site_codes": ("jp",), "offers": YEN}, "wrong_site"),
        ({"is_for_support": True, "countries": ("JP",)}, "wrong_country"),
    ],
)
def test_a_voucher_that_the_account_cannot_use_is_not_issued(
    session: Session, agent: Actor, changes: dict[str, Any], reason: str
) -> None:
    account, _ = customer(session)
    wish = IssueVoucher(campaign(session, **changes))
    before = facts(session)
    with pytest.raises(VoucherRefused, match=reason):
        do(session, account, wish, agent)
    assert facts(session) == before


def test_a_second_voucher_is_not_issued_while_the_first_waits(
    session: Session, agent: Actor
) -> None:
    account, _ = customer(session)
    wish = IssueVoucher(campaign(session, is_for_support=True))
    do(session, account, wish, agent)
    with pytest.raises(VoucherRefused, match="used_by_this_account"):
        do(session, account, wish, agent)


def test_an_approved_voucher_is_made_for_the_account(
    session: Session, agent: Actor, checker: Actor
) -> None:
    account, owner = customer(session)
    many = campaign(session, is_for_support=True, offers=(offer(400, 50_000),))
    waiting = do(session, account, IssueVoucher(many), agent)
    assert isinstance(waiting, PendingApproval)
    (request,) = list_requests(session, actor=checker)
    assert request.campaign is not None
    done = approve_request(session, request_id=waiting.request_id, actor=checker)
    assert done.code is not None
    redeem_code_unlimited(
        session, account_id=account, typed=done.code, actor=owner, idempotency_key="redeem"
    )
    assert balance(session, account) == 400


def test_a_code_is_applied_for_the_customer(session: Session, agent: Actor) -> None:
    account, _ = customer(session)
    (code,) = codes(session, campaign(session))
    done = do(session, account, ApplyCode(f" {code.lower()} "), agent, "apply")
    assert isinstance(done, CompletedAction)
    assert balance(session, account) == 50
    assert do(session, account, ApplyCode(f" {code.lower()} "), agent, "apply") == done
    with pytest.raises(VoucherRefused, match="used"):
        do(session, account, ApplyCode(code), agent)
    for unknown in ("ABCDE23456", "short"):
        with pytest.raises(VoucherRefused, match="unknown"):
            do(session, account, ApplyCode(unknown), agent)


def test_a_charge_is_reversed_in_part_and_whole(session: Session, agent: Actor) -> None:
    account = make_account(session)
    grant(session, account, 100)
    outcome = charge(session, account, 60, occurred_at=datetime.now(UTC))
    sequence = outcome.entry_sequence or 0
    do(session, account, ReverseEntry(sequence, 20 * UNIT), agent)
    assert balance(session, account) == 60
    done = do(session, account, ReverseEntry(sequence), agent)
    assert done.amount == dollars(40)
    assert balance(session, account) == 100
    with pytest.raises(ReversalExceedsOriginal):
        do(session, account, ReverseEntry(sequence), agent)
    assert not list(verify_ledger(session, actor=SYSTEM))


def test_paid_credit_is_not_reversed_but_refunded(session: Session, checker: Actor) -> None:
    account = make_account(session)
    grant(session, account, 100)
    with pytest.raises(InvalidInput, match="not_reversible"):
        do(session, account, ReverseEntry(1), checker)
    with pytest.raises(NotFound):
        do(session, account, ReverseEntry(99), checker)


@pytest.mark.parametrize(
    "wish",
    [
        GiveGoodwill(0, 30),
        GiveGoodwill(-UNIT, 30),
        GiveGoodwill(UNIT + 1, 30),
        GiveGoodwill(UNIT, 0),
        GiveGoodwill(UNIT, 366),
        GiveGoodwill(UNIT, 30, ("no-such-service",)),
        GiveGoodwill(2**62, 30),
    ],
)
def test_a_refused_wish_leaves_everything_as_it_was(
    session: Session, agent: Actor, wish: GiveGoodwill
) -> None:
    account = make_account(session)
    before = facts(session)
    with pytest.raises(BillingError):
        do(session, account, wish, agent)
    assert facts(session) == before


def test_a_reason_is_needed(session: Session, agent: Actor) -> None:
    account = make_account(session)
    for reason in ("", "  \n ", "x" * 201, "a\x00b"):
        with pytest.raises(InvalidInput, match="reason"):
            perform_or_request(
                session,
                account_id=account,
                action=goodwill(1),
                reason=reason,
                actor=agent,
                idempotency_key="why",
            )


# ── Reversals end at unspent credit ───────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["voucher", "adjustment"])
def test_reversal_of_spent_credit_ends_at_what_is_unspent(
    session: Session, agent: Actor, kind: str
) -> None:
    account = make_account(session)
    grant(session, account, 1_000)
    grant(session, account, 60, kind=kind)
    charge(session, account, 40, occurred_at=datetime.now(UTC))
    with pytest.raises(ReversalExceedsOriginal):
        do(session, account, ReverseEntry(2, 21 * UNIT), agent)
    done = do(session, account, ReverseEntry(2), agent)
    assert done.amount == dollars(20)
    assert paid_credit(session, account) == 1_000
    for amount in (None, UNIT):
        with pytest.raises(ReversalExceedsOriginal):
            do(session, account, ReverseEntry(2, amount), agent)
    assert not list(verify_ledger(session, actor=SYSTEM))


def test_reversal_leaves_held_credit_alone(session: Session, agent: Actor) -> None:
    account = make_account(session)
    grant(session, account, 60, kind="voucher")
    ledger.place_hold(
        session,
        account_id=account,
        service="ai-inference",
        amount_micros=50 * UNIT,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        source="test-model",
        actor=SYSTEM,
        idempotency_key=next_key("hold"),
    )
    assert do(session, account, ReverseEntry(1), agent).amount == dollars(10)
    with pytest.raises(ReversalExceedsOriginal):
        do(session, account, ReverseEntry(1), agent)


def test_support_may_not_reverse_what_was_spent(session: Session, agent: Actor) -> None:
    account = make_account(session)
    grant(session, account, 60, kind="voucher")
    charge(session, account, 40, occurred_at=datetime.now(UTC))
    before = facts(session)
    with pytest.raises(NotAuthorised):
        do(session, account, ReverseEntry(1, includes_spent=True), agent)
    with pytest.raises(ReversalExceedsOriginal):
        ledger.reverse_entry(
            session,
            account_id=account,
            entry_sequence=1,
            amount_micros=60 * UNIT,
            reason="Past the form",
            actor=agent,
            idempotency_key="past",
        )
    assert facts(session) == before


def test_finance_reverses_what_was_spent_where_it_says_so(session: Session, checker: Actor) -> None:
    account = make_account(session)
    grant(session, account, 1_000)
    grant(session, account, 60, kind="voucher")
    charge(session, account, 40, occurred_at=datetime.now(UTC))
    assert do(session, account, ReverseEntry(2), checker).amount == dollars(20)
    assert paid_credit(session, account) == 1_000
    assert do(session, account, ReverseEntry(2, includes_spent=True), checker).amount == dollars(40)
    assert paid_credit(session, account) == 960
    assert not list(verify_ledger(session, actor=SYSTEM))


def test_approval_does_not_reach_further_than_its_maker(
    session: Session, agent: Actor, checker: Actor
) -> None:
    account = make_account(session)
    grant(session, account, 900, kind="voucher")
    waiting = do(session, account, ReverseEntry(1), agent)
    charge(session, account, 40, occurred_at=datetime.now(UTC))
    with pytest.raises(ReversalExceedsOriginal):
        approve_request(session, request_id=waiting.request_id, actor=checker)
    assert balance(session, account) == 860


def test_preview_shows_the_effect_and_leaves_nothing(session: Session, agent: Actor) -> None:
    account = make_account(session)
    grant(session, account, 1_000)
    grant(session, account, 60, kind="voucher")
    charge(session, account, 40, occurred_at=datetime.now(UTC))
    before = facts(session)
    found = preview_action(session, account_id=account, action=ReverseEntry(2), actor=agent)
    assert found.amount == dollars(20)
    assert (found.before.balance_micros, found.after.balance_micros) == (1_020 * UNIT, 1_000 * UNIT)
    assert facts(session) == before
    assert balance(session, account) == 1_020
    with pytest.raises(NotAuthorised):
        preview_action(
            session,
            account_id=account,
            action=ReverseEntry(2),
            actor=user_actor(1, staff_role=StaffRole.ADMIN),
        )


def paid_credit(session: Session, account: int) -> int:
    overview = account_overview(session, actor=SYSTEM, account_id=account)
    return sum(each.remaining_micros for each in overview.kinds if each.kind == "top_up") // UNIT


# ── Limits ────────────────────────────────────────────────────────────────────────────────────
def test_administrators_edit_limits_and_nobody_else(
    session: Session, make_person: Callable[[StaffRole], Actor]
) -> None:
    admin = make_person(StaffRole.ADMIN)
    (limit,) = (
        each
        for each in support.list_action_limits(session, actor=admin)
        if (each.action, each.role, each.daily.currency)
        == ("give_goodwill", StaffRole.SUPPORT, "USD")
    )
    assert limit.daily == dollars(LIMIT)

    def change(actor: Actor, version: int, key: str) -> int:
        return support.change_action_limit(
            session,
            action="give_goodwill",
            role=StaffRole.SUPPORT,
            daily=dollars(5),
            expected_version=version,
            actor=actor,
            idempotency_key=key,
        )

    for role in (StaffRole.SUPPORT, StaffRole.FINANCE):
        with pytest.raises(NotAuthorised):
            change(make_person(role), limit.version, "other")
    assert change(admin, limit.version, "one") == limit.version + 1
    assert change(admin, limit.version, "one") == limit.version + 1
    with pytest.raises(Conflict, match="limits_changed"):
        change(admin, limit.version, "two")
    agent = make_person(StaffRole.SUPPORT)
    account = make_account(session)
    assert isinstance(do(session, account, goodwill(5), agent), CompletedAction)
    assert isinstance(do(session, account, goodwill(1), agent), PendingApproval)


@pytest.mark.parametrize(
    ("action", "role", "daily"),
    [
        ("unknown", StaffRole.SUPPORT, Money(0, "USD")),
        ("give_goodwill", StaffRole.ADMIN, Money(0, "USD")),
        ("give_goodwill", StaffRole.SUPPORT, Money(-1, "USD")),
        ("give_goodwill", StaffRole.SUPPORT, Money(1, "USD")),
    ],
)
def test_limits_that_make_no_sense_are_refused(
    session: Session, action: str, role: StaffRole, daily: Money
) -> None:
    with pytest.raises(InvalidInput):
        support.change_action_limit(
            session,
            action=action,
            role=role,
            daily=daily,
            expected_version=1,
            actor=user_actor(1, staff_role=StaffRole.ADMIN),
            idempotency_key="nonsense",
        )


# ── Notes and names ───────────────────────────────────────────────────────────────────────────
def test_notes_are_kept_once(session: Session, agent: Actor) -> None:
    account = make_account(session)

    def write(words: str, key: str = "note") -> int:
        return support.add_note(
            session, account_id=account, text=words, actor=agent, idempotency_key=key
        )

    first = write(" Asked twice.\n\nCalls back on Monday. ")
    assert write(" Asked twice.\n\nCalls back on Monday. ") == first
    kept = session.scalars(text("SELECT text FROM account_notes")).one()
    assert kept == "Asked twice.\n\nCalls back on Monday."
    for words in ("", " \n ", "a\x07b", "x" * 2_001):
        with pytest.raises(InvalidInput, match="text"):
            write(words, "other")
    with pytest.raises(NotAuthorised):
        support.add_note(session, account_id=account, text="Hi", actor=SYSTEM, idempotency_key="1")
    with pytest.raises(NotFound):
        support.add_note(session, account_id=99, text="Hi", actor=agent, idempotency_key="1")


def test_people_have_names_for_staff(session: Session, agent: Actor) -> None:
    name = f"user:{agent.user_id}"
    found = names_of(session, actor=agent, actors=[name, "system:jobs", "user:999", None])
    assert found == {name: "Support Person"}
    with pytest.raises(NotAuthorised):
        names_of(session, actor=SYSTEM, actors=[name])
