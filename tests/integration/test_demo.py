"""The demo: what it shows, that it is loaded once, and that its ledger is right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text

from db.engine import make_engine, make_sessions
from db.models import Account, AccountMember, Entry, User
from domain import ledger
from domain.accounts import members
from domain.actors import system_actor
from domain.security import passwords
from portal import demo, startup
from portal.runtime.settings import SettingsError, load_settings
from tests.support import keys
from tests.support.environment import OUTSIDE_DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture(scope="module")
def reports() -> list[str]:
    return []


@pytest.fixture(scope="module")
def demo_url(make_database: Callable[[], str]) -> str:
    return make_database()


@pytest.fixture(scope="module")
def sessions(demo_url: str, reports: list[str]) -> Iterator[sessionmaker[Session]]:
    """A database with the demo in it, loaded twice."""
    engine = make_engine(demo_url)
    sessions = make_sessions(engine, keys.KNOWS_VAULT)
    demo.load(sessions, report=reports.append)
    with sessions() as session:
        before = _size(session)
    demo.load(sessions, report=reports.append)
    with sessions() as session:
        assert _size(session) == before
    yield sessions
    engine.dispose()


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    with sessions() as session:
        yield session


def _size(session: Session) -> list[int]:
    return [
        session.scalar(select(func.count()).select_from(model)) or 0
        for model in (User, Account, AccountMember, Entry)
    ]


def _set(session: Session, question: str) -> set[object]:
    return set(session.execute(text(question)).scalars())


@pytest.mark.usefixtures("sessions")
def test_it_is_loaded_once_and_says_so(reports: list[str]) -> None:
    assert len(reports) == 1


def test_its_ledger_is_right(session: Session) -> None:
    assert ledger.verify_ledger(session, actor=system_actor("tests")) == []


def test_everyone_in_the_list_signs_in_with_the_password(session: Session) -> None:
    users = {user.email: user for user in session.scalars(select(User))}
    assert set(users) == {email for email, _role in demo.SIGN_INS}
    for user in users.values():
        assert passwords.verify_password(demo.PASSWORD, user.password_hash)
        assert user.email_verified_at is not None


def test_there_is_someone_in_every_role(session: Session) -> None:
    staff = _set(session, "SELECT staff_role FROM users WHERE staff_role IS NOT NULL")
    assert staff == {"support", "finance", "admin"}
    assert _set(session, "SELECT role FROM account_members") == {"owner", "billing", "reader"}
    two = "SELECT user_id FROM account_members GROUP BY user_id HAVING count(*) = 2"
    assert len(_set(session, two)) == 1


def test_every_market_and_every_service_is_in_use(session: Session) -> None:
    assert _set(session, "SELECT currency FROM accounts") == {"VND", "JPY", "USD", "EUR"}
    assert _set(session, "SELECT site_code FROM accounts") == {"vn", "jp", "global"}
    per_account = text(
        "SELECT account_id, count(DISTINCT service) FROM entries WHERE kind = 'charge' GROUP BY 1"
    )
    services = len(_set(session, "SELECT slug FROM services"))
    assert [count for _account, count in session.execute(per_account)] == [services] * 4


def test_every_kind_of_entry_and_refusal_and_hold_is_there(session: Session) -> None:
    kinds = {"top_up", "voucher", "plan", "adjustment", "charge", "expiry", "reversal"}
    assert kinds <= _set(session, "SELECT kind FROM entries")
    assert _set(session, "SELECT reason FROM refusals") == {"insufficient_credit"}
    assert _set(session, "SELECT outcome FROM hold_resolutions") >= {"captured", "voided"}
    assert _set(session, "SELECT account_id FROM open_holds")


def test_credit_is_scoped_expired_and_about_to_expire(session: Session) -> None:
    assert _set(session, "SELECT grant_number FROM grants WHERE services IS NOT NULL")
    soon = "SELECT account_id FROM grant_balances WHERE remaining_micros > 0 AND expires_at {}"
    assert _set(session, soon.format("BETWEEN now() AND now() + interval '7 days'"))
    assert not _set(session, soon.format("< now() - interval '2 hours'"))


def test_one_account_is_in_debt_and_the_others_have_credit(session: Session) -> None:
    balances = session.execute(text("SELECT balance_micros FROM account_balances")).scalars()
    assert sorted(balance > 0 for balance in balances) == [False, True, True, True]


def test_calls_stand_behind_every_charge(session: Session) -> None:
    without = text("""
        SELECT count(*) FROM entries e WHERE kind = 'charge' AND NOT EXISTS (
          SELECT FROM usage_events u
          WHERE u.account_id = e.account_id AND u.account_sequence = e.account_sequence)
    """)
    assert session.execute(without).scalar_one() == 0


def test_it_reaches_over_three_months_up_to_now(session: Session) -> None:
    first, last, posted = session.execute(
        text("SELECT min(occurred_at), max(occurred_at), max(posted_at) FROM entries")
    ).one()
    now = datetime.now(UTC)
    assert now - first > timedelta(days=90)
    assert now - last < timedelta(days=2)
    assert posted <= now


def test_another_day_of_the_same_database_is_no_reason_to_load_again(
    sessions: sessionmaker[Session], reports: list[str]
) -> None:
    demo.load(sessions, report=reports.append)
    assert len(reports) == 1


def test_a_portal_that_is_no_demo_refuses_a_database_with_the_known_password(
    demo_url: str, sessions: sessionmaker[Session]
) -> None:
    given = {**OUTSIDE_DEMO, "DATABASE_URL": demo_url, "JOBS": "0"}
    serious = load_settings({**given, "SECRET_KEY_PREVIOUS": keys.SECRET.decode()})
    for each in (serious, load_settings(given)):
        with pytest.raises(SettingsError, match="everybody knows their password"):
            startup.prepare(each)
    disable = text("UPDATE users SET disabled_at = now()")
    enable = text("UPDATE users SET disabled_at = NULL")
    with sessions.begin() as session:
        session.execute(disable)
    try:
        startup.prepare(serious).stop()
    finally:
        with sessions.begin() as session:
            session.execute(enable)


def test_one_account_has_three_members_and_an_invitation(session: Session) -> None:
    (account_id,) = session.scalars(select(Account.id).where(Account.name == "Demo Global"))
    people = members.list_members(session, actor=system_actor("tests"), account_id=account_id)
    assert len({member.role for member in people.members}) == 3
    assert [invitation.email for invitation in people.invitations] == [demo.INVITED]
    assert not people.invitations[0].is_expired
