"""Find, lock and record payments, for the other services of this package."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from db.models import Account, Payment, PaymentEvent
from domain import audit, clock
from domain.actors import system_actor
from domain.gateways.interface import KnownPayment
from domain.gateways.registry import BANK
from domain.ledger import GrantTerms
from domain.ledger import chart_of_accounts as chart
from domain.ledger.journal import JournalLine, post_journal_entry
from domain.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from domain.actors import Actor
    from domain.gateways.interface import Gateway, KnownName

_log = logging.getLogger(__name__)

GATEWAY_ACTOR = system_actor("gateways")
"""In whose name updates of gateways are written, whoever had the gateway asked."""

"""The gateway of payments that came on the bank account: nobody can be asked about them."""

ENTRY = "entry"
"""The detail of a step that names the entry of the ledger which tells of the same event."""

ATTEMPT_REFUSED = "attempt_refused"
"""The step that a gateway refused to take what was approved, and the customer may try again."""

INSTRUCTIONS = "instructions"
"""The step that tells where the customer reads how to pay at a store."""

FIRST_CHECK = timedelta(minutes=1)
"""How long a gateway may be silent before it is asked."""

_MAX_DOUBLINGS = 6


def lock_payment(session: Session, payment_id: int) -> Payment | None:
    """Lock a payment against changes by others until the transaction ends, and return it.

    Inserting a row that refers to it does not wait for this lock, and so cannot deadlock with it.
    """
    return session.get(
        Payment, payment_id, with_for_update={"key_share": True}, populate_existing=True
    )


def lock_by_name(
    session: Session, *, gateway: str, is_sandbox: bool, name: KnownName
) -> Payment | None:
    """Return the payment that a gateway names, locked; the first id that is known counts.

    A payment created with the real gateway is not its sandbox's, and the reverse.
    """
    for condition in _conditions(gateway, is_sandbox=is_sandbox, name=name):
        found = session.scalars(
            select(Payment)
            .where(*condition)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        ).one_or_none()
        if found is not None:
            return found
    return None


def find_id(session: Session, gateway: Gateway, name: KnownName) -> int | None:
    """Return the id of the payment that a gateway names, without locking it."""
    for condition in _conditions(gateway.name, is_sandbox=gateway.is_sandbox, name=name):
        found = session.scalars(select(Payment.id).where(*condition)).one_or_none()
        if found is not None:
            return found
    return None


def _conditions(
    gateway: str, *, is_sandbox: bool, name: KnownName
) -> Iterator[tuple[ColumnElement[bool], ...]]:
    """Yield the condition of a payment by each of its ids, the one that counts first."""
    names: list[tuple[InstrumentedAttribute[Any], str | None]] = [
        (Payment.reference, name.reference),
        (Payment.gateway_reference, name.gateway_reference),
        (Payment.gateway_payment_id, name.gateway_payment_id),
    ]
    if name.is_money_first:
        names.reverse()
    for column, value in names:
        if value:
            yield Payment.gateway == gateway, Payment.is_sandbox == is_sandbox, column == value


def reference_of(session: Session, *, gateway: str, name: KnownName) -> str | None:
    """Return our reference of a payment as its gateway names it, or None."""
    column, value = (
        (Payment.reference, name.reference)
        if name.reference
        else (Payment.gateway_reference, name.gateway_reference)
    )
    if not value:
        return None
    statement = select(Payment.reference).where(Payment.gateway == gateway, column == value)
    return session.scalars(statement).first()


def known(session: Session, payment: Payment) -> KnownPayment:
    """Return what a gateway needs to recognise the payment, and to take its money once."""
    return KnownPayment(
        reference=payment.reference,
        gateway_reference=payment.gateway_reference,
        gateway_payment_id=payment.gateway_payment_id,
        amount=pay_amount(payment),
        created_at=payment.created_at,
        refusals=_next_attempt(session, payment),
    )


def _next_attempt(session: Session, payment: Payment) -> int:
    """Return the number of the next attempt to take what was approved.

    It is the last one's number again, which changes nothing, while the gateway offers what it has
    just declined: the customer is not charged over and over.
    """
    refused = session.execute(
        select(PaymentEvent.happened_at, PaymentEvent.details)
        .where(
            PaymentEvent.account_id == payment.account_id,
            PaymentEvent.payment_id == payment.id,
            PaymentEvent.kind == ATTEMPT_REFUSED,
        )
        .order_by(PaymentEvent.id)
    ).all()
    count = len(refused)
    if not refused or not refused[-1].details.get("is_offered_again"):
        return count
    wait = FIRST_CHECK * 2 ** min(count - 1, _MAX_DOUBLINGS)
    is_too_soon = clock.now(session) < refused[-1].happened_at + wait
    return count - 1 if is_too_soon else count


def pay_amount(payment: Payment) -> Money:
    """Return the amount paid."""
    return Money(payment.pay_micros, payment.pay_currency)


def add_event(
    session: Session,
    payment: Payment,
    kind: str,
    *,
    actor: Actor,
    details: Mapping[str, Any] | None = None,
) -> PaymentEvent:
    """Add a step to the payment's timeline; details are codes, ids and amounts only."""
    step = PaymentEvent(
        account_id=payment.account_id,
        payment_id=payment.id,
        kind=kind,
        actor=audit.actor_name(actor),
        details=dict(details or {}),
    )
    session.add(step)
    return step


