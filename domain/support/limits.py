"""Keep the limits of what one person may do alone in a day: by action, role and currency.

The first figures come from a file; administrators, who move no credit themselves, edit them. What
has no row needs a second person from the first unit on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from db.models import ActionLimit, TopUpLimit
from domain import audit, clock
from domain.actors import StaffRole
from domain.catalogue.configuration import find_file, read_table
from domain.errors import Conflict, InvalidInput
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.money import MAX_MICROS, Money
from domain.permissions import require
from domain.support.staff_actions import STAFF_ACTIONS

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.catalogue.configuration import ConfigurationFile

MAKER_ROLES = (StaffRole.SUPPORT, StaffRole.FINANCE)
"""Who acts on accounts' credit. Administrators, who decide who is who, do not."""

_MAKERS_OF = {"refund_payment": (StaffRole.FINANCE,)}

ACTION_LIMITS_FILE = Path(__file__).with_name("limits.toml")
_MAX_TIMES = 1_000_000
_NO_ACCOUNT = 0
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('action_limits', 0))")


def get_maker_roles(action: str) -> tuple[StaffRole, ...]:
    """Return the roles that may do an action at all, and so have a limit of it."""
    return _MAKERS_OF.get(action, MAKER_ROLES)


@dataclass(frozen=True, slots=True)
class Limit:
    """What one person of the role may do of the action in 24 hours, alone.

    It is on what they do for one account; on refunds, for all accounts together.
    """

    action: str
    role: StaffRole
    daily: Money
    version: int
    updated_at: datetime
    updated_by: str


def list_action_limits(session: Session, *, actor: Actor) -> tuple[Limit, ...]:
    """Return all limits, for staff, by currency, action and role."""
    require(actor, "see_action_limits")
    rows = session.scalars(
        select(ActionLimit)
        .order_by(ActionLimit.currency, ActionLimit.action, ActionLimit.role)
        .execution_options(populate_existing=True)
    )
    return tuple(
        Limit(
            action=row.action,
            role=StaffRole(row.role),
            daily=Money(row.daily_micros, row.currency),
            version=row.version,
            updated_at=row.updated_at,
            updated_by=row.updated_by,
        )
        for row in rows
    )


def change_action_limit(
    session: Session,
    *,
    action: str,
    role: StaffRole,
    daily: Money,
    expected_version: int,
    actor: Actor,
    idempotency_key: str,
) -> int:
    """Change the limit of an action, as an administrator; return its version.

    `expected_version` is the one that was edited, 0 for one that has no row yet. Raises
    NotAuthorised; InvalidInput on "action", "role" or "daily"; UnknownCurrency;
    Conflict("limits_changed") where another person changed it meanwhile; IdempotencyMismatch.
    """
    require(actor, "change_action_limit")
    _check(action, role, daily)
    values = {"action": action, "role": role.value, "currency": daily.currency}
    asked = {**values, "daily_micros": daily.micros, "expected_version": expected_version}
    key = f"action_limits:{idempotency_key}"
    write = IdempotentRequest(_NO_ACCOUNT, key, "change_action_limit", asked)
    session.execute(_LOCK)
    known = stored_response(session, write)
    if known is not None:
        return int(known["version"])
    row = session.get(ActionLimit, tuple(values.values()), populate_existing=True)
    if expected_version != (0 if row is None else row.version):
        raise Conflict("limits_changed")
    before = None if row is None else row.daily_micros
    changed = {
        "daily_micros": daily.micros,
        "version": expected_version + 1,
        "updated_at": clock.now(session),
        "updated_by": audit.actor_name(actor),
    }
    session.execute(
        insert(ActionLimit)
        .values(**values, **changed)
        .on_conflict_do_update(index_elements=list(values), set_=changed)
    )
    store_response(session, write, {"version": expected_version + 1})
    details = {**values, "from": before, "to": daily.micros}
    audit.record(session, action="change_action_limit", actor=actor, details=details)
    return expected_version + 1


def _check(action: str, role: StaffRole, daily: Money) -> None:
    if action not in STAFF_ACTIONS:
        raise InvalidInput("action", "unknown")
    if role not in get_maker_roles(action):
        raise InvalidInput("role", "unknown")
    if not 0 <= daily.micros <= MAX_MICROS:
        raise InvalidInput("daily", "out_of_range")
    daily.to_minor_units()


def load_action_limits(
    session: Session, *, actor: Actor, file: ConfigurationFile | None = None
) -> None:
    """Add the file's limits for the currencies of top-ups that have none yet.

    Without a file the built-in one counts. Raises InvalidConfiguration.
    """
    require(actor, "load_reference")
    multiples = parse_action_limits(file or find_file(ACTION_LIMITS_FILE, None))
    shared: dict[str, Any] = {
        "version": 1,
        "updated_at": clock.now(session),
        "updated_by": audit.actor_name(actor),
    }
    rows = [
        {
            "action": action,
            "role": role,
            "currency": least.currency,
            # A multiple beyond what the ledger counts limits nothing.
            "daily_micros": min(least.minimum_micros * times, MAX_MICROS),
            **shared,
        }
        for least in session.scalars(select(TopUpLimit))
        for (role, action), times in multiples.items()
    ]
    if rows:
        session.execute(insert(ActionLimit).values(rows).on_conflict_do_nothing())


def parse_action_limits(file: ConfigurationFile) -> dict[tuple[StaffRole, str], int]:
    """Return the multiples of the least top-up that a file gives, by role and action.

    Raises InvalidConfiguration.
    """
    root = read_table(file)
    found: dict[tuple[StaffRole, str], int] = {}
    for name in root.remaining_keys():
        if name not in set(MAKER_ROLES):
            raise root.fault(f"'{name}' is none of {', '.join(MAKER_ROLES)}")
        role = StaffRole(name)
        table = root.table(root.take(name, dict), name)
        for action in table.remaining_keys():
            if action not in STAFF_ACTIONS or role not in get_maker_roles(action):
                raise table.fault(f"'{action}' is no action of this role")
            times = table.take(action, int)
            if not 0 <= times <= _MAX_TIMES:
                raise table.fault(f"'{action}' must be from 0 to {_MAX_TIMES}")
            found[role, action] = times
    return found
