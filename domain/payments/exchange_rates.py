"""Keep the exchange rates of finance, and lock quotes for payments.

A rate states what one unit of the currency that is paid costs in the currency that is credited. One
person requests it and another approves it; a first rate, and one that is far from the rate in
force, needs an administrator, and the latter also a reason. A rate that was requested before the
one in force can no longer be approved: it would silently replace a later decision. The margin is
ours and is shown. The amount credited is fixed, and the amount paid is rounded up to the smallest
unit of the currency.

The same person never both sets the rate of a currency and records bank transfers in it, since they
could profit from the combination. A person may not request or approve a rate while a transfer in
one of its currencies that they recorded is undecided, nor record one while a rate that they
requested or approved is waiting or in force.

A rate is valid until two hours after its own time of day on the next business day of the countries
of both currencies, by the clock of the site whose currency is credited.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from db.models import ExchangeQuote, ExchangeRate
from domain import audit, clock
from domain.actors import StaffRole
from domain.approvals import ApprovalState, decision_state, is_new_decision, record_decision
from domain.errors import Conflict, InvalidInput, NotAuthorised, NotFound
from domain.money import MICROS_PER_UNIT, Money, currency_exponent
from domain.payments.exchange_duties import check_own_transfers
from domain.payments.rates_in_force import Rate, RateUnavailable, in_force, rate_in_force, row_of
from domain.permissions import require
from domain.validation import check_text, checked_reason

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor

QUOTE_LIFETIME = timedelta(minutes=15)
"""How long a payment may be begun at a quoted price; once begun, the price is the payment's."""

FAR_PERCENT = 5
"""From how far on, in percent, a rate needs a reason and an administrator."""

_HUNDREDTH = Decimal("0.01")
_WHOLE_BASIS_POINTS = 10_000
MAX_MARGIN_BASIS_POINTS = 2_000
_RATE_DECIMALS = 10
_HIGHEST_RATE = Decimal(10) ** 9
_EXACT = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a rate is from the one in force; the percents are signed, with two decimals.

    `percent` compares the rates, `price_percent` what is paid for the same credit, which includes
    the margin. The effective rates are what is left after the margin, and `effective_percent` how
    far they are apart. `is_far` is decided by the exact figures of the rates and the effective
    rates.
    """

    rate_in_force: Decimal
    percent: Decimal
    price_percent: Decimal
    is_far: bool
    margin_in_force_basis_points: int
    effective_rate: Decimal
    effective_in_force: Decimal
    effective_percent: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """An amount of one currency for an amount of credit, at a rate that includes the margin."""

    id: int
    account_id: int
    pay: Money
    credit: Money
    effective_rate: Decimal
    margin_basis_points: int
    source: str
    as_of: datetime
    expires_at: datetime


class RateSuperseded(Conflict):
    """A rate of the pair that was requested later is already in force."""

    def __init__(self, newer: Rate) -> None:
        """Set the rate that is in force."""
        super().__init__("newer_rate_in_force")
        self.newer = newer


def request_rate(
    session: Session,
    *,
    base_currency: str,
    quote_currency: str,
    rate: Decimal,
    margin_basis_points: int,
    source: str,
    as_of: datetime,
    actor: Actor,
    reason: str = "",
) -> int:
    """Request approval of a rate by another person; return the rate's id.

    A rate that is more than FAR_PERCENT from the one in force, alone or with its margin, needs a
    reason. Repeating a request that waits returns its id. Raises InvalidInput, and DutiesConflict
    for a person who recorded a transfer in one of the currencies that is undecided.
    """
    require(actor, "request_rate")
    check_text(source=source)
    now = clock.now(session)
    _check(base_currency, quote_currency, rate, margin_basis_points)
    if not source.strip():
        raise InvalidInput("source", "empty")
    if as_of.tzinfo is None or as_of > now:
        raise InvalidInput("as_of", "in_future")
    before = in_force(session, base_currency, quote_currency)
    distance = _distance(rate, margin_basis_points, before)
    is_reason_needed = distance is not None and distance.is_far
    values = {
        "base_currency": base_currency,
        "quote_currency": quote_currency,
        "rate": rate,
        "margin_basis_points": margin_basis_points,
        "source": source.strip(),
        "as_of": as_of,
        "reason": checked_reason(reason) if reason.strip() or is_reason_needed else None,
        "requested_by": audit.actor_name(actor),
    }
    waiting = session.scalars(
        select(ExchangeRate).filter_by(**values, state="requested").limit(1)
    ).one_or_none()
    if waiting is not None:
        return waiting.id
    check_own_transfers(session, base_currency, quote_currency, actor)
    row = ExchangeRate(**values, requested_at=now)
    session.add(row)
    session.flush()
    details: dict[str, Any] = {"rate": row.id, "from": _figures(before), "to": _figures(row)}
    details |= _explained(row, distance)
    audit.record(session, action="request_rate", actor=actor, details=details)
    return row.id


def _check(base: str, quoted: str, rate: Decimal, margin_basis_points: int) -> None:
    currency_exponent(base)
    currency_exponent(quoted)
    if base == quoted:
        raise InvalidInput("quote_currency", "same_currency")
    smallest = Decimal(1).scaleb(-_RATE_DECIMALS)
    if not rate.is_finite() or not smallest <= rate <= _HIGHEST_RATE:
        raise InvalidInput("rate", "out_of_range")
    if rate.quantize(smallest, context=_EXACT) != rate:
        raise InvalidInput("rate", "too_many_decimals", decimals=_RATE_DECIMALS)
    if not 0 <= margin_basis_points <= MAX_MARGIN_BASIS_POINTS:
        raise InvalidInput("margin_basis_points", "out_of_range")


def decide_rate(session: Session, *, rate_id: int, is_approved: bool, actor: Actor) -> None:
    """Approve a requested rate, which puts it in force, or reject it; again: no effect.

    Raises NotAuthorised for the person who requested it, and for all but administrators where it is
    the first of its pair or far from the one in force; AlreadyDecided where another person has
    decided; RateSuperseded where one that was requested later is in force, which it would replace;
    Conflict("rate_moved_meanwhile") where it is far now, and was not when it was requested; and
    DutiesConflict for a person who recorded a transfer in one of its currencies that is undecided.
    """
    require(actor, "decide_rate")
    row = _lock_pair(session, rate_id)
    state = decision_state(is_approved=is_approved)
    if not is_new_decision(row, state, actor, requested_by=row.requested_by):
        return
    if is_approved:
        newer = _newer_in_force(session, row.base_currency, row.quote_currency, row.id)
        if newer is not None:
            raise RateSuperseded(row_of(newer))
        _check_distance(session, row, actor)
        check_own_transfers(session, row.base_currency, row.quote_currency, actor)
    _decide(session, row, state, actor)


# ── Rates and bank transfers: by different people ──────────────────────────────────────────────


def _lock_pair(session: Session, rate_id: int) -> ExchangeRate:
    """Return a rate, with its pair locked against other decisions until the transaction ends."""
    row = session.get(ExchangeRate, rate_id)
    if row is None:
        raise NotFound("rate")
    waiting = (
        select(ExchangeRate.id)
        .filter_by(
            base_currency=row.base_currency, quote_currency=row.quote_currency, state="requested"
        )
        .order_by(ExchangeRate.id)
        .with_for_update()
    )
    session.scalars(waiting).all()
    session.refresh(row)
    return row


def _newer_in_force(session: Session, base: str, quoted: str, rate_id: int) -> ExchangeRate | None:
    """Return the rate in force where it was requested after this one."""
    found = in_force(session, base, quoted)
    return found if found is not None and found.id > rate_id else None


def find_newer_rate(session: Session, *, rate: Rate, actor: Actor) -> Rate | None:
    """Return, for staff, the rate in force that keeps a requested one from being approved."""
    require(actor, "see_rates")
    found = _newer_in_force(session, rate.base_currency, rate.quote_currency, rate.id)
    return None if found is None else row_of(found)


def _check_distance(session: Session, row: ExchangeRate, actor: Actor) -> None:
    distance = _distance_of(session, row)
    if distance is not None and distance.is_far and not row.reason:
        raise Conflict("rate_moved_meanwhile")
    if not _may_approve(actor, distance):
        raise NotAuthorised


def _may_approve(actor: Actor, distance: Distance | None) -> bool:
    is_first_or_far = distance is None or distance.is_far
    return not is_first_or_far or actor.staff_role is StaffRole.ADMIN


def count_rates_to_approve(session: Session, *, actor: Actor) -> int:
    """Return how many rates wait for a decision by this person, who may approve them."""
    require(actor, "decide_rate")
    waiting = session.scalars(
        select(ExchangeRate).where(
            ExchangeRate.state == "requested", ExchangeRate.requested_by != audit.actor_name(actor)
        )
    )
    return sum(_may_approve(actor, _distance_of(session, row)) for row in waiting)


def load_rate(session: Session, *, rate_id: int, actor: Actor) -> None:
    """Put a rate in force that is part of the product's own data, such as a demo's."""
    require(actor, "load_rate")
    row = session.get(ExchangeRate, rate_id, with_for_update=True)
    if row is None:
        raise NotFound("rate")
    if row.state == ApprovalState.REQUESTED:
        _decide(session, row, ApprovalState.APPROVED, actor)


def _decide(session: Session, row: ExchangeRate, state: ApprovalState, actor: Actor) -> None:
    before = in_force(session, row.base_currency, row.quote_currency)
    record_decision(session, row, state, actor)
    after = row if state is ApprovalState.APPROVED else before
    details: dict[str, Any] = {
        "rate": row.id,
        "from": _figures(before),
        "to": _figures(after),
    }
    details |= _explained(row, _distance(row.rate, row.margin_basis_points, before))
    audit.record(session, action=f"{state}_rate", actor=actor, details=details)


def _figures(row: ExchangeRate | None) -> dict[str, Any] | None:
    """Return the rate that is in force, or would be, as the audit log keeps it."""
    if row is None:
        return None
    return {
        "rate": row.id,
        "pair": f"{row.base_currency}/{row.quote_currency}",
        "price": f"{row.rate.normalize(_EXACT):f}",
        "margin_basis_points": row.margin_basis_points,
        "source": row.source,
        "as_of": row.as_of.isoformat(),
    }


def _explained(row: ExchangeRate, distance: Distance | None) -> dict[str, str]:
    """Return how far a rate is from the one in force and why, as the audit log keeps it."""
    found = (
        {}
        if distance is None
        else {
            "distance_percent": str(distance.percent),
            "price_percent": str(distance.price_percent),
        }
    )
    return found if row.reason is None else {**found, "reason": row.reason}


def _distance_of(session: Session, row: ExchangeRate) -> Distance | None:
    last = in_force(session, row.base_currency, row.quote_currency)
    return _distance(row.rate, row.margin_basis_points, last)


def _distance(
    rate: Decimal, margin_basis_points: int, last: ExchangeRate | None
) -> Distance | None:
    if last is None:
        return None
    moved = rate - last.rate
    kept = rate * (_WHOLE_BASIS_POINTS - margin_basis_points)
    kept_last = last.rate * (_WHOLE_BASIS_POINTS - last.margin_basis_points)
    return Distance(
        rate_in_force=last.rate,
        percent=_percent(moved, last.rate),
        price_percent=_percent(kept_last - kept, kept),
        is_far=abs(moved) * 100 > last.rate * FAR_PERCENT
        or abs(kept - kept_last) * 100 > kept_last * FAR_PERCENT,
        margin_in_force_basis_points=last.margin_basis_points,
        effective_rate=_EXACT.divide(kept, Decimal(_WHOLE_BASIS_POINTS)),
        effective_in_force=_EXACT.divide(kept_last, Decimal(_WHOLE_BASIS_POINTS)),
        effective_percent=_percent(kept - kept_last, kept_last),
    )


def _percent(part: Decimal, whole: Decimal) -> Decimal:
    found = _EXACT.divide(part * 100, whole)
    return found.quantize(_HUNDREDTH, ROUND_HALF_EVEN, _EXACT)


def get_distance(
    session: Session,
    *,
    base_currency: str,
    quote_currency: str,
    rate: Decimal,
    margin_basis_points: int,
    actor: Actor,
) -> Distance | None:
    """Return how far a rate is from the one in force, for staff; None where there is none yet."""
    require(actor, "see_rates")
    return _distance(rate, margin_basis_points, in_force(session, base_currency, quote_currency))


def list_rates(session: Session, *, actor: Actor, limit: int = 100) -> tuple[Rate, ...]:
    """Return the newest rates, those that wait for approval first."""
    require(actor, "see_rates")
    rows = session.scalars(
        select(ExchangeRate)
        .order_by(ExchangeRate.state != "requested", ExchangeRate.id.desc())
        .limit(limit)
    )
    return tuple(row_of(row) for row in rows)


def make_quote(
    session: Session, *, account_id: int, credit: Money, pay_currency: str, actor: Actor
) -> Quote:
    """Lock a price for fifteen minutes, for a person who may pay for the account."""
    require(actor, "pay", account_id)
    rate = rate_in_force(session, base_currency=pay_currency, quote_currency=credit.currency)
    pay, effective_rate = price_of(credit, rate)
    now = clock.now(session)
    row = ExchangeQuote(
        account_id=account_id,
        rate_id=rate.id,
        pay_micros=pay.micros,
        pay_currency=pay.currency,
        credit_micros=credit.micros,
        credit_currency=credit.currency,
        effective_rate=effective_rate,
        made_at=now,
        expires_at=now + QUOTE_LIFETIME,
        made_by=audit.actor_name(actor),
    )
    session.add(row)
    session.flush()
    return _quote(row, rate)


def price_of(credit: Money, rate: Rate) -> tuple[Money, Decimal]:
    """Return the amount to pay for the credit, rounded up, and the rate with its margin.

    effective = rate x (1 - margin), rounded down; paid = credit / effective.
    """
    kept = Decimal(_WHOLE_BASIS_POINTS - rate.margin_basis_points) / _WHOLE_BASIS_POINTS
    smallest_rate = Decimal(1).scaleb(-_RATE_DECIMALS)
    effective = (rate.rate * kept).quantize(smallest_rate, ROUND_FLOOR, _EXACT)
    if effective <= 0:
        raise RateUnavailable("no_rate")
    coin = MICROS_PER_UNIT // 10 ** currency_exponent(rate.base_currency)
    exact = _EXACT.divide(Decimal(credit.micros), effective)
    coins = _EXACT.divide(exact, Decimal(coin)).to_integral_value(ROUND_CEILING)
    return Money(int(coins) * coin, rate.base_currency), effective


def find_quote(session: Session, *, account_id: int, quote_id: int) -> Quote:
    """Return a quote of the account, for a service that has checked the caller. Raises NotFound."""
    row = session.get(ExchangeQuote, quote_id)
    if row is None or row.account_id != account_id:
        raise NotFound("quote")
    rate = session.get(ExchangeRate, row.rate_id)
    if rate is None:
        raise NotFound("rate")
    return _quote(row, row_of(rate))


def _quote(row: ExchangeQuote, rate: Rate) -> Quote:
    return Quote(
        id=row.id,
        account_id=row.account_id,
        pay=Money(row.pay_micros, row.pay_currency),
        credit=Money(row.credit_micros, row.credit_currency),
        effective_rate=row.effective_rate,
        margin_basis_points=rate.margin_basis_points,
        source=rate.source,
        as_of=rate.as_of,
        expires_at=row.expires_at,
    )
