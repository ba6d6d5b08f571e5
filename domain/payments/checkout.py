"""Create payments: record what is to be paid, then create the gateway's checkout.

The intent is committed before the gateway is called, and the outcome after it. The reference is
the idempotency key at the gateway, so that a second try meets the same checkout.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from db.models import OPEN_PAYMENT_STATES, Account, Payment, PaymentState
from domain import audit, clock
from domain.billing_profiles import current_profile
from domain.errors import Conflict, IdempotencyMismatch, InvalidInput, NotFound, RateLimited
from domain.gateways.interface import CheckoutRequest, GatewayRefused
from domain.ledger.idempotency import request_digest
from domain.payments.exchange_rates import find_quote
from domain.payments.methods import CONSENT_VERSION, methods_of
from domain.payments.records import FIRST_CHECK, add_event, lock_payment, pay_amount
from domain.payments.top_up_limits import limits_of
from domain.permissions import require
from domain.validation import check_text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.interface import Checkout, Gateway
    from domain.money import Money
    from domain.payments.exchange_rates import Quote

LIFETIME = timedelta(minutes=30)
"""How long a checkout may take; what is paid later still counts."""

_REFERENCE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_REFERENCE_LENGTH = 20
_OPEN_AT_MOST = 30
_OPEN_WITHIN = timedelta(hours=1)
_LANGUAGES = frozenset({"en", "vi", "ja"})


@dataclass(frozen=True, slots=True)
class StartedPayment:
    """A payment that was created; `reference` names it in addresses."""

    payment_id: int
    reference: str


def start_payment(
    session: Session,
    *,
    account_id: int,
    gateway: Gateway,
    credit: Money,
    quote_id: int | None,
    consent_version: str,
    language: str,
    actor: Actor,
    idempotency_key: str,
) -> StartedPayment:
    """Create a payment for an amount of credit; repeated, return the same payment.

    `quote_id` is the locked price where the method's currency is not the account's. Raises
    InvalidInput for an amount outside the limits, a method that the country does not have, or a
    consent that is not the present one; Conflict without a profile, or for a quote that expired or
    was used; NotFound and NotAuthorised for those who may not pay; RateLimited.
    """
    require(actor, "pay", account_id)
    check_text(idempotency_key=idempotency_key)
    request = {
        "gateway": gateway.name,
        "credit": [credit.micros, credit.currency],
        "quote": quote_id,
        "consent": consent_version,
    }
    # Two clicks wait for each other here, and the second finds what the first wrote.
    account = session.get(Account, account_id, with_for_update={"key_share": True})
    if account is None:
        raise NotFound("account")
    repeated = _find(session, account_id, idempotency_key, request_digest(request))
    if repeated is not None:
        return repeated
    if consent_version != CONSENT_VERSION:
        raise InvalidInput("consent", "not_given")
    profile = current_profile(session, actor=actor, account_id=account_id)
    if profile is None:
        raise Conflict("no_billing_profile")
    check_amount(session, account.currency, credit)
    pay = _price(session, account_id, credit, quote_id)
    _check_method(account.currency, profile.profile.country, gateway, pay)
    _check_rate_limit(session, account_id)
    payment = _new_payment(
        gateway,
        pay,
        credit,
        clock.now(session),
        account_id=account_id,
        quote_id=quote_id,
        profile_version=profile.version,
        consent_version=consent_version,
        language=language if language in _LANGUAGES else "en",
        created_by=audit.actor_name(actor),
        idempotency_key=idempotency_key,
        request_hash=request_digest(request),
    )
    _write_down(session, payment, actor)
    return StartedPayment(payment.id, payment.reference)


def _price(session: Session, account_id: int, credit: Money, quote_id: int | None) -> Money:
    """Return what the credit costs: as much, or what the quote says in another currency."""
    return credit if quote_id is None else _quoted(session, account_id, credit, quote_id).pay


def _write_down(session: Session, payment: Payment, actor: Actor) -> None:
    """Write a payment down, with its first event and its line in the audit log."""
    session.add(payment)
    session.flush()
    details = {"gateway": payment.gateway, "consent": payment.consent_version}
    add_event(session, payment, "created", actor=actor, details=details)
    audit.record(
        session,
        action="start_payment",
        actor=actor,
        account_id=payment.account_id,
        details={"payment": payment.id, **details},
    )


def _new_payment(
    gateway: Gateway, pay: Money, credit: Money, now: datetime, **values: object
) -> Payment:
    """Return a payment that begins now; `values` are its columns that only the caller knows."""
    return Payment(
        reference=new_reference(),
        gateway=gateway.name,
        is_sandbox=gateway.is_sandbox,
        state=PaymentState.CREATED,
        pay_micros=pay.micros,
        pay_currency=pay.currency,
        credit_micros=credit.micros,
        credit_currency=credit.currency,
        created_at=now,
        expires_at=now + LIFETIME,
        next_check_at=now + LIFETIME,
        **values,
    )


def new_reference() -> str:
    """Return a name that no other payment ever has, without look-alikes."""
    return "".join(secrets.choice(_REFERENCE_ALPHABET) for _ in range(_REFERENCE_LENGTH))


def _find(
    session: Session, account_id: int, idempotency_key: str, request_hash: bytes
) -> StartedPayment | None:
    payment = session.scalars(
        select(Payment).where(
            Payment.account_id == account_id, Payment.idempotency_key == idempotency_key
        )
    ).one_or_none()
    if payment is None:
        return None
    if bytes(payment.request_hash) != request_hash:
        raise IdempotencyMismatch(idempotency_key)
    return StartedPayment(payment.id, payment.reference)


def _check_method(account_currency: str, country: str, gateway: Gateway, pay: Money) -> None:
    """Raise InvalidInput unless the gateway may be paid so much from the country."""
    currencies = {
        method.currency
        for method in methods_of(country, account_currency)
        if method.gateway == gateway.name
    }
    if pay.currency not in currencies:
        raise InvalidInput("method", "not_in_this_country", country=country)
    limits = gateway.limits(pay.currency)
    if limits is None:
        raise InvalidInput("method", "not_in_this_currency", currency=pay.currency)
    if limits.minimum is not None and pay < limits.minimum:
        raise InvalidInput("amount", "below_gateway_minimum", gateway=gateway.name)
    if limits.maximum is not None and limits.maximum < pay:
        raise InvalidInput("amount", "above_gateway_maximum", gateway=gateway.name)


def check_amount(session: Session, currency: str, credit: Money) -> None:
    """Raise InvalidInput unless the amount may be topped up in the account's currency."""
    if credit.currency != currency:
        raise InvalidInput("amount", "wrong_currency", currency=currency)
    credit.to_minor_units()
    limits = limits_of(session, currency)
    if credit.micros < limits.minimum.micros:
        raise InvalidInput("amount", "below_minimum", minimum=limits.minimum.micros)
    if credit.micros > limits.maximum.micros:
        raise InvalidInput("amount", "above_maximum", maximum=limits.maximum.micros)


