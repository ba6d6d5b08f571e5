"""Carry out actions of staff: at once within the person's limit, above it with an approval.

The limit is on the sum of what one person did alone for one account in 24 hours (for all accounts,
where money is refunded), so that splitting an amount does not get round it, not even over midnight.
A request is checked again, in full, when another person approves it; no one approves their own
request, and no member of an account acts on it as staff.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, text, update

from db.models import Account, AccountMember, ApprovalRequest, StaffAct, User
from domain import audit, clock
from domain.actors import MemberRole, StaffRole, user_actor
from domain.approvals import ApprovalState, check_open, is_new_decision, record_decision
from domain.errors import AlreadyDecided, Conflict, NotAuthorised, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.money import Money
from domain.permissions import allows, require
from domain.support.allowances import Allowance, get_allowance
from domain.support.staff_actions import (
    STAFF_ACTIONS,
    ActionContext,
    RefundPayment,
    of_plain,
    plain,
)
from domain.validation import checked_reason
from domain.vouchers import hide_code

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.support.staff_actions import StaffAction

REQUEST_LIFETIME = timedelta(days=7)
"""How long a request waits for a second person."""

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


@dataclass(frozen=True, slots=True)
class CompletedAction:
    """An action that was carried out. `code` is the voucher's, where it created or used one.

    `refund_id` is a refund that it requested, to be sent to the gateway after the commit.
    `allowance` is what the person could do alone after it; None where two people did it.
    """

    act_id: int
    amount: Money
    code: str | None
    refund_id: int | None = None
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """An action above its maker's limit, which another person may approve until `expires_at`.

    `allowance` is the one that it was checked against.
    """

    request_id: int
    amount: Money
    expires_at: datetime
    allowance: Allowance


def perform_or_request(
    session: Session,
    *,
    account_id: int,
    action: StaffAction,
    reason: str,
    actor: Actor,
    idempotency_key: str,
) -> CompletedAction | PendingApproval:
    """Perform an action within the actor's limit, or request approval by another person.

    Raises NotAuthorised for an actor who may not do it, or belongs to the account; InvalidInput for
    a missing reason; NotFound; IdempotencyMismatch; Conflict("already_requested") where an
    identical request waits; and what the action itself raises.
    """
    require(actor, action.permission, account_id)
    reason = checked_reason(reason)
    maker = audit.actor_name(actor)
    asked = {"action": action.name, "reason": reason, **plain(action)}
    write = IdempotentRequest(account_id, f"act:{maker}:{idempotency_key}", "act", asked)
    # One after the other, so that each counts what the others did.
    whose = str(account_id) if action.is_limited_by_account else action.name
    session.execute(_LOCK, {"name": f"act:{maker}:{whose}"})
    known = stored_response(session, write)
    if known is not None:
        return _known(session, known)
    account = _account(session, account_id)
    action = action.resolve(session, account=account, actor=actor)
    amount = action.amount(session, account=account)
    allowance = get_allowance(
        session, action=action.name, account_id=account_id, currency=amount.currency, actor=actor
    )
    if allowance.covers(amount):
        by = ActionContext(actor, reason, f"{write.key}:done")
        done = _execute(session, account, action, amount, by, request=None)
        allowance = allowance.after(amount)
        store_response(session, write, {"act": done.act_id, **_kept(allowance)})
        return replace(done, allowance=allowance)
    _check_is_asked_once(session, account, action)
    waiting = _ask(session, account, action, amount, ActionContext(actor, reason, idempotency_key))
    store_response(session, write, {"request": waiting.id, **_kept(allowance)})
    return _pending(waiting, allowance)


def _account(session: Session, account_id: int) -> Account:
    account = session.get(Account, account_id, populate_existing=True)
    if account is None:
        raise NotFound("account")
    return account


def _kept(allowance: Allowance) -> dict[str, int]:
    """Return an allowance as the result of a write keeps it."""
    return {"limit_micros": allowance.limit.micros, "used_micros": allowance.used.micros}


def _known(session: Session, answer: dict[str, int]) -> CompletedAction | PendingApproval:
    """Return the first result again, with the allowance as it was then."""
    if "act" in answer:
        act = session.get_one(StaffAct, answer["act"])
        return replace(_done(act), allowance=_kept_allowance(answer, act))
    row = session.get_one(ApprovalRequest, answer["request"])
    return _pending(row, _kept_allowance(answer, row))


def _kept_allowance(answer: dict[str, int], row: StaffAct | ApprovalRequest) -> Allowance:
    limit, used = (Money(answer[name], row.currency) for name in ("limit_micros", "used_micros"))
    return Allowance(limit, used, STAFF_ACTIONS[row.action].is_limited_by_account)


def _pending(row: ApprovalRequest, allowance: Allowance) -> PendingApproval:
    amount = Money(row.amount_micros, row.currency)
    return PendingApproval(row.id, amount, row.expires_at, allowance)


def _done(row: StaffAct) -> CompletedAction:
    return CompletedAction(row.id, Money(row.amount_micros, row.currency), row.code, row.refund_id)


def _check_is_asked_once(session: Session, account: Account, action: StaffAction) -> None:
    """Reject a second request for a refund while one waits: both would be approved, and paid."""
    if action.name != RefundPayment.name:
        return
    same = session.scalars(
        select(ApprovalRequest.id)
        .where(
            ApprovalRequest.account_id == account.id,
            ApprovalRequest.action == action.name,
            ApprovalRequest.parameters == plain(action),
            ApprovalRequest.state == ApprovalState.REQUESTED,
            ApprovalRequest.expires_at > clock.now(session),
        )
        .limit(1)
    ).one_or_none()
    if same is not None:
        raise Conflict("already_requested")


def _ask(
    session: Session, account: Account, action: StaffAction, amount: Money, by: ActionContext
) -> ApprovalRequest:
    now = clock.now(session)
    row = ApprovalRequest(
        action=action.name,
        account_id=account.id,
        currency=amount.currency,
        amount_micros=amount.micros,
        parameters=plain(action),
        reason=by.reason,
        idempotency_key=f"{account.id}:{by.idempotency_key}",
        requested_by=audit.actor_name(by.actor),
        requested_at=now,
        expires_at=now + REQUEST_LIFETIME,
    )
    session.add(row)
    session.flush()
    details = {"request": row.id, "wanted": action.name, "amount_micros": amount.micros}
    audit.record(
        session, action="request_approval", actor=by.actor, account_id=account.id, details=details
    )
    return row


def _execute(
    session: Session,
    account: Account,
    action: StaffAction,
    amount: Money,
    by: ActionContext,
    *,
    request: ApprovalRequest | None,
    checker: str | None = None,
) -> CompletedAction:
    effect = action.execute(session, account=account, by=by)
    row = StaffAct(
        action=action.name,
        account_id=account.id,
        currency=amount.currency,
        amount_micros=amount.micros,
        maker=audit.actor_name(by.actor),
        checker=checker,
        request_id=None if request is None else request.id,
        reason=by.reason,
        entries=list(effect.entries),
        code=effect.code,
        refund_id=effect.refund_id,
        acted_at=clock.now(session),
    )
    session.add(row)
    session.flush()
    details = {"act": row.id, "amount_micros": amount.micros, "reason": by.reason}
    if checker is not None:
        details["approved_by"] = checker
    if effect.code is not None:
        details["code"] = hide_code(effect.code)
    if effect.refund_id is not None:
        details["refund"] = effect.refund_id
    audit.record(
        session, action=action.name, actor=by.actor, account_id=account.id, details=details
    )
    return _done(row)


# ── The second person ─────────────────────────────────────────────────────────────────────────
def approve_request(session: Session, *, request_id: int, actor: Actor) -> CompletedAction:
    """Carry out what another person requested, as a second finance member.

    Everything is checked again as it is now: whether the maker may still request it, and whether it
    is still worth the same. The same person's second approval returns what the first did. Raises
    NotAuthorised, NotFound, AlreadyDecided (also where it has expired), Conflict
    ("request_changed", "maker_may_not") and what the action itself raises; the request still waits.
    """
    row = _to_decide(session, request_id, actor)
    if not is_new_decision(row, ApprovalState.APPROVED, actor, requested_by=row.requested_by):
        done = select(StaffAct).where(StaffAct.request_id == row.id)
        return _done(session.scalars(done).one())
    asked = of_plain(row.action, row.parameters)
    maker = _maker(session, row, asked)
    account = _account(session, row.account_id)
    action = asked.resolve(session, account=account, actor=maker)
    amount = action.amount(session, account=account)
    if amount != Money(row.amount_micros, row.currency):
        raise Conflict("request_changed")
    by = ActionContext(maker, row.reason, f"request:{row.id}")
    checker = audit.actor_name(actor)
    done_act = _execute(session, account, action, amount, by, request=row, checker=checker)
    _decide(session, row, ApprovalState.APPROVED, actor)
    return done_act


def reject_request(session: Session, *, request_id: int, reason: str, actor: Actor) -> None:
    """Reject another person's request; it is not carried out. Raises as `approve_request`."""
    reason = checked_reason(reason)
    row = _to_decide(session, request_id, actor)
    if not is_new_decision(row, ApprovalState.REJECTED, actor, requested_by=row.requested_by):
        return
    row.remark = reason
    _decide(session, row, ApprovalState.REJECTED, actor)


