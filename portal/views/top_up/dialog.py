"""Add credit: billing information first, then the amount, the method, a review, and away."""

from __future__ import annotations

import html
import json
import uuid
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import streamlit as st

from domain import payments
from domain.billing_profiles import current_profile, profile_choices
from domain.errors import BillingError, Conflict, InvalidInput
from domain.gateways.interface import GatewayRefused
from domain.ledger.balances import account_summary
from domain.money import Money
from domain.payments import CONSENT_VERSION, methods_of
from domain.payments.checkout import check_amount
from domain.payments.exchange_rates import make_quote
from domain.payments.top_up_limits import limits_of
from portal.runtime import database
from portal.runtime.gateways import gateway_of
from portal.runtime.settings import settings
from portal.shell.page_context import account_or_stop
from portal.ui import billing_profile_form, checked, definition_list, formats, partial_runs
from portal.ui.field_errors import FieldErrors
from portal.ui.formats import plain
from portal.ui.fragments import redraw_fragment
from portal.ui.i18n import _, current_language
from portal.ui.labels import errors as error_labels
from portal.ui.labels import gateways as gateway_labels
from portal.ui.labels import top_up as top_up_labels
from portal.ui.urls import payment_path

if TYPE_CHECKING:
    from domain.ledger.balances import AccountSummary
    from domain.payments import Method
    from domain.payments.exchange_rates import Quote
    from domain.payments.top_up_limits import TopUpLimits
    from portal.shell.page_context import PageContext

T = TypeVar("T")

_STATE = "add_credit"
_LOCAL_ADDRESS = "127.0.0.1"
_MAX_AMOUNT_LENGTH = 30


@dataclass
class _Steps:
    """How far somebody is, and what they chose; it lives until they close the dialog or leave.

    `key` makes the payment one; `opening` keeps the widgets of two openings apart. A step that is
    left takes its widgets' values with it, so what was chosen stands here as well. The first
    `step` is chosen when it is drawn.
    """

    account_id: int
    step: str | None = None
    preset: int | None = None
    typed: str = ""
    credit: Money | None = None
    method: Method | None = None
    instead_of: str | None = None
    quote: Quote | None = None
    agreed_to: tuple[Money, Method, Money] | None = None
    notice: str | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    opening: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def pay(self) -> Money | None:
        """What will be paid."""
        return self.quote.pay if self.quote is not None else self.credit

    def widget(self, name: str) -> str:
        """Return the key of a widget of this opening."""
        return f"add_credit_{name}-{self.opening}"


def open_dialog(
    account_id: int, *, credit: Money | None = None, instead_of: str | None = None
) -> None:
    """Open the dialog, as the callback of a button: `draw_open` draws it from then on.

    With `credit`, an amount that was chosen before, it goes on to the method; `instead_of` names
    the gateway that did not take it.
    """
    st.session_state[_STATE] = _Steps(account_id, credit=credit, instead_of=instead_of)


def draw_open(context: PageContext) -> None:
    """Draw the dialog where it is open.

    Streamlit closes a dialog that a run of the page does not draw, and a page that watches a
    payment runs by itself: what somebody is in the middle of would vanish.
    """
    steps: _Steps | None = st.session_state.get(_STATE)
    if steps is None:
        return
    account = context.account
    if account is None or account.account_id != steps.account_id:
        try:
            account = database.read_snapshot(
                account_summary, actor=context.visitor.actor, account_id=steps.account_id
            )
        except BillingError as error:
            _close()
            st.error(error_labels.text_of(error), icon=":material/error:")
            return
    # The title is read when the dialog is made, so it is made in the reader's language.
    decorate = partial_runs.dialog(_("Add credit"), width="medium", on_dismiss=_close)
    decorate(_draw)(replace(context, account=account))


def _close() -> None:
    st.session_state.pop(_STATE, None)


