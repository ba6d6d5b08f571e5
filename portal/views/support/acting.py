"""The forms with which staff act on an account."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import BillingError, InvalidInput, ReversalExceedsOriginal
from domain.history.details import entry_detail
from domain.money import Money
from domain.permissions import allows
from domain.support import (
    MAX_GOODWILL_DAYS,
    REVERSIBLE_CREDITS,
    ApplyCode,
    CompletedAction,
    GiveGoodwill,
    IssueVoucher,
    ReverseEntry,
    get_allowance,
    perform_or_request,
    preview_action,
)
from domain.validation import MAX_NUMBER_LENGTH, MAX_REASON_LENGTH, is_whole_number
from domain.vouchers import list_campaigns, rate_limited
from portal.runtime import database
from portal.runtime.settings import settings
from portal.ui import checked, formats, forms, page_state, query_params, submit_once
from portal.ui.definition_list import definition_list
from portal.ui.formats import plain
from portal.ui.i18n import _, current_language
from portal.ui.labels import ledger as ledger_labels
from portal.ui.labels import support as support_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from domain.history.details import EntryDetail
    from domain.ledger.balances import AccountSummary
    from domain.support import PendingApproval, Preview, StaffAction
    from portal.shell.page_context import PageContext

_FLASH = "acted"
_ONCE = "act_once"
_ISSUED = "issued_vouchers"
_FORM = "acts"
_USUAL_DAYS = 90
_MAX_CODE_LENGTH = 40
_MAX_AMOUNT_LENGTH = 40


def draw(context: PageContext, account: AccountSummary) -> None:
    """Draw the choice of acts, and the form of the chosen one."""
    _tell(context, account)
    _show_codes()
    if not allows(context.visitor.actor, "act_on_account"):
        st.info(
            _(
                "Your role does not allow actions on accounts. Support and Finance can perform"
                " them."
            ),
            icon=":material/info:",
        )
        return
    if account.account_id in context.visitor.actor.memberships:
        st.info(
            _("You are a member of this account. Another staff member must act on it."),
            icon=":material/info:",
        )
        return
    given = query_params.get("do")
    query_params.set_widget(
        "act", given if given in support_labels.ACTIONS else next(iter(support_labels.ACTIONS))
    )
    chosen = checked.segmented_control(
        _("Action"),
        list(support_labels.ACTIONS),
        key="act",
        format_func=support_labels.action,
        required=True,
        on_change=_choose,
    )
    if chosen is None:
        return
    _say_limit(context, account, chosen)
    _FORMS[chosen](context, account)


def _choose() -> None:
    query_params.remove("entry")
    query_params.put("do", st.session_state["act"])


def _say_limit(context: PageContext, account: AccountSummary, action: str) -> None:
    allowance = database.read_snapshot(
        get_allowance,
        action=action,
        account_id=account.account_id,
        currency=account.currency,
        actor=context.visitor.actor,
    )
    text = f"{support_labels.allowance_left(allowance)} {support_labels.approved_by(context)}"
    st.caption(plain(text))


def _key(name: str) -> str:
    return forms.key(_FORM, name)


def _issue_voucher(context: PageContext, account: AccountSummary) -> None:
    now = datetime.now(UTC)
    offered = {
        campaign.campaign_id: (campaign.terms, offer.amount)
        for campaign in database.read_snapshot(list_campaigns, actor=context.visitor.actor)
        for offer in campaign.terms.offers
        if campaign.state == "approved"
        and campaign.terms.is_for_support
        and campaign.terms.redeem_from <= now < campaign.terms.redeem_until
        and offer.budget.currency == account.currency
    }
    if not offered:
        text = _(
            "No campaign allows support to issue vouchers in {currency}. Ask finance to request"
            " one."
        )
        st.info(text.format(currency=account.currency), icon=":material/redeem:")
        return

    def name(campaign_id: int) -> str:
        terms, amount = offered[campaign_id]
        return f"{formats.money(amount)} · {terms.name}"

    with st.form(_key("issue_voucher"), border=False):
        campaign_id = checked.selectbox(
            _("Campaign"), list(offered), format_func=name, key=_key("campaign")
        )
        reason = _reason()
        is_sent = st.form_submit_button(_("Issue voucher"), type="primary")
    if is_sent:
        _act(context, account, reason, lambda: IssueVoucher(campaign_id))


def _apply_code(context: PageContext, account: AccountSummary) -> None:
    with st.form(_key("apply_code"), border=False):
        typed = st.text_input(
            _("Voucher code"),
            max_chars=_MAX_CODE_LENGTH,
            key=_key("act_code"),
            placeholder="ABCD234567",
        )
        reason = _reason()
        is_sent = st.form_submit_button(_("Apply voucher code"), type="primary")
    if is_sent:
        _act(context, account, reason, lambda: ApplyCode(typed))


def _give_goodwill(context: PageContext, account: AccountSummary) -> None:
    services = ledger_labels.service_names()
    with st.form(_key("give_goodwill"), border=False):
        with st.grid(columns=2, min_column_width=200):
            amount = st.text_input(
                _("Amount in {currency}").format(currency=account.currency),
                max_chars=_MAX_AMOUNT_LENGTH,
                key=_key("act_amount"),
            )
            days = st.number_input(
                _("Validity in days"),
                min_value=1,
                max_value=MAX_GOODWILL_DAYS,
                value=_USUAL_DAYS,
                key=_key("act_days"),
            )
        chosen = checked.multiselect(
            _("Services (empty for all)"),
            list(services),
            format_func=lambda slug: services[slug],
            placeholder=_("All services"),
            key=_key("act_services"),
        )
        reason = _reason()
        is_sent = st.form_submit_button(_("Grant goodwill credit"), type="primary")
    if is_sent:
        _act(
            context,
            account,
            reason,
            lambda: GiveGoodwill(_amount(amount, account).micros, int(days), tuple(chosen) or None),
        )


def _reverse_entry(context: PageContext, account: AccountSummary) -> None:
    st.caption(
        _(
            "Reversing a charge restores the credit that paid it. Reversing a voucher or"
            " goodwill credit removes its unspent part."
        )
    )
    typed = st.text_input(
        _("Entry number"),
        str(query_params.get_number("entry") or ""),
        max_chars=MAX_NUMBER_LENGTH,
        key=_key("act_entry"),
    )
    number = typed.strip()
    if not is_whole_number(number):
        st.info(_("Enter the entry number from Credit History."), icon=":material/info:")
        return
    try:
        entry = database.read_snapshot(
            entry_detail,
            actor=context.visitor.actor,
            account_id=account.account_id,
            sequence=int(number),
        )
        _show_entry(context, entry)
        staff_action = _reversal(context, account, entry)
    except BillingError as error:
        st.error(
            plain(support_labels.refusal(context, error, account.currency)), icon=":material/error:"
        )
        return
    if staff_action is None:
        return
    reason = _reason()
    if st.button(_("Reverse entry"), type="primary", key=_key("reverse_send")):
        _act(context, account, reason, lambda: staff_action)


def _show_entry(context: PageContext, entry: EntryDetail) -> None:
    text = ledger_labels.description(entry.description_code, entry.description_parameters)
    lines = {
        _("Entry"): f"{ledger_labels.kind(entry.kind)} · {text}",
        _("Amount"): context.money(entry.amount_micros, signed=True),
        _("Date"): context.date_time(entry.occurred_at),
    }
    done = sum(each.amount_micros for each in entry.reversed_by)
    if done:
        lines[_("Reversed so far")] = context.money(abs(done))
    st.html(definition_list(lines))


def _reversal(
    context: PageContext, account: AccountSummary, entry: EntryDetail
) -> ReverseEntry | None:
    """Ask how much to reverse, say what that does, and return it; None where nothing is left."""
    includes_spent = False
    may_go_on = allows(context.visitor.actor, "reverse_paid_credit", account.account_id)
    if may_go_on and entry.kind in REVERSIBLE_CREDITS:
        includes_spent = st.checkbox(
            _("Include spent credit (deducted from top-up credit, or added to the amount due)"),
            key=_key(f"act_spent-{entry.sequence}"),
        )
    whole = ReverseEntry(entry.sequence, None, includes_spent)
    try:
        found = _preview(context, account, whole)
    except ReversalExceedsOriginal:
        text = (
            _(
                "Nothing is left to reverse: the credit is spent, on hold, expired or already"
                " reversed."
            )
            if entry.kind in REVERSIBLE_CREDITS and not includes_spent
            else _("Nothing is left to reverse: this entry was fully reversed.")
        )
        st.info(text, icon=":material/info:")
        return None
    st.markdown(plain(_("Reversible amount: {amount}").format(amount=formats.money(found.amount))))
    typed = st.text_input(
        _("Amount in {currency}, or empty for all").format(currency=account.currency),
        max_chars=_MAX_AMOUNT_LENGTH,
        key=_key("act_reversed"),
    )
    if not typed.strip():
        _show_effect(context, found)
        return whole
    part = ReverseEntry(entry.sequence, _amount(typed, account).micros, includes_spent)
    _show_effect(context, _preview(context, account, part))
    return part


def _preview(context: PageContext, account: AccountSummary, staff_action: ReverseEntry) -> Preview:
    return database.transaction(
        preview_action,
        account_id=account.account_id,
        action=staff_action,
        actor=context.visitor.actor,
    )


def _show_effect(context: PageContext, found: Preview) -> None:
    lines = {
        _("Balance before"): context.money(found.before.balance_micros),
        _("Balance after"): context.money(found.after.balance_micros),
    }
    if found.before.due_micros != found.after.due_micros:
        lines[_("Amount due before")] = context.money(found.before.due_micros)
        lines[_("Amount due after")] = context.money(found.after.due_micros)
    st.html(definition_list(lines))


def _amount(typed: str, account: AccountSummary) -> Money:
    if not typed.strip():
        raise InvalidInput("amount", "empty")
    return Money.parse(typed, account.currency, locale=current_language())


def _reason() -> str:
    return st.text_input(
        _("Reason"),
        max_chars=MAX_REASON_LENGTH,
        key=_key("act_reason"),
        placeholder=_("What happened, and who reported it"),
    )


_FORMS: dict[str, Callable[[PageContext, AccountSummary], None]] = {
    "issue_voucher": _issue_voucher,
    "apply_code": _apply_code,
    "give_goodwill": _give_goodwill,
    "reverse_entry": _reverse_entry,
}


def _act(
    context: PageContext,
    account: AccountSummary,
    reason: str,
    make_action: Callable[[], StaffAction],
) -> None:
    try:
        staff_action = make_action()
        # The same until it is done: a second click asks for the same once more.
        content = f"{account.account_id}|{staff_action!r}|{reason}"
        do = partial(
            perform_or_request,
            account_id=account.account_id,
            action=staff_action,
            reason=reason,
            idempotency_key=submit_once.key_for(_ONCE, content),
        )
        actor = context.visitor.actor
        became = (
            _guess(context, account, partial(do, actor=actor))
            if isinstance(staff_action, ApplyCode)
            else database.transaction(do, actor=actor)  # which looks up the rights of `actor`
        )
    except BillingError as error:
        st.error(
            plain(support_labels.refusal(context, error, account.currency)), icon=":material/error:"
        )
    else:
        submit_once.forget(_ONCE)
        forms.empty(_FORM)
        st.session_state[_FLASH] = (staff_action.name, became)
        if isinstance(staff_action, IssueVoucher) and isinstance(became, CompletedAction):
            page_state.get().setdefault(_ISSUED, {})[became.code] = became.amount
        st.rerun()


def _guess(
    context: PageContext,
    account: AccountSummary,
    do: Callable[[Session], CompletedAction | PendingApproval],
) -> CompletedAction | PendingApproval:
    """Try a code, as slowly as customers may: staff guess no codes either."""
    return rate_limited(
        database.sessions(context.visitor.actor),
        do,
        account_id=account.account_id,
        actor=context.visitor.actor,
        key=settings().policy.key,
    )


def _tell(context: PageContext, account: AccountSummary) -> None:
    message: tuple[str, CompletedAction | PendingApproval] | None = st.session_state.pop(
        _FLASH, None
    )
    if message is None:
        return
    action, became = message
    amount = formats.money(became.amount)
    if not isinstance(became, CompletedAction):
        text = _(
            "{what}: {amount} is waiting for approval by finance until {when}. {why} Nothing"
            " changes until approval."
        ).format(
            what=support_labels.action(action),
            amount=amount,
            why=support_labels.why_it_waits(action, became.allowance),
            when=context.date_time(became.expires_at),
        )
        st.warning(plain(text), icon=":material/hourglass_top:")
        return
    name = f"{account.name} ({account.account_id})"
    text = support_labels.completed(action).format(amount=amount, account=name)
    if became.allowance is not None:
        text = f"{text} {support_labels.allowance_left(became.allowance)}"
    st.success(plain(text), icon=":material/check_circle:")


def _show_codes() -> None:
    """Draw the codes of vouchers that were issued on this page, which no other page shows."""
    issued: dict[str, Money] = page_state.get().get(_ISSUED, {})
    for code, amount in reversed(issued.items()):
        text = _("Voucher code for {amount}. It is shown until you leave this page.")
        st.markdown(plain(text.format(amount=formats.money(amount))))
        st.code(code, language=None)
