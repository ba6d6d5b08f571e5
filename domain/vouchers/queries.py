"""List an account's vouchers: what was redeemed, how much of it is left, and what waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.money import Money
from domain.permissions import require

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor


@dataclass(frozen=True, slots=True)
class VoucherRow:
    """A redeemed voucher. `code` is None where a first top-up earned it.

    `services` are those that its credit is limited to; empty: it pays for every service. `status`
    is active, used_up, expired or revoked (by staff).
    """

    redemption_id: int
    code: str | None
    description: str
    added_at: datetime
    amount: Money
    remaining: Money
    expires_at: datetime
    services: tuple[str, ...]
    status: str
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WaitingVoucher:
    """A code that was made for the account and can be redeemed until `redeem_until`."""

    code: str
    description: str
    amount: Money
    redeem_from: datetime
    redeem_until: datetime
    validity_days: int


# A part that pays for everything makes the whole pay for everything.
_REDEEMED = text("""
SELECT r.id, r.code, c.description, r.redeemed_at, r.amount_micros, r.currency,
       g.remaining, r.expires_at, s.named, r.entries,
       CASE WHEN g.remaining > 0 THEN 'active'
            WHEN g.taken >= r.amount_micros THEN 'revoked'
            WHEN g.expired > 0 THEN 'expired'
            ELSE 'used_up' END
FROM voucher_redemptions r
JOIN campaigns c ON c.id = r.campaign_id
CROSS JOIN LATERAL (
  SELECT CAST(sum(b.remaining_micros) AS bigint) AS remaining,
         CAST(sum(b.clawed_back_micros) AS bigint) AS taken,
         CAST(sum(b.expired_micros) AS bigint) AS expired,
         bool_or(b.services IS NULL) AS is_for_all
  FROM grant_balances b
  WHERE b.account_id = r.account_id AND b.grant_number = ANY (r.grants)
) g
CROSS JOIN LATERAL (
  SELECT coalesce(array_agg(DISTINCT slug ORDER BY slug), '{}') AS named
  FROM grant_balances b CROSS JOIN LATERAL unnest(b.services) AS slug
  WHERE b.account_id = r.account_id AND b.grant_number = ANY (r.grants) AND NOT g.is_for_all
) s
WHERE r.account_id = :account_id
ORDER BY r.id DESC
LIMIT :limit
""")

_WAITING = text("""
SELECT v.code, c.description, a.amount_micros, a.currency, c.redeem_from, c.redeem_until,
       c.validity_days
FROM voucher_codes v
JOIN campaigns c ON c.id = v.campaign_id
JOIN accounts account ON account.id = v.account_id
JOIN campaign_amounts a ON a.campaign_id = c.id AND a.currency = account.currency
WHERE v.account_id = :account_id AND v.uses < v.most_uses AND v.revoked_at IS NULL
  AND c.state = 'approved' AND c.redeem_until > clock_timestamp()
ORDER BY c.redeem_until, v.code
LIMIT :limit
""")


def account_vouchers(
    session: Session, *, actor: Actor, account_id: int, limit: int = 500
) -> tuple[VoucherRow, ...]:
    """Return what was redeemed, the newest first. Raises NotFound for those who may not see it."""
    require(actor, "see_account", account_id)
    rows = session.execute(_REDEEMED, {"account_id": account_id, "limit": limit})
    return tuple(
        VoucherRow(
            redemption_id=number,
            code=code,
            description=description,
            added_at=added_at,
            amount=Money(amount, currency),
            remaining=Money(remaining, currency),
            expires_at=expires_at,
            services=tuple(services),
            status=status,
            entries=tuple(entries),
        )
        for (
            number,
            code,
            description,
            added_at,
            amount,
            currency,
            remaining,
            expires_at,
            services,
            entries,
            status,
        ) in rows
    )


def waiting_vouchers(
    session: Session, *, actor: Actor, account_id: int, limit: int = 100
) -> tuple[WaitingVoucher, ...]:
    """Return codes made for the account that were not redeemed, those that end first on top."""
    require(actor, "see_account", account_id)
    rows = session.execute(_WAITING, {"account_id": account_id, "limit": limit})
    return tuple(
        WaitingVoucher(
            code=code,
            description=description,
            amount=Money(amount, currency),
            redeem_from=redeem_from,
            redeem_until=redeem_until,
            validity_days=days,
        )
        for code, description, amount, currency, redeem_from, redeem_until, days in rows
    )
