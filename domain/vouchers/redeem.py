"""Redeem voucher codes: once, within the campaign's budget, for the account they are meant for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import func, select, text

from db.models import Account, Campaign, CampaignAmount, VoucherCode, VoucherRedemption
from domain import audit, clock, fraud_signals, ledger
from domain.actors import system_actor
from domain.billing_profiles import current_profile
from domain.errors import VoucherRefused
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.money import Money
from domain.permissions import require
from domain.security.rate_limits import Limit, counter, record_attempt, refund_attempt
from domain.vouchers.campaigns import parts_of
from domain.vouchers.codes import hide_code, lock_campaign, read_code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.security.rate_limits import Counter

T = TypeVar("T")

VOUCHER_ACTOR = system_actor("vouchers")
"""In whose name the credit of vouchers is posted; who redeemed stands in the redemption."""

SOURCE = "voucher"

_GUESSES = Limit(
    free=10,
    first_wait=timedelta(minutes=1),
    longest_wait=timedelta(hours=1),
    forgotten_after=timedelta(days=1),
)
_GUESSES_FROM_ONE_PLACE = Limit(
    free=50,
    first_wait=timedelta(minutes=1),
    longest_wait=timedelta(hours=1),
    forgotten_after=timedelta(days=1),
)

_IS_UNUSED = text("""
SELECT last_entry_sequence = 0 FROM account_balances WHERE account_id = :account_id FOR UPDATE
""")


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a redemption granted: its credit lasts until `expires_at`."""

    redemption_id: int
    campaign: str
    amount: Money
    expires_at: datetime


def redeem_code_unlimited(
    session: Session, *, account_id: int, typed: str, actor: Actor, idempotency_key: str
) -> Redeemed:
    """Redeem a code for the account, for an owner or billing member of it.

    Raises VoucherRefused with the cause, RateLimited, NotAuthorised, NotFound. A caller that serves
    people counts their attempts first: see `redeem_code`.
    """
    require(actor, "redeem_code", account_id)
    return redeem_code_unchecked(
        session, account_id=account_id, typed=typed, actor=actor, idempotency_key=idempotency_key
    )


def redeem_code(
    sessions: sessionmaker[Session],
    *,
    account_id: int,
    typed: str,
    actor: Actor,
    idempotency_key: str,
    key: bytes,
) -> Redeemed:
    """Count an attempt and then redeem; a successful attempt is taken off the count again.

    `key` is the secret that counters are made with. Raises as `redeem_code_unlimited` does, and
    RateLimited with the seconds to wait after many refusals, by person, account and network.
    """
    require(actor, "redeem_code", account_id)
    return rate_limited(
        sessions,
        partial(
            redeem_code_unlimited,
            account_id=account_id,
            typed=typed,
            actor=actor,
            idempotency_key=idempotency_key,
        ),
        account_id=account_id,
        actor=actor,
        key=key,
    )


def rate_limited(
    sessions: sessionmaker[Session],
    attempt: Callable[[Session], T],
    *,
    account_id: int,
    actor: Actor,
    key: bytes,
) -> T:
    """Count an attempt at a code, carry it out, and take it off the count if it succeeds.

    Raises RateLimited, and what the attempt raises.
    """
    counters = _counters(key, account_id, actor)
    with sessions.begin() as session:
        record_attempt(session, counters)
    with sessions.begin() as session:
        done = attempt(session)
        refund_attempt(session, counters)
    return done


def _counters(key: bytes, account_id: int, actor: Actor) -> list[Counter]:
    counters = [
        counter(key, _GUESSES, "voucher-account", str(account_id)),
        counter(key, _GUESSES, "voucher-person", str(actor.user_id)),
    ]
    if actor.ip is not None:
        counters.append(counter(key, _GUESSES_FROM_ONE_PLACE, "voucher-place", actor.ip))
    return counters


