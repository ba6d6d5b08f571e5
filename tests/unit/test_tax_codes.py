"""Tax codes are kept in one form, and refused where the country could not have given them."""

from __future__ import annotations

import pycountry
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import get_cc_module

from domain.billing_profiles import MAX_TAX_CODE_LENGTH, ProfileKind, checked_tax_code
from domain.billing_profiles.tax_codes import _ALSO
from domain.errors import InvalidInput

COMPANIES = [
    ("VN", "0100112437", "0100112437"),
    ("VN", " 0312 68 78 78 - 001\n", "0312687878001"),
    ("JP", "5-8356-7825-6246", "5835678256246"),
    ("JP", "Ｔ５８３５６７８２５６２４６", "T5835678256246"),  # noqa: RUF001 - typed in Japanese
    ("DE", "de 136 695 976", "DE136695976"),
    ("DE", "136695976", "DE136695976"),
    ("DE", "181/815/08155", "18181508155"),
    ("GR", "094259216", "EL094259216"),
    ("GR", "gr 094 259 216", "EL094259216"),
    ("FR", "FR 40 303 265 045", "FR40303265045"),
    ("FR", "732 829 320 00074", "73282932000074"),
    ("AT", "ATU 135 85 627", "ATU13585627"),
    ("ES", "B-58378431", "ESB58378431"),
    ("SE", "556703-7485", "5567037485"),
    ("GB", "GB 980 7806 84", "980780684"),
    ("CH", "CHE-107.787.577 IVA", "CHE107787577IVA"),
    ("CH", "CHE-100.155.212", "CHE100155212"),
    ("NO", "988 077 917", "988077917"),
    ("US", "91-1144442", "911144442"),
    ("AU", "83 914 571 673", "83914571673"),
    ("IN", "27aapfu0939f1zv", "27AAPFU0939F1ZV"),
    ("TR", "454 053 6920", "4540536920"),
    ("TW", "٠٠٥٠١٥٠٣", "00501503"),
    ("HK", "12345678-000", "12345678-000"),
    ("ZA", "4123 456789", "4123 456789"),
]
PEOPLE = [
    ("VN", "001 099 012 345", "001099012345"),
    ("VN", "0100112437", "0100112437"),
    ("JP", "T1234-5678-90123", "T1234567890123"),
    ("IT", "rccmnl83s18d969h", "RCCMNL83S18D969H"),
]


def fault(code: str, country: str, *, is_company: bool = True) -> str:
    with pytest.raises(InvalidInput) as caught:
        checked_tax_code(code, country=country, is_company=is_company)
    assert caught.value.field == "tax_code"
    return caught.value.reason


@pytest.mark.parametrize(("country", "typed", "kept"), COMPANIES)
def test_the_code_of_a_company_is_kept_in_one_form(country: str, typed: str, kept: str) -> None:
    assert checked_tax_code(typed, country=country, is_company=True) == kept
    assert checked_tax_code(kept, country=country, is_company=True) == kept


@pytest.mark.parametrize(("country", "typed", "kept"), PEOPLE)
def test_the_code_of_a_person_is_kept_in_one_form(country: str, typed: str, kept: str) -> None:
    assert checked_tax_code(typed, country=country, is_company=False) == kept
    assert checked_tax_code(kept, country=country, is_company=False) == kept


@pytest.mark.parametrize(
    ("country", "code"),
    [
        ("VN", "0100112438"),  # a wrong check digit
        ("VN", "0312687878-000"),
        ("VN", "001099012345"),  # a citizen, not a company
        ("JP", "2835678256246"),
        ("JP", "T1234567890123"),
        ("DE", "136695978"),
        ("DE", "ATU13585627"),  # another state's
        ("GR", "EL094259217"),
        ("US", "07-1144442"),
        ("AU", "99 999 999 999"),
        ("HK", "₿1234567"),
        ("HK", "ABCDEFGH"),
    ],
)
def test_a_code_that_the_country_cannot_have_given_is_refused(country: str, code: str) -> None:
    assert fault(code, country) == "wrong_format"


def test_the_refusal_names_the_country() -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_tax_code("12345", country="VN", is_company=True)
    assert caught.value.values == {"country": "VN"}


@pytest.mark.parametrize(
    ("country", "code"),
    [
        ("JP", "6214 9832 0257"),  # an individual number, of a right check digit
        ("US", "536-90-4399"),  # a social security number
        ("AU", "123 456 782"),  # a tax file number
    ],
)
def test_numbers_that_no_bill_may_keep_are_refused(country: str, code: str) -> None:
    assert fault(code, country, is_company=False) == "wrong_format"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "empty"),
        (" \t ", "empty"),
        ("123", "too_short"),
        ("1" * (MAX_TAX_CODE_LENGTH + 1), "too_long"),
        ("1234\0005", "control_characters"),
        ("1234\u202e5", "control_characters"),
    ],
)
@pytest.mark.parametrize("country", ["VN", "HK"])
def test_length_and_characters_count_everywhere(country: str, code: str, reason: str) -> None:
    assert fault(code, country) == reason


def test_the_library_knows_every_format_that_is_named() -> None:
    for country, names in _ALSO.items():
        for name in names:
            assert get_cc_module(country, name) is not None, (country, name)


def kept_form(typed: str, country: str, kind: ProfileKind) -> str | None:
    try:
        return checked_tax_code(typed, country=country, is_company=kind is ProfileKind.COMPANY)
    except InvalidInput:
        return None


@given(
    st.sampled_from([each.alpha_2 for each in pycountry.countries]),
    st.one_of(st.text(), st.from_regex(r"[A-Z]{0,3}[0-9 ./-]{1,20}", fullmatch=True)),
    st.sampled_from(ProfileKind),
)
def test_whatever_is_typed_is_refused_or_kept_in_a_form_that_stays(
    country: str, typed: str, kind: ProfileKind
) -> None:
    kept = kept_form(typed, country, kind)
    if kept is not None:
        assert kept_form(kept, country, kind) == kept
        assert kept.isascii()
        assert len(kept) <= MAX_TAX_CODE_LENGTH + len("DE")
