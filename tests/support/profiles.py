"""Accounts with billing information."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.billing_profiles import BillingProfile, ProfileKind, save_profile
from tests.factories import SYSTEM, make_account

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def account_with_profile(session: Session) -> int:
    account = make_account(session)
    save_profile(
        session,
        account_id=account,
        profile=BillingProfile(
            ProfileKind.PERSONAL, "Lan Tran", "lan@example.com", "1 Sample Street", "SG"
        ),
        currency=None,
        expected_version=0,
        actor=SYSTEM,
        idempotency_key="profile",
    )
    return account
