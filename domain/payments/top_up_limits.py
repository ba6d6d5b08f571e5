"""Keep the limits and preset amounts of top-ups: a row a currency, which finance edits.

The first figures come from a file, where a currency has no row yet. They are in the account's
currency; a gateway has limits of its own for what is paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from db.models import TopUpLimit
from domain import audit, clock
from domain.catalogue.configuration import find_file, read_table
from domain.errors import Conflict, CurrencyMismatch, InvalidInput, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.money import MAX_PAYMENT_MICROS, MICROS_PER_UNIT, Money
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.catalogue.configuration import ConfigurationFile, Table

MAX_PRESETS = 8
_MAX_UNITS = MAX_PAYMENT_MICROS // MICROS_PER_UNIT
_FAULTS = {
    "not_positive": "must be above zero",
    "too_many_decimals": "has more decimals than the currency",
    "too_large": f"must be a number up to {_MAX_UNITS}",
    "below_minimum": "is below the minimum",
    "above_maximum": "is above the maximum",
    "too_many": f"has more than {MAX_PRESETS} amounts",
}

TOP_UP_LIMITS_FILE = Path(__file__).with_name("top_up_limits.toml")
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
    """Change the limits of a currency, as finance, for the next top-ups; return their version.

    `expected_version` is the one that was edited, 0 for a currency that has none yet. Raises
    NotAuthorised, UnknownCurrency, CurrencyMismatch; InvalidInput on "minimum", "maximum" or
    "presets" ("too_many_decimals", "not_positive", "below_minimum", "above_maximum", "empty",
    "too_many"); Conflict("limits_changed") where another person changed them meanwhile;
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


def load_limits(session: Session, *, actor: Actor, file: ConfigurationFile | None = None) -> None:
    """Add the file's limits (the built-in one's without a file) for currencies without any.

    Raises InvalidConfiguration.
    """
    require(actor, "load_reference")
    found = parse_limits(file or find_file(TOP_UP_LIMITS_FILE, None))
    shared = {
        "version": 1,
        "updated_at": clock.now(session),
        "updated_by": audit.actor_name(actor),
    }
    rows = [{**row, **shared} for row in found]
    session.execute(insert(TopUpLimit).values(rows).on_conflict_do_nothing())


def parse_limits(file: ConfigurationFile) -> list[dict[str, Any]]:
    """Return a file's limits as rows, one a currency; raise InvalidConfiguration."""
    root = read_table(file)
    rows = []
    for currency in root.remaining_keys():
        root.check_currency(currency)
        rows.append(_first_row(currency, root.table(root.take(currency, dict), currency)))
    if not rows:
        raise root.fault("there is no currency in it")
    return rows


def _first_row(currency: str, table: Table) -> dict[str, Any]:
    minimum, maximum = (table.take(name, Decimal) for name in ("minimum", "maximum"))
    presets = table.take_list("presets", Decimal)
    table.finish()
    try:
        least, most = _money("minimum", minimum, currency), _money("maximum", maximum, currency)
        offered = tuple(_money("presets", each, currency) for each in presets)
        _check(currency, least, most, offered)
    except InvalidInput as fault:
        raise table.fault(f"'{fault.field}' {_FAULTS[fault.reason]}") from None
    return {
        "currency": currency,
        "minimum_micros": least.micros,
        "maximum_micros": most.micros,
        "presets_micros": [preset.micros for preset in offered],
    }


def _money(field: str, figure: Decimal, currency: str) -> Money:
    """Return an amount of the file; raise InvalidInput on the field."""
    if not figure.is_finite() or abs(figure) > _MAX_UNITS:
        raise InvalidInput(field, "too_large")
    try:
        return Money.from_decimal(figure, currency)
    except InvalidInput as fault:
        raise InvalidInput(field, fault.reason) from None


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
    """Reject an amount that cannot be paid: another currency, zero, or part of a minor unit."""
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
