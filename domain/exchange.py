"""Rates of exchange that finance keeps, and quotes that are locked for a payment.

A rate says what one unit of the currency that is paid costs in the currency that is credited. One
person proposes it and another approves; a first rate, and one that moved far, needs an
administrator. The margin is ours and is shown. What is credited is fixed, and what is paid is
rounded up to the smallest coin.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from db.models import ExchangeQuote, ExchangeRate
from domain import audit, clock
from domain.actors import StaffRole
from domain.errors import Conflict, InvalidInput, NotAuthorised, NotFound
from domain.money import MICROS_PER_UNIT, Money, currency_exponent
from domain.permissions import require, require_another
from domain.texts import check_text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

QUOTE_LIFETIME = timedelta(minutes=15)
"""How long a payment may be begun at a quoted price; once begun, the price is the payment's."""

_FRIDAY = 4
_OLDEST = timedelta(hours=26)
_OLDEST_AT_WEEKEND = timedelta(hours=74)
_FAR = Decimal("0.05")
_WHOLE_BASIS_POINTS = 10_000
_MOST_MARGIN = 2_000
_RATE_DECIMALS = 10
_HIGHEST_RATE = Decimal(10) ** 9
_EXACT = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate as people see it, whatever became of it."""

    id: int
    base_currency: str
    quote_currency: str
    rate: Decimal
    margin_basis_points: int
    source: str
    as_of: datetime
    state: str
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class Quote:
    """So much of a currency for so much credit, at a rate that includes the margin."""

    id: int
    account_id: int
    pay: Money
    credit: Money
    effective_rate: Decimal
    margin_basis_points: int
    source: str
    as_of: datetime
    expires_at: datetime


class RateUnavailable(Conflict):
    """There is no rate in force, or it is too old to go by."""


def propose_rate(
    session: Session,
    *,
    base_currency: str,
    quote_currency: str,
    rate: Decimal,
    margin_basis_points: int,
    source: str,
    as_of: datetime,
    actor: Actor,
) -> int:
    """Write down a rate for somebody else to approve; return its id.

    Repeating a proposal that waits answers its id. Raises InvalidInput.
    """
    require(actor, "propose_rate")
    check_text(source=source)
    now = clock.now(session)
    _check(base_currency, quote_currency, rate, margin_basis_points)
    if not source.strip():
        raise InvalidInput("source", "empty")
    if as_of.tzinfo is None or as_of > now:
        raise InvalidInput("as_of", "in_future")
    values = {
        "base_currency": base_currency,
        "quote_currency": quote_currency,
        "rate": rate,
        "margin_basis_points": margin_basis_points,
        "source": source.strip(),
        "as_of": as_of,
        "proposed_by": audit.actor_name(actor),
    }
    waiting = session.scalars(
        select(ExchangeRate).filter_by(**values, state="proposed").limit(1)
    ).one_or_none()
    if waiting is not None:
        return waiting.id
    row = ExchangeRate(**values, proposed_at=now)
    session.add(row)
    session.flush()
    before = _in_force(session, base_currency, quote_currency)
    details = {"rate": row.id, "from": _figures(before), "to": _figures(row)}
    audit.record(session, action="propose_rate", actor=actor, details=details)
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
    if not 0 <= margin_basis_points <= _MOST_MARGIN:
        raise InvalidInput("margin_basis_points", "out_of_range")


def decide_rate(session: Session, *, rate_id: int, is_approved: bool, actor: Actor) -> None:
    """Approve a proposed rate, which puts it in force, or refuse it; again: no effect.

    Raises NotAuthorised for whoever proposed it, and for all but administrators where it is the
    first of its pair or moved by more than a twentieth; Conflict where it was decided otherwise.
    """
    require(actor, "decide_rate")
    row = session.get(ExchangeRate, rate_id, with_for_update=True)
    if row is None:
        raise NotFound("rate")
    wanted = "approved" if is_approved else "refused"
    if row.state != "proposed":
        if row.state == wanted and row.decided_by == audit.actor_name(actor):
            return
        raise Conflict("already_decided")
    require_another(actor, row.proposed_by)
    if is_approved and actor.staff_role is not StaffRole.ADMIN and is_far(session, row_of(row)):
        raise NotAuthorised
    _decide(session, row, wanted, actor)


def load_rate(session: Session, *, rate_id: int, actor: Actor) -> None:
    """Put a rate in force that comes with the product's own data, such as a demo's."""
    require(actor, "load_rate")
    row = session.get(ExchangeRate, rate_id, with_for_update=True)
    if row is None:
        raise NotFound("rate")
    if row.state == "proposed":
        _decide(session, row, "approved", actor)


def _decide(session: Session, row: ExchangeRate, state: str, actor: Actor) -> None:
    # Both ask the database, which would see half of what follows.
    now = clock.now(session)
    before = _in_force(session, row.base_currency, row.quote_currency)
    row.state = state
    row.decided_by = audit.actor_name(actor)
    row.decided_at = now
    session.flush()
    after = row if state == "approved" else before
    details = {"rate": row.id, "from": _figures(before), "to": _figures(after)}
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


def is_far(session: Session, rate: Rate) -> bool:
    """Whether it is the first rate of its pair, or moved more than a twentieth from the last."""
    last = _in_force(session, rate.base_currency, rate.quote_currency)
    return last is None or abs(rate.rate - last.rate) > last.rate * _FAR


def list_rates(session: Session, *, actor: Actor, limit: int = 100) -> tuple[Rate, ...]:
    """Return the newest rates, those that wait for approval first."""
    require(actor, "see_rates")
    rows = session.scalars(
        select(ExchangeRate)
        .order_by(ExchangeRate.state != "proposed", ExchangeRate.id.desc())
        .limit(limit)
    )
    return tuple(row_of(row) for row in rows)


def rate_in_force(session: Session, *, base_currency: str, quote_currency: str) -> Rate:
    """Return the rate that quotes go by. Raises RateUnavailable where there is none or it is old.

    Banks give no rates at weekends: one of a Friday may be as old as the weekend is long.
    """
    row = _in_force(session, base_currency, quote_currency)
    if row is None:
        raise RateUnavailable("no_rate")
    age = clock.now(session) - row.as_of
    is_over_weekend = row.as_of.weekday() >= _FRIDAY
    if age > (_OLDEST_AT_WEEKEND if is_over_weekend else _OLDEST):
        raise RateUnavailable("rate_too_old")
    return row_of(row)


def make_quote(
    session: Session, *, account_id: int, credit: Money, pay_currency: str, actor: Actor
) -> Quote:
    """Lock a price for a quarter of an hour, for somebody who may pay for the account."""
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
    """Return what is to be paid for the credit, rounded up, and the rate with its margin.

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
    """Return a quote of the account, for a service that has checked who asks. Raises NotFound."""
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


def _in_force(session: Session, base: str, quoted: str) -> ExchangeRate | None:
    return session.scalars(
        select(ExchangeRate)
        .where(
            ExchangeRate.base_currency == base,
            ExchangeRate.quote_currency == quoted,
            ExchangeRate.state == "approved",
        )
        .order_by(ExchangeRate.decided_at.desc(), ExchangeRate.id.desc())
        .limit(1)
    ).one_or_none()


def row_of(row: ExchangeRate) -> Rate:
    """Return a rate's row as what people see."""
    return Rate(**{name: getattr(row, name) for name in Rate.__slots__})
