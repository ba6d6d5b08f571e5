"""People, their sessions and passwords, on a real PostgreSQL."""

from __future__ import annotations

import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import event, func, select, text, update

from db.models import AuditRecord, EmailToken, OutboxMessage, Throttle, User, UserSession
from domain import accounts, identity
from domain.accounts.sign_up import SignUp, sign_up, sign_up_faults
from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.errors import Conflict, InvalidInput, NotAuthorised, NotFound, Overloaded, RateLimited
from domain.identity import AuthPolicy, Client, SignIn, SignInOutcome
from domain.security import passwords, rate_limits
from domain.security.rate_limits import Limit
from domain.staff import disable_user
from tests.conftest import TestClock
from tests.factories import make_account
from tests.support.keys import KNOWS_VAULT, parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session, sessionmaker

SYSTEM = system_actor("tests")
RULES = AuthPolicy(key=b"a key of the tests")
CLIENT = Client("192.0.2.10", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "en")
PASSWORD = "violet-kettle-9-march"
NEW_PASSWORD = "amber-ladder-4-june"
EMAIL = "lan@example.com"


@pytest.fixture
def clock(sessions: sessionmaker[Session]) -> TestClock:
    """The clock of every session that the factory makes."""
    clock = TestClock()
    sessions.configure(info={**KNOWS_VAULT, "clock": clock})
    return clock


@pytest.fixture
def session(sessions: sessionmaker[Session], clock: TestClock) -> Iterator[Session]:
    """A session that goes by the same clock; tests commit it."""
    with sessions() as session:
        assert session.info["clock"] is clock
        yield session


def form(email: str = EMAIL, **changes: str) -> SignUp:
    values = {
        "email": email,
        "display_name": "Lan Nguyen",
        "password": PASSWORD,
        "account_name": "Lan's lab",
        "country": "VN",
        "currency": "VND",
    }
    return SignUp(**(values | changes))


def sign_up_with(sessions: sessionmaker[Session], **changes: str) -> None:
    for fault in sign_up(sessions, form=form(**changes), client=CLIENT, policy=RULES):
        raise fault


def last_mail(session: Session) -> OutboxMessage:
    session.expire_all()
    newest = select(OutboxMessage).order_by(OutboxMessage.id.desc()).limit(1)
    return session.scalars(newest).one()


def mailed_token(session: Session) -> str:
    return str(parameters_of(session, last_mail(session))["token"])


def make_user(session: Session, email: str = EMAIL, role: StaffRole | None = None) -> int:
    user_id = identity.create_user(
        session,
        email=email,
        display_name="Lan",
        password=PASSWORD,
        staff_role=role,
        actor=SYSTEM,
    )
    session.commit()
    return user_id


def sign_in(
    sessions: sessionmaker[Session],
    email: str = EMAIL,
    password: str = PASSWORD,
    client: Client = CLIENT,
) -> SignIn:
    return identity.authenticate(
        sessions, email=email, password=password, client=client, policy=RULES
    )


def user(sessions: sessionmaker[Session], token: str) -> identity.SignedInUser | None:
    with sessions() as session:
        return identity.session_actor(session, token=token, policy=RULES)


def audited(session: Session) -> list[str]:
    actions = select(AuditRecord.action).where(AuditRecord.action != "load_catalogue")
    return list(session.scalars(actions.order_by(AuditRecord.id)))


# ── Signing up ─────────────────────────────────────────────────────────────────────────────────
def test_sign_up_makes_an_owner_who_must_confirm_the_address(
    sessions: sessionmaker[Session], session: Session
) -> None:
    sign_up_with(sessions, email="  Lan@Example.COM ")

    user = session.scalars(select(User)).one()
    assert user.email == EMAIL
    assert user.email_verified_at is None
    assert PASSWORD not in user.password_hash
    assert user.password_hash.startswith("$argon2id$")
    members = accounts.memberships(session, user_id=user.id)
    assert list(members.values()) == [MemberRole.OWNER]
    account = session.execute(text("SELECT site_code, currency, country, name FROM accounts")).one()
    assert tuple(account) == ("vn", "VND", "VN", "Lan's lab")

    assert sign_in(sessions).outcome is SignInOutcome.UNVERIFIED
    assert session.scalar(select(func.count()).select_from(UserSession)) == 0