def _begin_steps(context: PageContext, account: AccountSummary, steps: _Steps) -> None:
    """Choose the first step; an amount that is offered as a preset is chosen there."""
    actor, account_id = context.visitor.actor, account.account_id
    credit = steps.credit
    if credit is not None and credit.currency != account.currency:
        credit = steps.credit = None
    if credit is not None:
        if credit in database.read_snapshot(limits_of, currency=credit.currency).presets:
            steps.preset = credit.micros
        else:
            steps.typed = formats.amount(credit)
    if database.read_snapshot(current_profile, actor=actor, account_id=account_id) is None:
        steps.step = "profile"
    else:
        steps.step = _after_profile(steps)


def _after_profile(steps: _Steps) -> str:
    return "amount" if steps.credit is None else "method"


def _draw(context: PageContext) -> None:
    account = account_or_stop(context)
    steps: _Steps = st.session_state[_STATE]
    draw = {
        "profile": _profile,
        "amount": _amount,
        "method": _method,
        "review": _review,
        "leave": _leave,
    }
    try:
        if steps.step is None:
            _begin_steps(context, account, steps)
        draw[_chosen(steps.step)](context, account, steps)
    except BillingError as error:
        st.error(plain(top_up_labels.refusal(error, account.currency)), icon=":material/error:")


def _go(steps: _Steps, step: str) -> None:
    steps.step = step
    redraw_fragment()


# ── Billing information ───────────────────────────────────────────────────────────────────────
def _profile(context: PageContext, account: AccountSummary, steps: _Steps) -> None:
    actor, account_id = context.visitor.actor, account.account_id
    st.write(_("Billing information. It appears on your receipts and invoices."))
    choices = database.read_snapshot(profile_choices, actor=actor, account_id=account_id)
    saved = billing_profile_form.draw(
        context, choices, None, key=steps.widget("profile"), submit_label=_("Continue")
    )
    if saved is not None:
        _go(steps, _after_profile(steps))


# ── Amount ────────────────────────────────────────────────────────────────────────────────────
def _amount(context: PageContext, account: AccountSummary, steps: _Steps) -> None:
    # The currency may have been chosen a moment ago, in the step before.
    currency = database.read_snapshot(
        profile_choices, actor=context.visitor.actor, account_id=account.account_id
    ).currency
    limits = database.read_snapshot(limits_of, currency=currency)
    errors = _amount_fields(steps, limits)
    if not st.button(_("Continue"), type="primary", key=steps.widget("to_method")):
        return
    try:
        steps.credit = _read_amount(steps, currency)
        database.read_snapshot(check_amount, currency=currency, credit=steps.credit)
    except InvalidInput as error:
        errors.show({"amount": top_up_labels.fault(error, currency)})
        return
    _go(steps, "method")


def _amount_fields(steps: _Steps, limits: TopUpLimits) -> FieldErrors:
    """Draw the offered amounts and the field for another: what was touched last counts alone."""
    presets = {amount.micros: formats.money(amount) for amount in limits.presets}
    preset_key, typed_key = steps.widget("preset"), steps.widget("amount")
    st.session_state.setdefault(preset_key, steps.preset if steps.preset in presets else None)
    st.session_state.setdefault(typed_key, steps.typed)

    def choose() -> None:
        if st.session_state[preset_key] is not None:
            st.session_state[typed_key] = ""

    def type_another() -> None:
        # A preset that was clicked right after typing arrives together with the text.
        is_clicked_too = st.session_state[preset_key] != steps.preset
        if st.session_state[typed_key].strip() and not is_clicked_too:
            st.session_state[preset_key] = None

    steps.preset = checked.pills(
        _("Amount"),
        list(presets),
        format_func=lambda micros: plain(presets[micros]),
        key=preset_key,
        on_change=choose,
    )
    steps.typed = st.text_input(
        _("Or another amount ({currency})").format(currency=limits.currency),
        key=typed_key,
        max_chars=_MAX_AMOUNT_LENGTH,
        placeholder=formats.money(limits.minimum),
        on_change=type_another,
    )
    errors = FieldErrors()
    errors.place("amount", typed_key)
    bounds = _("Minimum {minimum}, maximum {maximum}").format(
        minimum=formats.money(limits.minimum), maximum=formats.money(limits.maximum)
    )
    st.caption(plain(bounds))
    return errors


