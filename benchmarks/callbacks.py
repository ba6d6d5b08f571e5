"""A gateway that sends 200 webhooks a second while people look at pages.

Of all that is sent, 30 % are repetitions and 10 % have a wrong signature. Every payment must be
credited once, and the slowest hundredth is printed beside that of a route which does nothing,
requested in the same seconds. CALLBACKS_SECONDS sets how long.

Before that, genuine webhooks are sent alone, and then beside a flood of forged ones of another
gateway whose certificates are slow to download: the ratio of the slowest hundredths is printed.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import quantiles
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx2
from sqlalchemy import text
from websockets.exceptions import ConnectionClosed

from benchmarks.charging import ACTOR
from benchmarks.forged import forged_webhooks, paypal_environment, slow_certificates
from benchmarks.sessions import OUTSIDE_DEMO, PASSWORD, Figures, Person, server, sign_in_all
from domain import accounts, identity
from domain.actors import MemberRole, user_actor
from domain.billing_profiles import BillingProfile, ProfileKind, save_profile
from domain.gateways.vnpay.client import VNPay
from domain.gateways.vnpay.fields import hash_data, sign
from domain.gateways.vnpay.settings import VNPaySettings
from domain.money import Money
from domain.payments import CONSENT_VERSION, start_payment

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.sessions import Server
    from benchmarks.yardstick import Pgbench

PER_SECOND = 200
SECONDS = float(os.environ.get("CALLBACKS_SECONDS", "30"))
REPEATED, FORGED = 0.3, 0.1
PAYMENTS_OF_AN_ACCOUNT = 10
PEOPLE = 20
PROBES_PER_SECOND = 20
ISOLATION_PER_SECOND = 40
ISOLATION_SECONDS = min(SECONDS, 10.0)
AMOUNT = Money.from_minor_units(500_000, "VND")
KEYS = VNPaySettings(
    tmn_code="BENCHTMN",
    hash_secret="the-benchmark-signs-with-these-words",  # noqa: S106 - as long as it runs
    pay_url="https://pay.example.com",
    api_url="https://pay.example.com",
    is_sandbox=False,
)
_LANES = 64
_WARM_UP = 20
# On a busy machine every request takes longer, and the figures show it: no client times out. A
# client without a connection waits in the queue for as long as it takes.
_PATIENCE = httpx2.Timeout(300, pool=None)


@dataclass
class Answers:
    """What was received, and how long each answer took in seconds."""

    codes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    probe_seconds: list[float] = field(default_factory=list)
    sent_seconds: float = 0.0
    handled_seconds: float = 0.0
    pages: Figures = field(default_factory=Figures)


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Print what happened to the webhooks and how slow the slowest hundredth was."""
    total = int(PER_SECOND * SECONDS)
    fresh = int(total * (1 - REPEATED - FORGED))
    alone = int(ISOLATION_PER_SECOND * ISOLATION_SECONDS)
    references = _begin_payments(sessions, fresh + 2 * alone)
    people = _add_people(sessions)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {
            "DATABASE_URL": sessions.kw["bind"].url.render_as_string(hide_password=False),
            **OUTSIDE_DEMO,
            "JOBS": "0",
            "VNPAY_TMN_CODE": KEYS.tmn_code,
            "VNPAY_HASH_SECRET": KEYS.hash_secret,
            **paypal_environment(listener),
        }
        queries = _queries(references[: -2 * alone], total)
        first, second = references[-2 * alone : -alone], references[-alone:]
        with server(["-m", "portal", "serve", "--port"], environment) as portal:
            cookies = sign_in_all(portal.address, people)
            asyncio.run(_measure_isolation(portal, listener, _good(first), _good(second)))
            answers = asyncio.run(_load(portal, queries, cookies))
    _report(sessions, answers, len(references))


def _begin_payments(sessions: sessionmaker[Session], count: int) -> list[str]:
    gateway = VNPay(KEYS)
    references: list[str] = []
    while len(references) < count:
        with sessions.begin() as session:
            account = _account(session)
            owner = user_actor(1, memberships={account: MemberRole.OWNER})
            for number in range(min(PAYMENTS_OF_AN_ACCOUNT, count - len(references))):
                started = start_payment(
                    session,
                    account_id=account,
                    gateway=gateway,
                    credit=AMOUNT,
                    quote_id=None,
                    consent_version=CONSENT_VERSION,
                    language="en",
                    actor=owner,
                    idempotency_key=f"payment-{number}",
                )
                references.append(started.reference)
    gateway.close()
    return references


def _account(session: Session) -> int:
    account = accounts.open_account(
        session, site_code="vn", name="Account", currency="VND", actor=ACTOR
    )
    save_profile(
        session,
        account_id=account,
        profile=BillingProfile(
            ProfileKind.PERSONAL, "Lan Tran", "lan@example.com", "1 Sample Street", "VN"
        ),
        currency=None,
        expected_version=0,
        actor=ACTOR,
        idempotency_key="profile",
    )
    return account


def _add_people(sessions: sessionmaker[Session]) -> list[str]:
    emails = [f"person-{number}@example.com" for number in range(PEOPLE)]
    with sessions.begin() as session:
        account = _account(session)
        for email in emails:
            user = identity.create_user(
                session,
                email=email,
                display_name="Person",
                password=PASSWORD,
                staff_role=None,
                actor=ACTOR,
            )
            accounts.add_member(
                session, account_id=account, user_id=user, role=MemberRole.READER, actor=ACTOR
            )
    return emails


