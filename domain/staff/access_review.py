"""Build the access review: roles on accounts, what people did, and what needs attention.

A flag is a member of staff who belongs to a customer's account, or a pair of duties that one
person should not hold: who did both sides lately, and who could by their present role. Services
refuse what is worst of it themselves; a review finds the rest, also of those who left.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from db.models import User
from domain import audit, clock
from domain.actors import MemberRole, StaffRole
from domain.permissions import allows_role, require
from domain.staff.roles import list_staff

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.staff.roles import StaffMember

REVIEWED = timedelta(days=90)
"""How far back an access review looks at what people did."""

_PLACES = text("""
SELECT m.user_id, u.email, m.account_id, c.name, m.role, given.actor, given.recorded_at
FROM users u JOIN account_members m ON m.user_id = u.id JOIN accounts c ON c.id = m.account_id
LEFT JOIN LATERAL (
    SELECT coalesce(
        (SELECT i.actor FROM audit_log i
         WHERE i.account_id = a.account_id AND i.action = 'invite_member'
           AND i.details ->> 'invitation_id' = a.details ->> 'invitation_id'
         ORDER BY i.id DESC LIMIT 1), a.actor) AS actor, a.recorded_at
    FROM audit_log a
    WHERE a.account_id = m.account_id
      AND a.action IN ('add_member', 'accept_invitation', 'change_role')
      AND CAST(a.details ->> 'user_id' AS bigint) = m.user_id
    ORDER BY a.id DESC LIMIT 1
) given ON true
WHERE u.staff_role IS NOT NULL ORDER BY u.email, m.account_id
""")
_DONE = text("""
SELECT actor, action, count(*) AS times, max(recorded_at) AS last_at FROM audit_log
WHERE actor LIKE 'user:%' AND actor = ANY (:names) AND recorded_at >= :since
GROUP BY actor, action ORDER BY actor, action
""")
_SIDES = text("""
SELECT u.id, u.email, u.staff_role, a.action, max(a.recorded_at) AS last_at
FROM audit_log a JOIN users u ON a.actor = 'user:' || u.id
WHERE a.actor LIKE 'user:%' AND a.recorded_at >= :since AND a.action = ANY (:actions)
GROUP BY u.id, u.email, u.staff_role, a.action ORDER BY u.email
""")


class FlagKind(StrEnum):
    """What a reviewer looks at."""

    CUSTOMER_MEMBER = "customer_member"
    DID_BOTH = "did_both"
    COULD_DO_BOTH = "could_do_both"


class DutyPair(StrEnum):
    """Two duties that one person should not hold."""

    RATES_AND_TRANSFERS = "rates_and_transfers"
    CAMPAIGNS = "campaigns"
    PEOPLE_AND_MONEY = "people_and_money"


@dataclass(frozen=True, slots=True)
class Side:
    """One duty of a pair: the actions of the audit log that show it, and who may do it."""

    actions: frozenset[str]
    permissions: frozenset[str]


PAIRS: dict[DutyPair, tuple[Side, Side]] = {
    DutyPair.RATES_AND_TRANSFERS: (
        Side(
            frozenset({"request_rate", "approved_rate"}), frozenset({"request_rate", "decide_rate"})
        ),
        Side(frozenset({"record_transfer"}), frozenset({"record_transfer"})),
    ),
    DutyPair.CAMPAIGNS: (
        Side(frozenset({"request_campaign"}), frozenset({"request_campaign"})),
        Side(frozenset({"decide_campaign"}), frozenset({"decide_campaign"})),
    ),
    DutyPair.PEOPLE_AND_MONEY: (
        Side(
            frozenset(
                {
                    "change_staff_role",
                    "disable_user",
                    "enable_user",
                    "request_role_change",
                    "apply_role_change",
                    "invite_staff",
                }
            ),
            frozenset({"manage_people"}),
        ),
        Side(
            frozenset(
                {
                    "record_transfer",
                    "approved_transfer",
                    "refund_payment",
                    "record_payout",
                    "record_return",
                    "cancel_refund",
                    "give_goodwill",
                    "reverse_entry",
                    "apply_code",
                    "issue_voucher",
                    "write_off_debt",
                    "post_journal_entry",
                }
            ),
            frozenset(
                {
                    "record_transfer",
                    "decide_transfer",
                    "refund_payment",
                    "record_payout",
                    "record_return",
                    "cancel_refund",
                    "act_on_account",
                    "write_off_debt",
                    "post_journal_entry",
                }
            ),
        ),
    ),
}
"""The pairs of which this product has both sides."""


@dataclass(frozen=True, slots=True)
class AccessFlag:
    """Something that a reviewer looks at, of a person who may have no role any more.

    `account_id` and `account_name` are of a CUSTOMER_MEMBER, `pair` of the others, and `last_at`
    of a DID_BOTH: when the side that was done longer ago was done last.
    """

    user_id: int
    email: str
    role: StaffRole | None
    kind: FlagKind
    pair: DutyPair | None = None
    account_id: int | None = None
    account_name: str | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AccountRole:
    """A role on an account that a member of staff holds besides, who gave it and when."""

    user_id: int
    email: str
    account_id: int
    account_name: str
    role: MemberRole
    given_by: str | None
    given_at: datetime | None


@dataclass(frozen=True, slots=True)
class ActivitySummary:
    """How often a member of staff did something in the time of a review, and when last."""

    user_id: int
    action: str
    times: int
    last_at: datetime


def list_account_roles(session: Session, *, actor: Actor) -> tuple[AccountRole, ...]:
    """Return the accounts that members of staff belong to, with what they may do there."""
    require(actor, "review_access")
    return tuple(
        AccountRole(
            user_id=row.user_id,
            email=row.email,
            account_id=row.account_id,
            account_name=row.name,
            role=MemberRole(row.role),
            given_by=row.actor,
            given_at=row.recorded_at,
        )
        for row in session.execute(_PLACES)
    )


def list_activity(session: Session, *, actor: Actor) -> tuple[ActivitySummary, ...]:
    """Return what members of staff did in the time that an access review looks at."""
    require(actor, "review_access")
    ids = session.scalars(select(User.id).where(User.staff_role.is_not(None))).all()
    asked = {
        "names": [f"user:{user_id}" for user_id in ids],
        "since": clock.now(session) - REVIEWED,
    }
    return tuple(
        ActivitySummary(int(row.actor.removeprefix("user:")), row.action, row.times, row.last_at)
        for row in session.execute(_DONE, asked)
    )


def list_access_flags(session: Session, *, actor: Actor) -> tuple[AccessFlag, ...]:
    """Return what a reviewer looks at: members of customers' accounts, then pairs of duties."""
    staff = list_staff(session, actor=actor)
    roles = {each.user_id: each.role for each in staff}
    members = tuple(
        AccessFlag(
            place.user_id,
            place.email,
            roles[place.user_id],
            FlagKind.CUSTOMER_MEMBER,
            account_id=place.account_id,
            account_name=place.account_name,
        )
        for place in list_account_roles(session, actor=actor)
        if place.user_id in roles
    )
    return members + _did_both(session) + _could_do_both(staff)


