"""Invited addresses that somebody else signed up with: the mailed link proves whose they are."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import exists, false, func, select, text, update
from sqlalchemy.exc import OperationalError

from db.models import AccountMember, AuditRecord, EmailToken, OutboxMessage, User, UserSession
from domain import accounts, identity, staff
from domain.accounts import invitations, members
from domain.accounts.sign_up import SignUp, sign_up
from domain.actors import MemberRole, StaffRole
from domain.errors import BillingError, Conflict, NotAuthorised, NotFound
from domain.identity import AuthPolicy, Client, SignInOutcome
from domain.identity.guesses import prove_password
from domain.identity.users import lock_person, set_password
from domain.staff import InvitationState
from tests.factories import SYSTEM, make_account, next_key
from tests.support.keys import KNOWS_KEYS, parameters_of
from tests.support.staff_actions import make_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

    Make = Callable[[StaffRole], Actor]

__all__ = ["make_person"]

EMAIL = "lan@example.com"
PASSWORD = "violet-kettle-9-march"
STRANGERS = "another-kettle-9-march"
NEW = "yellow-kettle-9-march"
CLIENT = Client("192.0.2.10", "Firefox", "en")
ELSEWHERE = Client("198.51.100.7", "Firefox", "vi")
RULES = AuthPolicy(key=b"a key of the tests")


@pytest.fixture(autouse=True)
def _knows_keys(sessions: sessionmaker[Session]) -> None:
    sessions.configure(info=KNOWS_KEYS)


@dataclass
class Invited:
    """An invitation of one kind: to the staff (`account` is None), or to a customer's account."""

    sessions: sessionmaker[Session]
    admin: Actor
    second: Actor
    account: int | None

    def send(self) -> str:
        """Invite the address, and return the token of the mailed link."""
        with self.sessions.begin() as session:
            if self.account is None:
                staff.invite_staff(
                    session,
                    email=EMAIL,
                    role=StaffRole.SUPPORT,
                    reason="hired",
                    actor=self.admin,
                    policy=RULES,
                )
                return mailed_token(session, "staff_invitation")
            invitations.invite_member(
                session,
                account_id=self.account,
                email=EMAIL,
                role=MemberRole.BILLING,
                actor=SYSTEM,
                idempotency_key=next_key(),
                policy=RULES,
            )
            return mailed_token(session, "invitation")

    def offer(self, token: str) -> staff.RoleOffer | invitations.Offer:
        """Return what the link offers now."""
        with self.sessions() as session:
            if self.account is None:
                return staff.find_role_offer(session, token=token)
            return invitations.find_offer(session, token=token)

    def is_known(self, token: str) -> bool:
        return self.offer(token).is_known

    def accept(self, token: str, name: str = "Lan", password: str = PASSWORD) -> SignInOutcome:
        if self.account is None:
            signed_in, _request = staff.accept_staff_invitation(
                self.sessions,
                token=token,
                display_name=name,
                password=password,
                client=CLIENT,
                policy=RULES,
            )
        else:
            signed_in, _account = invitations.sign_up_invited(
                self.sessions,
                token=token,
                display_name=name,
                password=password,
                client=CLIENT,
                policy=RULES,
            )
        return signed_in.outcome


@pytest.fixture
def of_staff(sessions: sessionmaker[Session], session: Session, make_person: Make) -> Invited:
    found = Invited(sessions, make_person(StaffRole.ADMIN), make_person(StaffRole.ADMIN), None)
    session.commit()
    return found


@pytest.fixture
def of_customer(session: Session, of_staff: Invited) -> Invited:
    found = replace(of_staff, account=make_account(session))
    session.commit()
    return found


@pytest.fixture(params=["of_staff", "of_customer"])
def invitation(request: pytest.FixtureRequest) -> Invited:
    """Each of the two kinds."""
    found: Invited = request.getfixturevalue(request.param)
    return found


