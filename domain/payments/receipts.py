"""Issue receipts, credit notes and cancellations: numbered in turn by a job, never changed.

A credit note whose refund failed after all, or became part of a dispute, is cancelled by a document
of its own; where the refund is paid in the end, it gets another credit note.

A document keeps everything that stands on it as it was when it was issued, encrypted, since it
names the customer. A receipt is no tax invoice. Where tax falls due with the top-up, it is shown
as included; where it falls due with use, none is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, text

from db.models import Account, Document, ExchangeQuote, Grant, Payment, PaymentState, Refund, Site
from db.models.payments import DOCUMENT_KINDS
from domain import audit, clock, outbox
from domain.billing_profiles import find_profile
from domain.errors import NotFound
from domain.ledger.allocation import tax_inside
from domain.money import Money
from domain.payments.records import GATEWAY_ACTOR
from domain.permissions import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.security.payload_encryption import Vault

RECEIPT, CREDIT_NOTE, CANCELLATION = DOCUMENT_KINDS
_LETTERS = {RECEIPT: "R", CREDIT_NOTE: "C", CANCELLATION: "X"}
_RATE_PLACES = 6
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('documents:' || :series, 0))")


@dataclass(frozen=True, slots=True)
class DocumentContent:
    """What stands on a document. Amounts are micros; `tax_micros` is None where none is shown.

    `net_micros` and `tax_micros` are of the credit's currency. `refers_to` is the number of the
    receipt that a credit note is about, or of the credit note that a cancellation takes back.
    """

    kind: str
    number: str
    issued_on: str
    seller: str
    seller_country: str
    customer: str
    address: str
    country: str
    tax_code: str
    email: str
    reference: str
    gateway: str
    gateway_payment_id: str
    is_sandbox: bool
    happened_at: str
    pay_micros: int
    pay_currency: str
    credit_micros: int
    credit_currency: str
    exchange_rate: str
    tax_point: str
    tax_rate: str
    tax_micros: int | None
    refers_to: str
    language: str

    @property
    def pay(self) -> Money:
        """The amount paid, or refunded."""
        return Money(self.pay_micros, self.pay_currency)

    @property
    def credit(self) -> Money:
        """The amount credited, or clawed back."""
        return Money(self.credit_micros, self.credit_currency)

    @property
    def tax(self) -> Money | None:
        """The tax inside the credit, where it fell due with the top-up."""
        return None if self.tax_micros is None else Money(self.tax_micros, self.credit_currency)


def issue_documents(session: Session, *, vault: Vault, actor: Actor, limit: int = 100) -> int:
    """Issue what lacks its document: receipts of credited payments, notes of paid refunds.

    A credit note whose refund is not paid any more is cancelled. Returns how many were issued. Each
    series is locked until the commit, so that its numbers have no gap.
    """
    require(actor, "issue_documents")
    payments = session.scalars(
        select(Payment)
        .where(Payment.state == PaymentState.SUCCEEDED, ~Payment.has_receipt)
        .order_by(Payment.credited_at)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    for payment in payments:
        _issue(session, vault, payment, None, actor)
        payment.has_receipt = True
    noted = _issue_notes(session, vault, actor, limit)
    return len(payments) + noted + _cancel_notes(session, vault, actor, limit)


def _issue_notes(session: Session, vault: Vault, actor: Actor, limit: int) -> int:
    refunds = session.scalars(
        select(Refund)
        .join(Payment, Payment.id == Refund.payment_id)
        .where(
            Refund.state == "succeeded",
            Refund.outflow_micros > 0,  # money that bought nothing is on no receipt
            ~Refund.has_credit_note,
            Payment.has_receipt,
        )
        .order_by(Refund.settled_at)
        .limit(limit)
        .with_for_update(of=Refund, skip_locked=True)
    ).all()
    for refund in refunds:
        _issue(session, vault, session.get_one(Payment, refund.payment_id), refund, actor)
        refund.has_credit_note = True
    return len(refunds)


def _cancel_notes(session: Session, vault: Vault, actor: Actor, limit: int) -> int:
    refunds = session.scalars(
        select(Refund)
        .where(Refund.state != "succeeded", Refund.has_credit_note)
        .order_by(Refund.settled_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for refund in refunds:
        payment = session.get_one(Payment, refund.payment_id)
        _issue(session, vault, payment, refund, actor, cancels=_note_of(session, refund))
        refund.has_credit_note = False
    return len(refunds)


def _note_of(session: Session, refund: Refund) -> Document:
    """Return the newest credit note of a refund that has one."""
    return session.scalars(
        select(Document)
        .where(Document.refund_id == refund.id, Document.kind == CREDIT_NOTE)
        .order_by(Document.issued_at.desc(), Document.year.desc(), Document.number.desc())
        .limit(1)
    ).one()


def _issue(
    session: Session,
    vault: Vault,
    payment: Payment,
    refund: Refund | None,
    actor: Actor,
    *,
    cancels: Document | None = None,
) -> None:
    account = session.get_one(Account, payment.account_id)
    site = session.get_one(Site, account.site_code)
    now = clock.now(session)
    today = now.astimezone(ZoneInfo(site.time_zone)).date()
    kind = RECEIPT if refund is None else CREDIT_NOTE if cancels is None else CANCELLATION
    number = _next_number(session, site.code, kind, today.year)
    name = name_of(site.code, kind, today, number)
    if refund is None or cancels is None:
        content = _content(session, payment, refund, site, name)
    else:
        written = _read(session, vault, cancels) or _content(session, payment, refund, site, name)
        content = _cancelling(written, name, cancels, refund.settled_at or now)
    sealed = json.dumps({**content, "issued_on": today.isoformat()}).encode()
    document = Document(
        site_code=site.code,
        kind=kind,
        year=today.year,
        number=number,
        account_id=payment.account_id,
        payment_id=payment.id,
        refund_id=None if refund is None else refund.id,
        issued_at=now,
        content=vault.seal(session, account_id=payment.account_id, content=sealed),
    )
    session.add(document)
    session.flush()
    details = {"kind": kind, "number": content["number"], "payment": payment.id}
    audit.record(
        session, action="issue_document", actor=actor, account_id=account.id, details=details
    )
    _mail(session, payment, content, _count_documents(session, payment))


def _count_documents(session: Session, payment: Payment) -> int:
    """Return how many documents a payment has: the newest one's place among them."""
    counted = select(func.count()).select_from(Document).where(Document.payment_id == payment.id)
    return session.scalars(counted).one()


