"""The page of campaigns, for each who may and may not use it."""

from __future__ import annotations

import csv
import io
import zipfile
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from sqlalchemy import text

from domain.actors import StaffRole, user_actor
from domain.uploads import CODES
from domain.vouchers import (
    MAX_CODES_PER_BATCH,
    codes_of_batch,
    count_revocable,
    decide_campaign,
    find_campaign,
    list_batches,
    list_campaigns,
    request_campaign,
    revoke_codes,
)
from portal.runtime import database
from portal.views.campaigns import codes as files
from tests.support.campaigns import ANOTHER, FINANCE, campaign, codes, customer, terms
from tests.support.owner import as_owner
from tests.support.people import register
from tests.support.uploads import hand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

ME = user_actor(1, staff_role=StaffRole.FINANCE)


@pytest.fixture
def page(staff_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def shown(role: StaffRole = StaffRole.FINANCE, **query: str) -> AppTest:
        return staff_page("campaigns", role, **query)

    return shown


def texts(elements: Any) -> list[str]:
    return [element.value.replace("\\", "") for element in elements]


def press(app: AppTest, label: str) -> AppTest:
    (button,) = [each for each in app.button if each.label == label]
    button.click().run()
    assert not app.exception
    return app


def filled(app: AppTest) -> AppTest:
    """Fill in a starter pack of two parts, for dollars."""
    app.text_input(key="c_name").set_value("Starter")
    app.text_input(key="c_description").set_value("Starter credit")
    app.multiselect(key="c_currencies").set_value(["USD"])
    app.number_input(key="c_parts").set_value(2).run()
    app.multiselect(key="c_services_1").set_value(["ai-inference"])
    app.text_input(key="c_part_1_USD").set_value("60")
    app.text_input(key="c_part_2_USD").set_value("40")
    app.text_input(key="c_budget_USD").set_value("10,000")
    return app


def test_an_empty_page_says_what_to_do(page: Callable[..., AppTest]) -> None:
    app = page()
    assert texts(app.info) == ["No campaigns yet. Request one below."]
    assert "Request a campaign" in texts(app.header)


def test_a_campaign_is_proposed_and_somebody_else_decides(
    session: Session, page: Callable[..., AppTest]
) -> None:
    app = press(filled(page()), "Request campaign")
    assert texts(app.success) == ["Requested. Waiting for approval by another finance member."]
    assert app.text_input(key="c_name").value == ""
    (found,) = list_campaigns(session, actor=ME)
    (offer,) = found.terms.offers
    assert [(int(part.amount.to_decimal()), part.services) for part in offer.parts] == [
        (60, ("ai-inference",)),
        (40, None),
    ]
    app = page(id=str(found.campaign_id))
    assert "You requested this. Waiting for approval by another finance member." in texts(
        app.caption
    )
    assert not [each for each in app.button if each.label == "Approve campaign"]
    with as_owner(session):
        session.execute(text("UPDATE campaigns SET requested_by = 'user:901'"))
    session.commit()
    app = press(page(id=str(found.campaign_id)), "Approve campaign")
    assert texts(app.success) == ["Campaign approved. Codes can now be generated."]
    assert find_campaign(session, campaign_id=found.campaign_id, actor=ME).state == "approved"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("c_name", " ", "Enter a campaign name."),
        ("c_description", "", "Enter a description for customers, such as Spring credit."),
        ("c_part_1_USD", "", "Enter an amount."),
        ("c_part_1_USD", "0", "Enter amounts above 0."),
        ("c_budget_USD", "99", "The budget must cover at least one redemption."),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_lost(
    page: Callable[..., AppTest], key: str, value: str, message: str
) -> None:
    app = filled(page())
    app.text_input(key=key).set_value(value)
    press(app, "Request campaign")
    assert texts(app.error) == [message]
    assert app.text_input(key="c_part_2_USD").value == "40"


def test_without_a_currency_nothing_is_proposed(page: Callable[..., AppTest]) -> None:
    app = page()
    app.text_input(key="c_name").set_value("Nothing")
    app.text_input(key="c_description").set_value("Nothing")
    press(app, "Request campaign")
    assert texts(app.error) == ["Choose at least one currency."]


def test_codes_are_made_and_taken_away(session: Session, page: Callable[..., AppTest]) -> None:
    number = campaign(session)
    session.commit()
    app = page(id=str(number))
    app.number_input(key="generate_count-0").set_value(250)
    press(app, "Generate codes")
    assert texts(app.success) == ["250 codes generated."]
    assert app.dataframe[0].value["Codes"].tolist() == ["250"]
    app.number_input(key="generate_count-1").set_value(2_000)
    press(app, "Generate codes")
    assert texts(app.error) == [
        "The campaign has fewer codes left than requested. Enter a smaller number."
    ]

    (batch,) = list_batches(session, campaign_id=number, actor=FINANCE)
    made = set(codes_of_batch(session, batch_id=batch.batch_id, actor=FINANCE))
    session.commit()
    database.transaction(register, FINANCE)
    arguments = (FINANCE, batch.batch_id)
    listed = files.make(*arguments, files.csv_file).decode("utf-8-sig")
    book = files.make(*arguments, files.workbook)
    (sheet,) = openpyxl.load_workbook(io.BytesIO(book)).worksheets
    assert {row[0] for row in csv.reader(io.StringIO(listed))} == made | {"Code"}
    assert {row[0] for row in sheet.values if row[0]} == made | {"Code"}
    taken = text("SELECT count(*) FROM audit_log WHERE action = 'download_codes'")
    assert session.scalars(taken).one() == 3


def test_a_hundred_thousand_codes_are_made_taken_away_and_read_again(
    session: Session, page: Callable[..., AppTest]
) -> None:
    number = campaign(session, code_budget=MAX_CODES_PER_BATCH)
    session.commit()
    app = page(id=str(number))
    app.number_input(key="generate_count-0").set_value(MAX_CODES_PER_BATCH)
    press(app, "Generate codes")
    assert texts(app.success) == ["100,000 codes generated."]
    (batch,) = list_batches(session, campaign_id=number, actor=FINANCE)
    database.transaction(register, FINANCE)
    book = files.make(FINANCE, batch.batch_id, files.workbook)
    (sheet,) = openpyxl.load_workbook(io.BytesIO(book), read_only=True).worksheets
    taken = {row[0] for row in sheet.iter_rows(values_only=True) if row[0]} - {"Code"}
    kept = set(session.scalars(text("SELECT code FROM voucher_codes")))
    assert len(kept) == MAX_CODES_PER_BATCH
    assert taken == kept


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("codes.txt", b"ABCD234567\nEFGH234567\n", None),
        ("codes.csv", b"Code,Note\r\nABCD234567,x\r\n\r\nefgh-234-567,y\r\n", None),
        ("codes.txt", b"ABCD234567\nEFGH23456\n", "Line 2 is not a voucher code"),
        ("codes.txt", b"ABCD234567\nabcd234567\n", "Line 2 repeats a code."),
        ("codes.txt", b"\n \n", "The file has no codes"),
        ("codes.txt", b"\xff\xfe\x00\x81", "The file cannot be read."),
        ("codes.xlsx", b"PK no book", "The file cannot be read."),
    ],
)
def test_codes_are_brought_in_all_or_none(
    session: Session, page: Callable[..., AppTest], name: str, content: bytes, message: str | None
) -> None:
    number = campaign(session)
    session.commit()
    app = page(id=str(number))
    press(app, "Import codes")
    assert texts(app.error) == ["Choose the file first."]
    hand_in(app, "codes_file-0", CODES, name, content)
    press(app, "Import codes")
    kept = session.scalars(text("SELECT code FROM voucher_codes ORDER BY code")).all()
    if message is None:
        assert texts(app.success) == ["Codes imported."]
        assert kept == ["ABCD234567", "EFGH234567"]
    else:
        assert texts(app.error)[0].startswith(message)
        assert not kept


