"""Record bank transfers: one finance member records the money, another approves it.

An approved transfer becomes a payment like any other and is credited by the same functions. One
line of the bank statement is one transfer: its reference counts once, however it is spaced and
dashed, and may hold no look-alike of another character.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import or_, select
from sqlalchemy.orm import defer

from db.models import Account, BankTransfer, Payment, PaymentState, Site
from domain import audit, clock
from domain.approvals import decision_state, is_new_decision, record_decision
from domain.billing_profiles import current_profile
from domain.errors import Conflict, InvalidInput, NotFound
from domain.gateways.interface import GatewayPaymentState, PaymentUpdate
from domain.gateways.registry import BANK
from domain.ledger.idempotency import request_digest
from domain.money import MAX_PAYMENT_MICROS, Money
from domain.payments.card_numbers import has_card_number
from domain.payments.checkout import new_reference
from domain.payments.exchange_duties import check_own_rates
from domain.payments.gateway_updates import apply_payment_update
from domain.payments.records import GATEWAY_ACTOR, add_event
from domain.permissions import require
from domain.validation import check_text, normalised

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.orm import Session

    from domain.actors import Actor

MAX_EVIDENCE_BYTES = 5 * 1024 * 1024
_MAX_LENGTH = 200
_RECORDED_WITHIN = timedelta(days=366)
_TYPES = {b"%PDF-": "application/pdf", b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_DASHES = "\N{MINUS SIGN}\N{KATAKANA-HIRAGANA PROLONGED SOUND MARK}"
"""What stands for a dash beside those of Unicode's class, which have no other use here."""

# The character set x of SWIFT and ISO 20022: what banks send each other, without line ends.
_BANKS_REFERENCE = re.compile(r"[A-Za-z0-9/?:().,'+ -]+")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A file that shows the transfer."""

    name: str
    content: bytes


class TransferLooksRepeated(Conflict):
    """The account has a transfer of the same amount on the same day already."""

    def __init__(self, transfer_id: int, bank_reference: str) -> None:
        """Name the other transfer, and the bank's reference of it."""
        super().__init__("same_amount_and_day")
        self.transfer_id = transfer_id
        self.bank_reference = bank_reference


@dataclass(frozen=True, slots=True)
class RecordedTransfer:
    """A transfer as staff see it; people are named as the audit log names them."""

    transfer_id: int
    account_id: int
    account_name: str
    amount: Money
    bank_reference: str
    received_on: date
    note: str
    state: str
    requested_by: str
    requested_at: datetime
    decided_by: str | None
    payment_reference: str | None


def checked_reference(reference: str) -> str:
    """Return a bank's reference in the characters that banks send, with single spaces.

    Full-width letters, dashes of any kind and invisible characters come from the source that it was
    copied from or the keyboard. Raises InvalidInput("bank_reference"): "control_characters",
    "empty", "not_from_a_bank" for any other character, such as a Cyrillic letter that looks like a
    Latin one, or "too_long".
    """
    check_text(bank_reference=" ".join(reference.split()))
    seen = " ".join("".join(map(_as_banks_send, reference)).split())
    compatible = normalised(seen, "NFKC", longest=_MAX_LENGTH)
    tidy = " ".join("".join(map(_as_banks_send, compatible)).split())
    if not tidy:
        raise InvalidInput("bank_reference", "empty")
    if _BANKS_REFERENCE.fullmatch(tidy) is None:
        raise InvalidInput("bank_reference", "not_from_a_bank")
    if not normalise_reference(tidy):
        raise InvalidInput("bank_reference", "empty")
    if len(tidy) > _MAX_LENGTH:
        raise InvalidInput("bank_reference", "too_long", maximum=_MAX_LENGTH)
    return tidy


def _as_banks_send(char: str) -> str:
    if char in _DASHES or unicodedata.category(char) == "Pd":
        return "-"
    return "" if unicodedata.category(char) == "Cf" else char


def normalise_reference(reference: str) -> str:
    """Return a checked reference as it is compared: letters and digits in lower case.

    The database computes the same, and keeps each once.
    """
    return "".join(char for char in reference.lower() if char.isalnum())


