"""Keep the ledger: the only writer of entries, grants, allocations and holds.

Every function takes a session and leaves the commit to its caller; every write has an actor and an
idempotency key. docs/ledger.md has the rules.
"""

from domain.ledger.charges import Charge, ChargeItem, ChargeOutcome, charge, charge_batch
from domain.ledger.clawbacks import claw_back_credit
from domain.ledger.expiry import expire_grants
from domain.ledger.grants import GrantTerms, PostedGrant, add_grant, open_ledger
from domain.ledger.holds import HoldOutcome, expire_holds, place_hold, void_hold
from domain.ledger.reversals import reverse_entry, reversible_micros, write_off_debt
from domain.ledger.site_totals import fold_totals
from domain.ledger.verify import (
    Difference,
    UnpaidTopUp,
    top_ups_without_payment,
    verify_ledger,
)

__all__ = [
    "Charge",
    "ChargeItem",
    "ChargeOutcome",
    "Difference",
    "GrantTerms",
    "HoldOutcome",
    "PostedGrant",
    "UnpaidTopUp",
    "add_grant",
    "charge",
    "charge_batch",
    "claw_back_credit",
    "expire_grants",
    "expire_holds",
    "fold_totals",
    "open_ledger",
    "place_hold",
    "reverse_entry",
    "reversible_micros",
    "top_ups_without_payment",
    "verify_ledger",
    "void_hold",
    "write_off_debt",
]