def redeem_code_unchecked(
    session: Session, *, account_id: int, typed: str, actor: Actor, idempotency_key: str
) -> Redeemed:
    """Redeem a code for an actor whose permission the caller has checked. Raises VoucherRefused."""
    code = read_code(typed)
    campaign_id = session.scalars(
        select(VoucherCode.campaign_id).where(VoucherCode.code == code)
    ).one_or_none()
    if campaign_id is None:
        raise VoucherRefused("unknown")
    # Always the campaign first, then the code, then the account: no deadlock.
    campaign = lock_campaign(session, campaign_id)
    write = IdempotentRequest(
        account_id, f"voucher:{idempotency_key}", "redeem_code", {"code": code}
    )
    known = stored_response(session, write)
    if known is not None:
        return _redeemed(session, campaign, int(known["redemption"]))
    if actor.ip is not None and account_id in actor.memberships:
        fraud_signals.record_network(session, account_id=account_id, address=actor.ip)
    row = session.get_one(VoucherCode, code, with_for_update=True, populate_existing=True)
    _check_code(session, campaign, row, account_id)
    redemption = grant_redemption(
        session,
        campaign=campaign,
        account_id=account_id,
        code=code,
        payment_id=None,
        instrument_digest=None,
        actor=actor,
    )
    row.uses += 1
    store_response(session, write, {"redemption": redemption.id})
    return _redeemed(session, campaign, redemption.id)


def _check_code(session: Session, campaign: Campaign, row: VoucherCode, account_id: int) -> None:
    if row.account_id is not None and row.account_id != account_id:
        raise VoucherRefused("not_for_this_account")
    if row.account_id is None and campaign.is_for_named_accounts:
        raise VoucherRefused("not_for_this_account")
    if row.revoked_at is not None:
        raise VoucherRefused("revoked")
    if row.uses >= row.most_uses and campaign.state == "approved":
        raise VoucherRefused("used")
    check_campaign(session, campaign)
    check_account(session, campaign, account_id)
    check_is_new(session, campaign, account_id)


def check_campaign(session: Session, campaign: Campaign) -> None:
    """Check that a campaign grants credit now. Raises VoucherRefused."""
    now = clock.now(session)
    if campaign.state != "approved":
        raise VoucherRefused("revoked")
    if now < campaign.redeem_from:
        raise VoucherRefused("not_yet", when=campaign.redeem_from)
    if now >= campaign.redeem_until:
        raise VoucherRefused("expired", when=campaign.redeem_until)


def check_account(session: Session, campaign: Campaign, account_id: int) -> None:
    """Check that a locked campaign is meant for an account, whatever its history.

    Raises VoucherRefused.
    """
    account = session.get_one(Account, account_id, populate_existing=True)
    profile = current_profile(session, actor=VOUCHER_ACTOR, account_id=account_id)
    if profile is None:
        raise VoucherRefused("no_billing_profile")
    if account.status == "closed":
        raise VoucherRefused("not_for_this_account")
    if campaign.site_codes is not None and account.site_code not in campaign.site_codes:
        raise VoucherRefused("wrong_site")
    if campaign.countries is not None and profile.profile.country not in campaign.countries:
        raise VoucherRefused("wrong_country")
    if campaign.blocks_suspects and fraud_signals.is_linked_to_prior_account(
        session, account_id=account_id, campaign_id=campaign.id
    ):
        raise VoucherRefused("suspect")


def check_is_new(session: Session, campaign: Campaign, account_id: int) -> None:
    """Check that an account is unused, where the campaign requires that. Raises VoucherRefused."""
    if campaign.is_for_new_accounts and not is_unused(session, account_id):
        raise VoucherRefused("not_new")


def is_unused(session: Session, account_id: int) -> bool:
    """Return whether the account never had a top-up, a voucher, usage or anything else.

    The result holds until the transaction ends.
    """
    unused: bool = session.execute(_IS_UNUSED, {"account_id": account_id}).scalar_one()
    return unused