def mailed_token(session: Session, template: str) -> str:
    """Return the token of the newest mail of a kind to the address."""
    newest = select(OutboxMessage).where(
        OutboxMessage.template == template, OutboxMessage.recipient == EMAIL
    )
    row = session.scalars(newest.order_by(OutboxMessage.id.desc()).limit(1)).one()
    return str(parameters_of(session, row)["token"])


def stranger_signs_up(sessions: sessionmaker[Session]) -> None:
    form = SignUp(EMAIL, "Stranger", STRANGERS, "Stranger's lab", "VN", "VND")
    assert sign_up(sessions, form=form, client=ELSEWHERE, policy=RULES) == ()


def verify_link(sessions: sessionmaker[Session]) -> str:
    with sessions() as session:
        return mailed_token(session, "verify_email")


def verify(sessions: sessionmaker[Session], token: str, password: str = STRANGERS) -> SignInOutcome:
    return identity.verify_email(
        sessions, token=token, password=password, client=ELSEWHERE, policy=RULES
    ).outcome


def reset_link(sessions: sessionmaker[Session]) -> str:
    with sessions.begin() as session:
        identity.request_password_reset(session, email=EMAIL, client=ELSEWHERE, policy=RULES)
        return mailed_token(session, "reset_password")


def reset(sessions: sessionmaker[Session], token: str) -> None:
    identity.reset_password(sessions, token=token, password=NEW, client=CLIENT)


def sign_in(sessions: sessionmaker[Session], password: str) -> SignInOutcome:
    return identity.authenticate(
        sessions, email=EMAIL, password=password, client=CLIENT, policy=RULES
    ).outcome


def lan(session: Session) -> User:
    session.rollback()
    return session.scalars(
        select(User).where(User.email == EMAIL).execution_options(populate_existing=True)
    ).one()


def number_of(session: Session) -> int:
    return session.scalars(select(User.id).where(User.email == EMAIL)).one()


def opened_account(session: Session) -> int:
    """Return the account that the stranger opened."""
    return (
        session.scalars(
            select(AuditRecord.account_id)
            .where(AuditRecord.action == "open_account")
            .where(AuditRecord.actor == "system:sign-in")
        ).one()
        or 0
    )


def audited(session: Session, action: str) -> list[tuple[str, int | None, dict[str, object]]]:
    rows = session.execute(
        select(AuditRecord.actor, AuditRecord.account_id, AuditRecord.details)
        .where(AuditRecord.action == action)
        .order_by(AuditRecord.id)
    )
    return [(row.actor, row.account_id, row.details) for row in rows]


# ── A stranger, who has only signed up ─────────────────────────────────────────────────────────
@pytest.mark.parametrize("when", ["before", "between", "twice"])
def test_link_replaces_stranger_who_never_proved_the_address(
    session: Session, sessions: sessionmaker[Session], invitation: Invited, when: str
) -> None:
    if when != "between":
        stranger_signs_up(sessions)
    token = invitation.send()
    if when != "before":
        stranger_signs_up(sessions)
    link, number = verify_link(sessions), lan(session).id
    assert not invitation.is_known(token)
    assert invitation.accept(token) is SignInOutcome.SIGNED_IN
    person = lan(session)
    assert (person.id, person.display_name, person.locale) == (number, "Lan", "en")
    assert person.email_verified_at is not None
    assert person.staff_role == (None if invitation.account else "support")
    assert sign_in(sessions, STRANGERS) is SignInOutcome.WRONG
    assert sign_in(sessions, PASSWORD) is SignInOutcome.SIGNED_IN
    with pytest.raises(NotFound):
        verify(sessions, link)
    assert audited(session, "verify_email") == [("system:invitation", None, {"user_id": number})]
    with pytest.raises(NotFound):  # the link works once
        invitation.accept(token, "Somebody", STRANGERS)
    stranger_signs_up(sessions)
    assert lan(session).display_name == "Lan"


