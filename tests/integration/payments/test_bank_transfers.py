"""Money on the bank account: two people, one line one credit, and evidence that is bounded."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from domain import ledger
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import AlreadyDecided, Conflict, InvalidInput, NotAuthorised, NotFound
from domain.money import MAX_MICROS, Money
from domain.payments import bank_transfers
from domain.payments.bank_transfers import (
    MAX_EVIDENCE_BYTES,
    Evidence,
    TransferLooksRepeated,
    decide_transfer,
    evidence_of,
    list_transfers,
)
from portal.runtime import database
from tests.factories import SYSTEM, make_account
from tests.gateways import dong, payer
from tests.support.at_once import AtOnce
from tests.support.owner import as_owner
from tests.support.people import register
from tests.support.transfers import AMOUNT, CHECKER, MAKER, SLIP, record

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from tests.conftest import TestClock

ADMIN = user_actor(902, staff_role=StaffRole.ADMIN)
ANOTHER = user_actor(905, staff_role=StaffRole.FINANCE)


def fault(session: Session, account: int, **changes: Any) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as caught:
        record(session, account, **changes)
    return caught.value.field, caught.value.reason


def test_the_day_that_it_came_is_one_of_the_site(session: Session, clock: TestClock) -> None:
    account, _owner = payer(session)
    clock.instant = datetime(2026, 3, 10, 20, tzinfo=UTC)  # in Vietnam it is the 11th
    assert fault(session, account, received_on=date(2026, 3, 12)) == ("received_on", "in_future")
    record(session, account, received_on=date(2026, 3, 11))


@pytest.mark.parametrize("day", [date(2025, 3, 8), date(1900, 1, 1), date.min])
def test_a_day_that_is_long_ago_is_a_slip(session: Session, clock: TestClock, day: date) -> None:
    account, _owner = payer(session)
    assert clock.instant.date() == date(2026, 3, 10)
    assert fault(session, account, received_on=day) == ("received_on", "too_long_ago")
    record(session, account, received_on=date(2025, 3, 9))


def test_an_amount_that_no_transfer_has_is_a_slip(session: Session) -> None:
    account, _owner = payer(session)
    amount = Money(MAX_MICROS // 10**6 * 10**6, "VND")
    assert fault(session, account, amount=amount) == ("amount", "too_large")


def test_a_second_person_s_approval_credits_through_the_bank(session: Session) -> None:
    account, owner = payer(session)
    transfer = record(session, account)
    payment = decide_transfer(session, transfer_id=transfer, is_approved=True, actor=CHECKER)
    assert payment is not None
    again = decide_transfer(session, transfer_id=transfer, is_approved=True, actor=CHECKER)
    assert again == payment
    legs = session.execute(
        text("SELECT ledger_code, sum(amount_micros)::bigint FROM journal GROUP BY 1")
    )
    assert {row[0]: row[1] for row in legs}["1010"] == AMOUNT.micros
    assert ledger.verify_ledger(session, actor=SYSTEM) == []
    assert owner.memberships
    (listed,) = list_transfers(session, actor=CHECKER)
    assert (listed.state, listed.requested_by, listed.decided_by) == (
        "approved",
        "user:900",
        "user:901",
    )


def test_nobody_approves_what_they_recorded(session: Session) -> None:
    account, _ = payer(session)
    transfer = record(session, account)
    with pytest.raises(NotAuthorised):
        decide_transfer(session, transfer_id=transfer, is_approved=True, actor=MAKER)
    assert decide_transfer(session, transfer_id=transfer, is_approved=True, actor=CHECKER)


def test_who_may_not(session: Session) -> None:
    account, owner = payer(session)
    support = user_actor(903, staff_role=StaffRole.SUPPORT)
    insider = user_actor(
        904, staff_role=StaffRole.FINANCE, memberships={account: MemberRole.READER}
    )
    for actor in (owner, support, SYSTEM, insider, ADMIN):
        with pytest.raises(NotAuthorised):
            record(session, account, actor=actor)
    transfer = record(session, account)
    for actor in (owner, support, SYSTEM, insider, ADMIN):
        with pytest.raises(NotAuthorised):
            decide_transfer(session, transfer_id=transfer, is_approved=True, actor=actor)
    with pytest.raises(NotAuthorised):
        evidence_of(session, transfer_id=transfer, actor=support)
    assert evidence_of(session, transfer_id=transfer, actor=CHECKER)[1] == SLIP.content


def test_one_line_of_the_bank_is_one_transfer(session: Session) -> None:
    account, _ = payer(session)
    other, _ = payer(session)
    first = record(session, account)
    assert record(session, account, bank_reference=" FT26329  0001 ") == first
    with pytest.raises(Conflict):
        record(session, other)
    with pytest.raises(Conflict):
        record(session, account, amount=dong(1))


@pytest.mark.parametrize(
    "written",
    [
        "ft263290001",
        "FT-26329-0001",
        "FT\u201326329\u20140001",
        "FT\u221226329\u00ad0001",
        "\uff26\uff3426329\u30000001",
        "F T 2 6 3 2 9\u00a00001",
        "FT26329\u200b0001",
        "F\u2060T26329\ufeff0001\u200f",
        "FT 26329.0001/",
        "\uff46\uff54\uff12\uff16\uff13\uff12\uff19\uff0d\uff10\uff10\uff10\uff11",
        "(FT)26329+0001?",
        "FT26329\u30fc0001",
        "FT26329\uff700001",
    ],
)
def test_reference_counts_once_however_it_is_written(session: Session, written: str) -> None:
    account, _ = payer(session)
    first = record(session, account)
    assert record(session, account, bank_reference=written) == first
    with pytest.raises(Conflict, match="line_is_taken"):
        record(session, account, bank_reference=written, amount=dong(1))
    assert record(session, account, bank_reference="FT26329 0002", is_confirmed=True) != first


@pytest.mark.parametrize(
    "written",
    [
        "\u0410T26329",  # Cyrillic A
        "FT26329\u043e",  # Cyrillic o
        "\u03a4F26329",  # Greek Tau
        "FT_26329",
        "FT26329\u0660\u0661",  # Arabic digits
        "F\u0301T26329",  # an accent
        "FT26329\u034f",  # a joiner that nobody sees
        "\u3164FT26329",  # a letter that looks like nothing
        "\u632f\u8fbc26329",
        "FT<26329>",
        "FT#26329",
        "FT\U0001f4b026329",
    ],
)
def test_reference_with_a_character_that_no_bank_sends_is_refused(
    session: Session, written: str
) -> None:
    account, _ = payer(session)
    assert fault(session, account, bank_reference=written) == ("bank_reference", "not_from_a_bank")


@pytest.mark.parametrize("written", ["FT\x0026329", "FT\u202e26329", "FT\ud80026329"])
def test_reference_with_a_control_character_is_refused(session: Session, written: str) -> None:
    account, _ = payer(session)
    assert fault(session, account, bank_reference=written)[1] == "control_characters"


def test_reference_is_kept_as_a_bank_sends_it(session: Session) -> None:
    account, _ = payer(session)
    record(session, account, bank_reference=" \uff26T\u201426329\u200b  0001/A ")
    (kept,) = list_transfers(session, actor=CHECKER)
    assert kept.bank_reference == "FT-26329 0001/A"


def test_letter_o_and_digit_zero_are_two_references(session: Session) -> None:
    account, _ = payer(session)
    first = record(session, account, bank_reference="FT10O")
    assert record(session, account, bank_reference="FT100", is_confirmed=True) != first


@given(st.text(max_size=12))
def test_reference_that_is_taken_has_letters_and_digits_of_ascii_to_compare(written: str) -> None:
    try:
        reference = bank_transfers.checked_reference(written)
    except InvalidInput:
        return
    assert re.fullmatch(r"[A-Za-z0-9/?:().,'+ -]+", reference)
    assert re.fullmatch("[a-z0-9]+", bank_transfers.normalise_reference(reference))
    assert bank_transfers.checked_reference(reference) == reference


def test_same_reference_on_another_day_is_another_request_and_the_same_request_is_none(
    session: Session, clock: TestClock
) -> None:
    account, _ = payer(session)
    first = record(session, account)
    decide_transfer(session, transfer_id=first, is_approved=True, actor=CHECKER)
    clock.advance(days=1)
    assert record(session, account) == first
    for changes in (
        {"received_on": date(2026, 1, 16)},
        {"actor": ANOTHER},
        {"amount": dong(7)},
        {"bank_reference": "ft-26329-0001", "received_on": date(2026, 1, 16)},
    ):
        with pytest.raises(Conflict, match="line_is_taken"):
            record(session, account, is_confirmed=True, **changes)
    assert len(list_transfers(session, actor=CHECKER)) == 1


def test_database_keeps_a_reference_once(session: Session) -> None:
    account, _ = payer(session)
    record(session, account)
    second = record(session, account, bank_reference="FT2", is_confirmed=True)
    same = text(
        "UPDATE bank_transfers SET bank_reference = :written, normalised_reference = :compared"
        " WHERE id = :id"
    )
    values = {"id": second, "written": "ft(26329)0001", "compared": "ft263290001"}
    is_taken = pytest.raises(IntegrityError, match="uq_bank_transfers_normalised_reference")
    with is_taken, as_owner(session):
        session.execute(same, values)


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("FT26329 0002", "ft263290003"),
        ("FT26329 0002", "FT263290002"),
        ("FT26329 0002", ""),
        ("--", ""),
        ("\u0410T2", "at2"),
        ("\u0410T2", "t2"),
        ("FT_2", "ft2"),
        ("FT2\n", "ft2"),
    ],
)
def test_database_computes_what_is_compared(session: Session, written: str, compared: str) -> None:
    account, _ = payer(session)
    transfer = record(session, account)
    other = text(
        "UPDATE bank_transfers SET bank_reference = :written, normalised_reference = :compared"
        " WHERE id = :id"
    )
    is_refused = pytest.raises(IntegrityError, match="ck_bank_transfers_normalised_reference")
    with is_refused, as_owner(session):
        session.execute(other, {"id": transfer, "written": written, "compared": compared})


def test_reference_of_the_older_rule_is_compared_with_new_ones(session: Session) -> None:
    account, _ = payer(session)
    first = record(session, account, bank_reference="FT1")
    older = text("UPDATE bank_transfers SET normalised_reference = 'ft1#' || id WHERE id = :id")
    with as_owner(session):
        session.execute(older, {"id": first})
    assert record(session, account, bank_reference="FT-1") == first
    with pytest.raises(Conflict, match="line_is_taken"):
        record(session, account, bank_reference="FT1", amount=dong(1))
    assert record(session, account, bank_reference="FT", is_confirmed=True) != first


def test_same_amount_on_the_same_day_wants_a_confirmation(session: Session) -> None:
    account, _ = payer(session)
    other, _ = payer(session)
    first = record(session, account)
    with pytest.raises(TransferLooksRepeated) as caught:
        record(session, account, bank_reference="FT2")
    assert (caught.value.transfer_id, caught.value.bank_reference) == (first, "FT26329 0001")
    record(session, account, bank_reference="FT3", received_on=date(2026, 1, 16))
    record(session, account, bank_reference="FT4", amount=dong(19_999_999))
    record(session, other, bank_reference="FT5")
    confirmed = record(session, account, bank_reference="FT2", is_confirmed=True)
    message = session.scalars(
        text("SELECT details FROM audit_log WHERE details ->> 'confirmed_beside' IS NOT NULL")
    ).one()
    assert (message["transfer"], message["confirmed_beside"]) == (confirmed, first)


def test_refused_transfer_is_no_reason_to_confirm(session: Session) -> None:
    account, _ = payer(session)
    decide_transfer(session, transfer_id=record(session, account), is_approved=False, actor=CHECKER)
    assert record(session, account, bank_reference="FT2")


def test_a_refused_line_may_be_recorded_again(session: Session) -> None:
    account, _ = payer(session)
    transfer = record(session, account)
    assert decide_transfer(session, transfer_id=transfer, is_approved=False, actor=CHECKER) is None
    with pytest.raises(Conflict):
        decide_transfer(session, transfer_id=transfer, is_approved=True, actor=CHECKER)
    assert record(session, account) != transfer


def test_two_approvals_at_once_credit_once(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        account, _ = payer(session)
        transfer = record(session, account)
    barrier = Barrier(2)

    def approve(actor: Any) -> str:
        barrier.wait()
        try:
            with sessions.begin() as session:
                decide_transfer(session, transfer_id=transfer, is_approved=True, actor=actor)
        except AlreadyDecided as late:
            winner = {"user:901": "user:905", "user:905": "user:901"}[f"user:{actor.user_id}"]
            return (
                f"late: {late.state}, {late.decided_by == winner and late.decided_at is not None}"
            )
        return "credited"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(approve, (CHECKER, ANOTHER))) == ["credited", "late: approved, True"]
    with sessions() as session:
        count = session.execute(text("SELECT count(*) FROM entries")).scalar_one()
    assert count == 1


@pytest.mark.parametrize("second", [MAKER, ANOTHER], ids=["one person", "two people"])
def test_one_reference_that_is_recorded_twice_at_once_is_one_transfer(
    database_url: str, monkeypatch: pytest.MonkeyPatch, second: Actor
) -> None:
    # Both have looked for the reference and found none when either writes it down.
    monkeypatch.setattr(bank_transfers, "_similar", AtOnce(bank_transfers._similar))
    database.connect(database_url)
    for actor in (MAKER, ANOTHER):
        database.transaction(register, actor)
    account, _ = database.transaction(payer)

    def record_it(actor: Actor) -> int | str:
        try:
            return database.transaction(
                lambda session: record(session, account, actor=actor, is_confirmed=True)
            )
        except Conflict as refusal:
            return refusal.reason

    with ThreadPoolExecutor(2) as pool:
        first, other = pool.map(record_it, (MAKER, second))
    database.disconnect()
    if second is MAKER:
        assert first == other
    else:
        assert sorted(map(str, (first, other))) == ["1", "line_is_taken"]


def test_what_is_wrong_is_named(session: Session) -> None:
    account, _ = payer(session)
    tomorrow = datetime.now(UTC).date() + timedelta(days=2)
    assert fault(session, account, amount=dong(0)) == ("amount", "not_positive")
    assert fault(session, account, bank_reference=" ") == ("bank_reference", "empty")
    assert fault(session, account, received_on=tomorrow) == ("received_on", "in_future")
    assert fault(session, account, remark="x" * 300) == ("remark", "too_long")
    with pytest.raises(NotFound):
        record(session, 999_999)
    with pytest.raises(Conflict):
        record(session, make_account(session, site="vn", currency="VND"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%PDF-" + b"x" * MAX_EVIDENCE_BYTES, "too_large"),
        (b"MZ a program", "not_a_document"),
        (b"", "not_a_document"),
        (b"<html>", "not_a_document"),
        (b"%PDF-1.7 card 4111 1111 1111 1111 paid", "card_number"),
        (b"%PDF-1.7 card 5500-0000-0000-0004 paid", "card_number"),
    ],
)
def test_evidence_is_a_bounded_document_without_a_card_number(
    session: Session, content: bytes, reason: str
) -> None:
    account, _ = payer(session)
    assert fault(session, account, evidence=Evidence("x", content)) == ("evidence", reason)


def test_evidence_with_numbers_that_are_no_card_s_is_kept(session: Session) -> None:
    account, _ = payer(session)
    content = b"%PDF-1.7 /CreationDate (D:20261129175521Z00'00') 00000000000000 1234567890123452"
    assert record(session, account, evidence=Evidence("advice.pdf", content))
