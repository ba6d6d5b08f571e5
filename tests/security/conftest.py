"""People who attack a portal by hand, or are attacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from db.models import User, UserSession
from portal import demo
from tests.security.streamlit_client import sign_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture
def cookies_of(portal_url: str) -> Callable[[str], str]:
    """Sign somebody in, and return their cookies."""
    return lambda email: sign_in(portal_url, email, demo.PASSWORD)


@pytest.fixture
def revoke(portal_sessions: sessionmaker[Session]) -> Callable[[str], None]:
    """End all sessions of a person, as signing out everywhere does."""

    def ended(email: str) -> None:
        with portal_sessions.begin() as session:
            person = session.query(User.id).filter_by(email=email).scalar_subquery()
            session.execute(
                update(UserSession)
                .where(UserSession.user_id == person)
                .values(revoked_at=UserSession.created_at)
            )

    return ended
