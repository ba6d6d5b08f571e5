"""What staff can do to an account's credit: what each act is worth, and how it is carried out.

A wish is a handful of plain values, so that it can wait in the database for a second person and be
judged again, whole, when that person agrees.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from sqlalchemy import func, select

from db.models import CampaignAmount, Entry, VoucherCode, VoucherRedemption
from domain import clock, ledger
from domain.errors import InvalidInput, NotFound, ReversalExceedsOriginal, VoucherRefused
from domain.money import MAX_MICROS, Money
from domain.vouchers import issue_code, lock_campaign, read_code, redeem_for
from domain.vouchers.redeem import check_account, check_campaign, check_is_new

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.models import Account, Campaign
    from domain.actors import Actor

LONGEST_GOODWILL_DAYS = 365
REVERSIBLE_KINDS = frozenset({"charge", "voucher", "adjustment"})
"""What was paid for goes back through its payment, as a refund."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an act left behind: the entries that it posted, and the code that it made or used."""

    entries: tuple[int, ...]
    code: str | None = None


@dataclass(frozen=True, slots=True)
class By:
    """In whose name a wish is carried out, why, and under which key it is done once."""

    actor: Actor
    reason: str
    idempotency_key: str


class Wish(Protocol):
    """An act on an account that staff ask for. Its fields are plain values."""

    name: ClassVar[str]

    def settled(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Return the wish with everything said that was left open; raise where it cannot be."""
        ...

    def value(self, session: Session, *, account: Account) -> Money:
        """Return what the act is worth, in the account's currency."""
        ...

    def carry_out(self, session: Session, *, account: Account, by: By) -> Effect:
        """Do it."""
        ...


@dataclass(frozen=True, slots=True)
class IssueVoucher:
    """A code of a campaign, made for this account, which its people redeem themselves."""

    name: ClassVar[str] = "issue_voucher"
    campaign_id: int

    def settled(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Refuse a campaign that the account could not redeem. Raises VoucherRefused, NotFound."""
        del actor
        campaign = lock_campaign(session, self.campaign_id)
        if not campaign.is_for_support or campaign.trigger != "code":
            raise VoucherRefused("not_for_support")
        check_campaign(session, campaign)
        try:
            check_account(session, campaign, account.id)
            check_is_new(session, campaign, account.id)
        except VoucherRefused as refusal:
            # They are asked for their billing information when they redeem it.
            if refusal.reason != "no_billing_profile":
                raise
        if _had_or_waiting(session, campaign, account.id) >= campaign.uses_per_account:
            raise VoucherRefused("used_by_this_account")
        return self

    def value(self, session: Session, *, account: Account) -> Money:
        """Return what the campaign gives in the account's currency."""
        return _worth(session, self.campaign_id, account.currency)

    def carry_out(self, session: Session, *, account: Account, by: By) -> Effect:
        """Make the code."""
        campaign = lock_campaign(session, self.campaign_id)
        code = issue_code(session, campaign=campaign, account_id=account.id, actor=by.actor)
        return Effect((), code)


@dataclass(frozen=True, slots=True)
class ApplyCode:
    """A code that the customer has, redeemed for them."""

    name: ClassVar[str] = "apply_code"
    code: str

    def settled(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Read the code as it is kept. Raises VoucherRefused."""
        del session, account, actor
        code = read_code(self.code)
        if not code:
            raise VoucherRefused("unknown")
        return type(self)(code)

    def value(self, session: Session, *, account: Account) -> Money:
        """Return what the code's campaign gives in the account's currency."""
        campaign_id = session.scalars(
            select(VoucherCode.campaign_id).where(VoucherCode.code == self.code)
        ).one_or_none()
        if campaign_id is None:
            raise VoucherRefused("unknown")
        return _worth(session, campaign_id, account.currency)

    def carry_out(self, session: Session, *, account: Account, by: By) -> Effect:
        """Redeem it."""
        redeemed = redeem_for(
            session,
            account_id=account.id,
            typed=self.code,
            actor=by.actor,
            idempotency_key=by.idempotency_key,
        )
        row = session.get_one(VoucherRedemption, redeemed.redemption_id)
        return Effect(tuple(row.entries), self.code)


@dataclass(frozen=True, slots=True)
class GiveGoodwill:
    """Credit for nothing, such as for an outage, for so many days and, if named, services."""

    name: ClassVar[str] = "give_goodwill"
    amount_micros: int
    days: int
    services: tuple[str, ...] | None = None

    def settled(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Refuse amounts and times that make no sense. Raises InvalidInput."""
        del session, actor
        if not 0 < self.amount_micros <= MAX_MICROS:
            raise InvalidInput("amount", "not_positive")
        Money(self.amount_micros, account.currency).to_minor_units()
        if not 1 <= self.days <= LONGEST_GOODWILL_DAYS:
            raise InvalidInput("days", "out_of_range", minimum=1, maximum=LONGEST_GOODWILL_DAYS)
        services = tuple(sorted(set(self.services))) if self.services else None
        return type(self)(self.amount_micros, self.days, services)

    def value(self, session: Session, *, account: Account) -> Money:
        """Return the amount."""
        del session
        return Money(self.amount_micros, account.currency)

    def carry_out(self, session: Session, *, account: Account, by: By) -> Effect:
        """Grant it."""
        posted = ledger.add_grant(
            session,
            account_id=account.id,
            terms=ledger.GrantTerms(
                kind="adjustment",
                amount_micros=self.amount_micros,
                services=self.services,
                expires_at=clock.now(session) + timedelta(days=self.days),
            ),
            source="adjustment",
            actor=by.actor,
            idempotency_key=by.idempotency_key,
        )
        return Effect((posted.entry_sequence,))


@dataclass(frozen=True, slots=True)
class ReverseEntry:
    """A wrong charge given back, or credit that was given wrongly taken back, in part or whole.

    Without an amount it is all that is left to reverse when it is asked for. Credit that was paid
    for is refunded with its payment instead.
    """

    name: ClassVar[str] = "reverse_entry"
    entry_sequence: int
    amount_micros: int | None = None

    def settled(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Say how much. Raises NotFound, InvalidInput, ReversalExceedsOriginal, NotAuthorised."""
        entry = session.get(Entry, (account.id, self.entry_sequence))
        if entry is None:
            raise NotFound("entry")
        if entry.kind not in REVERSIBLE_KINDS:
            raise InvalidInput("entry", "not_reversible", kind=entry.kind)
        left = ledger.reversible_micros(
            session, account_id=account.id, entry_sequence=self.entry_sequence, actor=actor
        )
        wanted = left if self.amount_micros is None else self.amount_micros
        if not 0 < wanted <= left:
            raise ReversalExceedsOriginal(wanted, left)
        return type(self)(self.entry_sequence, wanted)

    def value(self, session: Session, *, account: Account) -> Money:
        """Return the amount."""
        del session
        return Money(self.amount_micros or 0, account.currency)

    def carry_out(self, session: Session, *, account: Account, by: By) -> Effect:
        """Post the reversal."""
        sequence = ledger.reverse_entry(
            session,
            account_id=account.id,
            entry_sequence=self.entry_sequence,
            amount_micros=self.amount_micros,
            reason=by.reason,
            actor=by.actor,
            idempotency_key=by.idempotency_key,
        )
        return Effect((sequence,))


WISHES: dict[str, type[Wish]] = {
    each.name: each for each in (IssueVoucher, ApplyCode, GiveGoodwill, ReverseEntry)
}


def plain(wish: Wish) -> dict[str, Any]:
    """Return the wish's values as the database keeps them."""
    return asdict(wish)  # type: ignore[call-overload, no-any-return]


def of_plain(action: str, values: dict[str, Any]) -> Wish:
    """Return the wish that `plain` was made of."""
    named = {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}
    return WISHES[action](**named)


def _worth(session: Session, campaign_id: int, currency: str) -> Money:
    row = session.get(CampaignAmount, (campaign_id, currency))
    if row is None:
        raise VoucherRefused("wrong_currency")
    return Money(row.amount_micros, currency)


def _had_or_waiting(session: Session, campaign: Campaign, account_id: int) -> int:
    had = (
        select(func.count())
        .select_from(VoucherRedemption)
        .where(
            VoucherRedemption.campaign_id == campaign.id,
            VoucherRedemption.account_id == account_id,
        )
    )
    waiting = (
        select(func.count())
        .select_from(VoucherCode)
        .where(
            VoucherCode.campaign_id == campaign.id,
            VoucherCode.account_id == account_id,
            VoucherCode.revoked_at.is_(None),
            VoucherCode.uses < VoucherCode.most_uses,
        )
    )
    return session.scalars(had).one() + session.scalars(waiting).one()
