"""Post journal entries of finance: balanced lines for what concerns no customer's credit.

Gateway fees, payouts to the bank, disputes as they open and are won, refunds as they are paid,
money that was refused and goes back, tax and differences of exchange. What moves credit is in the
ledger; the journal shows both.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import text

from domain import audit, clock
from domain.errors import IdempotencyMismatch, InvalidInput, NotFound
from domain.ledger.chart_of_accounts import find_account
from domain.ledger.idempotency import request_digest
from domain.ledger.periods import AccountingPeriods
from domain.money import check_micros, currency_exponent
from domain.permissions import require
from domain.validation import check_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

FINANCE_KINDS = (
    "payout",
    "gateway_fee",
    "dispute_opened",
    "dispute_won",
    "dispute_uncovered",
    "dispute_fee",
    "refund_paid",
    "unapplied_receipt",
    "unapplied_returned",
    "tax",
    "exchange_difference",
)

_SITE = text("SELECT time_zone FROM sites WHERE code = :code")
_ACCOUNT_SITE = text("SELECT site_code FROM accounts WHERE id = :account_id")
_CLAIM = text("""
INSERT INTO finance_postings (site_code, idempotency_key, request_hash)
VALUES (:site_code, :key, :request_hash)
ON CONFLICT (site_code, idempotency_key) DO NOTHING RETURNING id
""")
_FIND = text("""
SELECT id, request_hash FROM finance_postings
WHERE site_code = :site_code AND idempotency_key = :key
""")
_INSERT = text("""
INSERT INTO finance_entries (posting_id, line_number, site_code, account_id, kind, reference,
                             ledger_code, amount_micros, currency, occurred_at, posted_at,
                             accounting_date, actor)
VALUES (:posting_id, :line_number, :site_code, :account_id, :kind, :reference,
        :ledger_code, :amount_micros, :currency, :occurred_at, :posted_at,
        :accounting_date, :actor)
""")


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A debit (positive) or a credit (negative) on an account of the chart, such as 1110.stripe."""

    ledger_code: str
    amount_micros: int
    currency: str


def post_journal_entry(
    session: Session,
    *,
    site_code: str,
    kind: str,
    reference: str,
    lines: Sequence[JournalLine],
    occurred_at: datetime,
    actor: Actor,
    idempotency_key: str,
    account_id: int | None = None,
) -> int:
    """Post lines that balance in every currency, once, and return the posting's id.

    `reference` is the gateway's or the bank's own. Repeating the key with the same lines answers
    the first id; with others it raises IdempotencyMismatch. Raises InvalidInput for lines that do
    not balance, an account that the chart lacks or a date ahead, NotFound for an unknown site or a
    customer's account of another, and PeriodClosed.
    """
    require(actor, "post_journal_entry")
    codes = [line.ledger_code for line in lines]
    check_text(site_code=site_code, lines=codes, idempotency_key=idempotency_key)
    check_text(reference=reference)
    _check(kind, reference, lines, occurred_at)
    zone = _zone(session, site_code, account_id)
    request = {
        "kind": kind,
        "reference": reference,
        "account_id": account_id,
        "occurred_at": occurred_at.timestamp(),
        "lines": [(line.ledger_code, line.amount_micros, line.currency) for line in lines],
    }
    digest = request_digest(request)
    key = {"site_code": site_code, "key": idempotency_key}
    posting_id: int | None = session.execute(
        _CLAIM, {**key, "request_hash": digest}
    ).scalar_one_or_none()
    if posting_id is None:
        return _first_posting(session, key, digest)
    now = clock.now(session)
    if occurred_at > now:
        raise InvalidInput("occurred_at", "in_future")
    day = occurred_at.astimezone(zone).date()
    shared = {
        "posting_id": posting_id,
        "site_code": site_code,
        "account_id": account_id,
        "kind": kind,
        "reference": reference,
        "occurred_at": occurred_at,
        "posted_at": now,
        "accounting_date": AccountingPeriods(session, now).accounting_date(site_code, zone, day),
        "actor": audit.actor_name(actor),
    }
    _insert(session, shared, lines)
    details = {"posting": posting_id, "kind": kind, "reference": reference}
    audit.record(
        session, action="post_journal_entry", actor=actor, account_id=account_id, details=details
    )
    return posting_id


def _check(kind: str, reference: str, lines: Sequence[JournalLine], occurred_at: datetime) -> None:
    if kind not in FINANCE_KINDS:
        raise InvalidInput("kind", "unknown")
    if not reference.strip():
        raise InvalidInput("reference", "empty")
    if occurred_at.tzinfo is None:
        raise InvalidInput("occurred_at", "no_time_zone")
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        if not line.ledger_code.strip() or check_micros(line.amount_micros) == 0:
            raise InvalidInput("lines", "empty")
        if find_account(line.ledger_code) is None:
            raise InvalidInput("lines", "unknown_account")
        currency_exponent(line.currency)
        sums[line.currency] += line.amount_micros
    if not sums or any(sums.values()):
        raise InvalidInput("lines", "not_balanced")


def _zone(session: Session, site_code: str, account_id: int | None) -> ZoneInfo:
    name = session.execute(_SITE, {"code": site_code}).scalar_one_or_none()
    if name is None:
        raise NotFound("site")
    if account_id is not None:
        site = session.execute(_ACCOUNT_SITE, {"account_id": account_id}).scalar_one_or_none()
        if site != site_code:
            raise NotFound("account")
    return ZoneInfo(name)


def _first_posting(session: Session, key: dict[str, str], digest: bytes) -> int:
    found = session.execute(_FIND, key).one()
    if bytes(found.request_hash) != digest:
        raise IdempotencyMismatch(key["key"])
    posting_id: int = found.id
    return posting_id


def _insert(session: Session, shared: dict[str, object], lines: Sequence[JournalLine]) -> None:
    session.execute(
        _INSERT,
        [
            {
                **shared,
                "line_number": number,
                "ledger_code": line.ledger_code,
                "amount_micros": line.amount_micros,
                "currency": line.currency,
            }
            for number, line in enumerate(lines, start=1)
        ],
    )
