"""Grant what campaigns offer with a first top-up: once an account, and once an instrument.

Nothing here stops a top-up's credit: what a campaign does not grant is noted, and the credit stays.
Locks are taken in the order payment, campaigns by their ids, account, as redeeming a code does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from db.bulk import fetch_rows
from db.models import PaymentEvent, VoucherRedemption
from domain import clock, fraud_signals
from domain.errors import BillingError, VoucherRefused
from domain.payments.records import add_event
from domain.vouchers import VOUCHER_ACTOR, check_account, grant_redemption, lock_campaign

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from db.models import Campaign, Payment
    from domain.actors import Actor
    from domain.gateways.interface import PaymentUpdate

_log = logging.getLogger(__name__)

GIVEN, REFUSED, WAITS = "starter_pack", "starter_pack_refused", "starter_pack_waits"

# Credit granted without a payment, such as by an import from another system, counts as a top-up
# too.
_HAD_TOP_UP = """
EXISTS (
  SELECT FROM grants WHERE account_id = %(account_id)s AND kind = 'top_up'
    AND grant_number < coalesce(%(before)s, 9223372036854775807))
"""
_ASK_HAD_TOP_UP = f"SELECT {_HAD_TOP_UP}"
# As it stood when the money was credited, however late it is known what it was paid with.
_FITTING = f"""
SELECT c.id FROM campaigns c
JOIN campaign_amounts a ON a.campaign_id = c.id AND a.currency = %(currency)s
JOIN accounts account ON account.id = %(account_id)s
WHERE c.trigger = 'first_top_up' AND c.state = 'approved' AND c.decided_at <= %(at)s
  AND c.redeem_from <= %(at)s AND c.redeem_until > %(at)s
  AND (c.site_codes IS NULL OR account.site_code = ANY (c.site_codes))
  AND a.minimum_top_up_micros <= %(credit_micros)s
  AND NOT {_HAD_TOP_UP}
ORDER BY c.id
"""  # noqa: S608 - constant text


def lock_packs(session: Session, payment: Payment, *, at: datetime) -> list[Campaign]:
    """Return the campaigns that a payment credited at a moment may earn something of, locked.

    To be called before anything locks the account. None where it had a top-up before.
    """
    asked = {
        "account_id": payment.account_id,
        "before": payment.grant_number,
        "currency": payment.credit_currency,
        "credit_micros": payment.credit_micros,
        "at": at,
    }
    found = [lock_campaign(session, number) for (number,) in fetch_rows(session, _FITTING, **asked)]
    return [campaign for campaign in found if campaign.state == "approved"]


def give_packs(
    session: Session, payment: Payment, update: PaymentUpdate, packs: list[Campaign], actor: Actor
) -> None:
    """Grant what the locked campaigns offer for a payment that was credited in this transaction.

    Where the gateway has not reported yet what it was paid with, it is queried at once, and its
    response goes to `settle_packs`.
    """
    if not packs or _had_top_up(session, payment):
        return
    if update.asking_tells_instrument:
        add_event(session, payment, WAITS, actor=actor)
        payment.next_check_at = clock.now(session)
        return
    digest = fraud_signals.record_instrument(
        session,
        account_id=payment.account_id,
        gateway=payment.gateway,
        instrument=update.instrument,
    )
    is_unknown = update.instrument is not None and digest is None
    for campaign in packs:
        reason = "no_key" if is_unknown else _give(session, payment, campaign, digest)
        details: dict[str, object] = {"campaign": campaign.id}
        if reason is not None:
            details["reason"] = reason
        add_event(session, payment, REFUSED if reason else GIVEN, actor=actor, details=details)


def settle_packs(session: Session, payment: Payment, update: PaymentUpdate, actor: Actor) -> None:
    """Grant a credited payment what waited for its instrument, now that this is known."""
    if update.asking_tells_instrument:
        return
    steps = session.scalars(
        select(PaymentEvent.kind).where(
            PaymentEvent.account_id == payment.account_id,
            PaymentEvent.payment_id == payment.id,
            PaymentEvent.kind.in_((GIVEN, REFUSED, WAITS)),
        )
    ).all()
    if set(steps) != {WAITS}:
        return
    packs = lock_packs(session, payment, at=payment.credited_at or clock.now(session))
    went_back = payment.refunded_micros + payment.disputed_micros > 0
    if packs and not went_back:
        give_packs(session, payment, update, packs, actor)
    else:
        reason = "money_went_back" if went_back else "over"
        add_event(session, payment, REFUSED, actor=actor, details={"reason": reason})


def _had_top_up(session: Session, payment: Payment) -> bool:
    asked = {"account_id": payment.account_id, "before": payment.grant_number}
    had: bool = fetch_rows(session, _ASK_HAD_TOP_UP, **asked)[0][0]
    return had


def _give(
    session: Session, payment: Payment, campaign: Campaign, digest: bytes | None
) -> str | None:
    """Grant one campaign's credit and return None, or the reason against it."""
    try:
        with session.begin_nested():
            check_account(session, campaign, payment.account_id)
            _check_payment(session, payment, campaign, digest)
            grant_redemption(
                session,
                campaign=campaign,
                account_id=payment.account_id,
                code=None,
                payment_id=payment.id,
                instrument_digest=digest,
                actor=VOUCHER_ACTOR,
            )
    except VoucherRefused as refusal:
        return refusal.reason
    except (BillingError, IntegrityError):
        _log.exception("campaign %d gives payment %d nothing", campaign.id, payment.id)
        return "fault"
    return None


def _check_payment(
    session: Session, payment: Payment, campaign: Campaign, digest: bytes | None
) -> None:
    # The account's first entry is this payment's: there was no voucher, no usage, nothing.
    if campaign.is_for_new_accounts and payment.entry_sequence != 1:
        raise VoucherRefused("not_new")
    if digest is None:
        return
    seen = select(VoucherRedemption.id).where(
        VoucherRedemption.campaign_id == campaign.id,
        VoucherRedemption.instrument_digest == digest,
    )
    if session.scalars(seen).first() is not None:
        raise VoucherRefused("instrument_seen")
