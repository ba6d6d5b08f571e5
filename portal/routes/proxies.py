"""The address that a request comes from: the peer's, or the one that a trusted proxy reports.

Each proxy adds the address of its own peer to the right end of X-Forwarded-For, and everything
further left may have been invented by its sender. So the header is read from the right, for as long
as those who wrote it are trusted; the first address that is no proxy's is the client.

uvicorn's ProxyHeadersMiddleware does this too, and is not used: it makes a client of anything that
stands in the header, knows no IPv4 address that is written as an IPv6 one, and is silent where a
proxy was forgotten in the setting.
"""

from __future__ import annotations

import logging
import os
import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from starlette.types import ASGIApp, Receive, Scope, Send

THIS_COMPUTER = (ip_network("127.0.0.1/32"), ip_network("::1/128"))

TWO_READERS = (
    "The server that loads the portal reads X-Forwarded-For by a rule of its own, and"
    " TRUSTED_PROXIES has to be the only one: start the portal with `python -m portal serve`, or"
    " set FORWARDED_ALLOW_IPS to an empty text."
)

_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDED_PROTO = b"x-forwarded-proto"
_SCHEMES = {
    ("http", "http"): "http",
    ("http", "https"): "https",
    ("websocket", "http"): "ws",
    ("websocket", "https"): "wss",
    ("websocket", "ws"): "ws",
    ("websocket", "wss"): "wss",
}
_WITH_PORT = re.compile(r"\[(?P<ipv6>[^\]]+)\](:\d+)?|(?P<ipv4>[\d.]+):\d+")
_SERVER_SETTING = "FORWARDED_ALLOW_IPS"
_MAX_WARNED_PEERS = 100

_log = logging.getLogger(__name__)


class ForwardedClient:
    """Put the client's address and scheme into the scope of every request and websocket."""

    def __init__(self, app: ASGIApp, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._app = app
        self._trusted = tuple(trusted)
        self._warned_peers: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on as its client sent it."""
        if scope["type"] in {"http", "websocket"}:
            self._read_headers(scope)
        await self._app(scope, receive, send)

    def _read_headers(self, scope: Scope) -> None:
        forwarded_for = _lines(scope, _FORWARDED_FOR)
        peer = _parsed(scope["client"][0]) if scope.get("client") else None
        if peer is None or not self._is_trusted(peer):
            if forwarded_for:
                self._warn_once(str(peer or "a peer without an address"))
            return
        client = self._client(peer, _from_right(forwarded_for))
        if client != peer:
            # The client's port is not needed; 0 stands for an unknown one.
            scope["client"] = (str(client), 0)
        scheme = next(_from_right(_lines(scope, _FORWARDED_PROTO)), "").lower()
        scope["scheme"] = _SCHEMES.get((scope["type"], scheme), scope["scheme"])

    def _client(
        self, peer: IPv4Address | IPv6Address, entries: Iterable[str]
    ) -> IPv4Address | IPv6Address:
        """Return the first address that is not a proxy's, or the last proxy with a valid entry.

        An invalid address ends the search: its writer is the last known one, and all clients whose
        address it hides share its own.
        """
        found = peer
        for entry in entries:
            address = _parsed(_without_port(entry))
            if address is None:
                return found
            found = address
            if not self._is_trusted(address):
                return found
        return found

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)

    def _warn_once(self, peer: str) -> None:
        if peer in self._warned_peers or len(self._warned_peers) >= _MAX_WARNED_PEERS:
            return
        self._warned_peers.add(peer)
        _log.warning(
            "X-Forwarded-For from %s is ignored, because TRUSTED_PROXIES does not name it. If it is"
            " your proxy, add it: until then all its visitors count as one address.",
            peer,
        )


def server_reads_headers() -> bool:
    """Return whether the server may apply X-Forwarded-For before the portal does.

    uvicorn does, however it is started, with or without Streamlit, unless the environment says that
    it trusts no one.
    """
    return bool(os.environ.get(_SERVER_SETTING, "default").strip())


def leave_headers_to_portal() -> None:
    """Have the server of this process trust no proxy: the portal reads the headers itself."""
    os.environ[_SERVER_SETTING] = ""


def _lines(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for each, value in scope["headers"] if each == name]


def _from_right(lines: Sequence[str]) -> Iterator[str]:
    """Return the parts of a list that may span several lines, the last one first."""
    for line in reversed(lines):
        for part in reversed(line.split(",")):
            yield part.strip()


def _without_port(entry: str) -> str:
    """Return the address of 192.0.2.1:443 and of [2001:db8::1]:443, which some proxies write."""
    found = _WITH_PORT.fullmatch(entry)
    return entry if found is None else found["ipv6"] or found["ipv4"]


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, or None; an IPv4 one also where a socket for both writes it as IPv6."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if not isinstance(address, IPv6Address):
        return address
    # A zone id may follow a %: it may be any text at all.
    return address.ipv4_mapped or IPv6Address(int(address))
