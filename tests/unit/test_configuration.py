"""Files that configure the product: a doubt is refused with its file, its place and its fault."""

from __future__ import annotations

import copy
import tomllib
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalogue.configuration import ConfigurationFile, find_file
from domain.catalogue.file import CATALOGUE_FILE, parse_catalogue
from domain.catalogue.sites import SITES_FILE, parse_sites
from domain.errors import InvalidConfiguration
from domain.payments.top_up_limits import TOP_UP_LIMITS_FILE, parse_limits
from domain.support.limits import ACTION_LIMITS_FILE, parse_action_limits
from tests.support import toml_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARSERS: dict[str, Callable[[ConfigurationFile], object]] = {
    SITES_FILE.name: parse_sites,
    CATALOGUE_FILE.name: lambda file: parse_catalogue(file.text, name=file.name),
    TOP_UP_LIMITS_FILE.name: parse_limits,
    ACTION_LIMITS_FILE.name: parse_action_limits,
}
FILES = {
    each.name: each for each in (SITES_FILE, CATALOGUE_FILE, TOP_UP_LIMITS_FILE, ACTION_LIMITS_FILE)
}
DOCUMENTS: dict[str, dict[str, Any]] = {
    name: tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    for name, path in FILES.items()
}
EVERY_FILE = pytest.mark.parametrize("name", FILES)


def parse(name: str, text: str) -> object:
    return PARSERS[name](ConfigurationFile(f"/etc/portal/{name}", text))


def refusal(name: str, text: str) -> InvalidConfiguration:
    with pytest.raises(InvalidConfiguration) as caught:
        parse(name, text)
    assert caught.value.file == f"/etc/portal/{name}"
    place = f"/etc/portal/{name}, {caught.value.where}: "
    assert str(caught.value) == f"{place}{caught.value.reason}."
    return caught.value


# ── What is right and what is not ─────────────────────────────────────────────────────────────
@EVERY_FILE
def test_built_in_file_is_valid_and_so_is_the_same_in_another_form(name: str) -> None:
    assert parse(name, FILES[name].read_text("utf-8"))
    assert parse(name, toml_documents.write(DOCUMENTS[name]))


SITE, TAX, USD = "site, block 1", "site, block 1.tax, block 1", "USD"


@pytest.mark.parametrize(
    ("name", "before", "after", "where", "reason"),
    [
        ("sites.toml", 'code = "vn"', 'code = "V N"', SITE, "lower-case letters"),
        ("sites.toml", 'code = "jp"', 'code = "vn"', "site, block 2", "'vn' already"),
        ("sites.toml", 'name = "Vietnam"', "name = 1", SITE, "'name' must be a text"),
        ("sites.toml", 'name = "Vietnam"', "", SITE, "'name' is missing"),
        ("sites.toml", 'name = "Vietnam"', 'name = "a\\u0000"', SITE, "cannot be shown"),
        ("sites.toml", 'country = "VN"', 'country = "Vietnam"', SITE, "two capital letters"),
        ("sites.toml", 'country = "VN"', 'county = "VN"', SITE, "'county' is not known here"),
        ("sites.toml", '["VND"]', '["VND", "VND"]', SITE, "names one twice"),
        ("sites.toml", '["VND"]', '["DONG"]', SITE, "'DONG' is no currency"),
        ("sites.toml", '["VND"]', '["USD"]', SITE, "'default_currency' is none"),
        ("sites.toml", '["VND"]', "[]", SITE, "'currencies' is empty"),
        ("sites.toml", '["VND"]', "[1]", SITE, "'currencies 1' must be a text"),
        ("sites.toml", "valid_from = 2020-01-01", 'valid_from = "2020"', TAX, "must be a date"),
        ("sites.toml", "2020-01-01", "2020-01-01T00:00:00Z", TAX, "must be a date"),
        ("sites.toml", "tax_rate = 0.10", "tax_rate = 10", TAX, "0.10 is 10 %"),
        ("sites.toml", "tax_rate = 0.10", "tax_rate = -0.1", TAX, "below zero"),
        ("sites.toml", "tax_rate = 0.10", "tax_rate = 0.9999999", TAX, "at most 6 decimals"),
        ("sites.toml", "tax_rate = 0.10", "tax_rate = true", TAX, "must be a number"),
        ("sites.toml", "tax_rate = 0.10", "", TAX, "'tax_rate' is missing"),
        ("sites.toml", '"TOP_UP"', '"LATER"', TAX, "must be TOP_UP or USAGE"),
        ("sites.toml", "[[site.tax]]", "[[site.taxes]]", SITE, "'tax' is missing"),
        ("sites.toml", "[[site]]", "[[sites]]", "file", "Cannot overwrite a value"),
        ("top_up_limits.toml", "[USD]", "[DOLLARS]", "file", "'DOLLARS' is no currency"),
        ("top_up_limits.toml", "[USD]\nminimum = 25", "[USD]", USD, "'minimum' is missing"),
        ("top_up_limits.toml", "[USD]\n", '[USD]\nnote = "x"\n', USD, "'note' is not known here"),
        ("top_up_limits.toml", "[USD]\nminimum = 25", "[USD]\nminimum = 0", USD, "above zero"),
        ("top_up_limits.toml", "[USD]\nminimum = 25", "[USD]\nminimum = nan", USD, "up to"),
        ("top_up_limits.toml", "[USD]\nminimum = 25", "[USD]\nminimum = 1e40", USD, "up to"),
        ("top_up_limits.toml", "[VND]\nminimum = 500_000", "[VND]\nminimum = 0.5", "VND", "decim"),
        ("limits.toml", "[support]", "[admin]", "file", "'admin' is none of support, finance"),
        ("limits.toml", "apply_code = 20\n", "pay = 20\n", "support", "'pay' is no action"),
        ("limits.toml", "apply_code = 20\n", "refund_payment = 1\n", "support", "no action"),
        ("limits.toml", "apply_code = 20\n", "apply_code = -1\n", "support", "from 0 to"),
        ("limits.toml", "apply_code = 20\n", "apply_code = 1.5\n", "support", "whole number"),
        ("limits.toml", "apply_code = 20\n", "apply_code = true\n", "support", "whole number"),
        ("limits.toml", "apply_code = 20\n", "apply_code = 2000000\n", "support", "from 0 to"),
        ("limits.toml", "[support]", "support = 1\n[x]", "file", "'support' must be a table"),
    ],
)
def test_doubtful_file_is_refused_at_the_place(
    name: str, before: str, after: str, where: str, reason: str
) -> None:
    text = FILES[name].read_text("utf-8")
    assert before in text
    fault = refusal(name, text.replace(before, after, 1))
    assert fault.where == where
    assert reason in fault.reason