def _next_number(session: Session, site_code: str, kind: str, year: int) -> int:
    session.execute(_LOCK, {"series": f"{site_code}:{kind}:{year}"})
    highest = select(func.max(Document.number)).where(
        Document.site_code == site_code, Document.kind == kind, Document.year == year
    )
    return (session.scalars(highest).one() or 0) + 1


def name_of(site_code: str, kind: str, on: date, number: int) -> str:
    """Return a document's number as it is printed, such as VN-R-2026-000123."""
    return f"{site_code.upper()}-{_LETTERS[kind]}-{on.year}-{number:06}"


def _read(session: Session, vault: Vault, document: Document) -> dict[str, Any] | None:
    """Return what stands on a document; None where its key was destroyed."""
    sealed = bytes(document.content)
    try:
        opened = vault.open(session, account_id=document.account_id, sealed=sealed)
    except NotFound:
        return None
    content: dict[str, Any] = json.loads(opened)
    return content


def _cancelling(
    written: dict[str, Any], name: str, note: Document, ended_at: datetime
) -> dict[str, Any]:
    """Return what stands on a cancellation: what stood on the credit note, under its own name."""
    return {
        **written,
        "kind": CANCELLATION,
        "number": name,
        "happened_at": ended_at.isoformat(),
        "refers_to": name_of(note.site_code, CREDIT_NOTE, date(note.year, 1, 1), note.number),
    }


