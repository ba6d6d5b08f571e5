"""Idempotency keys of forms: the same content has the same key until it is done.

A second click on the same form, and a second try after a lost answer, repeat the first request;
other content, or the same after it was done, is another one.
"""

from __future__ import annotations

import uuid

import streamlit as st


def key_for(form: str, content: str = "") -> str:
    """Return the idempotency key of what a form holds; `form` names it in the session's state."""
    keys: dict[str, str] = st.session_state.setdefault(form, {})
    return keys.setdefault(content, uuid.uuid4().hex)


def forget(form: str) -> None:
    """Forget the keys of a form whose request was carried out."""
    st.session_state.pop(form, None)
