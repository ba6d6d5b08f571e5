"""Detection of text that a spreadsheet would run as a formula, and CSV files without any.

Files that staff open contain customers' text. A spreadsheet program runs a cell that begins with
one of a few signs, and may so send neighbouring cells elsewhere. Japanese Excel takes the
full-width forms of the signs as well.
"""

from __future__ import annotations

import csv
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

_SIGNS = frozenset("=+-@")
# Full-width forms, which Excel in Japanese reads as the signs, and small forms, which become the
# same under compatibility normalisation (NFKC).
_WIDE_SIGNS = frozenset("\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b")
FORMULA_SIGNS = _SIGNS | _WIDE_SIGNS
FORMULA_BREAKS = frozenset("\t\r\n")
"""What some programs skip, or begin a new cell at."""

_SPACES = frozenset(filter(str.isspace, map(chr, range(sys.maxunicode + 1))))
SUSPECTS = FORMULA_SIGNS | FORMULA_BREAKS | _SPACES
"""What a text has to begin with for `guarded` to change it: a quick question before that one."""

_NUMBER = re.compile(r"-[0-9]+(?:\.[0-9]+)?", re.ASCII)
_GUARD = "'"


def opens_formula(text: str) -> bool:
    """Return whether a spreadsheet may run a text instead of showing it; not for negative numbers.

    Spaces before the sign do not count: programs drop them.
    """
    if text[:1] == "-" and _NUMBER.fullmatch(text):
        return False
    return text[:1] in FORMULA_BREAKS or text.lstrip()[:1] in FORMULA_SIGNS


def guarded(text: str) -> str:
    """Return text that a spreadsheet shows as it is: behind an apostrophe where it would run."""
    return _GUARD + text if opens_formula(text) else text


def guarded_row(row: Iterable[Any]) -> list[Any]:
    """Return the cells of a row with every text among them guarded."""
    return [guarded(cell) if type(cell) is str and cell[:1] in SUSPECTS else cell for cell in row]


class CsvWriter:
    """The one writer of CSV files: RFC 4180, every text in it guarded."""

    def __init__(self, file: TextIO, *, lineterminator: str = "\r\n") -> None:
        """Write to a file that was opened with `newline=""`, or to text in memory."""
        self._writer = csv.writer(file, lineterminator=lineterminator)

    def writerow(self, row: Iterable[Any]) -> None:
        """Write a row of texts, numbers and None."""
        self._writer.writerow(guarded_row(row))

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write rows, reading each only when it is needed."""
        self._writer.writerows(map(guarded_row, rows))
