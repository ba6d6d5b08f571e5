"""Links to files of the portal's own routes, drawn as buttons."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import streamlit as st

from portal.ui.branding import BUTTON_STYLE
from portal.ui.i18n import current_language

if TYPE_CHECKING:
    from collections.abc import Mapping

_STYLE = f"{BUTTON_STYLE};display:inline-flex;align-items:center;text-decoration:none"


def download_links(files: Mapping[str, str], query: Mapping[str, object]) -> None:
    """Draw links beside each other: `files` maps each one's label to its path.

    `query` holds the page's filter. The route checks the rights of the person who follows a link.
    """
    asked = {name: value for name, value in query.items() if value not in {None, ""}}
    rest = html.escape(urlencode({**asked, "lang": current_language()}))
    links = "".join(
        f'<a href="{path}?{rest}" target="_self" download style="{_STYLE}">{html.escape(words)}</a>'
        for words, path in files.items()
    )
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.5rem">{links}</div>')
