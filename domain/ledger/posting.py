"""The unit of work of the ledger: accounts under their locks, and the facts to write of them.

Services build a posting, post entries into it in memory, and write it once, set-based. Nothing
else writes entries, allocations, grants, holds or the projections beside them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.bulk import copy_rows, integer_array, text_array
from domain import clock
from domain.allocation import covers, is_expiry_due, is_valid, move
from domain.audit import actor_name
from domain.errors import InvalidInput
from domain.ledger.periods import Books
from domain.ledger.roll_ups import RollUps
from domain.ledger.state import DebtState, TaxTerms, load_tax_terms, lock_accounts
from domain.ledger.takings import settle_takings
from domain.money import check_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, datetime
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.allocation import GrantState, Line
    from domain.ledger.state import AccountState

PAID_DEBT_CAUSES = frozenset({"refund", "dispute", "reversal"})
"""Debts that only credit that was paid for, and serves everything, may settle."""

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

_UPDATE_BALANCES = text("""
UPDATE account_balances b
SET balance_micros = n.balance, held_micros = n.held, last_entry_sequence = n.entry,
    last_grant_number = n.grant_number, last_hold_number = n.hold, last_refusal_number = n.refusal,
    carries = n.carries
FROM unnest(CAST(:ids AS bigint[]), CAST(:balances AS bigint[]), CAST(:held AS bigint[]),
            CAST(:entries AS bigint[]), CAST(:grants AS bigint[]), CAST(:holds AS bigint[]),
            CAST(:refusals AS bigint[]), CAST(:carries AS jsonb[]))
     AS n(id, balance, held, entry, grant_number, hold, refusal, carries)
WHERE b.account_id = n.id
""")
_UPDATE_GRANTS = text("""
UPDATE grant_balances r
SET remaining_micros = n.remaining, held_micros = n.held,
    is_open = n.remaining > 0 OR n.number = 0
FROM unnest(CAST(:ids AS bigint[]), CAST(:numbers AS bigint[]), CAST(:remaining AS bigint[]),
            CAST(:held AS bigint[])) AS n(id, number, remaining, held)
WHERE r.account_id = n.id AND r.grant_number = n.number
""")
_UPDATE_GONE = text("""
UPDATE grant_balances r
SET taken_micros = n.taken, expired_micros = n.expired
FROM unnest(CAST(:ids AS bigint[]), CAST(:numbers AS bigint[]), CAST(:taken AS bigint[]),
            CAST(:expired AS bigint[])) AS n(id, number, taken, expired)
WHERE r.account_id = n.id AND r.grant_number = n.number
""")
_SAVE_DEBTS = text("""
INSERT INTO debts (account_id, service, cause, owed_micros, opened_at)
SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:services AS text[]), CAST(:causes AS text[]),
                     CAST(:owed AS bigint[]), CAST(:opened AS timestamptz[]))
