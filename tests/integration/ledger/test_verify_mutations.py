"""verify-ledger finds what is done to any column of money, and to any row of it.

A history in which everything has happened is damaged, one value at a time. What nobody can prove is
listed with its reason in docs/ledger.md: nothing else may go unseen, and nothing there may be seen.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

from db.engine import make_engine
from db.models import Base
from domain import ledger
from domain.ledger.verify_checks import CHECKS
from tests.conftest import TestClock
from tests.factories import SYSTEM
from tests.support.mutations import Damage, Rows
from tests.support.rich_history import RichHistory, rich_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(600)

DOCUMENT = Path(__file__).parents[3] / "docs" / "ledger.md"
HEADING = "## What verify-ledger cannot prove"


def each(table: str, column: str, *values: str) -> tuple[Rows, ...]:
    """Return the kinds of rows that a column tells apart."""
    return tuple(Rows(table, value, f"{column} = '{value}'") for value in values)


def having(table: str, name: str, other: str, condition: str, *keys: str) -> Rows:
    """Return the rows of a table for which another has a row of the same keys."""
    same = " AND ".join(f"o.{key} = {table}.{key}" for key in keys)
    return Rows(table, name, f"EXISTS (SELECT FROM {other} o WHERE {same} AND {condition})")


HOLD = ("account_id", "hold_number")
METERED = having("entries", "", "usage_events", "true", "account_id", "account_sequence").condition
POSTED_FOR_PAYMENTS = (
    "gateway_fee",
    "dispute_opened",
    "dispute_won",
    "dispute_uncovered",
    "dispute_fee",
    "refund_paid",
    "unapplied_receipt",
    "unapplied_returned",
    "payout",
)

ROWS = (
    Rows("accounts", "", "id IN (SELECT account_id FROM payments)"),
    Rows(
        "account_balances",
        "metered",
        "account_id IN (SELECT account_id FROM usage_events) AND NOT carries ? 'gpu-vm'",
    ),
    Rows("account_balances", "not metered", "carries ? 'gpu-vm' AND NOT carries ? 'ai-inference'"),
    *each("entries", "kind", "voucher", "plan", "adjustment", "expiry", "refund", "dispute"),
    *each("entries", "kind", "write_off", "reversal", "settlement_of_debt"),
    Rows("entries", "payment", "description_code = 'top_up' AND actor = 'system:gateways'"),
    Rows("entries", "restored", "kind = 'top_up' AND description_code <> 'top_up'"),
    Rows("entries", "imported", "kind = 'top_up' AND actor <> 'system:gateways'"),
    Rows("entries", "metered", f"kind = 'charge' AND {METERED}"),
    Rows("entries", "not metered", f"kind = 'charge' AND NOT {METERED}"),
    *each("grants", "kind", "overdraft", "plan", "voucher", "adjustment"),
    Rows("grants", "payment", "kind = 'top_up' AND paid_micros IS NULL AND origin IS NOT NULL"),
    Rows("grants", "exchanged", "paid_micros IS NOT NULL"),
    Rows("grants", "imported", "kind = 'top_up' AND origin IS NULL"),
    Rows("grant_balances", "overdraft", "grant_number = 0"),
    Rows("grant_balances", "credit", "grant_number > 0 AND held_micros > 0"),
    Rows("allocations", "credit", "grant_number > 0 AND debt_cause IS NULL"),
    Rows("allocations", "settled", "grant_number > 0 AND debt_cause IS NOT NULL"),
    *(
        Rows(
            "allocations",
            f"{cause} debt",
            f"grant_number = 0 AND amount_micros < 0 AND debt_cause = '{cause}'",
        )
        for cause in ("usage", "refund", "dispute", "reversal")
    ),
    Rows("allocations", "debt paid", "grant_number = 0 AND amount_micros > 0"),
    Rows("debts"),
    having("holds", "captured", "hold_resolutions", "o.outcome = 'captured'", *HOLD),
    having("holds", "released", "hold_resolutions", "o.outcome <> 'captured'", *HOLD),
    having("holds", "open", "open_holds", "true", *HOLD),
    having("hold_allocations", "captured", "hold_resolutions", "o.outcome = 'captured'", *HOLD),
    having("hold_allocations", "released", "hold_resolutions", "o.outcome <> 'captured'", *HOLD),
    having("hold_allocations", "open", "open_holds", "true", *HOLD),
    *each("hold_resolutions", "outcome", "captured", "voided", "expired"),
    Rows("open_holds"),
    *each("refusals", "operation", "charge", "hold"),
    Rows("usage_keys", "metered", "origin = 'trace'"),
    Rows("usage_keys", "not metered", "origin <> 'trace' AND account_sequence IS NOT NULL"),
    Rows("usage_keys", "refused", "refusal_number IS NOT NULL"),
    Rows("usage_events"),
    Rows("daily_totals"),
    Rows("site_totals"),
    Rows("total_changes"),
    Rows("daily_quantities"),
    *each("idempotency_keys", "operation", "reverse_entry", "write_off_debt", "claw_back_credit"),
    *each("idempotency_keys", "operation", "place_hold", "void_hold", "redeem_code", "act"),
    *(
        Rows(
            "idempotency_keys",
            f"grant of a {kind}",
            f"key LIKE '{kind}:%' AND answer ? 'grant_number'",
        )
        for kind in ("payment", "voucher")
    ),
    Rows("idempotency_keys", "other grant", "key LIKE 'grant-%'"),
    *(
        Rows(
            "finance_postings",
            kind,
            f"id IN (SELECT posting_id FROM finance_entries WHERE kind = '{kind}')",  # noqa: S608 - constant text
        )
        for kind in POSTED_FOR_PAYMENTS
    ),
    *each("finance_entries", "kind", *POSTED_FOR_PAYMENTS),
    *each("payments", "state", "created", "failed", "cancelled", "expired", "under_review"),
    Rows(
        "payments",
        "credited",
        "state = 'succeeded' AND gateway <> 'bank' AND fee_micros > 0 AND quote_id IS NULL",
    ),
    Rows("payments", "exchanged", "state = 'succeeded' AND quote_id IS NOT NULL"),
    Rows("payments", "bank", "gateway = 'bank'"),
    Rows("payment_credits", "payment", "num_nonnulls(refund_id, dispute_id) = 0"),
    *(
        Rows(
            "payment_credits",
            f"{name} {cause}",
            f"{cause}_id IS NOT NULL AND credit_micros {sign} 0 AND entry_sequence IS NOT NULL",
        )
        for cause in ("refund", "dispute")
        for name, sign in (("taken by", "<"), ("restored after", ">"))
    ),
    Rows("payment_credits", "moved", "entry_sequence IS NULL"),
    *each("refunds", "state", "requested", "pending", "failed", "merged"),
    Rows(
        "refunds",
        "succeeded",
        "state = 'succeeded' AND outflow_micros > 0 AND reference IS NOT NULL",
    ),
    Rows(
        "refunds",
        "at the gateway",
        "state = 'succeeded' AND outflow_micros > 0 AND reference IS NULL",
    ),
    Rows("refunds", "other money", "state = 'succeeded' AND outflow_micros = 0"),
    *each("disputes", "state", "lost", "won"),
    Rows("disputes", "open", "held_micros > 0"),
    Rows("disputes", "appealed", "state = 'open' AND lost_micros > 0"),
    Rows("disputes", "early", "state = 'open' AND held_micros + lost_micros = 0"),
    Rows("account_freezes"),
    *each("payment_reviews", "coalesce(return_state, state)", "requested", "approved", "reviewed"),
    *each("payment_reviews", "coalesce(return_state, state)", "due", "returned", "not_received"),
    *each("bank_transfers", "state", "requested", "approved", "rejected"),
    *each("documents", "kind", "receipt", "credit_note", "cancellation"),
    *each("exchange_rates", "state", "requested", "approved", "rejected"),
    Rows("exchange_quotes"),
    Rows("campaigns", "code", "trigger = 'code' AND codes > 0"),
    *each("campaigns", "trigger", "first_top_up"),
    *each("campaigns", "state", "ended"),
    Rows("campaign_amounts", "", "redemptions > 0"),
    having("campaign_parts", "", "campaign_amounts", "o.redemptions > 0", "campaign_id"),
    *each("voucher_batches", "kind", "generated", "imported", "issued"),
    Rows("voucher_codes", "used", "uses > 0"),
    Rows("voucher_codes", "unused", "uses = 0 AND revoked_at IS NULL AND account_id IS NULL"),
    *(
        Rows(
            "voucher_codes",
            name,
            "uses = 0 AND account_id IS NOT NULL AND batch_id IN"  # noqa: S608 - constant text
            f" (SELECT id FROM voucher_batches WHERE codes {count})",
        )
        for name, count in (("named", "= 1"), ("named together", "> 1"))
    ),
    Rows("voucher_codes", "revoked", "revoked_at IS NOT NULL"),
    Rows("voucher_redemptions", "code", "code IS NOT NULL"),
    Rows("voucher_redemptions", "first_top_up", "code IS NULL"),
    *(
        Rows("staff_acts", action, f"action = '{action}' AND request_id IS NULL")
        for action in (
            "give_goodwill",
            "reverse_entry",
            "apply_code",
            "issue_voucher",
            "refund_payment",
        )
    ),
    Rows("staff_acts", "approved", "request_id IS NOT NULL"),
    *each("approval_requests", "state", "requested", "approved", "rejected"),
)
"""The kinds of rows of every table of money; each kind is damaged by itself."""

NOT_MONEY = {
    "settings that people change, and price lists": "sites tax_policies accounting_periods services"
    " prices catalogue_versions top_up_limits action_limits billing_profiles",
    "what proves the others, and is only ever added to": "audit_log audit_seals payment_events"
    " gateway_messages",
    "people, their rights and what they read or write": "users user_sessions email_tokens"
    " account_members account_invitations account_signals account_notes data_keys portal_keys"
    " authenticators passkeys pending_sign_ins recovery_codes used_challenges"
    " staff_invitations staff_role_requests",
    "how the portal works": "outbox_messages job_runs usage_imports export_jobs throttles uploads",
}
"""Why the other tables are left out."""


BY_HAND = {
    "below_zero": "ALTER TABLE grant_balances DROP CONSTRAINT"
    " ck_grant_balances_only_overdraft_below_zero;"
    "UPDATE grant_balances SET remaining_micros = -1 WHERE grant_number = 1",
    "taken_back": "UPDATE grant_balances SET clawed_back_micros = amount_micros + 1"
    " WHERE grant_number > 0",
    "free_after_taking": "UPDATE grant_balances SET clawed_back_micros = amount_micros"
    " WHERE grant_number > 0 AND remaining_micros > held_micros",
    "finance_code": "UPDATE finance_entries SET ledger_code = '1110' WHERE kind = 'payout'",
    "refusal_amounts": "UPDATE refusals SET available_micros = amount_micros + 1",
    "reversed_debt_tax": "UPDATE allocations a SET tax_micros = a.tax_micros + 1 FROM entries e"
    " WHERE e.account_id = a.account_id AND e.account_sequence = a.account_sequence"
    " AND e.kind = 'reversal' AND a.grant_number = 0 AND a.amount_micros > 0",
    "settlement": "UPDATE allocations a SET debt_service = 'another' FROM entries e"
    " WHERE e.account_id = a.account_id AND e.account_sequence = a.account_sequence"
    " AND e.kind = 'settlement_of_debt' AND a.grant_number > 0",
    "clawback_money": "UPDATE entries SET description_parameters = jsonb_set("
    "description_parameters, '{taken,0,paid_micros}', '99000000000000')"
    " WHERE kind = 'refund' AND description_parameters ? 'paid_micros'",
}
"""Damage for the checks that no single changed value of a last row reaches."""


class Findings:
    """What found each damage, by where it was done."""

    def __init__(self, damage: Damage) -> None:
        """Do all the damage there is."""
        self.of_columns: dict[str, list[str]] = {}
        self.of_deleted: dict[str, list[str]] = {}
        self.of_forged: dict[str, list[str]] = {}
        for rows in ROWS:
            place = damage.pick(rows)
            for column in rows.model.c:
                found = damage.change(rows, column, place)
                self.of_columns[rows.place(column.name)] = found
            self.of_deleted[rows.place("")] = damage.delete(rows, place)
            self.of_forged[rows.place("")] = damage.forge(rows, place)
        self.of_hands = {
            check: damage.find(re.findall(r"UPDATE (\w+)", statement)[0], statement, "") or []
            for check, statement in BY_HAND.items()
        }
        self.seen_by = damage.seen_by


@pytest.fixture(scope="module")
def database(make_database: Callable[[], str]) -> str:
    """The URL of a database with a history in it."""
    return make_database()


@pytest.fixture(scope="module")
def history(database: str) -> Iterator[RichHistory]:
    """A history in which everything has happened."""
    engine = make_engine(database)
    yield rich_history(engine, TestClock())
    engine.dispose()


@pytest.fixture(scope="module")
def findings(database: str, history: RichHistory) -> Iterator[Findings]:
    """What was found of every damage to the history."""
    with history.sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []
    owner = create_engine(database)
    with owner.connect() as connection:
        yield Findings(Damage(connection))
    owner.dispose()


def listed_places() -> set[str]:
    """Return the columns, by kinds of rows, that the document says nobody can prove."""
    part = DOCUMENT.read_text().partition(HEADING)[2].partition("\n## ")[0]
    places = set()
    for name, kinds in re.findall(r"`(\w+\.\w+)(?: \[([^]]+)\])?`", part):
        table = name.partition(".")[0]
        chosen = kinds.split(", ") if kinds else [rows.name for rows in ROWS if rows.table == table]
        places |= {Rows(table, kind).place(name.partition(".")[2]) for kind in chosen}
    return places


def test_rich_history_has_no_difference_whole_or_by_account(history: RichHistory) -> None:
    with history.sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []
        for account_id in history.accounts.values():
            found = ledger.verify_ledger(session, actor=SYSTEM, account_ids=[account_id])
            assert found == []


def test_rich_history_holds_what_its_name_says(history: RichHistory) -> None:
    with history.sessions() as session:
        for rows in ROWS:
            count = text(f"SELECT count(*) FROM {rows.table} WHERE {rows.condition}")  # noqa: S608 - names of our own models
            assert session.execute(count).scalar_one() > 0, rows.place("")


def test_every_table_is_walked_or_left_out_with_a_reason() -> None:
    left_out = {table for tables in NOT_MONEY.values() for table in tables.split()}
    walked = {rows.table for rows in ROWS}
    assert not left_out & walked
    assert left_out | walked == set(Base.metadata.tables)


def test_change_of_a_column_is_found_unless_it_is_listed(findings: Findings) -> None:
    unseen = {place for place, found in findings.of_columns.items() if not found}
    assert sorted(unseen - listed_places()) == []


def test_list_of_columns_names_none_that_is_proved(findings: Findings) -> None:
    unseen = {place for place, found in findings.of_columns.items() if not found}
    assert sorted(listed_places() - unseen) == []


def test_deleted_row_is_found(findings: Findings) -> None:
    assert [place for place, found in findings.of_deleted.items() if not found] == []


def test_forged_row_is_found(findings: Findings) -> None:
    unseen = [place for place, found in findings.of_forged.items() if not found]
    assert unseen == ["exchange_quotes."]  # a price that nobody used decides nothing


def test_damage_by_hand_is_found_by_its_check(findings: Findings) -> None:
    assert [check for check, found in findings.of_hands.items() if check not in found] == []


def test_every_check_finds_some_damage(findings: Findings) -> None:
    assert sorted(CHECKS.keys() - findings.seen_by) == []
