"""How much a top-up may be, and which amounts are offered: a row a currency, which finance edits.

The first figures come from a file, where a currency has no row yet. They are in the account's
currency; a gateway has limits of its own for what is paid.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from db.models import TopUpLimit
from domain import audit, clock
from domain.errors import Conflict, CurrencyMismatch, InvalidInput, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.money import Money
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

MAX_PRESETS = 8

_FILE = Path(__file__).with_name("top_up_limits.toml")
_NO_ACCOUNT = 0
"""The account under which the keys of these writes are kept: they concern all of them."""

# One change at a time: a currency's first row is no row yet that could be locked.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('top_up_limits', 0))")


@dataclass(frozen=True, slots=True)
class TopUpLimits:
    """What one top-up in the currency may be; `presets` are offered, the smallest first."""

    currency: str
    minimum: Money
    maximum: Money
    presets: tuple[Money, ...]
    version: int
    updated_at: datetime
    updated_by: str


def limits_of(session: Session, currency: str) -> TopUpLimits:
    """Return the currency's limits, which everybody may know; raise NotFound where it has none."""
    row = session.get(TopUpLimit, currency, populate_existing=True)
    if row is None:
        raise NotFound("top_up_limits")
    return _limits(row)


def list_limits(session: Session, *, actor: Actor) -> tuple[TopUpLimits, ...]:
    """Return every currency's limits, for staff; raise NotAuthorised."""
    require(actor, "see_top_up_limits")
    rows = session.scalars(
        select(TopUpLimit).order_by(TopUpLimit.currency).execution_options(populate_existing=True)
    )
    return tuple(_limits(row) for row in rows)


def change_limits(
    session: Session,
    *,
    currency: str,
    minimum: Money,
    maximum: Money,
    presets: Sequence[Money],
    expected_version: int,
    actor: Actor,
    idempotency_key: str,
) -> int:
    """Give a currency other limits, as finance, for the next top-ups; return their version.

    `expected_version` is the one that was edited, 0 for a currency that has none yet. Raises
    NotAuthorised, UnknownCurrency, CurrencyMismatch; InvalidInput on "minimum", "maximum" or
    "presets" ("too_many_decimals", "not_positive", "below_minimum", "above_maximum", "empty",
    "too_many"); Conflict("limits_changed") where somebody else changed them meanwhile;
    IdempotencyMismatch.
    """
    require(actor, "change_top_up_limits")
    offered = tuple(sorted(set(presets)))
    _check(currency, minimum, maximum, offered)
    values = {
        "minimum_micros": minimum.micros,
        "maximum_micros": maximum.micros,
        "presets_micros": [preset.micros for preset in offered],
    }
    request = {"currency": currency, "expected_version": expected_version, **values}
    key = f"top_up_limits:{idempotency_key}"
    write = IdempotentRequest(_NO_ACCOUNT, key, "change_limits", request)
    session.execute(_LOCK)
    answer = stored_response(session, write)
    if answer is None:
        answer = _change(session, currency, values, expected_version, actor)
        store_response(session, write, answer)
    return int(answer["version"])


def load_limits(session: Session, *, actor: Actor, text_of_file: str | None = None) -> None:
    """Add the file's limits (the product's own where no text is given) for currencies without any.

    Raises as `change_limits` does for a file that does not fit together.
    """
    require(actor, "load_reference")
    file: dict[str, dict[str, Any]] = tomllib.loads(
        text_of_file or _FILE.read_text("utf-8"), parse_float=Decimal
    )
    shared = {
        "version": 1,
        "updated_at": clock.now(session),
        "updated_by": audit.actor_name(actor),
    }
    rows = [{**_first_row(currency, figures), **shared} for currency, figures in file.items()]
    session.execute(insert(TopUpLimit).values(rows).on_conflict_do_nothing())


def _first_row(currency: str, figures: dict[str, Any]) -> dict[str, Any]:
    minimum, maximum = (_money(figures[name], currency) for name in ("minimum", "maximum"))
    presets = tuple(_money(each, currency) for each in figures["presets"])
    _check(currency, minimum, maximum, presets)
    return {
        "currency": currency,
        "minimum_micros": minimum.micros,
        "maximum_micros": maximum.micros,
        "presets_micros": [preset.micros for preset in presets],
    }


def _money(figure: int | Decimal, currency: str) -> Money:
    return Money.from_decimal(Decimal(figure), currency)


def _check(currency: str, minimum: Money, maximum: Money, presets: tuple[Money, ...]) -> None:
    _check_amount("minimum", minimum, currency)
    _check_amount("maximum", maximum, currency)
    if maximum < minimum:
        raise InvalidInput("maximum", "below_minimum")
    if not presets:
        raise InvalidInput("presets", "empty")
    if len(presets) > MAX_PRESETS:
        raise InvalidInput("presets", "too_many", maximum=MAX_PRESETS)
    for preset in presets:
        _check_amount("presets", preset, currency)
        if preset < minimum:
            raise InvalidInput("presets", "below_minimum")
        if maximum < preset:
            raise InvalidInput("presets", "above_maximum")


def _check_amount(field: str, amount: Money, currency: str) -> None:
    """Refuse what nobody can pay: another currency, nothing, or a fraction of the smallest coin."""
    if amount.currency != currency:
        raise CurrencyMismatch(currency, amount.currency)
    if amount.micros <= 0:
        raise InvalidInput(field, "not_positive")
    try:
        amount.to_minor_units()
    except InvalidInput as fault:
        raise InvalidInput(field, fault.reason, **fault.values) from None


def _change(
    session: Session,
    currency: str,
    values: dict[str, Any],
    expected_version: int,
    actor: Actor,
) -> dict[str, Any]:
    row = session.get(TopUpLimit, currency, populate_existing=True)
    if expected_version != (row.version if row is not None else 0):
        raise Conflict("limits_changed")
    before = {name: getattr(row, name) for name in values} if row is not None else {}
    changed = {
        **values,
        "version": expected_version + 1,
        "updated_at": clock.now(session),
        "updated_by": audit.actor_name(actor),
    }
    session.execute(
        insert(TopUpLimit)
        .values(currency=currency, **changed)
        .on_conflict_do_update(index_elements=["currency"], set_=changed)
    )
    details = {"currency": currency, "from": before, "to": values}
    audit.record(session, action="change_limits", actor=actor, details=details)
    return {"version": expected_version + 1}


def _limits(row: TopUpLimit) -> TopUpLimits:
    return TopUpLimits(
        currency=row.currency,
        minimum=Money(row.minimum_micros, row.currency),
        maximum=Money(row.maximum_micros, row.currency),
        presets=tuple(Money(micros, row.currency) for micros in row.presets_micros),
        version=row.version,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )
