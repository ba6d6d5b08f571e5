"""What the steps of a payment's timeline are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.payments.polling import CHECK_FAILED
from domain.payments.review_cases import kept_amount
from portal.ui import formats
from portal.ui.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.payments.timeline import TimelineStep

_STEPS = {
    "created": N_("Payment created by the customer, who agreed to the terms"),
    "opened": N_("Payment pending at the gateway"),
    "awaiting": N_("The customer promised to pay later"),
    "instructions": N_("The customer can read how to pay at the store"),
    "approved": N_("The customer approved it at the gateway"),
    "succeeded": N_("The money came, and the credit was given"),
    "failed": N_("It failed"),
    "cancelled": N_("The customer gave it up"),
    "expired": N_("Its time was over"),
    "wrong_amount": N_("The amount received is not the amount requested: decide what to do"),
    "money_of_another": N_("The gateway names money that another payment has: look into it"),
    "second_money": N_("Other money came, which bought nothing: decide what to do"),
    "gateway_review": N_("The gateway doubts the money: it may settle that, or people decide"),
    "money_after_refusal": N_("Money came after it was rejected: decide what to do"),
    "acceptance_requested": N_("Approval requested: another finance member decides"),
    "acceptance_approved": N_("Approved by another finance member"),
    "rejected_by_staff": N_("Rejected: what was received has to be given back"),
    "money_returned": N_("What was rejected was given back"),
    "money_not_received": N_("The gateway says now that what was rejected never came"),
    "return_failed": N_("Its refund failed: it has to be given back again"),
    "denied_after_credit": N_("The gateway denied the money after it was credited"),
    "refund_in_other_currency": N_(
        "The gateway refunded in another currency than was paid: look into it"
    ),
    "refund_amount_changed": N_("The gateway states another amount of a refund: look into it"),
    "amount_changed": N_("The gateway states another amount than was credited: look into it"),
    "refund_of_another_payment": N_(
        "Refund reported that is booked on another payment: look into it"
    ),
    "dispute_of_another_payment": N_(
        "Dispute reported that is booked on another payment: look into it"
    ),
    "dispute_outcome_unknown": N_("Dispute closed with an unknown outcome: look into it"),
    "discrepancy_reviewed": N_("The difference from the gateway was reviewed"),
    "fee_changed": N_("The gateway changed its fee"),
    "check_failed": N_("The gateway's answer could not be processed; it is asked again later"),
    "refund_requested": N_("Refund requested, and its credit clawed back"),
    "refund_waits": N_("The refund waits until the one before it has settled, and is sent then"),
    "refund_pending": N_("Refund pending at the gateway"),
    "refund_unanswered": N_(
        "The gateway has not answered the refund for a week: decide what to do"
    ),
    "refund_succeeded": N_("Refund paid"),
    "refund_failed": N_("Refund failed, and its credit restored"),
    "refund_of_too_much": N_("The gateway refunded more than was credited: look into it"),
    "reversal_of_dispute": N_("The gateway took the disputed money, as told before"),
    "dispute_inquiry": N_(
        "The bank asks about it, and no money moved: answer at the gateway, or refund it"
    ),
    "dispute_inquiry_closed": N_("The bank's inquiry ended, and no money moved"),
    "attempt_refused": N_("The customer's way to pay was declined: they may choose another"),
    "dispute_opened": N_("Dispute opened: the account is frozen"),
    "dispute_changed": N_("The disputed amount or its deadline changed"),
    "dispute_reopened": N_("Dispute opened again by an appeal: the account is frozen"),
    "dispute_won": N_("Dispute won"),
    "dispute_lost": N_("Dispute lost, and its credit clawed back"),
    "dispute_exceeds_payment": N_("More was lost than was left of the payment: look into it"),
    "approved_transfer": N_("A bank transfer was approved"),
    "starter_pack": N_("It was the account's first, and earned the credit of a campaign"),
    "starter_pack_waits": N_(
        "It was the account's first: the gateway is asked what it was paid with"
    ),
    "starter_pack_refused": N_("It was the account's first, and a campaign gave it nothing"),
}
_PACK_REFUSALS = {
    "budget_spent": N_("all of its credit was given"),
    "instrument_seen": N_("the same card or payer had it before"),
    "money_went_back": N_("the money went back"),
    "no_billing_profile": N_("there is no billing information"),
    "not_new": N_("the account had a voucher or usage before"),
    "over": N_("it ended meanwhile"),
    "suspect": N_("the account shares something with another"),
    "used_by_this_account": N_("the account had it before"),
    "wrong_country": N_("it is for another country"),
    "wrong_site": N_("it is for another site"),
}


def step(kind: str) -> str:
    """Return the sentence for a step of a payment's life."""
    return _(_STEPS.get(kind, kind))


def taken(each: TimelineStep) -> str:
    """Return the sentence for a step, with its reason where it has one."""
    text = step(each.kind)
    if each.kind == CHECK_FAILED:
        return f"{text} ({each.details.get('error')})"
    why = _PACK_REFUSALS.get(str(each.details.get("reason")))
    return f"{text}: {_(why)}" if each.kind == "starter_pack_refused" and why else text


def amount(each: TimelineStep) -> str:
    """Return the amount that a step tells of, or nothing."""
    found = kept_amount(each.details)
    return "" if found is None else formats.money(found)


def reason(each: TimelineStep, of_refunds: Mapping[int, str]) -> str:
    """Return why somebody asked for the refund that a step begins, or nothing."""
    if each.kind != "refund_requested":
        return ""
    given = of_refunds.get(int(each.details.get("refund", 0)), "")
    return _("made at the gateway") if given == "gateway" else given