def test_codes_for_named_accounts(session: Session, page: Callable[..., AppTest]) -> None:
    number = campaign(session, is_for_named_accounts=True)
    account, _ = customer(session)
    session.commit()
    app = page(id=str(number))
    for typed, message in (
        ("", "Enter account numbers, one per line."),
        (f"{account}\nx", "Line 2 is not an account number. No codes were generated."),
        (f"{account}\n99", "Account 99 was not found. No codes were generated."),
        (f"{account}, {account}", f"Account {account} is listed twice. No codes were generated."),
    ):
        app.text_area(key="named_accounts-0").set_value(typed)
        press(app, "Generate codes for accounts")
        assert texts(app.error) == [message]
    app.text_area(key="named_accounts-0").set_value(str(account))
    press(app, "Generate codes for accounts")
    assert texts(app.success) == ["Codes generated. Each is shown in the account's Voucher list."]
    kept = session.scalars(text("SELECT account_id FROM voucher_codes")).all()
    assert kept == [account]


def test_codes_of_a_workbook_are_brought_in(session: Session, page: Callable[..., AppTest]) -> None:
    number = campaign(session)
    session.commit()
    book = openpyxl.Workbook()
    for value in ("Code", "ABCD234567", None, "EFGH234567"):
        book.worksheets[0].append([value])
    content = io.BytesIO()
    book.save(content)
    app = page(id=str(number))
    hand_in(app, "codes_file-0", CODES, "codes.xlsx", content.getvalue())
    press(app, "Import codes")
    assert texts(app.success) == ["Codes imported."]


