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
    "awaiting": N_("Payment pending: the customer pays later"),
    "instructions": N_("In-store payment instructions sent"),
    "approved": N_("Approved by the customer at the gateway"),
    "succeeded": N_("Payment succeeded, credit added"),
    "failed": N_("Payment failed"),
    "cancelled": N_("Cancelled by the customer"),
    "expired": N_("Payment expired"),
    "wrong_amount": N_("Under review: amount received differs from amount requested"),
    "money_of_another": N_("Under review: the gateway transaction belongs to another payment"),
    "second_money": N_("Under review: additional money received and not credited"),
    "gateway_review": N_("Flagged for review by the gateway"),
    "money_after_refusal": N_("Under review: money received after rejection"),
    "acceptance_requested": N_("Approval requested"),
    "acceptance_approved": N_("Approved by another finance member"),
    "rejected_by_staff": N_("Rejected: return the amount received"),
    "money_returned": N_("Rejected amount returned"),
    "money_not_received": N_("Gateway reports the rejected amount as not received"),
    "return_failed": N_("Return failed: return the amount again"),
    "denied_after_credit": N_("Payment denied by the gateway after it was credited"),
    "refund_in_other_currency": N_("Discrepancy: refunded in a different currency at the gateway"),
    "refund_amount_changed": N_("Discrepancy: refund amount changed at the gateway"),
    "amount_changed": N_("Discrepancy: payment amount changed at the gateway"),
    "refund_of_another_payment": N_("Discrepancy: refund is posted to another payment"),
    "dispute_of_another_payment": N_("Discrepancy: dispute is posted to another payment"),
    "dispute_outcome_unknown": N_("Discrepancy: dispute closed with an unknown outcome"),
    "discrepancy_reviewed": N_("Discrepancy reviewed"),
    "fee_changed": N_("Gateway fee changed"),
    "check_failed": N_("Gateway response not processed, to be retried"),
    "refund_requested": N_("Refund requested, credit clawed back"),
    "refund_waits": N_("Refund queued: sent once the previous refund has settled"),
    "refund_pending": N_("Refund pending at the gateway"),
    "refund_unanswered": N_("No response to the refund from the gateway for a week"),
    "refund_succeeded": N_("Refund paid"),
    "refund_failed": N_("Refund failed, credit restored"),
    "refund_of_too_much": N_("Discrepancy: refunded amount exceeds the amount credited"),
    "reversal_of_dispute": N_("Disputed amount withdrawn by the gateway"),
    "dispute_inquiry": N_(
        "Dispute inquiry opened, no money moved: respond at the gateway, or refund the payment"
    ),
    "dispute_inquiry_closed": N_("Dispute inquiry closed, no money moved"),
    "attempt_refused": N_("Payment method declined: the customer can choose another"),
    "dispute_opened": N_("Dispute opened, account frozen"),
    "dispute_changed": N_("Disputed amount or evidence due date changed"),
    "dispute_reopened": N_("Dispute reopened on appeal, account frozen"),
    "dispute_won": N_("Dispute won"),
    "dispute_lost": N_("Dispute lost, credit clawed back"),
    "dispute_exceeds_payment": N_("Discrepancy: dispute loss exceeds the remaining payment amount"),
    "approved_transfer": N_("Bank transfer approved"),
    "starter_pack": N_("First top-up: campaign credit granted"),
    "starter_pack_waits": N_("First top-up: checking the payment instrument at the gateway"),
    "starter_pack_refused": N_("First top-up: campaign credit not granted"),
}
_PACK_REFUSALS = {
    "budget_spent": N_("the campaign budget is used up"),
    "instrument_seen": N_("the card or payer has already redeemed it"),
    "money_went_back": N_("the payment was refunded or charged back"),
    "no_billing_profile": N_("there is no billing information"),
    "not_new": N_("the account has had a voucher or usage before"),
    "over": N_("the campaign has ended"),
    "suspect": N_("the account is linked to another account"),
    "used_by_this_account": N_("the account has already redeemed it"),
    "wrong_country": N_("the campaign is for another country"),
    "wrong_site": N_("the campaign is for another site"),
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
    return _("created at the gateway") if given == "gateway" else given
