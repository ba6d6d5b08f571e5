"""Spreadsheets: the writers of workbooks, large and small. No text in them is a formula."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from openpyxl import Workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from rustpy_xlsxwriter import Format, write_worksheets

from domain.formulas import guarded, guarded_row
from domain.money import currency_exponent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from openpyxl.worksheet.worksheet import Worksheet
    from rustpy_xlsxwriter.rustpy_xlsxwriter import MergeRange

SHEET_ROWS = 1_048_576
"""As many rows has a sheet of Excel."""
MAX_TEXT_LENGTH = 32_767
"""As many characters has a cell of Excel."""
DATES = "yyyy-mm-dd hh:mm:ss"
_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, its width in characters, and how Excel shows its numbers."""

    title: str
    width: int
    number_format: str | None = None


def write_workbook(
    path: Path,
    *,
    name: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Any]],
    row_count: int,
    heading: Sequence[str],
    sheet_rows: int = SHEET_ROWS,
) -> None:
    """Write rows to a workbook in bounded memory; what one sheet cannot hold goes on in the next.

    Above the titles stand the lines of the heading, on every sheet. A cell is text, a number, a
    naive datetime, or None. `row_count` decides how many sheets there are, and must be right.
    """
    first = len(heading) + 2
    capacity = sheet_rows - first
    count = max(1, -(-row_count // capacity))
    names = [name if number == 1 else f"{name} {number}" for number in range(1, count + 1)]
    titles = [column.title for column in columns]
    records = (dict(zip(titles, guarded_row(row), strict=True)) for row in rows)
    top: list[MergeRange] = [
        (line, 0, line, len(columns) - 1, safe_text(text)) for line, text in enumerate(heading)
    ]
    write_worksheets(
        [(sheet, _or_titles(islice(records, capacity), titles)) for sheet in names],
        str(path),
        freeze_panes={"general": {"row": first, "col": 0}},
        datetime_format=DATES,
        bold_headers=True,
        column_widths={sheet: {c.title: float(c.width) for c in columns} for sheet in names},
        column_formats={
            sheet: {
                column.title: Format().set_num_format(column.number_format)
                for column in columns
                if column.number_format
            }
            for sheet in names
        },
        header_row=dict.fromkeys(names, first - 1),
        merge_ranges=dict.fromkeys(names, top),
        autofilter=dict.fromkeys(names, True),
    )


def _or_titles(
    records: Iterator[dict[str, Any]], titles: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the records, none before it is asked for; a sheet without any still has its titles."""
    is_empty = True
    for record in records:
        is_empty = False
        yield record
    if is_empty:
        yield dict.fromkeys(titles)


def safe_text(text: str) -> str:
    """Return text that no program takes for a formula, not longer than a cell."""
    return guarded(text)[:MAX_TEXT_LENGTH]


# ── Small workbooks, in memory ────────────────────────────────────────────────────────────────
class SmallWorkbook:
    """A workbook of a few sheets whose cells have formats of their own."""

    def __init__(self) -> None:
        self._book = Workbook()
        self._book.remove(self._book.worksheets[0])

    def add_sheet(self, title: str) -> Worksheet:
        """Add a sheet at the end; `write_cell` fills it."""
        sheet: Worksheet = self._book.create_sheet(title)
        return sheet

    def content(self) -> bytes:
        """Return the file."""
        file = io.BytesIO()
        self._book.save(file)
        return file.getvalue()


def write_cell(sheet: Worksheet, row: int, column: int, value: Any) -> Any:  # noqa: ANN401 - texts, numbers, days
    """Write a value into a cell and return it. Text stays text, whatever it begins with."""
    cell: Any = sheet.cell(row, column)
    if isinstance(value, str):
        cell.value = safe_text(ILLEGAL_CHARACTERS_RE.sub("", value))
        cell.data_type = "s"  # an error's name, such as #N/A, is text here too
    else:
        cell.value = value
    return cell


def amount_cell(micros: int | None) -> float | None:
    """Return an amount as Excel keeps numbers: to 15 digits. The exact one stands beside it."""
    return None if micros is None else micros / _MICROS


def amount_format(currency: str) -> str:
    """Return how Excel shows amounts of the currency: grouped, with its decimals."""
    decimals = currency_exponent(currency)
    return f"#,##0.{'0' * decimals}" if decimals else "#,##0"
