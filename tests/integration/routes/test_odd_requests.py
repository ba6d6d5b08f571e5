"""Whatever is written into a request, and while the database is away: no route falls over."""

from __future__ import annotations

import copy
import json
import logging
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.testclient import TestClient

from domain import identity
from domain.actors import StaffRole
from domain.errors import InvalidInput
from domain.history.export_jobs import ExportOptions
from domain.history.rows import HistoryFilter
from domain.identity import Client
from portal import asgi
from portal.routes import responses
from portal.routes.middleware import Observed
from portal.routes.session_gate import SessionGate
from portal.runtime import cookies, database
from portal.runtime.settings import settings
from portal.shell.open_pages import OpenPages
from tests.factories import SYSTEM, grant, make_account
from tests.support.asgi_calls import Sent, call
from tests.support.loops import run_async
from tests.support.odd_requests import PLACEHOLDER, names_that_routes_take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from httpx2 import Response
    from sqlalchemy.orm import Session
    from starlette.requests import Request

HERE = "http://localhost:8501"
# The fourth is half a character as bytes: it arrives as a sign of replacement.
ODD = [
    "\x00",
    "a\x00b",
    "\udfff",
    "\ud800x",
    "\u202e",
    "\r\n\t",
    "'",
    "9" * 1_000,
    "x" * 1_500,
    "💰",
]
ROLES = [None, StaffRole.SUPPORT, StaffRole.FINANCE, StaffRole.ADMIN]

pytestmark = pytest.mark.usefixtures("portal")


@pytest.fixture
def routes(portal: None) -> list[Route]:  # noqa: ARG001 - the settings are those of the test
    """Every route of our own, as the application has them."""
    return [each for each in asgi.own_routes() if isinstance(each, Route)]


@pytest.fixture
def browser(routes: list[Route]) -> Iterator[TestClient]:
    """A browser of nobody, at the routes behind what stands before them."""
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Observed, own_routes=routes),
            Middleware(SessionGate, own_routes=routes, pages=OpenPages()),
        ],
    )
    with TestClient(
        app,
        base_url=HERE,
        follow_redirects=False,
        client=("127.0.0.1", 50_000),
        headers={"accept": "text/html", "origin": HERE},
    ) as client:
        yield client


def sign_in(browser: TestClient, role: StaffRole | None) -> str:
    """Sign somebody in who owns an account, and return the token of their forms."""

    def make(session: Session) -> str:
        account = make_account(session)
        grant(session, account, 10)
        user = identity.create_user(
            session,
            email=f"{role}@example.com",
            display_name="Lan",
            password="violet-kettle-9-march",
            staff_role=role,
            actor=SYSTEM,
        )
        session.execute(
            text(
                "INSERT INTO account_members (account_id, user_id, role) VALUES (:a, :u, 'owner')"
            ),
            {"a": account, "u": user},
        )
        client = Client("203.0.113.7", "a browser")
        opened = identity.create_session(
            session, user_id=user, client=client, policy=settings().policy
        )
        return opened.token

    token = database.transaction(make)
    browser.cookies.set(cookies.session_cookie(settings()), token)
    return cookies.form_token(token)


def test_names_of_fields_are_read_from_the_handlers() -> None:
    assert {"email", "options", "who", "since", "transfer", "next"} <= set(names_that_routes_take())


def paths_of(routes: list[Route], word: str) -> list[str]:
    return [quote(word, safe="", errors="surrogatepass").join(PLACEHOLDER.split(route.path)[::2])
            for route in routes]  # fmt: skip


def encoded(fields: dict[str, str]) -> str:
    return urlencode(fields, errors="surrogatepass")


def check(answer: Response, where: object) -> None:
    assert answer.status_code < 500, (where, answer.text[:2_000])
    for word in ("psycopg2", "sqlalchemy", "Traceback", "SELECT"):
        assert word not in answer.text, where


@pytest.mark.parametrize("role", ROLES, ids=str)
def test_text_that_no_database_keeps_is_no_error_in_any_field_of_any_route(
    browser: TestClient, routes: list[Route], role: StaffRole | None
) -> None:
    token, names = sign_in(browser, role), names_that_routes_take()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for odd in ODD:
        fields = dict.fromkeys(names, odd)
        for path in sorted({*paths_of(routes, odd), *paths_of(routes, "1")}):
            if path.startswith("/sign-out"):
                continue
            check(browser.get(f"{path}?{encoded(fields)}"), (path, odd))
            content = encoded({"form_token": token, **fields})
            check(browser.post(path, content=content, headers=headers), (path, odd))