def test_offer_says_whether_it_replaces_a_sign_up(
    session: Session, sessions: sessionmaker[Session], invitation: Invited
) -> None:
    token = invitation.send()
    assert not invitation.offer(token).replaces_sign_up, "nobody has the address"
    stranger_signs_up(sessions)
    assert invitation.offer(token).replaces_sign_up
    for column, state in (
        (User.email_verified_at, func.now()),
        (User.disabled_at, func.now()),
        (User.staff_role, "support"),
    ):
        found = update(User).where(User.email == EMAIL)
        session.execute(found.values({column: state}))
        session.commit()
        offer = invitation.offer(token)
        assert (offer.is_known, offer.replaces_sign_up) == (True, False)
        session.execute(found.values({column: None}))
        session.commit()
    assert invitation.offer(token).replaces_sign_up


def test_staff_do_not_belong_to_the_account_that_the_stranger_opened(
    session: Session, sessions: sessionmaker[Session], of_staff: Invited
) -> None:
    stranger_signs_up(sessions)
    of_staff.accept(of_staff.send())
    number, account = lan(session).id, opened_account(session)
    assert accounts.memberships(session, user_id=number) == {}
    assert members.list_members(session, actor=SYSTEM, account_id=account).members == ()
    details = {"user_id": number, "role": "owner"}
    assert audited(session, "remove_member") == [("system:invitation", account, details)]
    assert lan(session).staff_role == "support"


def test_customer_keeps_the_account_that_they_may_have_opened_themselves(
    session: Session, sessions: sessionmaker[Session], of_customer: Invited
) -> None:
    stranger_signs_up(sessions)
    of_customer.accept(of_customer.send())
    assert accounts.memberships(session, user_id=lan(session).id) == {
        opened_account(session): MemberRole.OWNER,
        of_customer.account: MemberRole.BILLING,
    }
    assert audited(session, "remove_member") == []


def test_customer_who_accepts_acts_on_the_account_that_invited_them(
    sessions: sessionmaker[Session], session: Session, of_customer: Invited
) -> None:
    stranger_signs_up(sessions)
    signed_in, account = invitations.sign_up_invited(
        sessions,
        token=of_customer.send(),
        display_name="Lan",
        password=PASSWORD,
        client=CLIENT,
        policy=RULES,
    )
    user = identity.session_actor(session, token=signed_in.token, policy=RULES)
    assert user is not None
    assert user.account_id == account == of_customer.account
    assert set(user.memberships) == {account, opened_account(session)}


def test_place_beside_others_stays_and_the_role_takes_two(
    session: Session, sessions: sessionmaker[Session], of_staff: Invited
) -> None:
    stranger_signs_up(sessions)
    number, account = lan(session).id, opened_account(session)
    accounts.add_member(
        session,
        account_id=account,
        user_id=identity.create_user(
            session,
            email="other@example.com",
            display_name="Other",
            password=PASSWORD,
            staff_role=None,
            actor=SYSTEM,
        ),
        role=MemberRole.READER,
        actor=SYSTEM,
    )
    session.commit()
    of_staff.accept(of_staff.send())
    assert accounts.memberships(session, user_id=number) == {account: MemberRole.OWNER}
    assert lan(session).staff_role is None
    (request,) = staff.list_role_requests(session, actor=of_staff.second)
    assert (request.user_id, request.requested_by) == (number, f"user:{of_staff.admin.user_id}")
    staff.approve_role_request(session, request_id=request.request_id, actor=of_staff.second)
    session.commit()
    assert lan(session).staff_role == "support"


def test_sole_memberships_are_removed_by_who_may_manage_members(
    session: Session, of_staff: Invited
) -> None:
    for may in (identity.invitation_actor(CLIENT), of_staff.admin):
        members.remove_sole_memberships(session, user_id=1, actor=may)
    for role in (StaffRole.SUPPORT, StaffRole.FINANCE, None):
        may_not = replace(of_staff.admin, staff_role=role)
        with pytest.raises(NotAuthorised):
            members.remove_sole_memberships(session, user_id=1, actor=may_not)


