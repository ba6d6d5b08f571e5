"""Manage campaigns: one finance member requests what codes grant, another approves it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from db.models import Campaign, CampaignAmount, CampaignPart
from db.models.vouchers import CampaignState
from domain import audit, clock
from domain.approvals import decision_state, is_new_decision, record_decision
from domain.errors import AlreadyDecided, Conflict, InvalidInput, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.money import MAX_MICROS, Money
from domain.permissions import require
from domain.validation import check_text, checked_name
from domain.vouchers.codes import lock_campaign

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

MAX_VALIDITY_DAYS = 3660
_MAX_CODE_BUDGET = 10_000_000
_MAX_USES = 1_000_000
MAX_DESCRIPTION_LENGTH = 200
_NO_ACCOUNT = 0

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('campaigns', 0))")
_SITES = text("SELECT code, currencies FROM sites")
_SERVICES = text("SELECT slug FROM services")


@dataclass(frozen=True, slots=True)
class GrantTemplate:
    """One grant of a redemption: its amount, and the services that it pays for (None: all)."""

    amount: Money
    services: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CurrencyTerms:
    """What one redemption grants in a currency, and the budget of the campaign in it.

    A first top-up below `minimum_top_up` earns nothing; campaigns with codes have no minimum.
    """

    parts: tuple[GrantTemplate, ...]
    budget: Money
    minimum_top_up: Money | None = None

    @property
    def amount(self) -> Money:
        """The sum of the parts."""
        currency = self.budget.currency
        return Money(sum(part.amount.micros for part in self.parts), currency)


@dataclass(frozen=True, slots=True)
class CampaignTerms:
    """The terms of a campaign: grants, eligibility and dates.

    None for sites or countries: all of them.

    `validity_days` count from the redemption. `is_for_named_accounts`: only codes that were created
    for an account; `is_for_support`: staff may create such codes one at a time.
    """

    name: str
    description: str
    offers: tuple[CurrencyTerms, ...]
    redeem_from: datetime
    redeem_until: datetime
    validity_days: int
    code_budget: int = 0
    trigger: str = "code"
    uses_per_code: int = 1
    uses_per_account: int = 1
    site_codes: tuple[str, ...] | None = None
    countries: tuple[str, ...] | None = None
    is_for_new_accounts: bool = False
    is_for_named_accounts: bool = False
    is_for_support: bool = False
    blocks_suspects: bool = False


@dataclass(frozen=True, slots=True)
class CampaignView:
    """A campaign as staff see it; people are named as the audit log names them."""

    campaign_id: int
    terms: CampaignTerms
    state: str
    codes: int
    granted: tuple[Money, ...]
    redemptions: int
    requested_by: str
    requested_at: datetime
    decided_by: str | None
    decided_at: datetime | None


def request_campaign(
    session: Session, *, terms: CampaignTerms, actor: Actor, idempotency_key: str
) -> int:
    """Request approval of a campaign by another person; return the campaign's id.

    Raises InvalidInput, by field of the terms, for terms that do not fit together;
    Conflict("name_is_taken"); IdempotencyMismatch; NotAuthorised.
    """
    require(actor, "request_campaign")
    terms = _checked(session, terms)
    write = IdempotentRequest(
        _NO_ACCOUNT, f"campaign:{idempotency_key}", "request_campaign", _plain(terms)
    )
    session.execute(_LOCK)
    known = stored_response(session, write)
    if known is not None:
        return int(known["campaign"])
    taken = select(Campaign.id).where(func.lower(Campaign.name) == func.lower(terms.name))
    if session.scalars(taken).first() is not None:
        raise Conflict("name_is_taken")
    campaign_id = _add(session, terms, actor)
    store_response(session, write, {"campaign": campaign_id})
    audit.record(
        session,
        action="request_campaign",
        actor=actor,
        details={"campaign": campaign_id, "terms": _plain(terms)},
    )
    return campaign_id


def decide_campaign(session: Session, *, campaign_id: int, is_approved: bool, actor: Actor) -> None:
    """Approve or reject a campaign that another person requested; the same again: no effect.

    Raises NotAuthorised for the person who requested it, and AlreadyDecided.
    """
    require(actor, "decide_campaign")
    campaign = lock_campaign(session, campaign_id)
    state = decision_state(is_approved=is_approved)
    if campaign.state == CampaignState.ENDED:
        raise AlreadyDecided(campaign.state, campaign.ended_by, campaign.ended_at)
    if not is_new_decision(campaign, state, actor, requested_by=campaign.requested_by):
        return
    record_decision(session, campaign, state, actor)
    details = {"campaign": campaign_id, "from": CampaignState.REQUESTED, "to": state}
    audit.record(session, action="decide_campaign", actor=actor, details=details)


def end_campaign(session: Session, *, campaign_id: int, actor: Actor) -> None:
    """End an approved campaign now: its codes grant nothing any more.

    What was redeemed stays. Repeated by the same person, it has no effect. Raises AlreadyDecided
    where another person ended it, and Conflict("campaign_not_approved").
    """
    require(actor, "end_campaign")
    campaign = lock_campaign(session, campaign_id)
    if campaign.state == CampaignState.ENDED and campaign.ended_by == audit.actor_name(actor):
        return
    if campaign.state == CampaignState.ENDED:
        raise AlreadyDecided(campaign.state, campaign.ended_by, campaign.ended_at)
    if campaign.state != CampaignState.APPROVED:
        raise Conflict("campaign_not_approved")
    ended_at = clock.now(session)
    campaign.state = CampaignState.ENDED
    campaign.ended_by = audit.actor_name(actor)
    campaign.ended_at = ended_at
    details = {"campaign": campaign_id, "from": CampaignState.APPROVED, "to": CampaignState.ENDED}
    audit.record(session, action="end_campaign", actor=actor, details=details)


def list_campaigns(session: Session, *, actor: Actor) -> tuple[CampaignView, ...]:
    """Return all campaigns, the newest first; support may see them too."""
    require(actor, "see_campaigns")
    campaigns = session.scalars(
        select(Campaign).order_by(Campaign.id.desc()).execution_options(populate_existing=True)
    ).all()
    return _views(session, campaigns)


def find_campaign(session: Session, *, campaign_id: int, actor: Actor) -> CampaignView:
    """Return one campaign for staff. Raises NotFound, NotAuthorised."""
    require(actor, "see_campaigns")
    campaign = session.get(Campaign, campaign_id, populate_existing=True)
    if campaign is None:
        raise NotFound("campaign")
    return _views(session, [campaign])[0]


def parts_of(session: Session, *, campaign_id: int, currency: str) -> tuple[GrantTemplate, ...]:
    """Return the grants of one redemption in the currency, in their order."""
    rows = session.scalars(
        select(CampaignPart)
        .where(CampaignPart.campaign_id == campaign_id, CampaignPart.currency == currency)
        .order_by(CampaignPart.position)
    )
    return tuple(_part(row) for row in rows)


def _views(session: Session, campaigns: Sequence[Campaign]) -> tuple[CampaignView, ...]:
    ids = [campaign.id for campaign in campaigns]
    amounts = session.scalars(
        select(CampaignAmount)
        .where(CampaignAmount.campaign_id.in_(ids))
        .order_by(CampaignAmount.currency)
        .execution_options(populate_existing=True)
    ).all()
    parts = session.scalars(
        select(CampaignPart)
        .where(CampaignPart.campaign_id.in_(ids))
        .order_by(CampaignPart.currency, CampaignPart.position)
    ).all()
    return tuple(
        _view(
            campaign,
            [each for each in amounts if each.campaign_id == campaign.id],
            [each for each in parts if each.campaign_id == campaign.id],
        )
        for campaign in campaigns
    )


def _view(
    campaign: Campaign, amounts: Sequence[CampaignAmount], parts: Sequence[CampaignPart]
) -> CampaignView:
    offers = tuple(
        CurrencyTerms(
            parts=tuple(_part(part) for part in parts if part.currency == amount.currency),
            budget=Money(amount.budget_micros, amount.currency),
            minimum_top_up=None
            if amount.minimum_top_up_micros is None
            else Money(amount.minimum_top_up_micros, amount.currency),
        )
        for amount in amounts
    )
    return CampaignView(
        campaign_id=campaign.id,
        terms=_terms(campaign, offers),
        state=campaign.state,
        codes=campaign.codes,
        granted=tuple(Money(each.granted_micros, each.currency) for each in amounts),
        redemptions=sum(each.redemptions for each in amounts),
        requested_by=campaign.requested_by,
        requested_at=campaign.requested_at,
        decided_by=campaign.decided_by,
        decided_at=campaign.decided_at,
    )


def _terms(campaign: Campaign, offers: tuple[CurrencyTerms, ...]) -> CampaignTerms:
    return CampaignTerms(
        name=campaign.name,
        description=campaign.description,
        offers=offers,
        redeem_from=campaign.redeem_from,
        redeem_until=campaign.redeem_until,
        validity_days=campaign.validity_days,
        code_budget=campaign.code_budget,
        trigger=campaign.trigger,
        uses_per_code=campaign.uses_per_code,
        uses_per_account=campaign.uses_per_account,
        site_codes=_tuple(campaign.site_codes),
        countries=_tuple(campaign.countries),
        is_for_new_accounts=campaign.is_for_new_accounts,
        is_for_named_accounts=campaign.is_for_named_accounts,
        is_for_support=campaign.is_for_support,
        blocks_suspects=campaign.blocks_suspects,
    )


def _part(row: CampaignPart) -> GrantTemplate:
    return GrantTemplate(Money(row.amount_micros, row.currency), _tuple(row.services))


def _tuple(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _plain(terms: CampaignTerms) -> dict[str, Any]:
    return asdict(terms)


# ── Checks ────────────────────────────────────────────────────────────────────────────────────
def _checked(session: Session, terms: CampaignTerms) -> CampaignTerms:
    """Return the terms with trimmed text; raise InvalidInput for what does not fit together."""
    description = " ".join(terms.description.split())
    check_text(description=description)
    if not description:
        raise InvalidInput("description", "empty")
    if len(description) > MAX_DESCRIPTION_LENGTH:
        raise InvalidInput("description", "too_long", maximum=MAX_DESCRIPTION_LENGTH)
    if terms.redeem_until <= max(terms.redeem_from, clock.now(session)):
        raise InvalidInput("redeem_until", "too_early")
    is_earned = terms.trigger == "first_top_up"
    if not is_earned and terms.trigger != "code":
        raise InvalidInput("trigger", "unknown")
    _in_range("validity_days", terms.validity_days, 1, MAX_VALIDITY_DAYS)
    _in_range("code_budget", terms.code_budget, 0 if is_earned else 1, _MAX_CODE_BUDGET)
    _in_range("uses_per_code", terms.uses_per_code, 1, _MAX_USES)
    _in_range("uses_per_account", terms.uses_per_account, 1, _MAX_USES)
    _check_offers(session, terms)
    values = {name: getattr(terms, name) for name in CampaignTerms.__slots__}
    values |= {"name": checked_name(terms.name, "name"), "description": description}
    values |= {"code_budget": 0, "uses_per_account": 1} if is_earned else {}
    return CampaignTerms(**values)


def _in_range(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidInput(field, "out_of_range", minimum=least, maximum=most)


def _check_offers(session: Session, terms: CampaignTerms) -> None:
    sites = {row.code: row.currencies for row in session.execute(_SITES)}
    for site in terms.site_codes or ():
        if site not in sites:
            raise InvalidInput("site_codes", "unknown", site=site)
    for country in terms.countries or ():
        if len(country) != 2 or not country.isascii() or not country.isupper():  # noqa: PLR2004
            raise InvalidInput("countries", "unknown", country=country)
    if not terms.offers:
        raise InvalidInput("offers", "empty")
    currencies = [offer.budget.currency for offer in terms.offers]
    if len(set(currencies)) < len(currencies):
        raise InvalidInput("offers", "twice")
    spoken = {currency for code in terms.site_codes or sites for currency in sites[code]}
    sold = set(session.scalars(_SERVICES))
    for offer in terms.offers:
        if offer.budget.currency not in spoken:
            raise InvalidInput("offers", "wrong_currency", currency=offer.budget.currency)
        _check_offer(offer, sold, is_earned=terms.trigger == "first_top_up")


def _check_offer(offer: CurrencyTerms, sold: set[str], *, is_earned: bool) -> None:
    if not offer.parts:
        raise InvalidInput("parts", "empty")
    for part in offer.parts:
        _check_part(part, offer.budget.currency, sold)
    if not offer.amount.micros <= offer.budget.micros <= MAX_MICROS:
        raise InvalidInput("budget", "below_amount")
    _check_minimum(offer, is_earned=is_earned)


def _check_part(part: GrantTemplate, currency: str, sold: set[str]) -> None:
    if part.amount.currency != currency:
        raise InvalidInput("parts", "wrong_currency", currency=currency)
    if part.amount.micros <= 0:
        raise InvalidInput("parts", "not_positive")
    if part.services is not None and not part.services:
        raise InvalidInput("services", "empty")
    for service in part.services or ():
        if service not in sold:
            raise InvalidInput("services", "unknown", service=service)


def _check_minimum(offer: CurrencyTerms, *, is_earned: bool) -> None:
    minimum = offer.minimum_top_up
    if minimum is None:
        if is_earned:
            raise InvalidInput("minimum_top_up", "empty")
    elif not is_earned:
        raise InvalidInput("minimum_top_up", "not_for_codes")
    elif minimum.currency != offer.budget.currency or minimum.micros <= 0:
        raise InvalidInput("minimum_top_up", "not_positive")


def _add(session: Session, terms: CampaignTerms, actor: Actor) -> int:
    same = (
        "name",
        "description",
        "trigger",
        "redeem_from",
        "redeem_until",
        "validity_days",
        "code_budget",
        "uses_per_code",
        "uses_per_account",
        "is_for_new_accounts",
        "is_for_named_accounts",
        "is_for_support",
        "blocks_suspects",
    )
    campaign = Campaign(
        **{name: getattr(terms, name) for name in same},
        site_codes=_list(terms.site_codes),
        countries=_list(terms.countries),
        requested_by=audit.actor_name(actor),
        requested_at=clock.now(session),
    )
    session.add(campaign)
    session.flush()
    for offer in terms.offers:
        session.add(
            CampaignAmount(
                campaign_id=campaign.id,
                currency=offer.budget.currency,
                amount_micros=offer.amount.micros,
                budget_micros=offer.budget.micros,
                minimum_top_up_micros=None
                if offer.minimum_top_up is None
                else offer.minimum_top_up.micros,
            )
        )
    session.flush()
    session.add_all(
        CampaignPart(
            campaign_id=campaign.id,
            currency=offer.budget.currency,
            position=position,
            amount_micros=part.amount.micros,
            services=_list(part.services),
        )
        for offer in terms.offers
        for position, part in enumerate(offer.parts, start=1)
    )
    session.flush()
    return campaign.id


def _list(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else sorted(set(values))
