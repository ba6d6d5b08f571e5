"""The title and icon of a browser's tab, for pages and for our own routes."""

from __future__ import annotations

from urllib.parse import quote

NAME = "Credit Portal"
# As data: an icon by name would be requested from another host, which our policy forbids.
ICON = "data:image/svg+xml," + quote(
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>"
    "<circle cx='8' cy='8' r='8' fill='#1a5fb4'/>"
    "<path d='M4 8h8M8 4v8' stroke='#fff' stroke-width='2'/></svg>",
    safe=" ='/:",
)


def title(page: str) -> str:
    """Return a tab's title for a page of this title."""
    return f"{page} · {NAME}"


BUTTON_STYLE = (
    "min-height:2.5rem;padding:.25rem .75rem;font:inherit;font-size:.875rem;color:inherit;"
    "background:none;border:1px solid color-mix(in srgb,currentColor 40%,transparent);"
    "border-radius:.375rem;cursor:pointer"
)
