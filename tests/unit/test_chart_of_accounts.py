"""The chart of accounts: its codes, the page made of it, and that no code stands elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domain.ledger.chart_of_accounts import (
    CHART,
    CLEARING,
    REVENUE,
    AccountType,
    LedgerAccount,
    Side,
    find_account,
)
from domain.ledger.chart_page import chart_page

ROOT = Path(__file__).resolve().parents[2]
CHART_FILE = ROOT / "domain" / "ledger" / "chart_of_accounts.py"
CODE = re.compile(r"""["'](\d{4})(?=["'.%])""")


def test_page_is_made_of_the_chart() -> None:
    written = (ROOT / "docs" / "chart-of-accounts.md").read_text("utf-8")
    assert written == chart_page(), "run: make docs"


def test_codes_stand_once_in_order() -> None:
    codes = [account.code for account in CHART]
    assert codes == sorted(set(codes))


def test_accounts_grow_on_the_side_of_their_type() -> None:
    debit_types = {AccountType.ASSET, AccountType.EXPENSE}
    against = [
        account.name
        for account in CHART
        if (account.normal_side is Side.DEBIT) is not (account.type in debit_types)
    ]
    assert against == ["Promotional credit"], "contra-revenue"


@pytest.mark.parametrize("account", CHART, ids=lambda account: account.code)
def test_accounts_are_found_by_their_code(account: LedgerAccount) -> None:
    code = account.sub_account("some-name_2") if account.split_by else account.code
    assert find_account(code) is account


@pytest.mark.parametrize(
    "code",
    [
        "",
        "9999",
        "1010.",
        "1010.stripe",
        CLEARING.code,
        CLEARING.sub_account(""),
        CLEARING.sub_account("Stripe"),
        CLEARING.sub_account("a" * 65),
        REVENUE.sub_account("gpu vm"),
        "1110.stripe\n",
        " 1010",
    ],
)
def test_other_codes_are_none_of_the_chart(code: str) -> None:
    assert find_account(code) is None


def test_no_code_is_written_anywhere_else() -> None:
    codes = {account.code for account in CHART}
    found = [
        f"{path.relative_to(ROOT)}: {code}"
        for folder in ("domain", "portal", "sandbox", "scripts")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != CHART_FILE
        for code in CODE.findall(path.read_text("utf-8"))
        if code in codes
    ]
    assert found == []