def _read_amount(steps: _Steps, currency: str) -> Money:
    """Return the amount that was chosen or typed. Raises InvalidInput."""
    if not steps.typed.strip():
        if steps.preset is None:
            raise InvalidInput("amount", "not_chosen")
        return Money(steps.preset, currency)
    return Money.parse(
        steps.typed, currency, locale=current_language(), second_locale=st.context.locale
    )


# ── Method ────────────────────────────────────────────────────────────────────────────────────
def _method(context: PageContext, account: AccountSummary, steps: _Steps) -> None:
    credit = _chosen(steps.credit)
    profile = database.read_snapshot(
        current_profile, actor=context.visitor.actor, account_id=account.account_id
    )
    country = profile.profile.country if profile is not None else ""
    offered = [
        method
        for method in methods_of(country, credit.currency)
        if (gateway := gateway_of(method.gateway)) is not None
        and gateway.limits(method.currency) is not None
    ]
    st.markdown(plain(_("{amount} of credit will be added.").format(amount=formats.money(credit))))
    if not offered:
        st.info(_("No payment method is set up for your country yet. Contact support."))
        _back(steps, "amount")
        return
    steps.method = checked.radio(
        _("Payment method"),
        offered,
        index=_method_index(steps, offered),
        format_func=_method_name,
        captions=[gateway_labels.accepted(each.gateway) for each in offered],
        key=steps.widget("method"),
    )
    errors = FieldErrors()
    errors.place("method", steps.widget("method"))
    with st.container(horizontal=True):
        is_sent = st.button(_("Continue"), type="primary", key=steps.widget("to_review"))
        _back(steps, "amount")
    if not is_sent:
        return
    try:
        _price(context, account, steps)
    except BillingError as error:
        errors.show({"method": top_up_labels.refusal(error, account.currency)})
        return
    _go(steps, "review")


def _method_index(steps: _Steps, offered: list[Method]) -> int:
    """Return which method is chosen at first: the one of before, or another than failed."""
    if steps.method in offered:
        return offered.index(steps.method)
    others = (at for at, each in enumerate(offered) if each.gateway != steps.instead_of)
    return next(others, 0)


def _method_name(method: Method) -> str:
    text = _("{gateway} (in {currency})")
    return text.format(gateway=gateway_labels.title(method.gateway), currency=method.currency)


def _price(context: PageContext, account: AccountSummary, steps: _Steps) -> None:
    """Lock what is to be paid, where that is in another currency; a new price is a new payment."""
    credit, method = _chosen(steps.credit), _chosen(steps.method)
    steps.quote = None
    steps.key = uuid.uuid4().hex
    if method.currency != credit.currency:
        steps.quote = database.transaction(
            make_quote,
            account_id=account.account_id,
            credit=credit,
            pay_currency=method.currency,
            actor=context.visitor.actor,
        )


# ── Review ────────────────────────────────────────────────────────────────────────────────────
def _review(context: PageContext, account: AccountSummary, steps: _Steps) -> None:
    credit, method, pay = _chosen(steps.credit), _chosen(steps.method), _chosen(steps.pay)
    lines = {
        _("You pay"): formats.money(pay),
        _("Credit to be added"): formats.money(credit),
        _("Payment method"): gateway_labels.title(method.gateway),
        **_exchange_lines(context, steps.quote),
    }
    st.html(definition_list.definition_list(lines))
    if steps.quote is not None:
        context.draw_zone()
    terms = (credit, method, pay)
    agreed = st.checkbox(
        _("I agree that credits purchased are non-refundable."),
        value=steps.agreed_to == terms,
        key=f"add_credit_consent-{steps.key}",
    )
    steps.agreed_to = terms if agreed else None
    errors = FieldErrors()
    errors.place_rest()
    if steps.notice is not None:
        errors.show({"payment": steps.notice})
        steps.notice = None
    with st.container(horizontal=True):
        is_sent = st.button(
            plain(_("Pay {amount}").format(amount=formats.money(pay))),
            type="primary",
            disabled=not agreed,
            key=steps.widget("pay"),
        )
        _back(steps, "method")
    if is_sent and agreed:
        _pay(context, account, steps, errors)


