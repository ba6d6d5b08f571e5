"""Queries for the accounts that a person can see, and the names of the services sold there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Account, Service, Site
from domain.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor


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


def service_names(session: Session) -> dict[str, str]:
    """Return the name of every service by its slug, in the catalogue's order."""
    rows = session.execute(select(Service.slug, Service.name).order_by(Service.position))
    return {row.slug: row.name for row in rows}


def site_zone(session: Session, *, account_id: int) -> str:
    """Return the time zone of the account's site, for who has looked at the actor's rights.

    Raises NotFound.
    """
    zone: str | None = session.execute(
        select(Site.time_zone)
        .join(Account, Account.site_code == Site.code)
        .where(Account.id == account_id)
    ).scalar_one_or_none()
    if zone is None:
        raise NotFound("account")
    return zone
