"""Bank transfers that are recorded and decided."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from domain.actors import StaffRole, user_actor
from domain.payments.bank_transfers import Evidence, record_transfer
from tests.gateways import dong

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
SLIP = Evidence("slip.pdf", b"%PDF-1.7 a slip of 2026")
AMOUNT = dong(20_000_000)


def record(session: Session, account: int, **changes: Any) -> int:
    given: dict[str, Any] = {
        "account_id": account,
        "amount": AMOUNT,
        "bank_reference": "FT26329 0001",
        "received_on": date(2026, 1, 15),
        "evidence": SLIP,
        "remark": "Invoice 7",
        "actor": MAKER,
    }
    return record_transfer(session, **(given | changes))
