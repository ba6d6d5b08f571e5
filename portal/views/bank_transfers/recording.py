"""The form that a transfer is recorded with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import streamlit as st

from domain.errors import BillingError, InvalidInput, NotAuthorised, NotFound
from domain.ledger.balances import account_summary
from domain.money import Money
from domain.payments.bank_transfers import Evidence, TransferLooksRepeated, record_transfer
from domain.payments.exchange_duties import DutiesConflict, may_record_transfers
from domain.uploads import EVIDENCE, drop_upload
from domain.validation import MAX_NUMBER_LENGTH, is_whole_number
from portal.runtime import database
from portal.ui import checked, flash, formats, query_params
from portal.ui.formats import plain
from portal.ui.i18n import N_, _, current_language
from portal.ui.labels import top_up as top_up_labels
from portal.ui.upload import handed_in, upload_field

if TYPE_CHECKING:
    from datetime import date
    from uuid import UUID

    from domain.ledger.balances import AccountSummary
    from portal.shell.page_context import PageContext

_MAX_LENGTH = 200
_PLACE = "transfer_form"
_RECORDED = "transfers_recorded"
_DOUBTED = "transfers_doubted"
_WARNING = "transfers_warning"
_FAULTS = {
    ("amount", "not_positive"): N_("Enter an amount above 0."),
    ("amount", "too_large"): N_("The amount is above the maximum per transfer. Check the amount."),
    ("bank_reference", "empty"): N_("Enter the bank reference."),
    ("bank_reference", "not_from_a_bank"): N_(
        "The bank reference has an invalid character. Copy it from the bank statement:"
        " letters A to Z, digits, spaces and / - ? : ( ) . , ' + only."
    ),
    ("received_on", "in_future"): N_("The date received must be today or earlier."),
    ("received_on", "too_long_ago"): N_("The date received must be within the last twelve months."),
    ("evidence", "too_large"): N_("The evidence file is larger than 5 MB. Choose a smaller file."),
    ("evidence", "not_a_document"): N_("Upload the evidence as PDF, PNG or JPEG."),
    ("evidence", "card_number"): N_(
        "The file seems to show a card number. Black out the number, then upload the file again."
    ),
}
_CONFLICTS = {
    "no_billing_profile": N_(
        "The account has no billing information. Ask its owner to fill it in under Billing,"
        " Settings."
    ),
    "line_is_taken": N_(
        "A transfer with this bank reference was recorded with different details. Check that"
        " transfer first."
    ),
}


@dataclass(frozen=True, slots=True)
class _Filled:
    """The form as it was sent."""

    amount: str
    reference: str
    received_on: date
    evidence: UUID
    remark: str
    is_confirmed: bool


def draw(context: PageContext) -> None:
    """Draw the choice of an account and, once there is one, the form."""
    st.header(_("Record a bank transfer"))
    account = _account(context)
    if account is None:
        return
    currency = account.currency
    if database.read_snapshot(may_record_transfers, currency=currency, actor=context.visitor.actor):
        _form(context, account)
    else:
        st.info(plain(_duties(currency)), icon=":material/group:")
    flash.show(_PLACE)


def _account(context: PageContext) -> AccountSummary | None:
    """Return the account that the address or the person names, or say how to name one."""
    query_params.set_widget("transfer_account", query_params.get("for")[:MAX_NUMBER_LENGTH])
    typed = st.text_input(
        _("Account number"),
        max_chars=MAX_NUMBER_LENGTH,
        key="transfer_account",
        on_change=lambda: query_params.put("for", st.session_state["transfer_account"].strip()),
    )
    number = typed.strip()
    unknown = _("Account not found.")
    if not number:
        st.caption(_("The account number is shown next to the name under Accounts."))
        return None
    if not is_whole_number(number):
        st.error(unknown, icon=":material/search_off:")
        return None
    try:
        account = database.read_one(
            account_summary, actor=context.visitor.actor, account_id=int(number)
        )
    except NotFound:
        st.error(unknown, icon=":material/search_off:")
        return None
    shown = _("{name}, in {currency}").format(name=account.name, currency=account.currency)
    st.markdown(f"**{plain(shown)}**")
    return account


def _form(context: PageContext, account: AccountSummary) -> None:
    today = datetime.now(formats.time_zone(account.zone)).date()
    # A form that was recorded is followed by an empty one; one that was refused stays as it is.
    number = st.session_state.setdefault(_RECORDED, 0)
    with st.form(f"{_RECORDED}-{number}"):
        amount = st.text_input(
            _("Amount ({currency})").format(currency=account.currency),
            key=f"transfer_amount_{number}",
        )
        reference = st.text_input(
            _("Bank reference"),
            max_chars=_MAX_LENGTH,
            help=_("The reference of the line on the bank statement. Each line is one transfer."),
            key=f"transfer_reference_{number}",
        )
        received_on = checked.date_input(
            _("Received on"), value=today, max_value=today, key=f"transfer_received_on_{number}"
        )
        evidence = upload_field(
            context,
            _("Evidence: bank advice or statement (PDF, PNG or JPEG)"),
            purpose=EVIDENCE,
            name=f"transfer_evidence_{number}",
            extensions=["pdf", "png", "jpg", "jpeg"],
        )
        remark = st.text_input(
            _("Note (optional)"), max_chars=_MAX_LENGTH, key=f"transfer_remark_{number}"
        )
        # Only asked once it is needed: a tick that is always there is made without a look.
        is_confirmed = st.session_state.get(_DOUBTED) == number and st.checkbox(
            _("This is a separate transfer of the same amount and date"),
            key=f"transfer_confirmed_{number}",
        )
        is_sent = st.form_submit_button(_("Record transfer"), type="primary")
    if is_sent:
        filled = _Filled(amount, reference, received_on, evidence, remark, is_confirmed)
        _record(context, account, filled, number)
    warning = st.session_state.pop(_WARNING, None)
    if warning is not None:
        st.warning(plain(warning), icon=":material/warning:")


def _record(context: PageContext, account: AccountSummary, filled: _Filled, number: int) -> None:
    evidence = handed_in(context, EVIDENCE, filled.evidence)
    if evidence is None:
        st.error(
            _("Upload the evidence. Another finance member needs it to approve."),
            icon=":material/error:",
        )
        return
    try:
        money = Money.parse(filled.amount, account.currency, locale=current_language())
        database.transaction(
            record_transfer,
            account_id=account.account_id,
            amount=money,
            bank_reference=filled.reference,
            received_on=filled.received_on,
            evidence=Evidence(evidence.name, evidence.content),
            remark=filled.remark,
            is_confirmed=filled.is_confirmed,
            actor=context.visitor.actor,
        )
    except TransferLooksRepeated as case:
        text = _(
            "This account already has a transfer of {amount} on {day}, with bank reference"
            " {reference}. If this is a separate transfer, confirm that in the form, and"
            " record it again."
        )
        st.session_state[_DOUBTED] = number
        st.session_state[_WARNING] = text.format(
            amount=formats.money(money),
            day=formats.date(filled.received_on),
            reference=case.bank_reference,
        )
        st.rerun()
    except BillingError as error:
        st.error(_refusal(error), icon=":material/error:")
    else:
        database.transaction(drop_upload, key=filled.evidence, actor=context.visitor.actor)
        st.session_state[_RECORDED] += 1
        text = _(
            "Transfer of {amount} recorded for {name}. Waiting for approval by another finance"
            " member."
        )
        flash.leave(_PLACE, text.format(amount=formats.money(money), name=account.name))


def _duties(currency: str) -> str:
    text = _(
        "You requested or approved a pending or current exchange rate for {currency}."
        " Another finance member must record transfers in {currency}."
    )
    return text.format(currency=currency)


def _refusal(error: BillingError) -> str:
    if isinstance(error, InvalidInput):
        text = _FAULTS.get((error.field, error.reason))
        return _(text) if text else top_up_labels.fault(error)
    if isinstance(error, DutiesConflict):
        return _duties(error.currency)
    if isinstance(error, NotAuthorised):
        return _(
            "You are a member of this account. Another finance member must record its transfers."
        )
    conflict = _CONFLICTS.get(getattr(error, "reason", ""))
    return _(conflict) if conflict else top_up_labels.refusal(error)
