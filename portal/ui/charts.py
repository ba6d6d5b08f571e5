"""Small charts as HTML, light enough to be sent with the page."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_WHOLE = 1000


class Part(NamedTuple):
    """A part of a whole: its name, its amount in words, its size, and its #rrggbb colour."""

    name: str
    amount: str
    micros: int
    colour: str


def share_bar(parts: Sequence[Part]) -> str:
    """Return the HTML of a bar cut into the parts' shares, with a legend of the colours."""
    total = sum(part.micros for part in parts)
    spoken = html.escape(", ".join(f"{part.name} {part.amount}" for part in parts))
    cuts = "".join(
        f'<span style="width:{_percent(part.micros, total)};background:{part.colour}"></span>'
        for part in parts
        if part.micros > 0
    )
    names = "".join(
        f'<span><i style="background:{part.colour}"></i>{html.escape(part.name)}'
        f" <b>{html.escape(part.amount)}</b></span>"
        for part in parts
    )
    return (
        f'<div class="share-bar" role="img" aria-label="{spoken}">{cuts}</div>'
        f'<div class="share-names" aria-hidden="true">{names}</div>'
    )


def _percent(micros: int, total: int) -> str:
    tenths = micros * _WHOLE // total
    return f"{tenths // 10}.{tenths % 10}%"
