"""People of every role, and calls in their name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from domain import ledger
from domain.accounts import add_member
from domain.actors import Actor, MemberRole, StaffRole, system_actor, user_actor
from domain.billing_profiles import BillingProfile, ProfileKind
from domain.errors import BillingError, NotAuthorised, NotFound
from tests.factories import UNIT, next_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session


MEMBERS_FROM = 2


def people(account_id: int) -> dict[str, Actor]:
    return {
        "system": system_actor("tests"),
        **{role.value: user_actor(1, staff_role=role) for role in StaffRole},
        **{
            role.value: user_actor(number, memberships={account_id: role})
            for number, role in enumerate(MemberRole, start=MEMBERS_FROM)
        },
        "stranger": user_actor(9, memberships={account_id + 1: MemberRole.OWNER}),
    }


def add_people(session: Session, account_id: int) -> None:
    """Give the members rows, with the ids that `people` says: some services look again."""
    for number in range(1, MEMBERS_FROM):
        make_person(session, number)
    for number, role in enumerate(MemberRole, start=MEMBERS_FROM):
        add_member(
            session,
            account_id=account_id,
            user_id=make_person(session, number),
            role=role,
            actor=system_actor("tests"),
        )
    # A second owner, so that the first may go.
    add_member(
        session,
        account_id=account_id,
        user_id=make_person(session, MEMBERS_FROM + len(MemberRole)),
        role=MemberRole.OWNER,
        actor=system_actor("tests"),
    )


def make_person(session: Session, number: int) -> int:
    user_id = session.execute(
        text(
            "INSERT INTO users (email, display_name, password_hash)"
            " VALUES (:email, 'Sample', '') RETURNING id"
        ),
        {"email": f"sample-{number}@example.com"},
    ).scalar_one()
    assert user_id == number
    return number


def call(service: Callable[..., Any], **fixed: Any) -> Callable[[Session, int, Actor], Any]:
    def act(session: Session, account: int, actor: Actor) -> Any:
        return service(session, account_id=account, actor=actor, **fixed)

    return act


def hold(session: Session, account: int, actor: Actor) -> Any:
    return ledger.place_hold(
        session,
        account_id=account,
        service="gpu-vm",
        amount_micros=UNIT,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        source="vm",
        actor=actor,
        idempotency_key=next_key(),
    )


PROFILE = BillingProfile(
    kind=ProfileKind.PERSONAL,
    name="Sample",
    email="sample@example.com",
    address="1 Rue Sample",
    country="FR",
)


def may(
    act: Callable[[Session, int, Actor], Any], session: Session, account: int, actor: Actor
) -> bool:
    """Whether the right to act was not in question; the act may fail for lack of a hold or debt."""
    try:
        act(session, account, actor)
    except NotAuthorised:
        return False
    except NotFound as missing:
        return missing.kind != "account"
    except BillingError:
        return True
    return True
