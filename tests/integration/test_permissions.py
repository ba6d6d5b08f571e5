"""Each action of the table against each role, called on the service, the denied ones included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from domain import jobs, key_rotation, ledger, payments, staff, support, vouchers
from domain.accounts import add_member, members, open_account
from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.analytics.queries import analytics_choices
from domain.audit import chain
from domain.audit.queries import AuditFilter, audit_page
from domain.billing_profiles import save_profile
from domain.bootstrap import load_reference
from domain.errors import BillingError, NotAuthorised, NotFound
from domain.fraud_signals import reasons_of
from domain.gateways.interface import RefundState, RefundUpdate
from domain.history import export_jobs
from domain.identity import AuthPolicy, purge_identity
from domain.identity.queries import names_of
from domain.ledger import journal
from domain.ledger.balances import account_overview
from domain.ledger.verify import verify_ledger
from domain.money import Money
from domain.payments import bank_transfers, exchange_rates, reviews
from domain.payments.gateway_updates import apply_updates
from domain.payments.queries import find_payments
from domain.payments.top_up_limits import change_limits, list_limits
from domain.permissions import PERMISSIONS, allows
from domain.security.keyring import Keyring
from domain.security.payload_encryption import Vault
from domain.support.account_search import find_accounts
from domain.support.account_timeline import account_timeline
from domain.support.queries import list_requests
from tests.factories import UNIT, charge, grant, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.support.campaigns import terms
from tests.support.keys import SECRET
from tests.support.roles import PROFILE, add_people, call, people

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

ACTIONS = [action for area in PERMISSIONS.values() for action in area]
VAULT = Vault(b"the-secret-key-of-these-tests-0123456789")
MAKER = user_actor(800, staff_role=StaffRole.FINANCE)
RATE_MAKER = user_actor(801, staff_role=StaffRole.FINANCE)
RULES = AuthPolicy(key=b"a key of the tests")


@dataclass
class World:
    """What services are asked about: nothing in it can be done by chance."""

    session: Session
    sessions: sessionmaker[Session]
    account: int
    payment: int
    reference: str
    campaign: int
    request: int
    transfer: int
    rate: int


@pytest.fixture
def world(session: Session, sessions: sessionmaker[Session]) -> World:
    """An account of dong with a little of everything."""
    account, owner = payer(session)
    add_people(session, account)
    refused_money(session, account, owner)
    grant(session, account, 1_000_000)
    grant(session, account, 1_000, kind="voucher")
    charge(session, account, 500, occurred_at=datetime.now(UTC))
    payment = begin(session, ScriptedGateway(), account, owner, dong(550_000))
    campaign = vouchers.request_campaign(
        session, terms=terms(), actor=MAKER, idempotency_key="campaign"
    )
    waiting = support.perform_or_request(
        session,
        account_id=account,
        action=support.GiveGoodwill(900_000_000 * UNIT, 30),
        reason="Much",
        actor=MAKER,
        idempotency_key="much",
    )
    assert isinstance(waiting, support.PendingApproval)
    transfer = bank_transfers.record_transfer(session, actor=MAKER, **transfer_of(account, "FT0"))
    rate = exchange_rates.request_rate(session, actor=RATE_MAKER, **rate_of(25_000))
    session.commit()
    return World(
        session,
        sessions,
        account,
        payment.payment_id,
        payment.reference,
        campaign,
        waiting.request_id,
        transfer,
        rate,
    )


def refused_money(session: Session, account: int, owner: Actor) -> None:
    """Have money come that people refuse, and that is owed from then on."""
    gateway = ScriptedGateway()
    started = begin(session, gateway, account, owner, dong(600_000))
    update = paid(started.reference, dong(1_000), number="odd")
    apply_updates(session, gateway=gateway, updates=(update,), actor=GATEWAYS)
    found = reviews.reviews_of(session, payment_id=started.payment_id, actor=MAKER).waiting[0]
    reviews.reject_payment(
        session,
        payment_id=started.payment_id,
        case_id=found.case.id,
        reason="odd",
        actor=MAKER,
    )
    part = RefundUpdate("part", RefundState.PENDING, dong(10), payment_reference=started.reference)
    apply_updates(session, gateway=gateway, updates=(part,), actor=GATEWAYS)


def transfer_of(account: int, reference: str) -> dict[str, Any]:
    return {
        "account_id": account,
        "amount": dong(1_000_000),
        "bank_reference": reference,
        "received_on": date(2026, 1, 15),
        "evidence": bank_transfers.Evidence("slip.pdf", b"%PDF-1.7 a slip"),
        "remark": "",
    }


def rate_of(rate: int) -> dict[str, Any]:
    return {
        "base_currency": "USD",
        "quote_currency": "VND",
        "rate": Decimal(rate),
        "margin_basis_points": 0,
        "source": "bank",
        "as_of": datetime.now(UTC) - timedelta(minutes=1),
    }


def gift(world: World, actor: Actor, kind: str = "adjustment") -> Any:
    return ledger.add_grant(
        world.session,
        account_id=world.account,
        terms=ledger.GrantTerms(
            kind=kind, amount_micros=UNIT, consideration_micros=UNIT if kind == "top_up" else 0
        ),
        source=kind,
        actor=actor,
        idempotency_key=next_key(),
    )


def act(world: World, actor: Actor) -> Any:
    return support.perform_or_request(
        world.session,
        account_id=world.account,
        action=support.GiveGoodwill(UNIT, 30),
        reason="Slow answers",
        actor=actor,
        idempotency_key=next_key(),
    )


def reverse(world: World, actor: Actor, entry: int) -> Any:
    return ledger.reverse_entry(
        world.session,
        account_id=world.account,
        entry_sequence=entry,
        reason="mistake",
        actor=actor,
        idempotency_key=next_key(),
    )


def on_account(service: Callable[..., Any], **fixed: Any) -> Callable[[World, Actor], Any]:
    ask = call(service, **fixed)
    return lambda world, actor: ask(world.session, world.account, actor)


def on_session(service: Callable[..., Any], **fixed: Any) -> Callable[[World, Actor], Any]:
    return lambda world, actor: service(world.session, actor=actor, **fixed)


def of_campaign(service: Callable[..., Any], **fixed: Any) -> Callable[[World, Actor], Any]:
    return lambda world, actor: service(
        world.session, campaign_id=world.campaign, actor=actor, **fixed
    )


CALLS: dict[str, Callable[[World, Actor], Any]] = {
    "see_account": on_account(account_overview),
    "find_accounts": on_session(find_accounts, search_text=""),
    "see_timeline": on_account(account_timeline),
    "see_ties": on_account(reasons_of),
    "see_people": on_session(names_of, actors=["user:1"]),
    "write_note": on_account(support.add_note, text="Called", idempotency_key="note"),
    "open_account": on_session(open_account, site_code="global", name="New", currency="USD"),
    "add_member": on_account(add_member, user_id=1, role=MemberRole.READER),
    "manage_members": on_account(members.remove_member, user_id=999_999, idempotency_key="remove"),
    "save_profile": on_account(
        save_profile,
        profile=PROFILE,
        currency=None,
        expected_version=99,
        idempotency_key="profile",
    ),
    "pay": lambda world, actor: begin(
        world.session, ScriptedGateway(), world.account, actor, dong(1)
    ),
    "ask_gateway": lambda world, actor: payments.check_payment(
        world.sessions, gateway=ScriptedGateway(), payment_id=world.payment, actor=actor
    ),
    "look_up_payments": on_session(find_payments, search_text="", only_waiting=False),
    "resend_receipt": lambda world, actor: payments.resend_receipt(
        world.session, vault=VAULT, reference=world.reference, actor=actor
    ),
    "refund_payment": lambda world, actor: payments.request_refund(
        world.session,
        payment_id=world.payment,
        amount=dong(1_000),
        reason="asked",
        actor=actor,
        idempotency_key="refund",
    ),
    "decide_payment": lambda world, actor: reviews.approve_payment(
        world.session, payment_id=world.payment, case_id=1, reason="seen", actor=actor
    ),
    "record_return": on_session(reviews.record_return, review_id=1, reference="R1"),
    "record_payout": on_session(payments.record_payout, refund_id=1, reference="R1"),
    "cancel_refund": on_session(payments.cancel_refund, refund_id=1, reason="a mistake"),
    "see_transfers": on_session(bank_transfers.list_transfers),
    "see_evidence": lambda world, actor: bank_transfers.evidence_of(
        world.session, transfer_id=world.transfer, actor=actor
    ),
    "record_transfer": lambda world, actor: bank_transfers.record_transfer(
        world.session, actor=actor, **transfer_of(world.account, next_key("FT"))
    ),
    "decide_transfer": lambda world, actor: bank_transfers.decide_transfer(
        world.session, transfer_id=world.transfer, is_approved=False, actor=actor
    ),
    "issue_documents": on_session(payments.issue_documents, vault=VAULT),
    "see_rates": on_session(exchange_rates.list_rates),
    "request_rate": on_session(exchange_rates.request_rate, **rate_of(26_000)),
    "decide_rate": lambda world, actor: exchange_rates.decide_rate(
        world.session, rate_id=world.rate, is_approved=False, actor=actor
    ),
    "load_rate": lambda world, actor: exchange_rates.load_rate(
        world.session, rate_id=world.rate, actor=actor
    ),
    "see_top_up_limits": on_session(list_limits),
    "change_top_up_limits": on_session(
        change_limits,
        currency="USD",
        minimum=Money(UNIT, "USD"),
        maximum=Money(UNIT, "USD"),
        presets=[Money(UNIT, "USD")],
        expected_version=99,
        idempotency_key="limits",
    ),
    "see_action_limits": on_session(support.list_action_limits),
    "change_action_limit": on_session(
        support.change_action_limit,
        action="give_goodwill",
        role=StaffRole.SUPPORT,
        daily=Money(UNIT, "USD"),
        expected_version=99,
        idempotency_key="limit",
    ),
    "load_reference": on_session(load_reference),
    "redeem_code": on_account(
        vouchers.redeem_code_unlimited, typed="nothing", idempotency_key="code"
    ),
    "see_campaigns": on_session(vouchers.list_campaigns),
    "request_campaign": on_session(
        vouchers.request_campaign, terms=terms(name=""), idempotency_key="campaign"
    ),
    "decide_campaign": of_campaign(vouchers.decide_campaign, is_approved=False),
    "end_campaign": of_campaign(vouchers.end_campaign),
    "see_batches": of_campaign(vouchers.list_batches),
    "make_codes": of_campaign(vouchers.generate_codes, count=1, idempotency_key="codes"),
    "download_codes": on_session(vouchers.codes_of_batch, batch_id=1),
    "revoke_codes": of_campaign(vouchers.revoke_codes, reason="leaked"),
    "act_on_account": act,
    "see_requests": on_session(list_requests),
    "decide_request": lambda world, actor: support.reject_request(
        world.session, request_id=world.request, reason="Too much", actor=actor
    ),
    "expire_requests": on_session(support.expire_requests),
    "charge": on_session(ledger.expire_grants),
    "give_credit": gift,
    "post_paid_credit": lambda world, actor: gift(world, actor, "top_up"),
    "reverse_entry": lambda world, actor: reverse(world, actor, 2),
    "reverse_paid_credit": lambda world, actor: reverse(world, actor, 1),
    "claw_back_credit": on_account(
        ledger.claw_back_credit,
        kind="refund",
        grant_numbers=[1],
        amount_micros=1,
        source="bank",
        idempotency_key="back",
    ),
    "write_off_debt": on_account(
        ledger.write_off_debt, amount_micros=1, reason="lost", idempotency_key="off"
    ),
    "post_journal_entry": on_session(
        journal.post_journal_entry,
        site_code="vn",
        kind="payout",
        reference="P1",
        occurred_at=datetime.now(UTC),
        lines=[],
        idempotency_key="payout",
    ),
    "verify_ledger": on_session(verify_ledger),
    "see_analytics": on_session(analytics_choices),
    "see_audit": on_session(audit_page, filters=AuditFilter()),
    "verify_audit": on_session(chain.verify_audit),
    "seal_audit": on_session(chain.seal_audit_log),
    "manage_people": on_session(
        staff.change_staff_role, user_id=999_999, role=StaffRole.SUPPORT, reason="hired"
    ),
    "decide_role_request": on_session(staff.approve_role_request, request_id=999_999),
    "object_to_role_request": on_session(staff.object_to_role_request, request_id=999_999),
    "end_role_requests": on_session(staff.end_due_role_requests),
    "create_person": on_session(
        staff.create_person, email="", display_name="", password="", role=None
    ),
    "review_access": on_session(staff.list_staff),
    "purge_identity": on_session(purge_identity),
    "rotate_keys": lambda world, actor: key_rotation.rotate_keys(
        world.sessions, keyring=Keyring(SECRET), actor=actor
    ),
    "run_jobs": on_session(export_jobs.forget_exports),
}


def everybody(account: int) -> dict[str, Actor]:
    insider = user_actor(1, staff_role=StaffRole.FINANCE, memberships={account: MemberRole.READER})
    return {**people(account), "insider": insider}


def is_denied(ask: Callable[[World, Actor], Any], world: World, actor: Actor) -> bool:
    """Whether the right was refused; anything else may be wrong with what was asked."""
    try:
        ask(world, actor)
    except NotAuthorised:
        return True
    except NotFound as missing:
        return missing.kind in {"account", "payment"} and not actor.is_staff
    except BillingError:
        return False
    return False


def test_every_action_has_a_call() -> None:
    assert list(CALLS) == ACTIONS


@pytest.mark.parametrize("action", ACTIONS)
def test_the_service_does_what_the_table_says(world: World, action: str) -> None:
    for name, actor in everybody(world.account).items():
        savepoint = world.session.begin_nested()
        denied = is_denied(CALLS[action], world, actor)
        savepoint.rollback()
        assert denied is not allows(actor, action, world.account), (action, name)


def test_the_runner_of_jobs_is_the_products_own(sessions: sessionmaker[Session]) -> None:
    jobs.JobRunner(sessions, (), system_actor("tests"))
    for actor in everybody(1).values():
        if not actor.is_system:
            with pytest.raises(NotAuthorised):
                jobs.JobRunner(sessions, (), actor)
