"""Add credit: billing information first, then the amount, the method, a review, and away."""

from __future__ import annotations

import html
import json
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import streamlit as st

from domain import payments
from domain.billing_profiles import current_profile, profile_choices
from domain.errors import BillingError
from domain.exchange import make_quote
from domain.money import Money
from domain.payments import CONSENT_VERSION, methods_of
from domain.payments.checkout import check_amount
from domain.top_up_limits import limits_of
from portal import backend, formats
from portal.formats import plain
from portal.gateways import gateway_of
from portal.i18n import _, current_language
from portal.routes.payments import payment_path
from portal.settings import settings
from portal.top_up import profile_form, words

if TYPE_CHECKING:
    from domain.exchange import Quote
    from domain.payments import Method
    from domain.queries.balances import AccountSummary
    from portal.viewing import Viewing

T = TypeVar("T")

_STATE = "add_credit"
_LOCAL_ADDRESS = "127.0.0.1"
_LONGEST_AMOUNT = 30


@dataclass
class _Steps:
    """How far somebody is; it lives as long as their dialog. `key` makes the payment one."""

    step: str = "profile"
    credit: Money | None = None
    method: Method | None = None
    quote: Quote | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def pay(self) -> Money | None:
        """What will be paid."""
        return self.quote.pay if self.quote is not None else self.credit


def open_dialog(here: Viewing, account: AccountSummary) -> None:
    """Open the dialog at its first step."""
    st.session_state[_STATE] = _Steps()
    # The title is read when the dialog is made, so it is made in the reader's language.
    st.dialog(_("Add credit"), width="medium")(_draw)(here, account)


def _draw(here: Viewing, account: AccountSummary) -> None:
    steps: _Steps = st.session_state.setdefault(_STATE, _Steps())
    draw = {
        "profile": _profile,
        "amount": _amount,
        "method": _method,
        "review": _review,
        "leave": _leave,
    }[steps.step]
    try:
        draw(here, account, steps)
    except BillingError as error:
        st.error(words.refusal(error, account.currency), icon=":material/error:")


def _go(steps: _Steps, step: str) -> None:
    steps.step = step
    st.rerun(scope="fragment")


# ── Steps ─────────────────────────────────────────────────────────────────────────────────────
def _profile(here: Viewing, account: AccountSummary, steps: _Steps) -> None:
    actor, account_id = here.visitor.actor, account.account_id
    if backend.read(current_profile, actor=actor, account_id=account_id) is None:
        st.write(_("Who pays? This stands on your receipts."))
        choices = backend.read(profile_choices, actor=actor, account_id=account_id)
        saved = profile_form.draw(
            here, choices, None, key="add_credit_profile", submit_label=_("Continue")
        )
        if saved is None:
            return
    _go(steps, "amount")


def _amount(here: Viewing, account: AccountSummary, steps: _Steps) -> None:
    # The currency may have been chosen a moment ago, in the step before.
    currency = backend.read(
        profile_choices, actor=here.visitor.actor, account_id=account.account_id
    ).currency
    limits = backend.read(limits_of, currency=currency)
    presets = {amount.micros: formats.money(amount) for amount in limits.presets}
    chosen = st.pills(
        _("Amount"),
        list(presets),
        format_func=lambda micros: plain(presets[micros]),
        key="add_credit_preset",
    )
    typed = st.text_input(
        _("Or another amount ({currency})").format(currency=currency),
        key="add_credit_amount",
        max_chars=_LONGEST_AMOUNT,
        placeholder=formats.number(limits.minimum.to_decimal().normalize()),
        help=_("A number typed here counts instead of the choice above."),
    )
    least = _("The least is {amount}.").format(amount=formats.money(limits.minimum))
    st.caption(plain(least))
    if not st.button(_("Continue"), type="primary", key="add_credit_to_method"):
        return
    if not typed.strip() and chosen is None:
        st.error(_("Choose or enter an amount."), icon=":material/error:")
        return
    credit = Money(chosen or 0, currency)
    if typed.strip():
        credit = Money.parse(typed, currency, locale=current_language())
    backend.read(check_amount, currency=currency, credit=credit)
    steps.credit = credit
    _go(steps, "method")


def _method(here: Viewing, account: AccountSummary, steps: _Steps) -> None:
    credit = _chosen(steps.credit)
    profile = backend.read(current_profile, actor=here.visitor.actor, account_id=account.account_id)
    country = profile.profile.country if profile is not None else ""
    offered = [
        method
        for method in methods_of(country, credit.currency)
        if (gateway := gateway_of(method.gateway)) is not None
        and gateway.limits(method.currency) is not None
    ]
    st.markdown(plain(_("You add {amount}.").format(amount=formats.money(credit))))
    if not offered:
        st.info(_("No payment method is set up for your country yet. Contact support."))
        _back(steps, "amount")
        return
    method = st.radio(
        _("Payment method"),
        offered,
        format_func=_method_name,
        captions=[words.accepted(each.gateway) for each in offered],
        key="add_credit_method",
    )
    with st.container(horizontal=True):
        is_sent = st.button(_("Continue"), type="primary", key="add_credit_to_review")
        _back(steps, "amount")
    if is_sent:
        steps.method = method
        _price(here, account, steps)
        _go(steps, "review")


