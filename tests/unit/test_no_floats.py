"""A float never touches money: domain/ and db/ hold none, or say on the line why it is not money.

`# not money: <why>` on a line of the expression allows it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOAT_NAMES = frozenset(("float", "Float", "Double", "DOUBLE", "DOUBLE_PRECISION", "REAL"))
FLOAT_IN_SQL = re.compile(r"\b(double precision|float4|float8|float|real)\b", re.IGNORECASE)
SQL = re.compile(r"\b(select|insert|update|create|alter|cast)\b|::", re.IGNORECASE)
EXPLAINED = re.compile(r"# not money: \S")
# They run a server, for seconds.
NO_MONEY = frozenset(
    f"db/embedded/{name}.py" for name in ("data_directory", "locks", "postmaster", "server")
)


def find_floats(source: str) -> list[str]:
    """Return each unexplained use of a float in `source`, as line: text."""
    lines = source.splitlines()
    tree = ast.parse(source)
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        f"{node.lineno}: {lines[node.lineno - 1].strip()}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.Name | ast.Attribute | ast.alias)
        and id(node) not in documentation
        and is_float(node)
        and not any(
            EXPLAINED.search(line)
            for line in lines[node.lineno - 1 : node.end_lineno or node.lineno]
        )
    ]


def is_float(node: ast.Constant | ast.Name | ast.Attribute | ast.alias) -> bool:
    """Tell whether a node is a float, the name of a type of floats, or SQL that speaks of one."""
    match node:
        case ast.Constant(value=float() | complex()):
            return True
        case ast.Constant(value=str(text)):
            return bool(SQL.search(text) and FLOAT_IN_SQL.search(text))
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name in FLOAT_NAMES
    return False


@pytest.mark.parametrize(
    "source",
    [
        "rate = 0.5",
        "rate = -1e3",
        "total = float(text)",
        "def share(part: int) -> float: ...",
        "amounts = map(float, texts)",
        "column = sqlalchemy.Float()",
        "from sqlalchemy import Double",
        "rate = 0.5  # not money:",
        "text('SELECT amount_micros::float8 FROM entries')",
        "text('ALTER TABLE entries ADD COLUMN rate double precision')",
    ],
)
def test_a_float_is_found(source: str) -> None:
    assert find_floats(source)


@pytest.mark.parametrize(
    "source",
    [
        "rate = 5",
        "rate = Decimal('0.5')",
        "poll_seconds = 0.5  # not money: seconds between two looks",
        "call(\n    wait=0.5,  # not money: seconds\n)",
        "'''We select no float and cast none.'''",
        "message = 'The real amount'",
    ],
)
def test_what_is_no_float_passes(source: str) -> None:
    assert not find_floats(source)


def test_no_float_where_money_is() -> None:
    files = [path for folder in ("domain", "db") for path in (ROOT / folder).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{use}"
        for path in files
        if path.relative_to(ROOT).as_posix() not in NO_MONEY
        for use in find_floats(path.read_text("utf-8"))
    ]
    assert len(files) > len(NO_MONEY)
    assert not found, "\n".join(found)
