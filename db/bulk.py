"""Many rows in one round trip: COPY for new rows, arrays for updates."""

from __future__ import annotations

import io
import json
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_rows(
    session: Session, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert `rows` into `table` inside the session's transaction with COPY.

    Values may be None, int, bool, str, bytes, Decimal, datetime, date, list of str, or dict
    (written as JSON). COPY is several times faster than any INSERT at a thousand rows.
    """
    lines = ["\t".join([_copy_text(value) for value in row]) for row in rows]
    if not lines:
        return
    lines.append("")
    cursor = session.connection().connection.cursor()
    with cursor:
        cursor.copy_expert(
            f"COPY {table} ({', '.join(columns)}) FROM STDIN",
            io.StringIO("\n".join(lines)),
        )


def _copy_text(value: Any) -> str:
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is str:
        return value.translate(_ESCAPES) if not value.isalnum() else value  # type: ignore[no-any-return]
    if value is None:
        return "\\N"
    if kind is bytes:
        return "\\\\x" + value.hex()  # type: ignore[no-any-return]
    if kind is datetime or kind is date:
        return value.isoformat()  # type: ignore[no-any-return]
    if kind is dict:
        return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)
    if kind is list or kind is tuple:
        return _array_text(value).translate(_ESCAPES)
    return str(value)


def _array_text(values: Sequence[str]) -> str:
    return "{" + ",".join(json.dumps(value, ensure_ascii=False) for value in values) + "}"


def integer_array(values: Iterable[int]) -> str:
    """Return the text of a bigint[]; far cheaper than adapting each element."""
    return "{" + ",".join(map(str, values)) + "}"
