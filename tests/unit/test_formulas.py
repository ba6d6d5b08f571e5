"""No file that the portal writes has a formula in it, whoever chose its texts."""

from __future__ import annotations

import ast
import csv
import io
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.formulas import (
    FORMULA_BREAKS,
    FORMULA_SIGNS,
    SUSPECTS,
    CsvWriter,
    guarded,
    opens_formula,
)
from portal.exports.files import exact_text
from portal.exports.spreadsheets import (
    MAX_TEXT_LENGTH,
    Column,
    SmallWorkbook,
    safe_text,
    write_workbook,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
STARTS = sorted(
    {*FORMULA_SIGNS, *FORMULA_BREAKS, " =", "\u3000\uff1d", "\u00a0+", "\x0b-", "\x1c@"}
)
EVIL = st.builds("{}{}".format, st.sampled_from(STARTS), st.text(max_size=10))
# What no database keeps, and what XML has no word for, stands in no cell.
TEXTS = st.one_of(
    EVIL, st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\r\n"))
)
CELLS = st.one_of(TEXTS, st.integers(-(10**9), 10**9), st.none())


# ── The guard ─────────────────────────────────────────────────────────────────────────────────
def test_every_form_of_the_signs_that_unicode_has_for_a_width_is_known() -> None:
    forms = {
        sign
        for sign in map(chr, range(sys.maxunicode + 1))
        if unicodedata.decomposition(sign).startswith(("<wide>", "<narrow>", "<small>"))
        and unicodedata.normalize("NFKC", sign) in "=+-@"  # noqa: TID251 - one character
    }
    assert forms | set("=+-@") == FORMULA_SIGNS
    assert {"\uff1d", "\uff0b", "\uff0d", "\uff20"} < forms


@pytest.mark.parametrize("start", STARTS)
def test_what_begins_like_a_formula_is_guarded(start: str) -> None:
    for text in (start, f"{start}1+1", f'{start}HYPERLINK("http://x.example")', f"{start}\n1"):
        assert guarded(text) == f"'{text}"


@pytest.mark.parametrize(
    "text",
    ["-1+1", "-", "--1", "-1,5", "-1.", "-.5", "-1\n", "-\u0661", "-1e5", "+1", "-1 ", "- 1"],
)
def test_what_only_begins_like_a_number_is_guarded(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", " ", "'=1", "a=1", "1-1", "-1", "-12.000001", "\u2212", "0"])
def test_what_is_no_formula_is_left_as_it_is(text: str) -> None:
    assert guarded(text) == text


@given(st.integers(-(2**63), 2**63))
def test_exact_amounts_are_left_as_they_are(micros: int) -> None:
    assert guarded(exact_text(micros)) == exact_text(micros)


@given(TEXTS)
def test_what_is_guarded_is_no_formula_and_is_guarded_once(text: str) -> None:
    assert not opens_formula(guarded(text))
    assert guarded(guarded(text)) == guarded(text)
    assert safe_text(text) == guarded(text)
    assert text[:1] in SUSPECTS or not opens_formula(text)


# ── The writers ───────────────────────────────────────────────────────────────────────────────
@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=5))
def test_csv_has_no_formula_and_is_read_as_it_was_written(table: list[list[Any]]) -> None:
    written = io.StringIO(newline="")
    writer = CsvWriter(written)
    for row in table[:1]:
        writer.writerow(row)
    writer.writerows(iter(table[1:]))
    read = list(csv.reader(io.StringIO(written.getvalue(), newline=""), strict=True))
    assert [len(row) for row in read] == [len(row) for row in table]
    for cells, row in zip(read, table, strict=True):
        for cell, value in zip(cells, row, strict=True):
            assert not opens_formula(cell)
            assert cell.removeprefix("'") == ("" if value is None else str(value)).removeprefix("'")


few = settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def texts_of(content: bytes) -> Iterator[str]:
    """Yield every text of a workbook; fail for a cell that is run."""
    for sheet in openpyxl.load_workbook(io.BytesIO(content)).worksheets:
        for row in sheet.iter_rows():
            for cell in row:
                assert cell.data_type != "f", cell.value
                if isinstance(cell.value, str):
                    yield cell.value


