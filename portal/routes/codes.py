"""What shows secrets of a second factor once: the QR code of an app, and recovery codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import segno

from portal.routes.web import FIRST, Call, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

_SCALE = 5


def qr_code(uri: str) -> str:
    """Return the QR code of an address as a picture in a `data:` address."""
    # Black on white also in the dark: scanners need it.
    return segno.make(uri, error="m").svg_data_uri(
        scale=_SCALE, border=4, dark="#000000", light="#ffffff"
    )


def show_recovery_codes(call: Call, codes: Sequence[str], *, next_path: str) -> Response:
    """Return the page that shows new recovery codes, this once."""
    return render(call, "recovery_codes.html", FIRST, codes=codes, next_path=next_path)
