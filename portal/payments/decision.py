"""The box of a payment that people have to decide about, and what was decided."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from domain import audit
from domain.errors import BillingError, NotAuthorised
from domain.payments.review import (
    accept_payment,
    propose_acceptance,
    record_return,
    refuse_payment,
    reviews_of,
)
from domain.permissions import allows
from portal import backend, formats
from portal.formats import plain
from portal.i18n import N_, _
from portal.people import naming
from portal.top_up import words

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.payments.review import Decision, OpenReview
    from domain.queries.payments import PaymentView
    from portal.viewing import Viewing

_LONGEST = 200
_WHY = {
    "wrong_amount": N_("Money came, and not what was asked for."),
    "money_of_another": N_("The gateway names money that another payment was credited for."),
    "gateway_review": N_("The gateway took the money and doubts it, such as for suspected fraud."),
    "money_after_refusal": N_("Money came after this payment was refused."),
    "second_money": N_("More money came for this payment. It bought nothing."),
}
_OBSTACLES = {
    "second_money_goes_back": N_("Money beside the first is not credited: refuse it."),
    "money_is_of_another": N_("It was credited to another payment. Here it can only be refused."),
    "ask_gateway_first": N_(
        "The gateway has not said what came. Ask the gateway first; without its word nothing is"
        " credited."
    ),
    "money_in_other_currency": N_("It came in another currency, without a price: refuse it."),
    "money_went_back": N_("The gateway says that money went back. Look into it, then refuse it."),
    "money_buys_nothing": N_("What came is too little to credit."),
}
_RETURNS = {
    "owed": N_("must be given back by hand"),
    "returned": N_("was given back"),
    "never_came": N_("never came, as the gateway says now"),
}


def draw(here: Viewing, payment: PaymentView, done: Callable[[str], None]) -> None:
    """Draw what waits for a decision and what was decided; `done` tells and draws again."""
    found = backend.read(reviews_of, payment_id=payment.payment_id, actor=here.visitor.actor)
    for review in found.waiting:
        with st.container(border=True, key=f"review-{review.doubt.id}"):
            _waiting(here, payment, review, done)
    for decision in found.decided:
        with st.container(border=True, key=f"decision-{decision.review_id}"):
            _decided(here, decision, done)


def _waiting(
    here: Viewing, payment: PaymentView, review: OpenReview, done: Callable[[str], None]
) -> None:
    doubt = review.doubt
    st.subheader(_("This payment needs a decision"))
    st.markdown(plain(_(_WHY[doubt.reason])))
    unknown = _("The gateway did not say")
    lines = {
        _("Asked for"): formats.money(payment.pay),
        _("Came"): unknown if doubt.amount is None else formats.money(doubt.amount),
        _("The gateway's number of it"): doubt.gateway_payment_id or unknown,
        _("Since"): here.date_time(doubt.since),
    }
    if review.credit is not None:
        lines[_("Credit, if accepted")] = formats.money(review.credit)
    if doubt.code:
        lines[_("The gateway's code")] = doubt.code
    if review.proposed_by is not None:
        name = naming(here, [review.proposed_by])
        lines[_("Accepting was proposed by")] = name(review.proposed_by)
        lines[_("Because")] = review.proposal_reason or ""
    st.html(words.definition_list(lines))
    if not allows(here.visitor.actor, "decide_payment"):
        st.caption(_("Finance decides. Asking the gateway may settle it too."))
    elif review.proposed_by == audit.actor_name(here.visitor.actor):
        st.caption(_("You proposed to accept this. Somebody else decides."))
    else:
        _buttons(here, payment, review, done)


def _buttons(
    here: Viewing, payment: PaymentView, review: OpenReview, done: Callable[[str], None]
) -> None:
    is_proposed = review.proposed_by is not None
    if review.obstacle is not None:
        st.caption(_(_OBSTACLES[review.obstacle]))
    elif not is_proposed:
        st.caption(_("Accepting takes two people: you propose it, and somebody else decides."))
    with st.container(horizontal=True):
        if review.obstacle is None:
            with st.popover(_("Accept…") if is_proposed else _("Propose to accept…")):
                _acceptance(here, payment, review, done)
        with st.popover(_("Refuse…")):
            _refusal(here, payment, review, done)


def _acceptance(
    here: Viewing, payment: PaymentView, review: OpenReview, done: Callable[[str], None]
) -> None:
    if review.proposed_by is not None:
        service, title = accept_payment, _("Accept this payment")
        text = _("{amount} is credited at once. Only a refund takes it back.")
        told = _("Accepted. The credit was given.")
    else:
        service, title = propose_acceptance, _("Propose to accept this payment")
        text = _("Somebody else decides. Then {amount} is credited.")
        told = _("Proposed. Somebody else decides.")
    amount = "" if review.credit is None else formats.money(review.credit)
    reason = _confirmed(f"accept-{review.doubt.id}", text.format(amount=amount), title, _("Reason"))
    if reason is not None:
        act = partial(service, payment_id=payment.payment_id, doubt_id=review.doubt.id)
        _try(partial(backend.write, act, reason=reason, actor=here.visitor.actor), told, done)


def _refusal(
    here: Viewing, payment: PaymentView, review: OpenReview, done: Callable[[str], None]
) -> None:
    text = _("Nothing is credited, and this cannot be undone.")
    if review.doubt.has_money:
        text += " " + _("What came must then be given back by hand, at the gateway.")
    title = _("Refuse this payment")
    reason = _confirmed(f"refuse-{review.doubt.id}", text, title, _("Reason"))
    if reason is not None:
        act = partial(refuse_payment, payment_id=payment.payment_id, doubt_id=review.doubt.id)
        told = _("Refused. Nothing was credited.")
        _try(partial(backend.write, act, reason=reason, actor=here.visitor.actor), told, done)


def _confirmed(key: str, text: str, title: str, label: str) -> str | None:
    """Say what follows and ask for one line; return it once it was sent."""
    with st.form(f"form-{key}", border=False):
        st.markdown(plain(text))
        given = st.text_input(label, max_chars=_LONGEST, key=f"line-{key}")
        is_sent = st.form_submit_button(title, type="primary")
    return given if is_sent else None


def _try(act: Callable[[], None], told: str, done: Callable[[str], None]) -> None:
    try:
        act()
    except NotAuthorised:
        st.error(_("This is for somebody else of finance to decide."), icon=":material/error:")
    except BillingError as error:
        obstacle = _OBSTACLES.get(getattr(error, "reason", ""))
        text = _(obstacle) if obstacle else words.refusal(error)
        st.error(text, icon=":material/error:")
    else:
        done(told)


# ── What was decided ──────────────────────────────────────────────────────────────────────────
def _decided(here: Viewing, decision: Decision, done: Callable[[str], None]) -> None:
    is_accepted = decision.state == "accepted"
    st.subheader(_("Accepted by two people") if is_accepted else _("Refused"))
    name = naming(here, [decision.proposed_by, decision.decided_by])
    lines = {_("Why it was looked at"): _(_WHY[decision.reason])}
    if decision.proposed_by is not None:
        lines[_("Accepting was proposed by")] = name(decision.proposed_by)
        lines[_("Because")] = decision.proposal_reason or ""
    if decision.decided_at is not None:
        lines[_("Decided")] = here.date_time(decision.decided_at)
    lines[_("Decided by")] = name(decision.decided_by)
    lines[_("Reason")] = decision.decision_reason or ""
    if decision.return_state is not None:
        amount = _("An amount that the gateway did not say")
        if decision.came is not None:
            amount = formats.money(decision.came)
        lines[_("Money")] = f"{amount} {_(_RETURNS[decision.return_state])}"
        lines[_("The gateway's number of it")] = decision.gateway_payment_id or _("none yet")
    if decision.return_reference:
        lines[_("Reference of the return")] = decision.return_reference
    st.html(words.definition_list(lines))
    if decision.return_state == "owed":
        _owed(here, decision, done)


def _owed(here: Viewing, decision: Decision, done: Callable[[str], None]) -> None:
    st.warning(
        _("Give this money back at the gateway. Where the gateway tells us, this ends by itself."),
        icon=":material/undo:",
    )
    if not allows(here.visitor.actor, "record_return"):
        return
    with st.popover(_("It was given back…")):
        text = _("Record it once the money has left.")
        label = _("The gateway's or the bank's number of it")
        reference = _confirmed(f"return-{decision.review_id}", text, _("Record it"), label)
        if reference is not None:
            act = partial(record_return, review_id=decision.review_id, reference=reference)
            told = _("Recorded. Nothing is owed any more.")
            _try(partial(backend.write, act, actor=here.visitor.actor), told, done)
