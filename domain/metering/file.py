"""Reads files of metered calls: one line a call, checked one by one, never held whole.

Columns, in any order and case: `TIMESTAMP` (UTC where it names no zone), `ContextTokens`,
`GeneratedTokens`; optional `account`, `service`, `model` and `id`; others are left alone.
"""

from __future__ import annotations

import csv
import hashlib
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, NamedTuple

from domain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_SERVICE = "ai-inference"
MAX_ROWS_WITHOUT_ID = 2_000_000
"""Rows without an id are told apart by content, which takes some 150 bytes of memory each."""

MAX_LINE_LENGTH = 10_000
_REQUIRED = ("timestamp", "contexttokens", "generatedtokens")
_OPTIONAL = ("account", "service", "model", "id")
_KNOWN = (*_REQUIRED, *_OPTIONAL)
_MAX_NAME_LENGTH = 200
_MAX_DATE_LENGTH = len("2023-11-16")
_MAX_TOKENS = 10**9
_MAX_COUNT_LENGTH = len(str(_MAX_TOKENS))
_SEPARATOR = "\x1f"
"""It is not printable, so no name has it."""


class Call(NamedTuple):
    """A valid row; `account_id` is None where the file does not name an account.

    `content` is a digest of the id or, without one, of the row's values, however those are written.
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


class Reject(NamedTuple):
    """A row that makes no sense, and why, as a stable slug."""

    line_number: int
    reason: str
    row: str


class _UnusableRowError(Exception):
    """A row makes no sense; the message is the reason's slug."""


def digest_of_file(path: Path) -> tuple[bytes, int]:
    """Return the SHA-256 of the content, and the count of its lines."""
    digest = hashlib.sha256()
    lines = 0
    last = b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return digest.digest(), lines + (last != b"\n")


def read_calls(path: Path) -> Iterator[Call | Reject]:
    """Yield every row in the file's order, as a call or as a reject.

    Raises InvalidInput where the header lacks a column, or rows without an id are too many to
    tell apart.
    """
    # Bytes that are no UTF-8 spoil their own row alone.
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = _lines(file)
        _, header = next(lines, (1, ""))
        reader = _RowReader(header.rstrip("\n"))
        for line_number, line in lines:
            row = line.rstrip("\n")
            if not row.strip():
                continue
            try:
                yield reader.read(line_number, row)
            except _UnusableRowError as problem:
                printable = row[:MAX_LINE_LENGTH].encode(errors="backslashreplace").decode()
                yield Reject(line_number, str(problem), printable)


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers; cut a line that is too long just above the limit."""
    line_number = 0
    while line := file.readline(MAX_LINE_LENGTH + 2):
        line_number += 1
        rest = line
        while len(rest) == MAX_LINE_LENGTH + 2 and not rest.endswith("\n"):
            rest = file.readline(MAX_LINE_LENGTH + 2)
        yield line_number, line


def _cells(row: str) -> list[str]:
    if '"' not in row:
        return row.split(",")
    try:
        # A line by itself: a stray quote does not swallow the lines that follow.
        cells: list[str] = next(csv.reader([row], strict=True))
    except csv.Error:
        raise _UnusableRowError("not_csv") from None
    return cells


class _RowReader:
    """Reads rows under one header, and remembers the content of rows without an id."""

    def __init__(self, header: str) -> None:
        try:
            names = [name.strip().lower() for name in _cells(header)]
        except _UnusableRowError as problem:
            raise InvalidInput("file", str(problem)) from None
        missing = [name for name in _REQUIRED if name not in names]
        if missing:
            raise InvalidInput("file", "missing_columns", columns=", ".join(missing))
        doubled = [name for name in _KNOWN if names.count(name) > 1]
        if doubled:
            raise InvalidInput("file", "doubled_columns", columns=", ".join(doubled))
        self._width = len(names)
        # A column that the file does not have is read from an empty cell behind the row's own.
        self._places = tuple(names.index(name) if name in names else self._width for name in _KNOWN)
        self._seen: dict[bytes, int] = {}

    def read(self, line_number: int, row: str) -> Call:
        """Return the row's call. Raises _UnusableRowError."""
        if len(row) > MAX_LINE_LENGTH:
            raise _UnusableRowError("line_too_long")
        if not row.isascii():
            _require_utf8(row)
        cells = [cell.strip() for cell in _cells(row)]
        if len(cells) != self._width:
            too = "too_few_columns" if len(cells) < self._width else "too_many_columns"
            raise _UnusableRowError(too)
        cells.append("")
        when, context, generated, account, service, model, event = self._places
        occurred_at = _instant(cells[when])
        input_tokens = _count(cells[context])
        output_tokens = _count(cells[generated])
        account_id = _count(cells[account]) if cells[account] else None
        named_service = _name(cells[service]) or DEFAULT_SERVICE
        named_model = _name(cells[model])
        event_id = _name(cells[event])
        # A file with ids may correct a row's values: that must not move it to another account.
        key = event_id or _SEPARATOR.join(
            (
                occurred_at.isoformat(),
                str(input_tokens),
                str(output_tokens),
                str(account_id),
                named_service,
                named_model,
            )
        )
        content = hashlib.blake2b(key.encode(), digest_size=12).digest()
        return Call(
            line_number,
            account_id,
            event_id or self._id_of(content),
            int.from_bytes(content[:8], "big"),
            named_service,
            named_model,
            occurred_at,
            input_tokens,
            output_tokens,
        )

    def _id_of(self, content: bytes) -> str:
        """Name a row by its content, and rows with the same content by their order."""
        ordinal = self._seen.get(content, 0)
        if not ordinal and len(self._seen) >= MAX_ROWS_WITHOUT_ID:
            raise InvalidInput("file", "add_an_id_column", most=MAX_ROWS_WITHOUT_ID)
        self._seen[content] = ordinal + 1
        return f"{content.hex()}-{ordinal}" if ordinal else content.hex()


def _require_utf8(row: str) -> None:
    try:
        row.encode()
    except UnicodeEncodeError:
        raise _UnusableRowError("not_utf8") from None


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _UnusableRowError("timestamp_unreadable") from None
    # A day without a time would be read as midnight, which is not meant.
    if len(text) <= _MAX_DATE_LENGTH:
        raise _UnusableRowError("timestamp_unreadable")
    return instant.replace(tzinfo=UTC)


def _count(text: str) -> int:
    if len(text) > _MAX_COUNT_LENGTH or not (text.isascii() and text.isdigit()):
        raise _UnusableRowError("not_a_count")
    count = int(text)
    if count > _MAX_TOKENS:
        raise _UnusableRowError("not_a_count")
    return count


def _name(text: str) -> str:
    if len(text) > _MAX_NAME_LENGTH or not text.isprintable():
        raise _UnusableRowError("name_unusable")
    return text
