"""Keep setting rates and recording transfers in one currency with different people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import or_, select, text

from db.models import BankTransfer, ExchangeRate
from domain import audit
from domain.errors import Conflict
from domain.payments.rates_in_force import serves
from domain.permissions import require

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.actors import Actor


class DutiesConflict(Conflict):
    """One person may set the rate of a currency or record transfers in it, but not both."""

    def __init__(self, reason: str, currency: str) -> None:
        """Set which duty the person has ("own_rate", "own_transfer"), and in which currency."""
        super().__init__(reason)
        self.currency = currency


_LOCK_DUTIES = text("SELECT pg_advisory_xact_lock(hashtextextended('duties:' || :name, 0))")


def check_own_transfers(session: Session, base: str, quoted: str, actor: Actor) -> None:
    """Raise DutiesConflict where a transfer that the actor recorded is undecided."""
    if actor.is_system:
        return
    own = _currencies_of_transfers(session, _lock_duties(session, actor))
    for currency in (base, quoted):
        if currency in own:
            raise DutiesConflict("own_transfer", currency)


def _currencies_of_transfers(session: Session, name: str) -> frozenset[str]:
    """Return the currencies of the undecided transfers that a person recorded."""
    own = select(BankTransfer.currency).where(
        BankTransfer.requested_by == name, BankTransfer.state == "requested"
    )
    return frozenset(session.scalars(own.distinct()))


def find_currencies_without_rates(session: Session, *, actor: Actor) -> frozenset[str]:
    """Return the currencies whose rates the actor may not request now: they recorded transfers."""
    require(actor, "request_rate")
    if actor.is_system:
        return frozenset()
    return _currencies_of_transfers(session, audit.actor_name(actor))


def check_own_rates(session: Session, *, currency: str, actor: Actor) -> None:
    """Check that the actor set no rate of the currency of a bank transfer to record.

    Raises DutiesConflict where a rate from or to the currency that they requested or approved
    waits, or is in force and still serves.
    """
    if _has_own_rate(session, _lock_duties(session, actor), currency):
        raise DutiesConflict("own_rate", currency)


def may_record_transfers(session: Session, *, currency: str, actor: Actor) -> bool:
    """Return whether no rate that the actor set keeps them from recording transfers."""
    require(actor, "record_transfer")
    return not _has_own_rate(session, audit.actor_name(actor), currency)


def _has_own_rate(session: Session, name: str, currency: str) -> bool:
    decided = or_(ExchangeRate.requested_by == name, ExchangeRate.decided_by == name)
    own = session.scalars(
        select(ExchangeRate).where(
            or_(ExchangeRate.base_currency == currency, ExchangeRate.quote_currency == currency),
            ExchangeRate.state.in_(("requested", "approved")),
            decided,
        )
    )
    return any(each.state == "requested" or serves(session, each) for each in own)


def _lock_duties(session: Session, actor: Actor) -> str:
    """Lock a person's actions on both sides against each other; return their audit log name."""
    name = audit.actor_name(actor)
    session.execute(_LOCK_DUTIES, {"name": name})
    return name
