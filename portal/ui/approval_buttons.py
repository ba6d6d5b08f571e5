"""The second person's buttons, and what a decision that came too late is answered with.

A pressed button is remembered before the page runs again: the page that is drawn then may have the
item no more, and would say nothing. Whoever is late reads what happened meanwhile.
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
    "took_effect": N_("Nothing was changed: the change took effect by itself {when}."),
    "rejected": N_("Nothing was changed: already rejected by {name}, {when}."),
    "lapsed": N_("Nothing was changed: the request ended {when} without effect."),
    "reviewed": N_("Nothing was changed: already reviewed by {name}, {when}."),
    "objected": N_("Nothing was changed: {name} objected {when}."),
    "withdrawn": N_("Nothing was changed: withdrawn by {name}, {when}."),
    "ended": N_("Nothing was changed: already ended by {name}, {when}."),
    "refund_succeeded": N_(
        "Nothing was changed: the refund was already recorded as paid by {name}, {when}. If you"
        " sent the money too, ask for one of the two back."
    ),
    "cancelled": N_(
        "Nothing was changed: the refund was already cancelled by {name}, {when}, and its credit"
        " granted again. If the money was sent, refund the payment again."
    ),
    "refund_failed": N_(
        "Nothing was changed: the gateway said {when} that the refund failed, and its credit was"
        " granted again. Refund the payment again if it is still right."
    ),
    "refund_merged": N_(
        "Nothing was changed: the refund became part of a dispute, {when}. Look at the dispute."
    ),
    "returned": N_(
        "Nothing was changed: already recorded as given back by {name}, {when}. If you sent the"
        " money too, ask for one of the two back."
    ),
    "not_received": N_(
        "Nothing was changed: the gateway said {when} that this money never came. Nothing is owed."
    ),
    "expired": N_("Nothing was changed: it expired {when} without a decision. Request it again."),
}
_CHANGES = {
    "request_changed": N_(
        "Nothing was changed: its value has changed since it was requested. Request it again."
    ),
    "rate_moved_meanwhile": N_(
        "Nothing was changed: the rate in force has changed since this one was requested, which is"
        " far from it now, alone or with its margin. Reject it, and request it again with a reason."
    ),
    "refund_is_sent": N_(
        "Nothing was changed: the gateway works on this refund now. Wait for its answer."
    ),
    "case_is_closed": N_(
        "Nothing was changed: the gateway has settled this since. The page shows it as it is now."
    ),
    "requested_by_another": N_(
        "Nothing was changed: somebody else requested this already. Approve or reject that request."
    ),
    "not_requested": N_("Nothing was changed: this has not been requested. Request it first."),
}


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button of an item that was pressed, and what was typed beside it."""

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
    """Return what was pressed on a page before this run of it, once."""
    pressed: Pressed | None = st.session_state.pop(_key(place), None)
    return pressed


def _key(place: str) -> str:
    return f"pressed-{place}"


def draw_own_count(count: int) -> None:
    """Say how many of the listed requests are the reader's own, which no count tells them of."""
    if count:
        text = ngettext(
            "You have requested {count} change that waits for somebody else.",
            "You have requested {count} changes that wait for somebody else.",
            count,
        )
        st.caption(text.format(count=formats.number(count)))


def what_happened(context: PageContext, error: BillingError) -> str | None:
    """Return what became of an item that somebody wanted to decide; None for other errors."""
    if isinstance(error, AlreadyDecided) and error.state in _DECISIONS:
        by_itself = error.state == "applied" and (error.decided_by or "").startswith("system:")
        name = naming(context, [error.decided_by], in_sentence=True)(error.decided_by)
        when = "" if error.decided_at is None else context.date_time(error.decided_at)
        outcome = "took_effect" if by_itself else error.state
        return _(_DECISIONS[outcome]).format(name=name, when=when)
    if isinstance(error, Conflict) and error.reason in _CHANGES:
        return _(_CHANGES[error.reason])
    return None
