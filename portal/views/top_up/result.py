"""What became of a payment: drawn as it is known, and watched until it is decided.

The gateway is asked beside the page, which reads what the answer changed.
"""

from __future__ import annotations

import html
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import streamlit as st

from domain import payments
from domain.gateways.registry import reviews_payments
from domain.payments import PaymentState
from domain.payments.queries import PaymentStatus, find_payment, payment_outcome
from domain.payments.review_cases import GATEWAY_REVIEW, MONEY_OF_ANOTHER, REJECTED_BY_STAFF
from domain.permissions import allows
from portal.runtime import database
from portal.runtime.gateways import gateway_of
from portal.ui import definition_list, formats, partial_runs
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import gateways as gateway_labels
from portal.ui.labels import top_up as top_up_labels
from portal.ui.payment_documents import draw_documents, offers_receipt
from portal.views.top_up import dialog
from portal.views.top_up.background_checks import checks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from domain.payments.queries import DisputeView, PaymentOutcome, PaymentView, RefundView
    from portal.shell.page_context import PageContext

_LOOK_EVERY_SECONDS = 1
_RECEIPT_EVERY_SECONDS = 2


def draw(context: PageContext, found: PaymentOutcome, *, returned_without_paying: bool) -> None:
    """Draw the result; where somebody came back without paying, the payment is given up first."""
    payment = found.payment
    if returned_without_paying and payment.is_open and _may_pay(context, payment):
        database.transaction(
            payments.give_up, reference=payment.reference, actor=context.visitor.actor
        )
        found = _read(context, payment.reference)
        payment = found.payment
    may_have_paid = returned_without_paying and payment.state == PaymentState.CANCELLED
    if payment.is_open or may_have_paid:
        _ask(context, payment)
    offered = _offered(payment)
    if payment.is_open:
        _watch(context, payment.reference, offered)
    else:
        _decided(context, found)
    if offered:
        _offer_another_method(context, payment, _(offered))
    context.draw_zone()
    if may_have_paid:
        _await_change(context, payment.reference, payment.state)


@partial_runs.fragment(run_every=_LOOK_EVERY_SECONDS)
def _watch(context: PageContext, reference: str, offered: str) -> None:
    """Look again and again; what is decided draws the whole page, with its new balance.

    So does another button than the one that was offered below: a dialog is the whole page's.
    """
    payment = _read_payment(context, reference)
    if not payment.is_open or _offered(payment) != offered:
        st.rerun()
    _ask(context, payment)
    _open(context, payment)


@partial_runs.fragment(run_every=_LOOK_EVERY_SECONDS)
def _await_change(context: PageContext, reference: str, state: str) -> None:
    """Look whether what was given up was paid all the same, and draw the page again with it."""
    if _read_payment(context, reference).state != state:
        st.rerun()


def _read(context: PageContext, reference: str) -> PaymentOutcome:
    return database.read_snapshot(payment_outcome, actor=context.visitor.actor, reference=reference)


def _read_payment(context: PageContext, reference: str) -> PaymentView:
    return database.read_snapshot(find_payment, actor=context.visitor.actor, reference=reference)


def _may_pay(context: PageContext, payment: PaymentView) -> bool:
    return allows(context.visitor.actor, "pay", payment.account_id)


def _ask(context: PageContext, payment: PaymentView) -> None:
    """Have the gateway asked, beside this page, for those who may ask."""
    gateway = gateway_of(payment.gateway)
    actor = context.visitor.actor
    if gateway is not None and allows(actor, "ask_gateway", payment.account_id):
        checks().start(gateway=gateway, payment_id=payment.payment_id, actor=actor)


# ── A payment that is open ────────────────────────────────────────────────────────────────────
def _open(context: PageContext, payment: PaymentView) -> None:
    gateway = gateway_labels.title(payment.gateway)
    if top_up_labels.is_review_of_gateway(payment.state, payment.gateway):
        st.info(plain(_reviewed_by_gateway(payment)), icon=":material/policy:")
    elif payment.state == PaymentState.AWAITING:
        st.info(
            _("Waiting for your payment. Credit is added as soon as you have paid."),
            icon=":material/hourglass_top:",
        )
        if payment.pay_by is not None:
            until = _("Pay until {moment}.").format(moment=context.date_time(payment.pay_by))
            st.markdown(plain(until))
        _instructions(context, payment)
    elif payment.has_declined_attempt:
        text = _(
            "{gateway} declined your payment method. Nothing was charged. Choose another one"
            " at {gateway}, or try another method here."
        )
        st.error(plain(text.format(gateway=gateway)), icon=":material/credit_card_off:")
    else:
        text = _("Waiting for {gateway}. This page updates automatically.").format(gateway=gateway)
        st.info(text, icon=":material/hourglass_top:")
    _facts(context, payment)
    if (
        payment.redirect_url is not None
        and payment.state == PaymentState.PENDING
        and _may_pay(context, payment)
    ):
        if _is_lapsed(payment):
            text = _(
                "The time to pay at {gateway} has expired. If you have paid, your credit will"
                " still be added."
            )
            st.caption(text.format(gateway=gateway))
            return
        label = _("Not paid yet? Go to {gateway}").format(gateway=gateway)
        st.html(f'<a href="/pay/{payment.reference}" target="_self">{html.escape(label)}</a>')


