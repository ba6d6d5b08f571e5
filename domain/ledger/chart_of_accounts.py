"""Define the chart of accounts: every account of the journal, once.

The codes are defaults: finance maps its own when it exports. Some accounts have one sub-account for
each gateway or service, written with a dot: 1110.stripe, 4100.gpu-vm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class AccountType(StrEnum):
    """What an account is in the statements."""

    ASSET = "asset"
    LIABILITY = "liability"
    REVENUE = "revenue"
    EXPENSE = "expense"


class Side(StrEnum):
    """The side on which an account grows: a debit is positive in the journal, a credit negative."""

    DEBIT = "debit"
    CREDIT = "credit"


@dataclass(frozen=True, slots=True)
class LedgerAccount:
    """An account of the journal; `split_by` names what it has sub-accounts of."""

    code: str
    name: str
    type: AccountType
    normal_side: Side
    meaning: str
    split_by: str | None = None

    def sub_account(self, name: str) -> str:
        """Return the code of a sub-account, such as 1110.stripe."""
        return f"{self.code}.{name}"


BANK = LedgerAccount(
    "1010",
    "Bank",
    AccountType.ASSET,
    Side.DEBIT,
    "Money in the bank: bank transfers, and what gateways have paid out.",
)
CLEARING = LedgerAccount(
    "1110",
    "Gateway clearing",
    AccountType.ASSET,
    Side.DEBIT,
    "Money that a gateway has collected and not paid out yet.",
    split_by="gateway",
)
DISPUTED_FUNDS = LedgerAccount(
    "1120",
    "Disputed funds",
    AccountType.ASSET,
    Side.DEBIT,
    "Money that a gateway holds back while a dispute is open.",
)
CUSTOMER_DEBT = LedgerAccount(
    "1300",
    "Customer debt",
    AccountType.ASSET,
    Side.DEBIT,
    "Amounts due: usage and clawbacks that no credit covered.",
)
INPUT_TAX = LedgerAccount(
    "1400",
    "Input tax",
    AccountType.ASSET,
    Side.DEBIT,
    "Tax on what gateways charge, to be claimed back.",
)
EXCHANGE_POSITION = LedgerAccount(
    "1900",
    "Foreign exchange position",
    AccountType.ASSET,
    Side.DEBIT,
    "Links a payment in one currency to credit in another.",
)
PAID_CREDIT = LedgerAccount(
    "2100",
    "Deferred revenue: top-up credit",
    AccountType.LIABILITY,
    Side.CREDIT,
    "Paid credit that is not used yet, net of tax that was due at the payment.",
)
PLAN_CREDIT = LedgerAccount(
    "2110",
    "Deferred revenue: plan credit",
    AccountType.LIABILITY,
    Side.CREDIT,
    "Credit of plans that is paid and not used yet, net of tax that was due at the payment.",
)
REFUNDS_PAYABLE = LedgerAccount(
    "2150",
    "Refunds payable",
    AccountType.LIABILITY,
    Side.CREDIT,
    "Money to give back: refunds that are under way, and unapplied receipts.",
)
OUTPUT_TAX = LedgerAccount(
    "2400",
    "Output tax",
    AccountType.LIABILITY,
    Side.CREDIT,
    "Tax on payments or on usage, by the tax point of the credit.",
)
REVENUE = LedgerAccount(
    "4100",
    "Usage revenue",
    AccountType.REVENUE,
    Side.CREDIT,
    "Usage at its price without tax, whatever credit paid for it.",
    split_by="service",
)
BREAKAGE = LedgerAccount(
    "4800",
    "Breakage",
    AccountType.REVENUE,
    Side.CREDIT,
    "Paid credit that expired unused.",
)
PROMOTIONS = LedgerAccount(
    "4900",
    "Promotional credit",
    AccountType.REVENUE,
    Side.DEBIT,
    "Contra-revenue: usage that vouchers and goodwill credit paid for.",
)
GATEWAY_FEES = LedgerAccount(
    "6100",
    "Gateway fees",
    AccountType.EXPENSE,
    Side.DEBIT,
    "What gateways keep of payments.",
)
DISPUTE_FEES = LedgerAccount(
    "6110",
    "Dispute fees",
    AccountType.EXPENSE,
    Side.DEBIT,
    "What gateways charge for disputes.",
)
BAD_DEBT = LedgerAccount(
    "6300",
    "Bad debt",
    AccountType.EXPENSE,
    Side.DEBIT,
    "Amounts due that were written off.",
)
EXCHANGE_DIFFERENCE = LedgerAccount(
    "7100",
    "Foreign exchange difference",
    AccountType.EXPENSE,
    Side.DEBIT,
    "Gains (credit) and losses (debit) where money in a foreign currency is revalued or paid out.",
)

CHART = (
    BANK,
    CLEARING,
    DISPUTED_FUNDS,
    CUSTOMER_DEBT,
    INPUT_TAX,
    EXCHANGE_POSITION,
    PAID_CREDIT,
    PLAN_CREDIT,
    REFUNDS_PAYABLE,
    OUTPUT_TAX,
    REVENUE,
    BREAKAGE,
    PROMOTIONS,
    GATEWAY_FEES,
    DISPUTE_FEES,
    BAD_DEBT,
    EXCHANGE_DIFFERENCE,
)
"""Every account, in the order of the codes."""

_SUB_ACCOUNT = r"[a-z0-9][a-z0-9_-]{0,63}"
CODE_PATTERN = (
    "^("
    + "|".join(f"{each.code}{rf'[.]{_SUB_ACCOUNT}' if each.split_by else ''}" for each in CHART)
    + ")$"
)
"""What the codes in the journal look like: an account that is split has sub-accounts only."""

_CODES = re.compile(CODE_PATTERN)
_BY_CODE = {account.code: account for account in CHART}


def find_account(ledger_code: str) -> LedgerAccount | None:
    """Return the account of a code in the journal, or None where the chart has no such account."""
    if not _CODES.fullmatch(ledger_code):
        return None
    return _BY_CODE[ledger_code.partition(".")[0]]
