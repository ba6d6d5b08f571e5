"""Choices among options, checked: Streamlit passes on any value that a browser sends.

A page that was drawn earlier may offer options that no longer exist; a forged message may name
anything.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from portal.ui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")


def offered(chosen: T, options: Sequence[object]) -> T:
    """Return the chosen options, one, several or none; end the run where one is not offered."""
    several = chosen if isinstance(chosen, list) else [chosen]
    if not all(each is None or each in options for each in several):
        st.error(
            _("This option is no longer available. Reload the page, then choose another."),
            icon=":material/error:",
        )
        st.stop()
    return chosen


def _checked(widget: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(widget)
    def draw(label: str, options: Iterable[Any], **given: Any) -> Any:  # noqa: ANN401 - Streamlit's
        known = list(options)
        return offered(widget(label, known, **given), known)

    return draw


def _checked_date(widget: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(widget)
    def draw(label: str, value: Any = "today", **given: Any) -> Any:  # noqa: ANN401 - Streamlit's
        chosen = widget(label, value, **given)
        if chosen is None and value is not None:
            st.error(_("Choose a date."), icon=":material/error:")
            st.stop()
        return chosen

    return draw


if TYPE_CHECKING:
    # They are called and typed as Streamlit's own are.
    date_input = st.date_input
    multiselect = st.multiselect
    pills = st.pills
    radio = st.radio
    segmented_control = st.segmented_control
    selectbox = st.selectbox
else:
    date_input = _checked_date(st.date_input)
    multiselect = _checked(st.multiselect)
    pills = _checked(st.pills)
    radio = _checked(st.radio)
    segmented_control = _checked(st.segmented_control)
    selectbox = _checked(st.selectbox)
