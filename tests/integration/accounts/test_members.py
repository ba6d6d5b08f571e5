"""Who belongs to an account: invited, accepted, changed, removed, on a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text, update

from db.models import AccountInvitation, AuditRecord, OutboxMessage, User
from domain import accounts, identity
from domain.accounts import invitations, members
from domain.actors import Actor, MemberRole, StaffRole, system_actor, user_actor
from domain.errors import (
    BillingError,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NotAuthorised,
    NotFound,
    RateLimited,
)
from domain.identity import AuthPolicy, Client
from domain.staff import RoleRequest, change_staff_role, disable_user, withdraw_role_request
from tests.factories import make_account, next_key
from tests.support.keys import parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from tests.conftest import TestClock

SYSTEM = system_actor("tests")
RULES = AuthPolicy(key=b"a key of the tests")
CLIENT = Client("192.0.2.10", "Firefox", "en")
PASSWORD = "violet-kettle-9-march"


@pytest.fixture
def account(session: Session) -> int:
    return make_account(session)


def person(session: Session, email: str) -> int:
    return identity.create_user(
        session,
        email=email,
        display_name=email.partition("@")[0],
        password=PASSWORD,
        staff_role=None,
        actor=SYSTEM,
    )


def member(session: Session, account: int, email: str, role: MemberRole) -> Actor:
    user_id = person(session, email)
    accounts.add_member(session, account_id=account, user_id=user_id, role=role, actor=SYSTEM)
    return acting(session, user_id)


def acting(session: Session, user_id: int) -> Actor:
    return user_actor(user_id, memberships=accounts.memberships(session, user_id=user_id))


def invite(
    session: Session,
    account: int,
    actor: Actor,
    email: str = "lan@example.com",
    *,
    role: MemberRole = MemberRole.BILLING,
    key: str | None = None,
) -> int:
    return invitations.invite_member(
        session,
        account_id=account,
        email=email,
        role=role,
        actor=actor,
        idempotency_key=key or next_key(),
        policy=RULES,
    )


def mailed_token(session: Session) -> str:
    newest = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id.desc()).limit(1)).one()
    assert newest.template == "invitation"
    return str(parameters_of(session, newest)["token"])


def roles(session: Session, account: int) -> dict[str, MemberRole]:
    seen = members.list_members(session, actor=SYSTEM, account_id=account)
    return {each.email: each.role for each in seen.members}


def actions(session: Session, account: int) -> list[str]:
    return list(
        session.scalars(
            select(AuditRecord.action)
            .where(AuditRecord.account_id == account)
            .order_by(AuditRecord.id)
        )
    )


def change(session: Session, account: int, target: Actor, role: MemberRole, actor: Actor) -> None:
    members.change_role(
        session,
        account_id=account,
        user_id=target.user_id or 0,
        role=role,
        actor=actor,
        idempotency_key=next_key(),
    )


def remove(
    session: Session, account: int, target: Actor, actor: Actor, key: str | None = None
) -> None:
    members.remove_member(
        session,
        account_id=account,
        user_id=target.user_id or 0,
        actor=actor,
        idempotency_key=key or next_key(),
    )


# ── Invitations ────────────────────────────────────────────────────────────────────────────────
def test_an_invited_person_accepts_and_belongs(session: Session, account: int) -> None:
    owner = member(session, account, "owner@example.com", MemberRole.OWNER)
    lan = person(session, "lan@example.com")
    invite(session, account, owner, " Lan@Example.com ")
    token = mailed_token(session)
    offer = invitations.find_offer(session, token=token)
    assert (offer.account_id, offer.email, offer.role) == (
        account,
        "lan@example.com",
        MemberRole.BILLING,
    )
    assert offer.is_known
    assert invitations.accept_invitation(session, token=token, actor=user_actor(lan)) == account
    assert roles(session, account) == {
        "owner@example.com": MemberRole.OWNER,
        "lan@example.com": MemberRole.BILLING,
    }
    assert members.list_members(session, actor=owner, account_id=account).invitations == ()
    assert actions(session, account)[-2:] == ["invite_member", "accept_invitation"]


def test_only_a_digest_of_the_token_is_kept(session: Session, account: int) -> None:
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    kept = session.scalars(select(AccountInvitation.token_digest)).one()
    assert token.encode() not in kept
    assert kept == identity.token_digest(token)
    message = session.scalars(select(AuditRecord.details)).all()
    assert token not in str(message)
    assert "lan@example.com" not in str(message)


def test_the_mail_names_who_invites_by_their_address_alone(session: Session, account: int) -> None:
    owner = member(session, account, "owner@example.com", MemberRole.OWNER)
    invite(session, account, owner)
    mail = session.scalars(select(OutboxMessage)).one()
    assert mail.recipient == "lan@example.com"
    assert {**parameters_of(session, mail), "token": ""} == {
        "token": "",
        "days": 7,
        "inviter": "owner@example.com",
    }


def test_a_link_is_for_its_address_alone(session: Session, account: int) -> None:
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    other = person(session, "other@example.com")
    with pytest.raises(NotFound):
        invitations.accept_invitation(session, token=token, actor=user_actor(other))
    lan = person(session, "lan@example.com")
    session.execute(update(User).where(User.id == lan).values(email_verified_at=None))
    with pytest.raises(NotFound):
        invitations.accept_invitation(session, token=token, actor=user_actor(lan))
    with pytest.raises(NotFound):
        invitations.accept_invitation(session, token=token, actor=SYSTEM)
    assert roles(session, account) == {}


def test_a_link_works_for_seven_days_and_once(
    session: Session, clock: TestClock, account: int
) -> None:
    lan = user_actor(person(session, "lan@example.com"))
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    clock.advance(days=6, hours=23)
    assert invitations.accept_invitation(session, token=token, actor=lan) == account
    assert invitations.accept_invitation(session, token=token, actor=lan) == account
    assert actions(session, account).count("accept_invitation") == 1
    remove(session, account, lan, SYSTEM)
    with pytest.raises(NotFound):
        invitations.find_offer(session, token=token)
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    clock.advance(days=7)
    with pytest.raises(NotFound):
        invitations.find_offer(session, token=token)
    with pytest.raises(NotFound):
        invitations.accept_invitation(session, token=token, actor=lan)
    assert roles(session, account) == {}


def test_a_used_link_does_not_bring_a_removed_member_back(session: Session, account: int) -> None:
    lan = user_actor(person(session, "lan@example.com"))
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    invitations.accept_invitation(session, token=token, actor=lan)
    remove(session, account, lan, SYSTEM)
    invitations.accept_invitation(session, token=token, actor=lan)
    assert roles(session, account) == {}


def test_sending_again_makes_a_new_link_and_ends_the_old(
    session: Session, clock: TestClock, account: int
) -> None:
    invitation = invite(session, account, SYSTEM)
    old = mailed_token(session)
    clock.advance(days=8)
    (pending,) = members.list_members(session, actor=SYSTEM, account_id=account).invitations
    assert pending.is_expired
    for _ in range(2):
        invitations.resend_invitation(
            session,
            account_id=account,
            invitation_id=invitation,
            actor=SYSTEM,
            idempotency_key="again",
            policy=RULES,
        )
    assert session.scalar(text("SELECT count(*) FROM outbox_messages")) == 2
    with pytest.raises(NotFound):
        invitations.find_offer(session, token=old)
    assert invitations.find_offer(session, token=mailed_token(session)).account_id == account
    (pending,) = members.list_members(session, actor=SYSTEM, account_id=account).invitations
    assert not pending.is_expired
    assert pending.expires_at - pending.sent_at == timedelta(days=7)


def test_a_withdrawn_invitation_is_dead(session: Session, account: int) -> None:
    invitation = invite(session, account, SYSTEM)
    for _ in range(2):
        invitations.withdraw_invitation(
            session,
            account_id=account,
            invitation_id=invitation,
            actor=SYSTEM,
            idempotency_key="withdraw",
        )
    with pytest.raises(NotFound):
        invitations.find_offer(session, token=mailed_token(session))
    with pytest.raises(NotFound):
        invitations.withdraw_invitation(
            session,
            account_id=account,
            invitation_id=invitation,
            actor=SYSTEM,
            idempotency_key="withdraw-2",
        )
    assert actions(session, account).count("withdraw_invitation") == 1
    invite(session, account, SYSTEM)


def test_nobody_is_invited_twice(session: Session, account: int) -> None:
    member(session, account, "owner@example.com", MemberRole.OWNER)
    with pytest.raises(Conflict, match="already_a_member"):
        invite(session, account, SYSTEM, "owner@example.com")
    first = invite(session, account, SYSTEM, key="once")
    with pytest.raises(Conflict, match="already_invited"):
        invite(session, account, SYSTEM)
    assert invite(session, account, SYSTEM, key="once") == first
    with pytest.raises(IdempotencyMismatch):
        invite(session, account, SYSTEM, role=MemberRole.OWNER, key="once")
    with pytest.raises(InvalidInput):
        invite(session, account, SYSTEM, "no address")
    assert session.scalar(text("SELECT count(*) FROM outbox_messages")) == 1


@pytest.mark.usefixtures("clock")
def test_invitations_are_no_way_to_mail_strangers_without_end(
    session: Session, account: int
) -> None:
    for number in range(30):
        invite(session, account, SYSTEM, f"stranger-{number}@example.com")
    with pytest.raises(RateLimited):
        invite(session, account, SYSTEM, "one-more@example.com")


@pytest.mark.usefixtures("clock")
def test_one_administrator_does_not_mail_strangers_from_many_accounts(session: Session) -> None:
    admin = user_actor(person(session, "a@example.com"), staff_role=StaffRole.ADMIN)
    for number in range(30):
        account = make_account(session)
        invite(session, account, admin, f"stranger-{number}@example.com")
    with pytest.raises(RateLimited), session.begin_nested():
        invite(session, make_account(session), admin, "one-more@example.com")
    invite(session, make_account(session), SYSTEM, "one-more@example.com")


@pytest.mark.usefixtures("clock")
def test_one_address_is_not_mailed_from_many_accounts(session: Session) -> None:
    for _ in range(3):
        invite(session, make_account(session), SYSTEM)
    with pytest.raises(RateLimited):
        invite(session, make_account(session), SYSTEM)


def test_an_invited_stranger_signs_up_and_is_in(
    sessions: sessionmaker[Session], session: Session, account: int
) -> None:
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    assert not invitations.find_offer(session, token=token).is_known
    session.commit()
    signed_in, joined = invitations.sign_up_invited(
        sessions,
        token=token,
        display_name="Lan",
        password=PASSWORD,
        client=CLIENT,
        policy=RULES,
    )
    assert joined == account
    user = identity.session_actor(session, token=signed_in.token, policy=RULES)
    assert user is not None
    assert user.memberships == {account: MemberRole.BILLING}
    with pytest.raises(NotFound):
        invitations.sign_up_invited(
            sessions,
            token=token,
            display_name="Lan",
            password=PASSWORD,
            client=CLIENT,
            policy=RULES,
        )


def test_who_has_an_account_with_the_address_must_sign_in(
    sessions: sessionmaker[Session], session: Session, account: int
) -> None:
    invite(session, account, SYSTEM)
    person(session, "lan@example.com")
    token = mailed_token(session)
    session.commit()
    with pytest.raises(Conflict, match="email_taken"):
        invitations.sign_up_invited(
            sessions,
            token=token,
            display_name="Not Lan",
            password="another-kettle-9-march",
            client=CLIENT,
            policy=RULES,
        )


# ── Roles, and leaving ─────────────────────────────────────────────────────────────────────────
def test_a_role_changes_once_and_is_told(session: Session, account: int) -> None:
    owner = member(session, account, "owner@example.com", MemberRole.OWNER)
    lan = member(session, account, "lan@example.com", MemberRole.READER)
    change(session, account, lan, MemberRole.OWNER, owner)
    change(session, account, lan, MemberRole.OWNER, owner)
    assert roles(session, account)["lan@example.com"] is MemberRole.OWNER
    details = session.scalars(
        select(AuditRecord.details).where(AuditRecord.action == "change_role")
    ).all()
    assert details == [{"user_id": lan.user_id, "from": "reader", "to": "owner"}]
    change(session, account, owner, MemberRole.READER, owner)
    with pytest.raises(NotAuthorised):
        change(session, account, lan, MemberRole.READER, owner)


def test_the_last_owner_stays(session: Session, account: int) -> None:
    owner = member(session, account, "owner@example.com", MemberRole.OWNER)
    member(session, account, "billing@example.com", MemberRole.BILLING)
    with pytest.raises(Conflict, match="last_owner"):
        change(session, account, owner, MemberRole.READER, owner)
    with pytest.raises(Conflict, match="last_owner"):
        remove(session, account, owner, SYSTEM)
    with pytest.raises(Conflict, match="last_owner"):
        members.leave_account(session, account_id=account, actor=owner, idempotency_key="leave")
    assert roles(session, account)["owner@example.com"] is MemberRole.OWNER


def test_an_owner_who_cannot_sign_in_does_not_count(session: Session, account: int) -> None:
    owner = member(session, account, "owner@example.com", MemberRole.OWNER)
    gone = member(session, account, "gone@example.com", MemberRole.OWNER)
    disable_user(session, user_id=gone.user_id or 0, is_disabled=True, reason="left", actor=SYSTEM)
    with pytest.raises(Conflict, match="last_owner"):
        remove(session, account, owner, SYSTEM)
    remove(session, account, gone, owner)
    assert list(roles(session, account)) == ["owner@example.com"]


def test_removing_once_under_one_key(session: Session, account: int) -> None:
    owner = member(session, account, "owner@example.com", MemberRole.OWNER)
    lan = member(session, account, "lan@example.com", MemberRole.READER)
    remove(session, account, lan, owner, "once")
    remove(session, account, lan, owner, "once")
    with pytest.raises(NotFound):
        remove(session, account, lan, owner)
    assert actions(session, account).count("remove_member") == 1


def test_a_member_leaves_and_may_say_so_twice(session: Session, account: int) -> None:
    member(session, account, "owner@example.com", MemberRole.OWNER)
    lan = member(session, account, "lan@example.com", MemberRole.READER)
    for actor in (lan, user_actor(lan.user_id or 0)):
        members.leave_account(session, account_id=account, actor=actor, idempotency_key="bye")
    assert list(roles(session, account)) == ["owner@example.com"]
    with pytest.raises(NotFound):
        members.leave_account(
            session, account_id=account, actor=user_actor(lan.user_id or 0), idempotency_key="x"
        )


def test_a_removed_members_session_loses_the_account_at_once(
    session: Session, account: int
) -> None:
    member(session, account, "owner@example.com", MemberRole.OWNER)
    lan = member(session, account, "lan@example.com", MemberRole.READER)
    signed_in = identity.create_session(
        session, user_id=lan.user_id or 0, client=CLIENT, policy=RULES
    )
    before = identity.session_actor(session, token=signed_in.token, policy=RULES)
    assert before is not None
    assert before.account_id == account
    remove(session, account, lan, SYSTEM)
    after = identity.session_actor(session, token=signed_in.token, policy=RULES)
    assert after is not None
    assert after.account_id is None
    with pytest.raises(NotFound):
        members.list_members(session, actor=after.actor(None), account_id=account)


def test_readers_see_the_people_and_not_the_invitations(session: Session, account: int) -> None:
    owner = member(session, account, "owner@example.com", MemberRole.OWNER)
    reader = member(session, account, "reader@example.com", MemberRole.READER)
    invite(session, account, owner)
    seen = members.list_members(session, actor=reader, account_id=account)
    assert [each.email for each in seen.members] == ["owner@example.com", "reader@example.com"]
    assert (seen.invitations, seen.may_manage) == ((), False)
    support = user_actor(person(session, "s@example.com"), staff_role=StaffRole.SUPPORT)
    assert members.list_members(session, actor=support, account_id=account).invitations == ()
    admin = user_actor(person(session, "a@example.com"), staff_role=StaffRole.ADMIN)
    seen = members.list_members(session, actor=admin, account_id=account)
    assert [each.email for each in seen.invitations] == ["lan@example.com"]
    assert seen.may_manage


# ── Staff keep to their own side ───────────────────────────────────────────────────────────────
def admin_of(session: Session) -> Actor:
    user_id = person(session, "admin@example.com")
    session.get_one(User, user_id).staff_role = StaffRole.ADMIN
    session.flush()
    return user_actor(user_id, staff_role=StaffRole.ADMIN)


def set_role(
    session: Session, user_id: int, role: StaffRole | None, admin: Actor
) -> RoleRequest | None:
    return change_staff_role(session, user_id=user_id, role=role, reason="hired", actor=admin)


def test_staff_accept_no_invitation_and_it_stays_open(session: Session, account: int) -> None:
    admin, agent = admin_of(session), person(session, "lan@example.com")
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    set_role(session, agent, StaffRole.SUPPORT, admin)
    for _ in range(2):
        with pytest.raises(Conflict, match="staff_role"):
            invitations.accept_invitation(session, token=token, actor=user_actor(agent))
    assert roles(session, account) == {}
    assert actions(session, account).count("accept_invitation") == 0
    seen = members.list_members(session, actor=SYSTEM, account_id=account)
    assert [each.email for each in seen.invitations] == ["lan@example.com"]
    # Who has no role any more accepts it, and a role takes two from then on.
    set_role(session, agent, None, admin)
    invitations.accept_invitation(session, token=token, actor=user_actor(agent))
    assert roles(session, account) == {"lan@example.com": MemberRole.BILLING}
    assert set_role(session, agent, StaffRole.SUPPORT, admin) is not None


def test_member_who_became_staff_keeps_their_place(session: Session, account: int) -> None:
    lan = person(session, "lan@example.com")
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    invitations.accept_invitation(session, token=token, actor=user_actor(lan))
    session.get_one(User, lan).staff_role = StaffRole.SUPPORT
    session.flush()
    assert invitations.accept_invitation(session, token=token, actor=user_actor(lan)) == account
    assert roles(session, account) == {"lan@example.com": MemberRole.BILLING}


def test_staff_get_no_place_by_other_ways(session: Session, account: int) -> None:
    admin = admin_of(session)
    with pytest.raises(Conflict, match="staff_role"):
        accounts.add_member(
            session,
            account_id=account,
            user_id=admin.user_id or 0,
            role=MemberRole.OWNER,
            actor=SYSTEM,
        )
    with pytest.raises(Conflict, match="staff_role"):
        accounts.open_account(
            session,
            site_code="global",
            name="Own",
            currency="USD",
            owner_user_id=admin.user_id,
            actor=SYSTEM,
        )


def test_who_is_about_to_get_a_role_gets_no_place_meanwhile(session: Session, account: int) -> None:
    """Else the second administrator would approve a role for a member without a word of it."""
    admin = admin_of(session)
    user_id = person(session, "waits@example.com")
    request = set_role(session, user_id, StaffRole.FINANCE, admin)
    assert request is not None
    join = partial(
        accounts.add_member,
        session,
        account_id=account,
        user_id=user_id,
        role=MemberRole.READER,
        actor=SYSTEM,
    )
    with pytest.raises(Conflict, match="staff_role"):
        join()
    withdraw_role_request(session, request_id=request.request_id, actor=admin)
    join()


def test_invitation_does_not_tell_who_is_staff(session: Session, account: int) -> None:
    admin_of(session)
    owner = member(session, account, "owner@example.com", MemberRole.OWNER)
    for email in ("admin@example.com", "stranger@example.com"):
        invite(session, account, owner, email)
    seen = members.list_members(session, actor=owner, account_id=account)
    open_to = [each.email for each in seen.invitations]
    assert open_to == ["stranger@example.com", "admin@example.com"]
    addressed = select(OutboxMessage.recipient).where(OutboxMessage.template == "invitation")
    assert len(session.scalars(addressed).all()) == 2


@pytest.mark.parametrize("is_first", ["place", "role"])
def test_role_and_place_at_once_do_not_cross(
    sessions: sessionmaker[Session], session: Session, account: int, is_first: str
) -> None:
    """The second one waits for the first to be committed, and sees it."""
    admin, lan = admin_of(session), person(session, "lan@example.com")
    invite(session, account, SYSTEM)
    token = mailed_token(session)
    session.commit()

    def take_place(mine: Session) -> str:
        try:
            invitations.accept_invitation(mine, token=token, actor=user_actor(lan))
        except Conflict as refusal:
            return refusal.reason
        return "joined"

    def take_role(mine: Session) -> str:
        return "waits" if set_role(mine, lan, StaffRole.SUPPORT, admin) else "hired"

    first, second = (take_place, take_role) if is_first == "place" else (take_role, take_place)

    def follow() -> str:
        with sessions.begin() as mine:
            return second(mine)

    waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as mine:
            found = first(mine)
            later = pool.submit(follow)
            while not session.scalar(waiting):
                assert not later.done(), "the second one did not wait"
        message = found, later.result()
    assert message == (("joined", "waits") if is_first == "place" else ("hired", "staff_role"))


# ── At the same time, on two connections ───────────────────────────────────────────────────────
def _race(sessions: sessionmaker[Session], acts: list[Callable[[Session], None]]) -> list[str]:
    barrier = Barrier(len(acts))

    def run(act: Callable[[Session], None]) -> str:
        with sessions() as session:
            session.execute(text("SELECT 1"))
            barrier.wait()
            try:
                act(session)
                session.commit()
            except BillingError as error:
                session.rollback()
                return error.code
        return "done"

    with ThreadPoolExecutor(len(acts)) as threads:
        return sorted(threads.map(run, acts))


@pytest.mark.parametrize("round_number", range(5))
def test_two_owners_who_remove_each_other_leave_one(
    sessions: sessionmaker[Session], round_number: int
) -> None:
    with sessions() as session:
        account = make_account(session)
        one = member(session, account, f"one{round_number}@example.com", MemberRole.OWNER)
        two = member(session, account, f"two{round_number}@example.com", MemberRole.OWNER)
        one, two = (acting(session, each.user_id or 0) for each in (one, two))
        session.commit()
    outcomes = _race(
        sessions,
        [
            lambda session: remove(session, account, two, one),
            lambda session: remove(session, account, one, two),
        ],
    )
    assert outcomes == ["done", "not_found"]
    with sessions() as session:
        assert list(roles(session, account).values()) == [MemberRole.OWNER]


def test_two_owners_who_leave_at_once_leave_one(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        account = make_account(session)
        owners = [
            member(session, account, f"{name}@example.com", MemberRole.OWNER)
            for name in ("one", "two")
        ]
        session.commit()

    def leave(actor: Actor) -> Callable[[Session], None]:
        return lambda session: members.leave_account(
            session, account_id=account, actor=actor, idempotency_key=next_key()
        )

    assert _race(sessions, [leave(actor) for actor in owners]) == ["conflict", "done"]
    with sessions() as session:
        assert list(roles(session, account).values()) == [MemberRole.OWNER]


def test_the_second_of_two_waits_for_the_first_and_is_refused(
    sessions: sessionmaker[Session],
) -> None:
    """Two connections by hand: the second waits on the account's lock until the first commits."""
    with sessions() as session:
        account = make_account(session)
        one = member(session, account, "one@example.com", MemberRole.OWNER)
        two = member(session, account, "two@example.com", MemberRole.OWNER)
        session.commit()
    with sessions() as first, sessions() as second:
        remove(first, account, two, one)
        second.execute(text("SET LOCAL lock_timeout = '200ms'"))
        with pytest.raises(Exception, match="lock timeout"):
            remove(second, account, one, two)
        second.rollback()
        first.commit()
        with pytest.raises(NotFound):
            remove(second, account, one, two)
    with sessions() as session:
        assert list(roles(session, account)) == ["one@example.com"]


def test_one_link_opened_twice_at_once_gives_one_place(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        account = make_account(session)
        lan = user_actor(person(session, "lan@example.com"))
        invite(session, account, SYSTEM)
        token = mailed_token(session)
        session.commit()

    def accept(session: Session) -> None:
        invitations.accept_invitation(session, token=token, actor=lan)

    assert _race(sessions, [accept, accept]) == ["done", "done"]
    with sessions() as session:
        assert actions(session, account).count("accept_invitation") == 1
        assert list(roles(session, account)) == ["lan@example.com"]
