"""Names and amounts of the Analytics page, in the reader's language."""

from __future__ import annotations

from decimal import Decimal

from babel import Locale

from domain.money import MAX_MICROS, MICROS_PER_UNIT
from portal.ui import formats
from portal.ui.i18n import _, current_language


def country(code: str) -> str:
    """Return the name of a country, or that there is none."""
    if not code:
        return _("No country")
    return str(Locale.parse(current_language()).territories.get(code, code))


def amount(micros: int, currency: str, *, signed: bool = False) -> str:
    """Return a sum of many accounts, which may be more than one of them can hold."""
    if abs(micros) <= MAX_MICROS:
        return formats.money(micros, currency, signed=signed)
    # Beside trillions the fraction of a unit says nothing.
    units = (abs(micros) + MICROS_PER_UNIT // 2) // MICROS_PER_UNIT
    text = formats.exact_money(Decimal(units * MICROS_PER_UNIT), currency)
    if micros < 0:
        return formats.MINUS + text
    return f"+{text}" if signed else text
