"""The page of a payment and Payment History: what each state says, shows and offers."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update as sql_update

from db.models import Payment, Refund
from domain.actors import StaffRole, user_actor
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
    Snapshot,
)
from domain.payments import issue_documents
from domain.payments.gateway_updates import apply_updates
from domain.payments.queries import find_payment
from domain.payments.timeline import payment_timeline
from domain.security.payload_encryption import Vault
from portal.views.top_up import dialog, result
from portal.views.top_up.background_checks import BackgroundChecks
from tests.factories import SYSTEM, grant
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.support.owner import as_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.actors import Actor
    from domain.gateways.interface import Gateway, GatewayUpdate, KnownPayment
    from domain.payments.queries import PaymentView

CREDIT = dong(500_000)
ANOTHER = "Try another method"


class Case:
    """A payment of 500,000 dong by VNPay, and the account that it is of."""

    vault = Vault(b"the secret of these documents")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.gateway = ScriptedGateway()
        self.account, owner = payer(session)
        self.payment = begin(session, self.gateway, self.account, owner, CREDIT)
        session.commit()

    def becomes(self, **values: Any) -> None:
        chosen = Payment.id == self.payment.payment_id
        with as_owner(self.session):
            self.session.execute(sql_update(Payment).where(chosen).values(**values))
        self.session.commit()

    def message(self, update: GatewayUpdate) -> None:
        apply_updates(self.session, gateway=self.gateway, updates=(update,), actor=GATEWAYS)
        self.session.commit()

    def credited(self) -> None:
        self.message(paid(self.payment.reference, CREDIT))
        issue_documents(self.session, vault=self.vault, actor=SYSTEM)
        self.session.commit()

    def disputed(self, state: str, reason: str = "product_not_received") -> None:
        update = DisputeUpdate(
            "dispute-1",
            DisputeState(state),
            CREDIT,
            payment_reference=self.payment.reference,
            reason=reason,
        )
        self.message(update)

    def refunded(self, **values: Any) -> None:
        row = self.session.get_one(Payment, self.payment.payment_id)
        given = {
            "state": "succeeded",
            "pay_micros": dong(200_000).micros,
            "outflow_micros": dong(200_000).micros,
            "clawed_back_micros": dong(200_000).micros,
            "credit_micros": dong(200_000).micros,
            "reason": "An agent's own words",
            "requested_by": "user:7",
            "requested_at": row.created_at,
            **values,
        }
        self.session.add(
            Refund(account_id=row.account_id, payment_id=row.id, gateway=row.gateway, **given)
        )
        row.refunded_micros = dong(200_000).micros
        self.session.commit()


@pytest.fixture
def case(session: Session, monkeypatch: pytest.MonkeyPatch) -> Case:
    made = Case(session)
    monkeypatch.setattr(result, "gateway_of", lambda _name: made.gateway)
    monkeypatch.setattr(dialog, "gateway_of", lambda _name: made.gateway)
    return made


@pytest.fixture(autouse=True)
def questions(monkeypatch: pytest.MonkeyPatch) -> Iterator[BackgroundChecks]:
    """Questions of this test alone: each database counts its payments from 1."""
    own = BackgroundChecks()
    monkeypatch.setattr(result, "checks", lambda: own)
    yield own
    assert own.join(10)


def look(show: Callable[..., AppTest], case: Case, **query: str) -> AppTest:
    app = show(case.account)
    app.switch_page("pages/payment.py")
    for name, value in {"ref": case.payment.reference, **query}.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def html_of(app: AppTest) -> str:
    return " ".join(str(element.proto.body) for element in app.get("html"))


def facts_of(app: AppTest) -> dict[str, str]:
    (text, *_) = (  # the effect of a refund has one of its own
        each.proto.body for each in app.get("html") if '<dl class="facts">' in each.proto.body
    )
    names = [part.split("</dt>")[0] for part in text.split("<dt>")[1:]]
    values = [part.split("</dd>")[0] for part in text.split("<dd>")[1:]]
    return dict(zip(names, values, strict=True))


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


# ── Words ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("state", "status", "offered"),
    [
        ("failed", "Failed", ANOTHER),
        ("cancelled", "Cancelled", "Try again"),
        ("expired", "Expired", "Try again"),
    ],
)
def test_payment_that_failed_shows_no_credit_and_another_way(
    show: Callable[..., AppTest], case: Case, state: str, status: str, offered: str
) -> None:
    case.becomes(state=state)
    app = look(show, case)
    updates = facts_of(app)
    assert updates["Amount"] == "₫500,000"
    assert updates["Status"] == status
    assert not [name for name in updates if "redit" in name or "aid" in name]
    assert offered in labels(app)


def test_payment_whose_time_is_over_leads_to_no_dead_end(
    show: Callable[..., AppTest], case: Case
) -> None:
    lapsed = datetime.now(UTC) - timedelta(minutes=1)
    case.becomes(state="pending", redirect_url="https://pay.example.com/", expires_at=lapsed)
    app = look(show, case)
    assert "Go to VNPay" not in html_of(app)
    assert "The time to pay at VNPay has expired." in app.caption[0].value
    assert "Try again" in labels(app)


def test_payment_whose_time_ends_while_it_is_watched_offers_another_at_once(
    show: Callable[..., AppTest], case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, read = datetime.now(UTC), vars(result)["_read_payment"]
    url, later = "https://pay.example.com/", now + timedelta(hours=1)
    case.becomes(state="pending", redirect_url=url, expires_at=later)

    def read_when_it_is_over(here: Any, reference: str) -> PaymentView:
        case.becomes(expires_at=now)
        found: PaymentView = read(here, reference)
        return found

    monkeypatch.setattr(result, "_read_payment", read_when_it_is_over)
    app = look(show, case)
    assert "The time to pay at VNPay has expired." in app.caption[0].value
    assert "Try again" in labels(app)


def test_declined_payment_says_so_and_opens_add_credit_with_its_amount(
    show: Callable[..., AppTest], case: Case
) -> None:
    update = PaymentUpdate(GatewayPaymentState.FAILED, reference=case.payment.reference, code="51")
    case.message(update)
    app = look(show, case)
    (message,) = (error.value.replace("\\", "") for error in app.error)
    assert message.startswith("VNPay declined this payment: the account has insufficient funds.")
    next(button for button in app.button if button.label == ANOTHER).click()
    app.run()
    # The page alone ran; it is the portal around it that draws the dialog.
    app.switch_page("main.py")
    app.run()
    assert not app.exception
    (methods,) = (each for each in app.radio if each.label == "Payment method")
    assert methods.label == "Payment method"
    assert "₫500,000 of credit will be added." in [text.value for text in app.markdown]


def test_attempt_that_was_declined_offers_another_method_while_the_payment_is_open(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.becomes(state="pending", redirect_url="https://pay.example.com/")
    refused = PaymentUpdate(
        GatewayPaymentState.OPEN,
        reference=case.payment.reference,
        code="INSTRUMENT_DECLINED",
        refusal=0,
    )
    case.message(refused)
    app = look(show, case)
    assert "VNPay declined your payment method." in app.error[0].value
    assert facts_of(app)["Status"] == "Declined, not paid yet"
    assert ANOTHER in labels(app)
    assert "Go to VNPay" in html_of(app)


@pytest.mark.parametrize(
    ("gateway", "code", "shown"),
    [
        ("paypal", "gateway_review", "PayPal is reviewing your payment"),
        ("vnpay", "gateway_review", "Your payment is received and under review by our staff"),
        ("vnpay", "wrong_amount", "Your payment is received and under review by our staff"),
    ],
)
def test_payment_under_review_says_that_it_was_paid(
    show: Callable[..., AppTest], case: Case, gateway: str, code: str, shown: str
) -> None:
    case.becomes(state="under_review", code=code, gateway=gateway)
    app = look(show, case)
    (message,) = (warning.value for warning in app.warning)
    assert message.startswith(f"{shown}. No action is needed.")
    assert facts_of(app)["Credit to be added"] == "₫500,000"
    assert ANOTHER not in labels(app)


def test_payment_that_paypal_holds_says_that_nothing_need_be_done(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.becomes(state="awaiting", gateway="paypal")
    app = look(show, case)
    (message,) = (info.value for info in app.info)
    assert message.startswith("PayPal is reviewing your payment. No action is needed.")
    assert facts_of(app)["Status"] == "Paid, under review"
    assert "Go to PayPal" not in html_of(app)
    table = show(case.account, tab="history").dataframe[0].value
    assert list(table["Description"]) == ["Top-up · Paid, under review"]


def test_payment_that_a_store_awaits_says_until_when(
    show: Callable[..., AppTest], case: Case
) -> None:
    pay_by = datetime(2026, 12, 24, 14, 59, tzinfo=UTC)
    case.becomes(state="awaiting", gateway="stripe", pay_by=pay_by)
    app = look(show, case)
    assert "Waiting for your payment." in app.info[0].value
    assert any("Pay until Dec 24, 2026" in text.value.replace("\\", "") for text in app.markdown)


def awaits_store(case: Case, instructions_url: str | None) -> None:
    """Have the gateway say that a store awaits the money, and where the customer reads how."""
    update = PaymentUpdate(
        GatewayPaymentState.AWAITING,
        reference=case.payment.reference,
        pay_by=datetime(2026, 12, 24, 14, 59, tzinfo=UTC),
        instructions_url=instructions_url,
    )
    case.message(update)


def test_payment_that_a_store_awaits_leads_to_its_instructions(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.becomes(state="pending", gateway="stripe")
    case.gateway.name = "stripe"
    awaits_store(case, None)
    assert "/pay/" not in html_of(look(show, case)), "nobody knows yet where they are"
    for _ in range(2):  # the gateway says so each time that it is asked
        awaits_store(case, "https://pay.example.com/voucher")
    path = f"/pay/{case.payment.reference}"
    link = f'href="{path}" target="_blank">Open payment instructions'
    assert link in html_of(look(show, case))
    found = find_payment(case.session, actor=SYSTEM, reference=case.payment.reference)
    assert found.pay_url == "https://pay.example.com/voucher"
    agent = user_actor(7, staff_role=StaffRole.SUPPORT)
    steps = payment_timeline(case.session, actor=agent, reference=case.payment.reference).steps
    assert [step.kind for step in steps].count("instructions") == 1
    staff = show(None, staff_role=StaffRole.SUPPORT)
    staff.switch_page("pages/payment.py")
    staff.query_params["ref"] = case.payment.reference
    assert path not in html_of(staff.run()), "only who may pay is led there"
    case.message(PaymentUpdate(GatewayPaymentState.EXPIRED, reference=case.payment.reference))
    expired = look(show, case)
    assert path not in html_of(expired)
    assert "This payment was not paid in time and has expired." in expired.warning[0].value
    assert "Try again" in labels(expired)


def test_customer_opens_the_receipt_and_what_followed_it(
    show: Callable[..., AppTest], staff_page: Callable[..., AppTest], case: Case
) -> None:
    case.credited()
    refund = RefundUpdate(
        "r1",
        RefundState.SUCCEEDED,
        dong(200_000),
        payment_reference=case.payment.reference,
    )
    for state in (RefundState.SUCCEEDED, RefundState.FAILED):
        case.message(replace(refund, state=state))
        issue_documents(case.session, vault=case.vault, actor=SYSTEM)
        case.session.commit()
    path = f"/receipts/{case.payment.reference}"
    finance = staff_page("payments", StaffRole.FINANCE, ref=case.payment.reference)
    for shown in (html_of(look(show, case)), html_of(finance)):
        assert f'href="{path}" target="_blank">Open receipt (PDF)' in shown
        assert f'href="{path}/2" target="_blank">Credit note VN-C-' in shown
        assert f'href="{path}/3" target="_blank">Cancellation VN-' in shown


@pytest.mark.parametrize(
    ("state", "status", "has_receipt"),
    [("open", "Disputed", True), ("lost", "Dispute lost", False), ("won", "Paid", True)],
)
def test_dispute_reads_the_same_everywhere(  # noqa: PLR0917 - fixtures, and one row
    show: Callable[..., AppTest],
    staff_page: Callable[..., AppTest],
    case: Case,
    state: str,
    status: str,
    has_receipt: bool,  # noqa: FBT001
) -> None:
    case.credited()
    case.disputed(state)
    app = look(show, case)
    assert facts_of(app)["Status"] == status
    shown = html_of(app)
    assert "Product or service not received" in shown
    assert ("/receipts/" in shown) == has_receipt
    history = show(case.account, tab="payments").dataframe[0].value
    assert list(history["Details"]) == [status]
    assert list(history["Receipt"]) == ["Ready" if has_receipt else ""]
    finance = staff_page("payments", StaffRole.FINANCE, ref=case.payment.reference)
    assert facts_of(finance)["Status"].endswith(status)
    assert ("/receipts/" in html_of(finance)) == has_receipt
    offers_refund = any("Left to refund" in each.value for each in finance.markdown)
    assert offers_refund == (state == "won")  # nothing is left while the bank asks it back
    assert ("Send receipt again" in labels(finance)) == has_receipt
    listed = staff_page("payments", StaffRole.FINANCE, q=case.payment.reference)
    assert list(listed.dataframe[0].value["Details"]) == [status]


def test_refund_shows_amount_and_date_and_its_reason_to_staff_alone(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.credited()
    case.refunded()
    app = look(show, case)
    shown = html_of(app)
    assert "Refund: Refunded" in shown
    assert "₫200,000" in shown
    assert "An agent's own words" not in shown.replace("&#x27;", "'")
    assert facts_of(app)["Status"] == "Partially refunded"
    staff = show(None, staff_role=StaffRole.SUPPORT)
    staff.switch_page("pages/payment.py")
    staff.query_params["ref"] = case.payment.reference
    staff.run()
    assert "An agent's own words" in html_of(staff).replace("&#x27;", "'")


@pytest.mark.parametrize("state", ["requested", "pending"])
def test_refund_that_was_not_paid_yet_is_pending(
    show: Callable[..., AppTest],
    staff_page: Callable[..., AppTest],
    case: Case,
    state: str,
) -> None:
    case.credited()
    case.refunded(state=state, requested_at=datetime(2026, 11, 1, 3, tzinfo=UTC))
    app = look(show, case)
    (message,) = (info.value.replace("\\", "") for info in app.info)
    assert message.startswith("A refund of ₫200,000 was requested on Nov 1, 2026 and is pending.")
    assert facts_of(app)["Status"] == "Refund pending"
    assert "Refund: Pending" in html_of(app)
    history = show(case.account, tab="payments").dataframe[0].value
    assert list(history["Details"]) == ["Refund pending"]
    finance = staff_page("payments", StaffRole.FINANCE, ref=case.payment.reference)
    assert facts_of(finance)["Refunded"] == "₫0"
    assert facts_of(finance)["Refund pending"] == "₫200,000"
    assert any("₫300,000" in each.value for each in finance.markdown), "what is left to refund"


def test_refund_that_waits_is_told_beside_one_that_was_paid(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.credited()
    case.refunded()
    case.refunded(state="requested")
    case.becomes(refunded_micros=dong(400_000).micros)
    (message,) = (info.value.replace("\\", "") for info in look(show, case).info)
    assert message.startswith("₫200,000 of this payment was refunded. A refund of ₫200,000 was ")


def test_reversal_that_became_part_of_a_dispute_is_told_once(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.credited()
    case.refunded(
        state="merged", outflow_micros=0, clawed_back_micros=0, credit_micros=0, is_reversal=True
    )
    case.disputed("lost")
    shown = html_of(look(show, case))
    assert "Refund:" not in shown
    assert shown.count('data-name="Status"') == 1


# ── The way back ──────────────────────────────────────────────────────────────────────────────
def way_back(app: AppTest) -> tuple[str, str, str]:
    """Return the label of the link back, its page and its query."""
    (link,) = (each.proto for each in app.get("page_link") if each.proto.label.startswith("Back"))
    return link.label, link.page, link.query_string


@pytest.mark.parametrize(
    ("came_from", "label", "query"),
    [
        ("", "Back to Payment History", "tab=payments"),
        ("tab=payments&status=failed", "Back to Payment History", "tab=payments&status=failed"),
        (
            "tab=history&kind=top_up&kind=voucher&older=x",
            "Back to Credit History",
            "tab=history&kind=top_up&kind=voucher&older=x",
        ),
        ("tab=settings", "Back to Payment History", "tab=payments"),
        ("https://elsewhere.example.com/", "Back to Payment History", "tab=payments"),
    ],
)
def test_customer_goes_back_to_where_they_came_from(
    show: Callable[..., AppTest], case: Case, came_from: str, label: str, query: str
) -> None:
    case.becomes(state="failed")
    assert way_back(look(show, case, back=came_from)) == (label, "", query)


def test_row_of_payment_history_leads_to_its_payment_and_back(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.becomes(state="failed")
    app = show(case.account, tab="payments", status="failed")
    app.session_state["payment_to_open"] = case.payment.reference
    app.run()
    assert not app.exception
    assert app.query_params["ref"] == case.payment.reference
    assert way_back(app)[2] == "tab=payments&status=failed"


def test_staff_go_back_to_payments_or_to_the_account_in_view(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.becomes(state="failed")
    staff = show(None, staff_role=StaffRole.SUPPORT)
    staff.switch_page("pages/payment.py")
    staff.query_params["ref"] = case.payment.reference
    assert way_back(staff.run()) == ("Back to Payments", "payments", "")
    staff.query_params["back"] = "tab=payments"
    _label, page, query = way_back(staff.run())
    assert (page, query) == ("billing", f"tab=payments&account={case.account}")


def test_payment_history_names_amounts_and_not_payments(
    show: Callable[..., AppTest], case: Case
) -> None:
    table = show(case.account, tab="payments").dataframe[0].value
    assert "Paid" not in table.columns
    assert list(table["Amount"]) == ["₫500,000"]
    assert list(table["Credited"]) == [""]


def test_payment_history_says_where_top_ups_without_a_payment_are(
    show: Callable[..., AppTest], case: Case
) -> None:
    def notes() -> list[str]:
        app = show(case.account, tab="payments")
        links = [each.proto for each in app.get("page_link") if "top-ups" in each.proto.label]
        message = [
            each.value for each in app.caption if "imported, such as sample data" in each.value
        ]
        assert len(message) == len(links)
        query = f"account={case.account}&tab=history&kind=top_up"
        assert {link.query_string for link in links} <= {query}
        return message

    case.credited()
    refund = RefundUpdate(
        "r1", RefundState.SUCCEEDED, dong(200_000), payment_reference=case.payment.reference
    )
    for state in (RefundState.SUCCEEDED, RefundState.FAILED):
        case.message(replace(refund, state=state))
    assert notes() == [], "credit that was restored is the payment's"
    for number in ("1 top-up was imported", "2 top-ups were imported"):
        grant(case.session, case.account, 100_000)
        case.session.commit()
        (message,) = notes()
        assert message.startswith(number)


def test_payment_history_never_cuts_amount_and_status(
    show: Callable[..., AppTest], case: Case
) -> None:
    case.becomes(pay_micros=dong(1_234_567_890_123).micros, state="under_review", code="second")
    wide, narrow = show(case.account, tab="payments").dataframe
    assert list(wide.value.columns[:3]) == ["Date", "Amount", "Status"]
    assert list(narrow.value.columns[:3]) == ["Amount", "Status", "Date"]
    assert set(narrow.value.columns) == set(wide.value.columns)
    assert wide.value.columns[-1] == "Email", "it is as long as it likes"
    for table in (wide, narrow):
        columns = json.loads(table.proto.columns)
        (amount,) = table.value["Amount"]
        assert amount == "₫1,234,567,890,123"
        assert columns["Amount"]["width"] >= 8 * len(amount)
        assert columns["Status"]["width"] >= 8 * len("Pending")
        assert columns["Amount"]["width"] + columns["Status"]["width"] < 358 - 33, "on a phone"


# ── A gateway that does not answer ────────────────────────────────────────────────────────────
class HangingGateway(ScriptedGateway):
    """A gateway that answers when it is told to, and not before."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def complete_payment(self, payment: KnownPayment) -> Snapshot:
        self.answers.wait(120)
        return Snapshot(paid(payment.reference, CREDIT))


