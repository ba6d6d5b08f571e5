"""The box of a payment that people have to decide about, and what was decided."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from domain import audit
from domain.errors import AlreadyDecided, BillingError, NotAuthorised
from domain.payments.review_queries import find_outcome
from domain.payments.reviews import (
    approve_payment,
    record_return,
    reject_payment,
    request_acceptance,
    review_discrepancy,
    reviews_of,
)
from domain.permissions import allows
from portal.runtime import database
from portal.shell.display_names import naming
from portal.ui import approval_buttons, definition_list, formats
from portal.ui.formats import plain
from portal.ui.i18n import N_, _
from portal.ui.labels import top_up as top_up_labels
from portal.views.payments import discrepancies

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.payments.queries import PaymentView
    from domain.payments.reviews import Decision, OpenReview
    from portal.shell.page_context import PageContext
    from portal.ui.approval_buttons import Pressed

_PLACE = "reviews"
_MAX_LENGTH = 200
_LATE = frozenset({"case_is_closed", "requested_by_another", "not_requested"})
_WHY = {
    "wrong_amount": N_("The amount received differs from the amount requested."),
    "money_of_another": N_("The gateway transaction was already credited to another payment."),
    "gateway_review": N_(
        "The gateway flagged this payment for review, such as for suspected fraud."
    ),
    "money_after_refusal": N_("Money was received after this payment was rejected."),
    "second_money": N_("Additional money was received for this payment. It was not credited."),
    "return_failed": N_("The return of the rejected amount failed."),
    **discrepancies.WHY,
}
_OBSTACLES = {
    "second_money_goes_back": N_("Additional money cannot be credited. Reject it."),
    "money_is_of_another": N_("The money was credited to another payment. Reject it here."),
    "ask_gateway_first": N_("The amount received is unknown. Select Refresh from gateway first."),
    "money_in_other_currency": N_(
        "The money was received in a currency without an exchange rate. Reject it."
    ),
    "money_went_back": N_(
        "The gateway reports that money was returned. Investigate, then reject the payment."
    ),
    "money_buys_nothing": N_("The amount received is too small to credit. Reject it."),
}
_GATEWAY_REASONS = {
    "refunded_at_gateway": N_("The payment was refunded at the gateway."),
    "not_received": N_("The gateway reports that the money was not received."),
    "return_failed": N_("The gateway reports that the refund failed."),
}
"""Why it was decided, where the gateway decided it."""

_OUTCOMES = {
    "approved": N_("Approved by two people"),
    "rejected": N_("Rejected"),
    "reviewed": N_("Reviewed"),
}
_RETURNS = {
    "due": N_("to be returned manually"),
    "returned": N_("returned"),
    "not_received": N_("not received, according to the gateway"),
}


def decide_pressed(context: PageContext, payment: PaymentView, done: Callable[..., None]) -> None:
    """Carry out what was pressed before this run of the page; `done` tells and draws again."""
    pressed = approval_buttons.take_pressed(_PLACE)
    if pressed is None:
        return
    try:
        message = _decide(context, payment, pressed)
    except NotAuthorised:
        done(_("Waiting for approval by another finance member."), is_good=False)
    except BillingError as error:
        done(_refusal_of(context, pressed, error), is_good=False)
    else:
        done(message)


def _decide(context: PageContext, payment: PaymentView, pressed: Pressed) -> str:
    actor = context.visitor.actor
    if pressed.action == "return":
        database.transaction(
            record_return, review_id=pressed.item, reference=pressed.text, actor=actor
        )
        return _("Return recorded. Nothing is left to return.")
    services: dict[str, tuple[Callable[..., None], str]] = {
        "accept": (approve_payment, _("Payment approved. Credit granted.")),
        "propose": (
            request_acceptance,
            _("Requested. Waiting for approval by another finance member."),
        ),
        "refuse": (reject_payment, _("Payment rejected. Nothing was credited.")),
        "review": (
            review_discrepancy,
            _("Marked as reviewed."),
        ),
        "dispute_lost": (
            partial(review_discrepancy, is_lost=True),
            _("Dispute recorded as lost. Credit clawed back."),
        ),
        "dispute_won": (
            partial(review_discrepancy, is_lost=False),
            _("Dispute recorded as won."),
        ),
    }
    service, message = services[pressed.action]
    database.transaction(
        service,
        payment_id=payment.payment_id,
        case_id=pressed.item,
        reason=pressed.text,
        actor=actor,
    )
    return message


def _refusal_of(context: PageContext, pressed: Pressed, error: BillingError) -> str:
    """Say why it was not done; where somebody was faster, who it was and when."""
    reason = getattr(error, "reason", "")
    if pressed.action != "return" and reason in _LATE:
        found = database.read_snapshot(
            find_outcome, case_id=pressed.item, actor=context.visitor.actor
        )
        if found is not None and found.decided_at is not None:
            error = AlreadyDecided(found.state, found.decided_by, found.decided_at)
        elif found is not None and found.requested_at is not None:
            text = _(
                "Nothing was changed: already requested by {name}, {when}. Approve or reject that"
                " request."
            )
            name = naming(context, [found.requested_by], in_sentence=True)(found.requested_by)
            return text.format(name=name, when=context.date_time(found.requested_at))
    obstacle = _OBSTACLES.get(reason)
    return approval_buttons.what_happened(context, error) or (
        _(obstacle) if obstacle else top_up_labels.refusal(error)
    )


def draw(context: PageContext, payment: PaymentView) -> None:
    """Draw what waits for a decision and what was decided."""
    found = database.read_snapshot(
        reviews_of, payment_id=payment.payment_id, actor=context.visitor.actor
    )
    for review in found.waiting:
        with st.container(border=True, key=f"review-{review.case.id}"):
            _waiting(context, payment, review)
    for case in found.discrepancies:
        with st.container(border=True, key=f"discrepancy-{case.id}"):
            ends_dispute = case.id in found.ends_dispute
            discrepancies.draw(context, payment, case, place=_PLACE, ends_dispute=ends_dispute)
    for decision in found.decided:
        with st.container(border=True, key=f"decision-{decision.review_id}"):
            _decided(context, payment, decision)


def _waiting(context: PageContext, payment: PaymentView, review: OpenReview) -> None:
    case = review.case
    st.subheader(_("This payment needs a decision"))
    st.markdown(plain(_(_WHY[case.reason])))
    unknown = _("Not reported by the gateway")
    lines = {
        _("Amount requested"): formats.money(payment.pay),
        _("Amount received"): unknown if case.amount is None else formats.money(case.amount),
        _("Gateway transaction ID"): case.gateway_payment_id or unknown,
        _("Since"): context.date_time(case.since),
    }
    if review.credit is not None:
        lines[_("Credit, if approved")] = formats.money(review.credit)
    if case.code:
        lines[_("Gateway code")] = case.code
    if review.requested_by is not None:
        name = naming(context, [review.requested_by])
        lines[_("Approval requested by")] = name(review.requested_by)
        lines[_("Reason for the request")] = review.request_reason or ""
    st.html(definition_list.definition_list(lines))
    if not allows(context.visitor.actor, "decide_payment", payment.account_id):
        st.caption(_("Waiting for a finance member. Refresh from gateway may also settle it."))
    elif review.requested_by == audit.actor_name(context.visitor.actor):
        st.caption(_("You requested approval. Waiting for approval by another finance member."))
    else:
        _buttons(review)


def _buttons(review: OpenReview) -> None:
    is_proposed = review.requested_by is not None
    if review.obstacle is not None:
        st.caption(_(_OBSTACLES[review.obstacle]))
    elif not is_proposed:
        st.caption(_("Approval needs two finance members: one requests it, another approves it."))
    with st.container(horizontal=True):
        if review.obstacle is None:
            with st.popover(_("Approve…") if is_proposed else _("Request approval…")):
                _acceptance(review)
        with st.popover(_("Reject…")):
            _refusal(review)


def _acceptance(review: OpenReview) -> None:
    if review.requested_by is not None:
        action, title = "accept", _("Approve payment")
        text = _("{amount} is credited immediately. Only a refund can reverse it.")
    else:
        action, title = "propose", _("Request approval")
        text = _("{amount} is credited once another finance member approves.")
    amount = "" if review.credit is None else formats.money(review.credit)
    key = f"accept-{review.case.id}"
    _confirmation(key, text.format(amount=amount), title, _("Reason"), (action, review.case.id))


def _refusal(review: OpenReview) -> None:
    text = _("Nothing is credited, and this cannot be undone.")
    if review.case.has_money:
        text += " " + _("The amount received must then be returned manually at the gateway.")
    title, key = _("Reject payment"), f"refuse-{review.case.id}"
    _confirmation(key, text, title, _("Reason"), ("refuse", review.case.id))


def _confirmation(key: str, text: str, title: str, label: str, pressed: tuple[str, int]) -> None:
    """Say what follows and ask for one line; the next run of the page carries it out."""
    action, item = pressed
    with st.form(f"form-{key}", border=False):
        st.markdown(plain(text))
        field = f"line-{key}"
        st.text_input(label, max_chars=_MAX_LENGTH, key=field)
        approval_buttons.submit_button(title, place=_PLACE, action=action, item=item, field=field)


# ── What was decided ──────────────────────────────────────────────────────────────────────────
def _decided(context: PageContext, payment: PaymentView, decision: Decision) -> None:
    st.subheader(_(_OUTCOMES[decision.state]))
    name = naming(context, [decision.requested_by, decision.decided_by])
    lines = {_("Reason for review"): _(_WHY[decision.reason])}
    if decision.requested_by is not None:
        lines[_("Approval requested by")] = name(decision.requested_by)
        lines[_("Reason for the request")] = decision.request_reason or ""
    if decision.decided_at is not None:
        lines[_("Decided")] = context.date_time(decision.decided_at)
    lines[_("Decided by")] = name(decision.decided_by)
    reason = decision.decision_reason or ""
    lines[_("Reason")] = _(_GATEWAY_REASONS[reason]) if reason in _GATEWAY_REASONS else reason
    if decision.state == "reviewed" and decision.received is not None:
        lines[_("Amount reported by the gateway")] = formats.money(decision.received)
    if decision.return_state is not None:
        amount = _("Amount not reported by the gateway")
        if decision.received is not None:
            amount = formats.money(decision.received)
        lines[_("Return")] = f"{amount} {_(_RETURNS[decision.return_state])}"
        lines[_("Gateway transaction ID")] = decision.gateway_payment_id or _("none yet")
    if decision.return_reference:
        lines[_("Return reference")] = decision.return_reference
    st.html(definition_list.definition_list(lines))
    if decision.return_state == "due":
        _owed(context, payment, decision)


def _owed(context: PageContext, payment: PaymentView, decision: Decision) -> None:
    st.warning(
        _(
            "Return this amount at the gateway. This case closes automatically once the gateway"
            " reports the return."
        ),
        icon=":material/undo:",
    )
    if not allows(context.visitor.actor, "record_return", payment.account_id):
        return
    with st.popover(_("Record return…")):
        text = _("Record the return once the money has been sent.")
        label = _("Gateway or bank reference")
        key = f"return-{decision.review_id}"
        _confirmation(key, text, _("Record return"), label, ("return", decision.review_id))
