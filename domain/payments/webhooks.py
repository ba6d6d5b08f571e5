"""Receive webhooks of gateways: verify, store and apply them, and only then acknowledge."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from db.bulk import fetch_rows, run_together
from domain import clock
from domain.gateways.interface import (
    Acknowledgement,
    DisputeUpdate,
    GatewayPaymentState,
    KnownName,
    Outcome,
    PaymentUpdate,
    WebhookRefused,
)
from domain.payments.gateway_updates import apply_updates, as_of, name_of
from domain.payments.polling import note_failed_check
from domain.payments.records import GATEWAY_ACTOR, find_id, lock_by_name
from domain.permissions import require
from domain.security.payload_encryption import NOBODY
from domain.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from db.models import Payment
    from domain.actors import Actor
    from domain.gateways.interface import Gateway, GatewayUpdate, InboundMessage, WebhookEvent
    from domain.security.payload_encryption import Vault

T = TypeVar("T")

_log = logging.getLogger(__name__)

UNMATCHED_DAYS = 90
"""How long money that matches no payment is listed."""

_MAX_NAME_LENGTH = 200
_REFUSED_KEPT_PER_HOUR = 1_000
_DIGEST_BYTES = 16
_PAID = "paid"

_KEEP = """
INSERT INTO gateway_messages (gateway, event_id, event_type, outcome, reason, payment_id,
                              account_id, received_at, payload_digest, payload)
VALUES (%(gateway)s, %(event_id)s, %(event_type)s, %(outcome)s, %(reason)s, %(payment_id)s,
        %(account_id)s, %(received_at)s, %(payload_digest)s, %(payload)s)
ON CONFLICT (gateway, event_id, outcome) DO NOTHING
"""
_IS_KEPT = """
SELECT EXISTS (
  SELECT FROM gateway_messages
  WHERE gateway = %(gateway)s AND event_id = %(event_id)s AND outcome = %(outcome)s)
"""
# The outcomes are spelt here as the index of these rows has them.
_EVIDENCE = """
SELECT EXISTS (
    SELECT FROM gateway_messages
    WHERE gateway = %(gateway)s AND event_id = %(event_id)s AND outcome = %(outcome)s),
  (SELECT count(*) FROM (
    SELECT FROM gateway_messages
    WHERE gateway = %(gateway)s AND outcome IN ('bad_signature', 'malformed')
      AND received_at > now() - interval '1 hour'
    LIMIT %(most)s) lately)
