"""What waits for a second person, and what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import audit
from domain.errors import BillingError
from domain.permissions import allows
from domain.queries.approvals import list_requests, waiting_counts
from domain.support import approve_request, refuse_request, withdraw_request
from domain.texts import LONGEST_REASON
from portal import backend, formats
from portal.formats import plain
from portal.i18n import N_, _
from portal.people import naming
from portal.support import words
from portal.top_up.words import definition_list

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.queries.approvals import RequestView, WaitingCounts
    from portal.viewing import Viewing

_TOLD = "approvals_told"
_ELSEWHERE: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("campaigns", N_("Campaigns ({count})"), "campaigns_page", {}),
    ("transfers", N_("Bank transfers ({count})"), "bank_transfers_page", {}),
    ("rates", N_("Exchange rates ({count})"), "rates_page", {}),
    ("payments", N_("Payments under review ({count})"), "payments_page", {"waiting": "yes"}),
)


def draw(here: Viewing) -> None:
    """Draw what waits, for all staff to see and for finance to decide."""
    told: str | None = st.session_state.pop(_TOLD, None)
    if told is not None:
        st.success(plain(told), icon=":material/check_circle:")
    requests = backend.read(list_requests, actor=here.visitor.actor)
    name = naming(here, {who for each in requests for who in (each.requested_by, each.decided_by)})
    if allows(here.visitor.actor, "decide_request"):
        _elsewhere(backend.read(waiting_counts, actor=here.visitor.actor))
    waiting = [each for each in requests if each.state == "waiting"]
    st.header(_("Waiting for approval"))
    if not waiting:
        text = _("Nothing waits here. What is above somebody's limit comes to this page.")
        st.info(text, icon=":material/task_alt:")
    for request in waiting:
        with st.container(border=True, key=f"request-{request.request_id}"):
            _waiting(here, request, name)
    decided = [each for each in requests if each.state != "waiting"]
    if decided:
        st.header(_("Decided"))
        _table(here, decided, name)


def _elsewhere(counts: WaitingCounts) -> None:
    """Draw the ways to what is decided on pages of its own."""
    with st.container(horizontal=True):
        for field, label, page, query in _ELSEWHERE:
            count = getattr(counts, field)
            if count:
                st.page_link(
                    st.session_state[page],
                    label=_(label).format(count=formats.number(count)),
                    icon=":material/arrow_forward:",
                    query_params=query,
                )


def _waiting(here: Viewing, request: RequestView, name: Callable[[str | None], str]) -> None:
    title = f"{words.action(request.action)} · {formats.money(request.amount)}"
    st.subheader(plain(title))
    lines = {
        _("Account"): f"{request.account_name} · {request.account_id}",
        _("What"): words.what(request.action, request.parameters, request.campaign),
        _("Reason"): request.reason,
        _("Asked for by"): name(request.requested_by),
        _("Asked"): here.date_time(request.requested_at),
        _("Expires"): here.date_time(request.expires_at),
    }
    st.html(definition_list(lines))
    is_mine = request.requested_by == audit.actor_name(here.visitor.actor)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            st.session_state["account_page"],
            label=_("Look at the account"),
            icon=":material/search:",
            query_params={"account": str(request.account_id)},
        )
        if is_mine:
            if st.button(_("Take it back"), key=f"withdraw-{request.request_id}"):
                _decide(
                    here,
                    lambda: backend.write(
                        withdraw_request,
                        request_id=request.request_id,
                        actor=here.visitor.actor,
                    ),
                    _("Taken back. Nothing was changed."),
                )
        elif allows(here.visitor.actor, "decide_request"):
            _buttons(here, request)
    if is_mine:
        st.caption(_("You asked for this. Somebody else of finance decides."))


def _buttons(here: Viewing, request: RequestView) -> None:
    amount, number = formats.money(request.amount), request.request_id
    with st.popover(_("Approve…")):
        st.markdown(_("It is judged again as it is now, and then done at once."))
        label = _("{what} of {amount}").format(what=words.action(request.action), amount=amount)
        if st.button(plain(label), type="primary", key=f"approve-{number}"):
            _decide(
                here,
                lambda: backend.write(approve_request, request_id=number, actor=here.visitor.actor),
                _("Done: {what}, {amount}.").format(
                    what=words.action(request.action), amount=amount
                ),
            )
    with st.popover(_("Refuse…")):
        reason = st.text_input(_("Reason"), max_chars=LONGEST_REASON, key=f"why-{number}")
        if st.button(_("Refuse it"), key=f"refuse-{number}"):
            _decide(
                here,
                lambda: backend.write(
                    refuse_request, request_id=number, reason=reason, actor=here.visitor.actor
                ),
                _("Refused. Nothing was changed."),
            )


def _decide(here: Viewing, decision: Callable[[], object], told: str) -> None:
    try:
        decision()
    except BillingError as error:
        st.error(plain(words.refusal(here, error)), icon=":material/error:")
    else:
        st.session_state[_TOLD] = told
        st.rerun()


def _table(
    here: Viewing, decided: Sequence[RequestView], name: Callable[[str | None], str]
) -> None:
    table = pa.table(
        {
            _("Asked"): [here.date_time(each.requested_at) for each in decided],
            _("Account"): [f"{each.account_name} · {each.account_id}" for each in decided],
            _("What"): [words.action(each.action) for each in decided],
            _("Amount"): [formats.money(each.amount) for each in decided],
            _("Reason"): [each.reason for each in decided],
            _("Asked for by"): [name(each.requested_by) for each in decided],
            _("Status"): [words.state(each.state) for each in decided],
            _("Decided by"): [name(each.decided_by) for each in decided],
            _("Remark"): [each.remark or "" for each in decided],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        key="decided",
        column_config={_("Amount"): st.column_config.TextColumn(alignment="right")},
    )