def _method_name(method: Method) -> str:
    text = _("{gateway} (in {currency})")
    return text.format(gateway=words.gateway(method.gateway), currency=method.currency)


def _price(here: Viewing, account: AccountSummary, steps: _Steps) -> None:
    """Lock what is to be paid, where that is in another currency; a new price is a new payment."""
    credit, method = _chosen(steps.credit), _chosen(steps.method)
    steps.quote = None
    steps.key = uuid.uuid4().hex
    if method.currency != credit.currency:
        steps.quote = backend.write(
            make_quote,
            account_id=account.account_id,
            credit=credit,
            pay_currency=method.currency,
            actor=here.visitor.actor,
        )


def _review(here: Viewing, account: AccountSummary, steps: _Steps) -> None:
    credit, method, pay = _chosen(steps.credit), _chosen(steps.method), _chosen(steps.pay)
    lines = {
        _("You pay"): formats.money(pay),
        _("You get"): formats.money(credit),
        _("With"): words.gateway(method.gateway),
        **_exchange_lines(here, steps.quote),
    }
    st.html(words.definition_list(lines))
    agreed = st.checkbox(
        _("I agree that credit I buy is non-refundable."), key=f"add_credit_consent-{steps.key}"
    )
    with st.container(horizontal=True):
        is_sent = st.button(
            plain(_("Pay {amount}").format(amount=formats.money(pay))),
            type="primary",
            disabled=not agreed,
            key="add_credit_pay",
        )
        _back(steps, "method")
    if is_sent and agreed:
        with st.spinner(_("Opening {gateway}…").format(gateway=words.gateway(method.gateway))):
            reference = _begin(here, account, steps)
        st.session_state["add_credit_reference"] = reference
        _go(steps, "leave")


def _exchange_lines(here: Viewing, quote: Quote | None) -> dict[str, str]:
    if quote is None:
        return {}
    rate = formats.number(quote.effective_rate.normalize())
    text = _("1 {paid} = {rate} {credited}, with a margin of {percent} %, source: {source}")
    shown = text.format(
        paid=quote.pay.currency,
        rate=rate,
        credited=quote.credit.currency,
        percent=_percent(quote.margin_basis_points),
        source=quote.source,
    )
    return {
        _("Exchange rate"): shown,
        _("Locked until"): here.date_time(quote.expires_at),
    }


def _percent(basis_points: int) -> str:
    return formats.number((Decimal(basis_points) / 100).normalize())


def _begin(here: Viewing, account: AccountSummary, steps: _Steps) -> str:
    """Write the payment down, have the gateway expect it, and return its reference."""
    method = _chosen(steps.method)
    gateway = gateway_of(method.gateway)
    if gateway is None:
        raise RuntimeError("a method is offered only where its gateway is")
    started = backend.write(
        payments.start_payment,
        account_id=account.account_id,
        gateway=gateway,
        credit=_chosen(steps.credit),
        quote_id=steps.quote.id if steps.quote is not None else None,
        consent_version=CONSENT_VERSION,
        language=current_language(),
        actor=here.visitor.actor,
        idempotency_key=steps.key,
    )
    origin = own_origin()
    payments.open_checkout(
        backend.sessions(),
        gateway=gateway,
        payment_id=started.payment_id,
        return_url=f"{origin}/payments/return/{gateway.name}",
        cancel_url=f"{origin}{payment_path(started.reference, is_cancelled=True)}",
        customer_ip=st.context.ip_address or _LOCAL_ADDRESS,
        actor=here.visitor.actor,
    )
    return started.reference


def own_origin() -> str:
    """Return where this browser reaches the portal: BASE_URL, or what it has in its address."""
    if not settings().allows_any_host:
        return settings().base_url
    parts = urlsplit(st.context.url or settings().base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _leave(_here: Viewing, _account: AccountSummary, steps: _Steps) -> None:
    """Send the browser away in this tab; a link stands by where scripts are slow."""
    path = f"/pay/{st.session_state['add_credit_reference']}"
    name = words.gateway(_chosen(steps.method).gateway)
    st.info(_("Taking you to {gateway}…").format(gateway=name), icon=":material/open_in_browser:")
    link = _("Go to {gateway}").format(gateway=name)
    st.html(f'<a href="{html.escape(path)}" target="_self">{html.escape(link)}</a>')
    st.html(f"<script>location.assign({json.dumps(path)})</script>", unsafe_allow_javascript=True)


def _back(steps: _Steps, step: str) -> None:
    if st.button(_("Back"), key=f"add_credit_back_to_{step}"):
        _go(steps, step)


def _chosen(value: T | None) -> T:
    if value is None:
        raise RuntimeError("the steps before this one have chosen it")
    return value