@few
@given(st.lists(st.tuples(TEXTS, CELLS), max_size=5), EVIL)
def test_large_workbook_has_no_formula(
    tmp_path: Path, table: list[tuple[Any, ...]], heading: str
) -> None:
    path = tmp_path / "large.xlsx"
    write_workbook(
        path,
        name="Sheet",
        columns=[Column("a", 10), Column("b", 10)],
        rows=iter(table),
        row_count=len(table),
        heading=[heading],
    )
    assert not any(map(opens_formula, texts_of(path.read_bytes())))


@few
@given(st.lists(CELLS, max_size=8))
def test_small_workbook_has_no_formula(cells: list[Any]) -> None:
    book = SmallWorkbook()
    rows = [[value] for value in [*cells, "#N/A", "=1+1", "\x00=1", "x" * 40_000]]
    book.add_table(
        "Sheet", caption="=1", heading=[["@a", "+b"]], columns=[Column("=c", 10)], rows=rows
    )
    texts = list(texts_of(book.content()))
    assert texts[:4] == ["'=1", "'@a", "'+b", "'=c"]
    assert not any(map(opens_formula, texts))
    assert texts[-4:] == ["#N/A", "'=1+1", "'=1", "x" * MAX_TEXT_LENGTH]


# ── Nobody passes them by ─────────────────────────────────────────────────────────────────────
CSV_HOME, WORKBOOK_HOME = "domain/formulas.py", "portal/exports/spreadsheets.py"
WRITING_MODULES = {"xlsxwriter", "rustpy_xlsxwriter", "pyarrow.csv"}
WRITERS = {
    *("Workbook", "write_worksheets", "write_worksheet", "to_excel"),
    *("DictWriter", "write_csv", "to_csv"),
}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("app.py", "db", "domain", "portal", "sandbox"):
        found = [ROOT / folder] if folder.endswith(".py") else sorted((ROOT / folder).rglob("*.py"))
        for path in found:
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def faults_of(place: str, tree: ast.Module) -> Iterator[str]:
    """Yield every place that writes a table's file, or into a sheet, by itself."""
    for node in ast.walk(tree):
        if _imports_a_writer(node) or _names_a_writer(node) or _fills_a_cell(node):
            yield f"{place}:{getattr(node, 'lineno', 0)}"


def _imports_a_writer(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return bool(WRITING_MODULES & {alias.name for alias in node.names})
    if not isinstance(node, ast.ImportFrom) or node.module is None:
        return False
    names = {alias.name for alias in node.names}
    # A type of the library is no writer; those stand in modules of their own.
    is_writing = node.module in WRITING_MODULES
    return is_writing or bool(names & WRITERS) or (node.module == "csv" and "writer" in names)


def _names_a_writer(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute):
        return False
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    return node.attr in WRITERS or (owner, node.attr) == ("csv", "writer")


def _fills_a_cell(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
        return node.attr == "value" and not is_own
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner, name = node.func.value, node.func.attr
    if not isinstance(owner, ast.Name) or owner.id != "sheet":
        return False
    return name == "append" or (name == "cell" and len(node.args) + len(node.keywords) > 2)


def test_every_file_of_tables_is_written_by_the_guarded_writers() -> None:
    found = [fault for place, tree in trees() for fault in faults_of(place, tree)]
    allowed = (f"{CSV_HOME}:", f"{WORKBOOK_HOME}:")
    assert [fault for fault in found if not fault.startswith(allowed)] == []
    assert {fault.partition(":")[0] for fault in found} == {CSV_HOME, WORKBOOK_HOME}


@pytest.mark.parametrize(
    "source",
    [
        "import csv\ncsv.writer(file)",
        "import csv\nmake = csv.DictWriter",
        "from csv import writer",
        "from openpyxl import Workbook",
        "import openpyxl\nopenpyxl.Workbook()",
        "import rustpy_xlsxwriter",
        "from rustpy_xlsxwriter import write_worksheets",
        "import pyarrow.csv",
        "table.to_csv(path)",
        "def fill(sheet: Worksheet): sheet.append([name])",
        "def fill(sheet: Worksheet): sheet['A1'].value = name",
        "def fill(sheet: Worksheet): sheet.cell(1, 1, name)",
    ],
)
def test_writer_that_passes_the_guard_by_is_found(source: str) -> None:
    assert list(faults_of("portal/x.py", ast.parse(source)))
