"""Colleagues who are invited as staff by mail: who may, what ends a link, whom a role reaches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from db.models import AccountMember, AuditRecord, OutboxMessage, StaffInvitation, User
from domain import identity
from domain.accounts.invitations import invite_member
from domain.accounts.sign_up import SignUp, sign_up
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import BillingError, Conflict, InvalidInput, NotAuthorised, NotFound, RateLimited
from domain.identity import AuthPolicy, Client, SignIn, SignInOutcome, purge_identity
from domain.staff import (
    MAX_OPEN_INVITATIONS,
    Invitation,
    InvitationState,
    RequestState,
    RoleRequest,
    accept_staff_invitation,
    approve_role_request,
    change_staff_role,
    disable_user,
    end_due_role_requests,
    find_person,
    find_role_offer,
    invitations,
    invite_staff,
    list_role_requests,
    list_staff_invitations,
    resend_staff_invitation,
    roles,
    withdraw_staff_invitation,
)
from tests.factories import SYSTEM, make_account, next_key
from tests.support.keys import KNOWS_KEYS, parameters_of
from tests.support.staff_actions import make_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from tests.conftest import TestClock

    Make = Callable[[StaffRole], Actor]

__all__ = ["make_person"]

SUPPORT, FINANCE, ADMIN = StaffRole.SUPPORT, StaffRole.FINANCE, StaffRole.ADMIN
EMAIL = "lan@example.com"
PASSWORD = "violet-kettle-9-march"
CLIENT = Client("192.0.2.10", "Firefox", "en")
RULES = AuthPolicy(key=b"a key of the tests")
STRICT = replace(RULES, second_factor_roles=frozenset(StaffRole))


@pytest.fixture(autouse=True)
def _knows_keys(sessions: sessionmaker[Session]) -> None:
    """Have services that make transactions of their own seal what second factors are made of."""
    sessions.configure(info=KNOWS_KEYS)


def invite(
    session: Session, by: Actor, email: str = EMAIL, *, role: StaffRole = SUPPORT
) -> Invitation:
    return invite_staff(session, email=email, role=role, reason="hired", actor=by, policy=RULES)


def resend(session: Session, invitation: Invitation, by: Actor) -> Invitation:
    return resend_staff_invitation(
        session,
        invitation_id=invitation.invitation_id,
        sent_at=invitation.sent_at,
        actor=by,
        policy=RULES,
    )


def withdraw(session: Session, invitation: Invitation, by: Actor) -> None:
    withdraw_staff_invitation(session, invitation_id=invitation.invitation_id, actor=by)


def accept(
    sessions: sessionmaker[Session],
    token: str,
    *,
    name: str = "Lan",
    password: str = PASSWORD,
    policy: AuthPolicy = RULES,
) -> tuple[SignIn, RoleRequest | None]:
    return accept_staff_invitation(
        sessions, token=token, display_name=name, password=password, client=CLIENT, policy=policy
    )


def mailed_token(session: Session, email: str = EMAIL) -> str:
    """Return the token of the newest link that was mailed to an address."""
    newest = select(OutboxMessage).where(
        OutboxMessage.template == "staff_invitation", OutboxMessage.recipient == email
    )
    row = session.scalars(newest.order_by(OutboxMessage.id.desc()).limit(1)).one()
    return str(parameters_of(session, row)["token"])


def count_links(session: Session) -> int:
    sent = select(func.count()).where(OutboxMessage.template == "staff_invitation")
    return session.scalars(sent).one()


def steps(session: Session) -> list[tuple[str, str]]:
    """Return the step and the recipient of each mail to administrators, in their order."""
    rows = session.scalars(
        select(OutboxMessage)
        .where(OutboxMessage.template == "staff_change")
        .order_by(OutboxMessage.id)
    )
    return [(parameters_of(session, row)["step"], row.recipient) for row in rows]


def role_of(session: Session, email: str = EMAIL) -> str | None:
    """Return somebody's role as it is committed now; None also where there is nobody."""
    session.rollback()
    return session.scalars(select(User.staff_role).where(User.email == email)).one_or_none()


