"""Configuration files in TOML: which file applies, and a strict reader of it.

An error names the file, the place in it and what is wrong there.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from domain.errors import InvalidConfiguration
from domain.money import known_currency

if TYPE_CHECKING:
    from pathlib import Path

Given = TypeVar("Given")

MAX_TEXT_LENGTH = 200
WHOLE_FILE = "file"
"""The place of a fault that is at no key of its own."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9.-]*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KINDS = {
    str: "a text in quotes",
    int: "a whole number",
    Decimal: "a number",
    dict: "a table",
    list: "a list",
    date: "a date",
    datetime: "a date and time",
}
_MAX_DIGITS = 18


class ConfigurationFile(NamedTuple):
    """A file's name, as errors show it, and its text."""

    name: str
    text: str


def find_file(built_in: Path, folder: Path | None) -> ConfigurationFile:
    """Return the file of this name in the folder, or the built-in one where it has none.

    Raises InvalidConfiguration for a file that is not UTF-8, OSError for one that cannot be read.
    """
    own = None if folder is None else folder / built_in.name
    path, name = (built_in, built_in.name) if own is None or not own.exists() else (own, str(own))
    try:
        return ConfigurationFile(name, path.read_text("utf-8"))
    except UnicodeDecodeError:
        raise InvalidConfiguration(name, WHOLE_FILE, "it is not text in UTF-8") from None


def read_table(file: ConfigurationFile) -> Table:
    """Return the file's content; raise InvalidConfiguration where it is no TOML."""
    try:
        content = tomllib.loads(file.text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidConfiguration(file.name, WHOLE_FILE, str(error)) from error
    return Table(content, WHOLE_FILE, file.name)


class Table:
    """A TOML table that is read key by key, and must be empty at the end."""

    def __init__(self, content: object, where: str, file: str) -> None:
        self.where = where
        self._file = file
        if not isinstance(content, dict):
            raise self.fault("a table is expected here")
        self._rest = dict(content)

    def fault(self, reason: str) -> InvalidConfiguration:
        """Return the error of a fault in this table."""
        return InvalidConfiguration(self._file, self.where, reason)

    def table(self, content: object, place: str) -> Table:
        """Return a table that is a part of this one."""
        where = place if self.where == WHOLE_FILE else f"{self.where}.{place}"
        return Table(content, where, self._file)

    def remaining_keys(self) -> tuple[str, ...]:
        """Return the keys that are left."""
        return tuple(self._rest)

    def take(self, key: str, kind: type[Given]) -> Given:
        """Return the value of a required key."""
        found = self.take_optional(key, kind)
        if found is None:
            raise self.fault(f"'{key}' is missing")
        return found

    def take_optional(self, key: str, kind: type[Given]) -> Given | None:
        """Return the value of an optional key, or None."""
        if key not in self._rest:
            return None
        found = self._rest.pop(key)
        if kind is Decimal and type(found) is int:
            found = Decimal(found)
        # Not isinstance: true is no number, and a time of day no date.
        if type(found) is not kind or found == "":
            raise self.fault(f"'{key}' must be {_KINDS[kind]}")
        if isinstance(found, str) and (len(found) > MAX_TEXT_LENGTH or _CONTROLS.search(found)):
            raise self.fault(f"'{key}' is too long, or has a character that cannot be shown")
        return found

    def take_list(self, key: str, kind: type[Given]) -> list[Given]:
        """Return a list of one kind, which has something in it."""
        found = self.take(key, list)
        items = Table({f"{key} {number}": each for number, each in enumerate(found, 1)},
                      self.where, self._file)  # fmt: skip
        if not found:
            raise self.fault(f"'{key}' is empty")
        return [items.take(name, kind) for name in items.remaining_keys()]

    def take_tables_of(self, key: str) -> list[Table]:
        """Return the [[tables]] of this name, at least one."""
        blocks = self.take(key, list)
        if not blocks:
            raise self.fault(f"there is no [[{key}]] in it")
        return [self.table(each, f"{key}, block {number}") for number, each in enumerate(blocks, 1)]

    def take_slug(self, key: str) -> str:
        """Return the value of a required key: lower-case letters, digits, dashes and dots."""
        slug = self.take(key, str)
        self.check_slug(slug)
        return slug

    def take_optional_slug(self, key: str) -> str | None:
        """Return a text of lower-case letters, digits, dashes and dots, if it is there."""
        slug = self.take_optional(key, str)
        if slug is not None:
            self.check_slug(slug)
        return slug

    def check_currency(self, currency: str) -> None:
        """Refuse a code that is not a currency's."""
        if not known_currency(currency):
            raise self.fault(f"'{currency}' is no currency")

    def take_amount(self, key: str, *, zero: bool = False) -> Decimal | None:
        """Return a number above zero (or zero, where that is allowed), if it is there."""
        amount = self.take_optional(key, Decimal)
        if amount is not None and not (
            amount.is_finite()
            and amount >= 0
            and (amount or zero)
            and abs(amount.adjusted()) <= _MAX_DIGITS
            and len(amount.as_tuple().digits) <= 2 * _MAX_DIGITS
        ):
            raise self.fault(f"'{key}' is below zero, too small or too large")
        return amount

    def take_tables(self) -> list[tuple[str, Table]]:
        """Return all that is left: tables under slugs."""
        tables = [(key, self.table(content, key)) for key, content in self._rest.items()]
        for key, table in tables:
            table.check_slug(key)
        self._rest.clear()
        return tables

    def take_strings(self) -> dict[str, str]:
        """Return all that is left: texts under slugs."""
        for key in self._rest:
            self.check_slug(key)
        return {key: self.take(key, str) for key in list(self._rest)}

    def take_prices(self) -> dict[str, Decimal]:
        """Return all that is left: prices under currency codes."""
        prices = {}
        for currency in list(self._rest):
            self.check_currency(currency)
            price = self.take_amount(currency, zero=True)
            if price is not None:
                prices[currency] = price
        if not prices:
            raise self.fault("there is no price in it")
        return prices

    def finish(self) -> None:
        """Refuse keys that were not read: they would be spelling mistakes."""
        if self._rest:
            raise self.fault(f"'{min(self._rest)}' is not known here")

    def check_slug(self, slug: str) -> None:
        """Refuse a text that is not a slug."""
        if not _SLUG.fullmatch(slug) or len(slug) > MAX_TEXT_LENGTH:
            raise self.fault(f"'{slug}' must be lower-case letters, digits, '-' and '.'")