def grant_redemption(
    session: Session,
    *,
    campaign: Campaign,
    account_id: int,
    code: str | None,
    payment_id: int | None,
    instrument_digest: bytes | None,
    actor: Actor,
) -> VoucherRedemption:
    """Grant the credit of a locked campaign, within its budget, and record the redemption.

    Raises VoucherRefused for a currency that it does not have, a budget that does not cover one
    more redemption, or an account that has reached its limit.
    """
    currency = session.get_one(Account, account_id).currency
    amount = session.get(
        CampaignAmount, (campaign.id, currency), with_for_update=True, populate_existing=True
    )
    if amount is None:
        raise VoucherRefused("wrong_currency")
    number = 1 + _redemptions_of(session, campaign.id, account_id)
    if number > campaign.uses_per_account:
        raise VoucherRefused("used_by_this_account", limit=campaign.uses_per_account)
    if amount.granted_micros + amount.amount_micros > amount.budget_micros:
        raise VoucherRefused("budget_spent")
    now = clock.now(session)
    amount.granted_micros += amount.amount_micros
    amount.redemptions += 1
    expires_at = _end_of_validity(now, campaign.validity_days)
    named = f"{campaign.id}:{account_id}:{number}"
    posted = _post(session, campaign, account_id, currency, expires_at, origin=code, key=named)
    redemption = VoucherRedemption(
        campaign_id=campaign.id,
        account_id=account_id,
        number=number,
        code=code,
        payment_id=payment_id,
        instrument_digest=instrument_digest,
        currency=currency,
        amount_micros=amount.amount_micros,
        grants=[each.grant_number for each in posted],
        entries=[each.entry_sequence for each in posted],
        redeemed_at=now,
        redeemed_by=audit.actor_name(actor),
        expires_at=expires_at,
    )
    session.add(redemption)
    session.flush()
    details: dict[str, int | str] = {"redemption": redemption.id, "campaign": campaign.id}
    if code is not None:
        details["code"] = hide_code(code)
    audit.record(
        session, action="redeem_voucher", actor=actor, account_id=account_id, details=details
    )
    return redemption


def _end_of_validity(start: datetime, days: int) -> datetime:
    """Return the expiry in whole minutes, as the ledger keeps it, and never before the days end."""
    return (start + timedelta(days=days, minutes=1)).replace(second=0, microsecond=0)


def _redemptions_of(session: Session, campaign_id: int, account_id: int) -> int:
    return session.scalars(
        select(func.count())
        .select_from(VoucherRedemption)
        .where(
            VoucherRedemption.campaign_id == campaign_id,
            VoucherRedemption.account_id == account_id,
        )
    ).one()


def _post(
    session: Session,
    campaign: Campaign,
    account_id: int,
    currency: str,
    expires_at: datetime,
    *,
    origin: str | None,
    key: str,
) -> Sequence[ledger.PostedGrant]:
    description_parameters = {"campaign": campaign.name}
    if origin is None:  # without a code, this shows the customer the origin
        description_parameters["reason"] = campaign.description
    return [
        ledger.add_grant(
            session,
            account_id=account_id,
            terms=ledger.GrantTerms(
                kind="voucher",
                amount_micros=part.amount.micros,
                services=part.services,
                expires_at=expires_at,
                origin=origin,
            ),
            source=SOURCE,
            actor=VOUCHER_ACTOR,
            idempotency_key=f"voucher:{key}:{position}",
            description_parameters=description_parameters,
        )
        for position, part in enumerate(
            parts_of(session, campaign_id=campaign.id, currency=currency), start=1
        )
    ]


def _redeemed(session: Session, campaign: Campaign, redemption_id: int) -> Redeemed:
    row = session.get_one(VoucherRedemption, redemption_id)
    return Redeemed(
        redemption_id=row.id,
        campaign=campaign.description,
        amount=Money(row.amount_micros, row.currency),
        expires_at=row.expires_at,
    )
