"""Money: whole millionths of a currency unit, and the exact fractions beneath them.

An amount in the ledger is an integer count of micros; an exact amount is a Decimal. No float is
accepted anywhere, because 0.1 + 0.2 is not 0.3.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import (
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from functools import cache, lru_cache, total_ordering
from typing import NamedTuple

from babel import Locale, UnknownLocaleError
from babel.numbers import get_currency_symbol, get_decimal_symbol, get_group_symbol
from iso4217 import Currency

from domain.errors import (
    AmountOutOfRange,
    CurrencyMismatch,
    InvalidInput,
    UnknownCurrency,
)
from domain.validation import normalised

MICROS_PER_UNIT = 1_000_000
MICRO_DECIMALS = 6
EXACT_DECIMALS = 12
"""Decimal places that an exact amount has below the micro; the database's column has as many."""

MIN_MICROS = -(2**63)
MAX_MICROS = 2**63 - 1
MAX_PAYMENT_MICROS = MAX_MICROS // 100
"""More than any one payment, so that sums of them stay within what the ledger can count."""

_MAX_UNITS = Decimal(2**63).scaleb(-MICRO_DECIMALS)

_ONE = Decimal(1)
_SMALLEST_EXACT = _ONE.scaleb(-EXACT_DECIMALS)
_FAULTS = [InvalidOperation, DivisionByZero, Overflow]
EXACT = Context(prec=80, traps=[*_FAULTS, Inexact])
"""Arithmetic that raises `decimal.Inexact` rather than lose a digit."""


@cache
def _exponents() -> dict[str, int]:
    return {
        currency.code: currency.exponent for currency in Currency if currency.exponent is not None
    }


def known_currency(code: str) -> bool:
    """Return whether this is an upper-case ISO 4217 code of a currency used for payments."""
    return code in _exponents()


def currency_exponent(code: str) -> int:
    """Return the currency's decimals: VND and JPY 0, USD 2, KWD 3. Raises UnknownCurrency."""
    try:
        return _exponents()[code]
    except KeyError:
        raise UnknownCurrency(code) from None


def check_micros(micros: int) -> int:
    """Return the count unchanged; raise AmountOutOfRange where a BIGINT cannot hold it."""
    if not MIN_MICROS <= micros <= MAX_MICROS:
        raise AmountOutOfRange
    return micros


def exact_micros(amount: Decimal) -> Decimal:
    """Return an amount of currency units in micros, every digit kept.

    Raises AmountOutOfRange beyond what the ledger holds, InvalidInput where it has more digits
    than exact arithmetic carries.
    """
    if _decimal(amount).copy_abs() > _MAX_UNITS:
        raise AmountOutOfRange
    try:
        return EXACT.multiply(amount, Decimal(MICROS_PER_UNIT))
    except Inexact:
        raise InvalidInput("amount", "too_many_decimals", decimals=MICRO_DECIMALS) from None


def whole_micros(amount: Decimal) -> int:
    """Return an amount of currency units as whole micros.

    Raises InvalidInput where it has a fraction of a micro, AmountOutOfRange where it is too large.
    """
    exact = exact_micros(amount)
    whole = exact.to_integral_value(ROUND_FLOOR)
    if exact != whole:
        raise InvalidInput("amount", "too_many_decimals", decimals=MICRO_DECIMALS)
    return check_micros(int(whole))