def record_transfer(
    session: Session,
    *,
    account_id: int,
    amount: Money,
    bank_reference: str,
    received_on: date,
    evidence: Evidence,
    remark: str,
    actor: Actor,
    is_confirmed: bool = False,
) -> int:
    """Record a transfer for another person to approve; return its id.

    The bank's reference is the key: the same again, with the same facts, returns the first id.
    Raises InvalidInput, NotFound, Conflict("no_billing_profile") and, for a reference that another
    transfer has, Conflict("line_is_taken"); DutiesConflict for a person who set a rate of the
    currency; and TransferLooksRepeated, unless `is_confirmed`, for the same amount on the same day.
    """
    require(actor, "record_transfer", account_id)
    reference, remark = checked_reference(bank_reference), remark.strip()
    check_text(remark=remark, evidence=evidence.name)
    if len(remark) > _MAX_LENGTH:
        raise InvalidInput("remark", "too_long", maximum=_MAX_LENGTH)
    account = session.get(Account, account_id)
    if account is None:
        raise NotFound("account")
    _check_amount(amount, account.currency)
    now = clock.now(session)
    _check_day(received_on, now.astimezone(_zone_of(session, account)).date())
    if current_profile(session, actor=actor, account_id=account_id) is None:
        raise Conflict("no_billing_profile")
    row = BankTransfer(
        account_id=account_id,
        amount_micros=amount.micros,
        currency=amount.currency,
        bank_reference=reference,
        normalised_reference=normalise_reference(reference),
        received_on=received_on,
        evidence_name=evidence.name[:_MAX_LENGTH],
        evidence_type=_checked_type(evidence),
        evidence=evidence.content,
        note=remark,
        requested_by=audit.actor_name(actor),
        requested_at=now,
    )
    known = _same_line(session, row)
    if known is not None:
        return known
    similar = _similar(session, row)
    check_own_rates(session, currency=amount.currency, actor=actor)
    if similar is not None and not is_confirmed:
        raise TransferLooksRepeated(similar.id, similar.bank_reference)
    session.add(row)
    session.flush()
    details = {"transfer": row.id, "amount_micros": amount.micros}
    details |= {} if similar is None else {"confirmed_beside": similar.id}
    _record(session, "record_transfer", row, actor, details)
    return row.id


def _record(
    session: Session, action: str, row: BankTransfer, actor: Actor, details: dict[str, Any]
) -> None:
    audit.record(session, action=action, actor=actor, account_id=row.account_id, details=details)


def _check_day(received_on: date, today: date) -> None:
    if received_on > today:
        raise InvalidInput("received_on", "in_future")
    if received_on < today - _RECORDED_WITHIN:
        raise InvalidInput("received_on", "too_long_ago")


def _zone_of(session: Session, account: Account) -> ZoneInfo:
    """Return the time zone in which the days of the account's bank are counted."""
    return ZoneInfo(session.get_one(Site, account.site_code).time_zone)


def _received_at(session: Session, row: BankTransfer) -> datetime:
    """Return the noon of the day on which a transfer was received, by the clock of its site."""
    zone = _zone_of(session, session.get_one(Account, row.account_id))
    return datetime.combine(row.received_on, time(12), tzinfo=zone)


def _check_amount(amount: Money, currency: str) -> None:
    if amount.currency != currency:
        raise InvalidInput("amount", "wrong_currency", currency=currency)
    if amount.micros <= 0:
        raise InvalidInput("amount", "not_positive")
    if amount.micros > MAX_PAYMENT_MICROS:
        raise InvalidInput("amount", "too_large")
    amount.to_minor_units()


def _checked_type(evidence: Evidence) -> str:
    """Return the file's type, by its content; reject a file that may hold a card number."""
    if len(evidence.content) > MAX_EVIDENCE_BYTES:
        raise InvalidInput("evidence", "too_large", maximum=MAX_EVIDENCE_BYTES)
    for start, kind in _TYPES.items():
        if evidence.content.startswith(start):
            if has_card_number(evidence.content):
                raise InvalidInput("evidence", "card_number")
            return kind
    raise InvalidInput("evidence", "not_a_document")


def _same_line(session: Session, row: BankTransfer) -> int | None:
    compared = BankTransfer.normalised_reference
    known = session.scalars(
        select(BankTransfer)
        .where(
            # Those recorded under an older rule have their number appended.
            or_(
                compared == row.normalised_reference, compared.like(f"{row.normalised_reference}#%")
            ),
            BankTransfer.state != "rejected",
        )
        .order_by(compared)
        .limit(1)
    ).one_or_none()
    if known is None:
        return None
    updates = ("account_id", "amount_micros", "currency", "received_on", "requested_by")
    if any(getattr(known, name) != getattr(row, name) for name in updates):
        raise Conflict("line_is_taken")
    return known.id


