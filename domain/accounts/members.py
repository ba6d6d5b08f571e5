"""The members of an account: list, invite, change roles, remove, leave.

Its owners and administrators decide. Each write locks the account first and then looks at what the
actor may do now: of two owners who remove each other, one is an owner no more by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, func, select, update

from db.models import AccountMember, User
from domain.accounts.invitations import Invitation, list_open_invitations
from domain.accounts.member_changes import (
    LOCK,
    change_members,
    is_membership_of,
    record_change,
    role_now,
)
from domain.actors import Actor, MemberRole
from domain.errors import Conflict, NotAuthorised, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.permissions import allows, require

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Member:
    """A person who belongs to the account."""

    user_id: int
    display_name: str
    email: str
    role: MemberRole
    added_at: datetime
    is_disabled: bool


@dataclass(frozen=True, slots=True)
class AccountPeople:
    """Who belongs to the account and, for those who may manage that, who is invited."""

    members: tuple[Member, ...]
    invitations: tuple[Invitation, ...]
    may_manage: bool


# ── Looking ────────────────────────────────────────────────────────────────────────────────────
def list_members(session: Session, *, actor: Actor, account_id: int) -> AccountPeople:
    """Return the account's members, owners first, and the open invitations, the newest first.

    Every member and all staff may look; invitations are for those who may manage. Raises
    NotFound for everyone else.
    """
    require(actor, "see_account", account_id)
    may_manage = can_manage(actor, account_id)
    return AccountPeople(
        members=_members(session, account_id),
        invitations=list_open_invitations(session, account_id) if may_manage else (),
        may_manage=may_manage,
    )


def can_manage(actor: Actor, account_id: int) -> bool:
    """Return whether the actor may manage members: owners, administrators, the system."""
    return allows(actor, "manage_members", account_id)


def _members(session: Session, account_id: int) -> tuple[Member, ...]:
    rows = session.execute(
        select(
            User.id,
            User.display_name,
            User.email,
            AccountMember.role,
            AccountMember.added_at,
            User.disabled_at.is_not(None),
        )
        .join(User, User.id == AccountMember.user_id)
        .where(AccountMember.account_id == account_id)
    )
    members = [
        Member(user_id, name, email, MemberRole(role), added_at, is_disabled)
        for user_id, name, email, role, added_at, is_disabled in rows
    ]
    order = list(MemberRole)
    return tuple(
        sorted(members, key=lambda each: (order.index(each.role), each.display_name, each.user_id))
    )


# ── Roles, and leaving ─────────────────────────────────────────────────────────────────────────
def change_role(
    session: Session,
    *,
    account_id: int,
    user_id: int,
    role: MemberRole,
    actor: Actor,
    idempotency_key: str,
) -> None:
    """Give a member another role. An account keeps an owner who can sign in.

    Raises NotFound, NotAuthorised, Conflict ("last_owner"), IdempotencyMismatch.
    """

    def change() -> dict[str, Any]:
        before = role_now(session, account_id, user_id)
        if before is None:
            raise NotFound("member")
        if before is not role:
            if before is MemberRole.OWNER:
                _keep_an_owner(session, account_id, user_id)
            session.execute(
                update(AccountMember)
                .where(*is_membership_of(account_id, user_id))
                .values(role=role.value)
            )
            details = {"user_id": user_id, "from": before.value, "to": role.value}
            record_change(session, "change_role", actor, account_id, details)
        return {}

    request = {"user_id": user_id, "role": role.value}
    write = IdempotentRequest(account_id, f"members:{idempotency_key}", "change_role", request)
    change_members(session, write, actor, change)


def remove_member(
    session: Session, *, account_id: int, user_id: int, actor: Actor, idempotency_key: str
) -> None:
    """Remove a member: their next request finds no account.

    Raises NotFound, NotAuthorised, Conflict ("last_owner"), IdempotencyMismatch.
    """

    def remove() -> dict[str, Any]:
        _end_place(session, account_id, user_id, "remove_member", actor)
        return {}

    write = IdempotentRequest(
        account_id, f"members:{idempotency_key}", "remove_member", {"user_id": user_id}
    )
    change_members(session, write, actor, remove)


def remove_sole_memberships(session: Session, *, user_id: int, actor: Actor) -> None:
    """Remove a person from the accounts of which they are the only member.

    For a person who accepts an invitation as staff after a stranger signed up with their address:
    no member of staff belongs to the account that the stranger opened. A second call changes
    nothing. The accounts stay, without members. Raises NotAuthorised.
    """
    require(actor, "manage_members")
    own = select(AccountMember.account_id).where(AccountMember.user_id == user_id)
    for account_id in session.scalars(own.order_by(AccountMember.account_id)).all():
        session.execute(LOCK, {"account_id": account_id})
        others = (AccountMember.account_id == account_id, AccountMember.user_id != user_id)
        has_others = session.scalars(select(exists().where(*others))).one()
        role = role_now(session, account_id, user_id)
        if role is not None and not has_others:
            _remove_place(session, (account_id, user_id, role), "remove_member", actor)


def leave_account(session: Session, *, account_id: int, actor: Actor, idempotency_key: str) -> None:
    """Give one's own place up, whatever the role.

    Raises NotFound where there is no such place, Conflict ("last_owner"), IdempotencyMismatch.
    """
    user_id = actor.user_id
    if user_id is None:
        raise NotAuthorised
    key = f"members:leave:{user_id}:{idempotency_key}"
    write = IdempotentRequest(account_id, key, "leave_account", {"user_id": user_id})
    session.execute(LOCK, {"account_id": account_id})
    # Before the right is checked: a person who repeats the request has left, and is not a member.
    if stored_response(session, write) is not None:
        return
    if account_id not in actor.memberships:
        raise NotFound("account")
    _end_place(session, account_id, user_id, "leave_account", actor)
    store_response(session, write, {})


def _end_place(session: Session, account_id: int, user_id: int, action: str, actor: Actor) -> None:
    role = role_now(session, account_id, user_id)
    if role is None:
        raise NotFound("member")
    if role is MemberRole.OWNER:
        _keep_an_owner(session, account_id, user_id)
    _remove_place(session, (account_id, user_id, role), action, actor)


def _remove_place(
    session: Session, place: tuple[int, int, MemberRole], action: str, actor: Actor
) -> None:
    account_id, user_id, role = place
    session.execute(delete(AccountMember).where(*is_membership_of(account_id, user_id)))
    record_change(session, action, actor, account_id, {"user_id": user_id, "role": role.value})


def _keep_an_owner(session: Session, account_id: int, leaving_user_id: int) -> None:
    """Raise Conflict where no one else could manage the account."""
    others = session.scalar(
        select(func.count())
        .select_from(AccountMember)
        .join(User, User.id == AccountMember.user_id)
        .where(
            AccountMember.account_id == account_id,
            AccountMember.role == MemberRole.OWNER.value,
            AccountMember.user_id != leaving_user_id,
            User.disabled_at.is_(None),
        )
    )
    if not others:
        raise Conflict("last_owner")