def _did_both(session: Session) -> tuple[AccessFlag, ...]:
    """Return who did both sides of a pair in the time of a review, whatever they are now."""
    actions = {action for pair in PAIRS.values() for side in pair for action in side.actions}
    asked = {"since": clock.now(session) - REVIEWED, "actions": sorted(actions)}
    people: dict[int, tuple[str, StaffRole | None]] = {}
    done: dict[int, dict[str, datetime]] = {}
    for row in session.execute(_SIDES, asked):
        people[row.id] = row.email, StaffRole(row.staff_role) if row.staff_role else None
        done.setdefault(row.id, {})[row.action] = row.last_at
    return tuple(
        AccessFlag(user_id, *people[user_id], FlagKind.DID_BOTH, pair, last_at=last_at)
        for user_id, seen in done.items()
        for pair, sides in PAIRS.items()
        if (last_at := _both_since(sides, seen)) is not None
    )


def _both_since(sides: tuple[Side, Side], seen: dict[str, datetime]) -> datetime | None:
    """Return when the side that was done longer ago was done last; None where one was not."""
    last = [
        max((seen[each] for each in side.actions & seen.keys()), default=None) for side in sides
    ]
    return None if last[0] is None or last[1] is None else min(last[0], last[1])


def _could_do_both(staff: tuple[StaffMember, ...]) -> tuple[AccessFlag, ...]:
    """Return who may do both sides of a pair by their present role."""
    return tuple(
        AccessFlag(each.user_id, each.email, each.role, FlagKind.COULD_DO_BOTH, pair)
        for each in staff
        for pair, sides in PAIRS.items()
        if each.role is not None and not each.is_disabled and _could(each.role, sides)
    )


def _could(role: StaffRole, sides: tuple[Side, Side]) -> bool:
    return all(any(allows_role(role, each) for each in side.permissions) for side in sides)


def record_review(session: Session, *, actor: Actor) -> None:
    """Record that a person downloads an access review."""
    require(actor, "review_access")
    audit.record(session, action="export_access_review", actor=actor)
