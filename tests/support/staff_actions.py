"""Members of staff, and what they do for accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from domain.actors import StaffRole, user_actor
from domain.identity import create_user
from domain.support import GiveGoodwill, perform_or_request
from tests.factories import SYSTEM, UNIT, next_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.support import StaffAction


LIMIT = 50
"""What the limit of goodwill is for support in dollars: twice the least top-up."""


@pytest.fixture
def make_person(session: Session) -> Callable[[StaffRole], Actor]:
    """Return a function that hires somebody."""

    def make(role: StaffRole) -> Actor:
        user_id = create_user(
            session,
            email=f"{next_key(role.value)}@example.com",
            display_name=f"{role.value.title()} Person",
            password="a long word of these tests",
            staff_role=role,
            actor=SYSTEM,
        )
        return user_actor(user_id, staff_role=role)

    return make


@pytest.fixture
def agent(make_person: Callable[[StaffRole], Actor]) -> Actor:
    return make_person(StaffRole.SUPPORT)


@pytest.fixture
def checker(make_person: Callable[[StaffRole], Actor]) -> Actor:
    return make_person(StaffRole.FINANCE)


def goodwill(amount: int) -> GiveGoodwill:
    return GiveGoodwill(amount * UNIT, days=30)


def do(session: Session, account: int, wish: StaffAction, actor: Actor, key: str = "") -> Any:
    return perform_or_request(
        session,
        account_id=account,
        action=wish,
        reason="Slow answers in March",
        actor=actor,
        idempotency_key=key or next_key("act"),
    )
