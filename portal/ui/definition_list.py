"""A list of terms and their values, as facts of one thing are drawn."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def definition_list(lines: Mapping[str, str]) -> str:
    """Return names and values as HTML for `st.html`."""
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in lines.items()
    )
    return f'<dl class="facts">{rows}</dl>'
