"""Exchange rates: what waits for a second person, what is in force, and a form for a new one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import pyarrow as pa
import streamlit as st

from domain import audit
from domain.errors import BillingError, InvalidInput, NotAuthorised
from domain.payments.exchange_duties import DutiesConflict, find_currencies_without_rates
from domain.payments.exchange_rates import (
    FAR_PERCENT,
    MAX_MARGIN_BASIS_POINTS,
    RateSuperseded,
    decide_rate,
    find_newer_rate,
    get_distance,
    list_rates,
    request_rate,
)
from domain.payments.rates_in_force import get_end_of_rate
from domain.permissions import allows
from domain.validation import MAX_REASON_LENGTH
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import approval_buttons, checked, formats
from portal.ui.definition_list import definition_list
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import top_up as top_up_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.payments.exchange_rates import Distance
    from domain.payments.rates_in_force import Rate
    from portal.shell.page_context import PageContext

_PLACE = "rates"
_FLASH = "rates_told"
_CREDITED = ("VND", "JPY")
_PAID = ("USD", "EUR")
_ERROR = ":material/error:"
_BASIS_POINTS = 100
_MAX_LENGTH = 30
_MAX_SOURCE_LENGTH = 100
_STATES = {
    "requested": N_("Waiting for approval"),
    "approved": N_("Approved"),
    "rejected": N_("Rejected"),
}
_FAULTS = {
    ("rate", "out_of_range"): N_("Enter the rate as a number above 0, such as 25400."),
    ("rate", "too_many_decimals"): N_("Enter a rate with at most ten decimals."),
    ("margin_basis_points", "out_of_range"): N_("The margin must be between 0 and 20 percent."),
    ("margin_basis_points", "too_many_decimals"): N_("Enter a margin with at most two decimals."),
    ("source", "empty"): N_("Enter the source of the rate."),
}


def draw(context: PageContext) -> None:
    """Draw the rates and what can be done about them."""
    pressed = approval_buttons.take_pressed(_PLACE)
    if pressed is not None:
        _decide(context, pressed.item, is_approved=pressed.action == "approve")
    message: tuple[str, bool] | None = st.session_state.pop(_FLASH, None)
    if message is not None:
        text, is_good = message
        (st.success if is_good else st.error)(plain(text))
    rates = database.read_snapshot(list_rates, actor=context.visitor.actor)
    name = naming(context, {who for each in rates for who in (each.requested_by, each.decided_by)})
    own_name = audit.actor_name(context.visitor.actor)
    waiting = [rate for rate in rates if rate.state == "requested"]
    for rate in waiting:
        _waiting(context, rate, name, is_own=rate.requested_by == own_name)
    if rates:
        _in_force(context, rates)
        _table(context, rates, name)
    else:
        st.info(_("No rates yet. Customers cannot pay in another currency. Request a rate."))
    if allows(context.visitor.actor, "request_rate"):
        _form(context)


def _waiting(
    context: PageContext, rate: Rate, name: Callable[[str | None], str], *, is_own: bool
) -> None:
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
        distance = _distance_of(context, rate)
        lines = {
            _("Change"): _change(distance),
            **_price_change(distance),
            _("Requested by"): name(rate.requested_by),
        }
        if rate.reason is not None:
            lines[_("Reason")] = rate.reason
        st.html(definition_list(lines))
        newer = database.read_snapshot(find_newer_rate, rate=rate, actor=context.visitor.actor)
        if newer is not None:
            st.warning(plain(_superseded(context, newer)), icon=":material/history:")
        elif distance is None or distance.is_far:
            st.caption(_who_approves(distance))
        if is_own:
            st.caption(_("You requested this. Waiting for approval by another person."))
        if is_own or not allows(context.visitor.actor, "decide_rate"):
            return
        with st.container(horizontal=True):
            if newer is None:
                approval_buttons.button(
                    _("Approve"), place=_PLACE, action="approve", item=rate.id, is_primary=True
                )
            approval_buttons.button(_("Reject"), place=_PLACE, action="refuse", item=rate.id)


def _distance_of(context: PageContext, rate: Rate) -> Distance | None:
    return database.read_snapshot(
        get_distance,
        base_currency=rate.base_currency,
        quote_currency=rate.quote_currency,
        rate=rate.rate,
        margin_basis_points=rate.margin_basis_points,
        actor=context.visitor.actor,
    )


def _superseded(context: PageContext, newer: Rate) -> str:
    """Say that a rate cannot be approved any more, and which one took its place."""
    text = _(
        "Superseded: a newer rate has been in force since {when}, {rate} with a margin of"
        " {percent} %, approved by {name}. Reject this request. If the rate is still needed,"
        " request it again."
    )
    return text.format(
        when=context.date_time(newer.decided_at or newer.requested_at),
        rate=formats.number(newer.rate.normalize()),
        percent=_percent(newer.margin_basis_points),
        name=naming(context, [newer.decided_by], in_sentence=True)(newer.decided_by),
    )


def _who_approves(distance: Distance | None) -> str:
    if distance is None:
        return _("The first rate of a pair needs approval by an administrator.")
    text = _(
        "A rate that differs by more than {percent} % from the rate in force, with or"
        " without margin, needs approval by an administrator."
    )
    return text.format(percent=FAR_PERCENT)


def _compared(rate: Decimal, margin_basis_points: int, distance: Distance) -> str:
    """Name a rate and the one in force, both alone and with their margins, and how far they are."""
    text = _(
        "Requested: {rate}, or {effective} with a margin of {margin} %. In force: {last}, or"
        " {effective_last} with a margin of {margin_last} %. Difference: {percent} %, or"
        " {effective_percent} % with margins."
    )
    return text.format(
        rate=formats.number(rate.normalize()),
        effective=formats.number(distance.effective_rate.normalize()),
        margin=_percent(margin_basis_points),
        last=formats.number(distance.rate_in_force.normalize()),
        effective_last=formats.number(distance.effective_in_force.normalize()),
        margin_last=_percent(distance.margin_in_force_basis_points),
        percent=formats.number(distance.percent),
        effective_percent=formats.number(distance.effective_percent),
    )


def _change(distance: Distance | None) -> str:
    """Return how far a rate is from the one in force."""
    if distance is None:
        return _("First rate of this pair")
    size = formats.number(abs(distance.percent))
    in_force = formats.number(distance.rate_in_force.normalize())
    if not distance.percent:
        return _("Same as the rate in force, {rate}").format(rate=in_force)
    text = (
        _("{percent} % above the rate in force, {rate}")
        if distance.percent > 0
        else _("{percent} % below the rate in force, {rate}")
    )
    return text.format(percent=size, rate=in_force)


def _price_change(distance: Distance | None) -> dict[str, str]:
    """Return how much more or less is paid for the same credit, where the margin changes that."""
    if distance is None or not distance.price_percent:
        return {}
    size = formats.number(abs(distance.price_percent))
    text = _("{percent} % more") if distance.price_percent > 0 else _("{percent} % less")
    return {_("Price of the same credit"): text.format(percent=size)}


def _decide(context: PageContext, rate_id: int, *, is_approved: bool) -> None:
    try:
        database.transaction(
            decide_rate, rate_id=rate_id, is_approved=is_approved, actor=context.visitor.actor
        )
    except BillingError as error:
        _say(_refusal(context, rate_id, error), is_good=False)
    else:
        _say(_("Rate approved. It is now in force.") if is_approved else _("Rate rejected."))


def _refusal(context: PageContext, rate_id: int, error: BillingError) -> str:
    """Say why a rate was not decided; where it is far, name the figures that made it so."""
    if isinstance(error, RateSuperseded):
        return _superseded(context, error.newer)
    if isinstance(error, DutiesConflict):
        return _duties(error.currency)
    found = database.read_snapshot(list_rates, actor=context.visitor.actor)
    rate = next((each for each in found if each.id == rate_id), None)
    if isinstance(error, NotAuthorised) and rate is not None:
        if rate.requested_by == audit.actor_name(context.visitor.actor):
            return _("You requested this. Waiting for approval by another person.")
        distance = _distance_of(context, rate)
        text = _who_approves(distance)
    else:
        is_moved = getattr(error, "reason", "") == "rate_moved_meanwhile"
        distance = _distance_of(context, rate) if is_moved and rate is not None else None
        text = approval_buttons.what_happened(context, error) or top_up_labels.refusal(error)
    if distance is None or rate is None:
        return text
    return f"{text} {_compared(rate.rate, rate.margin_basis_points, distance)}"


def _duties(currency: str) -> str:
    text = _(
        "You recorded a bank transfer in {currency} that is waiting for approval. Until it"
        " is decided, another finance member or an administrator must request and approve"
        " rates for {currency}."
    )
    return text.format(currency=currency)


def _say(text: str, *, is_good: bool = True) -> None:
    st.session_state[_FLASH] = (text, is_good)
    st.rerun()


def _in_force(context: PageContext, rates: Sequence[Rate]) -> None:
    """Say until when the newest approved rate of each pair serves."""
    newest: dict[tuple[str, str], Rate] = {}
    for rate in rates:
        pair = (rate.base_currency, rate.quote_currency)
        if rate.decided_at is None or rate.state != "approved":
            continue
        known = newest.get(pair)
        if known is None or (known.decided_at or rate.decided_at, known.id) < (
            rate.decided_at,
            rate.id,
        ):
            newest[pair] = rate
    for (paid, credited), rate in sorted(newest.items()):
        end = database.read_snapshot(get_end_of_rate, rate=rate, actor=context.visitor.actor)
        text = (
            _("{pair}: valid until {when}, after weekends and public holidays of both countries.")
            if end > datetime.now(UTC)
            else _(
                "{pair}: out of date since {when}. Customers cannot pay with this rate. Request"
                " a new one."
            )
        )
        shown = text.format(pair=f"{paid} → {credited}", when=context.date_time(end))
        st.caption(plain(shown))


def _table(context: PageContext, rates: Sequence[Rate], name: Callable[[str | None], str]) -> None:
    table = pa.table(
        {
            _("Pair"): [f"{rate.base_currency} → {rate.quote_currency}" for rate in rates],
            _("Rate"): [formats.number(rate.rate.normalize()) for rate in rates],
            _("Margin (%)"): [_percent(rate.margin_basis_points) for rate in rates],
            _("As of"): [context.date_time(rate.as_of) for rate in rates],
            _("Status"): [_(_STATES[rate.state]) for rate in rates],
            _("Source"): [rate.source for rate in rates],
            _("Requested by"): [name(rate.requested_by) for rate in rates],
            _("Decided by"): [name(rate.decided_by) for rate in rates],
            _("Reason"): [rate.reason or "" for rate in rates],
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


def _form(context: PageContext) -> None:
    st.subheader(_("Request a rate"))
    found = database.read_snapshot(find_currencies_without_rates, actor=context.visitor.actor)
    closed = sorted(found.intersection(_PAID + _CREDITED))
    for currency in closed:
        st.info(plain(_duties(currency)), icon=":material/group:")
    paid_options = [each for each in _PAID if each not in closed]
    credited_options = [each for each in _CREDITED if each not in closed]
    if not (paid_options and credited_options):
        return
    # What was filled in while a currency was offered still is not sent for another one.
    with st.form("-".join(("request_rate", *closed))):
        with st.container(horizontal=True):
            paid = checked.selectbox(_("Paid"), paid_options, key="rate_paid")
            credited = checked.selectbox(_("Credited"), credited_options, key="rate_credited")
        rate = st.text_input(_("Credit per unit paid"), max_chars=_MAX_LENGTH, key="rate_value")
        margin = st.text_input(_("Margin (%)"), "1.5", max_chars=_MAX_LENGTH, key="rate_margin")
        source = st.text_input(
            _("Source, such as the bank's website"), max_chars=_MAX_SOURCE_LENGTH, key="rate_source"
        )
        reason = st.text_input(
            _(
                "Reason (required if the rate differs by more than {percent} % from the rate"
                " in force, with or without margin)"
            ).format(percent=FAR_PERCENT),
            max_chars=MAX_REASON_LENGTH,
            key="rate_reason",
        )
        is_sent = st.form_submit_button(_("Request rate"), type="primary")
    if not is_sent:
        return
    proposed, basis_points = Decimal(0), 0
    try:
        proposed, basis_points = _number(rate, "rate"), _basis_points(margin)
        database.transaction(
            request_rate,
            base_currency=paid,
            quote_currency=credited,
            rate=proposed,
            margin_basis_points=basis_points,
            source=source,
            as_of=datetime.now(UTC).replace(second=0, microsecond=0),
            reason=reason,
            actor=context.visitor.actor,
        )
    except InvalidInput as fault:
        if (fault.field, fault.reason) == ("reason", "empty"):
            st.error(_ask_reason(context, paid, credited, (proposed, basis_points)), icon=_ERROR)
            return
        text = _FAULTS.get((fault.field, fault.reason))
        st.error(_(text) if text else top_up_labels.fault(fault), icon=_ERROR)
    except DutiesConflict as error:
        st.error(plain(_duties(error.currency)), icon=_ERROR)
    except BillingError as error:
        st.error(top_up_labels.refusal(error), icon=_ERROR)
    else:
        _say(_("Rate requested. Waiting for approval by another person."))


def _ask_reason(context: PageContext, paid: str, credited: str, terms: tuple[Decimal, int]) -> str:
    rate, margin_basis_points = terms
    distance = database.read_snapshot(
        get_distance,
        base_currency=paid,
        quote_currency=credited,
        rate=rate,
        margin_basis_points=margin_basis_points,
        actor=context.visitor.actor,
    )
    changes = [_change(distance), *(": ".join(each) for each in _price_change(distance).items())]
    text = _(
        "{changes}. A rate that differs by more than {percent} % from the rate in force,"
        " with or without margin, needs a reason. Check the rate, and enter the reason."
    ).format(changes=". ".join(changes), percent=FAR_PERCENT)
    return text if distance is None else f"{text} {_compared(rate, margin_basis_points, distance)}"


def _basis_points(text: str) -> int:
    """Return a margin in basis points as people type it in percent. Raises InvalidInput."""
    percent = _number(text, "margin_basis_points")
    # Before it is turned into a whole number, which a huge one would take all day for.
    if not 0 <= percent <= MAX_MARGIN_BASIS_POINTS // _BASIS_POINTS:
        raise InvalidInput("margin_basis_points", "out_of_range")
    found = percent * _BASIS_POINTS
    if found != found.to_integral_value():
        raise InvalidInput("margin_basis_points", "too_many_decimals")
    return int(found)


def _number(text: str, field: str) -> Decimal:
    """Return a plain decimal as people type it, without groups. Raises InvalidInput."""
    try:
        found = Decimal(text.strip())
    except InvalidOperation:
        raise InvalidInput(field, "out_of_range") from None
    if not found.is_finite():
        raise InvalidInput(field, "out_of_range")
    return found