def test_the_mailed_link_and_the_password_open_a_session_once(
    sessions: sessionmaker[Session], session: Session
) -> None:
    sign_up_with(sessions)
    token = mailed_token(session)

    def verify(password: str) -> SignIn:
        return identity.verify_email(
            sessions, token=token, password=password, client=CLIENT, policy=RULES
        )

    assert verify("somebody else's").outcome is SignInOutcome.WRONG
    assert identity.email_of_link(session, token=token, purpose="verify_email") == EMAIL
    entered = verify(PASSWORD)
    assert entered.outcome is SignInOutcome.SIGNED_IN
    assert user(sessions, entered.token) is not None
    with pytest.raises(NotFound):
        verify(PASSWORD)
    assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN


def test_a_link_to_confirm_grows_old(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    sign_up_with(sessions)
    clock.advance(hours=49)
    with pytest.raises(NotFound):
        identity.verify_email(
            sessions, token=mailed_token(session), password=PASSWORD, client=CLIENT, policy=RULES
        )


def test_a_link_of_one_purpose_does_not_serve_the_other(
    sessions: sessionmaker[Session], session: Session
) -> None:
    sign_up_with(sessions)
    with pytest.raises(NotFound):
        reset(sessions, mailed_token(session))


def test_signing_in_before_confirming_sends_the_link_again(
    sessions: sessionmaker[Session], session: Session
) -> None:
    sign_up_with(sessions)
    first = mailed_token(session)
    sign_in(sessions)
    assert last_mail(session).template == "verify_email"
    assert mailed_token(session) != first


def test_a_known_address_gets_a_mail_and_keeps_its_password_and_accounts(
    sessions: sessionmaker[Session], session: Session
) -> None:
    user_id = make_user(session)
    sign_up_with(sessions, password=NEW_PASSWORD, country="JP", currency="JPY")

    assert last_mail(session).template == "already_signed_up"
    assert last_mail(session).recipient == EMAIL
    assert accounts.memberships(session, user_id=user_id) == {}
    assert sign_in(sessions, password=NEW_PASSWORD).outcome is SignInOutcome.WRONG
    assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN


def test_a_mailbox_is_not_flooded(sessions: sessionmaker[Session], session: Session) -> None:
    make_user(session)
    for _ in range(10):
        sign_up_with(sessions)
    assert session.scalar(select(func.count()).select_from(OutboxMessage)) == 3


def test_two_sign_ups_at_once_make_one_person(sessions: sessionmaker[Session]) -> None:
    def attempt(number: int) -> None:
        client = Client(f"192.0.2.{number}")
        sign_up(sessions, form=form(), client=client, policy=RULES)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(8)))
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(User)) == 1
        assert session.scalar(text("SELECT count(*) FROM accounts")) == 1


