"""Errors that are shown at their field, and scrolled into view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from portal.ui.formats import plain
from portal.ui.in_view import bring_into_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamlit.delta_generator import DeltaGenerator

_ICON = ":material/error:"


class FieldErrors:
    """The places for the errors of one form, in the order of its fields."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[DeltaGenerator, str]] = {}
        self._rest: DeltaGenerator | None = None

    def place(self, field: str, widget_key: str) -> None:
        """Keep room for the error of a field; call it right below the widget of that key."""
        self._places[field] = (st.empty(), widget_key)

    def place_rest(self) -> None:
        """Reserve a place for errors that concern no field; call it above the form's button."""
        self._rest = st.empty()

    def show(self, errors: Mapping[str, str]) -> None:
        """Show errors by field, those of unknown fields with the rest, and go to the first."""
        shown = [field for field in self._places if field in errors]
        for field in shown:
            self._places[field][0].error(plain(errors[field]), icon=_ICON)
        others = [text for field, text in errors.items() if field not in self._places]
        if others and self._rest is not None:
            self._rest.error(plain(" ".join(others)), icon=_ICON)
        if shown:
            bring_into_view(self._places[shown[0]][1], is_field=True)