def _queries(references: list[str], total: int) -> list[str]:
    """Return the addresses' queries in the order in which they are sent."""
    chance = random.Random(1)
    good = _good(references)
    forged = [
        _query(chance.choice(references), "another-secret") for _ in range(int(total * FORGED))
    ]
    repeated = [chance.choice(good) for _ in range(total - len(good) - len(forged))]
    sent = [*good, *forged, *repeated]
    chance.shuffle(sent)
    return sent


def _good(references: list[str]) -> list[str]:
    return [_query(reference, KEYS.hash_secret) for reference in references]


def _query(reference: str, secret: str) -> str:
    given = {
        "vnp_TmnCode": KEYS.tmn_code,
        "vnp_Amount": str(AMOUNT.to_minor_units() * 100),
        "vnp_ResponseCode": "00",
        "vnp_TransactionNo": str(int(reference, 36)),
        "vnp_TransactionStatus": "00",
        "vnp_TxnRef": reference,
    }
    return urlencode({**given, "vnp_SecureHash": sign(secret, hash_data(given.items()))})


async def _load(portal: Server, queries: list[str], cookies: list[str]) -> Answers:
    answers = Answers()
    until = time.monotonic() + SECONDS
    async with asyncio.TaskGroup() as group:
        for number, cookie in enumerate(cookies):
            person = Person(portal, cookie, ("", "tab=history"), number, answers.pages)
            group.create_task(_signed_in_user(person, until, answers.pages))
        group.create_task(_probe(portal, answers, until))
        await _send_all(portal, queries, PER_SECOND, answers)
    return answers


async def _signed_in_user(person: Person, until: float, figures: Figures) -> None:
    try:
        await person.user(time.monotonic(), until)
    except (TimeoutError, ConnectionClosed):
        figures.failures += 1


async def _send_all(
    portal: Server, queries: list[str], per_second: float, answers: Answers
) -> None:
    """Send at a steady pace, however long the answers take, and wait for all of them."""
    limits = httpx2.Limits(max_connections=_LANES, max_keepalive_connections=_LANES)
    async with (
        httpx2.AsyncClient(base_url=portal.address, limits=limits, timeout=_PATIENCE) as client,
        asyncio.TaskGroup() as group,
    ):
        started = time.monotonic()
        for number, query in enumerate(queries):
            await asyncio.sleep(max(0, started + number / per_second - time.monotonic()))
            group.create_task(_send(client, query, answers))
        answers.sent_seconds = time.monotonic() - started
    answers.handled_seconds = time.monotonic() - started


async def _send(client: httpx2.AsyncClient, query: str, answers: Answers) -> None:
    started = time.perf_counter()
    try:
        answer = await client.get(f"/webhooks/vnpay?{query}")
    except httpx2.HTTPError as error:
        answers.codes[type(error).__name__] += 1
        return
    answers.seconds.append(time.perf_counter() - started)
    is_read = answer.status_code == httpx2.codes.OK
    answers.codes[answer.json()["RspCode"] if is_read else f"HTTP {answer.status_code}"] += 1


async def _probe(portal: Server, answers: Answers, until: float) -> None:
    # Connections of its own: those of the webhooks may all be waiting.
    async with httpx2.AsyncClient(base_url=portal.address, timeout=_PATIENCE) as client:
        while time.monotonic() < until:
            started = time.perf_counter()
            try:
                await client.get("/health")
            except httpx2.HTTPError:
                answers.pages.failures += 1
            answers.probe_seconds.append(time.perf_counter() - started)
            await asyncio.sleep(1 / PROBES_PER_SECOND)


async def _measure_isolation(
    portal: Server, listener: socket.socket, first: list[str], second: list[str]
) -> None:
    """Print what a flood of forged webhooks of another gateway does to genuine ones."""
    alone, beside = Answers(), Answers()
    await _send_all(portal, first[:_WARM_UP], ISOLATION_PER_SECOND, Answers())
    await _send_all(portal, first[_WARM_UP:], ISOLATION_PER_SECOND, alone)
    async with slow_certificates(listener), forged_webhooks(portal.address) as forged:
        await _send_all(portal, second, ISOLATION_PER_SECOND, beside)
        answered = Counter(forged)
    quiet, flooded = (_percentile(one.seconds, 99) * 1000 for one in (alone, beside))
    print(
        f"callbacks, isolation: p99 {flooded:.0f} ms beside a flood in the name of another gateway"
        f" ({dict(answered)} answered meanwhile), {quiet:.0f} ms without,"
        f" {flooded / quiet:.1f} x (goal 2)"
    )


def _report(sessions: sessionmaker[Session], answers: Answers, expected: int) -> None:
    counts = text(
        "SELECT (SELECT count(*) FROM payments WHERE state = 'succeeded'),"
        " (SELECT count(*) FROM entries WHERE kind = 'top_up'),"
        " (SELECT count(DISTINCT description_parameters ->> 'origin') FROM entries)"
    )
    with sessions() as session:
        succeeded, entries, distinct = session.execute(counts).one()
    p50, p99 = (_percentile(answers.seconds, percent) * 1000 for percent in (50, 99))
    probe = _percentile(answers.probe_seconds, 99) * 1000
    print(f"callbacks: {sum(answers.codes.values())} sent, answered {dict(answers.codes)}")
    print(
        f"callbacks: {expected} payments, {succeeded} succeeded, {entries} entries,"
        f" {distinct} of them different (all four the same)"
    )
    print(
        f"callbacks: sent in {answers.sent_seconds:.0f} s, handled in"
        f" {answers.handled_seconds:.0f} s, p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        f" (goal 2000); an empty route's p99 {probe:.0f} ms;"
        f" {len(answers.pages.all_seconds)} reruns of pages, {answers.pages.failures} failures"
    )


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1] if len(values) > 1 else math.nan
