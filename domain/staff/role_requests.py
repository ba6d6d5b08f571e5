"""Handle changes that take two administrators: one requests, another approves or rejects.

Where no other person may decide, the change takes effect after 24 hours, until which it can be
withdrawn, and the administrator who would lose that role may object. All administrators get a mail
of each step. When the change is carried out everything is checked again: a change that no longer
fits ends the request, and its remark states why. So does every immediate change of a person: no
request waits that could not be carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import StaffRoleRequest, User
from domain import audit, clock
from domain.actors import StaffRole
from domain.approvals import check_open, record_decision
from domain.errors import Conflict, NotAuthorised, NotFound
from domain.permissions import require, require_another
from domain.staff.changes import (
    Standing,
    apply_change,
    check_changer,
    get_standing,
    list_admins,
    lock_staff,
    removes_last_admin,
    takes_away,
)
from domain.staff.notices import mail_admins
from domain.staff.rate_limit import check_rate_limit
from domain.validation import checked_reason

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor

SOLE_ADMIN_DELAY = timedelta(hours=24)
"""How long a change waits where no other administrator may decide."""

REQUEST_LIFETIME = timedelta(days=7)
"""How long a request waits for a second administrator."""

DECIDED_SHOWN = 20


class RequestState(StrEnum):
    """The state of a request; `LAPSED` ended by itself, and its remark states why.

    `OBJECTED` was ended by the person concerned.
    """

    REQUESTED = "requested"
    APPLIED = "applied"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    OBJECTED = "objected"
    LAPSED = "lapsed"


class LapseReason(StrEnum):
    """The reason why a request ended by itself."""

    NOT_DECIDED = "not_decided"
    REQUESTER_NOT_ADMIN = "requester_not_admin"
    CHANGED_MEANWHILE = "changed_meanwhile"
    LAST_ADMIN = "last_admin"


@dataclass(frozen=True, slots=True)
class RoleRequest:
    """A requested change of a person; people are named as the audit log names them.

    `effective_at` is when it takes effect by itself; None where another administrator decides.
    """

    request_id: int
    user_id: int
    email: str
    before: Standing
    after: Standing
    reason: str
    requested_by: str
    requested_at: datetime
    effective_at: datetime | None
    expires_at: datetime
    state: RequestState
    decided_by: str | None
    decided_at: datetime | None
    remark: str | None

    @property
    def is_open_to_objection(self) -> bool:
        """Whether the person concerned may end it.

        They may where it would remove them as an administrator without another person's approval. A
        second administrator who approves is not stopped: otherwise an attacker with the session of
        one administrator could keep all others from removing them.
        """
        return (
            self.state is RequestState.REQUESTED
            and self.effective_at is not None
            and self.before.is_active_admin
            and not self.after.is_active_admin
        )


def request_change(
    session: Session,
    person: User,
    after: Standing,
    *,
    admins: tuple[int, ...],
    reason: str,
    actor: Actor,
    invitation_id: int | None = None,
) -> RoleRequest:
    """Request a change of a locked person; the same again returns the request that waits.

    A request that follows from an invitation is never RateLimited. Raises
    Conflict("role_request_open") where another change of the person waits.
    """
    now, maker = clock.now(session), audit.actor_name(actor)
    waiting = _open_request(session, person)
    lapse = None if waiting is None else _lapse_reason(waiting, person, admins, now)
    if waiting is not None and lapse is None:
        if waiting.requested_by == maker and _after(waiting) == after:
            return _view(waiting, person)
        raise Conflict("role_request_open")
    if invitation_id is None:
        check_rate_limit(session, actor, takes_away=takes_away(get_standing(person), after))
    if waiting is not None:
        _end(session, waiting, person, RequestState.LAPSED, actor=actor, remark=lapse)
    before, others = get_standing(person), set(admins) - {person.id, actor.user_id}
    row = StaffRoleRequest(
        user_id=person.id,
        role_before=before.role,
        role_after=after.role,
        is_disabled_before=before.is_disabled,
        is_disabled_after=after.is_disabled,
        reason=reason,
        requested_by=maker,
        requested_at=now,
        effective_at=None if others else now + SOLE_ADMIN_DELAY,
        expires_at=now + REQUEST_LIFETIME,
        state=RequestState.REQUESTED,
    )
    session.add(row)
    session.flush()
    origin = {} if invitation_id is None else {"staff_invitation_id": invitation_id}
    _record(session, row, "request_role_change", actor, **origin)
    _mail(session, row, person)
    return _view(row, person)


def lapse_unfit_requests(session: Session, *, actor: Actor) -> None:
    """End, after a person was changed, the requests that cannot be carried out any more.

    They are those about the person changed, and those made by a person who is no longer an
    administrator.
    """
    now, admins = clock.now(session), list_admins(session)
    waiting = session.scalars(
        select(StaffRoleRequest)
        .where(StaffRoleRequest.state == RequestState.REQUESTED)
        .order_by(StaffRoleRequest.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    for row in waiting:
        person = session.get_one(User, row.user_id, populate_existing=True)
        lapse = _lapse_reason(row, person, admins, now)
        if lapse is not None:
            _end(session, row, person, RequestState.LAPSED, actor=actor, remark=lapse)


def approve_role_request(session: Session, *, request_id: int, actor: Actor) -> RoleRequest:
    """Carry out a change that another administrator requested; return the request's outcome.

    It may have lapsed instead, for the reason in `remark`. The same person's second approval
    changes nothing. Raises NotAuthorised, NotFound, and AlreadyDecided where another person
    decided.
    """
    require(actor, "decide_role_request")
    row, person, admins = _lock_request(session, request_id)
    _check_decider(actor, row, person, admins)
    if row.state == RequestState.APPLIED and row.decided_by == audit.actor_name(actor):
        return _view(row, person)
    check_open(row)
    _apply_or_lapse(session, row, person, admins, actor)
    return _view(row, person)


def reject_role_request(
    session: Session, *, request_id: int, reason: str, actor: Actor
) -> RoleRequest:
    """Reject a change that another administrator requested. Raises as `approve_role_request`."""
    require(actor, "decide_role_request")
    reason = checked_reason(reason)
    row, person, admins = _lock_request(session, request_id)
    _check_decider(actor, row, person, admins)
    if row.state == RequestState.REJECTED and row.decided_by == audit.actor_name(actor):
        return _view(row, person)
    check_open(row)
    _end(session, row, person, RequestState.REJECTED, actor=actor, remark=reason)
    return _view(row, person)


def withdraw_role_request(session: Session, *, request_id: int, actor: Actor) -> RoleRequest:
    """Withdraw one's own request; again, it changes nothing. Raises as `approve_role_request`."""
    require(actor, "manage_people")
    row, person, admins = _lock_request(session, request_id)
    check_changer(actor, person, admins)
    if row.requested_by != audit.actor_name(actor):
        raise NotAuthorised
    if row.state == RequestState.WITHDRAWN:
        return _view(row, person)
    check_open(row)
    _end(session, row, person, RequestState.WITHDRAWN, actor=actor)
    return _view(row, person)