def is_person(session: Session, email: str = EMAIL) -> bool:
    session.rollback()
    return session.scalars(select(User.id).where(User.email == email)).one_or_none() is not None


def address(session: Session, who: Actor) -> str:
    return session.scalars(select(User.email).where(User.id == who.user_id)).one()


def actions(session: Session) -> list[str]:
    return list(
        session.scalars(
            select(AuditRecord.action)
            .where(AuditRecord.action.like("%staff%"))
            .order_by(AuditRecord.id)
        )
    )


def change(session: Session, who: Actor, role: StaffRole | None) -> None:
    change_staff_role(session, user_id=who.user_id or 0, role=role, reason="moved", actor=SYSTEM)


def disable(session: Session, who: Actor, *, is_disabled: bool = True) -> None:
    disable_user(
        session, user_id=who.user_id or 0, is_disabled=is_disabled, reason="left", actor=SYSTEM
    )


def make_customer(session: Session, email: str = EMAIL) -> int:
    return identity.create_user(
        session,
        email=email,
        display_name="Lan",
        password=PASSWORD,
        staff_role=None,
        actor=SYSTEM,
    )


# ── Hired by mail ──────────────────────────────────────────────────────────────────────────────
def test_invited_colleague_has_the_role_and_no_account(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    admin, _other = make_person(ADMIN), make_person(ADMIN)
    sent = invite(session, admin, " Lan@Example.com ")
    assert (sent.email, sent.role, sent.state) == (EMAIL, SUPPORT, InvitationState.OPEN)
    assert sent.expires_at - sent.sent_at == timedelta(days=7)
    token = mailed_token(session)
    session.commit()
    offer = find_role_offer(session, token=token)
    assert (offer.email, offer.role, offer.is_known) == (EMAIL, SUPPORT, False)
    assert not offer.takes_approval
    signed_in, request = accept(sessions, token)
    assert request is None
    assert signed_in.outcome is SignInOutcome.SIGNED_IN
    assert role_of(session) == SUPPORT
    person = session.scalars(select(User).where(User.email == EMAIL)).one()
    assert person.email_verified_at is not None
    assert session.scalars(select(func.count()).select_from(AccountMember)).one() == 0
    user = identity.session_actor(session, token=signed_in.token, policy=RULES)
    assert user is not None
    assert (user.staff_role, user.memberships) == (SUPPORT, {})
    assert list_staff_invitations(session, actor=admin) == ()
    found = find_person(session, email=EMAIL, actor=admin)
    assert (found.given_by, found.approved_by) == (f"user:{admin.user_id}", None)


def test_each_step_is_audited_and_mailed_to_all_administrators(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    make_person(FINANCE)
    everybody = [address(session, each) for each in (first, second)]
    withdraw(session, resend(session, invite(session, first), second), second)
    invite(session, first)
    token = mailed_token(session)
    session.commit()
    accept(sessions, token)
    assert steps(session) == [
        (step, who)
        for step in (
            "invited",
            "invitation_sent_again",
            "invitation_withdrawn",
            "invited",
            "invitation_accepted",
        )
        for who in everybody
    ]
    assert actions(session) == [
        "invite_staff",
        "resend_staff_invitation",
        "withdraw_staff_invitation",
        "invite_staff",
        "accept_staff_invitation",
        "change_staff_role",
    ]
    rows = session.execute(
        select(AuditRecord.action, AuditRecord.actor, AuditRecord.address, AuditRecord.details)
        .where(AuditRecord.action.in_(("accept_staff_invitation", "change_staff_role")))
        .order_by(AuditRecord.id)
    ).all()
    new = session.scalars(select(User.id).where(User.email == EMAIL)).one()
    assert [row.actor for row in rows] == [f"user:{new}", f"user:{first.user_id}"]
    assert rows[0].address == CLIENT.address
    assert rows[0].details["user_id"] == new
    assert (rows[1].details["from"], rows[1].details["to"]) == (None, "support")


def test_only_a_digest_is_kept_and_the_log_names_no_address(
    session: Session, make_person: Make
) -> None:
    invite(session, make_person(ADMIN))
    token = mailed_token(session)
    kept = session.scalars(select(StaffInvitation.token_digest)).one()
    assert kept == identity.token_digest(token)
    message = str(session.scalars(select(AuditRecord.details)).all())
    assert token not in message
    assert EMAIL not in message


@pytest.mark.parametrize(
    ("role", "outcome"),
    [
        (SUPPORT, SignInOutcome.SET_UP_FACTOR),
        (FINANCE, SignInOutcome.SIGNED_IN),
        (ADMIN, SignInOutcome.SIGNED_IN),
    ],
)
def test_role_that_wants_a_second_factor_sets_one_up_first(
    sessions: sessionmaker[Session],
    session: Session,
    make_person: Make,
    role: StaffRole,
    outcome: SignInOutcome,
) -> None:
    """Who waits for a second administrator has no role yet, and is asked once there is one."""
    invite(session, make_person(ADMIN), role=role)
    token = mailed_token(session)
    session.commit()
    signed_in, _request = accept(sessions, token, policy=STRICT)
    assert signed_in.outcome is outcome
    again = identity.authenticate(
        sessions, email=EMAIL, password=PASSWORD, client=CLIENT, policy=STRICT
    )
    assert again.outcome is outcome


# ── Finance and administrators take two ────────────────────────────────────────────────────────
@pytest.mark.parametrize("role", [FINANCE, ADMIN])
def test_invited_colleague_waits_for_a_second_administrator(
    sessions: sessionmaker[Session], session: Session, make_person: Make, role: StaffRole
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    invite(session, first, role=role)
    token = mailed_token(session)
    assert find_role_offer(session, token=token).takes_approval
    session.commit()
    signed_in, request = accept(sessions, token)
    assert request is not None
    assert (request.state, request.requested_by) == (
        RequestState.REQUESTED,
        f"user:{first.user_id}",
    )
    assert request.effective_at is None
    assert role_of(session) is None
    me = user_actor(request.user_id)
    for nobody in (first, me, replace(me, staff_role=ADMIN)):
        with pytest.raises(NotAuthorised):
            approve_role_request(session, request_id=request.request_id, actor=nobody)
    approve_role_request(session, request_id=request.request_id, actor=second)
    session.commit()
    assert role_of(session) == role
    # Whoever is changed signs in again.
    assert identity.session_actor(session, token=signed_in.token, policy=RULES) is None
    found = find_person(session, email=EMAIL, actor=first)
    assert (found.given_by, found.approved_by) == (
        f"user:{first.user_id}",
        f"user:{second.user_id}",
    )
    assert [step for step, _who in steps(session)] == ["invited"] * 2 + ["requested"] * 2 + [
        "applied"
    ] * (3 if role is ADMIN else 2)


def test_invited_administrator_of_a_sole_one_waits_24_hours(
    sessions: sessionmaker[Session], session: Session, make_person: Make, clock: TestClock
) -> None:
    clock.instant = datetime.now(clock.instant.tzinfo)  # `accept` goes by the database's clock
    invite(session, make_person(ADMIN), role=ADMIN)
    token = mailed_token(session)
    session.commit()
    _signed_in, request = accept(sessions, token)
    assert request is not None
    assert request.effective_at == request.requested_at + timedelta(hours=24)
    clock.advance(hours=23)
    assert end_due_role_requests(session, actor=SYSTEM) == 0
    clock.advance(hours=2)
    assert end_due_role_requests(session, actor=SYSTEM) == 1
    session.commit()
    assert role_of(session) == "admin"


# ── Who may ────────────────────────────────────────────────────────────────────────────────────
def test_only_active_administrators_invite_send_again_and_withdraw(
    session: Session, make_person: Make
) -> None:
    admin, gone = make_person(ADMIN), make_person(ADMIN)
    sent = invite(session, admin)
    change(session, gone, FINANCE)
    owner = user_actor(make_customer(session, "o@example.com"), memberships={1: MemberRole.OWNER})
    nobodies = (make_person(SUPPORT), make_person(FINANCE), owner, user_actor(999), SYSTEM, gone)
    before = count_links(session)
    for nobody in nobodies:
        for ask in (
            lambda who: invite(session, who, "other@example.com"),
            lambda who: resend(session, sent, who),
            lambda who: withdraw(session, sent, who),
        ):
            with pytest.raises(NotAuthorised):
                ask(nobody)
    assert count_links(session) == before
    assert find_role_offer(session, token=mailed_token(session)).email == EMAIL


def test_administrators_and_finance_see_what_is_open_and_nobody_else(
    session: Session, make_person: Make
) -> None:
    admin = make_person(ADMIN)
    sent = invite(session, admin)
    for reader in (admin, make_person(ADMIN), make_person(FINANCE)):
        assert list_staff_invitations(session, actor=reader) == (sent,)
    for nobody in (make_person(SUPPORT), user_actor(9, memberships={1: MemberRole.OWNER})):
        with pytest.raises(NotAuthorised):
            list_staff_invitations(session, actor=nobody)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"email": "no address"}, "email"),
        ({"email": ""}, "email"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 201}, "reason"),
    ],
)
def test_invitation_without_an_address_or_a_reason_is_refused(
    session: Session, make_person: Make, given: dict[str, str], field: str
) -> None:
    values: dict[str, Any] = {"email": EMAIL, "reason": "hired", **given}
    admin = make_person(ADMIN)
    with pytest.raises(InvalidInput) as caught:
        invite_staff(session, role=SUPPORT, actor=admin, policy=RULES, **values)
    assert caught.value.field == field
    assert count_links(session) == 0


