"""Reads files of metered calls: one CSV row a call, checked row by row, never held whole.

Columns, in any order and case: `TIMESTAMP` (UTC where it names no zone), `ContextTokens`,
`GeneratedTokens`; optional `account`, `service`, `model` and `id`.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from domain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DEFAULT_SERVICE = "ai-inference"
MOST_ROWS_WITHOUT_ID = 5_000_000
"""Rows without an id are told apart by content, and that memory is bounded."""

_REQUIRED = ("timestamp", "contexttokens", "generatedtokens")
_OPTIONAL = ("account", "service", "model", "id")
_LONGEST_LINE = 10_000
_LONGEST_NAME = 200
_MOST_TOKENS = 10**12


@dataclass(frozen=True, slots=True)
class Call:
    """One row that makes sense; `account_id` is None where the file does not say.

    `content` is a digest of the row, which tells apart rows that bring no id.
    """

    line_number: int
    account_id: int | None
    event_id: str
    content: int
    service: str
    model: str
    occurred_at: datetime
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that makes no sense, and why, as a stable slug."""

    line_number: int
    reason: str
    row: str


def digest_of_file(path: Path) -> tuple[bytes, int]:
    """Return the SHA-256 of the content, and the count of its lines."""
    digest = hashlib.sha256()
    lines = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
    return digest.digest(), lines


def read_calls(path: Path) -> Iterator[Call | Reject]:
    """Yield every row in the file's order, as a call or as a reject.

    Raises InvalidInput where the header lacks a column, the text is not UTF-8, or rows without
    an id are too many to tell apart.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield from _read_rows(csv.reader(_bounded(file)))
        except UnicodeDecodeError:
            raise InvalidInput("file", "not_utf8") from None
        except csv.Error as error:
            raise InvalidInput("file", "not_csv", detail=str(error)) from None


def _bounded(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if len(line) > _LONGEST_LINE:
            raise InvalidInput("file", "line_too_long", longest=_LONGEST_LINE)
        yield line


def _read_rows(reader: Iterator[list[str]]) -> Iterator[Call | Reject]:
    places = _places(next(reader, []))
    seen: dict[bytes, int] = {}
    for number, row in enumerate(reader, start=2):
        if not row:
            continue
        call = _read_call(number, row, places, seen)
        if "id" not in places and len(seen) > MOST_ROWS_WITHOUT_ID:
            raise InvalidInput("file", "add_an_id_column", most=MOST_ROWS_WITHOUT_ID)
        yield call


def _places(header: list[str]) -> Mapping[str, int]:
    names = [name.strip().lower() for name in header]
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise InvalidInput("file", "missing_columns", columns=", ".join(missing))
    known = (*_REQUIRED, *_OPTIONAL)
    doubled = [name for name in known if names.count(name) > 1]
    if doubled:
        raise InvalidInput("file", "doubled_columns", columns=", ".join(doubled))
    return {name: names.index(name) for name in known if name in names}


def _read_call(
    number: int, row: list[str], places: Mapping[str, int], seen: dict[bytes, int]
) -> Call | Reject:
    try:
        if len(row) <= max(places.values()):
            return _reject(number, row, "too_few_columns")
        cells = {name: row[place].strip() for name, place in places.items()}
        occurred_at = _instant(cells["timestamp"])
        content = _content(cells)
        return Call(
            line_number=number,
            account_id=_count(cells["account"]) if cells.get("account") else None,
            event_id=_name(cells.get("id", "")) or _event_id(content, seen),
            content=int.from_bytes(content[:8], "big"),
            service=_name(cells.get("service", "")) or DEFAULT_SERVICE,
            model=_name(cells.get("model", "")),
            occurred_at=occurred_at,
            input_tokens=_count(cells["contexttokens"]),
            output_tokens=_count(cells["generatedtokens"]),
        )
    except ValueError as error:
        return _reject(number, row, str(error))


def _reject(number: int, row: list[str], reason: str) -> Reject:
    return Reject(number, reason, ",".join(row))


def _content(cells: Mapping[str, str]) -> bytes:
    return hashlib.blake2b("\x1f".join(cells.values()).encode(), digest_size=16).digest()


def _event_id(content: bytes, seen: dict[bytes, int]) -> str:
    """Name a row by what it says, and rows that say the same by their order among each other."""
    ordinal = seen.get(content, 0)
    seen[content] = ordinal + 1
    return f"{content.hex()}-{ordinal}" if ordinal else content.hex()


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("timestamp_unreadable") from None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:20]) > _MOST_TOKENS:
        raise ValueError("not_a_count")
    return int(text)


def _name(text: str) -> str:
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise ValueError("name_unusable")
    return text
