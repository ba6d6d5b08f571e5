"""Add Voucher and the Voucher list, as customers and staff see them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from domain.actors import MemberRole, StaffRole, user_actor
from domain.vouchers import issue_code, lock_campaign, revoke_codes
from portal.shell import page_context
from tests.factories import grant, make_account
from tests.support.campaigns import FINANCE, a_code, campaign, codes, redeem
from tests.support.profiles import account_with_profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

DONE = "Your voucher has been applied successfully."


def apply(app: AppTest, typed: str) -> AppTest:
    (field,) = [each for each in app.text_input if each.label == "Voucher code"]
    field.set_value(typed)
    (button,) = [each for each in app.button if each.label == "Apply Code"]
    return button.click().run()


def texts(elements: Any) -> list[str]:
    return [element.value.replace("\\", "") for element in elements]


@pytest.mark.parametrize("tab", ["overview", "vouchers"])
def test_a_code_is_applied_and_the_balance_is_higher_at_once(
    session: Session, show: Callable[..., AppTest], tab: str
) -> None:
    account, code = account_with_profile(session), a_code(session)
    session.commit()
    app = apply(show(account, tab=tab), f" {code.lower()[:5]}-{code[5:]} ")
    assert not app.error
    (message,) = texts(app.success)
    assert message.startswith(f"{DONE} $50.00 of voucher credit added, expires on ")
    app.query_params.pop("tab", None)
    assert {one.label: one.value.replace("\\", "") for one in app.run().metric}[
        "Total balance"
    ] == "$50.00"
    (field,) = [each for each in app.text_input if each.label == "Voucher code"]
    assert field.value == ""
    assert texts(app.run().success) == []


def test_the_list_shows_what_was_redeemed(session: Session, show: Callable[..., AppTest]) -> None:
    account = account_with_profile(session)
    owner = user_actor(1, memberships={account: MemberRole.OWNER})
    code = a_code(session)
    redeem(session, account, owner, code)
    session.commit()
    app = show(account, tab="vouchers")
    (row,) = app.dataframe[0].value.to_dict("records")
    assert list(row) == [
        "Code",
        "Description",
        "Added date",
        "Amount",
        "Remaining credit",
        "Validity period",
        "Applicable services",
        "Status",
    ]
    assert (row["Code"], row["Amount"], row["Remaining credit"]) == (code, "$50.00", "$50.00")
    assert (row["Applicable services"], row["Status"]) == ("All services", "Active")


def test_a_code_that_waits_is_redeemed_by_one_click(
    session: Session, show: Callable[..., AppTest]
) -> None:
    account = account_with_profile(session)
    named = lock_campaign(session, campaign(session, is_for_named_accounts=True))
    code = issue_code(session, campaign=named, account_id=account, actor=FINANCE)
    session.commit()
    app = show(account, tab="vouchers")
    app.button(key=f"redeem-{code}").click().run()
    assert texts(app.success)[0].startswith(DONE)
    assert app.dataframe[0].value["Code"].tolist() == [code]
    assert not [each for each in app.button if each.label.startswith("Redeem")]


def test_a_suspect_is_sent_to_support_and_not_told_why(
    session: Session, show: Callable[..., AppTest]
) -> None:
    first, second = account_with_profile(session), account_with_profile(session)
    for account in (first, second):
        session.execute(
            text(
                "INSERT INTO account_signals (kind, digest, account_id, shown, first_seen_at)"
                " VALUES ('email', 'same', :account, 'l…@example.com', now())"
            ),
            {"account": account},
        )
    code = a_code(session, blocks_suspects=True)
    session.commit()
    app = apply(show(second), code)
    assert texts(app.error) == [
        "This code cannot be used with this account. Please contact support."
    ]


def test_an_empty_list_says_what_to_do(session: Session, show: Callable[..., AppTest]) -> None:
    account = account_with_profile(session)
    session.commit()
    assert "No vouchers yet. Enter a voucher code above." in texts(
        show(account, tab="vouchers").info
    )


def refused(session: Session, show: Callable[..., AppTest], account: int, code: str) -> str:
    session.commit()
    app = apply(show(account), code)
    assert not app.success
    (error,) = texts(app.error)
    return str(error)


@pytest.mark.parametrize("typed", ["", "nothing like a code", "ZZZZZZZZZ9", "\u202e", "x" * 40])
def test_what_is_no_code_is_said_to_be_none(
    session: Session, show: Callable[..., AppTest], typed: str
) -> None:
    account = account_with_profile(session)
    assert refused(session, show, account, typed).startswith("Code not found.")


def test_each_refusal_has_words_of_its_own(session: Session, show: Callable[..., AppTest]) -> None:
    account = account_with_profile(session)
    other = account_with_profile(session)
    owner = user_actor(1, memberships={other: MemberRole.OWNER})
    now = datetime.now(UTC)
    used = a_code(session)
    redeem(session, other, owner, used)
    taken_back = campaign(session)
    (revoked,) = codes(session, taken_back)
    revoke_codes(session, campaign_id=taken_back, reason="leaked", actor=FINANCE)
    grant(session, account, 1)
    expected = {
        used: "This code has already been used.",
        revoked: "This code has been revoked.",
        a_code(session, redeem_from=now + timedelta(days=2)): "This code can be used from ",
        a_code(session, countries=("US",)): "not for the country of your billing information",
        a_code(session, is_for_new_accounts=True): "for new accounts only",
    }
    for code, words in expected.items():
        assert words in refused(session, show, account, code)


def test_without_billing_information_the_way_to_it_is_said(
    session: Session, show: Callable[..., AppTest]
) -> None:
    account, code = make_account(session), a_code(session)
    assert refused(session, show, account, code) == (
        "Fill in your billing information first, under Settings."
    )


def test_many_guesses_have_to_wait(session: Session, show: Callable[..., AppTest]) -> None:
    account = account_with_profile(session)
    session.commit()
    app = show(account)
    for number in range(10):
        apply(app, f"AAAAAAAA{number}2")
    apply(app, "AAAAAAAA22")
    assert texts(app.error)[0].startswith("Too many attempts. Wait ")


def test_readers_and_staff_see_the_list_and_no_form(
    session: Session, show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = account_with_profile(session)
    session.commit()
    app = show(None, staff_role=StaffRole.SUPPORT, account=str(account))
    app.switch_page("pages/billing.py")
    app.query_params["account"] = str(account)
    app.query_params["tab"] = "vouchers"
    app.run()
    assert "No vouchers redeemed for this account yet." in texts(app.info)
    assert not [each for each in app.button if each.label == "Apply Code"]
    visitor = vars(page_context)["require_visitor"]()
    reader = user_actor(1, memberships={account: MemberRole.READER})
    as_reader = replace(visitor, actor=reader, account_id=account)
    monkeypatch.setattr(page_context, "require_visitor", lambda: as_reader)
    app.run()
    assert not [each for each in app.button if each.label == "Apply Code"]
