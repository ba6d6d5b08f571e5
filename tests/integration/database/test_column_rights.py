"""The role that the portal runs under changes what changes by design, and nothing else."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from db.engine import RUNTIME_ROLE, make_engine
from db.models import Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

CHANGES_BY_DESIGN = {
    "account_balances": "balance_micros held_micros last_entry_sequence last_grant_number"
    " last_hold_number last_refusal_number carries",
    "account_freezes": "frozen_at frozen_by lifted_at",
    "accounting_periods": "is_closed version changed_at changed_by",
    "accounts": "currency status currency_locked_at",
    "approval_requests": "state decided_by decided_at remark",
    "bank_transfers": "state decided_by decided_at payment_id",
    "campaign_amounts": "granted_micros redemptions",
    "campaigns": "state codes decided_by decided_at ended_by ended_at",
    "daily_quantities": "quantity",
    "daily_totals": "amount_micros entries calls",
    "debts": "due_micros opened_at",
    "disputes": "state pay_micros lost_micros held_micros outflow_micros unapplied_micros"
    " clawed_back_micros credit_micros reason respond_by closed_at stated_at revision fee_micros"
    " fee_currency",
    "exchange_rates": "state decided_by decided_at",
    "grant_balances": "remaining_micros held_micros is_open clawed_back_micros expired_micros",
    "payment_reviews": "state decided_by decided_at decision_reason return_state returned_by"
    " returned_at return_reference",
    "payments": "state pay_micros credit_micros expires_at redirect_url gateway_reference"
    " gateway_payment_id method code pay_by paid_at credited_at entry_sequence grant_number"
    " fee_micros fee_currency refunded_micros disputed_micros has_receipt next_check_at checks",
    "refunds": "gateway_refund_id state outflow_micros"
    " unapplied_micros clawed_back_micros credit_micros settled_at stated_at revision"
    " has_credit_note next_check_at checks",
    "site_totals": "amount_micros entries calls",
    "staff_invitations": "token_digest invited_by expires_at accepted_at accepted_by withdrawn_at",
    "staff_role_requests": "state decided_by decided_at remark",
    "voucher_codes": "uses revoked_at revoked_by revoked_reason",
}
INSERT_ONLY = (
    "allocations",
    "campaign_parts",
    "catalogue_versions",
    "documents",
    "entries",
    "exchange_quotes",
    "finance_entries",
    "finance_postings",
    "grants",
    "hold_allocations",
    "hold_resolutions",
    "holds",
    "idempotency_keys",
    "open_holds",
    "payment_credits",
    "payment_events",
    "prices",
    "refusals",
    "staff_acts",
    "tax_policies",
    "total_changes",
    "usage_events",
    "usage_keys",
    "voucher_batches",
    "voucher_redemptions",
)
"""Tables of money in which no column changes; of open_holds and total_changes rows are deleted."""

MONEY = {**dict.fromkeys(INSERT_ONLY, ""), **CHANGES_BY_DESIGN}
ROWS_GO = {"open_holds", "staff_invitations", "total_changes", "usage_keys"}
"""Whose rows are deleted by design: queues, and keys and invitations after their retention."""


@pytest.fixture(scope="module")
def runtime(make_database: Callable[[], str]) -> Iterator[Connection]:
    """A connection as the portal's own, to one database for all that is asked here."""
    engine = make_engine(make_database())
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar_one() == RUNTIME_ROLE
        yield connection
    engine.dispose()


def answer(runtime: Connection, statement: str) -> str:
    """Return why a statement is refused, or nothing where it is carried out."""
    try:
        with runtime.begin_nested():
            runtime.execute(text(statement))
    except ProgrammingError as error:
        return str(error.orig)
    return ""


def test_a_user_who_may_not_become_the_runtime_role_is_told_of(
    database_url: str,
    run_on_server: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = f"stranger_{uuid.uuid4().hex[:8]}"
    run_on_server(f"CREATE ROLE {name} LOGIN PASSWORD 'stranger'")
    url = make_url(database_url).set(username=name, password="stranger")
    engine = make_engine(url.render_as_string(hide_password=False))
    try:
        for _ in range(2):
            with engine.connect():
                pass
            engine.dispose()
    finally:
        run_on_server(f"DROP ROLE {name}")
    (message,) = [record.getMessage() for record in caplog.records if record.name == "db.engine"]
    assert f"may not become {RUNTIME_ROLE}" in message


@pytest.mark.parametrize("table", sorted(MONEY))
def test_update_by_the_runtime_role_reaches_only_columns_that_change(
    runtime: Connection, table: str
) -> None:
    answers = {
        column.name: answer(runtime, f'UPDATE {table} SET "{column.name}" = DEFAULT WHERE false')  # noqa: S608 - names of our own models
        for column in Base.metadata.tables[table].c
    }
    allowed = {name for name, why in answers.items() if not why}
    assert allowed == set(MONEY[table].split())
    assert all("permission denied" in why for name, why in answers.items() if name not in allowed)


@pytest.mark.parametrize("table", sorted(MONEY))
def test_delete_by_the_runtime_role_reaches_only_queues_and_old_keys(
    runtime: Connection, table: str
) -> None:
    why = answer(runtime, f"DELETE FROM {table} WHERE false")  # noqa: S608 - a name of our own models
    assert ("permission denied" in why) == (table not in ROWS_GO)