@EVERY_FILE
@pytest.mark.parametrize("text", ["[", "x = " + "9" * 5_000, "x = " + "[" * 5_000, "x = \0"])
def test_file_that_is_no_toml_is_refused(name: str, text: str) -> None:
    assert refusal(name, text).where == "file"


@pytest.mark.parametrize("name", [each for each in FILES if each != ACTION_LIMITS_FILE.name])
def test_empty_file_is_refused(name: str) -> None:
    assert refusal(name, "").where == "file"


def test_without_limits_every_action_needs_a_second_person() -> None:
    assert parse(ACTION_LIMITS_FILE.name, "") == {}


@EVERY_FILE
def test_key_that_is_not_known_is_refused_wherever_it_is(name: str) -> None:
    document = DOCUMENTS[name]
    tables = [
        path
        for path in [(), *toml_documents.paths(document)]
        if isinstance(toml_documents.part(document, path), dict)
    ]
    for path in tables:
        copied = copy.deepcopy(document)
        toml_documents.part(copied, path)["No Such Key"] = "x"
        refusal(name, toml_documents.write(copied))


@EVERY_FILE
def test_value_of_another_kind_is_refused_wherever_it_is(name: str) -> None:
    document = DOCUMENTS[name]
    for path in toml_documents.paths(document):
        copied = copy.deepcopy(document)
        toml_documents.part(copied, path[:-1])[path[-1]] = True
        refusal(name, toml_documents.write(copied))


# ── No document ends in a traceback ───────────────────────────────────────────────────────────
@settings(max_examples=400)
@given(st.data(), st.sampled_from(sorted(FILES)))
def test_changed_document_is_read_or_refused(data: st.DataObject, name: str) -> None:
    document = data.draw(toml_documents.changed(DOCUMENTS[name]))
    with suppress(InvalidConfiguration):
        parse(name, toml_documents.write(document))


@settings(max_examples=300)
@given(st.text(st.sampled_from("[]{}=.,\"'# \n-+:_aZ019eTnif\\u"), max_size=40), st.data())
def test_any_text_is_read_or_refused(text: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FILES)))
    with suppress(InvalidConfiguration):
        parse(name, text)


# ── Which file counts ─────────────────────────────────────────────────────────────────────────
@EVERY_FILE
def test_file_of_the_folder_counts_before_the_built_in_one(name: str, tmp_path: Path) -> None:
    built_in = FILES[name]
    assert find_file(built_in, None) == (name, built_in.read_text("utf-8"))
    assert find_file(built_in, tmp_path) == find_file(built_in, None)
    own = tmp_path / name
    own.write_text("# ours")
    assert find_file(built_in, tmp_path) == (str(own), "# ours")


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    own = tmp_path / SITES_FILE.name
    own.write_bytes(b"\xff")
    with pytest.raises(InvalidConfiguration, match="not text in UTF-8") as caught:
        find_file(SITES_FILE, tmp_path)
    assert caught.value.file == str(own)
