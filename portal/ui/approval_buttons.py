"""The buttons of a second person's decision, and the messages of one that was too late.

A pressed button is remembered before the page runs again: the page that is drawn then may no longer
have the item, and would show no message. A person who is late is shown what happened meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import AlreadyDecided, Conflict
from portal.shell.display_names import naming
from portal.ui import formats
from portal.ui.formats import plain
from portal.ui.i18n import N_, _, ngettext

if TYPE_CHECKING:
    from domain.errors import BillingError
    from portal.shell.page_context import PageContext

_DECISIONS = {
    "approved": N_("Nothing was changed: already approved by {name}, {when}."),
    "applied": N_("Nothing was changed: already approved by {name}, {when}."),
    "took_effect": N_("Nothing was changed: the change took effect automatically {when}."),
    "rejected": N_("Nothing was changed: already rejected by {name}, {when}."),
    "lapsed": N_("Nothing was changed: the request was closed {when} without effect."),
    "reviewed": N_("Nothing was changed: already reviewed by {name}, {when}."),
    "objected": N_("Nothing was changed: {name} objected {when}."),
    "withdrawn": N_("Nothing was changed: withdrawn by {name}, {when}."),
    "ended": N_("Nothing was changed: already ended by {name}, {when}."),
    "refund_succeeded": N_(
        "Nothing was changed: the refund was already recorded as paid by {name}, {when}. If"
        " you also sent the money, recover one of the two payments."
    ),
    "cancelled": N_(
        "Nothing was changed: the refund was already cancelled by {name}, {when}, and its"
        " credit restored. If the money was sent, refund the payment again."
    ),
    "refund_failed": N_(
        "Nothing was changed: the gateway reported {when} that the refund failed, and its"
        " credit was restored. If the refund is still needed, refund the payment again."
    ),
    "refund_merged": N_(
        "Nothing was changed: the refund became part of a dispute, {when}. Check the dispute."
    ),
    "returned": N_(
        "Nothing was changed: the return was already recorded by {name}, {when}. If you also"
        " sent the money, recover one of the two payments."
    ),
    "not_received": N_(
        "Nothing was changed: the gateway reported {when} that this money was not received."
        " Nothing is due."
    ),
    "expired": N_(
        "Nothing was changed: the request expired {when} without a decision. Request it again."
    ),
}
_CHANGES = {
    "request_changed": N_(
        "Nothing was changed: the value has changed since the request. Request it again."
    ),
    "rate_moved_meanwhile": N_(
        "Nothing was changed: the current rate has changed since the request, and now"
        " differs too much from the requested rate, with or without margin. Reject the"
        " request, and request the rate again with a reason."
    ),
    "refund_is_sent": N_(
        "Nothing was changed: the gateway is processing this refund. Wait for the result."
    ),
    "case_is_closed": N_(
        "Nothing was changed: the gateway has settled this payment. The page shows its"
        " current state."
    ),
    "requested_by_another": N_(
        "Nothing was changed: another person has already requested this. Approve or reject"
        " that request."
    ),
    "not_requested": N_(
        "Nothing was changed: there is no request to approve. Request approval first."
    ),
}


@dataclass(frozen=True, slots=True)
class Pressed:
    """A pressed button of an item, and the text typed beside it."""

    action: str
    item: int
    text: str


def button(
    label: str,
    *,
    place: str,
    action: str,
    item: int,
    field: str | None = None,
    is_primary: bool = False,
) -> None:
    """Draw a button; the next run of the page gets it from `take_pressed(place)`.

    `field` is the key of the widget whose text goes with it. Its own key is "<action>-<item>".
    """
    st.button(
        plain(label),
        key=f"{action}-{item}",
        type="primary" if is_primary else "secondary",
        on_click=_remember,
        args=(place, action, item, field),
    )


def submit_button(label: str, *, place: str, action: str, item: int, field: str) -> None:
    """Draw the button of a form, as `button` does."""
    st.form_submit_button(
        label, type="primary", on_click=_remember, args=(place, action, item, field)
    )


def _remember(place: str, action: str, item: int, field: str | None) -> None:
    typed = str(st.session_state.get(field, "")) if field else ""
    st.session_state[_key(place)] = Pressed(action, item, typed)


def take_pressed(place: str) -> Pressed | None:
    """Return the button that was pressed before this run of the page, once."""
    pressed: Pressed | None = st.session_state.pop(_key(place), None)
    return pressed


def _key(place: str) -> str:
    return f"pressed-{place}"


def draw_own_count(count: int) -> None:
    """Show how many of the listed requests are the user's own, which no badge counts."""
    if count:
        text = ngettext(
            "{count} of your requests is waiting for approval by another person.",
            "{count} of your requests are waiting for approval by another person.",
            count,
        )
        st.caption(text.format(count=formats.number(count)))


def what_happened(context: PageContext, error: BillingError) -> str | None:
    """Return what happened to an item that a person wanted to decide; None for other errors."""
    if isinstance(error, AlreadyDecided) and error.state in _DECISIONS:
        by_itself = error.state == "applied" and (error.decided_by or "").startswith("system:")
        name = naming(context, [error.decided_by], in_sentence=True)(error.decided_by)
        when = "" if error.decided_at is None else context.date_time(error.decided_at)
        outcome = "took_effect" if by_itself else error.state
        return _(_DECISIONS[outcome]).format(name=name, when=when)
    if isinstance(error, Conflict) and error.reason in _CHANGES:
        return _(_CHANGES[error.reason])
    return None