def object_to_role_request(session: Session, *, request_id: int, actor: Actor) -> RoleRequest:
    """End a request about oneself that would take effect by itself; repeated, it has no effect.

    Raises NotAuthorised for all but the administrator who would lose the role, and where another
    administrator decides; NotFound; and AlreadyDecided where it has ended.
    """
    require(actor, "object_to_role_request")
    row, person, admins = _lock_request(session, request_id)
    _check_objector(actor, row, admins)
    if row.state == RequestState.OBJECTED:
        return _view(row, person)
    check_open(row)
    if not _view(row, person).is_open_to_objection:
        raise NotAuthorised
    _end(session, row, person, RequestState.OBJECTED, actor=actor)
    return _view(row, person)


def end_due_role_requests(session: Session, *, actor: Actor, limit: int = 100) -> int:
    """Carry out what waited 24 hours, and end what was not decided; return how many there were."""
    require(actor, "end_role_requests")
    now = clock.now(session)
    due = session.scalars(
        select(StaffRoleRequest.id)
        .where(
            StaffRoleRequest.state == RequestState.REQUESTED,
            (StaffRoleRequest.expires_at <= now) | (StaffRoleRequest.effective_at <= now),
        )
        .order_by(StaffRoleRequest.id)
        .limit(limit)
    ).all()
    for request_id in due:
        row, person, admins = _lock_request(session, request_id)
        if row.state == RequestState.REQUESTED:  # not decided while this waited for the lock
            _apply_or_lapse(session, row, person, admins, actor)
    return len(due)


def list_role_requests(session: Session, *, actor: Actor) -> tuple[RoleRequest, ...]:
    """Return the requests that wait, the oldest first, then the newest that ended."""
    require(actor, "review_access")
    query = select(StaffRoleRequest, User).join(User, User.id == StaffRoleRequest.user_id)
    query = query.execution_options(populate_existing=True)
    is_open = StaffRoleRequest.state == RequestState.REQUESTED
    waiting = query.where(is_open).order_by(StaffRoleRequest.id)
    ended = query.where(~is_open).order_by(StaffRoleRequest.id.desc()).limit(DECIDED_SHOWN)
    rows = [*session.execute(waiting), *session.execute(ended)]
    return tuple(_view(row, person) for row, person in rows)