def test_every_fault_of_a_form_is_named_at_once(session: Session) -> None:
    wrong = SignUp("lan@", " ", "short", "x" * 101, "VN", "USD")
    faults = sign_up_faults(wrong, identity.list_sites(session))
    assert [(fault.field, fault.reason) for fault in faults] == [
        ("email", "not_an_email"),
        ("display_name", "empty"),
        ("password", "too_short"),
        ("account_name", "too_long"),
        ("currency", "not_at_site"),
    ]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short-9", "too_short"),
        ("x" * 201, "too_long"),
        ("password123", "guessable"),
        ("1234567890", "guessable"),
        ("lan.nguyen.long@example.com", "same_as_email"),
        ("Lan.Nguyen.Long", "same_as_email"),
    ],
)
def test_weak_passwords_are_refused(
    sessions: sessionmaker[Session], password: str, reason: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        sign_up_with(sessions, email="lan.nguyen.long@example.com", password=password)
    assert (caught.value.field, caught.value.reason) == ("password", reason)


@pytest.mark.parametrize("name", ["a\u202eb", "a\x00b", "a\x1bb"])
def test_names_have_no_control_characters(sessions: sessionmaker[Session], name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        sign_up_with(sessions, display_name=name)
    assert caught.value.reason == "control_characters"


@pytest.mark.parametrize(
    ("country", "currency", "site"),
    [("VN", "VND", "vn"), ("JP", "JPY", "jp"), ("DE", "EUR", "global"), ("US", "USD", "global")],
)
def test_the_country_decides_the_site(
    sessions: sessionmaker[Session], session: Session, country: str, currency: str, site: str
) -> None:
    sign_up_with(sessions, country=country, currency=currency)
    assert session.scalar(text("SELECT site_code FROM accounts")) == site


@pytest.mark.parametrize("country", ["", "ZZ", "EU", "vn", "VNM"])
def test_no_account_without_a_country(sessions: sessionmaker[Session], country: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        sign_up_with(sessions, country=country)
    assert caught.value.field == "country"


def test_sign_ups_with_faults_are_counted_too(sessions: sessionmaker[Session]) -> None:
    """To judge a password takes long: whoever is slowed down has none judged."""
    for _ in range(20):
        with pytest.raises(InvalidInput):
            sign_up_with(sessions, password="password123")
    with pytest.raises(RateLimited):
        sign_up_with(sessions, password="password123")


def test_sign_ups_from_one_address_are_slowed_down(sessions: sessionmaker[Session]) -> None:
    for number in range(20):
        sign_up_with(sessions, email=f"person{number}@example.com")
    with pytest.raises(RateLimited):
        sign_up_with(sessions, email="one-more@example.com")


# ── Signing in ─────────────────────────────────────────────────────────────────────────────────
def test_who_signs_in_is_who_they_are(sessions: sessionmaker[Session], session: Session) -> None:
    user_id = make_user(session)
    result = sign_in(sessions, email=" LAN@example.com ")
    seen = user(sessions, result.token)
    assert seen is not None
    assert (seen.user_id, seen.email, seen.display_name) == (user_id, EMAIL, "Lan")
    assert seen.staff_role is None
    assert seen.account_id is None
    row = session.scalars(select(UserSession)).one()
    assert (row.address, row.user_agent) == (CLIENT.address, CLIENT.user_agent)
    assert result.token.encode() not in row.token_digest


def test_wrong_password_unknown_person_and_nonsense_are_answered_alike(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    answers = {
        sign_in(sessions, password="not the password"),
        sign_in(sessions, email="nobody@example.com"),
        sign_in(sessions, email="no address \x00 at all"),
        sign_in(sessions, email=""),
    }
    assert answers == {SignIn(SignInOutcome.WRONG)}


def test_an_unknown_person_costs_a_hash_too(
    sessions: sessionmaker[Session], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user(session)
    verified: list[str] = []
    real = PasswordHasher.verify

    def verify(self: PasswordHasher, given: str, password: str) -> bool:
        verified.append(given)
        return real(self, given, password)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    sign_in(sessions, password="wrong password here")
    sign_in(sessions, email="nobody@example.com")
    assert len(verified) == 2
    parameters = {given.rsplit("$", 2)[0] for given in verified}
    assert len(parameters) == 1


def test_passwords_are_compared_as_typed_on_any_keyboard(
    sessions: sessionmaker[Session], session: Session
) -> None:
    composed = "mật khẩu tím 7 ấm"
    decomposed = unicodedata.normalize("NFD", composed)  # noqa: TID251 - a short one
    identity.create_user(
        session,
        email=EMAIL,
        display_name="Lan",
        password=composed,
        staff_role=None,
        actor=SYSTEM,
    )
    session.commit()
    assert composed != decomposed
    assert sign_in(sessions, password=decomposed).outcome is SignInOutcome.SIGNED_IN


def test_a_disabled_person_is_out_at_once_and_stays_out(
    sessions: sessionmaker[Session], session: Session
) -> None:
    user_id = make_user(session)
    token = sign_in(sessions).token
    disable_user(session, user_id=user_id, is_disabled=True, reason="left", actor=SYSTEM)
    session.commit()
    assert user(sessions, token) is None
    assert sign_in(sessions).outcome is SignInOutcome.DISABLED
    assert sign_in(sessions, password="wrong password here").outcome is SignInOutcome.WRONG


def test_an_old_hash_is_renewed(sessions: sessionmaker[Session], session: Session) -> None:
    user_id = make_user(session)
    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    session.execute(update(User).where(User.id == user_id).values(password_hash=old))
    session.commit()
    assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN
    session.expire_all()
    renewed = session.scalars(select(User.password_hash)).one()
    assert renewed != old
    assert not passwords.needs_rehash(renewed)
    assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN


def test_a_password_changed_meanwhile_opens_nothing(
    sessions: sessionmaker[Session], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user(session)
    real = PasswordHasher.verify

    def verify_then_change(self: PasswordHasher, given: str, password: str) -> bool:
        answer = real(self, given, password)
        with sessions.begin() as other:
            other.execute(update(User).values(password_hash=PasswordHasher().hash("other")))
        return answer

    monkeypatch.setattr(PasswordHasher, "verify", verify_then_change)
    assert sign_in(sessions).outcome is SignInOutcome.WRONG
    assert session.scalar(select(func.count()).select_from(UserSession)) == 0


# ── Throttling ─────────────────────────────────────────────────────────────────────────────────
def test_guessing_is_slowed_down_more_and_more(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    make_user(session)
    for _ in range(5):
        assert sign_in(sessions, password="wrong password here").outcome is SignInOutcome.WRONG
    waits = []
    for _ in range(8):
        with pytest.raises(RateLimited) as caught:
            sign_in(sessions)
        waits.append(caught.value.retry_after_seconds)
        clock.advance(seconds=waits[-1])
        assert sign_in(sessions, password="wrong password here").outcome is SignInOutcome.WRONG
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]


def test_the_right_password_clears_the_count(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    for _ in range(3):
        for _ in range(4):
            sign_in(sessions, password="wrong password here")
        assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN


def test_others_are_not_locked_out_with_the_victim(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    for _ in range(5):
        sign_in(sessions, password="wrong password here")
    with pytest.raises(RateLimited):
        sign_in(sessions)
    elsewhere = Client("198.51.100.7")
    assert sign_in(sessions, client=elsewhere).outcome is SignInOutcome.SIGNED_IN


def test_one_address_cannot_try_many_people(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    for number in range(30):
        sign_in(sessions, email=f"person{number}@example.com")
    with pytest.raises(RateLimited):
        sign_in(sessions)


def test_right_sign_ins_do_not_use_up_an_office_address(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    for _ in range(31):
        assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN


def test_one_ipv6_household_is_one_address(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    for number in range(5):
        client = Client(f"2001:db8:0:1::{number:x}")
        sign_in(sessions, password="wrong password here", client=client)
    with pytest.raises(RateLimited):
        sign_in(sessions, client=Client("2001:db8:0:1:ffff::1"))
    other = Client("2001:db8:0:2::1")
    assert sign_in(sessions, client=other).outcome is SignInOutcome.SIGNED_IN


def guess_from(
    sessions: sessionmaker[Session], address: str, email: str = EMAIL, policy: AuthPolicy = RULES
) -> SignInOutcome:
    return identity.authenticate(
        sessions, email=email, password="not-it-at-all", client=Client(address), policy=policy
    ).outcome


def test_guessing_from_many_networks_is_slowed_down_and_shuts_nobody_out(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    make_user(session)
    assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN
    for number in range(40):
        assert guess_from(sessions, f"198.51.100.{number}") is SignInOutcome.WRONG
    for number in range(100, 103):
        with pytest.raises(RateLimited):
            guess_from(sessions, f"198.51.100.{number}")
    # From where they signed in before they go on, and nobody else is slowed down.
    assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN
    assert guess_from(sessions, "198.51.100.200", "another@example.com") is SignInOutcome.WRONG
    message = select(OutboxMessage.recipient).where(OutboxMessage.template == "password_guessed")
    assert session.scalars(message).all() == [EMAIL]
    clock.advance(minutes=1)
    assert guess_from(sessions, "198.51.100.201") is SignInOutcome.WRONG
    with pytest.raises(RateLimited):
        guess_from(sessions, "198.51.100.202")
    clock.advance(hours=25)
    for number in range(41):
        last = f"203.0.113.{number}"
        if number < 40:
            guess_from(sessions, last)
    with pytest.raises(RateLimited):
        guess_from(sessions, last)
    session.expire_all()
    assert session.scalars(message).all() == [EMAIL, EMAIL]


def test_many_networks_tell_nothing_of_who_is_known(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    for email in (EMAIL, "nobody@example.com"):
        for number in range(40):
            assert guess_from(sessions, f"198.51.100.{number}", email) is SignInOutcome.WRONG
        with pytest.raises(RateLimited):
            guess_from(sessions, "198.51.100.99", email)


def test_who_signs_in_from_a_new_network_is_not_counted(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    for number in range(45):
        client = Client(f"198.51.100.{number}")
        signed_in = identity.authenticate(
            sessions, email=EMAIL, password=PASSWORD, client=client, policy=RULES
        )
        assert signed_in.outcome is SignInOutcome.SIGNED_IN


def test_wider_networks_of_ipv6_are_counted_too(sessions: sessionmaker[Session]) -> None:
    """A /64 has 2 free guesses here, the /56 around it 4, and the /48 around that 8."""
    wait = timedelta(hours=1)
    policy = AuthPolicy(b"key", guesses_per_address=Limit(2, wait, wait, timedelta(hours=24)))

    def answers(*networks: str) -> list[bool]:
        passed = []
        for number, network in enumerate(networks):
            try:
                guess_from(
                    sessions, f"2001:db8:{network}::1", f"{network}-{number}@a.example", policy
                )
            except RateLimited:
                passed.append(False)
            else:
                passed.append(True)
        return passed

    assert answers("7:100", "7:100", "7:100") == [True, True, False]
    assert answers("7:101", "7:101", "7:102") == [True, True, False]
    assert answers("7:200", "7:200", "7:201", "7:201", "7:300") == [True] * 4 + [False]
    assert answers("8:100") == [True]


def test_a_day_of_quiet_forgets_the_guesses(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    make_user(session)
    for _ in range(5):
        sign_in(sessions, password="wrong password here")
    clock.advance(hours=24)
    for _ in range(5):
        assert sign_in(sessions, password="wrong password here").outcome is SignInOutcome.WRONG


def test_twenty_guesses_at_once_are_five_guesses(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)

    def guess(number: int) -> str:
        try:
            return sign_in(sessions, password=f"wrong password {number}").outcome
        except RateLimited:
            return "slowed down"

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(guess, range(20)))
    assert sorted(answers) == ["slowed down"] * 15 + ["wrong"] * 5


def test_the_throttle_tells_nothing_of_whom_it_counts(
    sessions: sessionmaker[Session], session: Session
) -> None:
    sign_in(sessions, email=EMAIL)
    other = AuthPolicy(key=b"another key")
    identity.authenticate(
        sessions, email=EMAIL, password="wrong password here", client=CLIENT, policy=other
    )
    digests = session.scalars(select(Throttle.key_digest)).all()
    assert len(set(digests)) == 6


# ── Sessions ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("role", "idle", "longest"),
    [
        (None, timedelta(hours=8), timedelta(days=7)),
        (StaffRole.SUPPORT, timedelta(hours=1), timedelta(hours=12)),
    ],
)
def test_a_session_ends_when_idle_and_ends_in_any_case(
    sessions: sessionmaker[Session],
    session: Session,
    role: StaffRole | None,
    idle: timedelta,
    longest: timedelta,
) -> None:
    clock = session.info["clock"]
    make_user(session, role=role)
    token = sign_in(sessions).token
    started = clock.instant
    while clock.instant + idle / 2 < started + longest - timedelta(minutes=2):
        clock.instant += idle / 2
        seen = user(sessions, token)
        assert seen is not None, "whoever clicks stays signed in"
        with sessions.begin() as touching:
            identity.touch_session(touching, session_id=seen.session_id)
    clock.instant = started + longest - timedelta(minutes=1)
    assert user(sessions, token) is not None
    clock.instant = started + longest
    assert user(sessions, token) is None

    left_alone = sign_in(sessions).token
    clock.instant += idle - timedelta(minutes=1)
    assert user(sessions, left_alone) is not None
    clock.advance(minutes=2)
    assert user(sessions, left_alone) is None


def test_being_here_is_noted_once_a_minute(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    make_user(session)
    token = sign_in(sessions).token
    first = user(sessions, token)
    assert first is not None
    assert not first.touch_due
    started = session.scalars(select(UserSession.last_seen_at)).one()
    identity.touch_session(session, session_id=first.session_id)
    session.commit()
    assert session.scalar(select(UserSession.last_seen_at)) == started
    clock.advance(minutes=1)
    second = user(sessions, token)
    assert second is not None
    assert second.touch_due
    identity.touch_session(session, session_id=second.session_id)
    session.commit()
    assert session.scalars(select(UserSession.last_seen_at)).one() > started


def test_a_revoked_session_is_out_at_the_next_look(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    here, elsewhere = sign_in(sessions).token, sign_in(sessions).token
    seen = user(sessions, here)
    assert seen is not None
    identity.revoke_session(session, session_id=seen.session_id, actor=seen.actor(None))
    session.commit()
    assert user(sessions, here) is None
    assert user(sessions, elsewhere) is not None
    with pytest.raises(NotFound):
        identity.revoke_session(session, session_id=seen.session_id, actor=seen.actor(None))


def test_nobody_ends_or_sees_somebody_elses_session(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    other = user_actor(make_user(session, "minh@example.com"))
    token = sign_in(sessions).token
    for session_id in (identity.session_id_of(token), "not hex"):
        with pytest.raises(NotFound):
            identity.revoke_session(session, session_id=session_id, actor=other)
    assert identity.list_sessions(session, actor=other, policy=RULES) == ()
    assert user(sessions, token) is not None
    with pytest.raises(NotAuthorised):
        identity.list_sessions(session, actor=SYSTEM, policy=RULES)


def test_signing_out_everywhere_leaves_other_people_in(
    sessions: sessionmaker[Session], session: Session
) -> None:
    user_id = make_user(session)
    make_user(session, "minh@example.com")
    mine = [sign_in(sessions).token for _ in range(3)]
    theirs = sign_in(sessions, email="minh@example.com").token
    assert len(identity.list_sessions(session, actor=user_actor(user_id), policy=RULES)) == 3
    session.commit()
    assert identity.revoke_all_sessions(session, actor=user_actor(user_id)) == 3
    session.commit()
    assert [user(sessions, token) for token in mine] == [None, None, None]
    assert user(sessions, theirs) is not None
    assert identity.list_sessions(session, actor=user_actor(user_id), policy=RULES) == ()


def test_roles_are_as_the_database_has_them_now(
    sessions: sessionmaker[Session], session: Session
) -> None:
    user_id = make_user(session)
    first, second = make_account(session), make_account(session)
    for account_id in (first, second):
        accounts.add_member(
            session,
            account_id=account_id,
            user_id=user_id,
            role=MemberRole.BILLING,
            actor=SYSTEM,
        )
    session.commit()
    token = sign_in(sessions).token
    seen = user(sessions, token)
    assert seen is not None
    assert seen.memberships == {first: MemberRole.BILLING, second: MemberRole.BILLING}
    assert seen.account_id == first

    session.execute(text("UPDATE account_members SET role = 'reader'"))
    session.execute(update(User).values(staff_role="finance"))
    session.commit()
    seen = user(sessions, token)
    assert seen is not None
    assert set(seen.memberships.values()) == {MemberRole.READER}
    assert seen.staff_role is StaffRole.FINANCE
    assert seen.actor("192.0.2.1").ip == "192.0.2.1"


def test_a_session_acts_on_a_chosen_account_of_its_person_alone(
    sessions: sessionmaker[Session], session: Session
) -> None:
    user_id = make_user(session)
    first, second, foreign = (make_account(session) for _ in range(3))
    for account_id in (first, second):
        accounts.add_member(
            session, account_id=account_id, user_id=user_id, role=MemberRole.OWNER, actor=SYSTEM
        )
    session.commit()
    token = sign_in(sessions).token
    seen = user(sessions, token)
    assert seen is not None

    def choose(account_id: int, actor_id: int = user_id) -> None:
        identity.choose_account(
            session,
            session_id=seen.session_id,
            account_id=account_id,
            actor=user_actor(actor_id, memberships={foreign: MemberRole.OWNER}),
        )
        session.commit()

    def acts_on() -> int | None:
        now = user(sessions, token)
        return now.account_id if now else None

    choose(second)
    assert acts_on() == second
    for account_id, actor_id in ((foreign, user_id), (first, user_id + 1)):
        with pytest.raises(NotFound):
            choose(account_id, actor_id)
    session.rollback()
    session.execute(text("DELETE FROM account_members WHERE account_id = :id"), {"id": second})
    session.commit()
    assert acts_on() == first


def test_a_made_up_token_opens_nothing(sessions: sessionmaker[Session], session: Session) -> None:
    make_user(session)
    token = sign_in(sessions).token
    for wrong in ("", "x", token[:-1], identity.session_id_of(token)):
        assert user(sessions, wrong) is None


# ── Passwords ──────────────────────────────────────────────────────────────────────────────────
def change(
    sessions: sessionmaker[Session],
    seen: identity.SignedInUser,
    current: str,
    new: str = NEW_PASSWORD,
) -> str:
    """Change the password; return the token under which the session goes on, or nothing."""
    return identity.change_password(
        sessions,
        user=seen,
        current_password=current,
        new_password=new,
        client=CLIENT,
        policy=RULES,
    ).token


def test_changing_the_password_signs_out_elsewhere(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    here, elsewhere = sign_in(sessions).token, sign_in(sessions).token
    seen = user(sessions, here)
    assert seen is not None
    assert not change(sessions, seen, "not the current one")
    assert user(sessions, elsewhere) is not None
    with pytest.raises(InvalidInput) as caught:
        change(sessions, seen, PASSWORD, "password123")
    assert (caught.value.field, caught.value.reason) == ("new_password", "guessable")

    renewed = change(sessions, seen, PASSWORD)
    assert user(sessions, renewed) is not None
    assert user(sessions, here) is None, "a copy of the session is out"
    assert user(sessions, elsewhere) is None
    assert last_mail(session).template == "password_changed"
    assert sign_in(sessions).outcome is SignInOutcome.WRONG
    assert sign_in(sessions, password=NEW_PASSWORD).outcome is SignInOutcome.SIGNED_IN


def test_guessing_the_current_password_is_slowed_down(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    seen = user(sessions, sign_in(sessions).token)
    assert seen is not None
    for _ in range(5):
        assert not change(sessions, seen, "not the current one")
    with pytest.raises(RateLimited):
        change(sessions, seen, PASSWORD)


def ask_for_reset(session: Session, email: str = EMAIL) -> None:
    identity.request_password_reset(session, email=email, client=CLIENT, policy=RULES)
    session.commit()


def reset(sessions: sessionmaker[Session], token: str, password: str = NEW_PASSWORD) -> None:
    identity.reset_password(sessions, token=token, password=password, client=CLIENT)


def test_a_reset_link_works_once_and_signs_out_everywhere(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    signed_in = sign_in(sessions).token
    ask_for_reset(session)
    earlier = mailed_token(session)
    ask_for_reset(session)
    token = mailed_token(session)
    with pytest.raises(InvalidInput):
        reset(sessions, token, "password123")
    session.rollback()
    reset(sessions, token)
    assert user(sessions, signed_in) is None
    assert sign_in(sessions, password=NEW_PASSWORD).outcome is SignInOutcome.SIGNED_IN
    for used in (token, earlier):
        with pytest.raises(NotFound):
            reset(sessions, used, PASSWORD)
    session.rollback()


def test_a_reset_link_grows_old(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    make_user(session)
    ask_for_reset(session)
    clock.advance(minutes=61)
    with pytest.raises(NotFound):
        reset(sessions, mailed_token(session))


def test_a_reset_link_used_by_many_at_once_works_once(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    ask_for_reset(session)
    token = mailed_token(session)
    session.commit()

    def use(number: int) -> bool:
        try:
            reset(sessions, token, f"{NEW_PASSWORD}-{number}")
        except NotFound:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(use, range(6))) == 1


def test_a_reset_proves_the_address(sessions: sessionmaker[Session], session: Session) -> None:
    sign_up_with(sessions)
    ask_for_reset(session)
    reset(sessions, mailed_token(session))
    assert sign_in(sessions, password=NEW_PASSWORD).outcome is SignInOutcome.SIGNED_IN


def test_a_reset_asked_for_nobody_sends_nothing(session: Session) -> None:
    user_id = make_user(session)
    disable_user(session, user_id=user_id, is_disabled=True, reason="left", actor=SYSTEM)
    for email in (EMAIL, "nobody@example.com", "no address"):
        ask_for_reset(session, email)
    # Disabling told its person; nothing else was sent.
    assert session.scalars(select(OutboxMessage.template)).all() == ["staff_own_change"]


def test_resets_from_one_address_are_slowed_down(session: Session) -> None:
    for number in range(20):
        ask_for_reset(session, f"person{number}@example.com")
    with pytest.raises(RateLimited):
        ask_for_reset(session)


def test_strangers_who_sign_up_with_an_address_keep_no_reset_away(
    sessions: sessionmaker[Session], session: Session
) -> None:
    make_user(session)
    session.commit()
    for _ in range(5):
        sign_up_with(sessions)
    ask_for_reset(session)
    templates = session.scalars(select(OutboxMessage.template)).all()
    assert templates == ["already_signed_up"] * 3 + ["reset_password"]


def test_counters_are_given_back_in_the_order_in_which_they_are_counted(session: Session) -> None:
    limit = RULES.guesses_per_person
    counters = [rate_limits.counter(RULES.key, limit, "tests", str(each)) for each in range(9)]
    locked: list[bytes] = []

    def note_key(_c: object, _k: object, _s: str, parameters: Any, *_rest: object) -> None:
        if "key" in parameters:
            locked.append(bytes(parameters["key"]))

    event.listen(session.get_bind(), "before_cursor_execute", note_key)
    try:
        rate_limits.record_attempt(session, counters)
        counted = list(locked)
        locked.clear()
        rate_limits.refund_attempt(session, counters[:4], reset=counters[4:])
    finally:
        event.remove(session.get_bind(), "before_cursor_execute", note_key)
    assert counted == locked == sorted(locked)


# ── Who may ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("role", [None, StaffRole.SUPPORT, StaffRole.FINANCE])
def test_only_administrators_make_and_disable_people(
    session: Session, role: StaffRole | None
) -> None:
    actor = user_actor(make_user(session), staff_role=role)
    with pytest.raises(NotAuthorised):
        identity.create_user(
            session,
            email="new@example.com",
            display_name="New",
            password=PASSWORD,
            staff_role=StaffRole.ADMIN,
            actor=actor,
        )
    with pytest.raises(NotAuthorised):
        disable_user(session, user_id=1, is_disabled=True, reason="left", actor=actor)
    with pytest.raises(NotAuthorised):
        identity.purge_identity(session, actor=actor)


def test_an_address_is_one_person(session: Session) -> None:
    make_user(session)
    with pytest.raises(Conflict):
        make_user(session)
    with pytest.raises(NotFound):
        disable_user(session, user_id=999, is_disabled=True, reason="left", actor=SYSTEM)


def test_the_audit_log_knows_what_happened_and_no_secret(
    sessions: sessionmaker[Session], session: Session
) -> None:
    sign_up_with(sessions)
    token = mailed_token(session)
    sign_in(sessions, password="wrong password here")
    identity.verify_email(sessions, token=token, password=PASSWORD, client=CLIENT, policy=RULES)
    ask_for_reset(session)
    reset(sessions, mailed_token(session))
    session.commit()
    assert audited(session) == [
        "open_account",
        "add_member",
        "sign_up",
        "refuse_sign_in",
        "verify_email",
        "sign_in",
        "request_password_reset",
        "reset_password",
    ]
    everything = str(session.execute(text("SELECT array_agg(a::text) FROM audit_log a")).scalar())
    for secret in (EMAIL, PASSWORD, NEW_PASSWORD, token):
        assert secret not in everything
    assert CLIENT.address in everything


def test_what_ended_long_ago_is_deleted(
    sessions: sessionmaker[Session], session: Session, clock: TestClock
) -> None:
    make_user(session)
    sign_in(sessions, password="wrong password here")
    ask_for_reset(session)
    sign_in(sessions)
    clock.advance(days=6)
    identity.purge_identity(session, actor=SYSTEM)
    session.commit()
    assert session.scalar(select(func.count()).select_from(Throttle)) == 0
    assert session.scalar(select(func.count()).select_from(EmailToken)) == 1
    assert session.scalar(select(func.count()).select_from(UserSession)) == 1
    clock.advance(days=40)
    fresh = sign_in(sessions).token
    identity.purge_identity(session, actor=SYSTEM)
    session.commit()
    assert session.scalar(select(func.count()).select_from(EmailToken)) == 0
    assert session.scalar(select(func.count()).select_from(UserSession)) == 1
    assert user(sessions, fresh) is not None


# ── What takes long ────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def open_while_hashing(
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """How many connections were in use each time that a password was hashed or compared."""
    used: list[int] = []

    def seen(method: str) -> Callable[..., object]:
        real = getattr(passwords, method)

        def slow(*args: object, **kwargs: object) -> object:
            used.append(sessions.kw["bind"].pool.checkedout())
            return real(*args, **kwargs)

        return slow

    for method in ("hash_password", "verify_password"):
        monkeypatch.setattr(passwords, method, seen(method))
    return used


def test_no_connection_waits_for_a_hash(
    sessions: sessionmaker[Session],
    session: Session,
    open_while_hashing: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sign_up_with(sessions)
    token = mailed_token(session)
    session.close()
    identity.verify_email(sessions, token=token, password=PASSWORD, client=CLIENT, policy=RULES)
    monkeypatch.setattr(passwords, "needs_rehash", lambda _: True)
    signed_in = sign_in(sessions).token
    seen = user(sessions, signed_in)
    assert seen is not None
    assert change(sessions, seen, PASSWORD)
    ask_for_reset(session)
    token = mailed_token(session)
    session.close()
    reset(sessions, token, PASSWORD)
    assert open_while_hashing == [0] * 7


def test_too_many_who_wait_for_a_hash_are_told_to_come_back(
    sessions: sessionmaker[Session], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user(session)
    monkeypatch.setattr(passwords, "_PLACES", threading.BoundedSemaphore(1))
    with passwords._turn():
        for attempt in (sign_in, sign_up_with):
            with pytest.raises(Overloaded):
                attempt(sessions)
    assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN
    monkeypatch.setattr(passwords, "_PLACES", threading.BoundedSemaphore(2))
    monkeypatch.setattr(passwords, "_MAX_WAIT_SECONDS", 0)
    monkeypatch.setattr(passwords, "_RUNNING", threading.BoundedSemaphore(1))
    with passwords._turn(), pytest.raises(Overloaded):
        sign_in(sessions)
    assert sign_in(sessions).outcome is SignInOutcome.SIGNED_IN
