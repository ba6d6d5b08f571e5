"""What must hold between facts and projections, each as one set-based query.

A check selects (account_id, key, expected, found), one row for each place where it does not hold.
ACCOUNTS(x) stands for "x.account_id is one of those asked for", and EVERYTHING for "all of them
are". LEDGER(NAME) is the code of an account of the chart, HOLDS_CASH(code) says whether that is the
bank or a gateway's clearing account, and IN_CHART(code) whether the chart has it. No text that
stands in a row may make a check fail instead of finding it.
"""

from __future__ import annotations

from domain.ledger.verify_checks.accounts import ACCOUNT_ROWS
from domain.ledger.verify_checks.audit import AUDIT
from domain.ledger.verify_checks.books import BOOKS, LEGS
from domain.ledger.verify_checks.entries import ENTRIES
from domain.ledger.verify_checks.grants import GRANTS
from domain.ledger.verify_checks.holds import HOLDS
from domain.ledger.verify_checks.keys import KEYS
from domain.ledger.verify_checks.outflows import OUTFLOWS, POSTINGS, REVERSED
from domain.ledger.verify_checks.payments import PAYMENTS
from domain.ledger.verify_checks.rates import RATES
from domain.ledger.verify_checks.reversals import REVERSALS, TAKEN
from domain.ledger.verify_checks.staff import STAFF
from domain.ledger.verify_checks.timeline import TIMELINE
from domain.ledger.verify_checks.totals import TOTALS
from domain.ledger.verify_checks.usage import METERED, USAGE
from domain.ledger.verify_checks.vouchers import VOUCHERS

SHARED = (LEGS, METERED, TAKEN, POSTINGS, REVERSED)
"""Sums that several checks compare, added up once."""

CHECKS: dict[str, str] = {
    **ENTRIES,
    **REVERSALS,
    **ACCOUNT_ROWS,
    **GRANTS,
    **HOLDS,
    **USAGE,
    **TOTALS,
    **BOOKS,
    **KEYS,
    **PAYMENTS,
    **OUTFLOWS,
    **TIMELINE,
    **RATES,
    **VOUCHERS,
    **STAFF,
    **AUDIT,
}
