"""A payment that needs a decision, as each member of staff sees it, and as the customer does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.actors import StaffRole, user_actor
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
)
from domain.ledger.balances import account_summary
from domain.payments import request_refund
from domain.payments.gateway_updates import apply_updates
from domain.payments.reviews import (
    record_return,
    reject_payment,
    request_acceptance,
    review_discrepancy,
    reviews_of,
)
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.money import Money
    from domain.payments import StartedPayment

OTHER = user_actor(900, staff_role=StaffRole.FINANCE)
PROPOSE, ACCEPT, REFUSE, RECORD = FAMILIAR = (
    "Request approval",
    "Approve payment",
    "Reject payment",
    "Record return",
)


class Case:
    """A payment of 1,000,000 dong for which something else came."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.gateway = ScriptedGateway()
        self.account, owner = payer(session)
        self.payment: StartedPayment = begin(
            session, self.gateway, self.account, owner, dong(1_000_000)
        )

    def comes(
        self, amount: Money | None, state: GatewayPaymentState = GatewayPaymentState.PAID
    ) -> None:
        update = PaymentUpdate(
            state,
            reference=self.payment.reference,
            gateway_payment_id=None if amount is None else "money-1",
            amount=amount,
        )
        apply_updates(self.session, gateway=self.gateway, updates=(update,), actor=GATEWAYS)
        self.session.commit()

    def case_id(self) -> int:
        found = reviews_of(self.session, payment_id=self.payment.payment_id, actor=OTHER)
        return found.waiting[0].case.id


@pytest.fixture
def case(session: Session) -> Case:
    return Case(session)


def look(show: Callable[..., AppTest], case: Case, role: StaffRole) -> AppTest:
    app = show(None, staff_role=role)
    app.switch_page("pages/payments.py")
    app.query_params["ref"] = case.payment.reference
    app.run()
    assert not app.exception
    return app


def offered(app: AppTest) -> list[str]:
    return [button.label for button in app.button if button.label in FAMILIAR]


