"""Values that a page keeps in its address, so that it can be shared, reloaded, undone by Back.

The address is authoritative: before a widget is drawn it is set to the address's value, and a
change of the widget is written to the address first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

import streamlit as st

from domain.validation import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def get(name: str) -> str:
    """Return the address's value of a name; empty where it has none."""
    # PostgreSQL stores no NUL in a text, and no one types one.
    return st.query_params.get(name, "").replace("\0", "")


def get_number(name: str) -> int:
    """Return the address's whole number of a name; 0 where it has none."""
    return whole_number(get(name))


def put(name: str, value: str | Sequence[str] | None) -> None:
    """Set a value in the address, or remove the name where the value is empty."""
    if value:
        st.query_params[name] = value
    else:
        remove(name)


def put_all(values: Mapping[str, str]) -> None:
    """Set several values in the address in one step, so that one step back undoes them all.

    An empty value removes its name; everything else stays.
    """
    present = {name: st.query_params.get_all(name) for name in st.query_params}
    together = {**present, **values}
    st.query_params.from_dict({name: value for name, value in together.items() if value})


def remove(*names: str) -> None:
    """Take names out of the address."""
    for name in names:
        if name in st.query_params:
            del st.query_params[name]


def keep_only(*names: str) -> None:
    """Take everything else out of the address."""
    remove(*(name for name in list(st.query_params) if name not in names))


def whole() -> str:
    """Return all values of the address, for a way back to it (`way_back`)."""
    return urlencode({name: st.query_params.get_all(name) for name in st.query_params}, doseq=True)


def way_back() -> dict[str, list[str]]:
    """Return the address's values of the page that the user came from; empty if unknown."""
    return parse_qs(get("back")[:_MAX_WAY_BACK_LENGTH])


def restore() -> None:
    """Restore the address's values of this page, after the browser's own Back.

    Streamlit returns to the page and keeps the values of the page that was left.
    """
    query = way_back()
    if query:
        st.query_params.from_dict(query)


def set_widget(key: str, value: Any) -> None:  # noqa: ANN401 - each widget has its own type
    """Set the widget that is drawn next under `key` to the address's value."""
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


_MAX_WAY_BACK_LENGTH = 2_000
