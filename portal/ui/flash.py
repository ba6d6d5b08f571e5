"""Messages of an action, drawn by the next run of the page beside the pressed button.

The page runs again after each action, and what it draws then has moved: a message on top is out of
sight for a person who pressed a button below. Where the message is out of sight all the same, such
as below content inserted above it, the page is scrolled to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from portal.ui.formats import plain
from portal.ui.in_view import bring_into_view


@dataclass(frozen=True, slots=True)
class _Message:
    """A message that waits for its run; `item` is the number of its item in a list."""

    text: str
    is_good: bool
    item: int | None


def leave(place: str, text: str, *, is_good: bool = True, item: int | None = None) -> None:
    """Draw the page again, with this message where it calls `show(place)`."""
    st.session_state[_key(place)] = _Message(text, is_good, item)
    st.rerun()


def get_item(place: str) -> int | None:
    """Return the item of a place's message; None where there is none."""
    message: _Message | None = st.session_state.get(_key(place))
    return None if message is None else message.item


def show(place: str) -> None:
    """Show the message that the previous run left for this place, once, and scroll it into view."""
    message: _Message | None = st.session_state.pop(_key(place), None)
    if message is None:
        return
    icon = ":material/check_circle:" if message.is_good else ":material/error:"
    drawn = f"drawn-{_key(place)}"
    with st.container(key=drawn, gap=None):
        (st.success if message.is_good else st.error)(plain(message.text), icon=icon)
        bring_into_view(drawn)


def _key(place: str) -> str:
    return f"flash-{place}"
