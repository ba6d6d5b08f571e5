"""Manage voucher codes: generate them at random, read them as people type them, revoke them."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text, update

from db.bulk import copy_rows
from db.models import Account, Campaign, VoucherBatch, VoucherCode
from domain import audit, clock
from domain.errors import Conflict, InvalidInput, NotAuthorised, NotFound
from domain.ledger.idempotency import IdempotentRequest, store_response, stored_response
from domain.permissions import require
from domain.validation import checked_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from domain.actors import Actor

CODE_LENGTH = 10
MAX_CODES_PER_BATCH = 100_000

_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
"""Without 0, 1, I, L and O: people read codes aloud."""

_CODE = re.compile(r"[A-Z0-9]{10}")
_LEFT_OUT = re.compile(r"[\s\-\u2010-\u2015_.]+")
_SHOWN = 4
_NO_ACCOUNT = 0
"""The account under which the keys of these writes are kept: they concern none."""

_KNOWN = text("SELECT id FROM accounts WHERE id = ANY (:accounts)")
_TAKEN = text("SELECT code FROM voucher_codes WHERE code = ANY(:codes)")


@dataclass(frozen=True, slots=True)
class Batch:
    """Codes that were generated or imported together."""

    batch_id: int
    campaign_id: int
    kind: str
    codes: int
    made_by: str
    made_at: datetime


def read_code(typed: str) -> str:
    """Return a code as it is stored: upper case, without spaces and dashes; "" where it is none.

    Full-width letters, as a Japanese keyboard may produce them, count as the letters that they are.
    """
    folded = typed.translate(_HALF_WIDTH)
    code = _LEFT_OUT.sub("", folded).upper()
    return code if _CODE.fullmatch(code) else ""


_HALF_WIDTH = {0xFEE0 + ascii_code: ascii_code for ascii_code in range(0x21, 0x7F)} | {0x3000: 0x20}


def hide_code(code: str) -> str:
    """Return the code for those who need only recognise it: its last four characters."""
    return "•" * (CODE_LENGTH - _SHOWN) + code[-_SHOWN:]


def generate_codes(
    session: Session, *, campaign_id: int, count: int, actor: Actor, idempotency_key: str
) -> int:
    """Generate a number of codes for a campaign and return their batch; repeated, the same batch.

    Raises InvalidInput("count", "out_of_range"), Conflict("campaign_not_approved") or
    Conflict("code_budget_spent"), NotFound, NotAuthorised.
    """
    require(actor, "make_codes")
    if not 0 < count <= MAX_CODES_PER_BATCH:
        raise InvalidInput("count", "out_of_range", maximum=MAX_CODES_PER_BATCH)
    write = IdempotentRequest(
        _NO_ACCOUNT,
        f"codes:{idempotency_key}",
        "generate_codes",
        {"campaign": campaign_id, "count": count},
    )
    campaign = lock_campaign(session, campaign_id)
    known = stored_response(session, write)
    if known is not None:
        return int(known["batch"])
    batch = _add_codes(session, campaign, _new_codes(session, count), kind="generated", actor=actor)
    store_response(session, write, {"batch": batch})
    return batch


def make_codes_for(
    session: Session,
    *,
    campaign_id: int,
    accounts: Sequence[int],
    actor: Actor,
    idempotency_key: str,
) -> int:
    """Generate a code for each of these accounts, which no other can use, and return their batch.

    Each account sees its code in its list of vouchers. Raises InvalidInput on "accounts" ("empty",
    "too_many", "twice" or "unknown" with the account), NotAuthorised for an account that the actor
    belongs to, and as `generate_codes` does.
    """
    require(actor, "make_codes")
    _check_accounts(session, accounts)
    if any(account_id in actor.memberships for account_id in accounts):
        raise NotAuthorised
    write = IdempotentRequest(
        _NO_ACCOUNT,
        f"codes:{idempotency_key}",
        "make_codes_for",
        {"campaign": campaign_id, "accounts": list(accounts)},
    )
    campaign = lock_campaign(session, campaign_id)
    known = stored_response(session, write)
    if known is not None:
        return int(known["batch"])
    codes = _new_codes(session, len(accounts))
    batch = _add_codes(
        session, campaign, codes, kind="generated", actor=actor, accounts=list(accounts)
    )
    store_response(session, write, {"batch": batch})
    return batch


def _check_accounts(session: Session, accounts: Sequence[int]) -> None:
    if not accounts:
        raise InvalidInput("accounts", "empty")
    if len(accounts) > MAX_CODES_PER_BATCH:
        raise InvalidInput("accounts", "too_many", maximum=MAX_CODES_PER_BATCH)
    if len(set(accounts)) < len(accounts):
        twice = next(each for each in accounts if list(accounts).count(each) > 1)
        raise InvalidInput("accounts", "twice", account=twice)
    known = set(session.scalars(_KNOWN, {"accounts": list(accounts)}))
    unknown = [each for each in accounts if each not in known]
    if unknown:
        raise InvalidInput("accounts", "unknown", account=unknown[0])


def import_codes(
    session: Session,
    *,
    campaign_id: int,
    typed: Sequence[str],
    actor: Actor,
    idempotency_key: str,
) -> int:
    """Import codes that were generated elsewhere, all or none, and return their batch.

    Raises InvalidInput on "codes" ("empty", "too_many", "not_a_code" or "twice" with the line,
    "taken" with the first that is), and as `generate_codes` does.
    """
    require(actor, "make_codes")
    codes = _read_all(typed)
    write = IdempotentRequest(
        _NO_ACCOUNT,
        f"codes:{idempotency_key}",
        "import_codes",
        {"campaign": campaign_id, "codes": codes},
    )
    campaign = lock_campaign(session, campaign_id)
    known = stored_response(session, write)
    if known is not None:
        return int(known["batch"])
    taken = session.scalars(_TAKEN, {"codes": codes}).first()
    if taken is not None:
        raise InvalidInput("codes", "taken", code=hide_code(taken))
    batch = _add_codes(session, campaign, codes, kind="imported", actor=actor)
    store_response(session, write, {"batch": batch})
    return batch


def issue_code(session: Session, *, campaign: Campaign, account_id: int, actor: Actor) -> str:
    """Generate one code of a locked campaign that only this account can use, and return it.

    The caller has checked the permission. Raises as `generate_codes` does, and NotFound.
    """
    if session.get(Account, account_id) is None:
        raise NotFound("account")
    (code,) = _new_codes(session, 1)
    _add_codes(session, campaign, [code], kind="issued", actor=actor, accounts=[account_id])
    return code


@dataclass(frozen=True, slots=True)
class Revocable:
    """How many of some codes can be revoked, and who revoked the last of the others.

    `used` are those that are used up; a code that was revoked counts as `revoked` alone.
    """

    count: int
    used: int
    revoked: int
    last_revoked_by: str | None
    last_revoked_at: datetime | None

    @property
    def total(self) -> int:
        """All of the codes."""
        return self.count + self.used + self.revoked


def count_revocable(
    session: Session,
    *,
    campaign_id: int,
    actor: Actor,
    code: str | None = None,
    batch_id: int | None = None,
) -> Revocable:
    """Return what `revoke_codes` would revoke of one code, a batch, or a whole campaign."""
    require(actor, "see_batches")
    is_revoked, is_used = (
        VoucherCode.revoked_at.is_not(None),
        (VoucherCode.uses >= VoucherCode.most_uses),
    )
    chosen = _chosen(campaign_id, code, batch_id)
    count, used, revoked = session.execute(
        select(
            func.count().filter(~is_revoked, ~is_used),
            func.count().filter(~is_revoked, is_used),
            func.count().filter(is_revoked),
        ).where(*chosen)
    ).one()
    last = session.execute(
        select(VoucherCode.revoked_by, VoucherCode.revoked_at)
        .where(*chosen, is_revoked)
        .order_by(VoucherCode.revoked_at.desc())
        .limit(1)
    ).one_or_none()
    return Revocable(count, used, revoked, *((None, None) if last is None else last))


def _chosen(
    campaign_id: int, code: str | None, batch_id: int | None
) -> tuple[ColumnElement[bool], ...]:
    found = [VoucherCode.campaign_id == campaign_id]
    if code is not None:
        found.append(VoucherCode.code == code)
    if batch_id is not None:
        found.append(VoucherCode.batch_id == batch_id)
    return tuple(found)


def revoke_codes(
    session: Session,
    *,
    campaign_id: int,
    reason: str,
    actor: Actor,
    code: str | None = None,
    batch_id: int | None = None,
    expected_count: int | None = None,
) -> int:
    """Revoke what is left of one code, a batch, or all codes of a campaign; return how many.

    Credit that they granted already stays. Codes that are used up or revoked are left as they are,
    so that a repetition changes nothing. Raises InvalidInput for a missing reason and for more
    codes than MAX_CODES_PER_BATCH, and Conflict("codes_changed") where it would not be the
    `expected_count` that the user confirmed.
    """
    require(actor, "revoke_codes")
    reason = checked_reason(reason)
    lock_campaign(session, campaign_id)
    chosen = _chosen(campaign_id, code, batch_id)
    left = (*chosen, VoucherCode.revoked_at.is_(None), VoucherCode.uses < VoucherCode.most_uses)
    count = session.scalars(select(func.count()).select_from(VoucherCode).where(*left)).one()
    if count > MAX_CODES_PER_BATCH:
        raise InvalidInput("codes", "too_many_to_revoke", maximum=MAX_CODES_PER_BATCH)
    if expected_count is not None and count != expected_count:
        raise Conflict("codes_changed")
    if not count:
        return 0
    session.execute(
        update(VoucherCode)
        .where(*left)
        .values(
            revoked_at=clock.now(session),
            revoked_by=audit.actor_name(actor),
            revoked_reason=reason,
        )
        .execution_options(synchronize_session=False)
    )
    details = {"campaign": campaign_id, "batch": batch_id, "codes": count, "reason": reason}
    if code is not None:
        details["code"] = hide_code(code)
    audit.record(session, action="revoke_codes", actor=actor, details=details)
    return count


def list_batches(session: Session, *, campaign_id: int, actor: Actor) -> tuple[Batch, ...]:
    """Return a campaign's batches, the newest first, without those of single codes."""
    require(actor, "see_batches")
    rows = session.scalars(
        select(VoucherBatch)
        .where(VoucherBatch.campaign_id == campaign_id, VoucherBatch.kind != "issued")
        .order_by(VoucherBatch.id.desc())
    )
    return tuple(
        Batch(row.id, row.campaign_id, row.kind, row.codes, row.made_by, row.made_at)
        for row in rows
    )


