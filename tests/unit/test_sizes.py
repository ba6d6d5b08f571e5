"""Files and functions stay short enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES, MAX_FUNCTION_LINES = 450, 60
TOPS = ("portal", "domain", "db", "sandbox", "benchmarks", "scripts")


def too_long(name: str, source: str) -> Iterator[str]:
    """Yield the file, and each function of it, that is longer than it may be."""
    if source.count("\n") > MAX_FILE_LINES:
        yield name
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{name}: {node.name}, {lines} lines"


@pytest.mark.parametrize(
    "source", ["x = 1\n" * 451, "def f() -> None:\n" + "    x = 1\n" * 60], ids=["file", "function"]
)
def test_what_is_too_long_is_found(source: str) -> None:
    assert list(too_long("x.py", source))


def test_no_file_and_no_function_is_too_long() -> None:
    files = [path for top in TOPS for path in (ROOT / top).rglob("*.py")]
    found = [
        each
        for path in files
        if "migrations" not in path.parts
        for each in too_long(str(path.relative_to(ROOT)), path.read_text("utf-8"))
    ]
    assert len(files) > 300
    assert found == []
