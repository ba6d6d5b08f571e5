"""Define what staff can do to an account's credit: what each action is worth, and how it runs.

An action is a few plain values, so that it can wait in the database for a second person and be
judged again, whole, when that person agrees.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self
from uuid import uuid4

from sqlalchemy import func, select

from db.models import CampaignAmount, Entry, Payment, VoucherCode, VoucherRedemption
from domain import clock, ledger
from domain.errors import InvalidInput, NotFound, ReversalExceedsOriginal, VoucherRefused
from domain.money import MAX_MICROS, Money
from domain.payments import request_refund
from domain.permissions import require
from domain.vouchers import issue_code, lock_campaign, read_code, redeem_code_unchecked
from domain.vouchers.redeem import check_account, check_campaign, check_is_new

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.models import Account, Campaign
    from domain.actors import Actor

MAX_GOODWILL_DAYS = 365
REVERSIBLE_CREDITS = frozenset({"voucher", "adjustment"})
STAFF_REVERSIBLE_KINDS = REVERSIBLE_CREDITS | {"charge"}
"""What was paid for goes back through its payment, as a refund."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an act left behind: entries that it posted, a code that it made or used, a refund."""

    entries: tuple[int, ...]
    code: str | None = None
    refund_id: int | None = None


@dataclass(frozen=True, slots=True)
class ActionContext:
    """In whose name an action is performed, why, and under which key it is done once."""

    actor: Actor
    reason: str
    idempotency_key: str