def _content(
    session: Session, payment: Payment, refund: Refund | None, site: Site, number: str
) -> dict[str, Any]:
    profile = find_profile(
        session, actor=GATEWAY_ACTOR, account_id=payment.account_id, version=payment.profile_version
    ).profile
    grant = session.get_one(Grant, (payment.account_id, payment.grant_number))
    part = payment if refund is None else refund
    is_taxed = grant.tax_point == "TOP_UP" and grant.tax_rate > 0
    rate_millionths = int(grant.tax_rate.scaleb(_RATE_PLACES))
    happened_at = payment.paid_at if refund is None else refund.settled_at
    return asdict(
        DocumentContent(
            kind=RECEIPT if refund is None else CREDIT_NOTE,
            number=number,
            issued_on="",
            seller=site.legal_entity,
            seller_country=site.country or "",
            customer=profile.name,
            address=", ".join(filter(None, (profile.address, profile.city))),
            country=profile.country,
            tax_code=profile.tax_code or "",
            email=profile.email,
            reference=payment.reference,
            gateway=payment.gateway,
            gateway_payment_id=payment.gateway_payment_id or "",
            is_sandbox=payment.is_sandbox,
            happened_at=(happened_at or clock.now(session)).isoformat(),
            pay_micros=part.pay_micros,
            pay_currency=payment.pay_currency,
            credit_micros=part.credit_micros,
            credit_currency=payment.credit_currency,
            exchange_rate=_rate(session, payment),
            tax_point=grant.tax_point,
            tax_rate=_plain(grant.tax_rate * 100),
            tax_micros=tax_inside(part.credit_micros, rate_millionths) if is_taxed else None,
            refers_to="" if refund is None else _receipt_number(session, payment),
            language=payment.language,
        )
    )


def _rate(session: Session, payment: Payment) -> str:
    if payment.quote_id is None:
        return ""
    rate: Decimal = session.get_one(ExchangeQuote, payment.quote_id).effective_rate
    return _plain(rate)


def _plain(figure: Decimal) -> str:
    """Return a decimal without an exponent, which a whole number of tens would have."""
    return f"{figure.normalize():f}"


def _receipt_number(session: Session, payment: Payment) -> str:
    row = session.scalars(
        select(Document).where(Document.payment_id == payment.id, Document.kind == RECEIPT)
    ).one()
    return name_of(row.site_code, RECEIPT, date(row.year, 1, 1), row.number)


def _mail(session: Session, payment: Payment, content: dict[str, Any], place: int) -> None:
    """Mail the contact of the billing profile; the document itself is behind the sign-in."""
    outbox.enqueue(
        session,
        recipient=content["email"],
        template="receipt",
        parameters={
            "number": content["number"],
            "reference": payment.reference,
            "is_receipt": content["kind"] == RECEIPT,
            "is_cancellation": content["kind"] == CANCELLATION,
            "place": place,
        },
        locale=payment.language,
    )


def documents_of(
    session: Session, *, vault: Vault, actor: Actor, reference: str
) -> tuple[DocumentContent, ...]:
    """Return the documents of a payment: the receipt, then the others as they were issued.

    Raises NotFound where there is none, or it is not the actor's to see.
    """
    payment = session.scalars(select(Payment).where(Payment.reference == reference)).one_or_none()
    if payment is None:
        raise NotFound("document")
    require(actor, "see_account", payment.account_id)
    found = tuple(
        DocumentContent(
            **json.loads(vault.open(session, account_id=row.account_id, sealed=bytes(row.content)))
        )
        for row in _rows_of(session, payment)
    )
    if not found:
        raise NotFound("document")
    return found


def _rows_of(session: Session, payment: Payment) -> Sequence[Document]:
    """Return a payment's documents in an order that later ones only add to."""
    return session.scalars(
        select(Document)
        .where(Document.payment_id == payment.id)
        .order_by(Document.kind != RECEIPT, Document.issued_at, Document.kind, Document.number)
    ).all()


def list_document_names(
    session: Session, *, payment_id: int, actor: Actor
) -> tuple[tuple[str, str], ...]:
    """Return kind and number of each document of a payment, in the order of `documents_of`."""
    payment = session.get(Payment, payment_id)
    if payment is None:
        raise NotFound("payment")
    require(actor, "see_account", payment.account_id)
    return tuple(
        (row.kind, name_of(row.site_code, row.kind, date(row.year, 1, 1), row.number))
        for row in _rows_of(session, payment)
    )


def resend_receipt(session: Session, *, vault: Vault, reference: str, actor: Actor) -> str:
    """Mail a payment's receipt again; return to whom."""
    require(actor, "resend_receipt")
    receipt = documents_of(session, vault=vault, actor=actor, reference=reference)[0]
    payment = session.scalars(select(Payment).where(Payment.reference == reference)).one()
    _mail(session, payment, asdict(receipt), 1)
    audit.record(
        session,
        action="resend_receipt",
        actor=actor,
        account_id=payment.account_id,
        details={"payment": payment.id},
    )
    return receipt.email


def moment(content: DocumentContent) -> datetime:
    """Return when the money moved."""
    return datetime.fromisoformat(content.happened_at)
