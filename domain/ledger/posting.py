"""Collect a unit of work of the ledger: accounts under their locks, and the rows to write.

Services build a posting, post entries into it in memory, and write it once, set-based. Nothing
else writes entries, allocations, grants, holds or the projections beside them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from db.bulk import copy_rows, insert_statement, integer_array, run_together, text_array
from domain.audit import actor_name
from domain.errors import InvalidInput
from domain.ledger.allocation import covers, is_expiry_due, is_valid, move
from domain.ledger.daily_totals import RollUps
from domain.ledger.debt_settlement import settle_clawbacks
from domain.ledger.periods import AccountingPeriods
from domain.ledger.posting_sql import COLUMNS, SAVE_DEBTS, UPDATE_BALANCES, UPDATE_GRANTS
from domain.ledger.state import DebtState, lock_accounts
from domain.money import check_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, datetime
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from db.bulk import Statement
    from domain.actors import Actor
    from domain.ledger.allocation import GrantState, Line
    from domain.ledger.state import AccountState, TaxTerms

    Table = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]

PAID_DEBT_CAUSES = frozenset({"refund", "dispute", "reversal"})
"""Debts that only credit that was paid for, and serves everything, may settle."""


_MAX_ROWS_TOGETHER = 50


class Posting:
    """Accounts under their locks, what time it is, and the rows that will be written."""

    def __init__(self, session: Session, account_ids: Iterable[int], actor: Actor) -> None:
        """Lock the accounts (in id order) and read them; raise NotFound where one is missing."""
        self.session = session
        self.actor = actor_name(actor)
        self.accounts, self.now = lock_accounts(session, account_ids)
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self._touched: set[int] = set()
        self._new_grants: list[tuple[AccountState, GrantState]] = []
        self._books = AccountingPeriods(session, self.now)
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
        """Assign the entry its place in the account and return its sequence.

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

    def record_liability(
        self,
        account: AccountState,
        amount_micros: int,
        debt: tuple[str, str],
        tax_micros: int,
        consideration_micros: int = 0,
    ) -> Line:
        """Take a positive amount that no grant covers from the overdraft.

        `consideration_micros` is the money that is refunded for it, where it is clawed back.
        """
        state = account.debts.setdefault(debt, DebtState(0, self.now))
        if state.due_micros == 0:
            state.opened_at = self.now
        state.due_micros += amount_micros
        account.changed_debts.add(debt)
        line = move(account.overdraft, -amount_micros, debt=debt, tax_micros=-tax_micros)
        return line._replace(consideration_micros=-consideration_micros)

    def pay_debt(
        self, account: AccountState, amount_micros: int, debt: tuple[str, str], tax_micros: int = 0
    ) -> Line:
        """Give a positive amount back to the overdraft, towards one debt."""
        account.debts[debt].due_micros -= amount_micros
        account.changed_debts.add(debt)
        return move(account.overdraft, amount_micros, debt=debt, tax_micros=tax_micros)

    def settle_debts(self, account: AccountState) -> None:
        """Pay amounts due with credit that is available now, oldest debt first, in one entry.

        Credit that was clawed back, and is available again, pays the debt of its own clawback
        first.
        """
        settle_clawbacks(self, account)
        if account.overdraft.remaining_micros == 0:
            return
        lines: list[Line] = []
        debts = sorted(account.debts.items(), key=lambda item: (item[1].opened_at, item[0]))
        for debt, state in debts:
            for grant in account.burning:
                if state.due_micros == 0:
                    break
                amount = min(grant.free_micros, state.due_micros)
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
        terms = account.tax_terms
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

    def add_grant(self, account: AccountState, grant: GrantState, row: tuple[Any, ...]) -> None:
        """Take a new grant into the account, and keep its row; what remains follows in `write`."""
        account.add_grant(grant)
        self.add_row("grants", row)
        self._new_grants.append((account, grant))

    def write(self, beside: Iterable[Statement] = ()) -> None:
        """Settle debts that free credit can pay, and write everything in a few statements.

        `beside` are statements of the caller on its own tables, for the same round trip. An account
        of which nothing was posted stays as it is: a repeated request changes nothing.
        """
        if not self._touched:
            return
        for account_id in self._touched:
            self.settle_debts(self.accounts[account_id])
        facts = self._take_facts()  # before the projections: a new grant's row has them all
        self._write(facts, [*self._projections(), *beside])

    def write_facts(self) -> None:
        """Write the rows kept so far; the projections follow in `write`."""
        self._write(self._take_facts(), [])

    def _write(self, facts: list[Table], others: list[Statement]) -> None:
        if sum(len(rows) for _, _, rows in facts) <= _MAX_ROWS_TOGETHER:
            run_together(self.session, [*(insert_statement(*fact) for fact in facts), *others])
            return
        for fact in facts:
            copy_rows(self.session, *fact)
        for other in others:
            run_together(self.session, [other])

    def _take_facts(self) -> list[Table]:
        """Return the rows kept so far by table, those that others refer to first."""
        self._rows("grant_balances").extend(map(_balance_row, self._new_grants))
        for account, grant in self._new_grants:
            grant.is_changed = False
            account.reduced_grants.discard(grant.grant_number)
        self._new_grants.clear()
        kept = [(table, columns, self.rows.pop(table, [])) for table, columns in COLUMNS.items()]
        return [fact for fact in kept if fact[-1]]

    def _projections(self) -> list[Statement]:
        """Return the statements that bring what is added up to where the facts are."""
        made = [self._updated_balances(), self._updated_grants(), self._saved_debts()]
        return [one for one in made if one is not None] + self._roll_ups.statements(self.accounts)

    def _updated_balances(self) -> Statement:
        accounts = [self.accounts[account_id] for account_id in self._touched]
        return UPDATE_BALANCES, {
            "ids": integer_array(a.account_id for a in accounts),
            "balances": integer_array(a.balance_micros for a in accounts),
            "held": integer_array(a.held_micros for a in accounts),
            "entries": integer_array(a.last_entry_sequence for a in accounts),
            "grants": integer_array(a.last_grant_number for a in accounts),
            "holds": integer_array(a.last_hold_number for a in accounts),
            "refusals": integer_array(a.last_refusal_number for a in accounts),
            "carries": text_array(json.dumps(a.carries) for a in accounts),
        }

    def _updated_grants(self) -> Statement | None:
        changed = [
            (account.account_id, grant)
            for account in self.accounts.values()
            for number, grant in account.grants.items()
            if grant.is_changed or number in account.reduced_grants
        ]
        if not changed:
            return None
        return UPDATE_GRANTS, {
            "ids": integer_array(account_id for account_id, _ in changed),
            "numbers": integer_array(grant.grant_number for _, grant in changed),
            "remaining": integer_array(grant.remaining_micros for _, grant in changed),
            "held": integer_array(grant.held_micros for _, grant in changed),
            "taken": integer_array(grant.clawed_back_micros for _, grant in changed),
            "expired": integer_array(grant.expired_micros for _, grant in changed),
        }

    def _saved_debts(self) -> Statement | None:
        changed = [
            (account.account_id, *debt, state.due_micros, state.opened_at)
            for account in self.accounts.values()
            for debt in account.changed_debts
            for state in (account.debts[debt],)
        ]
        if not changed:
            return None
        names = ("ids", "services", "causes", "owed", "opened")
        return SAVE_DEBTS, dict(zip(names, map(list, zip(*changed, strict=True)), strict=True))


def _balance_row(new: tuple[AccountState, GrantState]) -> tuple[Any, ...]:
    account, grant = new
    return (
        account.account_id,
        grant.grant_number,
        grant.kind,
        grant.amount_micros,
        grant.consideration_micros,
        grant.rate_millionths,
        grant.services,
        grant.starts_at,
        grant.expires_at,
        grant.priority,
        grant.granted_at,
        grant.remaining_micros,
        grant.held_micros,
        grant.remaining_micros > 0,
        grant.clawed_back_micros,
        grant.expired_micros,
    )