def _lock_request(
    session: Session, request_id: int
) -> tuple[StaffRoleRequest, User, tuple[int, ...]]:
    """Return a request, its person and the active administrators, in the lock of all changes."""
    found = session.get(StaffRoleRequest, request_id)
    if found is None:
        raise NotFound("request")
    admins, person = lock_staff(session, found.user_id)
    session.refresh(found, with_for_update=True)
    return found, person, admins


def _open_request(session: Session, person: User) -> StaffRoleRequest | None:
    return session.scalars(
        select(StaffRoleRequest)
        .where(
            StaffRoleRequest.user_id == person.id,
            StaffRoleRequest.state == RequestState.REQUESTED,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def _check_decider(
    actor: Actor, row: StaffRoleRequest, person: User, admins: tuple[int, ...]
) -> None:
    """Check that the decider is an administrator, not the requester and not the person changed."""
    check_changer(actor, person, admins)
    require_another(actor, row.requested_by)


def _check_objector(actor: Actor, row: StaffRoleRequest, admins: tuple[int, ...]) -> None:
    """Check that the objector is the person concerned, and an administrator now."""
    if actor.user_id != row.user_id or actor.user_id not in admins:
        raise NotAuthorised


def _lapse_reason(
    row: StaffRoleRequest, person: User, admins: tuple[int, ...], now: datetime
) -> LapseReason | None:
    """Return why a request cannot be carried out any more; None where it can."""
    if now >= row.expires_at:
        return LapseReason.NOT_DECIDED
    if get_standing(person) != _before(row):
        return LapseReason.CHANGED_MEANWHILE
    if int(row.requested_by.removeprefix("user:")) not in admins:
        return LapseReason.REQUESTER_NOT_ADMIN
    if removes_last_admin(person, _after(row), admins):
        return LapseReason.LAST_ADMIN
    return None


def _apply_or_lapse(
    session: Session,
    row: StaffRoleRequest,
    person: User,
    admins: tuple[int, ...],
    actor: Actor,
) -> None:
    lapse = _lapse_reason(row, person, admins, clock.now(session))
    if lapse is not None:
        _end(session, row, person, RequestState.LAPSED, actor=actor, remark=lapse)
        return
    request = {"request": row.id, "requested_by": row.requested_by}
    apply_change(session, person, _after(row), reason=row.reason, actor=actor, request=request)
    _end(session, row, person, RequestState.APPLIED, actor=actor)
    lapse_unfit_requests(session, actor=actor)


_ENDS = {
    RequestState.APPLIED: "apply_role_change",
    RequestState.REJECTED: "reject_role_change",
    RequestState.WITHDRAWN: "withdraw_role_change",
    RequestState.OBJECTED: "object_to_role_change",
    RequestState.LAPSED: "lapse_role_change",
}


def _end(
    session: Session,
    row: StaffRoleRequest,
    person: User,
    state: RequestState,
    *,
    actor: Actor,
    remark: str | None = None,
) -> None:
    row.remark = remark
    record_decision(session, row, state, actor)
    _record(session, row, _ENDS[state], actor)
    _mail(session, row, person)


def _record(
    session: Session, row: StaffRoleRequest, action: str, actor: Actor, **origin: int
) -> None:
    before, after = _before(row), _after(row)
    details = {
        **origin,
        "request": row.id,
        "user_id": row.user_id,
        "from": _plain(before),
        "to": _plain(after),
        "reason": row.reason,
    }
    if row.remark is not None:
        details["remark"] = row.remark
    audit.record(session, action=action, actor=actor, details=details)


def _plain(standing: Standing) -> dict[str, str | bool | None]:
    return {"role": standing.role, "is_disabled": standing.is_disabled}


def _mail(session: Session, row: StaffRoleRequest, person: User) -> None:
    is_ended_by_person = (row.decided_by or "").startswith("user:")
    mail_admins(
        session,
        row.state,
        person=person,
        before=_before(row),
        after=_after(row),
        requested_by=row.requested_by,
        reason=row.reason,
        decided_by=row.decided_by if is_ended_by_person else None,
        remark=row.remark,
        until=row.effective_at or row.expires_at,
        is_by_time=row.effective_at is not None,
        may_object=_view(row, person).is_open_to_objection,
    )


def _before(row: StaffRoleRequest) -> Standing:
    return Standing(_role(row.role_before), row.is_disabled_before)


def _after(row: StaffRoleRequest) -> Standing:
    return Standing(_role(row.role_after), row.is_disabled_after)


def _role(name: str | None) -> StaffRole | None:
    return StaffRole(name) if name else None


def _view(row: StaffRoleRequest, person: User) -> RoleRequest:
    return RoleRequest(
        request_id=row.id,
        user_id=row.user_id,
        email=person.email,
        before=_before(row),
        after=_after(row),
        reason=row.reason,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        effective_at=row.effective_at,
        expires_at=row.expires_at,
        state=RequestState(row.state),
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        remark=row.remark,
    )
