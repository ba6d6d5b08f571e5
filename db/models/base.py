"""Define what all tables share: one metadata with named constraints, and column types of money."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from sqlalchemy import BigInteger, DateTime, MetaData, Numeric, Text
from sqlalchemy.dialects.postgresql import BYTEA, JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

Micros = Annotated[int, mapped_column(BigInteger)]
"""A signed count of millionths of the account's currency unit."""

ExactMicros = Annotated[Decimal, mapped_column(Numeric(38, 12))]
"""An exact amount in micros, down to a millionth of a millionth of one."""

Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
Digest = Annotated[bytes, mapped_column(BYTEA)]
BigKey = Annotated[int, mapped_column(BigInteger)]


class Base(DeclarativeBase):
    """The declarative base; its naming convention gives every constraint a stable name."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        datetime: DateTime(timezone=True),
    }


def one_of(column: str, *values: str) -> str:
    """Return the CHECK expression that keeps a text column inside a closed list."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


HOT_ROWS = {"postgresql_with": {"fillfactor": "70"}}
"""Room on the page, so that rows updated by every charge stay where they are (HOT updates)."""
