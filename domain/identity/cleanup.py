"""Deletion of what identity keeps for a limited time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, or_

from db.models import (
    AccountInvitation,
    EmailToken,
    PendingSignIn,
    StaffInvitation,
    UsedChallenge,
    UserSession,
)
from domain import clock, fraud_signals
from domain.identity import authenticators
from domain.permissions import require
from domain.security import rate_limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor


def purge_identity(session: Session, *, actor: Actor) -> int:
    """Delete counters, links, invitations and sessions that ended; return the number of rows.

    The networks that accounts used are deleted too, after ninety days.

    For the job runner and administrators. Raises NotAuthorised.
    """
    require(actor, "purge_identity")
    now = clock.now(session)
    links = session.execute(
        delete(EmailToken)
        .where(EmailToken.expires_at < now - timedelta(days=7))
        .returning(EmailToken.user_id)
    ).all()
    ended = session.execute(
        delete(UserSession)
        .where(
            or_(
                UserSession.expires_at < now - timedelta(days=30),
                UserSession.revoked_at < now - timedelta(days=30),
            )
        )
        .returning(UserSession.user_id)
    ).all()
    invitations = [
        *_delete_invitations(session, AccountInvitation, before=now - timedelta(days=90)),
        *_delete_invitations(session, StaffInvitation, before=now - timedelta(days=90)),
    ]
    # Before the sign-ins, in the order of other code that ends both: otherwise they could deadlock.
    offers = authenticators.purge_offers(session)
    pending = session.execute(
        delete(PendingSignIn).where(PendingSignIn.expires_at < now).returning(PendingSignIn.user_id)
    ).all()
    challenges = session.execute(
        delete(UsedChallenge)
        .where(UsedChallenge.expires_at < now)
        .returning(UsedChallenge.expires_at)
    ).all()
    counters = rate_limits.purge(session, before=now - timedelta(days=2))
    networks = fraud_signals.forget_networks(session, before=now - timedelta(days=90))
    deleted = (links, ended, invitations, pending, challenges)
    return sum(len(each) for each in deleted) + offers + counters + networks


def _delete_invitations(
    session: Session,
    invitation: type[AccountInvitation | StaffInvitation],
    *,
    before: datetime,
) -> Sequence[object]:
    """Delete the invitations of a table that ended, or expired, before a moment."""
    ended_at = func.coalesce(invitation.accepted_at, invitation.withdrawn_at, invitation.expires_at)
    return session.execute(
        delete(invitation).where(ended_at < before).returning(invitation.id)
    ).all()