def test_a_workbook_that_unpacks_to_much_more_is_refused(
    session: Session, page: Callable[..., AppTest]
) -> None:
    number = campaign(session)
    session.commit()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in range(3):
            packed.writestr(f"xl/worksheets/sheet{part}.xml", b" " * (24 * 1024 * 1024))
    assert len(content.getvalue()) < 100_000
    app = page(id=str(number))
    hand_in(app, "codes_file-0", CODES, "codes.xlsx", content.getvalue())
    press(app, "Import codes")
    assert texts(app.error) == ["The file is too large. Import at most 100,000 codes at a time."]


def test_single_code_is_revoked_and_the_campaign_ends(
    session: Session, page: Callable[..., AppTest]
) -> None:
    number = campaign(session)
    made = codes(session, number, 3)
    session.commit()
    app = page(id=str(number))
    app.selectbox(key="revoke_scope").set_value("single").run()
    for typed, message in (
        ("short", "The code is not valid. Enter its 10 letters and digits."),
        ("ABCDE22222", "Code not found in this campaign."),
        (made[0].lower(), "Enter a reason."),
    ):
        app.text_input(key="revoke_code").set_value(typed)
        press(app, "Revoke code")
        assert texts(app.error) == [message]
    app.text_input(key="revoke_reason_single").set_value("Leaked")
    press(app, "Revoke code")
    message = f"Code ending in {made[0][-4:]} revoked. Credit already redeemed stays."
    assert texts(app.success) == [message]
    press(app, "Revoke code")
    (error,) = texts(app.error)
    assert error.startswith("Nothing was changed: already revoked by you, ")
    press(app, "End campaign")
    assert texts(app.success) == ["Campaign ended. Its codes can no longer be redeemed."]


@pytest.mark.parametrize("confirmed", ["2", " spring  CREDIT "])
def test_batch_is_revoked_once_its_number_is_typed(
    session: Session, page: Callable[..., AppTest], confirmed: str
) -> None:
    number = campaign(session, name="Spring credit")
    made = codes(session, number, 3)
    codes(session, number, 4)
    batch = min(each.batch_id for each in list_batches(session, campaign_id=number, actor=FINANCE))
    revoke_codes(session, campaign_id=number, code=made[0], reason="Leaked", actor=FINANCE)
    session.commit()
    app = page(id=str(number))
    choice = f"batch-{batch}"
    assert "All codes of Spring credit" in app.selectbox(key="revoke_scope").options
    app.selectbox(key="revoke_scope").set_value(choice).run()
    shown = "2 of 3 codes can be revoked: 0 are used up, 1 revoked."
    assert shown in texts(app.markdown)
    app.text_input(key=f"revoke_reason-{batch}").set_value("Leaked")
    for typed in ("", "3", "yes"):
        app.text_input(key=f"revoke_confirmed-{batch}").set_value(typed)
        press(app, "Revoke codes")
        message = "Nothing was revoked. To confirm, enter 2 or Spring credit."
        assert texts(app.error) == [message]
    app.text_input(key=f"revoke_confirmed-{batch}").set_value(confirmed)
    press(app, "Revoke codes")
    scope = f"Batch {batch} (3 codes, Generated)"
    assert texts(app.success) == [f"Revoked: 2 ({scope}). Credit already redeemed stays."]
    press(app, "Revoke codes")
    (error,) = texts(app.error)
    assert error.startswith("Nothing was changed: already revoked by you, ")
    left = count_revocable(session, campaign_id=number, actor=FINANCE)
    assert (left.count, left.revoked) == (4, 3)


def test_late_decision_on_a_campaign_says_what_happened(
    session: Session, page: Callable[..., AppTest]
) -> None:
    number = request_campaign(session, terms=terms(), actor=FINANCE, idempotency_key="one")
    session.commit()
    app = page(id=str(number))
    decide_campaign(session, campaign_id=number, is_approved=False, actor=ANOTHER)
    session.commit()
    app.button(key=f"approve-{number}").click().run()
    (error,) = texts(app.error)
    assert error.startswith(f"Nothing was changed: already rejected by user:{ANOTHER.user_id}, ")


@pytest.mark.parametrize("role", [StaffRole.SUPPORT, StaffRole.ADMIN])
def test_others_look_and_change_nothing(
    session: Session, page: Callable[..., AppTest], role: StaffRole
) -> None:
    number = request_campaign(
        session, terms=terms(name="Spring"), actor=FINANCE, idempotency_key="one"
    )
    session.commit()
    assert page(role).dataframe[0].value["Campaign"].tolist() == ["Spring"]
    assert not page(role).header
    app = page(role, id=str(number))
    assert [each.label for each in app.button if each.key is None] == ["Back to campaigns"]
    assert texts(page(role, id="99").warning) == ["Campaign not found."]
