"""Exchange rates: what waits for a second person, what is in force, and a form for a new one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import audit
from domain.errors import BillingError, InvalidInput, NotAuthorised
from domain.exchange import decide_rate, list_rates, propose_rate
from portal import backend, formats
from portal.formats import plain
from portal.i18n import N_, _
from portal.people import naming
from portal.top_up import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domain.exchange import Rate
    from portal.viewing import Viewing

_TOLD = "rates_told"
_CREDITED = ("VND", "JPY")
_PAID = ("USD", "EUR")
_BASIS_POINTS = 100
_LONGEST = 30
_LONGEST_SOURCE = 100
_STATES = {
    "proposed": N_("Waits for approval"),
    "approved": N_("Approved"),
    "refused": N_("Refused"),
}
_FAULTS = {
    ("rate", "out_of_range"): N_("Enter the rate as a number above 0, such as 25400."),
    ("rate", "too_many_decimals"): N_("A rate has at most ten decimals."),
    ("margin_basis_points", "out_of_range"): N_("The margin is between 0 and 20 percent."),
    ("source", "empty"): N_("Say where the rate comes from."),
}


def draw(here: Viewing) -> None:
    """Draw the rates and what can be done about them."""
    told: tuple[str, bool] | None = st.session_state.pop(_TOLD, None)
    if told is not None:
        text, is_good = told
        (st.success if is_good else st.error)(plain(text))
    rates = backend.read(list_rates, actor=here.visitor.actor)
    own_name = audit.actor_name(here.visitor.actor)
    waiting = [rate for rate in rates if rate.state == "proposed"]
    for rate in waiting:
        _waiting(here, rate, is_own=rate.proposed_by == own_name)
    if rates:
        _table(here, rates)
    else:
        st.info(_("No rate yet. Without one, nobody can pay dollars for dong or yen."))
    _form(here)


def _waiting(here: Viewing, rate: Rate, *, is_own: bool) -> None:
    with st.container(border=True, key=f"rate-{rate.id}"):
        text = _("1 {paid} = {rate} {credited}, margin {percent} %, from {source}")
        shown = text.format(
            paid=rate.base_currency,
            rate=formats.number(rate.rate.normalize()),
            credited=rate.quote_currency,
            percent=_percent(rate.margin_basis_points),
            source=rate.source,
        )
        st.markdown(plain(shown))
        if is_own:
            st.caption(_("You proposed this. Somebody else decides."))
            return
        with st.container(horizontal=True):
            if st.button(_("Approve"), type="primary", key=f"approve-{rate.id}"):
                _decide(here, rate, is_approved=True)
            if st.button(_("Refuse"), key=f"refuse-{rate.id}"):
                _decide(here, rate, is_approved=False)


def _decide(here: Viewing, rate: Rate, *, is_approved: bool) -> None:
    try:
        backend.write(
            decide_rate, rate_id=rate.id, is_approved=is_approved, actor=here.visitor.actor
        )
    except NotAuthorised:
        _say(
            _(
                "A first rate, and one that moved by more than 5 %, is approved by an"
                " administrator."
            ),
            is_good=False,
        )
    except BillingError as error:
        _say(words.refusal(error), is_good=False)
    else:
        _say(_("The rate is in force.") if is_approved else _("The rate is refused."))


def _say(text: str, *, is_good: bool = True) -> None:
    st.session_state[_TOLD] = (text, is_good)
    st.rerun()


def _table(here: Viewing, rates: Sequence[Rate]) -> None:
    name = naming(here, {who for each in rates for who in (each.proposed_by, each.decided_by)})
    table = pa.table(
        {
            _("Pair"): [f"{rate.base_currency} → {rate.quote_currency}" for rate in rates],
            _("Rate"): [formats.number(rate.rate.normalize()) for rate in rates],
            _("Margin (%)"): [_percent(rate.margin_basis_points) for rate in rates],
            _("As of"): [here.date_time(rate.as_of) for rate in rates],
            _("Status"): [_(_STATES[rate.state]) for rate in rates],
            _("Source"): [rate.source for rate in rates],
            _("Proposed by"): [name(rate.proposed_by) for rate in rates],
            _("Decided by"): [name(rate.decided_by) for rate in rates],
        }
    )
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        column_config={_("Rate"): right, _("Margin (%)"): right},
    )


def _percent(basis_points: int) -> str:
    return formats.number((Decimal(basis_points) / _BASIS_POINTS).normalize())


def _form(here: Viewing) -> None:
    st.subheader(_("Propose a rate"))
    with st.form("propose_rate"):
        with st.container(horizontal=True):
            paid = st.selectbox(_("Paid"), _PAID, key="rate_paid")
            credited = st.selectbox(_("Credited"), _CREDITED, key="rate_credited")
        rate = st.text_input(_("Credited for one unit paid"), max_chars=_LONGEST, key="rate_value")
        margin = st.text_input(_("Margin (%)"), "1.5", max_chars=_LONGEST, key="rate_margin")
        source = st.text_input(
            _("Source, such as the bank's page"), max_chars=_LONGEST_SOURCE, key="rate_source"
        )
        is_sent = st.form_submit_button(_("Propose"), type="primary")
    if not is_sent:
        return
    try:
        backend.write(
            propose_rate,
            base_currency=paid,
            quote_currency=credited,
            rate=_number(rate, "rate"),
            margin_basis_points=int(_number(margin, "margin_basis_points") * _BASIS_POINTS),
            source=source,
            as_of=datetime.now(UTC).replace(second=0, microsecond=0),
            actor=here.visitor.actor,
        )
    except InvalidInput as fault:
        text = _FAULTS.get((fault.field, fault.reason))
        st.error(_(text) if text else words.fault(fault), icon=":material/error:")
    except BillingError as error:
        st.error(words.refusal(error), icon=":material/error:")
    else:
        _say(_("Proposed. Somebody else approves it."))


def _number(text: str, field: str) -> Decimal:
    """Return a plain decimal as people type it, without groups. Raises InvalidInput."""
    try:
        found = Decimal(text.strip())
    except InvalidOperation:
        raise InvalidInput(field, "out_of_range") from None
    if not found.is_finite():
        raise InvalidInput(field, "out_of_range")
    return found
