"""Requests to every own route, well formed in most parts and odd in some, by a seeded chance.

What a route takes is read from the routes that the application mounts, and the names of fields from
the source of their handlers: a new route or field is asked without a word here. Values that a
handler takes for genuine come from whoever made the data.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes, urlencode

from portal.routes.forms import MAX_FORM_BYTES, Form
from portal.routes.uploads import UploadRoute
from portal.runtime import cookies
from portal.runtime.settings import settings
from portal.ui.upload import TOKEN_HEADER
from tests.support.asgi_calls import Sent

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from starlette.routing import Route

HERE = "http://localhost:8501"
ROUTES = Path(__file__).resolve().parents[2] / "portal" / "routes"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
NOBODY = "nobody"
MARKUP = "<script>alert(7)</script>"
METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"),
    *("PROPFIND", "get", "BREW", "X" * 300),
)
_GIVEN = re.compile(r'call(?:\.given\(|, )"(\w+)"')
_NEVER_SENT = re.compile(rb"[\x00-\x20\x7f]")
_FORM_SECRET = "the-form-cookie-of-this-browser"
_FORM = b"application/x-www-form-urlencoded"

ODD_BYTES = (
    *(b"\x00", b"a\x00b", b"\xed\xa0\x80", b"\xed\xb0\x80x", b"\xff\xfe", b"\xc0\xaf", b"\xf5"),
    *(
        b"",
        b" ",
        b"-1",
        b"0",
        b"9" * 19,
        b"9" * 40,
        b"9" * 5_000,
        b"-" + b"9" * 400,
        b"1e999999999",
    ),
    *(b"NaN", b"Infinity", "\u0663\u0664".encode(), "\uff11".encode(), b"1_000", b"+1", b"0x10"),
    *(b"' OR 1=1 --", b"1; DROP TABLE users", b"%", b"_%\\", b"${7*7}", b"{{7*7}}", b"%s%n"),
    *(MARKUP.encode(), b"\"'><img src=x onerror=alert(7)>", b"javascript:alert(7)"),
    *(b"../../etc/passwd", b"..%2f..%2fetc/passwd", b"//evil.example", b"/\\evil.example"),
    *(b"https://evil.example/", b"/\t/evil.example", b"\r\nSet-Cookie: a=b", b"a\nb"),
    *("\u202e\u200b".encode(), "\U0001f4b0".encode(), b"x" * 1_500, b"x" * 20_000, b"[" * 3_000),
    *(b"2026-02-30", b"0000-00", b"9999-12", b"10000-01-01", b"2026-03-10T09:30:00+99:99"),
    *(("a" + "\u0301\u0316" * 2_000).encode(), b"@" * 500, b"x@" * 500, b'"' + b"\\a" * 500 + b'"'),
    *(b"null", b"[]", b"{}", b"true", b'{"account_id":' + b"9" * 5_000 + b"}"),
)
ODD_HEADERS = (
    *(b"", b"\x00", b"\xff\xfe", b"x" * 8_000, b"=;=,;", b"*", b"*/*;q=nan", b"-1", b"9" * 5_000),
    *(
        b"text/html",
        b"application/json",
        b"bytes=0-",
        b"bytes=-1,5-2,9-",
        b"bytes=" + b"0-1," * 500,
    ),
    *(b"gzip, br;q=2", b"en-US-x-" + b"a" * 300, b"ja, vi;q=0.9", b"null", b"http://evil.example"),
    *(b"::1", b"10.0.0.1, 203.0.113.9", b"fe80::1%" + b"e" * 200, b"[::", b'for="<script>"'),
)
HEADER_NAMES = (
    *(b"accept", b"accept-language", b"accept-encoding", b"content-type", b"content-length"),
    *(
        b"content-encoding",
        b"transfer-encoding",
        b"origin",
        b"referer",
        b"host",
        b"range",
        b"cookie",
    ),
    *(b"if-range", b"if-none-match", b"if-modified-since", b"x-forwarded-for", b"forwarded"),
    *(b"x-forwarded-proto", b"x-forwarded-host", b"user-agent", b"authorization", b"x-form-token"),
    *(b"x-http-method-override", b"x-portal-session", b"expect", b"upgrade", b"connection", b"te"),
    *(b"x-" + b"n" * 2_000, b"stripe-signature", b"paypal-transmission-sig", b"x-request-id"),
)


def names_that_routes_take() -> list[str]:
    """Return the names of fields that handlers ask for, without the token's."""
    found = {name for file in ROUTES.glob("*.py") for name in _GIVEN.findall(file.read_text())}
    return sorted(found - {"form_token"})


