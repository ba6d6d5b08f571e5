"""Checks of the widget values that a browser sends, before any code of ours sees them.

Streamlit (1.67, `runtime/state/session_state.py`) passes on a state of any type: a text field may
hold a list, and an unreadable state ends every run of that page. With these checks a widget with an
invalid state has its initial value.
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

from streamlit.runtime.state.session_state import Serialized, Value, WStates

if TYPE_CHECKING:
    from collections.abc import Callable

_ALSO = {"double_value": "int_value", "int_value": "double_value"}
"""A field for numbers is registered as one of them, and sends the other."""

_log = logging.getLogger(__name__)


def check_sent_values() -> None:
    """Have Streamlit drop values that a widget cannot have. A second call has no effect."""
    if not hasattr(WStates.__getitem__, "__wrapped__"):
        WStates.__getitem__ = _checked(WStates.__getitem__)  # type: ignore[method-assign]


def _checked(read: Callable[[WStates, str], Any]) -> Callable[[WStates, str], Any]:
    @wraps(read)
    def checked(states: WStates, widget_id: str) -> Any:  # noqa: ANN401 - Streamlit's
        state = states.states.get(widget_id)
        metadata = states.widget_metadata.get(widget_id)
        if not isinstance(state, Serialized) or metadata is None:
            return read(states, widget_id)
        sent, known = state.value.WhichOneof("value"), metadata.value_type
        if sent in {None, known, _ALSO.get(known)}:
            try:
                return read(states, widget_id)
            except Exception as error:  # noqa: BLE001 - whatever Streamlit makes of odd values
                _log.warning("a widget was sent a %s that it cannot have: %s", sent, error)
        else:
            _log.warning("a widget was sent a %s instead of a %s", sent, known)
        value = metadata.deserializer(None)
        states.states[widget_id] = Value(value)
        return value

    return checked
