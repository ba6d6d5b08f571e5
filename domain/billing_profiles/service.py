"""Saving a billing profile: a new version, and with the first one the account's currency."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text, update

from db.models import Account, AccountMember, BillingProfileVersion, Site
from domain import audit, clock, fraud_signals
from domain.actors import MemberRole
from domain.billing_profiles.queries import newest_row, profile_of, served_countries
from domain.billing_profiles.validation import checked_profile
from domain.errors import Conflict, InvalidInput, NotAuthorised, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.billing_profiles.validation import BillingProfile

# Charges lock another row (account_balances) and go on meanwhile; so do rows that refer to this.
_LOCK = text("SELECT FROM accounts WHERE id = :account_id FOR NO KEY UPDATE")

# Declined charges and fractions carried to the next charge are amounts of the currency too.
_LOCK_POSTINGS = text("""
SELECT last_entry_sequence + last_hold_number + last_refusal_number > 0 OR carries <> '{}'::jsonb
FROM account_balances WHERE account_id = :account_id FOR NO KEY UPDATE
""")


@dataclass(frozen=True, slots=True)
class SavedProfile:
    """The current version, and the account's currency, which the first version locks.

    `is_changed` is false where the profile had no changes, so that no version was created.
    """

    version: int
    currency: str
    is_changed: bool


def save_profile(
    session: Session,
    *,
    account_id: int,
    profile: BillingProfile,
    currency: str | None,
    expected_version: int,
    actor: Actor,
    idempotency_key: str,
) -> SavedProfile:
    """Save a new version of the account's profile, as its owner or a billing member.

    `expected_version` is the one that was edited, 0 before the first. `currency` may be another one
    of the site's list with the first profile of an account that nothing was posted to; None keeps
    what the account has. Raises InvalidInput for the first fault, on "country" with "not_at_site"
    and on "currency" with "not_at_site" or "locked"; Conflict("profile_changed") where another
    person saved meanwhile; NotFound, NotAuthorised, IdempotencyMismatch.
    """
    require(actor, "save_profile", account_id)
    given = checked_profile(profile)
    request = {
        **asdict(given),
        "currency": currency,
        "expected_version": expected_version,
    }
    key = f"billing_profile:{idempotency_key}"
    write = IdempotentRequest(account_id, key, "save_profile", request)
    session.execute(_LOCK, {"account_id": account_id})
    answer = stored_response(session, write)
    if answer is None:
        _require_billing_now(session, account_id, actor)
        answer = _save(session, account_id, given, currency, expected_version, actor)
        store_response(session, write, answer)
    return SavedProfile(**answer)


def _require_billing_now(session: Session, account_id: int, actor: Actor) -> None:
    """Check again under the lock: the actor's role may have ended while the lock was waited for."""
    if actor.is_system:
        return
    role = session.scalar(
        select(AccountMember.role).where(
            AccountMember.account_id == account_id, AccountMember.user_id == actor.user_id
        )
    )
    if role is None:
        raise NotFound("account")
    if role not in {MemberRole.OWNER, MemberRole.BILLING}:
        raise NotAuthorised


def _save(  # noqa: PLR0917 - one saving's facts
    session: Session,
    account_id: int,
    profile: BillingProfile,
    currency: str | None,
    expected_version: int,
    actor: Actor,
) -> dict[str, Any]:
    account = session.get(Account, account_id, populate_existing=True)
    if account is None:
        raise NotFound("account")
    before = newest_row(session, account_id)
    version = before.version if before is not None else 0
    if version != expected_version:
        raise Conflict("profile_changed")
    if profile.country not in served_countries(session, account.site_code):
        raise InvalidInput("country", "not_at_site", site=account.site_code)
    settled = _settle_currency(session, account, currency or account.currency, actor)
    changed = _changed_fields(profile_of(before) if before is not None else None, profile)
    if changed:
        version += 1
        row = BillingProfileVersion(
            account_id=account_id,
            version=version,
            **asdict(profile),
            changed_at=clock.now(session),
            changed_by=audit.actor_name(actor),
        )
        session.add(row)
        session.flush()
        details = {
            "version": version,
            "changed": changed,
            "from": _digest(profile_of(before)) if before is not None else None,
            "to": _digest(profile),
        }
        fraud_signals.record_profile(
            session,
            account_id=account_id,
            email=profile.email,
            address=profile.address,
            city=profile.city,
            country=profile.country,
            tax_code=profile.tax_code,
        )
        _record(session, "save_billing_profile", actor, account_id, details)
    return {"version": version, "currency": settled, "is_changed": bool(changed)}


def _settle_currency(session: Session, account: Account, currency: str, actor: Actor) -> str:
    """Lock the account's currency with the first profile; return it."""
    if account.currency_locked_at is not None:
        if currency != account.currency:
            raise InvalidInput("currency", "locked")
        return currency
    if currency != account.currency:
        _require_choice(session, account, currency)
    details = {"from": account.currency, "to": currency}
    session.execute(
        update(Account)
        .where(Account.id == account.id)
        .values(currency=currency, currency_locked_at=clock.now(session))
    )
    _record(session, "lock_currency", actor, account.id, details)
    return currency


def _require_choice(session: Session, account: Account, currency: str) -> None:
    """Raise InvalidInput unless the currency is the site's and no amount is in another yet."""
    currencies = session.execute(
        select(Site.currencies).where(Site.code == account.site_code)
    ).scalar_one()
    if currency not in currencies:
        raise InvalidInput("currency", "not_at_site", currencies=", ".join(currencies))
    if session.execute(_LOCK_POSTINGS, {"account_id": account.id}).scalar_one():
        raise InvalidInput("currency", "locked")


def _changed_fields(before: BillingProfile | None, after: BillingProfile) -> list[str]:
    old = asdict(before) if before is not None else {}
    return [name for name, value in asdict(after).items() if old.get(name) != value]


def _digest(profile: BillingProfile) -> str:
    """Return a digest that proves the version's content without revealing it."""
    content = json.dumps(asdict(profile), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _record(
    session: Session, action: str, actor: Actor, account_id: int, details: Mapping[str, Any]
) -> None:
    audit.record(session, action=action, actor=actor, account_id=account_id, details=details)
