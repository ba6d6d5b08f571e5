"""Define the SQL statements of a posting, each for all rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Table = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]


_ENTRY_COLUMNS = (
    "account_id",
    "account_sequence",
    "kind",
    "service",
    "source",
    "description_code",
    "description_parameters",
    "amount_micros",
    "balance_after_micros",
    "occurred_at",
    "posted_at",
    "accounting_date",
    "actor",
    "reverses_sequence",
)
_ALLOCATION_COLUMNS = (
    "account_id",
    "account_sequence",
    "line_number",
    "grant_number",
    "amount_micros",
    "remaining_after_micros",
    "consideration_micros",
    "tax_micros",
    "debt_service",
    "debt_cause",
)
UPDATE_BALANCES = """
UPDATE account_balances b
SET balance_micros = n.balance, held_micros = n.held, last_entry_sequence = n.entry,
    last_grant_number = n.grant_number, last_hold_number = n.hold, last_refusal_number = n.refusal,
    carries = n.carries
FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(balances)s AS bigint[]),
            CAST(%(held)s AS bigint[]), CAST(%(entries)s AS bigint[]),
            CAST(%(grants)s AS bigint[]), CAST(%(holds)s AS bigint[]),
            CAST(%(refusals)s AS bigint[]), CAST(%(carries)s AS jsonb[]))
     AS n(id, balance, held, entry, grant_number, hold, refusal, carries)
WHERE b.account_id = n.id
"""
UPDATE_GRANTS = """
UPDATE grant_balances r
SET remaining_micros = n.remaining, held_micros = n.held, clawed_back_micros = n.taken,
    expired_micros = n.expired, is_open = n.remaining > 0 OR n.number = 0
FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(numbers)s AS bigint[]),
            CAST(%(remaining)s AS bigint[]), CAST(%(held)s AS bigint[]),
            CAST(%(taken)s AS bigint[]), CAST(%(expired)s AS bigint[]))
     AS n(id, number, remaining, held, taken, expired)
WHERE r.account_id = n.id AND r.grant_number = n.number
"""
SAVE_DEBTS = """
INSERT INTO debts (account_id, service, cause, due_micros, opened_at)
SELECT * FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(services)s AS text[]),
                     CAST(%(causes)s AS text[]), CAST(%(owed)s AS bigint[]),
                     CAST(%(opened)s AS timestamptz[]))
ON CONFLICT (account_id, service, cause)
DO UPDATE SET due_micros = EXCLUDED.due_micros, opened_at = EXCLUDED.opened_at
"""
COLUMNS: dict[str, tuple[str, ...]] = {
    "entries": _ENTRY_COLUMNS,
    "idempotency_keys": ("account_id", "key", "operation", "request_hash", "answer"),
    "audit_log": ("account_id", "actor", "address", "action", "details"),
    "grants": (
        "account_id",
        "grant_number",
        "kind",
        "amount_micros",
        "consideration_micros",
        "services",
        "starts_at",
        "expires_at",
        "priority",
        "origin",
        "paid_micros",
        "paid_currency",
        "tax_point",
        "tax_rate",
        "place_of_supply",
        "customer_tax_status",
        "granted_at",
        "entry_sequence",
    ),
    "grant_balances": (
        "account_id",
        "grant_number",
        "kind",
        "amount_micros",
        "consideration_micros",
        "rate_millionths",
        "services",
        "starts_at",
        "expires_at",
        "priority",
        "granted_at",
        "remaining_micros",
        "held_micros",
        "is_open",
        "clawed_back_micros",
        "expired_micros",
    ),
    "allocations": _ALLOCATION_COLUMNS,
    "refusals": (
        "account_id",
        "refusal_number",
        "operation",
        "reason",
        "service",
        "source",
        "description_code",
        "description_parameters",
        "amount_micros",
        "available_micros",
        "occurred_at",
        "posted_at",
        "actor",
    ),
    "usage_keys": (
        "account_id",
        "origin",
        "event_id",
        "request_hash",
        "account_sequence",
        "refusal_number",
        "recorded_at",
    ),
    "usage_events": (
        "account_id",
        "account_sequence",
        "line_number",
        "origin",
        "event_id",
        "service",
        "model",
        "occurred_at",
        "quantities",
        "exact_micros",
        "catalogue_version",
    ),
    "holds": (
        "account_id",
        "hold_number",
        "service",
        "source",
        "description_code",
        "description_parameters",
        "amount_micros",
        "placed_at",
        "expires_at",
        "actor",
    ),
    "hold_allocations": ("account_id", "hold_number", "grant_number", "amount_micros"),
    "open_holds": ("account_id", "hold_number", "expires_at"),
    "hold_resolutions": (
        "account_id",
        "hold_number",
        "outcome",
        "entry_sequence",
        "resolved_at",
        "actor",
    ),
}
"""The tables that a posting adds rows to, in an order that foreign keys allow."""
