"""Spreadsheets: the writers of workbooks, large and small. No text in them is a formula."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openpyxl import Workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from rustpy_xlsxwriter import Format, write_worksheets

from domain.formulas import guarded, guarded_row
from domain.money import EXACT, MICRO_DECIMALS, currency_exponent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from openpyxl.worksheet.worksheet import Worksheet
    from rustpy_xlsxwriter.rustpy_xlsxwriter import MergeRange

SHEET_ROWS = 1_048_576
"""As many rows has a sheet of Excel."""
MAX_TEXT_LENGTH = 32_767
"""As many characters has a cell of Excel."""
DATES = "yyyy-mm-dd hh:mm:ss"
COUNTS = "#,##0"
_DAYS = "yyyy-mm-dd"
_MICROS = 1_000_000
_BOLD = Font(bold=True)


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
    """Write rows to a workbook in bounded memory; continue on another sheet when one is full.

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
    """Yield the records lazily; a sheet without any still has its titles."""
    is_empty = True
    for record in records:
        is_empty = False
        yield record
    if is_empty:
        yield dict.fromkeys(titles)


def safe_text(text: str) -> str:
    """Return text that no program runs as a formula, not longer than a cell allows."""
    return guarded(text)[:MAX_TEXT_LENGTH]


def workbook_content(
    *,
    name: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Any]],
    row_count: int,
    heading: Sequence[str],
) -> bytes:
    """Return the content that `write_workbook` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workbook.xlsx"
        write_workbook(
            path, name=name, columns=columns, rows=rows, row_count=row_count, heading=heading
        )
        return path.read_bytes()


# ── Small workbooks, in memory ────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Amount:
    """An amount in a small workbook: two cells, a number to calculate with and its exact text."""

    micros: int
    currency: str


class SmallWorkbook:
    """A workbook of a few sheets whose cells have formats of their own."""

    def __init__(self) -> None:
        self._book = Workbook()
        self._book.remove(self._book.worksheets[0])

    def add_table(
        self,
        name: str,
        *,
        columns: Sequence[Column],
        rows: Iterable[Sequence[Any]],
        heading: Sequence[Sequence[Any]],
        caption: str = "",
    ) -> None:
        """Add a sheet: caption, heading, an empty line, a frozen row of titles, and the rows.

        A cell is text, a number, a day, a moment (shown in UTC), None, or an Amount, which takes
        two columns. Excel filters the rows by their titles.
        """
        sheet: Worksheet = self._book.create_sheet(name)
        lines = [[caption], *heading] if caption else [*heading]
        for number, line in enumerate(lines, start=1):
            _write_row(sheet, number, line)
        if caption:
            sheet.cell(1, 1).font = _BOLD
        top = len(lines) + 2
        for number, column in enumerate(columns, start=1):
            _write_cell(sheet, top, number, column.title).font = _BOLD
            sheet.column_dimensions[get_column_letter(number)].width = column.width
        formats = [column.number_format for column in columns]
        for number, row in enumerate(rows, start=top + 1):
            _write_row(sheet, number, row, formats)
        sheet.freeze_panes = f"A{top + 1}"
        last = get_column_letter(len(columns))
        sheet.auto_filter.ref = f"A{top}:{last}{max(sheet.max_row, top)}"

    def content(self) -> bytes:
        """Return the file."""
        file = io.BytesIO()
        self._book.save(file)
        return file.getvalue()


def _write_row(
    sheet: Worksheet, row: int, values: Sequence[Any], formats: Sequence[str | None] = ()
) -> None:
    column = 1
    for value in values:
        if isinstance(value, Amount):
            exact = Decimal(value.micros).scaleb(-MICRO_DECIMALS, EXACT)
            _write_cell(sheet, row, column, exact).number_format = amount_format(value.currency)
            _write_cell(sheet, row, column + 1, f"{exact:f}")
            column += 2
            continue
        cell = _write_cell(sheet, row, column, value)
        if isinstance(value, int) and formats[column - 1 : column]:
            cell.number_format = formats[column - 1] or cell.number_format
        column += 1


def _write_cell(sheet: Worksheet, row: int, column: int, value: Any) -> Any:  # noqa: ANN401 - see add_table
    """Write a value into a cell and return it. Text stays text, whatever it begins with."""
    cell: Any = sheet.cell(row, column)
    if isinstance(value, str):
        cell.value = safe_text(ILLEGAL_CHARACTERS_RE.sub("", value))
        cell.data_type = "s"  # an error's name, such as #N/A, is text here too
    elif isinstance(value, datetime):
        # Excel has no time zones.
        cell.value = value.astimezone(UTC).replace(tzinfo=None, microsecond=0)
        cell.number_format = DATES
    else:
        cell.value = value
        if isinstance(value, date):
            cell.number_format = _DAYS
    return cell


def amount_cell(micros: int | None) -> float | None:
    """Return an amount with the 15 digits that Excel keeps. The exact one is in the next column."""
    return None if micros is None else micros / _MICROS


def amount_format(currency: str) -> str:
    """Return how Excel shows amounts of the currency: grouped, with its decimals."""
    decimals = currency_exponent(currency)
    return f"{COUNTS}.{'0' * decimals}" if decimals else COUNTS
