"""Read the timeline of an account, with everything that happened to it, for staff.

Postings, usage by the day, steps of payments, what staff requested and did, notes, and what people
changed: each comes from the table that keeps it, by an index, a page at a time. An event that
several tables keep is taken from one of them: an entry before a step, a step before the audit log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from domain.accounts.queries import site_zone
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True, order=True)
class TimelineCursor:
    """Where a page ends: the next one is older than this."""

    at: datetime
    rank: int
    number: int


@dataclass(frozen=True, slots=True)
class TimelineItem:
    """One thing that happened.

    `kind` is entry, usage (of a day), payment, act (that posted nothing, as a voucher that was
    issued), request, note or change; `code` says what it was within its kind. `amount_micros` is
    credit that moved, and None where none did: an amount that was only requested, or is of a
    voucher that waits, stands in `details` with its currency. `actor` and `checker` are named as
    facts name people. `details` holds what is told of it, as its table keeps it; for a payment's
    step, `reference` names the payment.
    """

    kind: str
    code: str
    at: datetime
    number: int
    amount_micros: int | None
    actor: str
    checker: str | None
    reference: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TimelinePage:
    """Items, the newest first, and where older ones begin (None: there are none)."""

    items: tuple[TimelineItem, ...]
    older: TimelineCursor | None


_KINDS = ("note", "request", "act", "change", "payment", "usage", "entry")

_ENTRIES = """
SELECT e.occurred_at AS at, 6 AS rank, e.account_sequence AS number, e.description_code AS code,
       e.amount_micros AS amount, coalesce(s.maker, e.actor) AS actor, s.checker AS checker,
       NULL AS reference,
       jsonb_build_object('kind', e.kind, 'parameters', e.description_parameters,
                          'reason', s.reason) AS details
FROM unnest(ARRAY['top_up', 'voucher', 'plan', 'adjustment', 'expiry', 'refund', 'dispute',
                  'write_off', 'reversal', 'settlement_of_debt']) AS k (kind)
CROSS JOIN LATERAL (
  SELECT * FROM entries
  WHERE account_id = :account_id AND kind = k.kind AND kind <> 'charge'
    AND occurred_at <= :at AND (occurred_at, 6, account_sequence) < (:at, :rank, :number)
  ORDER BY occurred_at DESC, account_sequence DESC LIMIT :most
) e
LEFT JOIN LATERAL (
  SELECT maker, checker, reason FROM staff_acts
  WHERE account_id = e.account_id AND e.account_sequence = ANY (entries) LIMIT 1
) s ON true
"""

_USAGE = """
SELECT d.at, 5, d.day - DATE '1970-01-01', 'usage', d.amount, 'system:metering', NULL, NULL,
       jsonb_build_object('day', d.day, 'charges', d.charges, 'calls', d.calls)
FROM (
  SELECT day, sum(amount_micros) AS amount, sum(entries) AS charges, sum(calls) AS calls,
         least(CAST(day + 1 AS timestamp) AT TIME ZONE :zone, now()) AS at
  FROM daily_totals
  WHERE account_id = :account_id AND kind = 'charge' AND :with_usage
    AND day <= CAST(CAST(:at AS timestamptz) AT TIME ZONE :zone AS date)
  GROUP BY day ORDER BY day DESC LIMIT :most + 2
) d
WHERE (d.at, 5, d.day - DATE '1970-01-01') < (:at, :rank, :number)
"""

# A step whose entry tells of the same event is left out, and so is the credit of a campaign.
_PAYMENTS = """
SELECT v.happened_at, 4, v.id, v.kind, CAST(NULL AS bigint), v.actor, NULL, p.reference,
       jsonb_build_object('gateway', p.gateway, 'amount',
         CASE WHEN v.kind = 'created' THEN jsonb_build_array(p.pay_micros, p.pay_currency) END)
FROM payment_events v JOIN payments p ON p.id = v.payment_id
WHERE v.account_id = :account_id AND NOT v.details ? 'entry' AND v.kind <> 'starter_pack'
  AND (v.happened_at, 4, v.id) < (:at, :rank, :number)
