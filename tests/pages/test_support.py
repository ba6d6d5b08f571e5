"""An account's page for staff, acts on it, approvals and limits, as Streamlit runs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from db.models import Account
from domain import ledger, support
from domain.actors import StaffRole, user_actor
from domain.clock import CLOCK
from domain.gateways.interface import RefundState, RefundUpdate
from domain.ledger.balances import account_summary
from domain.payments.gateway_updates import apply_updates
from tests.factories import SYSTEM, UNIT, charge, grant, make_account
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.support.campaigns import campaign, codes, customer, offer
from tests.support.staff_actions import agent, checker, do, goodwill, make_person
from tests.support.staff_pages import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.actors import Actor

__all__ = ["agent", "checker", "make_person"]


@pytest.fixture
def page(staff_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def shown(name: str, role: StaffRole = StaffRole.SUPPORT, **query: str) -> AppTest:
        return staff_page(name, role, **query)

    return shown


def texts(elements: Any) -> list[str]:
    return [element.value.replace("\\", "") for element in elements]


def press(app: AppTest, label: str) -> AppTest:
    (button,) = [each for each in app.button if each.label.replace("\\", "") == label]
    button.click().run()
    assert not app.exception
    return app


def account_with(session: Session, amount: int = 0) -> int:
    account = make_account(session)
    if amount:
        grant(session, account, amount)
    session.commit()
    return account


def balance(session: Session, account: int) -> int:
    session.rollback()
    return account_summary(session, actor=SYSTEM, account_id=account).balance_micros // UNIT


def test_an_account_shows_what_happened_to_it(
    session: Session, page: Callable[..., AppTest]
) -> None:
    app = page("account", account=str(account_with(session, 100)))
    table = app.dataframe[0].value
    assert table["Event"].tolist() == ["Top-up"]
    assert table["Amount"].tolist() == ["+$100.00"]
    (note,) = app.text_area
    note.set_value("Calls back on Monday")
    press(app, "Save note")
    assert app.dataframe[0].value["Details"].tolist() == ["Calls back on Monday", ""]
    assert app.text_area[0].value == ""


def test_requested_payment_does_not_look_received(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account, owner = payer(session)
    begin(session, ScriptedGateway(), account, owner, dong(500_000))
    session.commit()
    table = page("account", account=str(account)).dataframe[0].value
    assert table["Event"].tolist()[0] == "Payment created by the customer, who agreed to the terms"
    assert table["Amount"].tolist()[0] == ""
    assert table["Details"].tolist()[0] == "Amount requested: ₫500,000"


def test_restored_credit_says_why(session: Session, page: Callable[..., AppTest]) -> None:
    gateway = ScriptedGateway()
    account, owner = payer(session)
    begun = begin(session, gateway, account, owner, dong(500_000))
    states = (RefundState.PENDING, RefundState.FAILED)
    amount, reference = dong(500_000), begun.reference
    refunds = [RefundUpdate("r-1", each, amount, payment_reference=reference) for each in states]
    apply_updates(session, gateway=gateway, updates=[paid(reference, amount)], actor=GATEWAYS)
    for message in refunds:
        apply_updates(session, gateway=gateway, updates=[message], actor=GATEWAYS)
    session.commit()
    table = page("account", account=str(account)).dataframe[0].value
    assert table["Event"].tolist()[:2] == [
        f"Refund failed, credit restored · {reference}",
        f"Refund · {reference}",
    ]
    assert table["Amount"].tolist()[:3] == ["+₫500,000", "\N{MINUS SIGN}₫500,000", "+₫500,000"]


def test_nonsense_in_the_address_shows_the_newest(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = str(account_with(session, 100))
    for before in ("~~", "2026-01-01~1~2", "x", "2026-01-01T00:00:00+00:00~9~x"):
        app = page("account", account=account, before=before, show="?")
        assert app.dataframe[0].value["Event"].tolist() == ["Top-up"]


def test_goodwill_within_the_limit_is_given(session: Session, page: Callable[..., AppTest]) -> None:
    account = account_with(session)
    app = page("account", account=str(account), show="act", do="give_goodwill")
    left = "{} of $50.00 left for this account in 24 hours."
    message = f"{left.format('$50.00')} Amounts above that need approval by a finance member."
    assert message in texts(app.caption)
    app.text_input(key="act_amount-0").set_value("12.50")
    press(app, "Grant goodwill credit")
    assert texts(app.error) == ["Enter a reason."]
    app.text_input(key="act_reason-0").set_value("Slow answers")
    press(app, "Grant goodwill credit")
    granted = f"Goodwill credit of $12.50 granted to {name_of(session, account)}."
    assert texts(app.success) == [f"{granted} {left.format('$37.50')}"]
    message = f"{left.format('$37.50')} Amounts above that need approval by a finance member."
    assert message in texts(app.caption)
    assert app.text_input(key="act_amount-1").value == ""
    assert balance(session, account) == 12


def test_above_the_limit_it_waits_and_says_so(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = account_with(session)
    app = page("account", account=str(account), show="act", do="give_goodwill")
    app.text_input(key="act_amount-0").set_value("500")
    app.text_input(key="act_reason-0").set_value("A week without service")
    press(app, "Grant goodwill credit")
    message = texts(app.warning)
    start = "Grant goodwill credit: $500.00 is waiting for approval by finance until "
    why = "Above your limit of $50.00 for one account in 24 hours. Nothing changes until"
    assert any(words.startswith(start) and why in words for words in message)
    waits = "Waiting for approval: Grant goodwill credit, $500.00, requested by you."
    assert waits in [words.replace("\\", "") for words in message]
    assert balance(session, account) == 0


def give(app: AppTest, amount: str, times: int) -> AppTest:
    """Send the form of goodwill, which was emptied so many times before."""
    app.text_input(key=f"act_amount-{times}").set_value(amount)
    app.text_input(key=f"act_reason-{times}").set_value("Slow answers")
    return press(app, "Grant goodwill credit")


def test_form_says_what_is_left_and_a_request_says_why(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = account_with(session)
    app = page("account", account=str(account), show="act", do="give_goodwill")
    give(app, "30", 0)
    give(app, "15", 1)
    granted = f"Goodwill credit of $15.00 granted to {name_of(session, account)}."
    assert texts(app.success) == [f"{granted} $5.00 of $50.00 left for this account in 24 hours."]
    give(app, "10", 2)
    why = "Above your limit: you have granted this account $45.00 of $50.00 within 24 hours."
    assert any(why in words for words in texts(app.warning))
    left = "{} of $50.00 left for this account in 24 hours. Amounts above that"
    assert any(left.format("$5.00") in words for words in texts(app.caption))
    # What is left can still be given, and another action has a limit of its own.
    give(app, "5", 3)
    assert any(left.format("$0.00") in words for words in texts(app.caption))
    assert balance(session, account) == 50
    app = page("account", account=str(account), show="act", do="apply_code")
    assert any(words.startswith("$500.00 of $500.00 left") for words in texts(app.caption))
    app = page("approvals")
    limit = "$50.00 for one account in 24 hours, $50.00 used for this account"
    assert f"<dt>Limit of the requester</dt><dd>{limit}</dd>" in facts(app)


@pytest.mark.parametrize(
    "change", ["staff_role = NULL", "staff_role = 'admin'", "disabled_at = now()"]
)
def test_who_may_no_more_gives_nothing_and_is_told_so(
    session: Session, page: Callable[..., AppTest], change: str
) -> None:
    account, _ = customer(session)
    (code,) = codes(session, campaign(session))
    session.commit()
    app = page("account", account=str(account), show="act", do="give_goodwill")
    session.execute(text(f"UPDATE users SET {change} WHERE id = 1"))  # noqa: S608 - one of three
    session.commit()
    give(app, "10", 0)
    assert texts(app.error) in (
        ["Your role does not allow this."],
        ["Not found, or you do not have access. Go back to Billing."],
    )
    assert not app.success
    app.segmented_control(key="act").set_value("apply_code").run()
    app.text_input(key="act_code-0").set_value(code)
    app.text_input(key="act_reason-0").set_value("Read out on the phone")
    press(app, "Apply voucher code")
    assert len(app.error) == 1
    assert not app.success
    assert balance(session, account) == 0


def test_approver_reads_that_the_requester_has_no_limit_any_more(
    session: Session, page: Callable[..., AppTest], agent: Actor, checker: Actor
) -> None:
    assert agent.user_id == 1  # who looks
    maker = user_actor(checker.user_id or 0, staff_role=StaffRole.FINANCE)
    do(session, account_with(session), goodwill(50_000), maker)
    session.commit()
    limit = "<dt>Limit of the requester</dt><dd>{} for one account in 24 hours, $0.00 used for this"
    assert limit.format("$500.00") in facts(page("approvals", StaffRole.FINANCE))
    session.execute(
        text("UPDATE users SET staff_role = NULL WHERE id = :id"), {"id": maker.user_id}
    )
    session.commit()
    assert limit.format("$0.00") in facts(page("approvals", StaffRole.FINANCE))


def test_finance_reads_that_another_of_finance_approves(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = str(account_with(session))
    app = page("account", StaffRole.FINANCE, account=account, show="act", do="give_goodwill")
    assert any("need approval by another finance member" in words for words in texts(app.caption))


def test_reversal_above_the_limit_says_what_was_reversed(
    session: Session, page: Callable[..., AppTest], agent: Actor
) -> None:
    assert agent.user_id == 1
    account = account_with(session)
    grant(session, account, 200, kind="adjustment")
    do(session, account, support.ReverseEntry(1, 45 * UNIT), agent)
    session.commit()
    app = reversal_page(page, account, StaffRole.SUPPORT, 1)
    app.text_input(key="act_reason-0").set_value("Given twice")
    press(app, "Reverse entry")
    why = "you have reversed $45.00 of $100.00 on this account within 24 hours."
    assert any(f"Above your limit: {why}" in words for words in texts(app.warning))


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        ("", "Enter an amount."),
        ("ten", "Enter an amount in digits, such as 5,000.00."),
        ("0", "Enter an amount above 0."),
        ("1.0015", "Enter an amount with at most 2 decimals."),
    ],
)
def test_a_wrong_amount_is_told(
    session: Session, page: Callable[..., AppTest], amount: str, message: str
) -> None:
    app = page("account", account=str(account_with(session)), show="act", do="give_goodwill")
    app.text_input(key="act_amount-0").set_value(amount)
    app.text_input(key="act_reason-0").set_value("Slow answers")
    press(app, "Grant goodwill credit")
    assert texts(app.error) == [message]
    assert app.text_input(key="act_reason-0").value == "Slow answers"


def test_a_voucher_is_issued_and_its_code_shown(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account, _ = customer(session)
    session.commit()
    app = page("account", account=str(account), show="act")
    assert any("No campaign allows support to issue" in words for words in texts(app.info))
    campaign(session, is_for_support=True, name="Sorry")
    session.commit()
    app.run()
    assert app.selectbox(key="campaign-0").options == ["$50.00 · Sorry"]
    app.text_input(key="act_reason-0").set_value("Slow answers")
    press(app, "Issue voucher")
    (code,) = app.code
    assert len(code.value) == 10
    kept = session.scalars(
        text("SELECT account_id FROM voucher_codes WHERE code = :code"), {"code": code.value}
    ).one()
    assert kept == account


def test_code_stays_until_the_page_is_left(session: Session, page: Callable[..., AppTest]) -> None:
    account, _ = customer(session)
    for name in ("Sorry", "Sorry again"):
        campaign(session, is_for_support=True, name=name, offers=(offer(20, 1_000),))
    session.commit()
    app = page("account", account=str(account), show="act")
    for number in range(2):
        app.selectbox(key=f"campaign-{number}").select_index(number)
        app.text_input(key=f"act_reason-{number}").set_value("Slow answers")
        press(app, "Issue voucher")
    message = "Voucher of $20.00 issued. The customer can redeem it under Voucher list. "
    assert texts(app.success) == [f"{message}$60.00 of $100.00 left for this account in 24 hours."]
    codes_shown = [each.value for each in app.code]
    assert len(set(codes_shown)) == 2
    app.segmented_control(key="act").set_value("give_goodwill").run()
    assert [each.value for each in app.code] == codes_shown
    give(app, "1", 2)
    assert [each.value for each in app.code] == codes_shown
    for section in ("timeline", "act"):
        app.segmented_control(key="account_section").set_value(section).run()
    assert [each.value for each in app.code] == codes_shown
    look_elsewhere(app, account)
    assert not app.code


def look_elsewhere(app: AppTest, account: int, other: int | None = None) -> None:
    """Leave the page of an account for Accounts, and come to it, or to another one's."""
    # AppTest runs a page's file alone; a browser's run leaves this behind.
    app.session_state["seen"] = ("account", account)
    app.query_params["account"] = str(other or account)
    app.switch_page("main.py").run()
    app.switch_page("pages/account.py")
    app.query_params["account"] = str(other or account)
    app.query_params["show"] = "act"
    app.run()
    assert not app.exception