def test_mailed_links_and_sessions_of_the_stranger_end(
    session: Session, sessions: sessionmaker[Session], invitation: Invited
) -> None:
    stranger_signs_up(sessions)
    links = [reset_link(sessions), verify_link(sessions)]
    with sessions.begin() as other:  # no service opens one for who has proven nothing
        left = identity.create_session(
            other, user_id=lan(session).id, client=ELSEWHERE, policy=RULES
        )
    invitation.accept(invitation.send())
    with pytest.raises(NotFound):
        reset(sessions, links[0])
    with pytest.raises(NotFound):
        verify(sessions, links[1])
    session.rollback()
    assert identity.session_actor(session, token=left.token, policy=RULES) is None
    assert (
        session.scalars(
            select(func.count())
            .where(UserSession.user_id == lan(session).id)
            .where(UserSession.revoked_at.is_(None))
        ).one()
        == 1
    )
    assert not session.scalars(select(exists().where(EmailToken.used_at.is_(None)))).one()


def test_mail_of_an_invitation_is_not_in_the_language_of_a_stranger(
    session: Session, sessions: sessionmaker[Session], invitation: Invited
) -> None:
    stranger_signs_up(sessions)
    assert lan(session).locale == "vi"
    invitation.send()
    mailed = select(OutboxMessage.locale).where(OutboxMessage.template.like("%invitation"))
    assert session.scalars(mailed).all() == ["en"]


def test_unproven_address_is_invited_sent_again_and_listed_as_open(
    session: Session, sessions: sessionmaker[Session], of_staff: Invited
) -> None:
    of_staff.send()
    stranger_signs_up(sessions)
    (shown,) = staff.list_staff_invitations(session, actor=of_staff.admin)
    assert shown.state is InvitationState.OPEN
    staff.resend_staff_invitation(
        session,
        invitation_id=shown.invitation_id,
        sent_at=shown.sent_at,
        actor=of_staff.admin,
        policy=RULES,
    )
    session.commit()
    with sessions() as other:
        token = mailed_token(other, "staff_invitation")
    of_staff.accept(token)
    assert lan(session).staff_role == "support"


# ── Whom no link replaces ──────────────────────────────────────────────────────────────────────
def prove(sessions: sessionmaker[Session], _invitation: Invited) -> None:
    verify(sessions, verify_link(sessions))


def disable(sessions: sessionmaker[Session], _invitation: Invited) -> None:
    with sessions.begin() as session:
        staff.disable_user(
            session, user_id=number_of(session), is_disabled=True, reason="left", actor=SYSTEM
        )


def give_role(sessions: sessionmaker[Session], _invitation: Invited) -> None:
    with sessions.begin() as session:
        staff.change_staff_role(
            session,
            user_id=number_of(session),
            role=StaffRole.SUPPORT,
            reason="moved",
            actor=SYSTEM,
        )


def ask_for_role(sessions: sessionmaker[Session], invitation: Invited) -> None:
    with sessions.begin() as session:
        request = staff.change_staff_role(
            session,
            user_id=number_of(session),
            role=StaffRole.FINANCE,
            reason="moved",
            actor=invitation.admin,
        )
        assert request is not None


TAKEN = {"proven": prove, "disabled": disable, "role": give_role, "waits": ask_for_role}


@pytest.mark.parametrize("how", TAKEN)
def test_link_replaces_nobody_whose_address_it_is(
    session: Session, sessions: sessionmaker[Session], invitation: Invited, how: str
) -> None:
    token = invitation.send()
    stranger_signs_up(sessions)
    TAKEN[how](sessions, invitation)
    assert invitation.is_known(token)
    kept = lan(session).password_hash
    for _ in range(2):
        with pytest.raises(Conflict, match="email_taken"):
            invitation.accept(token)
    assert lan(session).password_hash == kept
    assert accounts.memberships(session, user_id=lan(session).id) == {
        opened_account(session): MemberRole.OWNER
    }


