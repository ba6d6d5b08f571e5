"""The accounts that journeys in a browser are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import AccountMember, User
from domain.actors import system_actor
from domain.billing_profiles import BillingProfile, ProfileKind, save_profile

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker


def account_of(sessions: sessionmaker[Session], email: str) -> int:
    """Return the owner's account, with billing information."""
    with sessions.begin() as session:
        account = session.scalars(
            select(AccountMember.account_id)
            .join(User, User.id == AccountMember.user_id)
            .where(User.email == email)
        ).one()
        save_profile(
            session,
            account_id=account,
            profile=BillingProfile(
                ProfileKind.PERSONAL, "Lan Tran", email, "1 Sample Street", "VN"
            ),
            currency=None,
            expected_version=0,
            actor=system_actor("tests"),
            idempotency_key="profile",
        )
    return account