def test_each_field_by_itself_is_refused_with_a_word_where_it_cannot_be_kept(
    browser: TestClient, routes: list[Route]
) -> None:
    token = sign_in(browser, StaffRole.ADMIN)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    forms = [route for route in routes if route.path in {"/password", "/exports/history"}]
    assert len(forms) == 2
    for name in names_that_routes_take():
        odd = encoded({name: "a\x00b"})
        for path in paths_of(routes, "1"):
            if path.startswith(("/webhooks", "/payments/return", "/health", "/ready")):
                continue
            answer = browser.get(f"{path}?{odd}")
            assert answer.status_code in {400, 405}, (path, name)
            assert answer.status_code == 405 or "<h1" in answer.text
        for route in forms:
            content = encoded({"form_token": token}) + "&" + odd
            answer = browser.post(route.path, content=content, headers=headers)
            assert answer.status_code == 422
            if route.path == "/exports/history":
                assert "Use letters, digits and punctuation only." in answer.text
    assert browser.get("/receipts/a%00b").status_code == 400


@pytest.mark.parametrize(
    "name", ["user-agent", "accept-language", "cookie", "referer", "x-forwarded-for"]
)
@pytest.mark.parametrize("odd", [b"\x00", b"\xff\x00", b'a="\\000"', b"x" * 5_000])
def test_header_that_is_odd_is_no_error(browser: TestClient, name: str, odd: bytes) -> None:
    token = sign_in(browser, None)
    headers: Any = {"content-type": "application/x-www-form-urlencoded", name: odd}
    for path in ("/sign-in", "/sign-up", "/sessions", "/health", "/files/audit.csv"):
        check(browser.get(path, headers=headers), path)
    content = encoded({"form_token": token, "session": "1"})
    check(browser.post("/sessions", content=content, headers=headers), "/sessions")
    fresh = TestClient(browser.app, base_url=HERE, headers={"origin": HERE})
    page = fresh.get("/sign-in")
    (form_token,) = set(re.findall(r'name="form_token" value="([0-9a-f]+)"', page.text))
    credentials = {"email": "None@example.com", "password": "violet-kettle-9-march"}
    if name == "cookie":
        return
    signed_in = fresh.post(
        "/sign-in",
        content=encoded({"form_token": form_token, **credentials}),
        headers=headers,
        follow_redirects=False,
    )
    assert signed_in.status_code == 303


@pytest.mark.parametrize(
    "odd", ["\x00", "\ud800", "\udfff\ud800", "9" * 5_000, None, [], {}, 7, -1]
)
def test_json_within_a_field_that_is_odd_is_a_refusal(browser: TestClient, odd: object) -> None:
    token = sign_in(browser, None)
    genuine = ExportOptions(1, HistoryFilter(text="a"), "", "Asia/Tokyo", "en").to_json()
    for name in genuine:
        wish = copy.deepcopy(genuine) | {name: odd}
        for value in (json.dumps(wish), json.dumps(wish, ensure_ascii=False), json.dumps([odd])):
            fields = {"form_token": token, "options": value, "format": "csv", "page": "tab=history"}
            content = encoded(fields)
            headers = {"content-type": "application/x-www-form-urlencoded"}
            check(browser.post("/exports/history", content=content, headers=headers), (name, odd))


# ── What no HTTP client sends ─────────────────────────────────────────────────────────────────
def cookie_of(browser: TestClient) -> tuple[bytes, bytes]:
    sent = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return b"cookie", sent.encode()


