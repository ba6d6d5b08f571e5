"""The audit log: who did what, when and from where. Rows are only ever added."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from domain.actors import Actor

_INSERT = text(
    "INSERT INTO audit_log (actor, address, action, account_id, details)"
    " VALUES (:actor, :address, :action, :account_id, CAST(:details AS jsonb))"
)


def actor_name(actor: Actor) -> str:
    """Return the actor as facts keep it: `user:12` or `system:jobs`."""
    return f"system:{actor.label}" if actor.is_system else f"user:{actor.user_id}"


def record(
    session: Session,
    *,
    action: str,
    actor: Actor,
    account_id: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add a row in the session's transaction; `details` holds ids and amounts, no personal data."""
    names = ("account_id", "actor", "address", "action", "details")
    made = row(action=action, actor=actor, account_id=account_id, details=details)
    session.execute(_INSERT, dict(zip(names, made, strict=True)))


def row(
    *,
    action: str,
    actor: Actor,
    account_id: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> tuple[int | None, str, str | None, str, str]:
    """Return the values of such a row: account, actor, address, action and details."""
    text_of_details = json.dumps(details or {}, default=str)
    return account_id, actor_name(actor), actor.ip, action, text_of_details
