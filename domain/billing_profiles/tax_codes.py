"""Tax codes: by the country's own formats and check digits where a library knows them.

A number that only identifies a person to their state (a My Number, a social security or a tax file
number) is not accepted as a format, even where that state taxes by it: most laws forbid keeping
such a number for a bill.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from stdnum import get_cc_module
from stdnum.eu import vat as eu_vat
from stdnum.exceptions import ValidationError
from stdnum.util import clean

from domain.errors import InvalidInput
from domain.validation import check_text, normalised

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TAX_CODE_LENGTH = 30
_MIN_LENGTH = 4
_FIELD = "tax_code"
_ANY_FORMAT = re.compile(r"(?=.*[0-9])[0-9A-Z][0-9A-Z ./-]*")

_EUROPEAN_UNION = {state.upper() for state in eu_vat.MEMBER_STATES} - {"XI"}

_ALSO = {
    "AT": ("tin",),
    "AU": ("acn",),
    "BR": ("cpf",),
    "CH": ("uid",),
    "CR": ("cpf", "cr"),
    "DE": ("stnr",),
    "DO": ("cedula",),
    "EC": ("ci",),
    "EE": ("registrikood",),
    "FR": ("siren", "siret"),
    "GB": ("utr",),
    "IL": ("idnr",),
    "IN": ("pan",),
    "IS": ("kennitala",),
    "IT": ("codicefiscale",),
    "MD": ("idno",),
    "NO": ("orgnr",),
    "SE": ("orgnr",),
    "TH": ("tin",),
    "TR": ("tckimlik",),
    "UA": ("edrpou", "rntrc"),
    "US": ("ein",),
}
"""Other number formats accepted, by country, in addition to the library's `vat`."""

_DASHES_TELL = {"US"}
"""Where only the place of the dashes tells a company's number from a person's."""

# Since July 2025 a person in Vietnam is taxed by the number of the citizen's card, which has no
# check digit; the first figure of its province is always 0.
_VIETNAMESE_CITIZEN = re.compile(r"0[0-9]{11}")

# A registered person has T and 13 digits that are not a valid corporate number.
_JAPANESE_REGISTRATION = re.compile(r"T?[0-9]{13}")


def checked_tax_code(tax_code: str, *, country: str, is_company: bool) -> str:
    """Return the code in the form that is kept; `country` is an ISO 3166 code of two letters.

    Where no format of the country is known, only the length and the characters are looked at.
    Raises InvalidInput on "tax_code": "empty", "too_short", "too_long", "control_characters",
    or "wrong_format" with the country.
    """
    line = " ".join(tax_code.split())
    check_text(**{_FIELD: line})
    typed = _plain(line)
    if not typed:
        raise InvalidInput(_FIELD, "empty")
    if len(typed) > MAX_TAX_CODE_LENGTH:
        raise InvalidInput(_FIELD, "too_long", maximum=MAX_TAX_CODE_LENGTH)
    if len(typed) < _MIN_LENGTH:
        raise InvalidInput(_FIELD, "too_short", minimum=_MIN_LENGTH)
    found = next(_readings(typed, country, is_company=is_company), None)
    if found is None:
        raise InvalidInput(_FIELD, "wrong_format", country=country)
    return found


def _plain(text: str) -> str:
    """Return the text in ASCII's letters, figures and dashes as far as it can be, in capitals."""
    figures = "".join(
        str(unicodedata.decimal(each)) if each.isdecimal() else each
        for each in normalised(text, "NFKC", longest=MAX_TAX_CODE_LENGTH)
    )
    return " ".join(clean(figures).upper().split())


def _compact(typed: str) -> str:
    return clean(typed, " .-/")


def _readings(typed: str, country: str, *, is_company: bool) -> Iterator[str]:
    """Give the code as each format of the country would keep it, the likeliest first."""
    compact = _compact(typed)
    if country == "JP":
        yield from _japanese(compact, is_company=is_company)
    elif country == "VN":
        yield from _by_library(typed, "VN", "vat")
        if not is_company and _VIETNAMESE_CITIZEN.fullmatch(compact):
            yield compact
    elif country in _EUROPEAN_UNION:
        yield from _european(compact, country)
        yield from _by_library(typed, country, *_ALSO.get(country, ()))
    elif get_cc_module(country, "vat") or country in _ALSO:
        yield from _by_library(typed, country, "vat", *_ALSO.get(country, ()))
    elif _ANY_FORMAT.fullmatch(typed):
        yield typed


def _japanese(compact: str, *, is_company: bool) -> Iterator[str]:
    if not is_company:
        if _JAPANESE_REGISTRATION.fullmatch(compact):
            yield compact
        return
    # T before a corporate number means that the company issues qualified invoices.
    mark = "T" if compact.startswith("T") else ""
    for number in _by_library(compact.removeprefix("T"), "JP", "cn"):
        yield mark + number


def _european(compact: str, country: str) -> Iterator[str]:
    """Give the number of the Union's register, which begins with the state, typed or not."""
    state = "EL" if country == "GR" else country
    bare = [compact.removeprefix(mark) for mark in (state, country) if compact.startswith(mark)]
    for number in (*bare, compact):
        try:
            yield eu_vat.validate(state + number)
        except ValidationError:
            continue


def _by_library(typed: str, country: str, *formats: str) -> Iterator[str]:
    for name in formats:
        module = get_cc_module(country, name)
        if module is None:
            continue
        # Some libraries know the usual separators, and some only the number.
        bare = typed if country in _DASHES_TELL else _compact(typed)
        for number in dict.fromkeys((typed, bare)):
            try:
                yield module.validate(number)
            except ValidationError:
                continue
