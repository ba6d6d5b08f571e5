"""Compute what is left of a limit: how much one person may still do alone in 24 hours.

One statement reads the limit and the sum of what was done, for the person who acts, for the form
that shows it beforehand, and for the approver of what is above it: the three cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, cast, func, select, text

from db.models import ApprovalRequest, User
from domain import audit, clock
from domain.errors import InvalidInput
from domain.money import Money
from domain.permissions import require
from domain.support.staff_actions import STAFF_ACTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from domain.actors import Actor

LIMIT_PERIOD = timedelta(hours=24)

_READ = text("""
SELECT coalesce(l.daily_micros, 0), coalesce(d.used_micros, 0)
FROM unnest(CAST(:makers AS text[]), CAST(:roles AS text[]), CAST(:actions AS text[]),
            CAST(:currencies AS text[]), CAST(:accounts AS bigint[]))
  WITH ORDINALITY AS w (maker, role, action, currency, account_id, number)
LEFT JOIN action_limits l
  ON (l.action, l.role, l.currency) = (w.action, w.role, w.currency)
LEFT JOIN LATERAL (
  SELECT sum(a.amount_micros) AS used_micros FROM staff_acts a
  WHERE a.maker = w.maker AND a.action = w.action AND a.currency = w.currency
    AND a.checker IS NULL AND a.acted_at > :since
    AND (w.account_id IS NULL OR a.account_id = w.account_id)
) d ON true
ORDER BY w.number
""")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one person may do of an action alone in 24 hours, and what they have done of it.

    Both are of one account where `is_by_account`, and of all accounts together otherwise. What two
    people did is not in `used`.
    """

    limit: Money
    used: Money
    is_by_account: bool

    @property
    def left(self) -> Money:
        """What they may still do alone: nothing where the limit was lowered below what is used."""
        return max(self.limit - self.used, Money.zero(self.limit.currency))

    def covers(self, amount: Money) -> bool:
        """Whether this much more is within the limit."""
        return amount <= self.limit - self.used

    def after(self, amount: Money) -> Allowance:
        """Return the allowance once this much more was done."""
        return Allowance(self.limit, self.used + amount, self.is_by_account)


@dataclass(frozen=True, slots=True)
class _Key:
    """Whose allowance it is, and of what; without a role there is no limit, and nothing is left."""

    maker: str
    role: str | None
    action: str
    currency: str
    account_id: int

    @property
    def is_by_account(self) -> bool:
        return STAFF_ACTIONS[self.action].is_limited_by_account


def get_allowance(
    session: Session, *, action: str, account_id: int, currency: str, actor: Actor
) -> Allowance:
    """Return what the actor may do of an action for an account alone, and has done.

    Raises InvalidInput("action"), NotAuthorised for an actor who may not do it at all, NotFound.
    """
    if action not in STAFF_ACTIONS:
        raise InvalidInput("action", "unknown")
    require(actor, STAFF_ACTIONS[action].permission, account_id)
    role = None if actor.staff_role is None else actor.staff_role.value
    key = _Key(audit.actor_name(actor), role, action, currency, account_id)
    [allowance] = _read(session, [key])
    return allowance


def list_request_allowances(session: Session, *, actor: Actor) -> Mapping[int, Allowance]:
    """Return the allowance that the maker of each request that waits has now, by its number.

    It is that of the role that they have now; who has none, or was disabled, may do nothing alone.
    Raises NotAuthorised for anyone who is no staff.
    """
    require(actor, "see_requests")
    maker_id = cast(func.substr(ApprovalRequest.requested_by, len("user:") + 1), BigInteger)
    requests = session.execute(
        select(
            ApprovalRequest.id,
            ApprovalRequest.requested_by,
            User.staff_role,
            ApprovalRequest.action,
            ApprovalRequest.currency,
            ApprovalRequest.account_id,
        )
        .outerjoin(User, (User.id == maker_id) & User.disabled_at.is_(None))
        .where(ApprovalRequest.state == "requested")
        .order_by(ApprovalRequest.id)
    ).all()
    numbers = [row[0] for row in requests]
    keys = [_Key(*row[1:]) for row in requests]
    return dict(zip(numbers, _read(session, keys), strict=True))


def _read(session: Session, keys: Sequence[_Key]) -> list[Allowance]:
    values = {
        "makers": [key.maker for key in keys],
        "roles": [key.role for key in keys],
        "actions": [key.action for key in keys],
        "currencies": [key.currency for key in keys],
        "accounts": [key.account_id if key.is_by_account else None for key in keys],
        "since": clock.now(session) - LIMIT_PERIOD,
    }
    rows = session.execute(_READ, values)
    return [
        Allowance(
            Money(int(limit), key.currency), Money(int(used), key.currency), key.is_by_account
        )
        for key, (limit, used) in zip(keys, rows, strict=True)
    ]
