"""Whose word about a visitor's address counts, header by header."""

from __future__ import annotations

import logging
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from portal.routes import proxies
from tests.support.environment import OUTSIDE_DEMO, bare_environment
from tests.support.loops import run_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Message, Receive, Scope, Send

ROOT = Path(__file__).resolve().parents[2]
TRUSTED = ("10.0.0.5", "10.1.0.0/16", "2001:db8:0:1::/64", "fe80::1")
PROXY = "10.0.0.5"
CLIENT = "203.0.113.7"
Headers = tuple[tuple[str, str], ...]


def seen(
    peer: str | None, headers: Headers = (), *, kind: str = "http", trusted: Sequence[str] = TRUSTED
) -> tuple[str | None, str]:
    """Return which address and scheme the portal sees."""
    return seen_by(
        proxies.ForwardedClient(_nothing, [ip_network(each) for each in trusted]),
        peer,
        headers,
        kind,
    )


def seen_by(
    reader: proxies.ForwardedClient, peer: str | None, headers: Headers, kind: str = "http"
) -> tuple[str | None, str]:
    scope: dict[str, Any] = {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "client": None if peer is None else (peer, 50_000),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }

    async def receive() -> Message:
        raise AssertionError("nobody reads the request here")

    async def send(_message: Message) -> None:
        raise AssertionError("nobody answers here")

    run_async(reader(scope, receive, send))
    return (scope["client"][0] if scope["client"] else None), scope["scheme"]


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    pass


def forwarded(*lines: str) -> Headers:
    return tuple(("X-Forwarded-For", line) for line in lines)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ((), PROXY),
        ((CLIENT,), CLIENT),
        # What the client made up stands on the left of what the proxy knows.
        ((f"192.0.2.99, {CLIENT}",), CLIENT),
        ((f"10.0.0.5, {CLIENT}",), CLIENT),
        # Proxies behind proxies, by address and by network.
        ((f"192.0.2.99, {CLIENT}, 10.1.2.3",), CLIENT),
        ((f"{CLIENT}, 10.1.2.3, 10.0.0.5, 10.1.255.255",), CLIENT),
        ((f"192.0.2.99, {CLIENT}, 10.2.0.1",), "10.2.0.1"),
        # A proxy's own question: nobody stands before it.
        (("10.1.2.3",), "10.1.2.3"),
        (("10.1.2.4, 10.1.2.3",), "10.1.2.4"),
        # Several lines are one list.
        (("192.0.2.99", CLIENT), CLIENT),
        ((f"192.0.2.99, {CLIENT}", "10.1.2.3"), CLIENT),
        (("192.0.2.99", f"{CLIENT},10.1.2.3", "10.0.0.5"), CLIENT),
        # IPv6, with and without a port.
        (("2001:db8:7::9",), "2001:db8:7::9"),
        (("2001:DB8:7:0:0:0:0:9",), "2001:db8:7::9"),
        (("[2001:db8:7::9]",), "2001:db8:7::9"),
        (("[2001:db8:7::9]:51234",), "2001:db8:7::9"),
        (("192.0.2.99, 2001:db8:7::9, 2001:db8:0:1::5",), "2001:db8:7::9"),
        ((f"{CLIENT}:51234",), CLIENT),
        ((f"::ffff:{CLIENT}",), CLIENT),
        ((f"{CLIENT}, ::ffff:10.1.2.3",), CLIENT),
        (("fe80::7%eth0",), "fe80::7"),
        (("fe80::7%<script>",), "fe80::7"),
        # What is no address hides whoever stands before it: the proxy that wrote it is all we know.
        (("",), PROXY),
        ((",",), PROXY),
        (("unknown",), PROXY),
        (("_hidden",), PROXY),
        ((f"{CLIENT}, unknown",), PROXY),
        ((f"{CLIENT}, unknown, 10.1.2.3",), "10.1.2.3"),
        ((f"{CLIENT},, 10.1.2.3",), "10.1.2.3"),
        ((f"{CLIENT} 192.0.2.99",), PROXY),
        (("203.0.113.007",), PROXY),
        (("203.0.113",), PROXY),
        (("203.0.113.7/32",), PROXY),
        (("[2001:db8:7::9",), PROXY),
        (("[2001:db8:7::9]:https",), PROXY),
        (("[2001:db8:7::9]:443:443",), PROXY),
        ((f"{CLIENT}:https",), PROXY),
        (("[]:443",), PROXY),
        (("billing.example.com",), PROXY),
        (("<script>alert(1)</script>",), PROXY),
        (("é" * 2000,), PROXY),
        (("203.0.113.7\x00",), PROXY),
    ],
)
def test_client_is_the_right_most_address_that_is_not_trusted(
    lines: tuple[str, ...], client: str, kind: str
) -> None:
    assert seen(PROXY, forwarded(*lines), kind=kind)[0] == client