"""


class RunTransaction(Protocol):
    """A callable that runs work in a transaction, commits it, and retries it after a lost race."""

    def __call__(self, work: Callable[[Session], T], /) -> T:
        """Return what the work returns."""


def process_webhook(
    sessions: sessionmaker[Session],
    *,
    gateway: Gateway,
    message: InboundMessage,
    vault: Vault,
) -> tuple[Outcome, Acknowledgement]:
    """Process a webhook in transactions of these sessions: see `handle_webhook`."""

    def run(work: Callable[[Session], T], /) -> T:
        return run_transaction(sessions, work)

    return handle_webhook(run, gateway=gateway, message=message, vault=vault)


def handle_webhook(
    run: RunTransaction, *, gateway: Gateway, message: InboundMessage, vault: Vault
) -> tuple[Outcome, Acknowledgement]:
    """Process a webhook; return its outcome, and the response for its sender.

    It is verified before the transaction begins, since that may query the network. Its effects and
    the record of its receipt are committed together, before the response. Where that is not
    possible, the response asks the gateway to retry.
    """
    try:
        webhook = gateway.parse_webhook(message)
    except WebhookRefused as refusal:
        _keep_refused(run, gateway, message, refusal, vault)
        return refusal.outcome, gateway.acknowledge(refusal.outcome)
    try:
        outcome = run(lambda session: _act(session, gateway, message, webhook, vault))
    except SQLAlchemyError:
        _log.exception("a webhook of %s cannot be written", gateway.name)
        outcome = Outcome.UNAVAILABLE
    except Exception as error:  # noqa: BLE001 - the gateway has to be answered, in its own form
        _log.exception("a webhook of %s cannot be processed", gateway.name)
        _set_aside(run, gateway, webhook, error)
        outcome = Outcome.UNAVAILABLE
    return outcome, gateway.acknowledge(outcome)


def _set_aside(
    run: RunTransaction, gateway: Gateway, webhook: WebhookEvent, error: Exception
) -> None:
    """Record on the payments that a message names why it was not applied, for staff to see."""

    def note_failure(session: Session) -> None:
        names = {name_of(update) for update in webhook.updates} | {*webhook.asks_about}
        for name in sorted(names, key=repr):
            payment = _ask_soon(session, gateway, name)
            if payment is not None:
                note_failed_check(session, payment, error)

    try:
        run(note_failure)
    except SQLAlchemyError:
        _log.exception("a failed webhook of %s cannot be noted", gateway.name)


def _act(
    session: Session,
    gateway: Gateway,
    message: InboundMessage,
    webhook: WebhookEvent,
    vault: Vault,
) -> Outcome:
    if _is_kept(session, gateway, webhook.event_id, Outcome.RECORDED):
        return Outcome.REPEATED  # what it reported was applied and committed with this row
    updates = [as_of(update, message.received_at) for update in webhook.updates]
    outcome, payment = apply_updates(session, gateway=gateway, updates=updates, actor=GATEWAY_ACTOR)
    asked = [_ask_soon(session, gateway, name) for name in webhook.asks_about]
    found = [one for one in asked if one is not None]
    if found:
        payment, outcome = found[-1], Outcome.RECORDED
    for update in webhook.updates:
        if isinstance(update, DisputeUpdate):
            # Its messages leave things out, and arrive in any order: the response has the present
            # state.
            _ask_soon(session, gateway, name_of(update))
    if not webhook.updates and not webhook.asks_about:
        outcome = Outcome.RECORDED
    _keep(
        session,
        gateway,
        message,
        vault,
        event_id=webhook.event_id,
        event_type=webhook.event_type,
        outcome=outcome,
        payment=payment,
        reason=_PAID if _has_unmatched(session, gateway, webhook.updates, outcome) else None,
    )
    return outcome


def _ask_soon(session: Session, gateway: Gateway, name: KnownName) -> Payment | None:
    """Schedule a query for a payment at once, and return the payment; None where it is unknown."""
    payment = lock_by_name(session, gateway=gateway.name, is_sandbox=gateway.is_sandbox, name=name)
    if payment is not None:
        payment.next_check_at = clock.now(session)
    return payment


def _has_unmatched(
    session: Session, gateway: Gateway, updates: tuple[GatewayUpdate, ...], outcome: Outcome
) -> bool:
    """Return whether an update reports money for a payment that is not known here."""
    if len(updates) == 1 and outcome is not Outcome.UNKNOWN_PAYMENT:
        return False
    return any(
        isinstance(update, PaymentUpdate)
        and update.state is GatewayPaymentState.PAID
        and find_id(session, gateway, name_of(update)) is None
        for update in updates
    )


# ── What is kept of messages ──────────────────────────────────────────────────────────────────
def _keep(
    session: Session,
    gateway: Gateway,
    message: InboundMessage,
    vault: Vault,
    *,
    event_id: str,
    event_type: str,
    outcome: Outcome,
    payment: Payment | None = None,
    reason: str | None = None,
) -> None:
    """Store the message, encrypted; the same again, with the same outcome, is stored once."""
    if outcome is not Outcome.RECORDED and _is_kept(session, gateway, event_id, outcome):
        return
    _write(
        session,
        gateway,
        message,
        vault,
        {
            "event_id": event_id[:_MAX_NAME_LENGTH],
            "event_type": event_type[:_MAX_NAME_LENGTH],
            "outcome": outcome.value,
            "reason": reason,
            "payment_id": None if payment is None else payment.id,
            "account_id": NOBODY if payment is None else payment.account_id,
        },
    )


def _write(
    session: Session,
    gateway: Gateway,
    message: InboundMessage,
    vault: Vault,
    row: dict[str, Any],
) -> None:
    content = _content(message)
    values = {
        **row,
        "gateway": gateway.name,
        "received_at": message.received_at,
        "payload_digest": _digest(content),
        "payload": vault.seal(
            session, account_id=row["account_id"], content=content, at=message.received_at
        ),
    }
    run_together(session, [(_KEEP, values)])


def _is_kept(session: Session, gateway: Gateway, event_id: str, outcome: Outcome) -> bool:
    kept: bool = fetch_rows(session, _IS_KEPT, **_event(gateway, event_id, outcome))[0][0]
    return kept


def _event(gateway: Gateway, event_id: str, outcome: Outcome) -> dict[str, str]:
    return {
        "gateway": gateway.name,
        "event_id": event_id[:_MAX_NAME_LENGTH],
        "outcome": outcome.value,
    }


def _keep_refused(
    run: RunTransaction,
    gateway: Gateway,
    message: InboundMessage,
    refusal: WebhookRefused,
    vault: Vault,
) -> None:
    """Store rejected messages as evidence, limited so that no sender can fill the table.

    Each gateway has a limit of its own, so that what is sent in the name of one does not push out
    the evidence of another.
    """
    _log.warning("a message in the name of %s is refused: %s", gateway.name, refusal.reason)
    event_id = f"refused:{_digest(_content(message)).hex()}"
    row = {
        "event_id": event_id,
        "event_type": "refused",
        "outcome": refusal.outcome.value,
        "reason": refusal.reason,
        "payment_id": None,
        "account_id": NOBODY,
    }

    def keep(session: Session) -> None:
        asked = {**_event(gateway, event_id, refusal.outcome), "most": _REFUSED_KEPT_PER_HOUR}
        [(is_kept, lately)] = fetch_rows(session, _EVIDENCE, **asked)
        if not is_kept and lately < _REFUSED_KEPT_PER_HOUR:
            _write(session, gateway, message, vault, row)

    try:
        run(keep)
    except SQLAlchemyError:
        _log.exception("a refused message of %s cannot be written", gateway.name)


def _content(message: InboundMessage) -> bytes:
    document = {
        "method": message.method,
        "query": message.raw_query,
        "headers": dict(message.headers),
        "body": message.body.decode("utf-8", "replace"),
    }
    return json.dumps(document, sort_keys=True).encode()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


# ── Money that matches no payment ─────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class UnmatchedWebhook:
    """A webhook that reports money for a payment that is not known here."""

    gateway: str
    event_id: str
    event_type: str
    received_at: datetime


_UNMATCHED = text("""
SELECT m.gateway, m.event_id, m.event_type, m.received_at FROM gateway_messages m
WHERE m.reason = 'paid' AND m.received_at >= :since
  AND NOT EXISTS (
    SELECT FROM gateway_messages later
    WHERE later.gateway = m.gateway AND later.event_id = m.event_id
      AND later.payment_id IS NOT NULL AND later.reason IS NULL)
ORDER BY m.received_at DESC, m.id DESC
LIMIT :limit
""")


def unmatched_webhooks(
    session: Session, *, actor: Actor, limit: int
) -> tuple[UnmatchedWebhook, ...]:
    """Return webhooks of the last 90 days about money that matches no payment, the newest first.

    One that was received again, and recorded then, is not among them. Raises NotAuthorised.
    """
    require(actor, "look_up_payments")
    since = clock.now(session) - timedelta(days=UNMATCHED_DAYS)
    rows = session.execute(_UNMATCHED, {"since": since, "limit": limit})
    return tuple(UnmatchedWebhook(*row) for row in rows)