def test_code_is_not_shown_at_another_account(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account, _ = customer(session)
    other = account_with(session)
    campaign(session, is_for_support=True, name="Sorry")
    session.commit()
    app = page("account", account=str(account), show="act")
    app.text_input(key="act_reason-0").set_value("Slow answers")
    press(app, "Issue voucher")
    assert len(app.code) == 1
    for number in (other, account):
        look_elsewhere(app, account, number)
        assert f" · {number}</dd>" in facts(app)
        assert not app.code


def test_issued_voucher_has_its_amount_in_the_timeline(
    session: Session, page: Callable[..., AppTest], agent: Actor
) -> None:
    account, _ = customer(session)
    done = do(session, account, support.IssueVoucher(campaign(session, is_for_support=True)), agent)
    session.commit()
    table = page("account", account=str(account)).dataframe[0].value
    (row,) = [row for _, row in table.iterrows() if row["Event"] == "Issue a voucher"]
    assert row["Details"] == f"$50.00 · Slow answers in March · code ends in {done.code[-4:]}"
    assert row["Amount"] == ""


def test_account_shows_what_is_on_hold_and_what_is_for_named_services(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = account_with(session, 100)
    grant(session, account, 20, kind="voucher", services=("ai-notebook",))
    ledger.place_hold(
        session,
        account_id=account,
        service="gpu-vm",
        amount_micros=60 * UNIT,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        source="vm-1",
        actor=SYSTEM,
        idempotency_key="hold",
    )
    session.commit()
    app = page("account", account=str(account))
    for name, amount in (
        ("Balance", "$120.00"),
        ("Available", "$60.00"),
        ("On hold", "$60.00"),
        ("Amount due", "$0.00"),
    ):
        assert f"<dt>{name}</dt><dd>{amount}</dd>" in facts(app)
    message = "$20.00 of the available credit is limited to certain services."
    assert message in texts(app.caption)
    assert message in texts(page("billing", account=str(account)).caption)


def test_a_code_is_applied(session: Session, page: Callable[..., AppTest]) -> None:
    account, _ = customer(session)
    (code,) = codes(session, campaign(session))
    session.commit()
    app = page("account", account=str(account), show="act", do="apply_code")
    app.text_input(key="act_code-0").set_value("nothing")
    app.text_input(key="act_reason-0").set_value("Read out on the phone")
    press(app, "Apply voucher code")
    assert texts(app.error) == ["Code not found. Check its 10 letters and digits."]
    app.text_input(key="act_code-0").set_value(code)
    press(app, "Apply voucher code")
    assert balance(session, account) == 50


def test_staff_guess_no_codes_either(session: Session, page: Callable[..., AppTest]) -> None:
    account, _ = customer(session)
    session.commit()
    app = page("account", account=str(account), show="act", do="apply_code")
    message: list[str] = []
    for number in range(12):
        app.text_input(key="act_code-0").set_value(f"ABCDEFGH{number + 22}")
        app.text_input(key="act_reason-0").set_value("Read out on the phone")
        press(app, "Apply voucher code")
        message += texts(app.error)
    assert message[0] == "Code not found. Check its 10 letters and digits."
    assert message[-1].startswith("Too many attempts.")


def facts(app: AppTest) -> str:
    return " ".join(element.proto.body for element in app.get("html"))


def reversal_page(
    page: Callable[..., AppTest], account: int, role: StaffRole, entry: int
) -> AppTest:
    query = {"account": str(account), "show": "act", "do": "reverse_entry"}
    return page("account", role, **query, entry=str(entry))


def test_an_entry_is_reversed(session: Session, page: Callable[..., AppTest]) -> None:
    account = account_with(session)
    grant(session, account, 40, kind="adjustment")
    session.commit()
    app = reversal_page(page, account, StaffRole.SUPPORT, 1)
    assert app.text_input(key="act_entry-0").value == "1"
    app.text_input(key="act_entry-0").set_value("").run()
    assert "Enter the entry number from Credit History." in texts(app.info)
    app.text_input(key="act_entry-0").set_value("9").run()
    assert texts(app.error) == ["Entry not found on this account."]
    app.text_input(key="act_entry-0").set_value("1").run()
    assert "Reversible amount: $40.00" in texts(app.markdown)
    app.text_input(key="act_reversed-0").set_value("41").run()
    assert "more than can be reversed" in texts(app.error)[0]
    assert not [each for each in app.button if each.label == "Reverse entry"]
    app.text_input(key="act_reversed-0").set_value("15").run()
    assert "<dt>Balance before</dt><dd>$40.00</dd>" in facts(app)
    assert "<dt>Balance after</dt><dd>$25.00</dd>" in facts(app)
    app.text_input(key="act_reason-0").set_value("Given twice")
    press(app, "Reverse entry")
    assert balance(session, account) == 25


def test_reversal_form_offers_nothing_for_an_entry_that_was_reversed(
    session: Session, page: Callable[..., AppTest], agent: Actor
) -> None:
    account = account_with(session)
    grant(session, account, 40, kind="adjustment")
    do(session, account, support.ReverseEntry(1), agent)
    session.commit()
    app = reversal_page(page, account, StaffRole.SUPPORT, 1)
    assert any(words.startswith("Nothing is left to reverse") for words in texts(app.info))
    assert "<dt>Reversed so far</dt><dd>$40.00</dd>" in facts(app)
    assert not [each for each in app.button if each.label == "Reverse entry"]


def test_reversal_form_lets_only_finance_reach_what_was_spent(
    session: Session, page: Callable[..., AppTest]
) -> None:
    account = account_with(session, 100)
    grant(session, account, 40, kind="voucher")
    charge(session, account, 30, occurred_at=datetime.now(UTC))
    session.commit()
    app = reversal_page(page, account, StaffRole.SUPPORT, 2)
    assert "Reversible amount: $10.00" in texts(app.markdown)
    assert not app.checkbox
    app = reversal_page(page, account, StaffRole.FINANCE, 2)
    assert "Reversible amount: $10.00" in texts(app.markdown)
    app.checkbox[0].check().run()
    assert "Reversible amount: $40.00" in texts(app.markdown)
    assert "<dt>Balance after</dt><dd>$70.00</dd>" in facts(app)


@pytest.mark.parametrize("role", [StaffRole.ADMIN])
def test_administrators_do_not_act(
    session: Session, page: Callable[..., AppTest], role: StaffRole
) -> None:
    app = page("account", role, account=str(account_with(session)), show="act")
    assert any("Your role does not allow actions on accounts" in words for words in texts(app.info))
    assert not [each for each in app.button if each.key is None]


def name_of(session: Session, account: int) -> str:
    """Return how an outcome names an account."""
    session.rollback()
    return f"{session.get_one(Account, account).name} ({account})"


def test_finance_approves_and_refuses(
    session: Session, page: Callable[..., AppTest], agent: Actor
) -> None:
    # Person 1, who looks, is the agent of the fixture: they have to be two.
    another = user_actor((agent.user_id or 0) + 500, staff_role=StaffRole.SUPPORT)
    session.execute(
        text(
            "INSERT INTO users (id, email, display_name, password_hash, staff_role)"
            " OVERRIDING SYSTEM VALUE VALUES (:id, 'a@example.com', 'Agent A', 'x', 'support')"
        ),
        {"id": another.user_id},
    )
    account = account_with(session)
    first = do(session, account, goodwill(500), another)
    second = do(session, account, goodwill(600), another)
    session.commit()
    app = page("approvals", StaffRole.FINANCE)
    assert texts(app.subheader) == [
        "Grant goodwill credit · $500.00",
        "Grant goodwill credit · $600.00",
    ]
    app.button(key=f"approve-{first.request_id}").click().run()
    what = "Grant goodwill credit of {}, " + name_of(session, account)
    assert texts(app.success) == [what.format("$500.00") + ". Request approved and carried out."]
    app.button(key=f"refuse-{second.request_id}").click().run()
    assert texts(app.error) == ["Enter a reason."]
    app.text_input(key=f"why-{second.request_id}").set_value("Too much")
    app.button(key=f"refuse-{second.request_id}").click().run()
    assert texts(app.success) == [
        what.format("$600.00") + ". Request rejected. Nothing was changed."
    ]
    table = app.dataframe[0].value
    assert table["Status"].tolist() == ["Rejected", "Approved"]
    assert table["Requested by"].tolist() == ["Agent A", "Agent A"]
    assert table["Decided by"].tolist() == ["You", "You"]
    assert balance(session, account) == 500


def test_a_wish_that_waited_too_long_is_told(
    session: Session, page: Callable[..., AppTest], agent: Actor, checker: Actor
) -> None:
    del agent  # who looks is person 1, and the maker is another
    account = account_with(session)
    session.info[CLOCK] = lambda: datetime.now(UTC) - support.REQUEST_LIFETIME
    waiting = do(session, account, goodwill(50_000), checker)
    session.commit()
    app = page("approvals", StaffRole.FINANCE)
    app.button(key=f"approve-{waiting.request_id}").click().run()
    (error,) = texts(app.error)
    what = f"Grant goodwill credit of $50,000.00, {name_of(session, account)}"
    assert error.startswith(f"{what}. Nothing was changed: the request expired ")
    assert error.endswith("without a decision. Request it again.")
    assert balance(session, account) == 0


@pytest.mark.parametrize("ending", ["approved", "rejected", "withdrawn"])
def test_late_decision_on_a_request_says_what_happened(
    session: Session,
    page: Callable[..., AppTest],
    agent: Actor,
    make_person: Callable[[StaffRole], Actor],
    ending: str,
) -> None:
    del agent  # who looks is person 1, and the maker is another
    maker, other = make_person(StaffRole.SUPPORT), make_person(StaffRole.FINANCE)
    account = account_with(session)
    waiting = do(session, account, goodwill(500), maker)
    session.commit()
    app = page("approvals", StaffRole.FINANCE)
    request = {"request_id": waiting.request_id}
    if ending == "approved":
        support.approve_request(session, **request, actor=other)
    elif ending == "rejected":
        support.reject_request(session, **request, reason="Too much", actor=other)
    else:
        support.withdraw_request(session, **request, actor=maker)
    session.commit()
    app.button(key=f"approve-{waiting.request_id}").click().run()
    (error,) = texts(app.error)
    name = "Support Person" if ending == "withdrawn" else "Finance Person"
    what = f"Grant goodwill credit of $500.00, {name_of(session, account)}"
    assert error.startswith(f"{what}. Nothing was changed: ")
    assert f"{ending} by {name}, " in error
    assert balance(session, account) == (500 if ending == "approved" else 0)


def test_the_maker_takes_it_back(
    session: Session, page: Callable[..., AppTest], agent: Actor
) -> None:
    assert agent.user_id == 1
    account = account_with(session)
    waiting = do(session, account, goodwill(500), agent)
    session.commit()
    app = page("approvals")
    assert "You requested this. Waiting for approval by a finance member." in texts(app.caption)
    assert not [each for each in app.button if each.key and each.key.startswith("approve")]
    app.button(key=f"withdraw-{waiting.request_id}").click().run()
    what = f"Grant goodwill credit of $500.00, {name_of(session, account)}"
    assert texts(app.success) == [f"{what}. Request withdrawn. Nothing was changed."]
    assert app.dataframe[0].value["Status"].tolist() == ["Withdrawn"]
    done = next(each.value for each in page("account", account=str(account)).dataframe)
    assert done["User"].tolist()[0] == "You"


def test_own_requests_are_counted_where_they_are_listed(
    session: Session, page: Callable[..., AppTest], agent: Actor, checker: Actor
) -> None:
    session.commit()
    app = page("approvals")
    (message,) = texts(app.info)
    assert message.startswith("No account requests are waiting for approval.")
    account = account_with(session)
    do(session, account, goodwill(50_000), checker)
    session.commit()
    assert not [each for each in texts(page("approvals").caption) if "of your requests" in each]
    for number, count in ((1, "1 of your requests is"), (2, "2 of your requests are")):
        do(session, account, goodwill(500 + number), agent)
        session.commit()
        message = f"{count} waiting for approval by another person."
        assert message in texts(page("approvals").caption)


def test_outcome_of_a_decision_stands_where_the_request_stood(
    session: Session, page: Callable[..., AppTest], agent: Actor, checker: Actor
) -> None:
    account = account_with(session)
    first, second, third = (do(session, account, goodwill(500 + n), agent) for n in range(3))
    do(session, account, goodwill(50_000), checker)
    session.commit()
    app = page("approvals")
    for gone, before, after in ((second, "$500.00", "$502.00"), (third, "$500.00", "$50,000.00")):
        app.button(key=f"withdraw-{gone.request_id}").click().run()
        (message,) = texts(app.success)
        order = shown(app)
        heads = [order.index(f"Grant goodwill credit · {each}") for each in (before, after)]
        assert heads[0] < order.index(message) < heads[1]
        assert "st-key-drawn-flash-approvals" in facts(app)
    assert f"withdraw-{first.request_id}" in [each.key for each in app.button]


def test_support_sees_requests_and_decides_none(
    session: Session, page: Callable[..., AppTest], agent: Actor, checker: Actor
) -> None:
    session.commit()
    assert texts(page("approvals").info) != []
    do(session, account_with(session), goodwill(50_000), checker)
    session.commit()
    app = page("approvals")
    assert texts(app.subheader) == ["Grant goodwill credit · $50,000.00"]
    assert not [each for each in app.button if each.key]
    del agent


def test_an_administrator_changes_a_limit(session: Session, page: Callable[..., AppTest]) -> None:
    app = page("approvals", StaffRole.ADMIN, show="limits")
    app.selectbox(key="limits_of").set_value("USD").run()
    app.selectbox(key="limit_action").set_value("give_goodwill").run()
    key = "limit-USD-give_goodwill-support-1-amount"
    app.text_input(key=key).set_value("-1")
    press(app, "Save")
    assert texts(app.error) == ["Enter 0 or more."]
    app.text_input(key=key).set_value("7")
    press(app, "Save")
    assert texts(app.success) == ["Limit saved. Grant goodwill credit, Support: up to $7.00."]
    order = shown(app)
    assert order.index("Save") < order.index(texts(app.success)[0]), "beside what was pressed"
    limits = support.list_action_limits(session, actor=user_actor(1, staff_role=StaffRole.ADMIN))
    (changed,) = [each for each in limits if each.version == 2]
    assert changed.daily.to_decimal() == 7
    assert not page("approvals", StaffRole.FINANCE, show="limits").text_input


def test_customers_have_no_such_pages(session: Session, show: Callable[..., AppTest]) -> None:
    for name in ("account", "approvals"):
        app = show(account_with(session))
        with pytest.raises(Exception, match=name):
            app.switch_page(f"pages/{name}.py").run()
