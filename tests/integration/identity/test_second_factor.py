"""Second factors on a real PostgreSQL: codes, recovery codes, passkeys, and who must have one."""

from __future__ import annotations

import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyotp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from db.models import AuditRecord, Authenticator, OutboxMessage, RecoveryCode, User, UserSession
from domain import clock as clocks
from domain import identity
from domain.actors import StaffRole, system_actor, user_actor
from domain.errors import Conflict, InvalidInput, NotAuthorised, NotFound, RateLimited
from domain.identity import (
    AuthPolicy,
    Client,
    Factor,
    FactorAnswer,
    PasskeyAnswer,
    Reauthentication,
    RelyingParty,
    SignIn,
    SignInOutcome,
)
from domain.identity.authenticators import withdraw_offer
from domain.identity.sessions import end_pending_sign_ins
from domain.rights import with_current_rights
from domain.security import passwords
from domain.staff import change_staff_role, disable_user
from tests.conftest import TestClock
from tests.support.keys import KNOWS_KEYS, parameters_of
from tests.support.passkeys import USER_PRESENT, Device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.identity import AuthenticatorOffer, SignedInUser

SYSTEM = system_actor("tests")
RULES = AuthPolicy(key=b"a key of the tests")
STRICT = dataclasses.replace(
    RULES, second_factor_roles=frozenset((StaffRole.FINANCE, StaffRole.ADMIN))
)
CLIENT = Client("192.0.2.10", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "en")
PASSWORD = "violet-kettle-9-march"
EMAIL = "lan@example.com"
pytestmark = pytest.mark.usefixtures("clock")

PARTY = RelyingParty("billing.example", "https://billing.example", "Billing")
STEP = timedelta(seconds=30)


@pytest.fixture
def clock(sessions: sessionmaker[Session]) -> TestClock:
    """The clock of every session that the factory makes."""
    clock = TestClock()
    sessions.configure(info={**KNOWS_KEYS, "clock": clock})
    return clock


@pytest.fixture
def session(sessions: sessionmaker[Session], clock: TestClock) -> Iterator[Session]:
    with sessions() as session:
        assert session.info["clock"] is clock
        yield session


@dataclasses.dataclass
class Someone:
    """A person with what they need to sign in, and the services as they use them."""

    sessions: sessionmaker[Session]
    user_id: int
    policy: AuthPolicy = RULES
    client: Client = CLIENT
    secret: str = ""
    codes: tuple[str, ...] = ()

    def sign_in(self) -> SignIn:
        return identity.authenticate(
            self.sessions, email=EMAIL, password=PASSWORD, client=self.client, policy=self.policy
        )

    def user(self, signed_in: SignIn) -> SignedInUser:
        with self.sessions() as session:
            found = identity.session_actor(session, token=signed_in.token, policy=self.policy)
        assert found is not None
        return found

    def again(self, user: SignedInUser, password: str = PASSWORD) -> Reauthentication:
        return Reauthentication(user, password, self.client, self.policy)

    def code(self, steps: int = 0) -> str:
        with self.sessions() as session:
            now = clocks.now(session)
        return pyotp.TOTP(self.secret).at(now + steps * STEP)

    def offered(self, user: SignedInUser, token: str | None) -> AuthenticatorOffer | None:
        assert token is not None
        actor = user.actor(self.client.address)
        with self.sessions() as session:
            return identity.own_authenticator_offer(
                session, actor=actor, token=token, email=EMAIL, issuer="Billing"
            )

    def confirm(self, user: SignedInUser, code: str, token: str | None) -> tuple[str, ...] | None:
        assert token is not None
        actor = user.actor(self.client.address)
        with self.sessions.begin() as session:
            return identity.confirm_own_authenticator(
                session, code=code, token=token, actor=actor, client=self.client
            )

    def set_up_app(self, user: SignedInUser) -> tuple[str, ...]:
        token = identity.begin_authenticator(self.sessions, self.again(user))
        offer = self.offered(user, token)
        assert offer is not None
        self.secret = offer.secret
        codes = self.confirm(user, self.code(), token)
        assert codes is not None
        self.codes = codes or self.codes
        return codes

    def finish(self, pending: SignIn, code: str) -> SignIn:
        return self.finish_with(pending, FactorAnswer(Factor.AUTHENTICATOR, code=code))

    def finish_with_recovery_code(self, pending: SignIn, code: str) -> SignIn:
        return self.finish_with(pending, FactorAnswer(Factor.RECOVERY_CODE, code=code))

    def finish_with(self, pending: SignIn, answer: FactorAnswer) -> SignIn:
        return identity.finish_sign_in(
            self.sessions,
            token=pending.token,
            answer=answer,
            client=self.client,
            policy=self.policy,
        )

    def prove(self, user: SignedInUser, answer: FactorAnswer) -> SignedInUser | None:
        """Prove a factor in a session, for changes of factors; return it under its new token."""
        renewed = identity.confirm_factor(
            self.sessions, user=user, answer=answer, client=self.client, policy=self.policy
        )
        return None if renewed.outcome is SignInOutcome.WRONG else self.user(renewed)

    def prove_by_code(self, user: SignedInUser, steps: int = 0) -> SignedInUser | None:
        return self.prove(user, FactorAnswer(Factor.AUTHENTICATOR, code=self.code(steps)))

    def prove_by_passkey(self, user: SignedInUser, device: Device) -> SignedInUser | None:
        with self.sessions() as session:
            options = identity.confirmation_passkey_options(
                session, actor=user.actor(None), party=PARTY, policy=self.policy
            )
        passkey = PasskeyAnswer(device.get(options.json), options.state)
        return self.prove(user, FactorAnswer(Factor.PASSKEY, passkey=passkey, party=PARTY))

    def add_passkey(self, user: SignedInUser, device: Device) -> tuple[str, ...] | None:
        with self.sessions() as session:
            options = identity.own_passkey_options(
                session,
                actor=user.actor(None),
                email=EMAIL,
                party=PARTY,
                policy=self.policy,
            )
        answer = PasskeyAnswer(device.create(options.json), options.state)
        return identity.add_own_passkey(
            self.sessions, self.again(user), name="Laptop", answer=answer, party=PARTY
        )

    def ask_passkey(self, binding: str, device: Device) -> PasskeyAnswer:
        with self.sessions() as session:
            now = clocks.now(session)
        options = identity.passkey_sign_in_options(
            party=PARTY, binding=binding, policy=self.policy, now=now
        )
        return PasskeyAnswer(device.get(options.json), options.state)

    def sign_in_by_passkey(self, answer: PasskeyAnswer, binding: str) -> SignIn:
        return identity.authenticate_with_passkey(
            self.sessions,
            answer=answer,
            party=PARTY,
            binding=binding,
            client=self.client,
            policy=self.policy,
        )