"""

# What has rows of its own above, and what is only a look, is left out.
_CHANGES = """
SELECT recorded_at, 3, id, action, CAST(NULL AS bigint), actor, NULL, NULL, details
FROM audit_log
WHERE account_id = :account_id AND actor LIKE 'user:%'
  AND action NOT IN ('add_grant', 'reverse_entry', 'refund', 'dispute', 'redeem_voucher',
                     'start_payment', 'look_at_account', 'look_at_payment', 'choose_account',
                     'request_approval', 'approved_request', 'rejected_request',
                     'withdrawn_request', 'issue_voucher', 'apply_code', 'give_goodwill',
                     'add_note', 'add_codes', 'approved_transfer', 'acceptance_requested',
                     'acceptance_approved', 'rejected_by_staff', 'record_return', 'record_payout',
                     'cancel_refund', 'refund_payment', 'discrepancy_reviewed')
  AND (recorded_at, 3, id) < (:at, :rank, :number)
"""

_ACTS = """
SELECT acted_at, 2, id, action, CAST(NULL AS bigint), maker, checker, NULL,
       jsonb_build_object('reason', reason, 'code', right(code, 4),
                          'amount', jsonb_build_array(amount_micros, currency))
FROM staff_acts
WHERE account_id = :account_id AND cardinality(entries) = 0 AND action <> 'refund_payment'
  AND (acted_at, 2, id) < (:at, :rank, :number)
"""

_REQUESTS = """
SELECT requested_at, 1, id, action, CAST(NULL AS bigint), requested_by, decided_by, NULL,
       jsonb_build_object('reason', reason, 'state', state, 'remark', remark,
                          'amount', jsonb_build_array(amount_micros, currency))
FROM approval_requests
WHERE account_id = :account_id AND (requested_at, 1, id) < (:at, :rank, :number)
"""

_NOTES = """
SELECT written_at, 0, id, 'note', CAST(NULL AS bigint), written_by, NULL, NULL,
       jsonb_build_object('text', text)
FROM account_notes
WHERE account_id = :account_id AND (written_at, 0, id) < (:at, :rank, :number)
"""

_SOURCES = (_ENTRIES, _USAGE, _PAYMENTS, _CHANGES, _ACTS, _REQUESTS, _NOTES)
_NEWEST_OF_EACH = " UNION ALL ".join(
    f"({each} ORDER BY 1 DESC, 3 DESC LIMIT :most)" for each in _SOURCES
)
_PAGE = "SELECT * FROM ({}) AS happened ORDER BY at DESC, rank DESC, number DESC LIMIT :most"


def account_timeline(
    session: Session,
    *,
    actor: Actor,
    account_id: int,
    older_than: TimelineCursor | None = None,
    with_usage: bool = True,
    page_size: int = PAGE_SIZE,
) -> TimelinePage:
    """Return the newest of what happened to an account, or what is older than a cursor.

    The usage of each day can be left out, which is most of it.

    Raises NotAuthorised for anyone who is no staff, NotFound.
    """
    require(actor, "see_timeline")
    values: dict[str, Any] = {
        "account_id": account_id,
        "zone": site_zone(session, account_id=account_id),
        "most": page_size + 1,
        "with_usage": with_usage,
        "at": "infinity" if older_than is None else older_than.at,
        "rank": len(_KINDS) if older_than is None else older_than.rank,
        "number": 0 if older_than is None else older_than.number,
    }
    rows = session.execute(text(_PAGE.format(_NEWEST_OF_EACH)), values).all()
    shown = rows[:page_size]
    last = shown[-1] if len(rows) > page_size else None
    return TimelinePage(
        items=tuple(
            TimelineItem(
                kind=_KINDS[row.rank],
                code=row.code,
                at=row.at,
                number=row.number,
                amount_micros=None if row.amount is None else int(row.amount),
                actor=row.actor,
                checker=row.checker,
                reference=row.reference,
                details=row.details,
            )
            for row in shown
        ),
        older=None if last is None else TimelineCursor(last.at, last.rank, last.number),
    )
