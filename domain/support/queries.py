"""List what waits for a second person: actions on accounts, and how much waits elsewhere."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from db.models import Account, ApprovalRequest, Campaign, Payment, StaffAct
from domain import audit
from domain.money import Money
from domain.payments.exchange_rates import count_rates_to_approve
from domain.permissions import allows, require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

DECIDED_SHOWN = 100


@dataclass(frozen=True, slots=True)
class RequestView:
    """An action of staff that waits, or what became of it; people are named as facts name them.

    `campaign` is the name of the campaign where the action is a voucher; the last two name the
    payment where it is a refund.
    """

    request_id: int
    action: str
    account_id: int
    account_name: str
    amount: Money
    parameters: Mapping[str, Any]
    campaign: str | None
    reason: str
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    state: str
    decided_by: str | None
    decided_at: datetime | None
    remark: str | None
    payment_reference: str | None
    payment_gateway: str | None


@dataclass(frozen=True, slots=True)
class WaitingCounts:
    """How much waits for a decision, by where it is decided."""

    requests: int
    campaigns: int
    transfers: int
    payments: int
    rates: int
    roles: int

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(astuple(self))


@dataclass(frozen=True, slots=True)
class ActView:
    """An act that was carried out on an account; `checker` is who agreed, where it took two."""

    act_id: int
    action: str
    amount: Money
    maker: str
    checker: str | None
    reason: str
    code: str | None
    acted_at: datetime


# One's own requests are for another person to decide, and so are not counted.
_COUNTS = text("""
SELECT
  (SELECT count(*) FROM approval_requests
   WHERE :decide_request AND state = 'requested' AND expires_at > clock_timestamp()
     AND requested_by <> :name) AS requests,
  (SELECT count(*) FROM campaigns
   WHERE :decide_campaign AND state = 'requested' AND requested_by <> :name) AS campaigns,
  (SELECT count(*) FROM bank_transfers
   WHERE :decide_transfer AND state = 'requested' AND requested_by <> :name) AS transfers,
  (SELECT count(*) FROM payments p
   WHERE :decide_payment AND p.state = 'under_review'
     AND NOT EXISTS (SELECT FROM payment_reviews r
                     WHERE r.payment_id = p.id AND r.state = 'requested'
                       AND r.requested_by = :name)) AS payments,
  (SELECT count(*) FROM staff_role_requests
   WHERE :decide_role_request AND state = 'requested' AND expires_at > clock_timestamp()
     AND requested_by <> :name AND 'user:' || user_id <> :name) AS roles
""")
_COUNTED = (
    "decide_request",
    "decide_campaign",
    "decide_transfer",
    "decide_payment",
    "decide_role_request",
)


def list_requests(
    session: Session, *, actor: Actor, account_id: int | None = None
) -> tuple[RequestView, ...]:
    """Return, for staff, what waits, the oldest first, and then what was decided last."""
    require(actor, "see_requests")
    is_decided = ApprovalRequest.state != "requested"
    query = (
        select(ApprovalRequest, Account.name, Campaign.name, Payment.reference, Payment.gateway)
        .join(Account, Account.id == ApprovalRequest.account_id)
        .outerjoin(Campaign, Campaign.id == ApprovalRequest.parameters["campaign_id"].as_integer())
        .outerjoin(Payment, Payment.id == ApprovalRequest.parameters["payment_id"].as_integer())
        .execution_options(populate_existing=True)
    )
    if account_id is not None:
        query = query.where(ApprovalRequest.account_id == account_id)
    waiting = query.where(~is_decided).order_by(ApprovalRequest.id)
    decided = query.where(is_decided).order_by(ApprovalRequest.id.desc()).limit(DECIDED_SHOWN)
    rows = [*session.execute(waiting), *session.execute(decided)]
    return tuple(_request(*row) for row in rows)


def waiting_counts(session: Session, *, actor: Actor) -> WaitingCounts:
    """Return how much waits for this member of staff: what they may decide, and nothing else."""
    require(actor, "see_requests")
    may = {action: allows(actor, action) for action in _COUNTED}
    requests = campaigns = transfers = payments = roles = 0
    if any(may.values()):
        requests, campaigns, transfers, payments, roles = session.execute(
            _COUNTS, {"name": audit.actor_name(actor), **may}
        ).one()
    rates = count_rates_to_approve(session, actor=actor) if allows(actor, "decide_rate") else 0
    return WaitingCounts(requests, campaigns, transfers, payments, rates, roles)


def acts_of_entry(
    session: Session, *, actor: Actor, account_id: int, entry_sequence: int
) -> tuple[ActView, ...]:
    """Return, for staff, the act that posted an entry, if staff did."""
    require(actor, "see_requests")
    rows = session.scalars(
        select(StaffAct).where(
            StaffAct.account_id == account_id, StaffAct.entries.any_() == entry_sequence
        )
    )
    return tuple(_act(row) for row in rows)


def _request(
    row: ApprovalRequest,
    account_name: str,
    campaign: str | None,
    payment_reference: str | None,
    payment_gateway: str | None,
) -> RequestView:
    return RequestView(
        request_id=row.id,
        action=row.action,
        account_id=row.account_id,
        account_name=account_name,
        amount=Money(row.amount_micros, row.currency),
        parameters=row.parameters,
        campaign=campaign,
        reason=row.reason,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        expires_at=row.expires_at,
        state=row.state,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        remark=row.remark,
        payment_reference=payment_reference,
        payment_gateway=payment_gateway,
    )


def _act(row: StaffAct) -> ActView:
    return ActView(
        act_id=row.id,
        action=row.action,
        amount=Money(row.amount_micros, row.currency),
        maker=row.maker,
        checker=row.checker,
        reason=row.reason,
        code=row.code,
        acted_at=row.acted_at,
    )
