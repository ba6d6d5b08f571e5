"""What the roles, changes and states of people here are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.staff import (
    REVIEWED,
    SOLE_ADMIN_DELAY,
    DutyPair,
    FlagKind,
    LapseReason,
    RequestState,
    Sensitivity,
    Standing,
)
from portal.ui.i18n import N_, _
from portal.ui.labels.roles import staff_role_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.actors import StaffRole
    from domain.staff import AccessFlag, PossibleChange, RoleRequest, StaffMember

_CLOCK = "system:jobs"
"""Who carries a change out that waited long enough, as facts name actors."""

_PAIRS = {
    DutyPair.RATES_AND_TRANSFERS: N_("exchange rates and recording bank transfers"),
    DutyPair.CAMPAIGNS: N_("requesting and approving campaigns"),
    DutyPair.PEOPLE_AND_MONEY: N_("administering staff and moving money"),
}
_STATES = {
    RequestState.APPLIED: N_("In effect"),
    RequestState.REJECTED: N_("Rejected"),
    RequestState.WITHDRAWN: N_("Withdrawn"),
    RequestState.OBJECTED: N_("Stopped by objection"),
    RequestState.LAPSED: N_("Closed without effect"),
}
_OUTCOMES = {
    RequestState.APPLIED: N_("Approved: {change}. The change is in effect."),
    RequestState.REJECTED: N_("Rejected: {change}. Nothing was changed."),
    RequestState.WITHDRAWN: N_("Withdrawn: {change}. Nothing was changed."),
    RequestState.OBJECTED: N_("You objected: {change}. Nothing was changed."),
}
_SENSITIVITIES = {
    Sensitivity.ADMINISTRATOR: N_("it changes who is an administrator"),
    Sensitivity.FINANCE: N_("Finance can move money"),
    Sensitivity.CUSTOMER_MEMBER: N_("the person is a member of a customer account"),
}
_LAPSES = {
    LapseReason.NOT_DECIDED: N_("No administrator decided in time."),
    LapseReason.REQUESTER_NOT_ADMIN: N_(
        "The administrator who requested it is no longer an administrator."
    ),
    LapseReason.CHANGED_MEANWHILE: N_(
        "The role or access of the person had changed since it was requested."
    ),
    LapseReason.LAST_ADMIN: N_("No administrator would be left."),
}
_NEXT_STEPS = {
    LapseReason.LAST_ADMIN: N_("Assign the role Administrator to another person first."),
}


def role_words(person: StaffMember) -> str:
    """Return what the person's role is called, or that there is none."""
    return role_or_none(person.role)


def role_or_none(role: StaffRole | None) -> str:
    """Return what a role is called, or that there is none."""
    return _("No role") if role is None else staff_role_name(role)


def state_words(person: StaffMember) -> str:
    """Return whether the person is let in."""
    return _("Disabled") if person.is_disabled else _("Active")


def factor_words(person: StaffMember) -> str:
    """Return whether the person signs in with a second factor."""
    return _("On") if person.has_second_factor else _("Off")


def change_words(email: str, before: Standing, after: Standing) -> str:
    """Return what a change of a person is, such as on a request."""
    if before.is_disabled != after.is_disabled:
        text = _("Disable {email} ({role})") if after.is_disabled else _("Enable {email} ({role})")
        return text.format(email=email, role=role_or_none(before.role))
    return _("Change role of {email} from {before} to {after}").format(
        email=email, before=role_or_none(before.role), after=role_or_none(after.role)
    )


def second_person_words(change: PossibleChange, person: StaffMember) -> str:
    """Return why a change of a person waits, and for what; empty where one is enough."""
    if change.sensitivity is None:
        return ""
    why = _(_SENSITIVITIES[change.sensitivity])
    if change.has_decider:
        return _("Needs a second administrator, because {why}.").format(why=why)
    text = _(
        "Takes effect after {hours} hours, because {why} and no other administrator can decide."
    ).format(why=why, hours=_delay_hours())
    is_admin = Standing(person.role, person.is_disabled).is_active_admin
    if not is_admin or change.after.is_active_admin:
        return text
    objection = _("{email} is notified by email, and can object until then.").format(
        email=person.email
    )
    return f"{text} {objection}"


def _delay_hours() -> int:
    return int(SOLE_ADMIN_DELAY.total_seconds() // 3600)


def approver_words(approved_by: str | None, name: Callable[[str | None], str]) -> str:
    """Return who approved a change, or that it took effect by itself."""
    if approved_by == _CLOCK:
        return _("Automatic (after {hours} hours)").format(hours=_delay_hours())
    return name(approved_by)


def decider_words(request: RoleRequest, name: Callable[[str | None], str]) -> str:
    """Return who decided about a request; empty where it expired."""
    if request.state is RequestState.LAPSED and request.decided_by == _CLOCK:
        return ""
    return approver_words(request.decided_by, name)


def outcome_words(request: RoleRequest) -> str:
    """Return what the reader has just done about a request."""
    change = change_words(request.email, request.before, request.after)
    return _(_OUTCOMES[request.state]).format(change=change)


def request_state(request: RoleRequest) -> str:
    """Return what became of a request."""
    return _(_STATES[request.state]) if request.state in _STATES else _("Waiting for approval")


def request_remark(request: RoleRequest) -> str:
    """Return why a request was rejected, or ended by itself; empty for the others."""
    if request.state is RequestState.LAPSED and request.remark is not None:
        return _(_LAPSES[LapseReason(request.remark)])
    return request.remark or ""


def lapse_words(request: RoleRequest, now: Standing) -> str:
    """Return that a request ended without effect, why, and what to do next.

    `now` is what the person is now.
    """
    reason = LapseReason(request.remark or LapseReason.NOT_DECIDED)
    why = _(_LAPSES[reason])
    if reason is LapseReason.CHANGED_MEANWHILE and now != request.before:
        text = _("At the time of the request: {before}. Now: {now}.")
        why = text.format(before=_standing_words(request.before), now=_standing_words(now))
    next_step = _NEXT_STEPS.get(
        reason,
        N_("Check the current role and access. If the change is still needed, request it again."),
    )
    return _("closed without effect. {why} {next_step}").format(why=why, next_step=_(next_step))


def _standing_words(standing: Standing) -> str:
    shown = role_or_none(standing.role)
    return _("{role}, disabled").format(role=shown) if standing.is_disabled else shown


def flag_words(flag: AccessFlag) -> str:
    """Return what a reviewer looks at, in a line."""
    if flag.kind is FlagKind.CUSTOMER_MEMBER or flag.pair is None:
        return _("Member of customer account {name} · {id}").format(
            name=flag.account_name, id=flag.account_id
        )
    text = (
        _("Did both in {days} days: {pair}")
        if flag.kind is FlagKind.DID_BOTH
        else _("Role allows both: {pair}")
    )
    return text.format(days=REVIEWED.days, pair=_(_PAIRS[flag.pair]))
