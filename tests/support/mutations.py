"""Damage to rows: a changed column, a deleted row, a forged one; each is undone again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Boolean, Date, DateTime, Integer, Numeric, Text, text
from sqlalchemy.dialects.postgresql import BYTEA, JSONB
from sqlalchemy.exc import IntegrityError

from db.models import Base
from domain.ledger.verify import verify_statement
from domain.ledger.verify_checks import CHECKS, SHARED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, Connection, Table

CONSTRAINT = "a constraint"


DISARM = """
DO $$
DECLARE found record;
BEGIN
  FOR found IN SELECT conrelid::regclass AS name, conname FROM pg_constraint
               WHERE contype = 'f' AND connamespace = 'public'::regnamespace
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.name, found.conname);
  END LOOP;
  FOR found IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'
  LOOP
    EXECUTE format('ALTER TABLE %I DISABLE TRIGGER USER', found.tablename);
  END LOOP;
END $$
"""


def disarm(connection: Connection) -> None:
    """Let the tables' owner do what the triggers and foreign keys of this copy would refuse."""
    connection.execute(text(DISARM))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table that are alike; `name` is empty where the table has one kind of them."""

    table: str
    name: str = ""
    condition: str = "true"

    @property
    def model(self) -> Table:
        """The table as the models have it."""
        return Base.metadata.tables[self.table]

    def place(self, column: str) -> str:
        """Return how a column of these rows is named."""
        return f"{self.table}.{column}" + (f" [{self.name}]" if self.name else "")


_JOURNAL = frozenset(
    ("entries", "allocations", "grants", "accounts", "payment_credits", "finance_entries")
)
"""The tables that the view `journal` reads."""


def checks_of(table: str) -> list[str]:
    """Return the checks that read a table, by themselves or through what they share.

    No other check can find a change of it.
    """

    def reads(query: str) -> bool:
        names = set(re.findall(r"\w+", query))
        return table in names or ("journal" in names and table in _JOURNAL)

    shared = [part.split()[0] for part in SHARED if reads(part)]
    shared += [
        part.split()[0]
        for part in SHARED
        if any(re.search(rf"\b{name}\b", part) for name in shared)
    ]
    return [
        name
        for name, query in CHECKS.items()
        if reads(query) or any(re.search(rf"\b{each}\b", query) for each in shared)
    ]


class Damage:
    """Changes rows as the tables' owner, has the ledger verified, and undoes the change.

    The guards of the tables are taken away first; their CHECK and unique constraints stay.
    """

    def __init__(self, connection: Connection) -> None:
        """Take the guards away; the connection stays in one transaction."""
        self.connection = connection
        disarm(connection)
        for table in Base.metadata.sorted_tables:
            for column in table.c:
                if column.identity is not None:
                    connection.execute(
                        text(f"ALTER TABLE {table.name} ALTER {column.name} DROP IDENTITY")
                    )
        connection.execute(text("SET plan_cache_mode = force_generic_plan"))
        connection.execute(text("SET jit = off"))
        self._prepared: set[str] = set()
        self.seen_by: set[str] = set()

    def differences(self, table: str) -> list[str]:
        """Return the names of the checks that read a table and find something."""
        if table not in self._prepared:
            self._prepared.add(table)
            statement = verify_statement(checks_of(table)).replace(":ids", "$1").replace("%", "%%")
            self.connection.exec_driver_sql(f"PREPARE verify_{table} (bigint[]) AS {statement}")
        rows = self.connection.exec_driver_sql(f"EXECUTE verify_{table} (NULL)").all()
        return sorted({row[0] for row in rows})

    def find(self, table: str, statement: str, place: str) -> list[str] | None:
        """Carry a statement about one row out, and return what finds it, or None where it is none.

        A constraint that refuses it has found it.
        """
        savepoint = self.connection.begin_nested()
        try:
            done = self.connection.execute(text(statement), {"place": place})
            if done.rowcount == 0:
                return None
            found = self.differences(table)
        except IntegrityError:
            found = [CONSTRAINT]
        finally:
            savepoint.rollback()
        self.seen_by.update(found)
        return found

    def pick(self, rows: Rows) -> str:
        """Return where one of the rows is: the last of them, by their keys."""
        keys = ", ".join(f'"{column.name}" DESC' for column in rows.model.primary_key)
        found = self.connection.execute(
            text(
                f"SELECT ctid::text FROM {rows.table} WHERE {rows.condition}"  # noqa: S608 - names of our own models
                f" ORDER BY {keys} LIMIT 1"
            )
        ).scalar_one_or_none()
        if found is None:
            raise AssertionError(f"the history has no {rows.name} {rows.table}")
        place: str = found
        return place

    def change(self, rows: Rows, column: Column[Any], place: str) -> list[str]:
        """Return what finds another value in a column of the row, one that constraints take."""
        name = f'"{column.name}"'
        for value in self._other_values(rows.table, column):
            found = self.find(
                rows.table,
                f"UPDATE {rows.table} SET {name} = {value}"  # noqa: S608 - names of our own models
                f" WHERE ctid = CAST(:place AS tid) AND {name} IS DISTINCT FROM ({value})",
                place,
            )
            if found is not None and found != [CONSTRAINT]:
                return found
        return [CONSTRAINT]

    def _other_values(self, table: str, column: Column[Any]) -> Iterable[str]:
        """Yield expressions of values that the column of the row at `:place` may have instead."""
        name = f'"{column.name}"'
        another = (
            f"(SELECT x.{name} FROM {table} x WHERE x.{name} IS DISTINCT FROM"  # noqa: S608 - names of our own models
            f" (SELECT {name} FROM {table} WHERE ctid = CAST(:place AS tid))"
            f" AND x.{name} IS NOT NULL ORDER BY 1 LIMIT 1)"
        )
        item = "'gpu-vm'" if isinstance(getattr(column.type, "item_type", None), Text) else "1"
        kind = next(kind for kind in _OTHERS if isinstance(column.type, kind))
        for template in _OTHERS[kind]:
            yield template.format(name=name, another=another, item=item)

    def delete(self, rows: Rows, place: str) -> list[str]:
        """Return what finds that a row is gone."""
        statement = f"DELETE FROM {rows.table} WHERE ctid = CAST(:place AS tid)"  # noqa: S608 - names of our own models
        return self.find(rows.table, statement, place) or []

    def forge(self, rows: Rows, place: str) -> list[str]:
        """Return what finds a copy of the row under the next free key."""
        columns = [f'"{column.name}"' for column in rows.model.c]
        keys = [column for column in rows.model.primary_key if isinstance(column.type, Integer)]
        values = list(columns)
        if keys:
            last = f'"{keys[-1].name}"'
            highest = f"(SELECT max({last}) FROM {rows.table})"  # noqa: S608 - names of our own models
            values[columns.index(last)] = f"{highest} + 1"
        statement = (
            f"INSERT INTO {rows.table} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE"  # noqa: S608 - names of our own models
            f" SELECT {', '.join(values)} FROM {rows.table} WHERE ctid = CAST(:place AS tid)"
        )
        return self.find(rows.table, statement, place) or []


_OTHER_JSON = """(
  SELECT CASE WHEN count(*) = 0 THEN '{{"forged": 1}}'::jsonb ELSE jsonb_object_agg(key,
    CASE WHEN place > 1 THEN value
      WHEN jsonb_typeof(value) = 'number' THEN to_jsonb((value #>> '{{}}')::numeric + 1)
      WHEN value #>> '{{}}' ~ '^[0-9.]+(E-?[0-9]+)?$'
        THEN to_jsonb(((value #>> '{{}}')::numeric + 0.25)::text)
      WHEN jsonb_typeof(value) = 'string' THEN to_jsonb((value #>> '{{}}') || '1')
      WHEN jsonb_typeof(value) = 'null' THEN '1'::jsonb
      ELSE 'null'::jsonb END) END
  FROM jsonb_each({name}) WITH ORDINALITY AS item (key, value, place)
)"""

_OTHERS: dict[type, tuple[str, ...]] = {
    Boolean: ("NOT {name}",),
    Integer: ("coalesce({name}, 0) + 1", "coalesce({name}, 0) - 1", "{another}"),
    Numeric: ("coalesce({name}, 0) + 1", "coalesce({name}, 0) - 1", "{another}"),
    DateTime: (
        "coalesce({name}, '2026-03-11 12:00+00') + interval '1 minute'",
        "coalesce({name}, '2026-03-11 12:00+00') - interval '1 minute'",
        "CASE WHEN {name} IS NULL THEN timestamptz '2026-03-12 12:00+00' END",
    ),
    Date: ("{name} + 1", "{name} - 1", "date_trunc('month', {name} + 40)"),
    JSONB: (_OTHER_JSON,),
    BYTEA: ("coalesce({name}, '') || '\\x00'::bytea",),
    ARRAY: ("array_append({name}, {item})", "NULL"),
    Text: ("{another}", "coalesce({name}, '') || 'X'", "coalesce({name}, '') || '1'", "NULL"),
}
"""What else a column of a type may hold; the first that constraints take is looked for."""