@pytest.mark.parametrize(
    "peer", ["10.0.0.5", "10.1.200.1", "2001:db8:0:1::77", "::ffff:10.0.0.5", "fe80::1%eth0"]
)
def test_trusted_peer_is_believed_in_every_form_of_its_address(peer: str) -> None:
    assert seen(peer, forwarded(CLIENT)) == (CLIENT, "http")


@pytest.mark.parametrize("peer", ["10.0.0.6", "10.2.0.1", "2001:db8:0:2::77", "::1", "", None])
def test_other_peers_are_not_believed(peer: str | None) -> None:
    headers = (*forwarded(CLIENT), ("X-Forwarded-Proto", "https"))
    assert seen(peer, headers) == (peer, "http")
    assert seen(peer, headers, kind="websocket") == (peer, "ws")


def test_without_proxies_nobody_is_believed() -> None:
    headers = (*forwarded(CLIENT), ("X-Forwarded-Proto", "https"))
    assert seen("127.0.0.1", headers, trusted=()) == ("127.0.0.1", "http")


@pytest.mark.parametrize(
    ("lines", "http", "websocket"),
    [
        (("https",), "https", "wss"),
        (("HTTPS ",), "https", "wss"),
        (("http",), "http", "ws"),
        (("wss",), "http", "wss"),
        # The nearest proxy's word stands on the right.
        (("http, https",), "https", "wss"),
        (("https", "http"), "http", "ws"),
        (("javascript",), "http", "ws"),
        (("",), "http", "ws"),
        ((), "http", "ws"),
    ],
)
def test_scheme_is_the_nearest_proxy_s_word(
    lines: tuple[str, ...], http: str, websocket: str
) -> None:
    headers = tuple(("X-Forwarded-Proto", line) for line in lines)
    assert seen(PROXY, headers) == (PROXY, http)
    assert seen(PROXY, headers, kind="websocket") == (PROXY, websocket)


def test_forgotten_proxy_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    reader = proxies.ForwardedClient(_nothing, [ip_network(PROXY)])
    for _ in range(3):
        seen_by(reader, "10.0.0.6", forwarded(CLIENT))
        seen_by(reader, PROXY, forwarded(CLIENT))
        seen_by(reader, "192.0.2.1", ())
    seen_by(reader, "10.0.0.7", forwarded("203.0.113.8"), "websocket")
    warned = [record.getMessage() for record in caplog.records]
    assert [text.partition(" is ignored")[0] for text in warned] == [
        "X-Forwarded-For from 10.0.0.6",
        "X-Forwarded-For from 10.0.0.7",
    ]
    assert all("TRUSTED_PROXIES" in text for text in warned)
    assert CLIENT not in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_warnings_end_where_a_crowd_makes_the_header_up(caplog: pytest.LogCaptureFixture) -> None:
    reader = proxies.ForwardedClient(_nothing, [ip_network(PROXY)])
    for number in range(300):
        seen_by(reader, f"192.0.{number // 200}.{number % 200}", forwarded(CLIENT))
    assert len(caplog.records) == proxies._MAX_WARNED_PEERS
    assert len(reader._warned_peers) == proxies._MAX_WARNED_PEERS


# ── One reader ────────────────────────────────────────────────────────────────────────────────
_FIRST_LAYER = (
    "import app; first = app.app._user_middleware[0];"
    "print(first.cls.__name__, *first.kwargs.get('trusted', ()))"
)


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    """Load the application as uvicorn and Streamlit do; print who reads the headers, for whom."""
    return subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", _FIRST_LAYER],
        cwd=ROOT,
        env={**bare_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_server_that_reads_the_headers_too_is_refused() -> None:
    demo_behind_a_proxy = {"TRUSTED_PROXIES": PROXY, "FORWARDED_ALLOW_IPS": "*"}
    for environment in (OUTSIDE_DEMO, demo_behind_a_proxy):
        ended = start(**environment)
        assert ended.returncode == 1
        assert "TRUSTED_PROXIES has to be the only one" in ended.stderr
        assert "python -m portal serve" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_headers_are_read_once() -> None:
    by_the_portal = {"FORWARDED_ALLOW_IPS": ""}
    served = OUTSIDE_DEMO | {"TRUSTED_PROXIES": PROXY} | by_the_portal
    assert start(**served).stdout == f"ForwardedClient {PROXY}/32\n"
    assert start(**by_the_portal).stdout == "ForwardedClient 127.0.0.1/32 ::1/128\n"
    # The demo under another server: that one believes this computer, as the portal would.
    assert start().stdout == "SecurityHeaders\n"