@pytest.mark.parametrize("query", [{}, {"cancelled": "1"}])
def test_page_is_drawn_before_the_gateway_answers(
    show: Callable[..., AppTest],
    case: Case,
    questions: BackgroundChecks,
    query: dict[str, str],
) -> None:
    case.becomes(state="pending")
    hanging = case.gateway = HangingGateway()
    try:
        app = look(show, case, **query)
        assert facts_of(app)["Amount"] == "₫500,000"
        assert questions.join(0) is False, "the gateway is being asked meanwhile"
    finally:
        hanging.answers.set()
    assert questions.join(10)
    app = look(show, case, **query)
    assert "was added to your balance" in app.success[0].value


def test_gateway_is_asked_once_however_often_the_page_is_drawn(
    show: Callable[..., AppTest], case: Case, questions: BackgroundChecks
) -> None:
    case.becomes(state="pending")
    app = look(show, case)
    assert questions.join(10)
    app.run()
    assert questions.join(10)
    assert len(case.gateway.asked) == 1


def test_hanging_gateway_keeps_few_threads_and_none_of_another() -> None:
    answers = threading.Event()

    def wait(_gateway: Gateway, _payment: int, _actor: Actor) -> None:
        answers.wait(30)

    own = BackgroundChecks(wait)
    hanging, other = ScriptedGateway(), ScriptedGateway("paypal")

    def start(gateway: ScriptedGateway, payment_id: int) -> bool:
        return own.start(gateway=gateway, payment_id=payment_id, actor=GATEWAYS)

    try:
        assert sum(start(hanging, number) for number in range(20)) == 8
        assert start(other, 1)
        assert not start(other, 1), "it is being asked already"
    finally:
        answers.set()
    assert own.join(10)
    assert start(hanging, 21)
    assert own.join(10)