class StaffAction(Protocol):
    """An action on an account that staff request. Its fields are plain values.

    `permission` is what its maker needs. Its limit is on what one person did for one account in a
    day where `is_limited_by_account`, else on what they did for all accounts.
    """

    name: ClassVar[str]
    permission: ClassVar[str]
    is_limited_by_account: ClassVar[bool]

    def resolve(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Return the action with everything said that was left open; raise where it cannot be."""
        ...

    def amount(self, session: Session, *, account: Account) -> Money:
        """Return what the act is worth, in the currency of its limit."""
        ...

    def execute(self, session: Session, *, account: Account, by: ActionContext) -> Effect:
        """Do it."""
        ...


@dataclass(frozen=True, slots=True)
class IssueVoucher:
    """A code of a campaign, made for this account, which its people redeem themselves."""

    name: ClassVar[str] = "issue_voucher"
    permission: ClassVar[str] = "act_on_account"
    is_limited_by_account: ClassVar[bool] = True
    campaign_id: int

    def resolve(self, session: Session, *, account: Account, actor: Actor) -> Self:
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
            raise VoucherRefused("used_by_this_account", limit=campaign.uses_per_account)
        return self

    def amount(self, session: Session, *, account: Account) -> Money:
        """Return what the campaign gives in the account's currency."""
        return _worth(session, self.campaign_id, account.currency)

    def execute(self, session: Session, *, account: Account, by: ActionContext) -> Effect:
        """Make the code."""
        campaign = lock_campaign(session, self.campaign_id)
        code = issue_code(session, campaign=campaign, account_id=account.id, actor=by.actor)
        return Effect((), code)


@dataclass(frozen=True, slots=True)
class ApplyCode:
    """A code that the customer has, redeemed for them."""

    name: ClassVar[str] = "apply_code"
    permission: ClassVar[str] = "act_on_account"
    is_limited_by_account: ClassVar[bool] = True
    code: str

    def resolve(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Read the code as it is kept. Raises VoucherRefused."""
        del session, account, actor
        code = read_code(self.code)
        if not code:
            raise VoucherRefused("unknown")
        return type(self)(code)

    def amount(self, session: Session, *, account: Account) -> Money:
        """Return what the code's campaign gives in the account's currency."""
        campaign_id = session.scalars(
            select(VoucherCode.campaign_id).where(VoucherCode.code == self.code)
        ).one_or_none()
        if campaign_id is None:
            raise VoucherRefused("unknown")
        return _worth(session, campaign_id, account.currency)

    def execute(self, session: Session, *, account: Account, by: ActionContext) -> Effect:
        """Redeem it."""
        redeemed = redeem_code_unchecked(
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
    permission: ClassVar[str] = "act_on_account"
    is_limited_by_account: ClassVar[bool] = True
    amount_micros: int
    days: int
    services: tuple[str, ...] | None = None

    def resolve(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Refuse amounts and times that make no sense. Raises InvalidInput."""
        del session, actor
        if not 0 < self.amount_micros <= MAX_MICROS:
            raise InvalidInput("amount", "not_positive")
        Money(self.amount_micros, account.currency).to_minor_units()
        if not 1 <= self.days <= MAX_GOODWILL_DAYS:
            raise InvalidInput("days", "out_of_range", minimum=1, maximum=MAX_GOODWILL_DAYS)
        services = tuple(sorted(set(self.services))) if self.services else None
        return type(self)(self.amount_micros, self.days, services)

    def amount(self, session: Session, *, account: Account) -> Money:
        """Return the amount."""
        del session
        return Money(self.amount_micros, account.currency)

    def execute(self, session: Session, *, account: Account, by: ActionContext) -> Effect:
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
    """A reversal of a wrong charge, or of credit that was granted wrongly, in part or whole.

    Without an amount it is all that is left to reverse when it is requested. A voucher or goodwill
    is clawed back as far as it is unspent; `includes_spent` goes further, and makes the spent part
    an amount due, for those who may reverse paid credit. Credit that was paid for is refunded with
    its payment instead.
    """

    name: ClassVar[str] = "reverse_entry"
    permission: ClassVar[str] = "act_on_account"
    is_limited_by_account: ClassVar[bool] = True
    entry_sequence: int
    amount_micros: int | None = None
    includes_spent: bool = False

    def resolve(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Say how much. Raises NotFound, InvalidInput, ReversalExceedsOriginal, NotAuthorised."""
        entry = session.get(Entry, (account.id, self.entry_sequence))
        if entry is None:
            raise NotFound("entry")
        if entry.kind not in STAFF_REVERSIBLE_KINDS:
            raise InvalidInput("entry", "not_reversible", kind=entry.kind)
        if self.includes_spent:
            require(actor, "reverse_paid_credit", account.id)
        left = ledger.reversible_micros(
            session,
            account_id=account.id,
            entry_sequence=self.entry_sequence,
            actor=actor,
            only_unspent=not self.includes_spent,
        )
        amount_micros = left if self.amount_micros is None else self.amount_micros
        if not 0 < amount_micros <= left:
            raise ReversalExceedsOriginal(amount_micros, left)
        return type(self)(self.entry_sequence, amount_micros, self.includes_spent)

    def amount(self, session: Session, *, account: Account) -> Money:
        """Return the amount."""
        del session
        return Money(self.amount_micros or 0, account.currency)

    def execute(self, session: Session, *, account: Account, by: ActionContext) -> Effect:
        """Post the reversal."""
        sequence = ledger.reverse_entry(
            session,
            account_id=account.id,
            entry_sequence=self.entry_sequence,
            amount_micros=self.amount_micros,
            only_unspent=not self.includes_spent,
            reason=by.reason,
            actor=by.actor,
            idempotency_key=by.idempotency_key,
        )
        return Effect((sequence,))


@dataclass(frozen=True, slots=True)
class RefundPayment:
    """Money of a payment that goes back, in the currency that was paid, with its credit."""

    name: ClassVar[str] = "refund_payment"
    permission: ClassVar[str] = "refund_payment"
    is_limited_by_account: ClassVar[bool] = False
    payment_id: int
    amount_micros: int
    currency: str

    def resolve(self, session: Session, *, account: Account, actor: Actor) -> Self:
        """Try it and take it back again: it is judged by the very service that carries it out.

        Raises NotFound for a payment of another account, and as `request_refund` does.
        """
        payment = session.get(Payment, self.payment_id, populate_existing=True)
        if payment is None or payment.account_id != account.id:
            raise NotFound("payment")
        savepoint = session.begin_nested()
        try:
            self.execute(
                session, account=account, by=ActionContext(actor, "tried", f"try:{uuid4().hex}")
            )
        finally:
            savepoint.rollback()
        return self

    def amount(self, session: Session, *, account: Account) -> Money:
        """Return the amount, in the currency that was paid."""
        del session, account
        return Money(self.amount_micros, self.currency)

    def execute(self, session: Session, *, account: Account, by: ActionContext) -> Effect:
        """Request the refund; the caller with the gateway sends it after the commit."""
        del account
        planned = request_refund(
            session,
            payment_id=self.payment_id,
            amount=Money(self.amount_micros, self.currency),
            reason=by.reason,
            actor=by.actor,
            idempotency_key=by.idempotency_key,
        )
        sequence = planned.entry_sequence
        return Effect(() if sequence is None else (sequence,), refund_id=planned.refund_id)


STAFF_ACTIONS: dict[str, type[StaffAction]] = {
    each.name: each for each in (IssueVoucher, ApplyCode, GiveGoodwill, ReverseEntry, RefundPayment)
}


def plain(action: StaffAction) -> dict[str, Any]:
    """Return the action's values as the database keeps them."""
    return asdict(action)  # type: ignore[call-overload, no-any-return]


def of_plain(action: str, values: dict[str, Any]) -> StaffAction:
    """Return the action that `plain` was made of."""
    named = {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}
    return STAFF_ACTIONS[action](**named)


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
