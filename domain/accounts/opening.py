"""Accounts, and who belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import audit
from domain.actors import MemberRole
from domain.errors import Conflict, InvalidInput, NotFound
from domain.ledger import open_ledger
from domain.permissions import require
from domain.rights import waits_for_role
from domain.validation import check_text, checked_name

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

_SITE = text("SELECT currencies FROM sites WHERE code = :code")
_INSERT = text("""
INSERT INTO accounts (site_code, name, country, currency)
VALUES (:site_code, :name, :country, :currency) RETURNING id
""")
_ADD_MEMBER = text("""
INSERT INTO account_members (account_id, user_id, role) VALUES (:account_id, :user_id, :role)
ON CONFLICT (account_id, user_id) DO NOTHING RETURNING role
""")
# Changes of staff lock the row for themselves: each of the two sees what the other did.
_LOCK_PERSON = text("SELECT staff_role FROM users WHERE id = :user_id FOR SHARE")
_MEMBERSHIPS = text("SELECT account_id, role FROM account_members WHERE user_id = :user_id")


def open_account(
    session: Session,
    *,
    site_code: str,
    name: str,
    currency: str,
    actor: Actor,
    country: str | None = None,
    owner_user_id: int | None = None,
) -> int:
    """Open an account with an empty ledger and return its id.

    A customer's account is opened by the sign-up service (as the system) together with its owner,
    under the key of the owner's unique address. Raises NotFound for an unknown site, InvalidInput
    for a currency that the site does not keep or for an unusable name.
    """
    require(actor, "open_account")
    check_text(site_code=site_code, country=country)
    account_name = checked_name(name, "name")
    currencies = session.execute(_SITE, {"code": site_code}).scalar_one_or_none()
    if currencies is None:
        raise NotFound("site")
    if currency not in currencies:
        raise InvalidInput("currency", "not_at_this_site", site=site_code)
    account_id: int = session.execute(
        _INSERT,
        {"site_code": site_code, "name": account_name, "country": country, "currency": currency},
    ).scalar_one()
    open_ledger(session, account_id=account_id)
    audit.record(session, action="open_account", actor=actor, account_id=account_id)
    if owner_user_id is not None:
        _join(session, account_id, owner_user_id, MemberRole.OWNER, actor)
    return account_id


def add_member(
    session: Session, *, account_id: int, user_id: int, role: MemberRole, actor: Actor
) -> None:
    """Give a person a place in an account.

    Raises Conflict: "already_a_member", or "staff_role" for who has a role of staff.
    """
    require(actor, "add_member", account_id)
    _join(session, account_id, user_id, role, actor)


def refuse_staff(session: Session, user_id: int) -> None:
    """Keep staff out of customers' accounts until the transaction ends.

    A role for a member of an account takes two administrators, and so would membership of an
    account for a person who has such a role, or for whom one is requested. Raises
    Conflict("staff_role").
    """
    locked = session.execute(_LOCK_PERSON, {"user_id": user_id})
    if locked.scalar_one_or_none() is not None or waits_for_role(session, user_id):
        raise Conflict("staff_role")


def memberships(session: Session, *, user_id: int) -> dict[int, MemberRole]:
    """Return a person's role by account id, as it is now."""
    rows = session.execute(_MEMBERSHIPS, {"user_id": user_id})
    return {account_id: MemberRole(role) for account_id, role in rows}


def _join(session: Session, account_id: int, user_id: int, role: MemberRole, actor: Actor) -> None:
    refuse_staff(session, user_id)
    parameters = {"account_id": account_id, "user_id": user_id, "role": role.value}
    if session.execute(_ADD_MEMBER, parameters).scalar_one_or_none() is None:
        raise Conflict("already_a_member")
    audit.record(
        session,
        action="add_member",
        actor=actor,
        account_id=account_id,
        details={"user_id": user_id, "role": role.value},
    )