@dataclass
class Genuine:
    """What handlers take for genuine: values of fields and of places in a path, by name."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, the route that it is for, who sends it, and whether a form of theirs did."""

    route: str
    who: str
    has_token: bool
    sent: Sent


@dataclass
class Requests:
    """Makes requests, one after the other for each route. `tokens` are of people's sessions."""

    routes: Sequence[Route]
    genuine: Genuine
    tokens: Mapping[str, str]
    chance: random.Random

    def __post_init__(self) -> None:
        """Read what the handlers take."""
        self._names = names_that_routes_take()

    def make(self, number: int) -> Asked:
        """Return the request of this number."""
        route = self.routes[number % len(self.routes)]
        who = self.chance.choice(sorted(self.tokens))
        method = self._method(route)
        has_token = self.chance.random() < 0.7
        token = self._form_token(route, who) if has_token else self._odd_text()
        query, kind, body = self._content(route, method, token)
        headers = self._headers(who, kind, token, is_own=has_token)
        if body and self.chance.random() < 0.9:
            headers.append((b"content-length", str(len(body)).encode()))
        for _ in range(self.chance.choice((0, 0, 0, 1, 1, 2, 5))):
            name = self.chance.choice(HEADER_NAMES)
            others = [pair for pair in headers if pair[0] != name]
            # In place of the one that was there, or beside it.
            headers = others if self.chance.random() < 0.7 else headers
            headers.append((name, self.chance.choice(ODD_HEADERS)))
        sent = Sent(
            method=method,
            path=self._path(route),
            query=query,
            headers=tuple(headers),
            body=body,
            hangs_up=bool(body) and self.chance.random() < 0.03,
        )
        return Asked(route.path, who, has_token, sent)

    # ── Parts ─────────────────────────────────────────────────────────────────────────────────
    def _method(self, route: Route) -> str:
        if self.chance.random() < 0.2:
            return self.chance.choice(METHODS)
        if isinstance(route.endpoint, Form):
            # Most of what a form does is done by POST.
            return self.chance.choice([*route.endpoint._methods, route.endpoint._methods[-1]])
        if isinstance(route.endpoint, UploadRoute):
            return "PUT"
        return self.chance.choice(("GET", "POST"))

    def _path(self, route: Route) -> bytes:
        """Return the path with its places filled in, as bytes that a client may send."""
        filled = PLACEHOLDER.sub(lambda found: self._place(found[1]), route.path)
        return filled.encode("ascii")

    def _place(self, name: str) -> str:
        if self.chance.random() < 0.6:
            return quote_from_bytes(self.chance.choice(self.genuine.places[name]).encode(), safe="")
        odd = self.chance.choice(ODD_BYTES)
        safe = self.chance.choice(("", "/", "/.:;"))
        return quote_from_bytes(odd, safe=safe) or "%20"

    def _form_token(self, route: Route, who: str) -> str:
        is_for_anyone = isinstance(route.endpoint, Form) and not route.endpoint._for_signed_in
        return cookies.form_token(_FORM_SECRET if is_for_anyone else self.tokens[who])

    def _content(self, route: Route, method: str, token: str) -> tuple[bytes, bytes, bytes]:
        """Return the query, the type of the body, and the body."""
        fields = self._fields()
        if isinstance(route.endpoint, UploadRoute):
            return self._encoded(fields), b"application/octet-stream", self._file()
        if method in {"GET", "HEAD"} and self.chance.random() < 0.9:
            return self._encoded(fields), b"", b""
        pairs = [("form_token", token.encode("utf-8", "surrogatepass")), *fields]
        if self.chance.random() < 0.75:
            return b"", _FORM, self._encoded(pairs)
        return self._encoded(self._fields()), *self._odd_body(pairs)

    def _odd_body(self, pairs: list[tuple[str, bytes]]) -> tuple[bytes, bytes]:
        """Return the type and the bytes of a body that no form sends."""
        kind = self.chance.choice(("multipart", "json", "large", "repeated", "bytes"))
        if kind == "multipart":
            return b"multipart/form-data; boundary=b", self._multipart(pairs)
        if kind == "json":
            texts = {name: value.decode("latin-1") for name, value in pairs}
            return b"application/json", json.dumps(texts).encode()
        if kind == "large":
            filler = b"&x=" + b"y" * self.chance.choice((MAX_FORM_BYTES, 4 * MAX_FORM_BYTES))
            return _FORM, self._encoded(pairs) + filler
        if kind == "repeated":
            return _FORM, self._encoded(pairs * 10 + [("many", b"1")] * 80)
        return self.chance.choice(ODD_HEADERS), self.chance.choice(ODD_BYTES)

    def _fields(self) -> list[tuple[str, bytes]]:
        """Return a value for each of some fields: genuine, or odd for one or for all."""
        oddness = self.chance.choice((0.0, 0.0, 0.05, 0.2, 1.0))
        pairs = []
        for name in self._names:
            given = self.genuine.fields.get(name)
            if given and self.chance.random() >= oddness:
                pairs.append((name, self.chance.choice(given).encode()))
            elif oddness:
                pairs.append((name, self.chance.choice(ODD_BYTES)))
        kept = [pair for pair in pairs if self.chance.random() < 0.95]
        if kept and self.chance.random() < 0.1:
            kept.append((self.chance.choice(kept)[0], self.chance.choice(ODD_BYTES)))
        if self.chance.random() < 0.1:
            kept.append(("lang", self.chance.choice((b"vi", b"ja", *ODD_BYTES))))
        return kept

    def _encoded(self, pairs: list[tuple[str, bytes]]) -> bytes:
        if self.chance.random() < 0.03:
            # Percent signs with nothing behind them, and bytes that are not escaped at all.
            return (
                b"&".join(name.encode() + b"=" + value[:200] for name, value in pairs) + b"&%=%zz"
            )
        return urlencode(pairs).encode()

    def _multipart(self, pairs: list[tuple[str, bytes]]) -> bytes:
        parts = [
            b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
            % (name.encode(), self.chance.choice((b"", b'; filename="../x"')), value)
            for name, value in pairs
        ]
        return b"".join(parts) + self.chance.choice((b"--b--\r\n", b"--b", b""))

    def _file(self) -> bytes:
        sizes = (0, 10, 1_000, 100_000) if self.chance.random() < 0.98 else (8 * 1024 * 1024 + 1,)
        start = self.chance.choice((b"%PDF-1.7 ", b"\x89PNG", b"PK\x03\x04", b"code\n", b""))
        size = self.chance.choice(sizes)
        return (start + self.chance.choice(ODD_BYTES) + b"z" * size)[:size]

    def _headers(
        self, who: str, kind: bytes, token: str, *, is_own: bool
    ) -> list[tuple[bytes, bytes]]:
        address = f"198.51.{self.chance.randrange(256)}.{self.chance.randrange(256)}"
        headers = [
            (b"host", b"localhost:8501"),
            (b"accept", self.chance.choice((b"text/html", b"*/*", b"application/json"))),
            (b"user-agent", b"Mozilla/5.0 (X11; Linux) Firefox/140.0"),
            (b"x-forwarded-for", address.encode()),
        ]
        if is_own or self.chance.random() < 0.5:
            headers.append((b"origin", HERE.encode()))
        if kind:
            headers.append((b"content-type", kind))
        sent_token = token.encode("utf-8", "surrogatepass")
        headers.append((TOKEN_HEADER.lower().encode(), sent_token))
        sent = [f"{cookies.form_cookie(settings())}={_FORM_SECRET}"]
        if self.tokens[who]:
            sent.append(f"{cookies.session_cookie(settings())}={self.tokens[who]}")
        headers.append((b"cookie", "; ".join(sent).encode()))
        return headers

    def _odd_text(self) -> str:
        odd = self.chance.choice(ODD_BYTES)[:300].decode("utf-8", "replace")
        return self.chance.choice((odd, "", uuid.UUID(int=7).hex * 2))
