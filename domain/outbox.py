"""Outgoing mail: sent after the transaction that queued it, and retried where it fails.

A message is claimed in one transaction, sent outside of any, and marked in another. A process
that dies in between leaves it to be sent again later: every message arrives at least once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from db.models import OutboxMessage
from domain import clock
from domain.errors import NotFound
from domain.permissions import require
from domain.security.payload_encryption import NOBODY, vault_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

MAX_ATTEMPTS = 8
_FIRST_WAIT = timedelta(minutes=1)
_MAX_WAIT = timedelta(hours=6)
_MAX_ERROR_LENGTH = 200
_ERASED = {"parameters": None, "sealed_parameters": None}


class MailServerUnavailable(OSError):  # noqa: N818 - as domain.errors
    """The mail server cannot be reached, or says nothing: no other message could be sent now."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A queued message: its template and the template's values."""

    id: int
    recipient: str
    template: str
    parameters: Mapping[str, Any]
    locale: str
    created_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """The number of messages of a round that were sent, will be retried, and were given up.

    `is_unavailable` says that the round ended early, because the server cannot be reached.
    """

    sent: int = 0
    retried: int = 0
    failed: int = 0
    is_unavailable: bool = False


def enqueue(
    session: Session, *, recipient: str, template: str, parameters: Mapping[str, Any], locale: str
) -> int:
    """Have a mail sent once the session's transaction is committed; return the message's id.

    Its values are stored encrypted, because links in it open accounts.
    """
    now = clock.now(session)
    content = json.dumps(dict(parameters)).encode()
    message = OutboxMessage(
        recipient=recipient,
        template=template,
        sealed_parameters=vault_of(session).seal(session, account_id=NOBODY, content=content),
        locale=locale,
        created_at=now,
        available_at=now,
    )
    session.add(message)
    session.flush()
    return message.id


def deliver_due(
    sessions: sessionmaker[Session], *, send: Callable[[Mail], None], limit: int = 50
) -> Delivery:
    """Send up to `limit` messages that are due, one after the other.

    `send` raises where the message could not be handed over. Such a message waits longer each time,
    and after MAX_ATTEMPTS it is given up. A message's values are erased once it was sent or given
    up, because links in it open accounts. MailServerUnavailable ends the round: the other messages
    would wait as long for nothing.
    """
    sent = retried = failed = 0
    is_unavailable = False
    for _ in range(limit):
        with sessions.begin() as session:
            mail = _claim_next(session)
        if mail is None:
            break
        try:
            send(mail)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the message is tried again
            with sessions.begin() as session:
                gave_up = _mark_failure(session, mail, error)
            failed += gave_up
            retried += not gave_up
            is_unavailable = isinstance(error, MailServerUnavailable)
            if is_unavailable:
                break
        else:
            with sessions.begin() as session:
                _mark_sent(session, mail)
            sent += 1
    return Delivery(sent, retried, failed, is_unavailable)


def waiting_mail(session: Session, *, actor: Actor, limit: int = 50) -> tuple[Mail, ...]:
    """Return the newest messages that were not sent yet, links and all.

    For the demo's mailbox alone: only the system may read them. Raises NotAuthorised.
    """
    require(actor, "run_jobs")
    rows = session.scalars(
        select(OutboxMessage)
        .where(OutboxMessage.sent_at.is_(None), OutboxMessage.failed_at.is_(None))
        .order_by(OutboxMessage.id.desc())
        .limit(limit)
    )
    return tuple(_mail(session, row) for row in rows)


def _claim_next(session: Session) -> Mail | None:
    now = clock.now(session)
    due = (
        select(OutboxMessage)
        .where(
            OutboxMessage.sent_at.is_(None),
            OutboxMessage.failed_at.is_(None),
            OutboxMessage.available_at <= now,
        )
        .order_by(OutboxMessage.available_at, OutboxMessage.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    while (row := session.scalars(due).one_or_none()) is not None:
        row.attempts += 1
        # Until then no other process takes it; should this one die now, another does afterwards.
        row.available_at = now + _wait_after(row.attempts)
        try:
            return _mail(session, row)
        except NotFound as error:
            # Another process may have the key that this one has not; the next message may be sent.
            for name, value in _failure(row.attempts, now, error).items():
                setattr(row, name, value)
            session.flush()
    return None


def _wait_after(attempts: int) -> timedelta:
    return min(_FIRST_WAIT * (1 << 2 * (attempts - 1)), _MAX_WAIT)


def _mark_sent(session: Session, mail: Mail) -> None:
    session.execute(
        update(OutboxMessage)
        .where(OutboxMessage.id == mail.id)
        .values(sent_at=clock.now(session), last_error=None, **_ERASED)
    )


def _mark_failure(session: Session, mail: Mail, error: Exception) -> bool:
    values = _failure(mail.attempts, clock.now(session), error)
    # Another process may have taken it over and sent it in the meantime.
    session.execute(
        update(OutboxMessage)
        .where(OutboxMessage.id == mail.id, OutboxMessage.sent_at.is_(None))
        .values(**values)
    )
    return "failed_at" in values


def _failure(attempts: int, now: datetime, error: Exception) -> dict[str, Any]:
    """Return the changes of a message that failed again; after the last attempt it is given up."""
    values: dict[str, Any] = {"last_error": f"{type(error).__name__}: {error}"[:_MAX_ERROR_LENGTH]}
    if attempts >= MAX_ATTEMPTS:
        values |= {"failed_at": now, **_ERASED}
    return values


def _mail(session: Session, row: OutboxMessage) -> Mail:
    """Return a message with its values. Raises NotFound where its key has been destroyed."""
    parameters: dict[str, Any] = row.parameters or {}  # an older version left it in clear
    if row.sealed_parameters is not None:
        sealed = bytes(row.sealed_parameters)
        parameters = json.loads(vault_of(session).open(session, account_id=NOBODY, sealed=sealed))
    return Mail(
        id=row.id,
        recipient=row.recipient,
        template=row.template,
        parameters=parameters,
        locale=row.locale,
        created_at=row.created_at,
        attempts=row.attempts,
    )
