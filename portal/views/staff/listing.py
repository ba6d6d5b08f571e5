"""The people with a role, and the forms that give, change and remove one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain.actors import StaffRole
from domain.errors import BillingError, Conflict, NotAuthorised, RateLimited
from domain.permissions import allows
from domain.staff import (
    Standing,
    change_staff_role,
    disable_user,
    end_sessions,
    find_person,
    list_possible_changes,
    list_role_requests,
    list_staff,
    reset_second_factors,
)
from domain.staff.rate_limit import MAX_CHANGES
from domain.validation import MAX_REASON_LENGTH
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import checked, confirmation, flash, forms
from portal.ui.formats import plain
from portal.ui.i18n import _
from portal.ui.labels import errors as error_labels
from portal.ui.labels import top_up as top_up_labels
from portal.ui.labels.roles import staff_role_name
from portal.ui.labels.staff import (
    approver_words,
    change_words,
    factor_words,
    role_or_none,
    role_words,
    second_person_words,
    state_words,
)
from portal.views.staff import invitations, requests, review

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from domain.staff import PossibleChange, RoleRequest, StaffMember
    from portal.shell.page_context import PageContext

_SEARCH = "staff_sought"
_GIVING = "staff_giving"
_CHANGING = "staff_changing"
_MAX_EMAIL_LENGTH = 254


def draw(context: PageContext) -> None:
    """Draw what waits, who works here and, for administrators, the forms; the review is last.

    What waits for a decision comes first, then what is done often; an access review is rare.
    """
    requests.decide_pressed(context)
    invitations.execute_pressed(context)
    may_manage = allows(context.visitor.actor, "manage_people")
    staff = database.read_snapshot(list_staff, actor=context.visitor.actor)
    found = database.read_snapshot(list_role_requests, actor=context.visitor.actor)
    requests.draw_waiting(context, found)
    st.subheader(_("People"))
    _table(context, staff)
    if may_manage:
        _change(context, staff)
    else:
        st.caption(_("Only administrators assign, change and remove roles."))
        for place in (_CHANGING, _GIVING, invitations.INVITING):
            flash.show(place)  # to whoever was an administrator when they pressed
    invitations.draw_open(context)
    if may_manage:
        invitations.draw_form(context)
        _give(context)
    requests.draw_ended(context, found)
    review.draw(context)


def _table(context: PageContext, staff: Sequence[StaffMember]) -> None:
    name = naming(context, {who for each in staff for who in (each.given_by, each.approved_by)})
    table = pa.table(
        {
            _("Name"): [each.display_name for each in staff],
            _("Email"): [each.email for each in staff],
            _("Role"): [role_words(each) for each in staff],
            _("State"): [state_words(each) for each in staff],
            _("Two-factor"): [factor_words(each) for each in staff],
            _("Last sign-in"): [_signed_in(context, each) for each in staff],
            _("Assigned by"): [name(each.given_by) for each in staff],
            _("Assigned"): [
                context.date_time(each.given_at) if each.given_at else "" for each in staff
            ],
            _("Approved by"): [approver_words(each.approved_by, name) for each in staff],
        }
    )
    st.dataframe(table, hide_index=True, height="content", key="staff")


def _give(context: PageContext) -> None:
    st.subheader(_("Assign a role"))
    st.caption(
        _(
            "For people who have a sign-in and no role. To add a colleague without a"
            " sign-in, use Invite a colleague."
        )
    )
    st.caption(
        _(
            "Finance, Administrator, and any role for a member of a customer account need"
            " approval by a second administrator, or 24 hours if there is none."
        )
    )
    key = partial(forms.key, _GIVING)
    with st.form(key("give_role"), border=False):
        with st.grid(columns=2, min_column_width=220):
            email = st.text_input(_("Email"), max_chars=_MAX_EMAIL_LENGTH, key=key("staff_email"))
            role = checked.selectbox(
                _("Role"), list(StaffRole), format_func=staff_role_name, key=key("staff_role")
            )
        reason = st.text_input(_("Reason"), max_chars=MAX_REASON_LENGTH, key=key("staff_reason"))
        is_sent = st.form_submit_button(_("Assign role"), type="primary")
    if is_sent:

        def give() -> RoleRequest | None:
            person = database.read_snapshot(find_person, email=email, actor=context.visitor.actor)
            if person.role is not None:
                raise Conflict("has_role")
            return _set_role(context, person.user_id, role, reason)

        message = _("Role {role} assigned to {email}, who must sign in again to use it.")
        message = message.format(email=email.strip(), role=role_or_none(role))
        _try(context, give, message, place=_GIVING)
    flash.show(_GIVING)


def _change(context: PageContext, staff: Sequence[StaffMember]) -> None:
    me = context.visitor.actor.user_id
    others = {each.user_id: each for each in staff if each.user_id != me}
    if not others:
        st.info(
            _(
                "You are the only staff member. Assign a role to a second person, so that two"
                " people can decide."
            ),
            icon=":material/group_add:",
        )
    st.subheader(_("Change a person"))
    search_text = _search_text(context)
    if search_text is not None and search_text.user_id != me:
        others.setdefault(search_text.user_id, search_text)
    if not others:
        flash.show(_CHANGING)
        return
    chosen = checked.selectbox(
        _("Person"),
        list(others),
        format_func=lambda user_id: f"{others[user_id].display_name} · {others[user_id].email}",
        key="staff_person",
    )
    person = others[chosen]
    message = (role_words(person), state_words(person), _signed_in(context, person))
    st.caption(
        plain(
            _("{role} · {state} · last sign-in: {when}").format(
                role=message[0], state=message[1], when=message[2]
            )
        )
    )
    # A reason is why one person is changed, and no reason to change the next one.
    field = forms.key(_CHANGING, f"staff_change_reason-{person.user_id}")
    reason = st.text_input(_("Reason"), max_chars=MAX_REASON_LENGTH, key=field)
    possible = database.read_snapshot(
        list_possible_changes, user_id=person.user_id, actor=context.visitor.actor
    )
    _buttons(context, person, {each.after: each for each in possible}, reason)
    flash.show(_CHANGING)


def _search_text(context: PageContext) -> StaffMember | None:
    """Draw the way to somebody who has no role, such as a customer, and return who was found."""
    with st.form("look_up_person", border=False):
        email = st.text_input(
            _("Person without a role (email)"), max_chars=_MAX_EMAIL_LENGTH, key="sought_email"
        )
        is_sent = st.form_submit_button(_("Find person"), icon=":material/search:")
    if is_sent:
        st.session_state[_SEARCH] = email
    if not st.session_state.get(_SEARCH):
        return None
    try:
        person = database.read_snapshot(
            find_person, email=st.session_state[_SEARCH], actor=context.visitor.actor
        )
    except BillingError as error:
        st.error(_refusal(error), icon=":material/error:")
        return None
    if is_sent:
        st.session_state["staff_person"] = person.user_id
    return person


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """What is done after one more question: its button, what happens, and what is said then."""

    key: str
    label: str
    about: str
    do: Callable[[], RoleRequest | None]
    message: str
    change: PossibleChange | None = None


def _buttons(
    context: PageContext,
    person: StaffMember,
    changes: Mapping[Standing, PossibleChange],
    reason: str,
) -> None:
    """Draw what can be done about a person; what waits for somebody else says so, and why."""
    pressed: StaffRole | None = None
    others = [role for role in StaffRole if person.role not in {None, role}]
    with st.container(horizontal=True):
        for role in others:
            label = _("Change role to {role}").format(role=staff_role_name(role))
            if st.button(label, key=f"change-to-{role}"):
                pressed = role
        for each in _confirmed(context, person, changes, reason):
            _draw_confirmed(context, person, each)
        # A key of its own: a page that was drawn before does not do the opposite.
        is_enabling = person.is_disabled and st.button(_("Enable person"), key="enable")
    offered = {
        staff_role_name(role): changes.get(Standing(role, person.is_disabled)) for role in others
    }
    if person.is_disabled:
        offered[_("Enable person")] = changes.get(Standing(person.role, is_disabled=False))
    _why_it_waits(person, offered.items())
    if pressed is not None:
        role = pressed
        message = _role_flash(person, role)
        _try(
            context,
            lambda: _set_role(context, person.user_id, role, reason),
            message,
            place=_CHANGING,
        )
    if is_enabling:
        message = _("{email} enabled. They can sign in again.").format(email=person.email)
        _try(context, lambda: _disable(context, person, reason), message, place=_CHANGING)


def _why_it_waits(
    person: StaffMember, offered: Iterable[tuple[str, PossibleChange | None]]
) -> None:
    """Say below the buttons which of them make a request, and why."""
    names: dict[str, list[str]] = {}
    for name, change in offered:
        if change is not None and change.sensitivity is not None:
            names.setdefault(second_person_words(change, person), []).append(name)
    for text, named in names.items():
        st.caption(plain(f"{', '.join(named)}: {text}"))


def _confirmed(
    context: PageContext,
    person: StaffMember,
    changes: Mapping[Standing, PossibleChange],
    reason: str,
) -> Iterator[_Confirmed]:
    email = person.email
    if person.role is not None:
        text = _("{email} loses the role {role} and is signed out everywhere.")
        yield _Confirmed(
            "remove_role",
            _("Remove role"),
            text.format(email=email, role=role_words(person)),
            lambda: _set_role(context, person.user_id, None, reason),
            _role_flash(person, None),
            changes.get(Standing(None, person.is_disabled)),
        )
    text = _("{email} is signed out in all browsers, and can sign in again.")
    yield _Confirmed(
        "end_sessions",
        _("Sign out everywhere"),
        text.format(email=email),
        lambda: _end_sessions(context, person, reason),
        _("{email} is signed out everywhere, and can sign in again.").format(email=email),
    )
    if person.has_second_factor:
        text = _(
            "All second factors of {email} are removed, and they are signed out everywhere."
            " Their password alone then signs them in, or lets them set up a new second"
            " factor. Verify their identity first."
        )
        message = _("Second factors of {email} removed. They are signed out and notified by email.")
        yield _Confirmed(
            "reset_second_factor",
            _("Reset second factor"),
            text.format(email=email),
            lambda: _reset_second_factors(context, person, reason),
            message.format(email=email),
        )
    if not person.is_disabled:
        text = _(
            "{email} is signed out everywhere and cannot sign in until an administrator"
            " enables them again."
        )
        yield _Confirmed(
            "disable",
            _("Disable person"),
            text.format(email=email),
            lambda: _disable(context, person, reason),
            _("{email} disabled and signed out.").format(email=email),
            changes.get(Standing(person.role, is_disabled=True)),
        )


def _draw_confirmed(context: PageContext, person: StaffMember, each: _Confirmed) -> None:
    key = f"{each.key}-{person.user_id}"
    with confirmation.popover(f"{each.label}…", key=key, about=each.about):
        if each.change is not None and each.change.sensitivity is not None:
            st.caption(plain(second_person_words(each.change, person)))
        if st.button(each.label, key=each.key, type="primary"):
            _try(context, each.do, each.message, place=_CHANGING)


def _role_flash(person: StaffMember, role: StaffRole | None) -> str:
    return _("Role of {email} changed from {before} to {after}.").format(
        email=person.email, before=role_words(person), after=role_or_none(role)
    )


def _signed_in(context: PageContext, person: StaffMember) -> str:
    return context.date_time(person.signed_in_at) if person.signed_in_at else _("Never")


def _set_role(
    context: PageContext, user_id: int, role: StaffRole | None, reason: str
) -> RoleRequest | None:
    return database.transaction(
        change_staff_role, user_id=user_id, role=role, reason=reason, actor=context.visitor.actor
    )


def _end_sessions(context: PageContext, person: StaffMember, reason: str) -> None:
    database.transaction(
        end_sessions, user_id=person.user_id, reason=reason, actor=context.visitor.actor
    )


def _reset_second_factors(context: PageContext, person: StaffMember, reason: str) -> None:
    database.transaction(
        reset_second_factors, user_id=person.user_id, reason=reason, actor=context.visitor.actor
    )


def _disable(context: PageContext, person: StaffMember, reason: str) -> RoleRequest | None:
    return database.transaction(
        disable_user,
        user_id=person.user_id,
        is_disabled=not person.is_disabled,
        reason=reason,
        actor=context.visitor.actor,
    )


def _try(
    context: PageContext, do: Callable[[], RoleRequest | None], message: str, *, place: str
) -> None:
    """Do it and say so at a place; of what takes a second administrator, say for whom it waits.

    The place is also the form, which is empty again once it is done.
    """
    confirmation.close_all()
    try:
        request = do()
    except NotAuthorised:
        text = _(
            "Nothing was changed. Only administrators change other people's roles and access,"
            " not their own."
        )
        flash.leave(place, text, is_good=False)
    except BillingError as error:
        flash.leave(place, _refusal(error), is_good=False)
    else:
        if request is not None:
            message = _("Requested: {change}. {waiting}").format(
                change=change_words(request.email, request.before, request.after),
                waiting=requests.waiting_text(context, request),
            )
        forms.empty(place)
        flash.leave(place, message)


def _refusal(error: BillingError) -> str:
    if error.code == "not_found":
        return _("No one has signed up with this address yet. Use Invite a colleague.")
    if isinstance(error, RateLimited):
        return error_labels.changes_wait(MAX_CHANGES, error.retry_after_seconds)
    return top_up_labels.refusal(error)