@total_ordering
@dataclass(frozen=True, slots=True)
class Money:
    """An amount of one currency, in whole micros.

    Raises TypeError for a float or a bool, AmountOutOfRange beyond a BIGINT, UnknownCurrency, and
    CurrencyMismatch where two currencies would be added or compared.
    """

    micros: int
    currency: str

    def __post_init__(self) -> None:
        """Refuse an amount that is not a whole count of a known currency."""
        check_micros(_integer(self.micros))
        currency_exponent(self.currency)

    @classmethod
    def zero(cls, currency: str) -> Money:
        """Return zero in the currency."""
        return cls(0, currency)

    @classmethod
    def from_decimal(cls, amount: Decimal, currency: str) -> Money:
        """Return an amount of currency units; raise InvalidInput on a fraction of a micro."""
        return cls(whole_micros(amount), currency)

    @classmethod
    def from_minor_units(cls, count: int, currency: str) -> Money:
        """Return a count of the currency's smallest coins: yen, cents, fils."""
        return cls(_integer(count) * _micros_per_minor_unit(currency), currency)

    @classmethod
    def parse(
        cls,
        text: str,
        currency: str,
        *,
        locale: str = "en",
        second_locale: str | None = None,
        minor_units_only: bool = True,
    ) -> Money:
        """Read an amount as people type it.

        Groups of three may stand apart by a comma, a point, a space or an apostrophe; the
        currency's own sign or code may stand beside it. In a currency without decimals a comma
        and a point can only separate groups. In any other, what can be read in two ways is read
        in the locale's, unless that leaves more decimals than the currency has, or
        `second_locale`, another one that the reader uses, reads it otherwise. Raises InvalidInput
        on the field "amount" with the reason empty, not_a_number, ambiguous, too_many_decimals
        or out_of_range; an ambiguous one names both readings (`first_micros`, `second_micros`).
        """
        limit = currency_exponent(currency) if minor_units_only else MICRO_DECIMALS
        amount = _read_amount(text, currency, (locale, second_locale or locale), limit)
        try:
            return cls.from_decimal(amount, currency)
        except AmountOutOfRange:
            raise InvalidInput("amount", "out_of_range") from None

    def to_decimal(self) -> Decimal:
        """Return the amount in currency units, with six decimals."""
        return Decimal(self.micros).scaleb(-MICRO_DECIMALS, EXACT)

    def to_minor_units(self) -> int:
        """Return the count of the currency's smallest coins.

        Raises InvalidInput where the amount is not a whole count of them.
        """
        count, remainder = divmod(self.micros, _micros_per_minor_unit(self.currency))
        if remainder:
            raise InvalidInput(
                "amount", "too_many_decimals", decimals=currency_exponent(self.currency)
            )
        return count

    def __add__(self, other: Money) -> Money:
        """Return the sum."""
        return Money(self.micros + self._same_currency(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        """Return the difference."""
        return Money(self.micros - self._same_currency(other), self.currency)

    def __neg__(self) -> Money:
        """Return the opposite amount."""
        return Money(-self.micros, self.currency)

    def __abs__(self) -> Money:
        """Return the amount without its sign."""
        return Money(abs(self.micros), self.currency)

    def __lt__(self, other: Money) -> bool:
        """Return whether this is the smaller amount."""
        return self.micros < self._same_currency(other)

    def _same_currency(self, other: object) -> int:
        if not isinstance(other, Money):
            raise TypeError(f"money goes with money, not with {type(other).__name__}")
        if other.currency != self.currency:
            raise CurrencyMismatch(self.currency, other.currency)
        return other.micros


def share_of(total: int, used: int, amount: int) -> int:
    """Return total x used / amount, half away from zero: the share that belongs to the used part.

    Money that was paid for credit becomes revenue by this rule as the credit is used. Raises
    ValueError unless 0 <= used <= amount and amount > 0.
    """
    if not 0 <= _integer(used) <= _integer(amount) or amount == 0:
        raise ValueError("what is used must lie between nothing and the amount")
    magnitude = (2 * abs(_integer(total)) * used + amount) // (2 * amount)
    return magnitude if total >= 0 else -magnitude


def share_between(total: int, used_before: int, used_after: int, amount: int) -> int:
    """Return the share of the total that belongs to one step of use.

    Steps that follow one another add up to `total` without drift. A step back returns a negative
    share.
    """
    return share_of(total, used_after, amount) - share_of(total, used_before, amount)


def split_carry(exact: Decimal, carry: Decimal) -> tuple[int, Decimal]:
    """Return the whole micros to charge now and the fraction to carry to the next charge.

    The new carry lies in [0, 1), so that the charged and the exact amount never differ by a whole
    micro. Raises ValueError where a figure has more than twelve decimals or the carry lies outside
    [0, 1), AmountOutOfRange where the charge is too large.
    """
    if not 0 <= _decimal(carry) < 1:
        raise ValueError("a carry is a fraction of one micro")
    if _decimal(exact).copy_abs() > MAX_MICROS:
        raise AmountOutOfRange
    try:
        owed = EXACT.add(exact, carry).quantize(_SMALLEST_EXACT, context=EXACT)
    except (Inexact, InvalidOperation):
        raise ValueError("an exact amount has at most twelve decimals of a micro") from None
    charged = owed.to_integral_value(ROUND_FLOOR)
    return int(charged), EXACT.subtract(owed, charged)


def _integer(value: int) -> int:
    if type(value) is not int:
        raise TypeError(f"a count of money is an int, not {type(value).__name__}")
    return value


def _decimal(value: Decimal) -> Decimal:
    if type(value) is not Decimal:
        raise TypeError(f"an exact amount is a Decimal, not {type(value).__name__}")
    if not value.is_finite():
        raise InvalidInput("amount", "not_a_number")
    return value


def _micros_per_minor_unit(currency: str) -> int:
    return int(10 ** (MICRO_DECIMALS - currency_exponent(currency)))


_MAX_INPUT_LENGTH = 64
_NEUTRAL_GROUPS = " '_\N{RIGHT SINGLE QUOTATION MARK}"
_EVERYDAY_SIGNS = {"JPY": ("円",), "VND": ("đ",)}
"""Signs that people type and the CLDR does not list."""
_OTHER_SIGN = {".": ",", ",": "."}
_GROUP_DIGITS = 3
_SHORT_GROUP = re.compile(r"(?P<whole>[1-9]\d{0,2})(?P<sign>[.,])(?P<rest>\d{1,2})", re.ASCII)
"""What may be a decimal fraction, or thousands of which the last digits are missing."""


@lru_cache(maxsize=256)
def _number_pattern(decimal_sign: str, group_signs: str) -> re.Pattern[str]:
    """Match a number in groups; without a decimal sign, a whole number."""
    group = rf"(?P<group>[{re.escape(group_signs)}])"
    grouped = rf"[1-9]\d{{0,2}}{group}\d{{3}}(?:(?P=group)\d{{3}})*"
    fraction = rf"(?:{re.escape(decimal_sign)}(?P<fraction>\d+))?" if decimal_sign else ""
    return re.compile(rf"(?P<whole>{grouped}|\d+){fraction}", re.ASCII)


@lru_cache(maxsize=256)
def _affix_pattern(currency: str, locale: str) -> re.Pattern[str]:
    signs = {currency, *_EVERYDAY_SIGNS.get(currency, ())}
    signs |= {get_currency_symbol(currency, place) for place in ("en", _babel_locale(locale))}
    words = sorted(
        (normalised(sign, "NFKC", longest=_MAX_INPUT_LENGTH) for sign in signs),
        key=len,
        reverse=True,
    )
    affix = rf"(?:{'|'.join(re.escape(word) for word in words)})"
    return re.compile(
        rf"(?P<sign>[-+]?)\s*(?:{affix}\s*)?(?P<late>[-+]?)\s*(?P<number>.*?)(?:\s*{affix})?",
        re.IGNORECASE,
    )


@lru_cache(maxsize=256)
def _babel_locale(name: str) -> Locale:
    try:
        return Locale.parse(name.replace("-", "_"))
    except (ValueError, UnknownLocaleError):
        return Locale("en")


@lru_cache(maxsize=256)
def _signs(locale: str) -> tuple[str, str]:
    """Return the locale's decimal sign, comma or point, and the group signs that go with it."""
    parsed = _babel_locale(locale)
    own_group = normalised(get_group_symbol(parsed), "NFKC", longest=_MAX_INPUT_LENGTH)
    decimal_sign = "," if get_decimal_symbol(parsed) == "," else "."
    return decimal_sign, _NEUTRAL_GROUPS + own_group.strip(".,")


class _Readings(NamedTuple):
    """The two amounts that a text may mean."""

    smaller: Decimal
    larger: Decimal


def _read_amount(text: str, currency: str, locales: tuple[str, str], limit: int) -> Decimal:
    typed = (
        normalised(text.strip(), "NFKC", longest=_MAX_INPUT_LENGTH)
        .replace("\N{MINUS SIGN}", "-")
        .strip()
    )
    if not typed:
        raise InvalidInput("amount", "empty")
    if any(unicodedata.category(sign) == "No" for sign in text):  # such as an exponent
        raise InvalidInput("amount", "not_a_number")
    affixes = _affix_pattern(currency, locales[0]).fullmatch(typed[: _MAX_INPUT_LENGTH + 1])
    if affixes is None or len(typed) > _MAX_INPUT_LENGTH or (affixes["sign"] and affixes["late"]):
        raise InvalidInput("amount", "not_a_number")
    number = affixes["number"]
    found = _whole(number, locales[0]) if limit == 0 else _choose(number, locales, limit)
    sign = -1 if "-" in {affixes["sign"], affixes["late"]} else 1
    if isinstance(found, Decimal):
        return found.copy_negate() if sign < 0 else found
    coin = Decimal(1).scaleb(-limit)
    first, second = (whole_micros(each.quantize(coin, ROUND_HALF_UP)) for each in found)
    raise InvalidInput(
        "amount",
        "ambiguous",
        first_micros=sign * first,
        second_micros=sign * second,
        currency=currency,
    )


def _whole(number: str, locale: str) -> Decimal:
    """Read a number of a currency without decimals: every sign in it separates groups."""
    _decimal_sign, neutral = _signs(locale)
    if _number_pattern("", ".," + neutral).fullmatch(number):
        return Decimal(re.sub(r"\D", "", number))
    has_fraction = any(_read(number, sign, neutral) is not None for sign in _OTHER_SIGN)
    reason = "too_many_decimals" if has_fraction else "not_a_number"
    raise InvalidInput("amount", reason, decimals=0)


def _choose(number: str, locales: tuple[str, str], limit: int) -> Decimal | _Readings:
    """Return the amount, or both that it may be where the locales do not decide."""
    (sign, neutral), (second_sign, _) = (_signs(locale) for locale in locales)
    short = _SHORT_GROUP.fullmatch(number)
    if short is not None:
        fraction = Decimal(f"{short['whole']}.{short['rest']}")
        if short["sign"] in {sign, second_sign} or len(short["rest"]) == limit:
            return fraction
        thousands = short["rest"].ljust(_GROUP_DIGITS, "0")
        return _Readings(fraction, Decimal(short["whole"] + thousands))
    own, other = _read(number, sign, neutral), _read(number, _OTHER_SIGN[sign], neutral)
    read = other if own is None else own
    if read is None:
        raise InvalidInput("amount", "not_a_number")
    has_two = own is not None and other is not None and own != other
    if has_two and (sign != second_sign or _decimals(read) > limit):
        return _Readings(*sorted(each for each in (own, other) if each is not None))
    if _decimals(read) > limit:
        raise InvalidInput("amount", "too_many_decimals", decimals=limit)
    return read


def _read(number: str, decimal_sign: str, neutral: str) -> Decimal | None:
    """Read a number by one decimal sign, with the digits of its fraction as typed."""
    found = _number_pattern(decimal_sign, _OTHER_SIGN[decimal_sign] + neutral).fullmatch(number)
    if found is None:
        return None
    whole = re.sub(r"\D", "", found["whole"])
    return Decimal(f"{whole}.{found['fraction']}" if found["fraction"] else whole)


def _decimals(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0
