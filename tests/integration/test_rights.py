"""A write is done with the rights that its person has in its transaction, not with earlier ones."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.models import AccountMember, User
from domain import identity
from domain.accounts import memberships, open_account
from domain.actors import Actor, MemberRole, StaffRole, system_actor, user_actor
from domain.errors import BillingError, NotAuthorised, NotFound
from domain.identity import AuthPolicy, Client
from domain.permissions import require
from portal.runtime import database
from tests.support.keys import TEST_VAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

SYSTEM = system_actor("tests")
RULES = AuthPolicy(key=b"k" * 32)
CLIENT = Client("203.0.113.7", "a browser")


@pytest.fixture(autouse=True)
def _connected(database_url: str) -> Iterator[None]:
    database.connect(database_url, pool_size=5, vault=TEST_VAULT)
    yield
    database.disconnect()


def make_person(session: Session, *, staff_role: StaffRole | None = None) -> Actor:
    """Return a person who is signed in, an owner of one account."""
    user = identity.create_user(
        session,
        email=f"{staff_role or 'owner'}@example.com",
        display_name="Lan Tran",
        password="correct horse battery",
        staff_role=None,
        actor=SYSTEM,
    )
    open_account(
        session,
        site_code="vn",
        name="Lan",
        currency="VND",
        actor=SYSTEM,
        owner_user_id=user,
    )
    session.get_one(User, user).staff_role = staff_role
    session.flush()
    signed_in = identity.create_session(session, user_id=user, client=CLIENT, policy=RULES)
    return user_actor(
        user,
        staff_role=staff_role,
        memberships=memberships(session, user_id=user),
        session_id=identity.session_id_of(signed_in.token),
    )


def account_of(actor: Actor) -> int:
    [account_id] = actor.memberships
    return account_id


def manage(session: Session, *, actor: Actor, account_id: int) -> str:
    require(actor, "manage_members", account_id)
    return str(session.execute(text("SELECT 'managed'")).scalar_one())


def lower(session: Session, actor: Actor) -> None:
    session.get_one(AccountMember, (account_of(actor), actor.user_id)).role = MemberRole.READER


def remove(session: Session, actor: Actor) -> None:
    session.delete(session.get_one(AccountMember, (account_of(actor), actor.user_id)))


def disable(session: Session, actor: Actor) -> None:
    statement = "UPDATE users SET disabled_at = now() WHERE id = :id"
    session.execute(text(statement), {"id": actor.user_id})


def sign_out_everywhere(session: Session, actor: Actor) -> None:
    identity.revoke_all_sessions(session, actor=actor)


def expire(session: Session, actor: Actor) -> None:
    statement = "UPDATE user_sessions SET expires_at = now() WHERE user_id = :id"
    session.execute(text(statement), {"id": actor.user_id})


WAYS = [lower, remove, disable, sign_out_everywhere, expire]


def test_who_has_their_rights_acts() -> None:
    actor = database.transaction(make_person)
    assert database.transaction(manage, actor=actor, account_id=account_of(actor)) == "managed"
    with database.sessions(actor).begin() as session:
        assert manage(session, actor=actor, account_id=account_of(actor)) == "managed"


@pytest.mark.parametrize("lose", WAYS)
def test_a_write_has_the_rights_of_its_moment(lose: Callable[[Session, Actor], None]) -> None:
    actor = database.transaction(make_person)
    database.transaction(lambda session: lose(session, actor))
    refused = NotFound if lose is remove else NotAuthorised
    with pytest.raises(refused):
        database.transaction(manage, actor=actor, account_id=account_of(actor))


@pytest.mark.parametrize("lose", WAYS)
def test_a_service_with_its_own_transactions_stops_at_the_next(
    lose: Callable[[Session, Actor], None],
) -> None:
    actor = database.transaction(make_person)
    sessions = database.sessions(actor)
    with sessions.begin() as session:
        assert manage(session, actor=actor, account_id=account_of(actor)) == "managed"
    database.transaction(lambda session: lose(session, actor))
    with pytest.raises(NotAuthorised), sessions.begin() as session:
        session.execute(text("SELECT 1"))
    with database.sessions().begin() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1, "of nobody: as before"


def test_staff_role_that_was_taken_away_is_gone() -> None:
    actor = database.transaction(make_person, staff_role=StaffRole.FINANCE)

    def post(session: Session, *, actor: Actor) -> str:
        require(actor, "post_journal_entry")
        return str(session.execute(text("SELECT 'posted'")).scalar_one())

    assert database.transaction(post, actor=actor) == "posted"

    def dismiss(session: Session) -> None:
        statement = "UPDATE users SET staff_role = NULL WHERE id = :id"
        session.execute(text(statement), {"id": actor.user_id})

    database.transaction(dismiss)
    with pytest.raises(BillingError):
        database.transaction(post, actor=actor)
    with pytest.raises(NotAuthorised), database.sessions(actor).begin() as session:
        session.execute(text("SELECT 1"))


def test_a_right_that_was_gained_counts_too() -> None:
    actor = database.transaction(make_person)
    before = user_actor(actor.user_id or 0, session_id=actor.session_id)
    assert database.transaction(manage, actor=before, account_id=account_of(actor)) == "managed"


def test_jobs_have_no_rights_that_anybody_takes_away() -> None:
    def run(session: Session, *, actor: Actor) -> timedelta:
        require(actor, "run_jobs")
        return timedelta(seconds=session.execute(text("SELECT 1")).scalar_one())

    assert database.transaction(run, actor=SYSTEM) == timedelta(seconds=1)
