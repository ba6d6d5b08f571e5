"""Whatever is sent to any own route, by anybody: a clear answer, and nothing that is not theirs.

`make fuzz-routes` sends 20,000 requests; REQUESTS and SEED say how many and which.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from db.engine import make_engine, make_sessions
from domain.ledger import verify_ledger
from portal.runtime import database
from portal.runtime import gateways as offered
from portal.runtime.settings import settings
from tests.conftest import SYSTEM, TestClock
from tests.support.asgi_calls import Answer, Sent, call
from tests.support.chosen_gateways import ChosenGateways
from tests.support.fuzzed_portal import FORGETFUL, PASSWORD, open_portal
from tests.support.odd_requests import HERE, MARKUP, PLACEHOLDER, ROUTES, Asked
from tests.support.rich_history import rich_history, session_info

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.asgi_calls import Headers
    from tests.support.fuzzed_portal import FuzzedPortal

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "310"))
SEED = os.environ.get("FUZZ_SEED", "1")
RENEW_LINKS_EVERY = 250
MAX_BODY_BYTES = 1024 * 1024
MAX_FAULTS = 40
SECRET_KEY = "the-secret-key-of-this-history-0123456789"
INTERNAL = (
    *(b"Traceback (most", b'File "', b"psycopg2", b"sqlalchemy", b"site-packages", b"starlette."),
    *(b"RuntimeError", b"Exception:", b'relation "', b"$argon2", b"postgresql"),
    str(ROUTES.parent).encode(),
)
SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
MAY_ADD = {
    "/sign-up": {"users", "accounts", "account_members"},
    "/accept-invitation": {"users", "account_members"},
    "/accept-staff-invitation": {"users"},
    "/uploads/{purpose}/{key}": {"uploads"},
    "/exports/history": {"export_jobs"},
}
"""What a request with a valid form token may add rows to, by route: nothing else, and no money."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(0 if "FUZZ_REQUESTS" in os.environ else 600),
]


