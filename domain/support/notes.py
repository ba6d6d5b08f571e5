"""Keep notes that staff write about an account, for other staff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.models import Account, AccountNote
from domain import audit, clock
from domain.errors import InvalidInput, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.permissions import require
from domain.validation import check_text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

MAX_NOTE_LENGTH = 2_000


def add_note(
    session: Session, *, account_id: int, text: str, actor: Actor, idempotency_key: str
) -> int:
    """Keep a note of several lines and return its id; repeated, the same id.

    Raises NotAuthorised, NotFound, IdempotencyMismatch, and InvalidInput("text").
    """
    require(actor, "write_note")
    lines = [line.rstrip() for line in text.strip().splitlines()]
    check_text(text=lines)
    tidy = "\n".join(lines)
    if not tidy:
        raise InvalidInput("text", "empty")
    if len(tidy) > MAX_NOTE_LENGTH:
        raise InvalidInput("text", "too_long", maximum=MAX_NOTE_LENGTH)
    if session.get(Account, account_id, with_for_update={"key_share": True}) is None:
        raise NotFound("account")
    key = f"note:{audit.actor_name(actor)}:{idempotency_key}"
    write = IdempotentRequest(account_id, key, "add_note", {"text": lines})
    known = stored_response(session, write)
    if known is not None:
        return int(known["note"])
    row = AccountNote(
        account_id=account_id,
        text=tidy,
        written_by=audit.actor_name(actor),
        written_at=clock.now(session),
    )
    session.add(row)
    session.flush()
    store_response(session, write, {"note": row.id})
    audit.record(
        session, action="add_note", actor=actor, account_id=account_id, details={"note": row.id}
    )
    return row.id