def _pay(context: PageContext, account: AccountSummary, steps: _Steps, errors: FieldErrors) -> None:
    """Begin the payment and leave; what was refused is priced anew, and is another payment."""
    name = gateway_labels.title(_chosen(steps.method).gateway)
    try:
        with st.spinner(_("Opening {gateway}…").format(gateway=name)):
            reference = _begin(context, account, steps)
    except (Conflict, GatewayRefused) as error:
        steps.notice = top_up_labels.refusal(error, account.currency)
        _price(context, account, steps)
        redraw_fragment()
    except BillingError as error:
        errors.show({"payment": top_up_labels.refusal(error, account.currency)})
        return
    st.session_state["add_credit_reference"] = reference
    _go(steps, "leave")


def _exchange_lines(context: PageContext, quote: Quote | None) -> dict[str, str]:
    if quote is None:
        return {}
    rate = formats.number(quote.effective_rate.normalize())
    text = _("1 {paid} = {rate} {credited}, including a margin of {percent} %. Source: {source}")
    shown = text.format(
        paid=quote.pay.currency,
        rate=rate,
        credited=quote.credit.currency,
        percent=_percent(quote.margin_basis_points),
        source=quote.source,
    )
    return {
        _("Exchange rate"): shown,
        _("Locked until"): context.date_time(quote.expires_at),
    }


def _percent(basis_points: int) -> str:
    return formats.number((Decimal(basis_points) / 100).normalize())


def _begin(context: PageContext, account: AccountSummary, steps: _Steps) -> str:
    """Write the payment down, have the gateway expect it, and return its reference."""
    method = _chosen(steps.method)
    gateway = gateway_of(method.gateway)
    if gateway is None:
        raise RuntimeError("a method is offered only where its gateway is")
    started = database.transaction(
        payments.start_payment,
        account_id=account.account_id,
        gateway=gateway,
        credit=_chosen(steps.credit),
        quote_id=steps.quote.id if steps.quote is not None else None,
        consent_version=CONSENT_VERSION,
        language=current_language(),
        actor=context.visitor.actor,
        idempotency_key=steps.key,
    )
    origin = own_origin()
    payments.open_checkout(
        database.sessions(context.visitor.actor),
        gateway=gateway,
        payment_id=started.payment_id,
        return_url=f"{origin}/payments/return/{gateway.name}",
        cancel_url=f"{origin}{payment_path(started.reference, is_cancelled=True)}",
        customer_ip=st.context.ip_address or _LOCAL_ADDRESS,
        actor=context.visitor.actor,
    )
    return started.reference


def own_origin() -> str:
    """Return where this browser reaches the portal: BASE_URL, or what it has in its address."""
    if not settings().allows_any_host:
        return settings().base_url
    parts = urlsplit(st.context.url or settings().base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _leave(_here: PageContext, _account: AccountSummary, steps: _Steps) -> None:
    """Send the browser away in this tab; a link stands by where scripts are slow."""
    path = f"/pay/{st.session_state['add_credit_reference']}"
    name = gateway_labels.title(_chosen(steps.method).gateway)
    st.info(_("Redirecting to {gateway}…").format(gateway=name), icon=":material/open_in_browser:")
    link = _("Go to {gateway}").format(gateway=name)
    st.html(f'<a href="{html.escape(path)}" target="_self">{html.escape(link)}</a>')
    st.html(f"<script>location.assign({json.dumps(path)})</script>", unsafe_allow_javascript=True)


def _back(steps: _Steps, step: str) -> None:
    if st.button(_("Back"), key=steps.widget(f"back_to_{step}")):
        _go(steps, step)


def _chosen(value: T | None) -> T:
    if value is None:
        raise RuntimeError("the steps before this one have chosen it")
    return value