def _instructions(context: PageContext, payment: PaymentView) -> None:
    """Draw the way to the gateway's page that says how to pay at a store."""
    if payment.pay_url is None or not _may_pay(context, payment):
        return
    label = _("Open payment instructions")
    path = f"/pay/{payment.reference}"
    st.html(f'<a href="{path}" target="_blank">{html.escape(label)}</a>')


def _offered(payment: PaymentView) -> str:
    """Return the label of what is offered beside an open payment; empty where nothing is."""
    if payment.is_open and payment.has_declined_attempt:
        return N_("Try another method")
    return N_("Try again") if payment.state == PaymentState.PENDING and _is_lapsed(payment) else ""


def _is_lapsed(payment: PaymentView) -> bool:
    """Whether the gateway takes no money for it any more; it may have taken some before."""
    return payment.expires_at <= datetime.now(UTC)


# ── A payment that is decided ─────────────────────────────────────────────────────────────────
def _decided(context: PageContext, found: PaymentOutcome) -> None:
    payment = found.payment
    if payment.status is PaymentStatus.SUCCESS:
        _say_what_became_of_credit(context, found)
    elif payment.state == PaymentState.UNDER_REVIEW:
        st.warning(plain(_under_review(payment)), icon=":material/policy:")
    else:
        _say_why_not(payment)
    _facts(context, payment)
    _went_back(context, found)
    if payment.status is PaymentStatus.FAILED and payment.code != REJECTED_BY_STAFF:
        is_declined = payment.state == PaymentState.FAILED
        label = _("Try another method") if is_declined else _("Try again")
        _offer_another_method(context, payment, label)
    if offers_receipt(payment):
        draw_documents(context, payment)
    elif payment.status is PaymentStatus.SUCCESS and not payment.has_lost_dispute:
        _await_receipt(context, payment.reference)


def _say_what_became_of_credit(context: PageContext, found: PaymentOutcome) -> None:
    payment = found.payment
    if payment.has_open_dispute:
        text = _(
            "This payment is disputed by the payer's bank or {gateway}. The account cannot"
            " place new holds until the dispute is closed."
        ).format(gateway=gateway_labels.title(payment.gateway))
        st.warning(plain(text), icon=":material/gavel:")
    elif payment.has_lost_dispute:
        text = _(
            "The dispute of this payment was lost. The money was returned to the payer, and the"
            " credit was clawed back."
        )
        st.error(text, icon=":material/gavel:")
    elif payment.refunded.micros or payment.refund_pending.micros:
        st.info(plain(" ".join(_refunds(context, found))), icon=":material/undo:")
    else:
        text = _("{amount} was added to your balance. Thank you.")
        shown = text.format(amount=formats.money(payment.credit))
        st.success(plain(shown), icon=":material/check_circle:")


def _refunds(context: PageContext, found: PaymentOutcome) -> Iterator[str]:
    """Yield a sentence for what was refunded, and one for each refund that is still to be paid."""
    payment = found.payment
    if payment.refunded.micros:
        text = _("{amount} of this payment was refunded.")
        yield text.format(amount=formats.money(payment.refunded))
    for refund in found.refunds:
        if refund.is_pending:
            text = _(
                "A refund of {amount} was requested on {date} and is pending. The payment"
                " shows as refunded once the money has been sent."
            )
            yield text.format(
                amount=formats.money(refund.pay), date=context.date(refund.requested_at)
            )


def _under_review(payment: PaymentView) -> str:
    if payment.code == MONEY_OF_ANOTHER:
        return _(
            "This payment is under review by our staff. Your money is safe. See the result"
            " here or in Payment History."
        )
    if payment.code == GATEWAY_REVIEW and reviews_payments(payment.gateway):
        return _reviewed_by_gateway(payment)
    return _(
        "Your payment is received and under review by our staff. No action is needed. See"
        " the result here or in Payment History."
    )


