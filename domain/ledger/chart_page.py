"""docs/chart-of-accounts.md, made of the chart."""

from __future__ import annotations

from domain.ledger.chart_of_accounts import CHART, LedgerAccount

_HEAD = """# Chart of accounts

Made from `domain/ledger/chart_of_accounts.py` by `make docs`: change the chart there, not here. The
view `journal` shows the double-entry lines of everything that was posted. A debit is positive and a
credit negative; an account grows on its normal side.

| Code | Name | Type | Normal side | What it holds |
|---|---|---|---|---|
"""


def chart_page() -> str:
    """Return the page in Markdown."""
    return _HEAD + "".join(_row(account) for account in CHART)


def _row(account: LedgerAccount) -> str:
    meaning = account.meaning
    if account.split_by is not None:
        meaning += f" One sub-account for each {account.split_by}."
    cells = (account.code, account.name, account.type.value, account.normal_side.value, meaning)
    return "| " + " | ".join(cells) + " |\n"
