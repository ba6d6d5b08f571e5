"""Limit the changes of staff that one administrator may cause in an hour: each sends mails.

Requests, changes that are carried out at once, and resets of second factors are counted. What ends
a request follows from one of these, as does disabling a person again, and is never refused, nor is
disabling a person at once or signing them out. A change that takes something away, which may be
needed to stop a person, has the same limit once more when all other changes are refused.
Invitations have a limit of their own (domain/identity/invitation_mails.py), also for what follows
from them.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import audit, clock
from domain.errors import RateLimited

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

MAX_CHANGES = 30
COUNTED_ACTIONS = (
    "request_role_change",
    "change_staff_role",
    "enable_user",
    "reset_second_factors",
)
_WINDOW = timedelta(hours=1)

# What another administrator requested is counted there, not where it is approved; what came of an
# invitation was limited when that was mailed.
_NTH_NEWEST = text("""
SELECT recorded_at FROM audit_log
WHERE actor LIKE 'user:%' AND actor = :actor AND recorded_at > :since AND recorded_at <= :now
  AND action = ANY (:actions) AND NOT details ?| ARRAY['requested_by', 'staff_invitation_id']
ORDER BY recorded_at DESC OFFSET :others LIMIT 1
""")


def check_rate_limit(session: Session, actor: Actor, *, takes_away: bool = False) -> None:
    """Refuse a person more than 30 changes in an hour, or 60 where this one takes something away.

    The system is never refused. Called in the lock of all changes of staff, before anything is
    written. Raises RateLimited with the seconds until there is room for another one.
    """
    if actor.is_system:
        return
    now = clock.now(session)
    oldest: datetime | None = session.scalars(
        _NTH_NEWEST,
        {
            "actor": audit.actor_name(actor),
            "since": now - _WINDOW,
            "now": now,
            "actions": list(COUNTED_ACTIONS),
            "others": (2 * MAX_CHANGES if takes_away else MAX_CHANGES) - 1,
        },
    ).one_or_none()
    if oldest is not None:
        raise RateLimited(max(1, math.ceil((oldest + _WINDOW - now).total_seconds())))
