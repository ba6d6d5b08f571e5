"""Who may do what is checked in the service: each action against each kind of person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from domain import ledger
from domain.accounts import invitations, members, open_account
from domain.actors import Actor, MemberRole, StaffRole, user_actor
from domain.analytics.queries import analytics_choices
from domain.billing_profiles import current_profile, profile_choices, profile_history, save_profile
from domain.bootstrap import load_reference
from domain.errors import NotAuthorised, NotFound
from domain.history.details import entry_detail
from domain.history.pages import history_page
from domain.history.rows import HistoryFilter
from domain.identity import AuthPolicy
from domain.ledger.balances import account_overview
from domain.ledger.journal import JournalLine, post_journal_entry
from domain.metering.usage import record_usage
from domain.money import Money
from domain.payments.top_up_limits import change_limits, list_limits
from domain.support.account_search import find_accounts
from tests.factories import UNIT, grant, make_account, make_charge, next_key
from tests.support.roles import PROFILE, add_people, call, hold, may, people

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session


def give(kind: str, consideration_micros: int = 0) -> Callable[[Session, int, Actor], Any]:
    def act(session: Session, account: int, actor: Actor) -> Any:
        return ledger.add_grant(
            session,
            account_id=account,
            terms=ledger.GrantTerms(
                kind=kind, amount_micros=UNIT, consideration_micros=consideration_micros
            ),
            source=kind,
            actor=actor,
            idempotency_key=next_key(),
        )

    return act


def charge(session: Session, account: int, actor: Actor) -> Any:
    one = make_charge(account, 1, occurred_at=datetime.now(UTC))
    return ledger.charge_batch(session, charges=[one], actor=actor)


RULES = AuthPolicy(key=b"a key of the tests")
MEMBERS = {"owner", "billing", "reader"}
STAFF = {"support", "finance", "admin"}
ACTIONS: dict[str, tuple[Callable[[Session, int, Actor], Any], set[str]]] = {
    "grant a top-up": (give("top_up"), {"finance"}),
    "grant a plan": (give("plan"), {"finance"}),
    "grant a voucher": (give("voucher"), {"support", "finance"}),
    "grant goodwill": (give("adjustment"), {"support", "finance"}),
    "grant a voucher that was paid for": (give("voucher", consideration_micros=1), {"finance"}),
    "charge": (charge, set()),
    "record usage": (lambda s, _, actor: record_usage(s, events=[], actor=actor), set()),
    "hold": (hold, set()),
    "void a hold": (call(ledger.void_hold, hold_number=1, idempotency_key="void"), set()),
    "expire grants": (lambda s, _, actor: ledger.expire_grants(s, actor=actor), set()),
    "fold totals": (lambda s, _, actor: ledger.fold_totals(s, actor=actor), set()),
    "expire holds": (lambda s, _, actor: ledger.expire_holds(s, actor=actor), set()),
    "reverse a top-up": (
        call(ledger.reverse_entry, entry_sequence=1, reason="mistake", idempotency_key="reverse"),
        {"finance"},
    ),
    "reverse a voucher": (
        call(ledger.reverse_entry, entry_sequence=2, reason="mistake", idempotency_key="reverse"),
        {"support", "finance"},
    ),
    "refund": (
        call(
            ledger.claw_back_credit,
            kind="refund",
            grant_numbers=[1],
            amount_micros=1,
            source="bank",
            idempotency_key="refund",
        ),
        {"finance"},
    ),
    "write off": (
        call(ledger.write_off_debt, amount_micros=1, reason="lost", idempotency_key="write-off"),
        {"finance"},
    ),
    "verify the ledger": (lambda s, _, actor: ledger.verify_ledger(s, actor=actor), STAFF),
    "load prices": (lambda s, _, actor: load_reference(s, actor=actor), {"finance"}),
    "open an account": (
        lambda s, _, actor: open_account(
            s, site_code="global", name="New", currency="USD", actor=actor
        ),
        {"support", "admin"},
    ),
    "find accounts": (lambda s, _, actor: find_accounts(s, actor=actor, search_text=""), STAFF),
    "see the analytics": (
        lambda s, _, actor: analytics_choices(s, actor=actor),
        {"finance", "admin"},
    ),
    "see the balance": (call(account_overview), MEMBERS | STAFF),
    "see the history": (call(history_page, filters=HistoryFilter()), MEMBERS | STAFF),
    "see the members": (call(members.list_members), MEMBERS | STAFF),
    "invite a member": (
        call(
            invitations.invite_member,
            email="new@example.com",
            role=MemberRole.READER,
            idempotency_key="invite",
            policy=RULES,
        ),
        {"owner", "admin"},
    ),
    "resend an invitation": (
        call(
            invitations.resend_invitation, invitation_id=1, idempotency_key="resend", policy=RULES
        ),
        {"owner", "admin"},
    ),
    "withdraw an invitation": (
        call(invitations.withdraw_invitation, invitation_id=1, idempotency_key="withdraw"),
        {"owner", "admin"},
    ),
    "change a role": (
        call(members.change_role, user_id=5, role=MemberRole.OWNER, idempotency_key="change"),
        {"owner", "admin"},
    ),
    "remove a member": (
        call(members.remove_member, user_id=5, idempotency_key="remove"),
        {"owner", "admin"},
    ),
    "leave": (call(members.leave_account, idempotency_key="leave"), MEMBERS),
    "see an entry": (call(entry_detail, sequence=1), MEMBERS | STAFF),
    "save the billing profile": (
        call(
            save_profile,
            profile=PROFILE,
            currency=None,
            expected_version=0,
            idempotency_key="profile",
        ),
        {"owner", "billing"},
    ),
    "see the billing profile": (call(current_profile), MEMBERS | STAFF),
    "see the history of the billing profile": (call(profile_history), MEMBERS | STAFF),
    "see what a billing profile may say": (call(profile_choices), MEMBERS | STAFF),
    "see the limits of top-ups": (lambda s, _, actor: list_limits(s, actor=actor), STAFF),
    "change the limits of top-ups": (
        lambda s, _, actor: change_limits(
            s,
            currency="USD",
            minimum=Money(UNIT, "USD"),
            maximum=Money(UNIT, "USD"),
            presets=[Money(UNIT, "USD")],
            expected_version=1,
            actor=actor,
            idempotency_key="limits",
        ),
        {"finance"},
    ),
}
ONLY_PEOPLE = {"find accounts", "see the analytics", "leave", "change the limits of top-ups"}


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_open_to_these_and_to_nobody_else(session: Session, action: str) -> None:
    account = make_account(session)
    add_people(session, account)
    grant(session, account, 10)
    grant(session, account, 10, kind="voucher")
    act, allowed = ACTIONS[action]
    for name, actor in people(account).items():
        with session.begin_nested() as attempt:
            if name in allowed or (name == "system" and action not in ONLY_PEOPLE):
                assert may(act, session, account, actor), (action, name)
            else:
                with pytest.raises((NotAuthorised, NotFound)):
                    act(session, account, actor)
            attempt.rollback()


def test_finance_postings_are_for_finance(session: Session) -> None:
    lines = [JournalLine("1010", UNIT, "USD"), JournalLine("1110.stripe", -UNIT, "USD")]
    for name, actor in people(make_account(session)).items():
        arguments = {
            "site_code": "global",
            "kind": "payout",
            "reference": name,
            "occurred_at": datetime.now(UTC),
            "lines": lines,
            "actor": actor,
            "idempotency_key": name,
        }
        if name in {"system", "finance"}:
            post_journal_entry(session, **arguments)  # type: ignore[arg-type]
        else:
            with pytest.raises((NotAuthorised, NotFound)):
                post_journal_entry(session, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "action", ["grant a top-up", "grant goodwill", "reverse a top-up", "refund"]
)
def test_staff_move_no_credit_of_an_account_that_they_belong_to(
    session: Session, action: str
) -> None:
    account = make_account(session)
    grant(session, account, 10)
    own = user_actor(9, staff_role=StaffRole.FINANCE, memberships={account: MemberRole.READER})
    with pytest.raises(NotAuthorised):
        ACTIONS[action][0](session, account, own)
