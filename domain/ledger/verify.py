"""Verify the ledger: compute everything that is cached or derived again, and compare."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.ledger import chart_of_accounts
from domain.ledger.verify_checks import CHECKS, SHARED
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from domain.actors import Actor

MAX_DIFFERENCES_PER_CHECK = 1_000
"""How many differences of one kind are named: enough to see what is wrong."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where the ledger contradicts itself.

    `check` names what does not hold, `key` where in the account (None: in no account's ledger);
    `expected` follows from the facts and `found` is what stands there, None where nothing does.
    """

    check: str
    account_id: int | None
    key: str
    expected: str | None
    found: str | None


def verify_ledger(
    session: Session, *, actor: Actor, account_ids: Iterable[int] | None = None
) -> list[Difference]:
    """Recompute the ledger of some accounts, or all of it, and return what does not agree.

    It is one statement, so all of it sees one moment, whatever is posted meanwhile; it takes no
    lock and as long as it needs. A check names at most MAX_DIFFERENCES_PER_CHECK differences.
    """
    require(actor, "verify_ledger")
    session.execute(text("SET LOCAL statement_timeout = 0"))
    ids = None if account_ids is None else sorted(set(account_ids))
    rows = session.execute(_STATEMENT, {"ids": ids})
    return [Difference(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class UnpaidTopUp:
    """A top-up that came by no payment: the system brought it in, and `origin` says from where."""

    account_id: int
    entry_sequence: int
    amount_micros: int
    currency: str
    origin: str | None
    actor: str


def top_ups_without_payment(session: Session, *, actor: Actor) -> list[UnpaidTopUp]:
    """Return the top-ups that no payment stands behind, by account and entry.

    `verify_ledger` accepts these; people confirm that they were paid.
    """
    require(actor, "verify_ledger")
    return [UnpaidTopUp(*row) for row in session.execute(_UNPAID)]


_UNPAID = text("""
SELECT e.account_id, e.account_sequence, e.amount_micros, c.currency,
  e.description_parameters ->> 'origin', e.actor
FROM entries e
JOIN accounts c ON c.id = e.account_id
LEFT JOIN payment_credits x ON x.account_id = e.account_id
  AND x.entry_sequence = e.account_sequence
WHERE e.kind = 'top_up' AND x.account_id IS NULL
ORDER BY e.account_id, e.account_sequence
""")


def verify_statement(names: Iterable[str] = CHECKS) -> str:
    """Return the one statement that makes these checks, for the accounts `ids` (NULL: all)."""
    checks = [
        f"(SELECT '{name}' AS name, d.* FROM ({query}) AS d (account_id, key, expected, found)"  # noqa: S608 - constant text
        f" LIMIT {MAX_DIFFERENCES_PER_CHECK})"
        for name in names
        for query in (CHECKS[name],)
    ]
    return _expanded("WITH " + ",".join(SHARED) + "\nUNION ALL\n".join(checks))


def _expanded(query: str) -> str:
    """Return a query in which what stands for something is written out, as `verify_checks` says."""
    query = re.sub(
        r"HOLDS_CASH\(([\w.]+)\)",
        r"(\1 = LEDGER(BANK) OR \1 LIKE LEDGER(CLEARING) || '.%')",
        query,
    )
    query = re.sub(r"IN_CHART\(([\w.]+)\)", rf"\1 ~ '{chart_of_accounts.CODE_PATTERN}'", query)
    query = re.sub(
        r"LEDGER\((\w+)\)", lambda found: f"'{getattr(chart_of_accounts, found[1]).code}'", query
    )
    scoped = re.sub(
        r"ACCOUNTS\((\w+)\)",
        r"(CAST(:ids AS bigint[]) IS NULL OR \1.account_id = ANY(CAST(:ids AS bigint[])))",
        query,
    )
    return scoped.replace("EVERYTHING", "CAST(:ids AS bigint[]) IS NULL")


_STATEMENT = text(verify_statement())
