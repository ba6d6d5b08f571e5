"""What gateways send us: verified, written down, acted upon, and only then acknowledged."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from db.models import GatewayMessage
from domain import clock
from domain.gateways.base import Acknowledgement, NotificationRefused, Outcome
from domain.payments.facts import apply_facts
from domain.payments.records import GATEWAY_ACTOR, lock_by_name
from domain.vault import NOBODY

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from db.models import Payment
    from domain.gateways.base import Gateway, InboundMessage, Notification
    from domain.vault import Vault

_log = logging.getLogger(__name__)

_LONGEST_NAME = 200
_REFUSED_KEPT_PER_HOUR = 1_000
_DIGEST_BYTES = 16
_REFUSED = (Outcome.BAD_SIGNATURE.value, Outcome.MALFORMED.value)


def take_notification(
    sessions: sessionmaker[Session],
    *,
    gateway: Gateway,
    message: InboundMessage,
    vault: Vault,
) -> tuple[Outcome, Acknowledgement]:
    """Take a message in and return what became of it, and the answer for whoever sent it.

    What it says and that it came are committed together, before the answer. Where that cannot
    be, the answer asks the gateway to come again.
    """
    try:
        notification = gateway.parse_notification(message)
    except NotificationRefused as refusal:
        _keep_refused(sessions, gateway, message, refusal, vault)
        return refusal.outcome, gateway.acknowledge(refusal.outcome)
    try:
        with sessions.begin() as session:
            outcome = _act(session, gateway, message, notification, vault)
    except SQLAlchemyError:
        _log.exception("a notification of %s cannot be written", gateway.name)
        outcome = Outcome.UNAVAILABLE
    return outcome, gateway.acknowledge(outcome)


def _act(
    session: Session,
    gateway: Gateway,
    message: InboundMessage,
    notification: Notification,
    vault: Vault,
) -> Outcome:
    if _is_kept(session, gateway, notification.event_id, Outcome.RECORDED):
        return Outcome.REPEATED  # whatever it said was done, and committed with this row
    outcome, payment = apply_facts(
        session, gateway=gateway, facts=notification.facts, actor=GATEWAY_ACTOR
    )
    for name in notification.asks_about:
        asked = lock_by_name(
            session, gateway=gateway.name, is_sandbox=gateway.is_sandbox, name=name
        )
        if asked is not None:
            payment = asked
            payment.next_check_at = clock.now(session)
            outcome = Outcome.RECORDED
    if not notification.facts and not notification.asks_about:
        outcome = Outcome.RECORDED
    _keep(
        session,
        gateway,
        message,
        vault,
        event_id=notification.event_id,
        event_type=notification.event_type,
        outcome=outcome,
        payment=payment,
    )
    return outcome


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
    """Write the message down, encrypted; the same again, with the same outcome, is kept once."""
    if outcome is not Outcome.RECORDED and _is_kept(session, gateway, event_id, outcome):
        return
    account_id = NOBODY if payment is None else payment.account_id
    content = _content(message)
    session.execute(
        insert(GatewayMessage)
        .values(
            gateway=gateway.name,
            event_id=event_id[:_LONGEST_NAME],
            event_type=event_type[:_LONGEST_NAME],
            outcome=outcome.value,
            reason=reason,
            payment_id=None if payment is None else payment.id,
            account_id=account_id,
            received_at=message.received_at,
            payload_digest=_digest(content),
            payload=vault.seal(session, account_id=account_id, content=content),
        )
        .on_conflict_do_nothing(index_elements=["gateway", "event_id", "outcome"])
    )


def _is_kept(session: Session, gateway: Gateway, event_id: str, outcome: Outcome) -> bool:
    known = select(GatewayMessage.id).where(
        GatewayMessage.gateway == gateway.name,
        GatewayMessage.event_id == event_id[:_LONGEST_NAME],
        GatewayMessage.outcome == outcome.value,
    )
    return session.scalars(known).first() is not None


def _keep_refused(
    sessions: sessionmaker[Session],
    gateway: Gateway,
    message: InboundMessage,
    refusal: NotificationRefused,
    vault: Vault,
) -> None:
    """Keep what cannot be believed as evidence; nobody can fill the table with it."""
    _log.warning("a message in the name of %s is refused: %s", gateway.name, refusal.reason)
    try:
        with sessions.begin() as session:
            if _refused_lately(session) < _REFUSED_KEPT_PER_HOUR:
                _keep(
                    session,
                    gateway,
                    message,
                    vault,
                    event_id=f"refused:{_digest(_content(message)).hex()}",
                    event_type="refused",
                    outcome=refusal.outcome,
                    reason=refusal.reason,
                )
    except SQLAlchemyError:
        _log.exception("a refused message of %s cannot be written", gateway.name)


def _refused_lately(session: Session) -> int:
    lately = (
        select(GatewayMessage.id)
        .where(
            GatewayMessage.received_at > func.now() - func.make_interval(0, 0, 0, 0, 1),
            GatewayMessage.outcome.in_(_REFUSED),
        )
        .limit(_REFUSED_KEPT_PER_HOUR)
        .subquery()
    )
    return session.scalars(select(func.count()).select_from(lately)).one()


def _content(message: InboundMessage) -> bytes:
    told = {
        "method": message.method,
        "query": message.raw_query,
        "headers": dict(message.headers),
        "body": message.body.decode("utf-8", "replace"),
    }
    return json.dumps(told, sort_keys=True).encode()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
