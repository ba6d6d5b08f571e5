"""Receipts and credit notes: one each, numbers without a gap, and for nobody else's eyes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from db.models import Dispute, Document, OutboxMessage, Payment, Refund
from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.errors import NotAuthorised, NotFound
from domain.gateways.interface import RefundState, RefundUpdate
from domain.payments import documents_of, issue_documents, list_document_names, resend_receipt
from domain.payments.gateway_updates import apply_updates
from domain.security.payload_encryption import Vault, destroy_keys, destroy_keys_before
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.support.keys import parameters_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.payments import DocumentContent

VAULT = Vault(b"the-secret-key-of-these-tests-0123456789")
JOBS = system_actor("jobs")
CREDIT = dong(550_000)


def pay(sessions: sessionmaker[Session], account: int, owner: Actor) -> str:
    gateway = ScriptedGateway()
    with sessions.begin() as session:
        reference = begin(session, gateway, account, owner, CREDIT).reference
    with sessions.begin() as session:
        update = paid(reference, CREDIT, number=f"money-{reference}")
        apply_updates(session, gateway=gateway, updates=(update,), actor=GATEWAYS)
    return reference


def issue(sessions: sessionmaker[Session]) -> int:
    with sessions.begin() as session:
        return issue_documents(session, vault=VAULT, actor=JOBS)


@pytest.fixture
def owned(sessions: sessionmaker[Session]) -> tuple[int, Actor]:
    with sessions.begin() as session:
        return payer(session)


def test_a_credited_payment_gets_one_receipt_with_the_tax_inside(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    assert (issue(sessions), issue(sessions)) == (1, 0)
    with sessions() as session:
        (receipt,) = documents_of(session, vault=VAULT, actor=owner, reference=reference)
        year = session.scalars(select(Document.year)).one()
        letters = session.scalars(select(OutboxMessage.template)).all()
    assert receipt.number == f"VN-R-{year}-000001"
    assert (receipt.customer, receipt.email) == ("Lan Tran", "lan@example.com")
    assert (receipt.pay, receipt.credit, receipt.tax) == (CREDIT, CREDIT, dong(50_000))
    assert letters == ["receipt"]


def test_what_was_not_paid_gets_none(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    with sessions.begin() as session:
        begin(session, ScriptedGateway(), *owned, CREDIT)
    assert issue(sessions) == 0


def test_in_japan_no_tax_is_shown(sessions: sessionmaker[Session]) -> None:
    gateway = ScriptedGateway("stripe")
    with sessions.begin() as session:
        account, owner = payer(session, site="jp")
        yen = CREDIT.from_minor_units(10_000, "JPY")
        reference = begin(session, gateway, account, owner, yen).reference
        apply_updates(session, gateway=gateway, updates=(paid(reference, yen),), actor=GATEWAYS)
    issue(sessions)
    with sessions() as session:
        (receipt,) = documents_of(session, vault=VAULT, actor=owner, reference=reference)
    assert (receipt.tax_point, receipt.tax) == ("USAGE", None)


def test_a_paid_refund_gets_a_credit_note_that_names_the_receipt(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    issue(sessions)
    update = RefundUpdate(
        "r1", RefundState.SUCCEEDED, dong(110_000), gateway_payment_id=f"money-{reference}"
    )
    with sessions.begin() as session:
        apply_updates(session, gateway=ScriptedGateway(), updates=(update,), actor=GATEWAYS)
    assert (issue(sessions), issue(sessions)) == (1, 0)
    with sessions() as session:
        receipt, note = documents_of(session, vault=VAULT, actor=owner, reference=reference)
    assert (note.kind, note.refers_to) == ("credit_note", receipt.number)
    assert (note.pay, note.tax) == (dong(110_000), dong(10_000))


def refunded(sessions: sessionmaker[Session], reference: str) -> int:
    """Return a refund of a part of the payment that was paid."""
    with sessions.begin() as session:
        payment = session.scalars(select(Payment).where(Payment.reference == reference)).one()
        refund = Refund(
            account_id=payment.account_id,
            payment_id=payment.id,
            gateway=payment.gateway,
            gateway_refund_id="r1",
            state="succeeded",
            pay_micros=dong(110_000).micros,
            outflow_micros=dong(110_000).micros,
            clawed_back_micros=dong(110_000).micros,
            credit_micros=dong(110_000).micros,
            reason="gateway",
            requested_by="system:gateways",
            requested_at=datetime.now(UTC),
            settled_at=datetime.now(UTC),
        )
        session.add(refund)
        session.flush()
        return refund.id


def bring(sessions: sessionmaker[Session], refund_id: int, state: str) -> None:
    """Have a refund come to a state, as a later statement of the gateway may."""
    amount = dong(110_000).micros if state in {"succeeded", "pending"} else 0
    with sessions.begin() as session:
        session.execute(
            text(
                "UPDATE refunds SET state = :state, outflow_micros = :amount,"
                " clawed_back_micros = :amount, credit_micros = :amount, settled_at = now()"
                " WHERE id = :id"
            ),
            {"state": state, "amount": amount, "id": refund_id},
        )


def documents(
    sessions: sessionmaker[Session], owner: Actor, reference: str
) -> list[DocumentContent]:
    with sessions() as session:
        return list(documents_of(session, vault=VAULT, actor=owner, reference=reference))


def test_a_part_of_a_second_money_that_went_back_is_on_no_document(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    issue(sessions)
    second = paid(reference, CREDIT, number="second")
    update = RefundUpdate(
        "r1",
        RefundState.SUCCEEDED,
        dong(110_000),
        gateway_payment_id="second",
        payment_reference=reference,
    )
    with sessions.begin() as session:
        apply_updates(session, gateway=ScriptedGateway(), updates=(second, update), actor=GATEWAYS)
    assert issue(sessions) == 0


@pytest.mark.parametrize("state", ["failed", "merged", "pending"])
def test_credit_note_of_a_refund_that_was_not_paid_is_cancelled(
    sessions: sessionmaker[Session], owned: tuple[int, Actor], state: str
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    issue(sessions)
    refund_id = refunded(sessions, reference)
    assert issue(sessions) == 1
    bring(sessions, refund_id, state)
    assert (issue(sessions), issue(sessions)) == (1, 0)
    receipt, note, cancellation = documents(sessions, owner, reference)
    year = receipt.issued_on[:4]
    assert (note.number, cancellation.number) == (f"VN-C-{year}-000001", f"VN-X-{year}-000001")
    assert (cancellation.kind, cancellation.refers_to) == ("cancellation", note.number)
    assert (cancellation.pay, cancellation.credit, cancellation.tax) == (
        dong(110_000),
        dong(110_000),
        dong(10_000),
    )
    with sessions() as session:
        letters = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
        message = [parameters_of(session, each) for each in letters]
    assert [each["place"] for each in message] == [1, 2, 3]
    assert [each["is_cancellation"] for each in message] == [False, False, True]


def test_refund_that_is_paid_in_the_end_gets_another_credit_note(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    refund_id = refunded(sessions, reference)
    assert issue(sessions) == 2
    for state, count in (("failed", 1), ("succeeded", 1), ("failed", 1), ("succeeded", 1)):
        bring(sessions, refund_id, state)
        assert issue(sessions) == count
    found = documents(sessions, owner, reference)
    assert [each.number[3:4] + each.number[-1] for each in found] == [
        "R1", "C1", "X1", "C2", "X2", "C3",
    ]  # fmt: skip
    assert [each.refers_to[-8:] for each in found[2::2]] == [
        found[1].number[-8:],
        found[3].number[-8:],
    ]
    with sessions() as session:
        payment_id = session.scalars(select(Payment.id)).one()
        names = list_document_names(session, payment_id=payment_id, actor=owner)
    assert [number for _kind, number in names] == [each.number for each in found]


def test_cancellation_is_issued_though_the_key_of_the_note_is_gone(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    refund_id = refunded(sessions, reference)
    issue(sessions)
    with sessions.begin() as session:
        destroy_keys(session, account_id=account)
    bring(sessions, refund_id, "failed")
    assert (issue(sessions), issue(sessions)) == (1, 0)
    with sessions() as session:
        kinds = session.scalars(select(Document.kind).order_by(Document.issued_at)).all()
    assert kinds[-1] == "cancellation"


def test_lost_dispute_gets_no_document(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    assert issue(sessions) == 1
    with sessions.begin() as session:
        payment = session.scalars(select(Payment).where(Payment.reference == reference)).one()
        session.add(
            Dispute(
                account_id=account,
                payment_id=payment.id,
                gateway=payment.gateway,
                gateway_dispute_id="d1",
                state="lost",
                pay_micros=CREDIT.micros,
                lost_micros=CREDIT.micros,
                outflow_micros=CREDIT.micros,
                clawed_back_micros=CREDIT.micros,
                credit_micros=CREDIT.micros,
                opened_at=datetime.now(UTC),
                closed_at=datetime.now(UTC),
            )
        )
    assert issue(sessions) == 0


def test_numbers_have_no_gap_though_two_jobs_issue_at_once(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    for _ in range(12):
        pay(sessions, *owned)
    barrier = Barrier(2)

    def work() -> int:
        barrier.wait()
        done = 0
        for _ in range(8):
            with sessions.begin() as session:
                done += issue_documents(session, vault=VAULT, actor=JOBS, limit=2)
        return done

    with ThreadPoolExecutor(2) as pool:
        counts = [future.result() for future in [pool.submit(work) for _ in range(2)]]
    assert sum(counts) + issue(sessions) == 12
    with sessions() as session:
        assert sorted(session.scalars(select(Document.number))) == list(range(1, 13))


def test_documents_are_for_those_who_may_see_the_account(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    issue(sessions)
    stranger = user_actor(5, memberships={account + 10_000: MemberRole.OWNER})
    support = user_actor(6, staff_role=StaffRole.SUPPORT)
    with sessions() as session:
        assert documents_of(session, vault=VAULT, actor=support, reference=reference)
        for actor, name in ((stranger, reference), (owner, "UNKNOWN")):
            with pytest.raises(NotFound):
                documents_of(session, vault=VAULT, actor=actor, reference=name)


def test_staff_send_a_receipt_again(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    issue(sessions)
    support = user_actor(6, staff_role=StaffRole.SUPPORT)
    with sessions.begin() as session:
        with pytest.raises(NotAuthorised):
            resend_receipt(session, vault=VAULT, reference=reference, actor=owner)
        message = resend_receipt(session, vault=VAULT, reference=reference, actor=support)
    assert message == "lan@example.com"
    with sessions() as session:
        assert len(session.scalars(select(OutboxMessage.id)).all()) == 2


def test_what_stands_on_a_document_goes_with_its_key(
    sessions: sessionmaker[Session], owned: tuple[int, Actor]
) -> None:
    account, owner = owned
    reference = pay(sessions, account, owner)
    issue(sessions)
    with sessions() as session:
        sealed = bytes(session.scalars(select(Document.content)).one())
    assert b"Lan Tran" not in sealed
    with sessions.begin() as session:
        destroy_keys(session, account_id=account)
    with sessions() as session, pytest.raises(NotFound):
        documents_of(session, vault=VAULT, actor=owner, reference=reference)


def test_keys_of_old_years_lapse(session: Session) -> None:
    VAULT.seal(session, account_id=1, content=b"x")
    this_year = datetime.now(UTC).year
    assert destroy_keys_before(session, year=this_year) == 0
    session.execute(text("INSERT INTO data_keys VALUES (1, 2001, 'x', now())"))
    assert destroy_keys_before(session, year=this_year) == 1


def test_one_account_s_key_opens_nothing_of_another(session: Session) -> None:
    sealed = VAULT.seal(session, account_id=1, content=b"secret")
    VAULT.seal(session, account_id=2, content=b"other")
    assert VAULT.open(session, account_id=1, sealed=sealed) == b"secret"
    with pytest.raises(NotFound):
        VAULT.open(session, account_id=2, sealed=sealed)
    with pytest.raises(NotFound):
        Vault(b"another-secret-key-of-these-tests-012345").open(
            session, account_id=1, sealed=sealed
        )