def click(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception


def confirm(app: AppTest, label: str, reason: str) -> None:
    asked = {ACCEPT: "accept", PROPOSE: "accept", REFUSE: "refuse", RECORD: "return"}[label]
    field = next(each for each in app.text_input if str(each.key).startswith(f"line-{asked}-"))
    field.set_value(reason)
    click(app, label)


def facts(app: AppTest) -> str:
    return " ".join(str(block.proto.body) for block in app.get("html"))


def test_finance_proposes_and_then_waits_for_somebody_else(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.comes(dong(700_000))
    app = look(show, case, StaffRole.FINANCE)
    assert "This payment needs a decision" in [heading.value for heading in app.subheader]
    shown = facts(app)
    assert "₫1,000,000" in shown
    assert shown.count("₫700,000") == 2
    assert offered(app) == [PROPOSE, REFUSE]
    click(app, PROPOSE)
    assert [error.value for error in app.error] == ["Enter a reason."]
    confirm(app, PROPOSE, "Seen on the statement")
    assert [done.value for done in app.success] == [
        "Requested. Waiting for approval by another finance member."
    ]
    assert offered(app) == []
    assert "You requested approval. Waiting for approval by another finance member." in [
        c.value for c in app.caption
    ]


def test_somebody_else_accepts_with_both_names(show: Callable[..., AppTest], case: Case) -> None:
    case.comes(dong(700_000))
    request_acceptance(
        case.session,
        payment_id=case.payment.payment_id,
        case_id=case.case_id(),
        reason="Seen on the statement",
        actor=OTHER,
    )
    case.session.commit()
    app = look(show, case, StaffRole.FINANCE)
    assert "Seen on the statement" in facts(app)
    assert offered(app) == [ACCEPT, REFUSE]
    confirm(app, ACCEPT, "Agreed")
    assert [done.value for done in app.success] == ["Payment approved. Credit granted."]
    shown = facts(app)
    assert "user:900" in shown
    assert "<dt>Decided by</dt><dd>You</dd>" in shown
    assert "Success · Paid" in shown
    assert offered(app) == []


def test_finance_refuses_and_records_that_it_went_back(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.comes(dong(700_000))
    app = look(show, case, StaffRole.FINANCE)
    confirm(app, REFUSE, "Not theirs")
    assert "Failed · Rejected" in facts(app)
    assert "₫700,000 to be returned manually" in facts(app)
    confirm(app, RECORD, "FT 77")
    assert "₫700,000 returned" in facts(app)
    assert offered(app) == []


def test_support_reads_only(show: Callable[..., AppTest], case: Case) -> None:
    case.comes(dong(700_000))
    app = look(show, case, StaffRole.SUPPORT)
    assert "This payment needs a decision" in [heading.value for heading in app.subheader]
    assert offered(app) == []
    reject_payment(
        case.session,
        payment_id=case.payment.payment_id,
        case_id=case.case_id(),
        reason="x",
        actor=OTHER,
    )
    case.session.commit()
    app.run()
    assert "to be returned manually" in facts(app)
    assert offered(app) == []


def test_without_the_gateway_s_word_it_can_only_be_asked_or_refused(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.comes(None, GatewayPaymentState.UNDER_REVIEW)
    app = look(show, case, StaffRole.FINANCE)
    assert offered(app) == [REFUSE]
    assert any("Select Refresh from gateway first" in caption.value for caption in app.caption)


def test_a_decision_that_came_too_late_says_so(show: Callable[..., AppTest], case: Case) -> None:
    case.comes(dong(700_000))
    app = look(show, case, StaffRole.FINANCE)
    update = paid(case.payment.reference, dong(1_000_000), number="money-1")
    apply_updates(case.session, gateway=case.gateway, updates=(update,), actor=GATEWAYS)
    case.session.commit()
    confirm(app, REFUSE, "Too late")
    assert not app.success
    (error,) = app.error
    assert error.value.replace("\\", "").startswith(
        "Nothing was changed: the gateway has settled this payment."
    )
    assert "Success · Paid" in facts(app)


@pytest.mark.parametrize(
    ("faster", "message"),
    [
        (reject_payment, "already rejected by user:900, "),
        (request_acceptance, "already requested by"),
    ],
)
def test_late_decision_on_a_review_says_who_was_faster(
    show: Callable[..., AppTest], case: Case, faster: Callable[..., None], message: str
) -> None:
    case.comes(dong(700_000))
    app = look(show, case, StaffRole.FINANCE)
    faster(
        case.session,
        payment_id=case.payment.payment_id,
        case_id=case.case_id(),
        reason="Faster",
        actor=OTHER,
    )
    case.session.commit()
    confirm(app, PROPOSE, "Seen on the statement")
    (error,) = app.error
    assert error.value.replace("\\", "").startswith(f"Nothing was changed: {message}")


def test_finance_finds_what_waits(show: Callable[..., AppTest], case: Case) -> None:
    app = show(None, staff_role=StaffRole.FINANCE)
    app.switch_page("pages/payments.py").run()
    (toggle,) = app.toggle
    assert toggle.label == "Needs a decision (0)"
    toggle.set_value(True)
    app.run()
    assert [info.value for info in app.info] == ["No payments need a decision."]
    case.comes(dong(700_000))
    app.run()
    assert app.toggle[0].label == "Needs a decision (1)"
    assert app.dataframe[0].value["Details"].to_list() == ["Under review"]


@pytest.mark.parametrize(
    ("decision", "detail", "said"),
    [
        (None, "Under review", "under review by our staff"),
        (reject_payment, "Rejected", "was rejected, and nothing was credited"),
    ],
)
def test_what_the_customer_reads(
    show: Callable[..., AppTest],
    case: Case,
    decision: Callable[..., None] | None,
    detail: str,
    said: str,
) -> None:
    case.comes(dong(700_000))
    if decision is not None:
        decision(
            case.session,
            payment_id=case.payment.payment_id,
            case_id=case.case_id(),
            reason="x",
            actor=OTHER,
        )
        case.session.commit()
    app = show(case.account, tab="payments")
    assert app.dataframe[0].value["Details"].to_list() == [detail]
    app.switch_page("pages/payment.py")
    app.query_params["ref"] = case.payment.reference
    app.run()
    shown = [box.value for box in (*app.warning, *app.error)]
    assert any(said in text for text in shown)


REVIEW = "Mark as reviewed"


def reviewable(app: AppTest) -> bool:
    return REVIEW in [button.label for button in app.button]


def test_amount_that_differs_stands_on_the_work_list_until_it_is_reviewed(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.comes(dong(1_000_000))
    case.comes(dong(700_000))
    app = show(None, staff_role=StaffRole.FINANCE)
    app.switch_page("pages/payments.py")
    app.query_params["waiting"] = "yes"
    app.run()
    assert "Discrepancies with the gateway (1)" in [each.value for each in app.subheader]
    table = app.dataframe[0].value
    assert table["Amount posted"].tolist() == ["₫1,000,000"]
    assert table["Amount reported by the gateway"].tolist() == ["₫700,000"]
    assert table["Payment"].tolist() == [f"/payments?ref={case.payment.reference}"]
    app = look(show, case, StaffRole.FINANCE)
    assert "Amount differs at the gateway" in [each.value for each in app.subheader]
    click(app, REVIEW)
    assert [error.value for error in app.error] == ["Enter a reason."]
    field = next(each for each in app.text_input if str(each.key).startswith("line-review-"))
    field.set_value("A typing error at the gateway")
    click(app, REVIEW)
    assert [done.value for done in app.success] == ["Marked as reviewed."]
    assert not reviewable(app)
    assert "Reviewed" in [each.value for each in app.subheader]
    assert "A typing error at the gateway" in facts(app)


def test_late_review_of_an_amount_says_who_was_faster(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.comes(dong(1_000_000))
    case.comes(dong(700_000))
    app = look(show, case, StaffRole.FINANCE)
    payment_id = case.payment.payment_id
    found = reviews_of(case.session, payment_id=payment_id, actor=OTHER)
    review_discrepancy(
        case.session,
        payment_id=payment_id,
        case_id=found.discrepancies[0].id,
        reason="Seen",
        actor=OTHER,
    )
    case.session.commit()
    field = next(each for each in app.text_input if str(each.key).startswith("line-review-"))
    field.set_value("Seen too")
    click(app, REVIEW)
    (error,) = (each.value.replace("\\", "") for each in app.error)
    assert error.startswith(f"Nothing was changed: already reviewed by user:{OTHER.user_id}, ")


def test_support_sees_an_amount_that_differs_and_reviews_none(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.comes(dong(1_000_000))
    case.comes(dong(700_000))
    app = look(show, case, StaffRole.SUPPORT)
    assert "Amount differs at the gateway" in [each.value for each in app.subheader]
    assert not reviewable(app)


@pytest.mark.parametrize(
    ("label", "message", "left"),
    [
        (
            "Record as lost",
            "Dispute recorded as lost. Credit clawed back.",
            0,
        ),
        ("Record as won", "Dispute recorded as won.", 1_000_000),
    ],
)
def test_finance_ends_a_dispute_whose_end_cannot_be_read(
    show: Callable[..., AppTest], case: Case, label: str, message: str, left: int
) -> None:
    case.comes(dong(1_000_000))
    update = DisputeUpdate(
        "dp-1",
        DisputeState.OPEN,
        dong(1_000_000),
        gateway_payment_id="money-1",
        unknown_outcome="A_NEW_CODE",
    )
    apply_updates(case.session, gateway=case.gateway, updates=(update,), actor=GATEWAYS)
    case.session.commit()
    app = look(show, case, StaffRole.SUPPORT)
    assert label not in [button.label for button in app.button]
    app = look(show, case, StaffRole.FINANCE)
    assert "Dispute closed with an unknown outcome" in [each.value for each in app.subheader]
    assert "A_NEW_CODE" in facts(app)
    click(app, label)
    assert [error.value for error in app.error] == ["Enter a reason."]
    field = next(each for each in app.text_input if str(each.key).startswith("line-review-"))
    field.set_value("The gateway's page says so")
    click(app, label)
    assert [done.value for done in app.success] == [message]
    summary = account_summary(case.session, actor=OTHER, account_id=case.account)
    assert summary.balance_micros == dong(left).micros


def test_steps_tell_their_amounts_and_why_money_was_refunded(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.comes(dong(1_000_000))
    for amount, reason in ((dong(200_000), "Paid twice"), (dong(300_000), "Bought by mistake")):
        request_refund(
            case.session,
            payment_id=case.payment.payment_id,
            amount=amount,
            reason=reason,
            actor=OTHER,
            idempotency_key=reason,
        )
    update = RefundUpdate(
        "re-1", RefundState.SUCCEEDED, dong(100_000), payment_reference=case.payment.reference
    )
    apply_updates(case.session, gateway=case.gateway, updates=(update,), actor=GATEWAYS)
    case.session.commit()
    table = look(show, case, StaffRole.SUPPORT).dataframe[0].value
    refunds = table[table["Event"].str.startswith("Refund requested")]
    assert refunds["Amount"].tolist() == ["₫200,000", "₫300,000", "₫100,000"]
    assert refunds["Reason"].tolist() == [
        "Paid twice",
        "Bought by mistake",
        "created at the gateway",
    ]


def test_the_customer_reads_that_rejected_money_was_given_back(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.comes(dong(700_000))
    payment_id = case.payment.payment_id
    reject_payment(
        case.session, payment_id=payment_id, case_id=case.case_id(), reason="x", actor=OTHER
    )
    (decision,) = reviews_of(case.session, payment_id=payment_id, actor=OTHER).decided
    record_return(case.session, review_id=decision.review_id, reference="FT 1", actor=OTHER)
    case.session.commit()
    app = show(case.account)
    app.switch_page("pages/payment.py")
    app.query_params["ref"] = case.payment.reference
    app.run()
    assert [box.value for box in app.error] == [
        "This payment was rejected, and nothing was credited. The money was returned."
    ]