def _reviewed_by_gateway(payment: PaymentView) -> str:
    text = _(
        "{gateway} is reviewing your payment. No action is needed. Your credit is added when"
        " {gateway} releases the money."
    )
    return text.format(gateway=gateway_labels.title(payment.gateway))


def _say_why_not(payment: PaymentView) -> None:
    if payment.state == PaymentState.FAILED and payment.code == REJECTED_BY_STAFF:
        text = (
            _("This payment was rejected, and nothing was credited. The money was returned.")
            if payment.is_given_back
            else _(
                "This payment was rejected, and nothing was credited. Any money received"
                " will be returned to your payment method."
            )
        )
        st.error(text, icon=":material/undo:")
    elif payment.state == PaymentState.CANCELLED:
        st.warning(_("This payment was cancelled. Nothing was charged."), icon=":material/cancel:")
    elif payment.state == PaymentState.EXPIRED:
        text = _(
            "This payment was not paid in time and has expired. If you have paid, your credit"
            " will still be added."
        )
        st.warning(text, icon=":material/timer_off:")
    else:
        st.error(plain(top_up_labels.decline(payment)), icon=":material/credit_card_off:")


def _offer_another_method(context: PageContext, payment: PaymentView, label: str) -> None:
    """Draw a button that opens Add credit at the methods, with the same amount."""
    if not _may_pay(context, payment):
        return
    is_declined = payment.state == PaymentState.FAILED or payment.has_declined_attempt
    st.button(
        label,
        type="primary",
        icon=":material/replay:",
        key="try_another_method",
        on_click=dialog.open_dialog,
        args=(payment.account_id,),
        kwargs={
            "credit": payment.credit,
            "instead_of": payment.gateway if is_declined else None,
        },
    )


@partial_runs.fragment(run_every=_RECEIPT_EVERY_SECONDS)
def _await_receipt(context: PageContext, reference: str) -> None:
    """Look until the clock's job has made the receipt, and draw the page again with it."""
    if _read_payment(context, reference).has_receipt:
        st.rerun()
    st.caption(_("Your receipt will be ready in a moment. We also send it by email."))


def _facts(context: PageContext, payment: PaymentView) -> None:
    lines = {
        _("Payment"): payment.reference,
        _("Method"): gateway_labels.title(payment.gateway),
        _("Amount"): formats.money(payment.pay),
    }
    lines |= top_up_labels.credit(payment)
    lines[_("Status")] = top_up_labels.state(payment)
    lines[top_up_labels.begun_title(payment)] = top_up_labels.begun(context, payment)
    if payment.is_sandbox:
        lines[_("Note")] = _("Test money: nothing was charged.")
    st.html(definition_list.definition_list(lines))


# ── What went back ────────────────────────────────────────────────────────────────────────────
def _went_back(context: PageContext, found: PaymentOutcome) -> None:
    """List refunds and disputes; a dispute's reason is the gateway's, a refund's is for staff."""
    if not found.refunds and not found.disputes:
        return
    heading = _("Refunds and disputes")
    rows = [
        *(_refund_line(context, found.payment, each) for each in found.refunds),
        *(_dispute_line(context, each) for each in found.disputes),
    ]
    titles = (_("Date"), _("Status"), _("Amount"), _("Reason"))
    st.html(f"<h3>{html.escape(heading)}</h3>{_table(heading, titles, rows)}")


def _refund_line(context: PageContext, payment: PaymentView, refund: RefundView) -> tuple[str, ...]:
    reason = refund.reason or ""
    if refund.is_reversal:
        text = _("Disputed amount withdrawn by {gateway}")
        reason = text.format(gateway=gateway_labels.title(payment.gateway))
    return (
        context.date_time(refund.settled_at or refund.requested_at),
        _("Refund: {state}").format(state=top_up_labels.refund_state(refund.state)),
        formats.money(refund.pay),
        reason,
    )


def _dispute_line(context: PageContext, dispute: DisputeView) -> tuple[str, ...]:
    amount = dispute.lost if dispute.state == "lost" and dispute.lost.micros else dispute.pay
    return (
        context.date_time(dispute.closed_at or dispute.opened_at),
        top_up_labels.dispute_state(dispute.state),
        formats.money(amount),
        top_up_labels.dispute_reason(dispute.reason),
    )


def _table(name: str, titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table as HTML; on a phone each row is a card, by the style of `people`."""
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-name="{html.escape(title)}">{html.escape(value) or "&mdash;"}</td>'
            for title, value in zip(titles, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<table class="people" aria-label="{html.escape(name)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