# ── Again, and within bounds ───────────────────────────────────────────────────────────────────
def test_invitation_again_is_the_same_and_sends_no_mail(
    session: Session, make_person: Make
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    sent = invite(session, first)
    assert invite(session, first) == sent
    assert invite(session, second, EMAIL.upper()) == sent
    with pytest.raises(Conflict, match="invited_with_another_role"):
        invite(session, second, role=ADMIN)
    assert count_links(session) == 1
    assert actions(session) == ["invite_staff"]


def test_link_sent_again_replaces_the_one_before_once(
    sessions: sessionmaker[Session], session: Session, make_person: Make, clock: TestClock
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    sent = invite(session, first)
    old = mailed_token(session)
    clock.advance(days=8)
    assert list_staff_invitations(session, actor=first)[0].state is InvitationState.EXPIRED
    again = resend(session, sent, second)
    assert again.invited_by == f"user:{second.user_id}"
    assert resend(session, sent, first) == again, "pressed twice, or by two at once"
    assert count_links(session) == 2
    assert again.expires_at - again.sent_at == timedelta(days=7)
    with pytest.raises(NotFound):
        find_role_offer(session, token=old)
    assert find_role_offer(session, token=mailed_token(session)).email == EMAIL
    session.commit()
    with pytest.raises(NotFound):
        accept(sessions, old)


def test_address_that_let_its_invitation_expire_is_invited_anew(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    admin = make_person(ADMIN)
    sent = invite(session, admin)
    clock.advance(days=7)
    new = invite(session, admin, role=FINANCE)
    assert new.invitation_id != sent.invitation_id
    assert list_staff_invitations(session, actor=admin) == (new,)
    with pytest.raises(Conflict, match="invitation_over"):
        resend(session, sent, admin)
    assert actions(session) == ["invite_staff", "withdraw_staff_invitation", "invite_staff"]


def test_withdrawn_invitation_is_over_and_may_come_again(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    sent = invite(session, first, role=FINANCE)
    old = mailed_token(session)
    for _ in range(2):
        withdraw(session, sent, second)
    assert actions(session).count("withdraw_staff_invitation") == 1
    with pytest.raises(Conflict, match="invitation_over"):
        resend(session, sent, first)
    with pytest.raises(NotFound):
        find_role_offer(session, token=old)
    invite(session, second)
    token = mailed_token(session)
    session.commit()
    with pytest.raises(NotFound):
        accept(sessions, old)
    assert not is_person(session)
    accept(sessions, token)
    assert role_of(session) == "support"
    with pytest.raises(Conflict, match="has_sign_in"):
        invite(session, first)


def test_used_invitation_is_neither_sent_again_nor_withdrawn(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    admin = make_person(ADMIN)
    sent = invite(session, admin)
    session.commit()
    accept(sessions, mailed_token(session))
    session.rollback()
    for late in (resend, withdraw):
        with pytest.raises(Conflict, match="invitation_over"):
            late(session, sent, admin)
    for late in (resend, withdraw):
        with pytest.raises(NotFound):
            late(session, replace(sent, invitation_id=999), admin)


@pytest.mark.usefixtures("clock")
def test_mails_are_limited_by_sender_and_by_address(session: Session, make_person: Make) -> None:
    first, second = make_person(ADMIN), make_person(ADMIN)
    sent = invite(session, first)
    for _ in range(3):  # any customer may invite the address, and holds up none of staff
        invite_member(
            session,
            account_id=make_account(session),
            email=EMAIL,
            role=MemberRole.READER,
            actor=SYSTEM,
            idempotency_key=next_key(),
            policy=RULES,
        )
    for _ in range(2):
        sent = resend(session, sent, first)
    with pytest.raises(RateLimited), session.begin_nested():
        resend(session, sent, second)
    for number in range(30):
        invite(session, second, f"colleague-{number}@example.com")
    with pytest.raises(RateLimited):
        invite(session, second, "one-more@example.com")


def test_number_of_open_invitations_is_bounded(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    admin = make_person(ADMIN)
    for number in range(MAX_OPEN_INVITATIONS):
        sent = invite(session, admin, f"colleague-{number}@example.com")
        clock.advance(hours=1)
    with pytest.raises(Conflict, match="too_many_invitations"):
        invite(session, admin)
    withdraw(session, sent, admin)
    invite(session, admin)


def test_invitations_that_ended_are_forgotten_after_90_days(
    session: Session, make_person: Make, clock: TestClock
) -> None:
    admin = make_person(ADMIN)
    withdraw(session, invite(session, admin), admin)
    invite(session, admin, "open@example.com")
    clock.advance(days=96)
    purge_identity(session, actor=SYSTEM)
    assert session.scalars(select(StaffInvitation.email)).all() == ["open@example.com"]
    clock.advance(days=2)
    purge_identity(session, actor=SYSTEM)
    assert session.scalars(select(StaffInvitation.email)).all() == []


# ── Whom a role never reaches ──────────────────────────────────────────────────────────────────
def test_address_of_a_person_is_not_invited(session: Session, make_person: Make) -> None:
    admin, agent = make_person(ADMIN), make_person(SUPPORT)
    make_customer(session)
    for email in (EMAIL, EMAIL.upper(), address(session, agent), address(session, admin)):
        with pytest.raises(Conflict, match="has_sign_in"):
            invite(session, admin, email)
    disable(session, agent)
    with pytest.raises(Conflict, match="has_sign_in"):
        invite(session, admin, address(session, agent))
    assert count_links(session) == 0


def test_sign_up_with_an_invited_address_that_is_proven_gets_no_role(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    """A customer with a place in an account has the role given to them, which takes two."""
    admin = make_person(ADMIN)
    sent = invite(session, admin)
    token = mailed_token(session)
    session.commit()
    form = SignUp(EMAIL, "Lan", "another-kettle-9-march", "Lan's lab", "VN", "VND")
    assert sign_up(sessions, form=form, client=CLIENT, policy=RULES) == ()
    row = session.scalars(
        select(OutboxMessage).where(OutboxMessage.template == "verify_email")
    ).one()
    identity.verify_email(
        sessions,
        token=str(parameters_of(session, row)["token"]),
        password="another-kettle-9-march",
        client=CLIENT,
        policy=RULES,
    )
    session.rollback()
    assert find_role_offer(session, token=token).is_known
    with pytest.raises(Conflict, match="email_taken"):
        accept(sessions, token)
    assert role_of(session) is None
    (shown,) = list_staff_invitations(session, actor=admin)
    assert shown.state is InvitationState.HAS_SIGN_IN
    with pytest.raises(Conflict, match="has_sign_in"):
        resend(session, sent, admin)
    with pytest.raises(Conflict, match="has_sign_in"):
        invite(session, admin)
    withdraw(session, sent, admin)
    assert list_staff_invitations(session, actor=admin) == ()


def test_who_signed_up_while_the_form_was_sent_gets_no_role(
    sessions: sessionmaker[Session],
    session: Session,
    make_person: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invite(session, make_person(ADMIN))
    token = mailed_token(session)
    session.commit()
    hashed = identity.hash_new_password

    def signs_up_meanwhile(password: str, *, email: str) -> str:
        with sessions.begin() as other:
            make_customer(other)
        monkeypatch.undo()
        return hashed(password, email=email)

    monkeypatch.setattr(identity, "hash_new_password", signs_up_meanwhile)
    with pytest.raises(Conflict, match="email_taken"):
        accept(sessions, token)
    assert role_of(session) is None
    assert session.scalars(select(StaffInvitation.accepted_at)).one() is None


def test_link_works_once(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    first = make_person(ADMIN)
    invite(session, first)
    token = mailed_token(session)
    session.commit()
    accept(sessions, token)
    with pytest.raises(NotFound):
        accept(sessions, token, name="Somebody", password="another-kettle-9-march")
    # Nor does it bring back the role of who lost it.
    person = user_actor(session.scalars(select(User.id).where(User.email == EMAIL)).one())
    change(session, person, None)
    session.commit()
    with pytest.raises(NotFound):
        accept(sessions, token)
    assert role_of(session) is None


def test_two_browsers_at_once_make_one_person(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    invite(session, make_person(ADMIN))
    token = mailed_token(session)
    session.commit()
    ready = Barrier(2)

    def one(name: str) -> str:
        ready.wait()
        try:
            accept(sessions, token, name=name)
        except BillingError as error:
            return error.code
        return name

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, ("First", "Second")))
    assert sum(each in {"First", "Second"} for each in answers) == 1
    assert set(answers) & {"not_found", "conflict"}
    assert role_of(session) == "support"
    assert actions(session).count("accept_staff_invitation") == 1


def test_two_administrators_at_once_send_one_invitation(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    admins = (make_person(ADMIN), make_person(ADMIN))
    session.commit()
    ready = Barrier(2)

    def one(actor: Actor) -> int:
        ready.wait()
        with sessions.begin() as mine:
            return invite(mine, actor).invitation_id

    with ThreadPoolExecutor(2) as pool:
        ids = set(pool.map(one, admins))
    assert len(ids) == 1
    assert count_links(session) == 1


def test_weak_password_and_empty_name_leave_the_link_as_it_was(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> None:
    invite(session, make_person(ADMIN))
    token = mailed_token(session)
    session.commit()
    for name, password in (("Lan", "short"), ("Lan", EMAIL), (" ", PASSWORD)):
        with pytest.raises(InvalidInput):
            accept(sessions, token, name=name, password=password)
    assert not is_person(session)
    accept(sessions, token)
    assert role_of(session) == "support"


def test_tries_are_limited_by_network_before_a_password_is_hashed(
    sessions: sessionmaker[Session], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    del session
    for _ in range(20):
        with pytest.raises(NotFound):
            accept(sessions, "no such token")
    monkeypatch.setattr(identity, "hash_new_password", lambda *_, **__: pytest.fail("hashed"))
    with pytest.raises(RateLimited):
        accept(sessions, "no such token")


GONE: dict[str, Callable[[Session, Actor], None]] = {
    "disabled": disable,
    "finance": lambda session, who: change(session, who, FINANCE),
    "no_role": lambda session, who: change(session, who, None),
}


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("role", [SUPPORT, ADMIN])
def test_link_of_who_administers_no_more_is_over(
    sessions: sessionmaker[Session],
    session: Session,
    make_person: Make,
    gone: str,
    role: StaffRole,
) -> None:
    admin, second = make_person(ADMIN), make_person(ADMIN)
    sent = invite(session, admin, role=role)
    token = mailed_token(session)
    GONE[gone](session, admin)
    session.commit()
    with pytest.raises(NotFound):
        find_role_offer(session, token=token)
    with pytest.raises(NotFound):
        accept(sessions, token)
    assert not is_person(session)
    assert list_role_requests(session, actor=second) == ()
    (shown,) = list_staff_invitations(session, actor=second)
    assert shown.state is InvitationState.INVITER_NOT_ADMIN
    # Another administrator answers for it from now on.
    resend(session, sent, second)
    token = mailed_token(session)
    session.commit()
    _signed_in, request = accept(sessions, token)
    assert (request is not None) is (role is ADMIN)
    if request is not None:
        assert request.requested_by == f"user:{second.user_id}"
    else:
        assert role_of(session) == "support"


def test_invitation_of_who_administers_no_more_is_replaced(
    session: Session, make_person: Make
) -> None:
    admin, second = make_person(ADMIN), make_person(ADMIN)
    sent = invite(session, admin)
    change(session, admin, None)
    new = invite(session, second, role=FINANCE)
    assert new.invitation_id != sent.invitation_id
    assert new.invited_by == f"user:{second.user_id}"


def test_inviter_who_is_disabled_while_the_form_is_sent_gives_nothing(
    sessions: sessionmaker[Session],
    session: Session,
    make_person: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin, _second = make_person(ADMIN), make_person(ADMIN)
    invite(session, admin)
    token = mailed_token(session)
    session.commit()
    hashed = identity.hash_new_password

    def is_disabled_meanwhile(password: str, *, email: str) -> str:
        with sessions.begin() as other:
            disable(other, admin)
        return hashed(password, email=email)

    monkeypatch.setattr(identity, "hash_new_password", is_disabled_meanwhile)
    with pytest.raises(NotFound):
        accept(sessions, token)
    assert not is_person(session)


# ── Both ways: with a check missing, another one still holds, or a role goes astray ───────────
def test_database_refuses_what_no_service_does(session: Session, make_person: Make) -> None:
    admin, agent = make_person(ADMIN), make_person(SUPPORT)
    withdraw(session, invite(session, admin), admin)
    invite(session, admin, "open@example.com")
    session.commit()
    ended = "id = (SELECT min(id) FROM staff_invitations)"
    is_open = "id = (SELECT max(id) FROM staff_invitations)"
    mine, theirs = admin.user_id, agent.user_id
    for change_of, error in (
        (f"accepted_at = now(), accepted_by = {theirs} WHERE {ended}", IntegrityError),
        (f"accepted_at = now(), accepted_by = {mine} WHERE {is_open}", IntegrityError),
        (f"accepted_at = now() WHERE {is_open}", IntegrityError),
        (
            f"accepted_at = expires_at, accepted_by = {theirs} WHERE {is_open}",
            IntegrityError,
        ),
        (f"invited_by = 'system:tests' WHERE {is_open}", IntegrityError),
        (f"role = 'admin' WHERE {is_open}", ProgrammingError),
        (f"email = 'other@example.com' WHERE {is_open}", ProgrammingError),
    ):
        with pytest.raises(error), session.begin_nested():
            session.execute(text(f"UPDATE staff_invitations SET {change_of}"))  # noqa: S608 - constant text


@pytest.fixture
def reached_by_dead_links(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> Callable[[], set[str]]:
    """Return what tries links that are over, and returns which of them were taken for good ones."""
    return lambda: try_dead_links(sessions, session, make_person)


def try_dead_links(
    sessions: sessionmaker[Session], session: Session, make_person: Make
) -> set[str]:
    admin, gone = make_person(ADMIN), make_person(ADMIN)
    tokens = {}
    for kind, by in (("withdrawn", admin), ("used", admin), ("ex", gone), ("expired", admin)):
        email = f"{kind}@example.com"
        sent = invite(session, by, email)
        tokens[kind] = mailed_token(session, email)
        if kind == "withdrawn":
            withdraw(session, sent, admin)
    change(session, gone, None)
    session.execute(
        text(
            "UPDATE staff_invitations SET expires_at = created_at + interval '1 microsecond'"
            " WHERE email = 'expired@example.com'"
        )
    )
    session.commit()
    accept(sessions, tokens["used"])
    before = session.scalars(select(func.count()).select_from(User)).one()
    reached = set()
    for kind, token in tokens.items():
        try:
            accept(sessions, token, name="Somebody", password="another-kettle-9-march")
        except (NotFound, NotAuthorised):
            continue
        except (Conflict, IntegrityError):
            reached.add(kind)  # another check held, and the link was taken for a good one
        else:
            reached.add(kind)
    session.rollback()
    if not reached:
        assert session.scalars(select(func.count()).select_from(User)).one() == before
    return reached


def test_no_dead_link_reaches_anybody(reached_by_dead_links: Callable[[], set[str]]) -> None:
    assert reached_by_dead_links() == set()


@pytest.mark.parametrize(
    ("broken", "reached"),
    [
        ({"invitations._is_open": lambda: StaffInvitation.id > 0}, {"withdrawn", "used"}),
        ({"invitations._is_of_admin": lambda: StaffInvitation.id > 0}, set()),
        (
            {
                "invitations._is_of_admin": lambda: StaffInvitation.id > 0,
                "invitations.with_current_rights": lambda _session, actor: replace(
                    actor, staff_role=ADMIN
                ),
                "roles.check_changer": lambda *_: None,
            },
            {"ex"},
        ),
    ],
    ids=["no_end", "one_of_two_checks_of_the_inviter", "no_check_of_the_inviter"],
)
def test_link_that_is_over_would_be_seen_to_work(
    reached_by_dead_links: Callable[[], set[str]],
    monkeypatch: pytest.MonkeyPatch,
    broken: dict[str, object],
    reached: set[str],
) -> None:
    for place, instead in broken.items():
        module, _dot, name = place.partition(".")
        monkeypatch.setattr({"invitations": invitations, "roles": roles}[module], name, instead)
    assert reached_by_dead_links() == reached


def test_link_that_expired_would_be_seen_to_work(
    reached_by_dead_links: Callable[[], set[str]],
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the service's check the database's own refuses it."""
    usable = invitations._usable_row
    monkeypatch.setattr(
        invitations,
        "_usable_row",
        lambda session, token, now: usable(session, token, now - timedelta(days=30)),
    )
    assert reached_by_dead_links() == {"expired"}
    assert not is_person(session, "expired@example.com")
