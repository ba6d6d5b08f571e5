"""Shared parts of the forms with passkeys: the party, the browser's options, its answer."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from domain.identity import PasskeyAnswer, RelyingParty
from portal.routes.requests import own_origin
from portal.runtime.environment import LOOPBACK_HOSTS
from portal.ui import branding

if TYPE_CHECKING:
    from domain.identity import CeremonyOptions
    from portal.routes.requests import Call


def relying_party(call: Call) -> RelyingParty | None:
    """Return who this portal is to a device.

    None where browsers offer no passkeys: without TLS, but for this computer, and where the host
    is an address instead of a name.
    """
    origin = own_origin(call.request)
    try:
        parts = urlsplit(origin)
    except ValueError:  # a Host header like "[::"
        return None
    host = parts.hostname or ""
    if not host or _is_address(host):
        return None
    if parts.scheme != "https" and host not in LOOPBACK_HOSTS:
        return None
    return RelyingParty(id=host, origin=origin, name=branding.NAME)


def passkey_values(options: CeremonyOptions | None) -> dict[str, str] | None:
    """Return the template's values for the button that requests a passkey."""
    if options is None:
        return None
    return {"options": options.json, "state": options.state}


def answer_in(call: Call) -> PasskeyAnswer | None:
    """Return the device's answer in the form, or None where there is none."""
    given = call.given("passkey")
    return PasskeyAnswer(given, call.given("passkey_state")) if given else None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
