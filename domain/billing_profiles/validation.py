"""Rules for a billing profile: one line a field, an address that can receive mail, a country."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from domain.billing_profiles.tax_codes import checked_tax_code
from domain.errors import InvalidInput
from domain.identity import country_codes, normalise_email
from domain.validation import check_text, normalised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_NAME_LENGTH = 200
"""Characters: the full names of companies are longer than those of people."""

MAX_ADDRESS_LENGTH = 300
MAX_CITY_LENGTH = 100


class ProfileKind(StrEnum):
    """Whether a person or a company is billed."""

    PERSONAL = "personal"
    COMPANY = "company"


@dataclass(frozen=True, slots=True)
class BillingProfile:
    """Who is billed. `country` is a code of `domain.identity.country_codes`, as at sign-up.

    `city` and, for a person, `tax_code` may be None.
    """

    kind: ProfileKind
    name: str = field(repr=False)
    email: str = field(repr=False)
    address: str = field(repr=False)
    country: str
    city: str | None = field(default=None, repr=False)
    tax_code: str | None = field(default=None, repr=False)


def checked_profile(profile: BillingProfile) -> BillingProfile:
    """Return the profile in the form that is kept; raise InvalidInput for its first fault."""
    for fault in _faults(profile):
        raise fault
    return _tidy(profile)


def profile_faults(profile: BillingProfile) -> tuple[InvalidInput, ...]:
    """Return everything that is wrong with the profile, one fault a field, in a form's order."""
    return tuple(_faults(profile))


def _faults(profile: BillingProfile) -> Iterator[InvalidInput]:
    checks: tuple[Callable[[], object], ...] = (
        lambda: _line(profile.name, "name", MAX_NAME_LENGTH),
        lambda: _email(profile.email),
        lambda: _address(profile.address),
        lambda: _city(profile.city),
        lambda: _country(profile.country),
        lambda: _tax_code(profile),
    )
    for check in checks:
        try:
            check()
        except InvalidInput as fault:
            yield fault


def _tidy(profile: BillingProfile) -> BillingProfile:
    return replace(
        profile,
        name=_line(profile.name, "name", MAX_NAME_LENGTH),
        email=_email(profile.email),
        address=_address(profile.address),
        city=_city(profile.city),
        country=_country(profile.country),
        tax_code=_tax_code(profile),
    )


def _line(text: str, name: str, longest: int) -> str:
    """Return the text as one line with single spaces, its accents composed."""
    tidy = " ".join(normalised(" ".join(text.split()), "NFC", longest=longest).split())
    check_text(**{name: tidy})
    if not any(character.isprintable() and character != " " for character in tidy):
        raise InvalidInput(name, "empty")
    if len(tidy) > longest:
        raise InvalidInput(name, "too_long", maximum=longest)
    return tidy


def _address(text: str) -> str:
    """Return the address as one line; people enter it in several, as on an envelope."""
    lines = (line.strip().rstrip(",").rstrip() for line in text.splitlines())
    return _line(", ".join(filter(None, lines)), "address", MAX_ADDRESS_LENGTH)


def _city(text: str | None) -> str | None:
    return _line(text, "city", MAX_CITY_LENGTH) if text and text.strip() else None


def _email(text: str) -> str:
    if not text.strip():
        raise InvalidInput("email", "empty")
    return normalise_email(text)


def _country(code: str) -> str:
    if not code:
        raise InvalidInput("country", "empty")
    if code not in country_codes():
        raise InvalidInput("country", "unknown")
    return code


def _tax_code(profile: BillingProfile) -> str | None:
    is_company = profile.kind is ProfileKind.COMPANY
    code = profile.tax_code or ""
    if not is_company and not code.strip():
        return None
    return checked_tax_code(code, country=profile.country, is_company=is_company)