def test_client_that_hangs_up_within_a_body_is_no_fault_of_ours(
    browser: TestClient, routes: list[Route], caplog: pytest.LogCaptureFixture
) -> None:
    token = sign_in(browser, StaffRole.FINANCE)
    headers = (
        cookie_of(browser),
        (b"host", HERE.removeprefix("http://").encode()),
        (b"origin", HERE.encode()),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"x-form-token", token.encode()),
    )
    body = encoded({"form_token": token, "email": "lan@example.com"}).encode()
    answered = set()
    for route in routes:
        path = PLACEHOLDER.sub("evidence", route.path.replace("{key}", str(uuid4()))).encode()
        for method in ("POST", "PUT"):
            sent = Sent(method, path, headers=headers, body=body, hangs_up=True)
            answer = run_async(call(browser.app, sent))
            assert answer.error is None
            assert answer.status < 500, route.path
            answered |= {(route.path, method)} if answer.status == 400 else set()
    assert {("/sign-in", "POST"), ("/password", "POST")} <= answered
    assert ("/uploads/{purpose}/{key}", "PUT") in answered
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_query_with_bytes_that_are_not_escaped_is_refused(
    browser: TestClient, routes: list[Route]
) -> None:
    sign_in(browser, StaffRole.ADMIN)
    for path in [*paths_of(routes, "1"), "/", "/no/such/page"]:
        for method in ("GET", "POST", "BREW"):
            query = b"next=\xff\xfe&token=\xed\xa0\x80"
            sent = Sent(method, path.encode(), query=query, headers=(cookie_of(browser),))
            answer = run_async(call(browser.app, sent))
            assert (answer.error, answer.status, answer.body) == (None, 400, b"")


def test_answer_of_the_last_resort_has_the_security_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_request: Request) -> Response:
        raise RuntimeError("a fault of ours")

    own = [Route("/broken", broken)]
    app = Starlette(routes=own, middleware=asgi.middleware(list(own)))
    monkeypatch.setattr(responses, "_log", logging.getLogger("a log that nobody reads"))
    for sent in (Sent("GET", b"/broken"), Sent("GET", b"/broken", query=b"\xff")):
        answer = run_async(call(app, sent))
        assert answer.status == (400 if sent.query else 500)
        assert answer.header(b"x-content-type-options") == b"nosniff"
        assert answer.header(b"x-frame-options") == b"DENY"
        assert answer.header(b"x-request-id")


# ── The door itself ───────────────────────────────────────────────────────────────────────────
ASKS = pytest.mark.parametrize(
    "ask",
    [database.read_snapshot, database.read_one, database.transaction],
    ids=["read", "look_up", "write"],
)


@ASKS
@pytest.mark.parametrize("odd", ["\x00", "a\x00b", "\ud800"])
def test_text_that_reaches_the_database_and_cannot_be_kept_is_invalid_input(
    ask: Callable[..., object], odd: str
) -> None:
    statements = [
        "SELECT CAST(:odd AS text)",
        "SELECT CAST(:json AS jsonb) ->> 0",
        "SELECT 1 FROM users WHERE email = :odd",
    ]
    for statement in statements:

        def work(session: Session, statement: str = statement) -> object:
            given = {"odd": odd, "json": json.dumps([odd])}
            used = {name: given[name] for name in given if f":{name}" in statement}
            return session.execute(text(statement), used).all()

        with pytest.raises(InvalidInput) as caught:
            ask(work)
        assert caught.value.reason == "control_characters"


@ASKS
def test_other_errors_of_value_are_told_as_they_are(ask: Callable[..., object]) -> None:
    def fail(_session: Session) -> None:
        raise ValueError("a fault of ours")

    with pytest.raises(ValueError, match="a fault of ours"):
        ask(fail)


# ── While the database is away ────────────────────────────────────────────────────────────────
def test_database_that_is_away_is_said_by_every_route_and_never_as_a_fault(
    browser: TestClient, routes: list[Route]
) -> None:
    token = sign_in(browser, StaffRole.FINANCE)
    fields = {"first": "2026-01-01", "last": "2026-01-31", "grain": "day", "token": "x"}
    wish = ExportOptions(1, HistoryFilter(), "", "Asia/Tokyo", "en").to_json()
    form = {"form_token": token, "options": json.dumps(wish), "format": "csv", **fields}
    headers = {"content-type": "application/x-www-form-urlencoded"}
    database.disconnect()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    database.connect(f"postgresql+psycopg2://portal@127.0.0.1:{port}/portal")
    shown = set()
    for path in paths_of(routes, "1"):
        if path.startswith(("/webhooks", "/payments/return")):
            continue
        got = browser.get(f"{path}?{encoded(fields)}")
        sent = browser.post(path, content=encoded(form), headers=headers)
        for answer in (got, sent):
            assert answer.status_code != 500, (path, answer.text[:2_000])
            assert "psycopg2" not in answer.text
            assert "127.0.0.1" not in answer.text
        shown |= {path for answer in (got, sent) if answer.status_code == 503}
    assert {"/sessions", "/files/audit.csv", "/exports/history", "/password", "/ready"} <= shown
    assert browser.get("/payments/return/paypal?token=5O190127TN364715T").status_code == 503
