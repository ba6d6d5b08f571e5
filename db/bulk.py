"""Many rows in one round trip: COPY for new rows, arrays for updates; or few of many tables."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any

import psycopg2
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.attributes import set_committed_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import DeclarativeBase, Session

    AnySelect = Select[*tuple[Any, ...]]

Statement = tuple[str, Any]
"""A statement as psycopg2 takes it, and its parameters."""


def copy_rows(
    session: Session, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert `rows` into `table` inside the session's transaction with COPY.

    Values may be None, int, bool, str, bytes, Decimal, datetime, date, list of str, or dict
    (written as JSON, a Decimal in it as a string); raises TypeError or ValueError for what cannot
    be written. COPY is several times faster than any INSERT at a thousand rows, and the rows are
    turned into text a column at a time, which is several times faster than by value.
    """
    if not rows:
        return
    copied = _CopyText(rows)
    try:
        with _cursor(session) as cursor:
            cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", copied)
    except DBAPIError:
        # The driver reports a row that cannot be written as it reports a cancelled statement.
        if copied.fault is not None:
            raise copied.fault from None
        raise


class _CopyText:
    """Rows as COPY reads them: the next ones become text while the server takes in the last.

    `fault` is why a row could not become text.
    """

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self.fault: Exception | None = None
        self._rows = rows
        self._done = 0

    def read(self, _size: int) -> bytes:
        """Return the text of more rows, however long; an empty text once all have been read."""
        try:
            return self._more()
        except Exception as fault:
            self.fault = fault
            raise

    def _more(self) -> bytes:
        rows = self._rows[self._done : self._done + _COPY_BATCH_SIZE]
        self._done += len(rows)
        texts = [_column_text(values) for values in zip(*rows, strict=True)]
        lines = map("\t".join, zip(*texts, strict=True))
        return "".join([line + "\n" for line in lines]).encode()


def copy_query(session: Session, statement: AnySelect, write: Callable[[bytes], object]) -> None:
    """Have the server write a query's result as CSV; `write` receives a row a call."""
    query = f"COPY ({_literal(session, statement)}) TO STDOUT (FORMAT csv)"
    with _cursor(session) as cursor:
        cursor.copy_expert(query, _CopyTarget(write))