def codes_of_batch(session: Session, *, batch_id: int, actor: Actor) -> Iterator[str]:
    """Return a batch's codes in full, for the file that is passed to their distributor.

    The export is written to the audit log. Raises NotFound and NotAuthorised.
    """
    require(actor, "download_codes")
    batch = session.get(VoucherBatch, batch_id)
    if batch is None:
        raise NotFound("voucher_batch")
    details = {"campaign": batch.campaign_id, "batch": batch_id}
    audit.record(session, action="download_codes", actor=actor, details=details)
    statement = (
        select(VoucherCode.code).where(VoucherCode.batch_id == batch_id).order_by(VoucherCode.code)
    )
    return iter(session.scalars(statement).all())


def lock_campaign(session: Session, campaign_id: int) -> Campaign:
    """Return a campaign, locked against changes by others until the transaction ends.

    Raises NotFound.
    """
    campaign = session.get(Campaign, campaign_id, with_for_update=True, populate_existing=True)
    if campaign is None:
        raise NotFound("campaign")
    return campaign


def _read_all(typed: Sequence[str]) -> list[str]:
    if not typed:
        raise InvalidInput("codes", "empty")
    if len(typed) > MAX_CODES_PER_BATCH:
        raise InvalidInput("codes", "too_many", maximum=MAX_CODES_PER_BATCH)
    codes: dict[str, int] = {}
    for line, each in enumerate(typed, start=1):
        code = read_code(each)
        if not code:
            raise InvalidInput("codes", "not_a_code", line=line)
        if code in codes:
            raise InvalidInput("codes", "twice", line=line)
        codes[code] = line
    return list(codes)