def _quoted(session: Session, account_id: int, credit: Money, quote_id: int) -> Quote:
    quote = find_quote(session, account_id=account_id, quote_id=quote_id)
    if quote.credit != credit:
        raise InvalidInput("quote", "another_amount")
    if quote.expires_at <= clock.now(session):
        raise Conflict("quote_lapsed")
    used = session.scalars(select(Payment.id).where(Payment.quote_id == quote_id)).first()
    if used is not None:
        raise Conflict("quote_used")
    return quote


def _check_rate_limit(session: Session, account_id: int) -> None:
    since = clock.now(session) - _OPEN_WITHIN
    count = session.scalars(
        select(func.count())
        .select_from(Payment)
        .where(
            Payment.account_id == account_id,
            Payment.created_at > since,
            Payment.state.in_(OPEN_PAYMENT_STATES),
        )
    ).one()
    if count >= _OPEN_AT_MOST:
        raise RateLimited(int(_OPEN_WITHIN.total_seconds()))


def open_checkout(
    sessions: sessionmaker[Session],
    *,
    gateway: Gateway,
    payment_id: int,
    return_url: str,
    cancel_url: str,
    customer_ip: str,
    actor: Actor,
) -> str:
    """Create the gateway's checkout of a recorded payment, and return where to pay it.

    Raises GatewayUnavailable where it does not answer: the same payment may be tried again.
    Where it refuses, the payment has failed and GatewayRefused is raised.
    """
    with sessions.begin() as session:
        payment = session.get(Payment, payment_id)
        if payment is None:
            raise NotFound("payment")
        require(actor, "pay", payment.account_id)
        if payment.redirect_url is not None:
            return payment.redirect_url
        if payment.state != PaymentState.CREATED:
            raise Conflict("payment_is_over")
        profile = current_profile(session, actor=actor, account_id=payment.account_id)
        request = CheckoutRequest(
            reference=payment.reference,
            amount=pay_amount(payment),
            description=f"Credit {payment.reference}",
            return_url=return_url,
            cancel_url=cancel_url,
            customer_email=profile.profile.email if profile else "",
            customer_ip=customer_ip,
            language=payment.language,
            created_at=payment.created_at,
            expires_at=payment.expires_at,
        )
    try:
        checkout = gateway.create_checkout(request)
    except GatewayRefused as error:
        _close(sessions, payment_id, error.reason, actor)
        raise
    return _opened(sessions, payment_id, checkout, actor)


def _opened(
    sessions: sessionmaker[Session], payment_id: int, checkout: Checkout, actor: Actor
) -> str:
    with sessions.begin() as session:
        payment = lock_payment(session, payment_id)
        if payment is None:
            raise NotFound("payment")
        if payment.redirect_url is None:
            payment.redirect_url = checkout.redirect_url
            payment.gateway_reference = checkout.gateway_reference or payment.gateway_reference
            payment.expires_at = max(payment.expires_at, checkout.expires_at)
            add_event(session, payment, "opened", actor=actor)
        if payment.state == PaymentState.CREATED:
            payment.state = PaymentState.PENDING
            payment.next_check_at = clock.now(session) + FIRST_CHECK
        return payment.redirect_url


def _close(sessions: sessionmaker[Session], payment_id: int, code: str, actor: Actor) -> None:
    with sessions.begin() as session:
        payment = lock_payment(session, payment_id)
        if payment is not None and payment.state == PaymentState.CREATED:
            payment.state = PaymentState.FAILED
            payment.code = code
            payment.next_check_at = None
            add_event(session, payment, "failed", actor=actor, details={"code": code})


def give_up(session: Session, *, reference: str, actor: Actor) -> None:
    """Note that the customer came back without paying; should they have paid, that still counts."""
    payment = session.scalars(
        select(Payment).where(Payment.reference == reference).with_for_update(key_share=True)
    ).one_or_none()
    if payment is None:
        raise NotFound("payment")
    require(actor, "pay", payment.account_id)
    if payment.state in {PaymentState.CREATED, PaymentState.PENDING}:
        payment.state = PaymentState.CANCELLED
        payment.code = "customer"
        payment.next_check_at = clock.now(session) + FIRST_CHECK
        add_event(session, payment, "cancelled", actor=actor, details={"code": "customer"})
