"""Every table of the portal; importing this package fills the metadata."""

from db.models.accounts import (
    Account,
    AccountBalance,
    AccountingPeriod,
    AccountInvitation,
    AccountMember,
    Site,
    TaxPolicy,
)
from db.models.base import Base
from db.models.billing import BillingProfileVersion, TopUpLimit
from db.models.catalogue import CatalogueVersion, Price, Service
from db.models.finance import FinanceEntry, FinancePosting, IdempotencyKey
from db.models.holds import Hold, HoldAllocation, HoldResolution, OpenHold, Refusal
from db.models.identity import EmailToken, Throttle, User, UserSession
from db.models.ledger import Allocation, Debt, Entry, Grant, GrantBalance
from db.models.operations import AuditRecord, ExportJob, JobRun, OutboxMessage, UsageImport
from db.models.payments import (
    AccountFreeze,
    BankTransfer,
    DataKey,
    Dispute,
    Document,
    ExchangeQuote,
    ExchangeRate,
    GatewayMessage,
    Payment,
    PaymentEvent,
    PaymentReview,
    Refund,
)
from db.models.usage import (
    DailyQuantity,
    DailyTotal,
    SiteTotal,
    TotalChange,
    UsageEvent,
    UsageKey,
)

__all__ = [
    "Account",
    "AccountBalance",
    "AccountFreeze",
    "AccountInvitation",
    "AccountMember",
    "AccountingPeriod",
    "Allocation",
    "AuditRecord",
    "BankTransfer",
    "Base",
    "BillingProfileVersion",
    "CatalogueVersion",
    "DailyQuantity",
    "DailyTotal",
    "DataKey",
    "Debt",
    "Dispute",
    "Document",
    "EmailToken",
    "Entry",
    "ExchangeQuote",
    "ExchangeRate",
    "ExportJob",
    "FinanceEntry",
    "FinancePosting",
    "GatewayMessage",
    "Grant",
    "GrantBalance",
    "Hold",
    "HoldAllocation",
    "HoldResolution",
    "IdempotencyKey",
    "JobRun",
    "OpenHold",
    "OutboxMessage",
    "Payment",
    "PaymentEvent",
    "PaymentReview",
    "Price",
    "Refund",
    "Refusal",
    "Service",
    "Site",
    "SiteTotal",
    "TaxPolicy",
    "Throttle",
    "TopUpLimit",
    "TotalChange",
    "UsageEvent",
    "UsageImport",
    "UsageKey",
    "User",
    "UserSession",
]