def stream_query(
    session: Session, statement: AnySelect, rows_at_once: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield a query's result as plain tuples from a server-side cursor, in batches.

    The next ones are fetched while the caller works on the last.
    """
    query = _literal(session, statement)
    with _cursor(session, "stream_query") as cursor, ThreadPoolExecutor(1) as fetcher:
        cursor.execute(query)
        coming = fetcher.submit(cursor.fetchmany, rows_at_once)
        while rows := coming.result():
            coming = fetcher.submit(cursor.fetchmany, rows_at_once)
            yield rows


def _literal(session: Session, statement: AnySelect) -> str:
    """Return the query as one text, its values quoted by the driver."""
    compiled = statement.compile(session.connection(), compile_kwargs={"render_postcompile": True})
    with _cursor(session) as cursor:
        query: bytes = cursor.mogrify(str(compiled), compiled.params)
        return query.decode()


class _CopyTarget:
    """The file-like object that psycopg2 requires: it only needs `write`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.write = write


def fetch_rows(session: Session, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - whatever psycopg2 adapts
    """Run a statement with `%(name)s` parameters and return plain tuples.

    For the hot path, which reads thousands of rows a batch.
    """
    with _cursor(session) as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def insert_statement(
    table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Statement:
    """Return an INSERT of `rows` and its parameters, for `run_together`.

    It takes the values that `copy_rows` takes. For a few rows: COPY is faster from about fifty on.
    """
    row = f"({', '.join(['%s'] * len(columns))})"
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * len(rows))}"  # noqa: S608 - names of our own
    return statement, [_driver_value(value) for values in rows for value in values]


def update_statement(row: DeclarativeBase) -> Statement:
    """Return the UPDATE of what was changed in a row that a session has read, for `run_together`.

    The row counts as written from then on, so that the session does not write it once more.
    """
    state = inspect(row, raiseerr=True)
    changed = {one.key: one.value for one in state.attrs if one.history.has_changes()}
    columns = {key: state.mapper.columns[key].name for key in changed}
    [key], identity = state.mapper.primary_key, state.identity
    if identity is None:
        raise ValueError("the row is not in the database yet")
    set_to = ", ".join(f"{column} = %s" for column in columns.values())
    statement = f"UPDATE {key.table.name} SET {set_to} WHERE {key.name} = %s"  # noqa: S608 - names of our own
    for name, value in changed.items():
        set_committed_value(row, name, value)
    return statement, [*map(_driver_value, changed.values()), *identity]


def run_together(session: Session, statements: Sequence[Statement]) -> None:
    """Run statements that insert or update, each with its parameters, in one round trip.

    PostgreSQL runs them as one statement: none sees what another writes, so that no two of them
    may touch the same row.
    """
    if not statements:
        return
    with _cursor(session) as cursor:
        parts = [cursor.mogrify(*statement) for statement in statements]
        if len(parts) == 1:
            cursor.execute(parts[0])
            return
        steps = b", ".join(b"step_%d AS (%b)" % step for step in enumerate(parts))
        cursor.execute(b"WITH " + steps + b" SELECT")


def _driver_value(value: Any) -> Any:  # noqa: ANN401 - any value of the list in copy_rows
    if isinstance(value, dict):
        return _json_text(value)
    return text_array(value) if isinstance(value, list | tuple) else value


def integer_array(values: Iterable[int]) -> str:
    """Return the text of a bigint[]; far cheaper than adapting each element."""
    return plain_array(values)


def plain_array(values: Iterable[int | Decimal | date]) -> str:
    """Return the text of an array of numbers or dates, which need no quotes."""
    return "{" + ",".join(map(str, values)) + "}"


def text_array(values: Iterable[str]) -> str:
    """Return the text of a text[]."""
    texts = list(values)
    if not texts:
        return "{}"
    together = "".join(texts)
    if '"' in together or "\\" in together:
        texts = [value.translate(_ARRAY_ESCAPES) for value in texts]
    return '{"' + '","'.join(texts) + '"}'


@contextmanager
def _cursor(session: Session, name: str | None = None) -> Iterator[Any]:
    """Yield psycopg2's cursor, a server-side one where it has a name.

    What it raises within the block becomes SQLAlchemy's DBAPIError, as that of any other statement:
    so it is counted, retried and reported alike, and a connection that is lost leaves the pool. It
    never includes the statement, which may have values in its text.
    """
    connection = session.connection()
    try:
        made: Any = connection.connection.cursor(name)
        with made as cursor:
            yield cursor
    except psycopg2.Error as error:
        # The one place that does all of this; events, dialect and pool are not ours to imitate.
        connection._handle_dbapi_exception(error, None, None, None, None)  # noqa: SLF001


def _column_text(values: tuple[Any, ...]) -> list[str]:
    """Return the COPY text of one column's values; columns of one type take a short cut."""
    kinds = set(map(type, values))
    write = _COLUMN_WRITERS.get(kinds.pop()) if len(kinds) == 1 else None
    return write(values) if write is not None else [_value_text(value) for value in values]


def _escaped_all(texts: list[str]) -> list[str]:
    if _is_plain("".join(texts)):
        return texts
    return [_escaped(text) for text in texts]


def _is_plain(text: str) -> bool:
    return not any(sign in text for sign in "\\\t\n\r")


def _escaped(text: str) -> str:
    return text.translate(_COPY_ESCAPES)


def _value_text(value: Any) -> str:  # noqa: ANN401 - any value of the list in copy_rows
    if value is None:
        return _NULL
    return _WRITERS.get(type(value), str)(value)


_NULL = "\\N"
_COPY_BATCH_SIZE = 125


def _exact_text(value: object) -> str:
    """Serialise what JSON has no exact form for; a Decimal becomes a string with all its digits."""
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not for JSON")


_json_text = json.JSONEncoder(ensure_ascii=False, default=_exact_text).encode
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_ARRAY_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})
_WRITERS: dict[type, Callable[[Any], str]] = {
    str: _escaped,
    bytes: lambda value: "\\\\x" + value.hex(),
    datetime: datetime.isoformat,
    date: date.isoformat,
    dict: lambda value: _escaped(_json_text(value)),
    list: lambda value: _escaped(text_array(value)),
    tuple: lambda value: _escaped(text_array(value)),
}
_COLUMN_WRITERS: dict[type, Callable[[tuple[Any, ...]], list[str]]] = {
    int: lambda values: list(map(str, values)),
    Decimal: lambda values: list(map(str, values)),
    str: lambda values: _escaped_all(list(values)),
    datetime: lambda values: list(map(datetime.isoformat, values)),
    dict: lambda values: _escaped_all(list(map(_json_text, values))),
    bytes: lambda values: ["\\\\x" + value.hex() for value in values],
    NoneType: lambda values: [_NULL] * len(values),
}
