"""What may come in with a write to the ledger: text that is one line, services that are sold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from domain import ledger
from domain.accounts import open_account
from domain.errors import InvalidInput
from domain.ledger.journal import JournalLine, post_journal_entry
from tests.factories import SYSTEM, UNIT, grant, make_account, next_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from tests.conftest import TestClock

BAD = "two\nlines\0"


@pytest.fixture
def account(session: Session) -> int:
    return make_account(session)


def fault(write: Callable[..., object], *given: object, **named: object) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as caught:
        write(*given, **named)
    return caught.value.field, caught.value.reason


# ── Scope ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "services", [("gpu-vms",), ("gpu-vm", "GPU-VM"), ("ai-inference", ""), ("Virtual machine",)]
)
def test_a_scope_of_what_is_not_sold_is_refused(
    session: Session, account: int, services: tuple[str, ...]
) -> None:
    assert fault(grant, session, account, 5, services=services) == ("services", "unknown")
    assert session.scalar(text("SELECT count(*) FROM entries")) == 0


def test_a_refused_scope_is_named(session: Session, account: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        grant(session, account, 5, services=("gpu-vm", "gpu-vms"))
    assert caught.value.values == {"service": "gpu-vms"}


def test_a_scope_of_services_is_kept(session: Session, account: int) -> None:
    grant(session, account, 5, services=("gpu-vm", "ai-inference", "gpu-vm"))
    kept = session.scalar(text("SELECT services FROM grants WHERE grant_number = 1"))
    assert kept == ["ai-inference", "gpu-vm"]


# ── Text ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("field", ["origin", "customer_tax_status", "services", "source"])
def test_text_of_a_grant_is_one_line(session: Session, account: int, field: str) -> None:
    given = (BAD,) if field == "services" else BAD
    found = fault(grant, session, account, 5, **{field: given})
    assert found == (field, "control_characters")


@pytest.mark.parametrize(
    "words",
    [
        {"idempotency_key": BAD},
        {"description_code": BAD},
        {"description_parameters": {"reason": BAD}},
        {"description_parameters": {BAD: 1}},
    ],
)
def test_words_about_a_grant_are_one_line(
    session: Session, account: int, words: dict[str, Any]
) -> None:
    given: dict[str, Any] = {
        "account_id": account,
        "terms": ledger.GrantTerms(kind="voucher", amount_micros=UNIT),
        "source": "voucher",
        "actor": SYSTEM,
        "idempotency_key": next_key(),
        **words,
    }
    assert fault(ledger.add_grant, session, **given) == (next(iter(words)), "control_characters")


@pytest.mark.parametrize(
    "words",
    [
        {"service": BAD},
        {"source": BAD},
        {"idempotency_key": BAD},
        {"description_code": BAD},
        {"description_parameters": {"reason": BAD}},
    ],
)
def test_words_about_a_hold_are_one_line(
    session: Session, clock: TestClock, account: int, words: dict[str, Any]
) -> None:
    given: dict[str, Any] = {
        "account_id": account,
        "service": "gpu-vm",
        "amount_micros": UNIT,
        "expires_at": clock.instant,
        "source": "vm",
        "actor": SYSTEM,
        "idempotency_key": next_key(),
        **words,
    }
    assert fault(ledger.place_hold, session, **given) == (next(iter(words)), "control_characters")


def test_the_key_of_a_release_is_one_line(session: Session, account: int) -> None:
    found = fault(
        ledger.void_hold,
        session,
        account_id=account,
        hold_number=1,
        actor=SYSTEM,
        idempotency_key=BAD,
    )
    assert found == ("idempotency_key", "control_characters")


def test_reasons_are_one_line(session: Session, account: int) -> None:
    given: dict[str, Any] = {
        "account_id": account,
        "reason": BAD,
        "actor": SYSTEM,
        "idempotency_key": next_key(),
    }
    expected = ("reason", "control_characters")
    assert fault(ledger.reverse_entry, session, entry_sequence=1, **given) == expected
    assert fault(ledger.write_off_debt, session, amount_micros=1, **given) == expected


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("site_code", {"site_code": BAD}),
        ("reference", {"reference": BAD}),
        ("idempotency_key", {"idempotency_key": BAD}),
        ("lines", {"lines": [JournalLine(BAD, 5, "USD"), JournalLine("1110", -5, "USD")]}),
    ],
)
def test_words_about_a_finance_posting_are_one_line(
    session: Session, clock: TestClock, field: str, given: dict[str, Any]
) -> None:
    facts: dict[str, Any] = {
        "site_code": "global",
        "kind": "gateway_fee",
        "reference": "fee-1",
        "lines": [JournalLine("6100", 5, "USD"), JournalLine("1110", -5, "USD")],
        "occurred_at": clock.instant,
        "actor": SYSTEM,
        "idempotency_key": next_key(),
        **given,
    }
    assert fault(post_journal_entry, session, **facts) == (field, "control_characters")


# ── Names of accounts ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", "a\0b", "control_characters"),
        ("name", "a\u202eb", "control_characters"),
        ("name", " ", "empty"),
        ("name", "x" * 101, "too_long"),
        ("site_code", "global\0", "control_characters"),
        ("country", "V\0", "control_characters"),
    ],
)
def test_an_account_has_a_name_that_can_be_read(
    session: Session, field: str, value: str, reason: str
) -> None:
    given = {"site_code": "global", "name": "Lab", "currency": "USD", field: value}
    assert fault(open_account, session, actor=SYSTEM, **given) == (field, reason)