def entry_details(entry_sequence: int | None) -> dict[str, int]:
    """Return what a step keeps of the ledger entry for the same event, if there is one."""
    return {} if entry_sequence is None else {ENTRY: entry_sequence}


def add_event_once(
    session: Session, payment: Payment, kind: str, *, actor: Actor, details: Mapping[str, Any]
) -> bool:
    """Add a step to a locked payment unless it is there already; return whether it was added."""
    if count_events(session, payment, kind, details=details):
        return False
    add_event(session, payment, kind, actor=actor, details=details)
    return True


def report_discrepancy(
    session: Session, payment: Payment, kind: str, *, actor: Actor, details: Mapping[str, Any]
) -> bool:
    """Report, once, an amount that the ledger does not have; return whether it is new."""
    is_new = add_event_once(session, payment, kind, actor=actor, details=details)
    if is_new:
        _log.error("payment %d needs a person: %s", payment.id, kind)
    return is_new


def count_events(
    session: Session, payment: Payment, kind: str, *, details: Mapping[str, Any] | None = None
) -> int:
    """Return how many steps of a kind have these details, among others."""
    return session.scalars(
        select(func.count())
        .select_from(PaymentEvent)
        .where(
            PaymentEvent.account_id == payment.account_id,
            PaymentEvent.payment_id == payment.id,
            PaymentEvent.kind == kind,
            PaymentEvent.details.contains(dict(details or {})),
        )
    ).one()


def grant_terms(payment: Payment, credit_micros: int, pay_micros: int) -> GrantTerms:
    """Return the terms of the credit that an amount of the payment's money buys."""
    is_exchanged = payment.pay_currency != payment.credit_currency
    return GrantTerms(
        kind="top_up",
        amount_micros=credit_micros,
        consideration_micros=credit_micros,
        origin=payment.reference,
        paid_micros=pay_micros if is_exchanged else None,
        paid_currency=payment.pay_currency if is_exchanged else None,
    )


def cash_account(payment: Payment) -> str:
    """Return the account of the chart where the payment's money is: the bank, or a gateway."""
    is_bank = payment.gateway == BANK
    return chart.BANK.code if is_bank else chart.CLEARING.sub_account(payment.gateway)


def post_gateway_money(
    session: Session,
    payment: Payment,
    *,
    kind: str,
    debit: str,
    credit: str,
    amount: Money,
    key: str,
    actor: Actor,
) -> None:
    """Post money that moves between two accounts of the chart and concerns no credit, once."""
    account = session.get_one(Account, payment.account_id)
    post_journal_entry(
        session,
        site_code=account.site_code,
        kind=kind,
        reference=payment.gateway_payment_id or payment.reference,
        lines=(
            JournalLine(debit, amount.micros, amount.currency),
            JournalLine(credit, -amount.micros, amount.currency),
        ),
        occurred_at=clock.now(session),
        actor=actor,
        idempotency_key=key,
        account_id=payment.account_id,
    )
