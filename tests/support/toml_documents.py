"""TOML documents for tests: values as text, and documents that differ from a valid one."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.one_of(
    TEXTS,
    st.sampled_from(["", "USD", "usd", "XXX", "VN", "x" * 300, "a\0b", "UTC", "Asia/Tokyo"]),
    st.integers(-(10**30), 10**30),
    st.sampled_from([0, 1, -1, 10**13, 2**63]),
    st.booleans(),
    st.sampled_from([Decimal(each) for each in ("nan", "inf", "-0", "1e-30", "1e30", "0.1234567")]),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([datetime(1, 1, 1, tzinfo=UTC), time(12)]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def write(document: dict[str, Any]) -> str:
    """Return a document as TOML."""
    return "".join(f"{_text(key)} = {_value(each)}\n" for key, each in document.items())


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(key)} = {_value(each)}' for key, each in value.items())}}}"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Decimal):
        return _number(value)
    return value.isoformat() if isinstance(value, date | time) else str(value).lower()


def _number(value: Decimal) -> str:
    if not value.is_finite():
        return "nan" if value.is_nan() else f"{'-' if value < 0 else ''}inf"
    sign, digits, exponent = value.as_tuple()
    return f"{'-' if sign else ''}{''.join(map(str, digits)).lstrip('0') or '0'}.0e{exponent}"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def paths(value: object, here: Path = ()) -> Iterator[Path]:
    """Yield where every part of a document is."""
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    for key, part in parts:
        yield (*here, key)
        yield from paths(part, (*here, key))


def part(document: object, path: Path) -> Any:
    """Return the part of a document that is there."""
    for key in path:
        document = document[key]  # type: ignore[index]
    return document


@st.composite
def changed(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with one to three parts replaced, removed or added."""
    found = copy.deepcopy(document)
    for _change in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(paths(found)) or [("key",)]))
        holder = part(found, path[:-1])
        what = draw(st.sampled_from(["replace", "remove", "add"]))
        if what == "replace":
            holder[path[-1]] = draw(VALUES)
        elif what == "remove" and path[-1] in (holder if isinstance(holder, dict) else path):
            del holder[path[-1]]
        elif isinstance(holder, dict):
            holder[draw(TEXTS)] = draw(VALUES)
        else:
            holder.append(draw(VALUES))
    return found