def someone(
    sessions: sessionmaker[Session], role: StaffRole | None = None, policy: AuthPolicy = RULES
) -> Someone:
    with sessions.begin() as session:
        user_id = identity.create_user(
            session,
            email=EMAIL,
            display_name="Lan",
            password=PASSWORD,
            staff_role=role,
            actor=SYSTEM,
        )
    return Someone(sessions, user_id, policy)


def with_app(sessions: sessionmaker[Session], clock: TestClock) -> Someone:
    """A person who has set an app up a while ago."""
    person = someone(sessions)
    person.set_up_app(person.user(person.sign_in()))
    clock.advance(minutes=5)
    return person


def mails(session: Session) -> list[str]:
    session.expire_all()
    return list(session.scalars(select(OutboxMessage.template).order_by(OutboxMessage.id)))


def administrator(session: Session) -> Actor:
    admin_id = identity.create_user(
        session,
        email="admin@example.com",
        display_name="Admin",
        password=PASSWORD,
        staff_role=StaffRole.ADMIN,
        actor=SYSTEM,
    )
    session.commit()
    return user_actor(admin_id, staff_role=StaffRole.ADMIN)


# ── An authenticator app ──────────────────────────────────────────────────────────────────────
def test_without_a_second_factor_a_password_signs_in(sessions: sessionmaker[Session]) -> None:
    person = someone(sessions)
    signed_in = person.sign_in()
    assert signed_in.outcome is SignInOutcome.SIGNED_IN
    assert person.user(signed_in).factor is Factor.PASSWORD


