"""Which accounts a person can look at, and the names of what is sold there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from db.models import Account, AccountMember, Service, Site, User
from domain.actors import require_staff

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

FOUND_LIMIT = 20
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AccountChoice:
    """An account by its name, to choose from."""

    account_id: int
    name: str
    currency: str
    site_code: str


def own_accounts(session: Session, *, actor: Actor) -> tuple[AccountChoice, ...]:
    """Return the accounts that the actor is a member of, by name."""
    if not actor.memberships:
        return ()
    rows = session.execute(
        select(Account.id, Account.name, Account.currency, Account.site_code)
        .where(Account.id.in_(sorted(actor.memberships)))
        .order_by(Account.name, Account.id)
    )
    return tuple(AccountChoice(*row) for row in rows)


def find_accounts(session: Session, *, actor: Actor, sought: str) -> tuple[AccountChoice, ...]:
    """Return accounts by id, a member's whole address, or a part of the name; the newest first.

    At most `FOUND_LIMIT` come; an empty search finds the newest. Raises NotAuthorised for anyone
    who is no staff.
    """
    require_staff(actor)
    tidy = sought.replace("\0", "").strip()
    members = (
        select(AccountMember.account_id)
        .join(User, User.id == AccountMember.user_id)
        .where(User.email == tidy.lower())
    )
    conditions = [Account.name.icontains(tidy, autoescape=True)]
    if "@" in tidy:
        conditions.append(Account.id.in_(members))
    is_id = tidy.isascii() and tidy.isdigit() and int(tidy[:19]) <= _LARGEST_ID
    if is_id:
        conditions.append(Account.id == int(tidy[:19]))
    rows = session.execute(
        select(Account.id, Account.name, Account.currency, Account.site_code)
        .where(or_(*conditions))
        .order_by(Account.id.desc())
        .limit(FOUND_LIMIT)
    )
    return tuple(AccountChoice(*row) for row in rows)


def service_names(session: Session) -> dict[str, str]:
    """Return the name of every service by its slug, in the catalogue's order."""
    rows = session.execute(select(Service.slug, Service.name).order_by(Service.position))
    return {row.slug: row.name for row in rows}


def site_zone(session: Session, *, account_id: int) -> str:
    """Return the time zone of the account's site, for who has looked at the actor's rights."""
    zone: str = session.execute(
        select(Site.time_zone)
        .join(Account, Account.site_code == Site.code)
        .where(Account.id == account_id)
    ).scalar_one()
    return zone
