"""The forms with which staff act on an account."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import BillingError, InvalidInput, ReversalExceedsOriginal
from domain.history.details import entry_detail
from domain.money import Money
from domain.permissions import allows
from domain.support import (
    LONGEST_GOODWILL_DAYS,
    REVERSIBLE_CREDITS,
    ApplyCode,
    Done,
    GiveGoodwill,
    IssueVoucher,
    ReverseEntry,
    act,
    list_action_limits,
    preview_act,
)
from domain.validation import LONGEST_REASON, MAX_NUMBER_LENGTH, is_whole_number
from domain.vouchers import list_campaigns, try_counted
from portal import address, backend, descriptions, formats
from portal.formats import plain
from portal.i18n import _, current_language
from portal.settings import settings
from portal.support import words
from portal.top_up.words import definition_list
from portal.ui import checked, forms

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from domain.history.details import EntryDetail
    from domain.ledger.balances import AccountSummary
    from domain.support import Preview, Waiting, Wish
    from portal.viewing import Viewing

_TOLD = "acted"
_ONCE = "act_once"
_FORM = "acts"
_USUAL_DAYS = 90
_LONGEST_CODE = 40
_LONGEST_AMOUNT = 40


def draw(here: Viewing, account: AccountSummary) -> None:
    """Draw the choice of acts, and the form of the chosen one."""
    _tell(here)
    if not allows(here.visitor.actor, "act_on_account"):
        st.info(
            _("Support and finance act on accounts. Administrators decide who may, and how much."),
            icon=":material/info:",
        )
        return
    if account.account_id in here.visitor.actor.memberships:
        st.info(
            _("You belong to this account. Somebody else of the staff acts on it."),
            icon=":material/info:",
        )
        return
    given = address.given("do")
    address.set_widget("act", given if given in words.ACTIONS else next(iter(words.ACTIONS)))
    chosen = checked.segmented_control(
        _("What to do"),
        list(words.ACTIONS),
        key="act",
        format_func=words.action,
        required=True,
        on_change=_choose,
    )
    if chosen is None:
        return
    _say_limit(here, account, chosen)
    _FORMS[chosen](here, account)


def _choose() -> None:
    address.drop("entry")
    address.keep("do", st.session_state["act"])


def _say_limit(here: Viewing, account: AccountSummary, action: str) -> None:
    limits = backend.read(list_action_limits, actor=here.visitor.actor)
    daily = next(
        (
            each.daily
            for each in limits
            if (each.action, each.role) == (action, here.visitor.actor.staff_role)
            and each.daily.currency == account.currency
        ),
        Money(0, account.currency),
    )
    text = _(
        "Up to {amount} for one account in 24 hours is yours to do. Above that, somebody of"
        " finance approves it."
    )
    st.caption(plain(text.format(amount=formats.money(daily))))


def _key(name: str) -> str:
    return forms.key(_FORM, name)


def _issue_voucher(here: Viewing, account: AccountSummary) -> None:
    now = datetime.now(UTC)
    offered = {
        campaign.campaign_id: (campaign.terms, offer.amount)
        for campaign in backend.read(list_campaigns, actor=here.visitor.actor)
        for offer in campaign.terms.offers
        if campaign.state == "approved"
        and campaign.terms.is_for_support
        and campaign.terms.redeem_from <= now < campaign.terms.redeem_until
        and offer.budget.currency == account.currency
    }
    if not offered:
        text = _("No campaign lets support issue vouchers in {currency}. Ask finance for one.")
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
        is_sent = st.form_submit_button(_("Issue the voucher"), type="primary")
    if is_sent:
        _act(here, account, reason, lambda: IssueVoucher(campaign_id))


def _apply_code(here: Viewing, account: AccountSummary) -> None:
    with st.form(_key("apply_code"), border=False):
        typed = st.text_input(
            _("Voucher code"),
            max_chars=_LONGEST_CODE,
            key=_key("act_code"),
            placeholder="ABCD234567",
        )
        reason = _reason()
        is_sent = st.form_submit_button(_("Apply the code"), type="primary")
    if is_sent:
        _act(here, account, reason, lambda: ApplyCode(typed))


def _give_goodwill(here: Viewing, account: AccountSummary) -> None:
    services = descriptions.service_names()
    with st.form(_key("give_goodwill"), border=False):
        with st.grid(columns=2, min_column_width=200):
            amount = st.text_input(
                _("Amount in {currency}").format(currency=account.currency),
                max_chars=_LONGEST_AMOUNT,
                key=_key("act_amount"),
            )
            days = st.number_input(
                _("Days that it lasts"),
                min_value=1,
                max_value=LONGEST_GOODWILL_DAYS,
                value=_USUAL_DAYS,
                key=_key("act_days"),
            )
        chosen = checked.multiselect(
            _("Only for these services"),
            list(services),
            format_func=lambda slug: services[slug],
            placeholder=_("All services"),
            key=_key("act_services"),
        )
        reason = _reason()
        is_sent = st.form_submit_button(_("Give the credit"), type="primary")
    if is_sent:
        _act(
            here,
            account,
            reason,
            lambda: GiveGoodwill(_amount(amount, account).micros, int(days), tuple(chosen) or None),
        )


def _reverse_entry(here: Viewing, account: AccountSummary) -> None:
    st.caption(
        _(
            "A charge is given back to the credit that paid it. A voucher or goodwill is taken"
            " back as far as it is unspent."
        )
    )
    typed = st.text_input(
        _("Number of the entry"),
        str(address.number("entry") or ""),
        max_chars=MAX_NUMBER_LENGTH,
        key=_key("act_entry"),
    )
    number = typed.strip()
    if not is_whole_number(number):
        st.info(_("Enter the entry's number. Credit History shows it."), icon=":material/info:")
        return
    try:
        entry = backend.read(
            entry_detail,
            actor=here.visitor.actor,
            account_id=account.account_id,
            sequence=int(number),
        )
        _show_entry(here, entry)
        wish = _reversal(here, account, entry)
    except BillingError as error:
        st.error(plain(words.refusal(here, error)), icon=":material/error:")
        return
    if wish is None:
        return
    reason = _reason()
    if st.button(_("Reverse it"), type="primary", key=_key("reverse_send")):
        _act(here, account, reason, lambda: wish)


def _show_entry(here: Viewing, entry: EntryDetail) -> None:
    text = descriptions.description(entry.description_code, entry.description_parameters)
    lines = {
        _("Entry"): f"{descriptions.kind(entry.kind)} · {text}",
        _("Amount"): here.money(entry.amount_micros, signed=True),
        _("Date"): here.date_time(entry.occurred_at),
    }
    done = sum(each.amount_micros for each in entry.reversed_by)
    if done:
        lines[_("Reversed so far")] = here.money(abs(done))
    st.html(definition_list(lines))


def _reversal(here: Viewing, account: AccountSummary, entry: EntryDetail) -> ReverseEntry | None:
    """Ask how much to reverse, say what that does, and return it; None where nothing is left."""
    includes_spent = False
    may_go_on = allows(here.visitor.actor, "reverse_paid_credit", account.account_id)
    if may_go_on and entry.kind in REVERSIBLE_CREDITS:
        includes_spent = st.checkbox(
            _("Take back what was spent too: paid credit or an amount due pays for it"),
            key=_key(f"act_spent-{entry.sequence}"),
        )
    whole = ReverseEntry(entry.sequence, None, includes_spent)
    try:
        found = _preview(here, account, whole)
    except ReversalExceedsOriginal:
        text = (
            _("Nothing is left to reverse: it was spent, is held, has ended, or was reversed.")
            if entry.kind in REVERSIBLE_CREDITS and not includes_spent
            else _("Nothing is left to reverse: this entry was reversed in full.")
        )
        st.info(text, icon=":material/info:")
        return None
    st.markdown(plain(_("Left to reverse: {amount}").format(amount=formats.money(found.amount))))
    typed = st.text_input(
        _("Amount in {currency}, or empty for all").format(currency=account.currency),
        max_chars=_LONGEST_AMOUNT,
        key=_key("act_reversed"),
    )
    if not typed.strip():
        _show_effect(here, found)
        return whole
    part = ReverseEntry(entry.sequence, _amount(typed, account).micros, includes_spent)
    _show_effect(here, _preview(here, account, part))
    return part


def _preview(here: Viewing, account: AccountSummary, wish: ReverseEntry) -> Preview:
    return backend.write(
        preview_act, account_id=account.account_id, wish=wish, actor=here.visitor.actor
    )


def _show_effect(here: Viewing, found: Preview) -> None:
    lines = {
        _("Balance before"): here.money(found.before.balance_micros),
        _("Balance after"): here.money(found.after.balance_micros),
    }
    if found.before.due_micros != found.after.due_micros:
        lines[_("Amount due before")] = here.money(found.before.due_micros)
        lines[_("Amount due after")] = here.money(found.after.due_micros)
    st.html(definition_list(lines))


def _amount(typed: str, account: AccountSummary) -> Money:
    if not typed.strip():
        raise InvalidInput("amount", "empty")
    return Money.parse(typed, account.currency, locale=current_language())


def _reason() -> str:
    return st.text_input(
        _("Reason"),
        max_chars=LONGEST_REASON,
        key=_key("act_reason"),
        placeholder=_("What happened, and who said so"),
    )


_FORMS: dict[str, Callable[[Viewing, AccountSummary], None]] = {
    "issue_voucher": _issue_voucher,
    "apply_code": _apply_code,
    "give_goodwill": _give_goodwill,
    "reverse_entry": _reverse_entry,
}


def _act(
    here: Viewing, account: AccountSummary, reason: str, make_wish: Callable[[], Wish]
) -> None:
    try:
        wish = make_wish()
        # The same until it is done: a second click asks for the same once more.
        once: dict[str, str] = st.session_state.setdefault(_ONCE, {})
        said = f"{account.account_id}|{wish!r}|{reason}"
        do = partial(
            act,
            account_id=account.account_id,
            wish=wish,
            reason=reason,
            actor=here.visitor.actor,
            idempotency_key=once.setdefault(said, uuid.uuid4().hex),
        )
        became = _guess(here, account, do) if isinstance(wish, ApplyCode) else backend.write(do)
    except BillingError as error:
        st.error(plain(words.refusal(here, error)), icon=":material/error:")
    else:
        st.session_state.pop(_ONCE, None)
        forms.empty(_FORM)
        st.session_state[_TOLD] = (wish.name, became)
        st.rerun()


def _guess(
    here: Viewing, account: AccountSummary, do: Callable[[Session], Done | Waiting]
) -> Done | Waiting:
    """Try a code, as slowly as customers may: staff guess no codes either."""
    return try_counted(
        backend.sessions(here.visitor.actor),
        do,
        account_id=account.account_id,
        actor=here.visitor.actor,
        key=settings().rules.key,
    )


def _tell(here: Viewing) -> None:
    told: tuple[str, Done | Waiting] | None = st.session_state.pop(_TOLD, None)
    if told is None:
        return
    action, became = told
    amount = formats.money(became.amount)
    if not isinstance(became, Done):
        text = _(
            "{what}, {amount}: somebody of finance decides before {when}. Until then nothing"
            " changes."
        ).format(what=words.action(action), amount=amount, when=here.date_time(became.expires_at))
        st.warning(plain(text), icon=":material/hourglass_top:")
    elif action == "issue_voucher":
        text = _("A voucher of {amount} waits for the customer under Voucher list. Its code:")
        st.success(plain(text.format(amount=amount)), icon=":material/check_circle:")
        st.code(became.code or "", language=None)
    else:
        text = _("Done: {what}, {amount}.").format(what=words.action(action), amount=amount)
        st.success(plain(text), icon=":material/check_circle:")