def _new_codes(session: Session, count: int) -> list[str]:
    """Return codes not in use: a collision has odds of one in a hundred million million."""
    codes: set[str] = set()
    while len(codes) < count:
        more = {_random_code() for _ in range(count - len(codes))} - codes
        codes |= more - set(session.scalars(_TAKEN, {"codes": list(more)}))
    return list(codes)


def _random_code() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(CODE_LENGTH))


def _add_codes(
    session: Session,
    campaign: Campaign,
    codes: Sequence[str],
    *,
    kind: str,
    actor: Actor,
    accounts: Sequence[int] | None = None,
) -> int:
    """Add codes, each for the account at its place, or for anyone who has it."""
    _require_room(campaign, len(codes))
    batch = VoucherBatch(
        campaign_id=campaign.id,
        kind=kind,
        codes=len(codes),
        made_by=audit.actor_name(actor),
        made_at=clock.now(session),
    )
    session.add(batch)
    campaign.codes += len(codes)
    session.flush()
    copy_rows(
        session,
        "voucher_codes",
        ("code", "campaign_id", "batch_id", "account_id", "most_uses"),
        [
            (code, campaign.id, batch.id, account_id, campaign.uses_per_code)
            for code, account_id in zip(codes, accounts or repeat(None), strict=False)
        ],
    )
    details = {"campaign": campaign.id, "batch": batch.id, "codes": len(codes), "kind": kind}
    only = accounts[0] if accounts is not None and len(accounts) == 1 else None
    audit.record(session, action="add_codes", actor=actor, account_id=only, details=details)
    return batch.id


def _require_room(campaign: Campaign, count: int) -> None:
    if campaign.state != "approved" or campaign.trigger != "code":
        raise Conflict("campaign_not_approved")
    if campaign.codes + count > campaign.code_budget:
        raise Conflict("code_budget_spent")


def count_codes(session: Session, *, campaign_id: int) -> dict[str, int]:
    """Return how many codes of a campaign there are, were used, and were revoked."""
    total, used, revoked = session.execute(
        select(
            func.count(),
            func.count().filter(VoucherCode.uses > 0),
            func.count(VoucherCode.revoked_at),
        ).where(VoucherCode.campaign_id == campaign_id)
    ).one()
    return {"made": total, "used": used, "revoked": revoked}
