"""The versions of an account's billing profile, and the options of a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import Account, BillingProfileVersion, Site
from domain.billing_profiles.validation import BillingProfile, ProfileKind
from domain.errors import NotFound
from domain.identity import country_codes, list_sites
from domain.permissions import require

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor


@dataclass(frozen=True, slots=True)
class ProfileVersion:
    """A profile as it was saved; `changed_by` is the actor as facts keep it, such as `user:12`."""

    account_id: int
    version: int
    profile: BillingProfile
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class ProfileChoices:
    """The options of the account's form: the countries of its site, and its currencies.

    `country` is the one that was chosen when the account was opened. `currency` is the account's
    own, the only one of `currencies` once it is locked.
    """

    site_code: str
    country: str | None
    countries: tuple[str, ...]
    currencies: tuple[str, ...]
    currency: str
    is_currency_locked: bool


def current_profile(session: Session, *, actor: Actor, account_id: int) -> ProfileVersion | None:
    """Return the newest version, or None; raise NotFound where the actor may not see it."""
    require(actor, "see_account", account_id)
    row = newest_row(session, account_id)
    return _version_of(row) if row is not None else None


def find_profile(
    session: Session, *, actor: Actor, account_id: int, version: int
) -> ProfileVersion:
    """Return one version, such as that of a payment; raise NotFound."""
    require(actor, "see_account", account_id)
    row = session.get(BillingProfileVersion, (account_id, version))
    if row is None:
        raise NotFound("billing_profile")
    return _version_of(row)


def profile_history(
    session: Session, *, actor: Actor, account_id: int
) -> tuple[ProfileVersion, ...]:
    """Return every version, the newest first; raise NotFound where the actor may not see it."""
    require(actor, "see_account", account_id)
    rows = session.scalars(
        select(BillingProfileVersion)
        .where(BillingProfileVersion.account_id == account_id)
        .order_by(BillingProfileVersion.version.desc())
    )
    return tuple(_version_of(row) for row in rows)


def profile_choices(session: Session, *, actor: Actor, account_id: int) -> ProfileChoices:
    """Return the options of a new version; raise NotFound where the actor may not see it."""
    require(actor, "see_account", account_id)
    row = session.execute(
        select(
            Account.country,
            Account.currency,
            Account.currency_locked_at,
            Account.site_code,
            Site.currencies,
        )
        .join(Site, Site.code == Account.site_code)
        .where(Account.id == account_id)
    ).one_or_none()
    if row is None:
        raise NotFound("account")
    is_locked = row.currency_locked_at is not None
    return ProfileChoices(
        site_code=row.site_code,
        country=row.country,
        countries=served_countries(session, row.site_code),
        currencies=(row.currency,) if is_locked else tuple(row.currencies),
        currency=row.currency,
        is_currency_locked=is_locked,
    )


def served_countries(session: Session, site_code: str) -> tuple[str, ...]:
    """Return the countries that a site serves: its own, or all that have no site of their own."""
    own = {site.code: site.country for site in list_sites(session)}
    country = own.pop(site_code)
    if country is not None:
        return (country,)
    taken = set(own.values())
    return tuple(code for code in country_codes() if code not in taken)


def newest_row(session: Session, account_id: int) -> BillingProfileVersion | None:
    """Return the row of the newest version; the caller has checked the actor's rights."""
    return session.scalars(
        select(BillingProfileVersion)
        .where(BillingProfileVersion.account_id == account_id)
        .order_by(BillingProfileVersion.version.desc())
        .limit(1)
    ).one_or_none()


def profile_of(row: BillingProfileVersion) -> BillingProfile:
    """Return the profile that a row holds."""
    return BillingProfile(
        kind=ProfileKind(row.kind),
        name=row.name,
        email=row.email,
        address=row.address,
        country=row.country,
        city=row.city,
        tax_code=row.tax_code,
    )


def _version_of(row: BillingProfileVersion) -> ProfileVersion:
    return ProfileVersion(
        account_id=row.account_id,
        version=row.version,
        profile=profile_of(row),
        changed_at=row.changed_at,
        changed_by=row.changed_by,
    )