ON CONFLICT (account_id, service, cause)
DO UPDATE SET owed_micros = EXCLUDED.owed_micros, opened_at = EXCLUDED.opened_at
""")


class Posting:
    """Accounts under their locks, what time it is, and the rows that will be written."""

    def __init__(self, session: Session, account_ids: Iterable[int], actor: Actor) -> None:
        """Lock the accounts (in id order) and read them; raise NotFound where one is missing."""
        self.session = session
        self.actor = actor_name(actor)
        self.accounts = lock_accounts(session, account_ids)
        self.now = clock.now(session)
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self._touched: set[int] = set()
        self._tax_terms: dict[str, list[TaxTerms]] | None = None
        self._books = Books(session, self.now)
        self._roll_ups = RollUps()

    def post_entry(
        self,
        account: AccountState,
        *,
        kind: str,
        lines: Sequence[Line],
        source: str,
        description_code: str,
        description_parameters: Mapping[str, Any],
        occurred_at: datetime,
        service: str | None = None,
        reverses_sequence: int | None = None,
        calls: int = 0,
        quantities: Mapping[str, Decimal | int] | None = None,
    ) -> int:
        """Give the entry its place in the account and return its sequence.

        `calls` counts the metered calls behind it, and `quantities` says what they used. Raises
        AmountOutOfRange where the balance would be more than the ledger can hold.
        """
        self._touched.add(account.account_id)
        amount = sum(line.amount_micros for line in lines)
        check_micros(account.balance_micros + amount)
        occurred_on = account.day_of(occurred_at)
        day = (account.account_id, occurred_on, kind, service or "", source)
        self._roll_ups.add_entry(day, amount, calls)
        if quantities:
            self._roll_ups.add_quantities(day, quantities)
        sequence = account.last_entry_sequence + 1
        account.last_entry_sequence = sequence
        account.balance_micros += amount
        self._rows("entries").append(
            (
                account.account_id,
                sequence,
                kind,
                service,
                source,
                description_code,
                description_parameters,
                amount,
                account.balance_micros,
                occurred_at,
                self.now,
                self._accounting_date(account, occurred_on),
                self.actor,
                reverses_sequence,
            )
        )
        allocations = self._rows("allocations")
        for number, line in enumerate(lines, start=1):
            allocations.append((account.account_id, sequence, number, *line))
        return sequence

    def owe(
        self,
        account: AccountState,
        amount_micros: int,
        debt: tuple[str, str],
        tax_micros: int,
        consideration_micros: int = 0,
    ) -> Line:
        """Take a positive amount that no grant covers from the overdraft.

        `consideration_micros` is the money that goes back for it, where it is taken back.
        """
        state = account.debts.setdefault(debt, DebtState(0, self.now))
        if state.owed_micros == 0:
            state.opened_at = self.now
        state.owed_micros += amount_micros
        account.changed_debts.add(debt)
        line = move(account.overdraft, -amount_micros, debt=debt, tax_micros=-tax_micros)
        return line._replace(consideration_micros=-consideration_micros)

    def pay_debt(
        self, account: AccountState, amount_micros: int, debt: tuple[str, str], tax_micros: int = 0
    ) -> Line:
        """Give a positive amount back to the overdraft, towards one debt."""
        account.debts[debt].owed_micros -= amount_micros
        account.changed_debts.add(debt)
        return move(account.overdraft, amount_micros, debt=debt, tax_micros=tax_micros)

    def settle_debts(self, account: AccountState) -> None:
        """Let credit that is free now pay what is owed, oldest debt first, in one entry.

        Credit that was taken back, and is free again, pays the debt of its taking before.
        """
        settle_takings(self, account)
        if account.overdraft.remaining_micros == 0:
            return
        lines: list[Line] = []
        debts = sorted(account.debts.items(), key=lambda item: (item[1].opened_at, item[0]))
        for debt, state in debts:
            for grant in account.burning:
                if state.owed_micros == 0:
                    break
                amount = min(grant.free_micros, state.owed_micros)
                if amount > 0 and self._may_settle(account, grant, debt):
                    lines.append(move(grant, -amount, debt=debt))
                    lines.append(self.pay_debt(account, amount, debt))
        if lines:
            self.post_settlement(account, lines)

    def post_settlement(self, account: AccountState, lines: Sequence[Line]) -> None:
        """Post the zero-sum entry in which credit pays a debt."""
        settled = sum(max(line.amount_micros, 0) for line in lines)
        self.post_entry(
            account,
            kind="settlement_of_debt",
            lines=lines,
            source="system",
            description_code="settlement_of_debt",
            description_parameters={"settled_micros": settled},
            occurred_at=self.now,
        )

    def _may_settle(self, account: AccountState, grant: GrantState, debt: tuple[str, str]) -> bool:
        service, cause = debt
        if not is_valid(grant, self.now) or is_expiry_due(grant, self.now, account.expiry_grace):
            return False
        if cause in PAID_DEBT_CAUSES:
            return grant.services is None and grant.consideration_micros > 0
        return covers(grant, service)

    def tax_terms(self, account: AccountState, on: date) -> TaxTerms:
        """Return the tax policy of the account's site on a date."""
        if self._tax_terms is None:
            self._tax_terms = load_tax_terms(self.session)
        terms = self._tax_terms.get(account.site_code, [])
        in_force = [policy for policy in terms if policy.valid_from <= on] or terms[:1]
        if not in_force:
            raise InvalidInput("site", "no_tax_policy", site=account.site_code)
        return in_force[-1]

    def accounting_date(self, account: AccountState, occurred_at: datetime) -> date:
        """Return the day that the site's books give an occurrence; raise PeriodClosed."""
        return self._accounting_date(account, account.day_of(occurred_at))

    def _accounting_date(self, account: AccountState, occurred_on: date) -> date:
        return self._books.accounting_date(account.site_code, account.time_zone, occurred_on)

    def add_row(self, table: str, row: tuple[Any, ...]) -> None:
        """Keep a row, which begins with its account's id, for one of the tables of `write`."""
        self._touched.add(row[0])
        self._rows(table).append(row)

    def add_rows(self, table: str, account_id: int, rows: Iterable[tuple[Any, ...]]) -> None:
        """Keep many rows of one account, as `add_row` does."""
        self._touched.add(account_id)
        self._rows(table).extend(rows)

    def _rows(self, table: str) -> list[tuple[Any, ...]]:
        return self.rows.setdefault(table, [])

    def write(self) -> None:
        """Settle debts that free credit can pay, and write everything in a few statements.

        An account of which nothing was posted stays as it is: a repeated request changes nothing.
        """
        if not self._touched:
            return
        for account_id in self._touched:
            self.settle_debts(self.accounts[account_id])
        self.write_facts()
        self._update_balances()
        self._update_grants()
        self._update_gone()
        self._save_debts()
        self._roll_ups.write(self.session, self.accounts)

    def write_facts(self) -> None:
        """Write the rows kept so far; the projections follow in `write`."""
        for table, columns in _COLUMNS.items():
            copy_rows(self.session, table, columns, self.rows.pop(table, ()))

    def _update_balances(self) -> None:
        accounts = [self.accounts[account_id] for account_id in self._touched]
        self.session.execute(
            _UPDATE_BALANCES,
            {
                "ids": integer_array(a.account_id for a in accounts),
                "balances": integer_array(a.balance_micros for a in accounts),
                "held": integer_array(a.held_micros for a in accounts),
                "entries": integer_array(a.last_entry_sequence for a in accounts),
                "grants": integer_array(a.last_grant_number for a in accounts),
                "holds": integer_array(a.last_hold_number for a in accounts),
                "refusals": integer_array(a.last_refusal_number for a in accounts),
                "carries": text_array(json.dumps(a.carries) for a in accounts),
            },
        )

    def _update_grants(self) -> None:
        changed = [
            (account.account_id, grant)
            for account in self.accounts.values()
            for grant in account.grants.values()
            if grant.is_changed
        ]
        if changed:
            self.session.execute(
                _UPDATE_GRANTS,
                {
                    "ids": integer_array(account_id for account_id, _ in changed),
                    "numbers": integer_array(grant.grant_number for _, grant in changed),
                    "remaining": integer_array(grant.remaining_micros for _, grant in changed),
                    "held": integer_array(grant.held_micros for _, grant in changed),
                },
            )

    def _update_gone(self) -> None:
        reduced = [
            (account.account_id, account.grants[number])
            for account in self.accounts.values()
            for number in account.reduced_grants
        ]
        if reduced:
            self.session.execute(
                _UPDATE_GONE,
                {
                    "ids": integer_array(account_id for account_id, _ in reduced),
                    "numbers": integer_array(grant.grant_number for _, grant in reduced),
                    "taken": integer_array(grant.taken_micros for _, grant in reduced),
                    "expired": integer_array(grant.expired_micros for _, grant in reduced),
                },
            )

    def _save_debts(self) -> None:
        changed = [
            (account.account_id, *debt, state.owed_micros, state.opened_at)
            for account in self.accounts.values()
            for debt in account.changed_debts
            for state in (account.debts[debt],)
        ]
        if changed:
            ids, services, causes, owed, opened = map(list, zip(*changed, strict=True))
            self.session.execute(
                _SAVE_DEBTS,
                {
                    "ids": ids,
                    "services": services,
                    "causes": causes,
                    "owed": owed,
                    "opened": opened,
                },
            )


_COLUMNS: dict[str, tuple[str, ...]] = {
    "entries": _ENTRY_COLUMNS,
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
        "is_open",
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