def test_an_app_is_asked_for_at_each_sign_in(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = someone(sessions)
    here, elsewhere = person.sign_in(), person.sign_in()
    codes = person.set_up_app(person.user(here))
    assert len(set(codes)) == 10
    assert identity.session_actor(session, token=elsewhere.token, policy=RULES) is None
    assert identity.session_actor(session, token=here.token, policy=RULES) is not None
    assert mails(session)[-1] == "second_factor_changed"

    for _day in range(2):
        clock.advance(hours=1)
        pending = person.sign_in()
        assert pending.outcome is SignInOutcome.SECOND_FACTOR
        assert identity.session_actor(session, token=pending.token, policy=RULES) is None
        found = identity.find_pending(session, token=pending.token)
        assert (found.email, found.has_authenticator, found.must_set_up) == (EMAIL, True, False)
        assert person.finish(pending, "000000").outcome is SignInOutcome.WRONG
        signed_in = person.finish(pending, f" {person.code()[:3]} {person.code()[3:]} ")
        assert signed_in.outcome is SignInOutcome.SIGNED_IN
        assert person.user(signed_in).factor is Factor.AUTHENTICATOR
        session.rollback()


def test_nothing_is_set_up_without_the_password_or_the_first_code(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = someone(sessions)
    user = person.user(person.sign_in())
    assert identity.begin_authenticator(sessions, person.again(user, "another-password-1")) is None
    for made_up in ("", "made-up", user.session_id):
        assert person.offered(user, made_up) is None
        with pytest.raises(NotFound):
            person.confirm(user, "123456", made_up)
    token = identity.begin_authenticator(sessions, person.again(user))
    offered = person.offered(user, token)
    assert offered is not None
    assert offered.secret not in repr(offered)
    assert person.confirm(user, "12345", token) is None
    assert person.sign_in().outcome is SignInOutcome.SIGNED_IN
    clock.advance(hours=1, seconds=1)
    code = pyotp.TOTP(offered.secret).at(clocks.now(session))
    with pytest.raises(NotFound):
        person.confirm(user, code, token)


def test_who_shares_the_session_or_the_password_does_not_see_the_secret(
    sessions: sessionmaker[Session], session: Session
) -> None:
    """Each offer is another secret, for one token; what came before it is void."""
    person = someone(sessions)
    user = person.user(person.sign_in())
    first = identity.begin_authenticator(sessions, person.again(user))
    seen_first = person.offered(user, first)
    assert seen_first is not None
    second = identity.begin_authenticator(sessions, person.again(user))
    seen_second = person.offered(user, second)
    assert seen_second is not None
    assert seen_second.secret != seen_first.secret
    assert person.offered(user, first) is None
    code = pyotp.TOTP(seen_first.secret).at(clocks.now(session))
    with pytest.raises(NotFound):
        person.confirm(user, code, first)
    assert person.confirm(user, code, second) is None
    assert person.confirm(user, pyotp.TOTP(seen_second.secret).at(clocks.now(session)), second)


def test_purge_and_the_end_of_sign_ins_do_not_wait_for_each_other(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = someone(sessions, StaffRole.FINANCE, STRICT)
    assert person.sign_in().outcome is SignInOutcome.SET_UP_FACTOR
    clock.advance(hours=2)

    def purge() -> int:
        with sessions.begin() as other:
            return identity.purge_identity(other, actor=SYSTEM)

    with ThreadPoolExecutor(1) as pool:
        withdraw_offer(session, person.user_id)
        purged = pool.submit(purge)
        wait_for_a_lock(session)
        end_pending_sign_ins(session, person.user_id)
        session.commit()
        assert purged.result(timeout=60) == 0


def wait_for_a_lock(session: Session) -> None:
    """Wait until another transaction waits for this one."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    )
    while not session.execute(waiting).scalar_one():
        time.sleep(0.02)  # noqa: TID251 - a poll, which the timeout of the test ends


@pytest.mark.parametrize("how", ["password", "sign_out", "session", "sign_in", "purge"])
def test_an_offered_secret_ends_with_what_protected_it(
    sessions: sessionmaker[Session], session: Session, clock: TestClock, how: str
) -> None:
    person = someone(sessions)
    other, user = person.user(person.sign_in()), person.user(person.sign_in())
    token = identity.begin_authenticator(sessions, person.again(user))
    offered = person.offered(user, token)
    assert offered is not None
    if how == "password":
        changed = identity.change_password(
            sessions,
            user=other,
            current_password=PASSWORD,
            new_password="a-new-password-81",
            client=CLIENT,
            policy=RULES,
        )
        assert changed.outcome is SignInOutcome.SIGNED_IN
    elif how == "sign_out":
        identity.revoke_all_sessions(session, actor=other.actor(None))
    elif how == "session":
        identity.revoke_session(session, session_id=other.session_id, actor=user.actor(None))
    elif how == "sign_in":
        end_pending_sign_ins(session, user.user_id)
    else:
        clock.advance(hours=1)
        identity.purge_identity(session, actor=SYSTEM)
    session.commit()
    assert person.offered(user, token) is None
    code = pyotp.TOTP(offered.secret).at(clocks.now(session))
    with pytest.raises(NotFound):
        person.confirm(user, code, token)
    row = session.get(Authenticator, user.user_id)
    assert row is not None
    assert (row.sealed_offer, row.offer_digest, row.offered_at) == (None, None, None)


def test_an_app_that_replaces_another_counts_once_its_code_was_entered(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    user = person.user(person.finish(person.sign_in(), person.code()))
    old_secret = person.secret
    clock.advance(minutes=1)
    renewed = person.prove_by_code(user, steps=-1)
    assert renewed is not None
    user = renewed
    assert identity.begin_authenticator(sessions, person.again(user))
    assert person.finish(person.sign_in(), person.code()).outcome is SignInOutcome.SIGNED_IN
    clock.advance(minutes=1)
    assert person.set_up_app(user) == ()
    assert person.secret != old_secret
    clock.advance(minutes=1)
    old_code = pyotp.TOTP(old_secret).at(clocks.now(session))
    assert person.finish(person.sign_in(), old_code).outcome is SignInOutcome.WRONG
    assert person.finish(person.sign_in(), person.code()).outcome is SignInOutcome.SIGNED_IN
    # The codes on paper are still good.
    recovered = person.finish_with_recovery_code(person.sign_in(), person.codes[0])
    assert recovered.outcome is SignInOutcome.SIGNED_IN


@pytest.mark.parametrize(
    ("steps", "works"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_codes_of_about_now_count(
    sessions: sessionmaker[Session], clock: TestClock, steps: int, *, works: bool
) -> None:
    person = with_app(sessions, clock)
    outcome = person.finish(person.sign_in(), person.code(steps)).outcome
    assert outcome is (SignInOutcome.SIGNED_IN if works else SignInOutcome.WRONG)


def test_a_code_works_once_and_none_before_it_afterwards(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    before, code = person.code(-1), person.code()
    assert person.finish(person.sign_in(), code).outcome is SignInOutcome.SIGNED_IN
    assert person.finish(person.sign_in(), code).outcome is SignInOutcome.WRONG
    assert person.finish(person.sign_in(), before).outcome is SignInOutcome.WRONG
    assert person.finish(person.sign_in(), person.code(1)).outcome is SignInOutcome.SIGNED_IN


def test_of_two_browsers_with_the_same_code_one_is_let_in(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    code = person.code()
    pending = [person.sign_in(), person.sign_in()]
    with ThreadPoolExecutor(2) as both:
        tries = [both.submit(person.finish, each, code) for each in pending]
    outcomes: list[object] = []
    for each in tries:
        error = each.exception()
        outcomes.append(type(error) if error else each.result().outcome)
    assert outcomes.count(SignInOutcome.SIGNED_IN) == 1
    # The other one finds its sign-in over, or its code used.
    assert set(outcomes) <= {SignInOutcome.SIGNED_IN, SignInOutcome.WRONG, NotFound}


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "١٢٣٤٥٦", "-12345", "\x00" * 6])
def test_what_is_no_code_is_wrong_and_nothing_else(
    sessions: sessionmaker[Session], clock: TestClock, code: str
) -> None:
    person = with_app(sessions, clock)
    assert person.finish(person.sign_in(), code).outcome is SignInOutcome.WRONG


# ── Recovery codes ────────────────────────────────────────────────────────────────────────────
def test_a_recovery_code_signs_in_once_and_is_told_by_mail(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    typed = person.codes[3].upper().replace("-", " ")
    signed_in = person.finish_with_recovery_code(person.sign_in(), typed)
    assert signed_in.outcome is SignInOutcome.SIGNED_IN
    assert person.user(signed_in).factor is Factor.RECOVERY_CODE
    mail = session.scalars(
        select(OutboxMessage).where(OutboxMessage.template == "recovery_code_used")
    ).one()
    assert parameters_of(session, mail) == {"left": 9}
    again = person.finish_with_recovery_code(person.sign_in(), person.codes[3])
    assert again.outcome is SignInOutcome.WRONG


def test_recovery_codes_are_kept_unreadable_and_are_of_one_person(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    kept = session.execute(text("SELECT recovery_codes::text FROM recovery_codes")).scalars().all()
    assert not any(code.split("-")[0] in row for code in person.codes for row in kept)
    sealed = session.scalars(select(Authenticator.sealed_secret)).one()
    assert person.secret.encode() not in bytes(sealed or b"")
    other = identity.create_user(
        session,
        email="other@example.com",
        display_name="Other",
        password=PASSWORD,
        staff_role=None,
        actor=SYSTEM,
    )
    session.execute(update(RecoveryCode).values(user_id=other))
    session.commit()
    answer = person.finish_with_recovery_code(person.sign_in(), person.codes[0])
    assert answer.outcome is SignInOutcome.WRONG


def test_new_recovery_codes_end_the_older_ones(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    user = person.prove_by_code(
        person.user(person.finish(person.sign_in(), person.code())), steps=1
    )
    assert user is not None
    assert identity.replace_recovery_codes(sessions, person.again(user, "wrong-1-password")) is None
    new = identity.replace_recovery_codes(sessions, person.again(user))
    assert new is not None
    assert not set(new) & set(person.codes)
    old = person.finish_with_recovery_code(person.sign_in(), person.codes[0])
    assert old.outcome is SignInOutcome.WRONG
    assert (
        person.finish_with_recovery_code(person.sign_in(), new[0]).outcome
        is SignInOutcome.SIGNED_IN
    )


def test_recovery_codes_are_replaced_once_by_the_same_request(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    user = person.prove_by_code(
        person.user(person.finish(person.sign_in(), person.code())), steps=1
    )
    assert user is not None

    def present() -> str:
        with sessions() as session:
            actor = user.actor("127.0.0.1")
            found = identity.list_second_factors(session, actor=actor, policy=RULES)
            return found.recovery_code_set

    seen = present()
    new = identity.replace_recovery_codes(sessions, person.again(user), replaces=seen)
    assert new is not None
    for replaces in (seen, "", "0" * 64):
        with pytest.raises(Conflict) as refused:
            identity.replace_recovery_codes(sessions, person.again(user), replaces=replaces)
        assert refused.value.reason == "codes_replaced"
    used = person.finish_with_recovery_code(person.sign_in(), new[0])
    assert used.outcome is SignInOutcome.SIGNED_IN
    assert present() != seen
    assert identity.replace_recovery_codes(sessions, person.again(user), replaces=present())


def test_who_has_no_second_factor_gets_no_recovery_codes(sessions: sessionmaker[Session]) -> None:
    person = someone(sessions)
    user = person.user(person.sign_in())
    with pytest.raises(Conflict):
        identity.replace_recovery_codes(sessions, person.again(user))


# ── What ends a pending sign-in ───────────────────────────────────────────────────────────────
def test_a_pending_sign_in_ends_after_ten_minutes(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    pending = person.sign_in()
    clock.advance(minutes=9, seconds=59)
    assert identity.find_pending(session, token=pending.token).email == EMAIL
    clock.advance(seconds=1)
    with pytest.raises(NotFound):
        identity.find_pending(session, token=pending.token)
    with pytest.raises(NotFound):
        person.finish(pending, person.code())


def test_a_pending_sign_in_ends_with_its_person_s_rights(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    pending = person.sign_in()
    admin = administrator(session)
    disable_user(session, user_id=person.user_id, is_disabled=True, reason="left", actor=admin)
    session.commit()
    with pytest.raises(NotFound):
        person.finish(pending, person.code())
    disable_user(session, user_id=person.user_id, is_disabled=False, reason="back", actor=admin)
    session.commit()
    with pytest.raises(NotFound):
        person.finish(pending, person.code())
    assert person.finish(person.sign_in(), person.code()).outcome is SignInOutcome.SIGNED_IN


def test_a_new_password_ends_what_was_begun_with_the_old_one(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    pending = person.sign_in()
    identity.request_password_reset(session, email=EMAIL, client=CLIENT, policy=RULES)
    session.commit()
    mail = session.scalars(
        select(OutboxMessage).where(OutboxMessage.template == "reset_password")
    ).one()
    token = str(parameters_of(session, mail)["token"])
    identity.reset_password(sessions, token=token, password="amber-ladder-4-june", client=CLIENT)
    with pytest.raises(NotFound):
        person.finish(pending, person.code())
    # A new password is no second factor.
    begun = identity.authenticate(
        sessions, email=EMAIL, password="amber-ladder-4-june", client=CLIENT, policy=RULES
    )
    assert begun.outcome is SignInOutcome.SECOND_FACTOR


# ── Guessing ──────────────────────────────────────────────────────────────────────────────────
def test_wrong_codes_are_slowed_down_over_all_pending_sign_ins(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    for _try in range(5):
        assert person.finish(person.sign_in(), "000000").outcome is SignInOutcome.WRONG
    with pytest.raises(RateLimited):
        person.finish(person.sign_in(), person.code())
    with pytest.raises(RateLimited):
        person.finish_with_recovery_code(person.sign_in(), person.codes[0])
    clock.advance(seconds=31)
    assert person.finish(person.sign_in(), person.code()).outcome is SignInOutcome.SIGNED_IN


def test_who_has_the_password_alone_is_told_of_a_few_times_a_day(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    person.finish(person.sign_in(), person.code())
    person.sign_in()
    assert mails(session).count("password_entered") == 0, "where they are known"
    home, abroad = person.client, Client("198.51.100.7")
    for client in (abroad, abroad, *(Client(f"198.51.{number}.1") for number in range(9))):
        person.client = client
        assert person.sign_in().outcome is SignInOutcome.SECOND_FACTOR
    session.rollback()
    assert mails(session).count("password_entered") == 5, "one of each network, and five in all"
    session.rollback()
    person.client = abroad
    clock.advance(hours=24, seconds=1)
    assert person.finish(person.sign_in(), person.code()).outcome is SignInOutcome.SIGNED_IN
    # From now on they are known there too.
    clock.advance(hours=24, seconds=1)
    for client in (abroad, home):
        person.client = client
        person.sign_in()
    assert mails(session).count("password_entered") == 6


def test_a_role_that_came_while_the_password_was_checked_is_seen(
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would be in as a customer is, for days, and without the factor of the role."""
    person = someone(sessions, None, STRICT)
    verify = passwords.verify_password

    def and_give_a_role(*given: Any) -> bool:
        with sessions.begin() as other:
            change_staff_role(
                other, user_id=person.user_id, role=StaffRole.FINANCE, reason="hired", actor=SYSTEM
            )
        return verify(*given)

    monkeypatch.setattr(passwords, "verify_password", and_give_a_role)
    assert person.sign_in().outcome is SignInOutcome.WRONG
    monkeypatch.undo()
    assert person.sign_in().outcome is SignInOutcome.SET_UP_FACTOR


def test_who_guesses_from_everywhere_is_slowed_down_and_told_of(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    home = person.client
    refused = 0
    for number in range(45):
        person.client = Client(f"198.51.{number}.1")
        pending = person.sign_in()
        try:
            assert person.finish(pending, "000000").outcome is SignInOutcome.WRONG
        except RateLimited:
            refused += 1
    assert refused == 5
    assert mails(session).count("second_factor_guessed") == 1
    # At home, where the person has signed in before, nothing is in the way.
    person.client = home
    assert person.finish(person.sign_in(), person.code()).outcome is SignInOutcome.SIGNED_IN


# ── Who must have one ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("role", [StaffRole.FINANCE, StaffRole.ADMIN])
def test_staff_with_power_over_money_or_people_set_one_up_before_they_are_in(
    sessions: sessionmaker[Session], session: Session, clock: TestClock, role: StaffRole
) -> None:
    person = someone(sessions, role, STRICT)
    pending = person.sign_in()
    assert pending.outcome is SignInOutcome.SET_UP_FACTOR
    assert identity.session_actor(session, token=pending.token, policy=STRICT) is None
    assert identity.find_pending(session, token=pending.token).must_set_up
    offer = identity.pending_offer(session, token=pending.token, issuer="Billing")
    assert offer is not None
    session.rollback()
    person.secret = offer.secret

    def finish(code: str) -> tuple[SignIn, tuple[str, ...]]:
        return identity.finish_set_up(
            sessions, token=pending.token, code=code, client=CLIENT, policy=STRICT
        )

    assert finish("000000")[0].outcome is SignInOutcome.WRONG
    # No code that they do not have, and no way round the set-up.
    assert person.finish(pending, person.code()).outcome is SignInOutcome.WRONG
    signed_in, codes = finish(person.code())
    assert signed_in.outcome is SignInOutcome.SIGNED_IN
    assert person.user(signed_in).factor is Factor.AUTHENTICATOR
    assert len(codes) == 10
    clock.advance(minutes=5)
    assert person.sign_in().outcome is SignInOutcome.SECOND_FACTOR


def test_support_and_customers_may_and_need_not(sessions: sessionmaker[Session]) -> None:
    person = someone(sessions, StaffRole.SUPPORT, STRICT)
    assert person.sign_in().outcome is SignInOutcome.SIGNED_IN


def test_a_factor_that_was_set_up_meanwhile_is_not_set_up_over(
    sessions: sessionmaker[Session], session: Session
) -> None:
    """Whoever has the password alone cannot replace a factor that somebody set up before."""
    person = someone(sessions, StaffRole.FINANCE, STRICT)
    second, first = person.sign_in(), person.sign_in()
    # What the one who signs in later sees is not what the earlier one saw, or can enter.
    assert identity.pending_offer(session, token=second.token, issuer="Billing") is None
    offer = identity.pending_offer(session, token=first.token, issuer="Billing")
    assert offer is not None
    session.rollback()
    person.secret = offer.secret
    done, _codes = identity.finish_set_up(
        sessions, token=first.token, code=person.code(), client=CLIENT, policy=STRICT
    )
    assert done.outcome is SignInOutcome.SIGNED_IN
    with pytest.raises(NotFound):  # it ended with the other
        identity.finish_set_up(
            sessions, token=second.token, code=person.code(1), client=CLIENT, policy=STRICT
        )
    third = person.sign_in()
    assert identity.pending_offer(session, token=third.token, issuer="Billing") is None
    session.rollback()
    with pytest.raises(Conflict):
        identity.finish_set_up(
            sessions, token=third.token, code=person.code(1), client=CLIENT, policy=STRICT
        )


def test_a_session_of_a_password_alone_ends_where_the_role_needs_more(
    sessions: sessionmaker[Session], session: Session
) -> None:
    """Such as those of before the rule, or of a demo whose database goes live."""
    person = someone(sessions, StaffRole.FINANCE, RULES)
    token = person.sign_in().token
    assert identity.session_actor(session, token=token, policy=RULES) is not None
    assert identity.session_actor(session, token=token, policy=STRICT) is None
    names = [identity.session_id_of(token)]
    assert identity.live_sessions(session, session_ids=names, policy=STRICT) == frozenset()
    session.execute(update(UserSession).values(factor=Factor.PASSKEY))
    assert identity.session_actor(session, token=token, policy=STRICT) is not None


def test_the_last_required_factor_is_replaced_and_not_removed(
    sessions: sessionmaker[Session], session: Session
) -> None:
    person = someone(sessions, StaffRole.FINANCE, RULES)
    user = person.user(person.sign_in())
    person.set_up_app(user)
    renewed = person.prove_by_code(user, steps=1)
    assert renewed is not None
    user = renewed
    person.policy = STRICT
    with pytest.raises(Conflict):
        identity.remove_own_authenticator(sessions, person.again(user))
    device = Device(PARTY.origin)
    assert person.add_passkey(user, device) == ()
    assert identity.remove_own_authenticator(sessions, person.again(user))
    listed = identity.list_second_factors(session, actor=user.actor(None), policy=STRICT)
    (passkey,) = listed.passkeys
    assert (listed.has_authenticator, listed.is_required) == (False, True)
    with pytest.raises(Conflict):
        identity.remove_own_passkey(sessions, person.again(user), key=passkey.key)
    person.policy = RULES
    assert identity.remove_own_passkey(sessions, person.again(user), key=passkey.key)
    with pytest.raises(NotFound):
        identity.remove_own_passkey(sessions, person.again(user), key=passkey.key)
    session.rollback()
    left = identity.list_second_factors(session, actor=user.actor(None), policy=RULES)
    assert left.recovery_codes_left == 0
    message = [
        parameters_of(session, row)
        for row in session.scalars(select(OutboxMessage).order_by(OutboxMessage.id))
    ]
    assert [(each["change"], each["is_on"]) for each in message] == [
        ("app_added", True),
        ("passkey_added", True),
        ("app_removed", True),
        ("passkey_removed", False),
    ]


CHANGES: dict[str, Callable[[Someone, SignedInUser], object]] = {
    "replace the app": lambda person, user: identity.begin_authenticator(
        person.sessions, person.again(user)
    ),
    "remove the app": lambda person, user: identity.remove_own_authenticator(
        person.sessions, person.again(user)
    ),
    "add a passkey": lambda person, user: person.add_passkey(user, Device(PARTY.origin)),
    "remove a passkey": lambda person, user: identity.remove_own_passkey(
        person.sessions, person.again(user), key="1"
    ),
    "replace the codes": lambda person, user: identity.replace_recovery_codes(
        person.sessions, person.again(user)
    ),
    "change the password": lambda person, user: identity.change_password(
        person.sessions,
        user=user,
        current_password=PASSWORD,
        new_password="amber-ladder-4-june",
        client=person.client,
        policy=person.policy,
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_session_and_the_password_change_no_factor(
    sessions: sessionmaker[Session],
    clock: TestClock,
    change: Callable[[Someone, SignedInUser], object],
) -> None:
    person = with_app(sessions, clock)
    user = person.user(person.finish(person.sign_in(), person.code()))
    for _time in range(2):
        with pytest.raises(Conflict, match="factor_not_confirmed"):
            change(person, user)
    # What was proven elsewhere, or is wrong, opens nothing here.
    clock.advance(minutes=1)
    elsewhere = person.user(person.finish(person.sign_in(), person.code()))
    assert person.prove_by_code(elsewhere, steps=1)
    assert not person.prove(user, FactorAnswer(Factor.AUTHENTICATOR, code="000000"))
    assert not person.prove(user, FactorAnswer(Factor.RECOVERY_CODE, code="aaaaa-aaaaa"))
    assert not person.prove(user, FactorAnswer(Factor.PASSKEY))
    with pytest.raises(Conflict, match="factor_not_confirmed"):
        change(person, user)


@pytest.mark.parametrize("with_recovery_code", [False, True])
def test_a_proven_factor_lets_it_be_changed_for_ten_minutes(
    sessions: sessionmaker[Session],
    session: Session,
    clock: TestClock,
    *,
    with_recovery_code: bool,
) -> None:
    person = with_app(sessions, clock)
    user = person.user(person.finish(person.sign_in(), person.code()))
    if with_recovery_code:
        answer = FactorAnswer(Factor.RECOVERY_CODE, code=person.codes[0])
    else:
        answer = FactorAnswer(Factor.AUTHENTICATOR, code=person.code(1))
    renewed = person.prove(user, answer)
    assert renewed is not None
    assert not person.prove(renewed, answer), "a code counts once"
    # A copy of the session from before is out, and profits from nothing.
    with sessions() as other, pytest.raises(NotAuthorised):
        with_current_rights(other, user.actor(None))
    user = renewed
    clock.advance(minutes=9, seconds=59)
    assert identity.begin_authenticator(sessions, person.again(user))
    clock.advance(seconds=1)
    with pytest.raises(Conflict, match="factor_not_confirmed"):
        identity.begin_authenticator(sessions, person.again(user))
    listed = identity.list_second_factors(session, actor=user.actor(None), policy=RULES)
    assert not listed.may_change
    actions = session.scalars(
        select(AuditRecord.action).where(AuditRecord.actor == f"user:{person.user_id}")
    )
    assert list(actions).count("confirm_second_factor") == 1


def test_guesses_of_a_proof_are_counted_with_those_of_sign_ins(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    user = person.user(person.finish(person.sign_in(), person.code()))
    wrong = FactorAnswer(Factor.AUTHENTICATOR, code="000000")
    for _guess in range(RULES.guesses_per_person.free):
        assert not person.prove(user, wrong)
    with pytest.raises(RateLimited):
        person.prove(user, wrong)
    with pytest.raises(RateLimited):
        person.finish(person.sign_in(), person.code(1))


def test_nothing_is_proven_in_a_session_that_has_ended(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    user = person.user(person.finish(person.sign_in(), person.code()))
    identity.revoke_all_sessions(session, actor=user.actor(None))
    session.commit()
    assert not person.prove_by_code(user, steps=1)
    # The code was not used up by it.
    assert person.finish(person.sign_in(), person.code(1)).outcome is SignInOutcome.SIGNED_IN


def test_nothing_is_changed_by_a_session_that_ended_while_the_form_was_on_its_way(
    sessions: sessionmaker[Session], session: Session
) -> None:
    person = someone(sessions)
    user = person.user(person.sign_in())
    identity.revoke_all_sessions(session, actor=user.actor(None))
    session.commit()
    again = person.again(user)
    assert person.add_passkey(user, Device(PARTY.origin)) is None
    assert not identity.begin_authenticator(sessions, again)
    assert not identity.remove_own_authenticator(sessions, again)
    assert identity.replace_recovery_codes(sessions, again) is None
    changed = identity.change_password(
        sessions,
        user=user,
        current_password=PASSWORD,
        new_password="amber-ladder-4-june",
        client=CLIENT,
        policy=RULES,
    )
    assert changed.outcome is SignInOutcome.WRONG
    assert person.sign_in().outcome is SignInOutcome.SIGNED_IN


# ── Passkeys ──────────────────────────────────────────────────────────────────────────────────
def passkey_person(sessions: sessionmaker[Session]) -> tuple[Someone, Device]:
    person = someone(sessions)
    device = Device(PARTY.origin)
    assert person.add_passkey(person.user(person.sign_in()), device)
    return person, device


def finish_with_passkey(
    person: Someone, pending: SignIn, device: Device, party: RelyingParty = PARTY
) -> SignIn:
    with person.sessions() as session:
        options = identity.pending_passkey_options(
            session, token=pending.token, party=party, policy=person.policy
        )
    assert json.loads(options.json)["userVerification"] == "required"
    passkey = PasskeyAnswer(device.get(options.json), options.state)
    return person.finish_with(pending, FactorAnswer(Factor.PASSKEY, passkey=passkey, party=party))


def test_a_passkey_is_a_second_factor(sessions: sessionmaker[Session]) -> None:
    person, device = passkey_person(sessions)
    for _day in range(2):
        pending = person.sign_in()
        assert pending.outcome is SignInOutcome.SECOND_FACTOR
        signed_in = finish_with_passkey(person, pending, device)
        assert person.user(signed_in).factor is Factor.PASSKEY
    other = Device(PARTY.origin)
    assert finish_with_passkey(person, person.sign_in(), other).outcome is SignInOutcome.WRONG


def test_a_passkey_signs_in_without_a_password_and_an_answer_counts_once(
    sessions: sessionmaker[Session],
) -> None:
    person, device = passkey_person(sessions)
    answer = person.ask_passkey("a browser", device)
    signed_in = person.sign_in_by_passkey(answer, "a browser")
    assert person.user(signed_in).factor is Factor.PASSKEY
    assert person.sign_in_by_passkey(answer, "a browser").outcome is SignInOutcome.WRONG
    again = person.ask_passkey("a browser", device)
    assert person.sign_in_by_passkey(again, "a browser").outcome is SignInOutcome.SIGNED_IN


def test_an_answer_counts_once_also_for_devices_that_count_nothing(
    sessions: sessionmaker[Session],
) -> None:
    """Synced passkeys always count zero, so that the counter tells of no replay."""
    person, device = passkey_person(sessions)
    device.sign_count = -1
    answer = person.ask_passkey("a browser", device)
    assert person.sign_in_by_passkey(answer, "a browser").outcome is SignInOutcome.SIGNED_IN
    assert person.sign_in_by_passkey(answer, "a browser").outcome is SignInOutcome.WRONG


def test_answers_to_something_else_are_wrong(
    sessions: sessionmaker[Session], clock: TestClock
) -> None:
    person, device = passkey_person(sessions)

    def outcome(answer: PasskeyAnswer, binding: str = "a browser") -> SignInOutcome:
        return person.sign_in_by_passkey(answer, binding).outcome

    good = person.ask_passkey("a browser", device)
    assert outcome(good, "another browser") is SignInOutcome.WRONG
    end, _dot, mark = good.state.partition(".")
    later = f"{int(end) + 1}.{mark}"
    assert outcome(PasskeyAnswer(good.credential, later)) is SignInOutcome.WRONG
    for strange in ("", "x", "-1", "9" * 40, "1e9", "٣" * 10):
        assert outcome(PasskeyAnswer(good.credential, strange)) is SignInOutcome.WRONG
    device.origin = "https://billing.example.evil"
    assert outcome(person.ask_passkey("a browser", device)) is SignInOutcome.WRONG
    device.origin = PARTY.origin
    device.flags = USER_PRESENT
    assert outcome(person.ask_passkey("a browser", device)) is SignInOutcome.WRONG, "not verified"
    device.flags = Device(PARTY.origin).flags
    device.user_handle = b"user:999"
    assert outcome(person.ask_passkey("a browser", device)) is SignInOutcome.WRONG
    device.user_handle = f"user:{person.user_id}".encode()
    device.sign_count = 0
    copied = person.ask_passkey("a browser", device)
    assert outcome(copied) is SignInOutcome.SIGNED_IN
    device.sign_count = 0
    assert outcome(person.ask_passkey("a browser", device)) is SignInOutcome.WRONG, "a copy"
    device.sign_count = 10
    good = person.ask_passkey("a browser", device)
    clock.advance(minutes=10, seconds=1)
    assert outcome(good) is SignInOutcome.WRONG, "too late"


def test_a_disabled_person_s_passkey_opens_nothing(
    sessions: sessionmaker[Session], session: Session
) -> None:
    person, device = passkey_person(sessions)
    session.execute(
        update(User).where(User.id == person.user_id).values(disabled_at=clocks.now(session))
    )
    session.commit()
    answer = person.ask_passkey("a browser", device)
    assert person.sign_in_by_passkey(answer, "a browser").outcome is SignInOutcome.DISABLED


def test_a_passkey_is_registered_once_by_the_session_that_asked(
    sessions: sessionmaker[Session], session: Session
) -> None:
    person, device = passkey_person(sessions)
    user = person.user(finish_with_passkey(person, person.sign_in(), device))
    renewed = person.prove_by_passkey(user, device)
    assert renewed is not None
    user = renewed
    with pytest.raises(InvalidInput):
        person.add_passkey(user, device)
    second = Device(PARTY.origin)
    options = identity.own_passkey_options(
        session, actor=user.actor(None), email=EMAIL, party=PARTY, policy=RULES
    )
    session.rollback()
    assert len(json.loads(options.json)["excludeCredentials"]) == 1
    answer = PasskeyAnswer(second.create(options.json), options.state)
    elsewhere = person.user(finish_with_passkey(person, person.sign_in(), device))
    other = person.prove_by_passkey(elsewhere, device)
    assert other is not None
    elsewhere = other

    def add(user: SignedInUser) -> tuple[str, ...] | None:
        return identity.add_own_passkey(
            sessions, person.again(user), name="Phone", answer=answer, party=PARTY
        )

    with pytest.raises(InvalidInput):
        add(elsewhere)
    assert add(user) == ()
    with pytest.raises(InvalidInput):
        add(user)


def test_a_person_has_a_bounded_number_of_passkeys(
    sessions: sessionmaker[Session], session: Session
) -> None:
    person, _device = passkey_person(sessions)
    session.execute(
        text(
            "INSERT INTO passkeys"
            " (credential_id, user_id, name, public_key, sign_count, transports)"
            " SELECT decode(to_hex(n + 4096), 'hex'), :user_id, 'x', 'x', 0, '{}'"
            " FROM generate_series(1, 19) n"
        ),
        {"user_id": person.user_id},
    )
    session.execute(update(UserSession).values(revoked_at=None))
    session.commit()
    token = session.scalars(select(UserSession.token_digest)).first()
    assert token is not None
    user = dataclasses.replace(signed_in_user(session, person), session_id=token.hex())
    with pytest.raises(Conflict):
        person.add_passkey(user, Device(PARTY.origin))


def signed_in_user(session: Session, person: Someone) -> SignedInUser:
    client = person.client
    opened = identity.create_session(session, user_id=person.user_id, client=client, policy=RULES)
    session.commit()
    return person.user(opened)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "rawId", "type", "response", "clientDataJSON", "signature"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=JSON | st.text(max_size=200), data=st.data())
def test_whatever_comes_instead_of_an_answer_is_wrong_and_nothing_else(
    sessions: sessionmaker[Session], clock: TestClock, content: object, data: st.DataObject
) -> None:
    credential = content if isinstance(content, str) else json.dumps(content)
    state = f"{int(clock().timestamp()) + data.draw(st.integers(0, 700))}.mark"
    outcome = identity.authenticate_with_passkey(
        sessions,
        answer=PasskeyAnswer(credential, state),
        party=PARTY,
        binding="a browser",
        client=Client(f"10.0.{data.draw(st.integers(0, 255))}.{data.draw(st.integers(0, 255))}"),
        policy=RULES,
    )
    assert outcome.outcome is SignInOutcome.WRONG


def test_deep_and_long_answers_are_wrong(sessions: sessionmaker[Session], clock: TestClock) -> None:
    person = someone(sessions)
    state = f"{int(clock().timestamp()) + 60}.mark"
    for content in ("[" * 8000, '{"id":' * 2000, "x" * 20_000, '"' + "a" * 16_000 + '"'):
        answer = PasskeyAnswer(content, state)
        assert person.sign_in_by_passkey(answer, "a browser").outcome is SignInOutcome.WRONG


# ── By an administrator ───────────────────────────────────────────────────────────────────────
def test_an_administrator_resets_what_somebody_has_lost(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person = with_app(sessions, clock)
    signed_in = person.finish(person.sign_in(), person.code())
    admin = administrator(session)

    def reset(actor: Actor, reason: str = "lost their phone") -> None:
        identity.reset_second_factors(session, user_id=person.user_id, reason=reason, actor=actor)

    for role in (None, StaffRole.SUPPORT, StaffRole.FINANCE):
        with pytest.raises(NotAuthorised):
            reset(user_actor(4711, staff_role=role))
    with pytest.raises(NotAuthorised):
        reset(user_actor(person.user_id, staff_role=StaffRole.ADMIN))
    with pytest.raises(InvalidInput):
        reset(admin, " ")
    reset(admin)
    reset(admin)
    session.commit()
    assert identity.session_actor(session, token=signed_in.token, policy=RULES) is None
    assert mails(session)[-1] == "second_factor_changed"
    message = session.scalars(
        select(AuditRecord).where(AuditRecord.action == "reset_second_factors")
    ).first()
    assert message is not None
    assert message.details == {"user_id": person.user_id, "reason": "lost their phone"}
    session.rollback()
    assert person.sign_in().outcome is SignInOutcome.SIGNED_IN


def test_ended_sign_ins_and_challenges_are_forgotten(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    person, device = passkey_person(sessions)
    person.sign_in_by_passkey(person.ask_passkey("a browser", device), "a browser")
    person.sign_in()
    count = text(
        "SELECT (SELECT count(*) FROM pending_sign_ins), (SELECT count(*) FROM used_challenges)"
    )
    assert session.execute(count).one() == (1, 2)
    clock.advance(hours=1)
    identity.purge_identity(session, actor=SYSTEM)
    assert session.execute(count).one() == (0, 0)