def withdraw_request(session: Session, *, request_id: int, actor: Actor) -> None:
    """Withdraw one's own request; repeated, it has no effect. Raises as `approve_request`."""
    require(actor, "see_requests")
    row = _locked(session, request_id)
    if row.requested_by != audit.actor_name(actor):
        raise NotAuthorised
    if row.state == ApprovalState.WITHDRAWN:
        return
    _check_in_time(session, row)
    check_open(row)
    _decide(session, row, ApprovalState.WITHDRAWN, actor)


def expire_requests(session: Session, *, actor: Actor) -> int:
    """Expire the requests that were not decided in time; return how many."""
    require(actor, "expire_requests")
    now = clock.now(session)
    ended = session.execute(
        update(ApprovalRequest)
        .where(ApprovalRequest.state == ApprovalState.REQUESTED, ApprovalRequest.expires_at <= now)
        .values(state=ApprovalState.EXPIRED, decided_by=audit.actor_name(actor), decided_at=now)
        .returning(ApprovalRequest.id, ApprovalRequest.account_id)
    ).all()
    for request_id, account_id in ended:
        audit.record(
            session,
            action="expired_request",
            actor=actor,
            account_id=account_id,
            details={"request": request_id},
        )
    return len(ended)


def _locked(session: Session, request_id: int) -> ApprovalRequest:
    row = session.get(ApprovalRequest, request_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound("request")
    return row


def _to_decide(session: Session, request_id: int, actor: Actor) -> ApprovalRequest:
    require(actor, "decide_request")
    row = _locked(session, request_id)
    require(actor, "decide_request", row.account_id)
    _check_in_time(session, row)
    return row


def _check_in_time(session: Session, row: ApprovalRequest) -> None:
    is_late = row.state == ApprovalState.REQUESTED and clock.now(session) >= row.expires_at
    if is_late or row.state == ApprovalState.EXPIRED:
        raise AlreadyDecided(ApprovalState.EXPIRED, None, row.expires_at, "request_expired")


def _maker(session: Session, row: ApprovalRequest, action: StaffAction) -> Actor:
    """Return the person who requested it, with the role and the accounts that they have now."""
    person = session.get(User, int(row.requested_by.removeprefix("user:")), populate_existing=True)
    if person is None or person.disabled_at is not None or person.staff_role is None:
        raise Conflict("maker_may_not")
    memberships = session.execute(
        select(AccountMember.account_id, AccountMember.role).where(
            AccountMember.user_id == person.id
        )
    )
    maker = user_actor(
        person.id,
        staff_role=StaffRole(person.staff_role),
        memberships={account_id: MemberRole(role) for account_id, role in memberships},
    )
    if not allows(maker, action.permission, row.account_id):
        raise Conflict("maker_may_not")
    return maker


def _decide(session: Session, row: ApprovalRequest, state: ApprovalState, actor: Actor) -> None:
    record_decision(session, row, state, actor)
    details = {"request": row.id, "requested_by": row.requested_by}
    audit.record(
        session,
        action=f"{state}_request",
        actor=actor,
        account_id=row.account_id,
        details=details,
    )