@pytest.fixture
def fuzzed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FuzzedPortal]:
    """The portal with the history, under the key that its documents are sealed by."""
    for name in ("DATABASE_URL", "BASE_URL", "DEMO", "SMTP_HOST", "PORT", "TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    # The portal reads the headers of proxies itself, as `python -m portal serve` has it.
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    settings.cache_clear()
    offered.vault.cache_clear()
    engine = make_engine(database_url)
    history = rich_history(engine, TestClock())
    engine.dispose()
    database.connect(database_url, pool_size=20, vault=settings().vault)
    yield open_portal(history)
    database.disconnect()
    settings.cache_clear()
    offered.vault.cache_clear()


@dataclass
class Run:
    """What became of the requests: answers by route and status, and what was wrong."""

    statuses: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    senders: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def fuzz(portal: FuzzedPortal, count: int, seed: str) -> Run:
    """Send requests one by one, and look at each answer and at what it changed."""
    run = Run()
    requests = portal.requests(seed)
    before = portal.counts()
    with start_blocking_portal() as loop:
        for number in range(count):
            if number and number % RENEW_LINKS_EVERY == 0:
                portal.mail_links()
                before = portal.counts()
            asked = requests.make(number)
            answer = loop.call(call, portal.app, asked.sent)
            run.statuses[asked.route][answer.status] += 1
            run.senders[asked.who] += 1
            after = portal.counts()
            wrong = [*faults_of(answer, secrets_of(portal)), *changes_of(asked, before, after)]
            before = after
            run.faults += [f"{number} {message(asked)}: {each}" for each in wrong]
            if len(run.faults) >= MAX_FAULTS:
                break
            portal.sign_in_again(asked.who, FORGETFUL)
    return run


def message(asked: Asked) -> str:
    """Return a request as a short line."""
    sent = asked.sent
    return (
        f"{asked.who} {sent.method[:20]} {sent.path[:80]!r} ?{sent.query[:200]!r}"
        f" {sent.body[:200]!r} {[(n[:30], v[:60]) for n, v in sent.headers[4:]]}"
        f"{' hangs up' if sent.hangs_up else ''}"
    )


# ── What an answer may be ─────────────────────────────────────────────────────────────────────
def faults_of(answer: Answer, secrets: list[str]) -> Iterator[str]:
    """Yield what is wrong with an answer, in which none of these secrets may stand."""
    if answer.error is not None:
        yield f"raised {answer.error!r}"
        return
    text = answer.body + b"\n" + b"\n".join(value for _, value in answer.headers)
    if answer.status >= 500 and not (answer.status == 503 and answer.header(b"retry-after")):
        words = re.sub(rb"<[^>]*>|\s+", b" ", answer.body)
        yield f"status {answer.status}: {words[-300:]!r}"
    if len(answer.body) > MAX_BODY_BYTES:
        yield f"a body of {len(answer.body)} bytes"
    yield from (f"says {word!r}" for word in INTERNAL if word in text)
    yield from (f"tells the secret {each!r}" for each in secrets if each and each.encode() in text)
    # It may come back in the address that somebody wrote it into, and in no page.
    if PASSWORD.encode() in answer.body:
        yield "tells a password"
    is_page = (answer.header(b"content-type") or b"").startswith(b"text/html")
    if is_page and (MARKUP.encode() in answer.body or b"<img src=x" in answer.body):
        yield "draws markup that was sent"
    yield from header_faults(answer)


def secrets_of(portal: FuzzedPortal) -> list[str]:
    """Return everybody's session tokens, and what the settings keep to themselves."""
    chosen = ChosenGateways(settings().gateways)
    assert chosen.vnpay
    assert chosen.stripe
    assert chosen.paypal
    kept = [chosen.vnpay.hash_secret, chosen.stripe.secret_key, chosen.paypal.client_secret]
    return [*portal.tokens.values(), SECRET_KEY, *kept]


def header_faults(answer: Answer) -> Iterator[str]:
    for name, expected in SECURITY_HEADERS.items():
        if answer.header(name) != expected:
            yield f"{name!r} is {answer.header(name)!r}"
    if b"default-src" not in (answer.header(b"content-security-policy") or b""):
        yield "no content policy"
    for name, value in answer.headers:
        if re.search(rb"[\r\n\x00]", name + value):
            yield f"a header of several lines: {name!r} {value!r}"
    location = answer.header(b"location")
    if location is not None and not is_own_address(location):
        yield f"sends the browser to {location[:200]!r}"
    for cookie in answer.headers_called(b"set-cookie"):
        if b"httponly" not in cookie.lower() or b"samesite" not in cookie.lower():
            yield f"sets the cookie {cookie!r}"


def is_own_address(location: bytes) -> bool:
    """Whether an address leads to this portal, or to the gateway of a payment of the history."""
    if re.fullmatch(rb"https://pay\.example\.com/[A-Za-z0-9-]+", location):
        return True
    return location.startswith((b"/", HERE.encode() + b"/")) and not re.match(
        rb"/[/\\]|.*[\x00-\x20\\]", location
    )


def changes_of(asked: Asked, before: dict[str, int], after: dict[str, int]) -> Iterator[str]:
    """Yield each table that a request added to or took from, and that it may not."""
    may = MAY_ADD.get(asked.route, set()) if asked.has_token else set()
    for name, count in after.items():
        if count != before[name] and name not in may:
            yield f"{name} had {before[name]} rows and has {count}"


# ── The fuzz ──────────────────────────────────────────────────────────────────────────────────
def test_no_request_to_any_own_route_is_answered_wrongly(fuzzed: FuzzedPortal) -> None:
    places = {name for route in fuzzed.routes for name in PLACEHOLDER.findall(route.path)}
    assert places == set(fuzzed.genuine.places), "a value that is genuine for each of a path"
    run = fuzz(fuzzed, REQUESTS, SEED)
    for route, statuses in sorted(run.statuses.items()):
        print(f"{statuses.total():6} {route} {dict(sorted(statuses.items()))}")  # noqa: T201
    assert not run.faults, "\n".join(run.faults)
    # Every route that the application mounts, each as often as any other.
    assert set(run.statuses) == {route.path for route in fuzzed.routes}
    each = {statuses.total() for statuses in run.statuses.values()}
    assert max(each) - min(each) <= 1
    assert set(run.senders) == set(fuzzed.tokens)
    sessions = make_sessions(database.engine(), session_info(fuzzed.history.clock))
    with sessions() as session:
        assert verify_ledger(session, actor=SYSTEM) == []


# ── What the fuzz would see ───────────────────────────────────────────────────────────────────
FINE = Answer(
    200,
    (
        *SECURITY_HEADERS.items(),
        (b"content-security-policy", b"default-src 'none'"),
        (b"content-type", b"text/html; charset=utf-8"),
        (b"set-cookie", b"form=x; HttpOnly; SameSite=strict"),
        (b"location", b"/sign-in?next=/usage"),
    ),
    b"<p>fine</p>",
)


def without(name: bytes) -> Headers:
    return tuple(pair for pair in FINE.headers if pair[0] != name)


def test_answer_as_it_should_be_has_no_fault() -> None:
    assert list(faults_of(FINE, ["a secret"])) == []
    busy = replace(FINE, status=503, headers=(*FINE.headers, (b"retry-after", b"10")))
    assert list(faults_of(busy, ["a secret"])) == []


@pytest.mark.parametrize(
    "answer",
    [
        replace(FINE, error=ValueError("escaped")),
        replace(FINE, status=500),
        replace(FINE, status=503),
        replace(FINE, body=b"x" * (MAX_BODY_BYTES + 1)),
        replace(FINE, body=b"Traceback (most recent call last)"),
        replace(FINE, body=b"(psycopg2.errors.UndefinedTable)"),
        replace(FINE, body=b"a secret"),
        replace(FINE, body=PASSWORD.encode()),
        replace(FINE, body=MARKUP.encode()),
        replace(FINE, headers=(*FINE.headers, (b"x-note", b"a secret"))),
        replace(FINE, headers=(*FINE.headers, (b"x-note", b"a\r\nb: c"))),
        replace(FINE, headers=(*FINE.headers, (b"set-cookie", b"session=x; HttpOnly"))),
        *(replace(FINE, headers=without(name)) for name in SECURITY_HEADERS),
        replace(FINE, headers=without(b"content-security-policy")),
        *(
            replace(FINE, headers=(*without(b"location"), (b"location", address)))
            for address in (
                *(
                    b"https://evil.example/",
                    b"//evil.example",
                    b"/\\evil.example",
                    b"evil",
                    b"/a b",
                ),
                b"http://localhost:8501.evil.example/",
            )
        ),
    ],
    ids=str,
)
def test_answer_that_is_wrong_is_a_fault(answer: Answer) -> None:
    assert list(faults_of(answer, ["a secret"]))


def test_row_that_a_stranger_adds_is_a_fault() -> None:
    sent = Sent("POST", b"/sign-up")
    before = {"users": 1, "entries": 5}
    more = {"users": 2, "entries": 5}
    assert (
        list(changes_of(Asked("/sign-up", "nobody", has_token=True, sent=sent), before, more)) == []
    )
    for asked in (
        Asked("/sign-up", "nobody", has_token=False, sent=sent),
        Asked("/sign-in", "nobody", has_token=True, sent=sent),
    ):
        assert list(changes_of(asked, before, more))
    asked = Asked("/sign-up", "nobody", has_token=True, sent=sent)
    assert list(changes_of(asked, before, {"users": 1, "entries": 6}))
    assert list(changes_of(asked, before, {"users": 1, "entries": 4}))