@pytest.mark.parametrize("how", TAKEN)
def test_link_replaces_nobody_whose_address_it_is_by_now(
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    token = invitation.send()
    stranger_signs_up(sessions)
    while_hashing(monkeypatch, lambda: TAKEN[how](sessions, invitation))
    with pytest.raises(Conflict, match="email_taken"):
        invitation.accept(token)
    assert sign_in(sessions, PASSWORD) is SignInOutcome.WRONG


@pytest.mark.parametrize("how", TAKEN)
def test_taken_address_is_not_invited_as_staff(
    session: Session, sessions: sessionmaker[Session], of_staff: Invited, how: str
) -> None:
    of_staff.send()
    stranger_signs_up(sessions)
    TAKEN[how](sessions, of_staff)
    (shown,) = staff.list_staff_invitations(session, actor=of_staff.admin)
    assert shown.state is InvitationState.HAS_SIGN_IN
    session.rollback()
    with pytest.raises(Conflict, match="has_sign_in"):
        of_staff.send()


def test_without_the_check_the_link_would_replace_a_person(
    session: Session,
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = invitation.send()
    stranger_signs_up(sessions)
    prove(sessions, invitation)
    kept = lan(session).password_hash
    for place in ("domain.identity.invited", "domain.identity", "domain.staff.invitations"):
        monkeypatch.setattr(f"{place}.is_taken", lambda _address: false())
    invitation.accept(token)
    assert lan(session).password_hash != kept


# ── At the same time ───────────────────────────────────────────────────────────────────────────
def while_hashing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen after a link was looked at, and before it is used."""
    hashed = identity.hash_new_password

    def meanwhile(password: str, *, email: str) -> str:
        monkeypatch.undo()
        act()
        return hashed(password, email=email)

    monkeypatch.setattr(identity, "hash_new_password", meanwhile)
    monkeypatch.setattr("domain.identity.password_reset.hash_new_password", meanwhile)


def test_stranger_who_signs_up_while_the_form_is_sent_is_replaced(
    session: Session,
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = invitation.send()
    while_hashing(monkeypatch, lambda: stranger_signs_up(sessions))
    invitation.accept(token)
    assert lan(session).display_name == "Lan"
    assert sign_in(sessions, PASSWORD) is SignInOutcome.SIGNED_IN


def test_stranger_who_signs_up_after_nobody_was_found_is_replaced(
    session: Session,
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = invitation.send()

    def finds_nobody(mine: Session, which: ColumnElement[bool]) -> bool:
        monkeypatch.undo()
        assert not lock_person(mine, which)
        stranger_signs_up(sessions)
        return False

    monkeypatch.setattr("domain.identity.invited.lock_person", finds_nobody)
    invitation.accept(token)
    assert lan(session).display_name == "Lan"
    assert sign_in(sessions, STRANGERS) is SignInOutcome.WRONG
    assert sign_in(sessions, PASSWORD) is SignInOutcome.SIGNED_IN


def test_reset_that_comes_first_keeps_its_password(
    session: Session,
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger_signs_up(sessions)
    token, link = invitation.send(), reset_link(sessions)
    while_hashing(monkeypatch, lambda: reset(sessions, link))
    with pytest.raises(Conflict, match="email_taken"):
        invitation.accept(token)
    assert lan(session).display_name == "Stranger"
    assert sign_in(sessions, NEW) is SignInOutcome.SIGNED_IN


def test_reset_whose_link_was_voided_meanwhile_sets_no_password(
    sessions: sessionmaker[Session], invitation: Invited, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger_signs_up(sessions)
    token, link = invitation.send(), reset_link(sessions)
    while_hashing(monkeypatch, lambda: invitation.accept(token))
    with pytest.raises(NotFound):
        reset(sessions, link)
    assert sign_in(sessions, NEW) is SignInOutcome.WRONG
    assert sign_in(sessions, PASSWORD) is SignInOutcome.SIGNED_IN


def test_confirmation_that_comes_first_keeps_its_password(
    sessions: sessionmaker[Session], invitation: Invited, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger_signs_up(sessions)
    token = invitation.send()
    while_hashing(monkeypatch, lambda: verify(sessions, verify_link(sessions)))
    with pytest.raises(Conflict, match="email_taken"):
        invitation.accept(token)
    assert sign_in(sessions, STRANGERS) is SignInOutcome.SIGNED_IN


def test_confirmation_of_a_password_that_was_replaced_meanwhile_opens_nothing(
    session: Session,
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger_signs_up(sessions)
    token, link = invitation.send(), verify_link(sessions)

    def proves(*given: object) -> object:
        monkeypatch.undo()
        found = prove_password(*given)  # type: ignore[arg-type]
        invitation.accept(token)
        return found

    monkeypatch.setattr("domain.identity.authentication.prove_password", proves)
    assert verify(sessions, link) is SignInOutcome.WRONG
    assert sign_in(sessions, PASSWORD) is SignInOutcome.SIGNED_IN
    assert lan(session).display_name == "Lan"


def reset_beside_acceptance(
    session: Session,
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Use a link to reset while the invitation is accepted; return what each of them came to."""
    stranger_signs_up(sessions)
    token, link = invitation.send(), reset_link(sessions)
    waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")

    def outcome(act: Callable[[], object]) -> str:
        try:
            act()
        except BillingError as error:
            return error.code
        except OperationalError as error:
            return str(getattr(error.orig, "pgcode", ""))
        return "done"

    with ThreadPoolExecutor(1) as pool:

        def sets(mine: Session, user_id: int, password_hash: str) -> None:
            later.append(pool.submit(outcome, lambda: invitation.accept(token)))
            while not session.scalar(waiting):
                assert not later[0].done(), "the acceptance did not wait"
            set_password(mine, user_id, password_hash)

        later: list[Future[str]] = []
        monkeypatch.setattr("domain.identity.password_reset.set_password", sets)
        first = outcome(lambda: reset(sessions, link))
        return [first, later[0].result()]


def test_reset_and_acceptance_at_once_leave_one_password(
    session: Session,
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = reset_beside_acceptance(session, sessions, invitation, monkeypatch)
    assert message == ["done", "conflict"]
    assert sign_in(sessions, NEW) is SignInOutcome.SIGNED_IN
    assert sign_in(sessions, PASSWORD) is SignInOutcome.WRONG


def test_reset_that_locks_its_link_first_would_wait_for_the_acceptance_for_ever(
    session: Session,
    sessions: sessionmaker[Session],
    invitation: Invited,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("domain.identity.password_reset.lock_person", lambda *_: True)
    message = reset_beside_acceptance(session, sessions, invitation, monkeypatch)
    assert "40P01" in message, "a deadlock"


@pytest.mark.parametrize("has_stranger", [True, False])
def test_two_browsers_at_once_make_one_person(
    session: Session, sessions: sessionmaker[Session], invitation: Invited, *, has_stranger: bool
) -> None:
    if has_stranger:
        stranger_signs_up(sessions)
    token, ready = invitation.send(), Barrier(2)

    def one(given: tuple[str, str]) -> str:
        ready.wait()
        try:
            invitation.accept(token, *given)
        except BillingError as error:
            return error.code
        return given[0]

    given = {"First": PASSWORD, "Second": NEW}
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, given.items()))
    (winner,) = set(answers) & given.keys()
    assert set(answers) & {"not_found", "conflict"}
    assert lan(session).display_name == winner
    for name, password in given.items():
        is_in = sign_in(sessions, password) is SignInOutcome.SIGNED_IN
        assert is_in is (name == winner)


def test_sign_up_and_acceptance_at_once_leave_the_invited_person(
    session: Session, sessions: sessionmaker[Session], invitation: Invited
) -> None:
    token, ready = invitation.send(), Barrier(2)

    def one(act: Callable[[], object]) -> None:
        ready.wait()
        act()

    with ThreadPoolExecutor(2) as pool:
        acts = (lambda: stranger_signs_up(sessions), lambda: invitation.accept(token))
        list(pool.map(one, acts))
    assert lan(session).display_name == "Lan"
    assert sign_in(sessions, PASSWORD) is SignInOutcome.SIGNED_IN
    assert sign_in(sessions, STRANGERS) is SignInOutcome.WRONG
    count = select(func.count()).select_from(AccountMember)
    assert session.scalars(count).one() <= (2 if invitation.account else 0)
