"""Secrets of a second factor that are shown once: an app's QR code, and recovery codes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import segno

from portal.routes.requests import FIRST, Call, own_origin
from portal.routes.responses import render
from portal.ui import branding
from portal.ui.i18n import _

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
    """Return the page that shows new recovery codes, this once, and has them as a file."""
    text = "\n".join(
        [f"{branding.NAME}: {own_origin(call.request)}", _("Recovery codes"), "", *codes, ""]
    )
    file = f"data:text/plain;charset=utf-8,{quote(text)}"
    return render(call, "recovery_codes.html", FIRST, codes=codes, file=file, next_path=next_path)