def _similar(session: Session, row: BankTransfer) -> BankTransfer | None:
    """Return a transfer of the account with the same amount and day, and another reference."""
    return session.scalars(
        select(BankTransfer)
        .where(
            BankTransfer.account_id == row.account_id,
            BankTransfer.amount_micros == row.amount_micros,
            BankTransfer.currency == row.currency,
            BankTransfer.received_on == row.received_on,
            BankTransfer.state != "rejected",
        )
        .options(defer(BankTransfer.evidence))
        .order_by(BankTransfer.id.desc())
        .limit(1)
    ).one_or_none()


def decide_transfer(
    session: Session, *, transfer_id: int, is_approved: bool, actor: Actor
) -> int | None:
    """Approve a transfer, which credits it, or reject it; return the payment's id, if any.

    The same person's same decision again has no effect. Raises NotAuthorised for the person who
    recorded it, AlreadyDecided where another person has decided, and Conflict where it cannot be
    credited.
    """
    require(actor, "decide_transfer")
    row = session.get(BankTransfer, transfer_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound("transfer")
    require(actor, "decide_transfer", row.account_id)
    state = decision_state(is_approved=is_approved)
    if not is_new_decision(row, state, actor, requested_by=row.requested_by):
        return row.payment_id
    payment_id = _credit(session, row, actor) if is_approved else None
    row.payment_id = payment_id
    record_decision(session, row, state, actor)
    _record(session, f"{state}_transfer", row, actor, {"transfer": row.id, "payment": payment_id})
    return payment_id


def _credit(session: Session, row: BankTransfer, actor: Actor) -> int:
    profile = current_profile(session, actor=actor, account_id=row.account_id)
    if profile is None:
        raise Conflict("no_billing_profile")
    now = clock.now(session)
    key = f"bank-transfer-{row.id}"
    payment = Payment(
        account_id=row.account_id,
        reference=new_reference(),
        gateway=BANK,
        is_sandbox=False,
        state=PaymentState.CREATED,
        pay_micros=row.amount_micros,
        pay_currency=row.currency,
        credit_micros=row.amount_micros,
        credit_currency=row.currency,
        profile_version=profile.version,
        consent_version="",
        language="en",
        created_by=row.requested_by,
        idempotency_key=key,
        request_hash=request_digest({"transfer": row.id}),
        created_at=now,
        expires_at=now,
    )
    session.add(payment)
    session.flush()
    details = {"transfer": row.id, "requested_by": row.requested_by}
    add_event(session, payment, "approved_transfer", actor=actor, details=details)
    update = PaymentUpdate(
        state=GatewayPaymentState.PAID,
        reference=payment.reference,
        gateway_payment_id=row.bank_reference,
        amount=Money(row.amount_micros, row.currency),
        method="transfer",
        occurred_at=_received_at(session, row),
    )
    apply_payment_update(session, payment, update, actor=GATEWAY_ACTOR)
    payment.next_check_at = None  # there is no gateway to query
    return payment.id


def list_transfers(
    session: Session, *, actor: Actor, limit: int = 100
) -> tuple[RecordedTransfer, ...]:
    """Return the newest transfers, those that wait first."""
    require(actor, "see_transfers")
    rows = session.execute(
        select(BankTransfer, Account.name, Payment.reference)
        .join(Account, Account.id == BankTransfer.account_id)
        .outerjoin(Payment, Payment.id == BankTransfer.payment_id)
        .options(defer(BankTransfer.evidence))  # megabytes, which a list does not show
        .order_by(BankTransfer.state != "requested", BankTransfer.id.desc())
        .limit(limit)
    )
    return tuple(
        RecordedTransfer(
            transfer_id=row.id,
            account_id=row.account_id,
            account_name=name,
            amount=Money(row.amount_micros, row.currency),
            bank_reference=row.bank_reference,
            received_on=row.received_on,
            note=row.note,
            state=row.state,
            requested_by=row.requested_by,
            requested_at=row.requested_at,
            decided_by=row.decided_by,
            payment_reference=payment_reference,
        )
        for row, name, payment_reference in rows
    )


def evidence_of(session: Session, *, transfer_id: int, actor: Actor) -> tuple[str, bytes]:
    """Return the type and the content of a transfer's evidence, for finance."""
    require(actor, "see_evidence")
    row = session.get(BankTransfer, transfer_id)
    if row is None:
        raise NotFound("transfer")
    return row.evidence_type, bytes(row.evidence)
