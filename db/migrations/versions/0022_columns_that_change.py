"""The runtime role may change only what changes by design, column by column.

A right to update a whole table let one statement rewrite what a payment is about, whose a code is,
or the terms of a grant. What is written once is now as safe there as in an insert-only table.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"

RUNTIME_ROLE = "credit_portal_runtime"

COLUMNS = {
    "account_balances": (
        "balance_micros",
        "held_micros",
        "last_entry_sequence",
        "last_grant_number",
        "last_hold_number",
        "last_refusal_number",
        "carries",
    ),
    "account_freezes": ("frozen_at", "frozen_by", "lifted_at"),
    "accounting_periods": ("is_closed", "version", "changed_at", "changed_by"),
    "accounts": ("currency", "status", "currency_locked_at"),
    "approval_requests": ("state", "decided_by", "decided_at", "remark"),
    "bank_transfers": ("state", "decided_by", "decided_at", "payment_id"),
    "campaign_amounts": ("granted_micros", "redemptions"),
    "campaigns": ("state", "codes", "decided_by", "decided_at", "ended_by", "ended_at"),
    "daily_quantities": ("quantity",),
    "daily_totals": ("amount_micros", "entries", "calls"),
    "debts": ("owed_micros", "opened_at"),
    "disputes": (
        "state",
        "pay_micros",
        "lost_micros",
        "held_micros",
        "outflow_micros",
        "unapplied_micros",
        "clawed_back_micros",
        "credit_micros",
        "reason",
        "respond_by",
        "closed_at",
        "stated_at",
        "revision",
        "fee_micros",
        "fee_currency",
    ),
    "exchange_rates": ("state", "decided_by", "decided_at"),
    "grant_balances": (
        "remaining_micros",
        "held_micros",
        "is_open",
        "taken_micros",
        "expired_micros",
    ),
    "payment_reviews": (
        "state",
        "decided_by",
        "decided_at",
        "decision_reason",
        "return_state",
        "returned_by",
        "returned_at",
        "return_reference",
    ),
    "payments": (
        "state",
        "pay_micros",  # what came, where people accept another amount than was asked for
        "credit_micros",
        "expires_at",
        "redirect_url",
        "gateway_reference",
        "gateway_payment_id",
        "method",
        "code",
        "pay_by",
        "paid_at",
        "credited_at",
        "entry_sequence",
        "grant_number",
        "fee_micros",
        "fee_currency",
        "refunded_micros",
        "disputed_micros",
        "has_receipt",
        "next_check_at",
        "checks",
    ),
    "refunds": (
        "gateway_refund_id",
        "state",
        "outflow_micros",
        "unapplied_micros",
        "clawed_back_micros",
        "credit_micros",
        "settled_at",
        "stated_at",
        "revision",
        "has_credit_note",
        "next_check_at",
        "checks",
    ),
    "site_totals": ("amount_micros", "entries", "calls"),
    "voucher_codes": ("uses", "revoked_at", "revoked_by", "revoked_reason"),
}
"""The columns of money's tables that services change, and no others."""

KEPT = ("account_balances", "accounting_periods", "accounts", "debts", "grant_balances")
"""Tables whose rows nobody deletes."""


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        op.execute(f"REVOKE UPDATE ON {table} FROM {RUNTIME_ROLE}")
        op.execute(f"GRANT UPDATE ({', '.join(columns)}) ON {table} TO {RUNTIME_ROLE}")
    op.execute(f"REVOKE DELETE ON {', '.join(KEPT)} FROM {RUNTIME_ROLE}")
    op.execute(f"REVOKE UPDATE ON open_holds FROM {RUNTIME_ROLE}")


def downgrade() -> None:
    for table, columns in COLUMNS.items():
        op.execute(f"REVOKE UPDATE ({', '.join(columns)}) ON {table} FROM {RUNTIME_ROLE}")
    op.execute(f"GRANT UPDATE ON {', '.join(COLUMNS)} TO {RUNTIME_ROLE}")
    op.execute(f"GRANT DELETE ON {', '.join(KEPT)} TO {RUNTIME_ROLE}")
    op.execute(f"GRANT UPDATE ON open_holds TO {RUNTIME_ROLE}")
