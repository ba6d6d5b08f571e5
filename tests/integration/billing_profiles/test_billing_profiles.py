"""Who is billed: saved in versions, checked, and never by who may not; on a real PostgreSQL."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pycountry
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from db.models import Account, AuditRecord
from domain import accounts, billing_profiles, ledger
from domain.actors import Actor, MemberRole, StaffRole, user_actor
from domain.billing_profiles import (
    MAX_ADDRESS_LENGTH,
    MAX_NAME_LENGTH,
    BillingProfile,
    ProfileKind,
    SavedProfile,
    profile_faults,
    save_profile,
)
from domain.billing_profiles.queries import served_countries
from domain.errors import (
    BillingError,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NotAuthorised,
    NotFound,
)
from domain.identity import country_codes
from tests.factories import SYSTEM, charge, grant, make_account, make_charge, next_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

    from tests.conftest import TestClock

PERSON = BillingProfile(
    kind=ProfileKind.PERSONAL,
    name="Lan Tran",
    email="lan@example.com",
    address="1 Rue Sample",
    country="FR",
    city="Lyon",
)
COMPANY = replace(PERSON, kind=ProfileKind.COMPANY, name="Sample SARL", tax_code="FR 40 303265045")
COUNTRY_OF = {"vn": "VN", "jp": "JP", "global": "FR"}
CURRENCY_OF = {"vn": "VND", "jp": "JPY", "global": "USD"}


@pytest.fixture
def account(session: Session) -> int:
    return make_account(session)


def save(
    session: Session,
    account: int,
    profile: BillingProfile = PERSON,
    *,
    expected_version: int = 0,
    currency: str | None = None,
    actor: Actor = SYSTEM,
    key: str | None = None,
) -> SavedProfile:
    return save_profile(
        session,
        account_id=account,
        profile=profile,
        currency=currency,
        expected_version=expected_version,
        actor=actor,
        idempotency_key=key or next_key(),
    )


def fault(session: Session, account: int, profile: BillingProfile, **more: Any) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as caught, session.begin_nested():
        save(session, account, profile, **more)
    return caught.value.field, caught.value.reason


def member(session: Session, account: int, role: MemberRole) -> Actor:
    user_id = session.execute(
        text(
            "INSERT INTO users (email, display_name, password_hash)"
            " VALUES (:email, 'Sample', '') RETURNING id"
        ),
        {"email": f"{next_key('sample')}@example.com"},
    ).scalar_one()
    accounts.add_member(session, account_id=account, user_id=user_id, role=role, actor=SYSTEM)
    return user_actor(user_id, memberships={account: role})


def versions(session: Session, account: int) -> list[int]:
    history = billing_profiles.profile_history(session, actor=SYSTEM, account_id=account)
    return [each.version for each in history]


def currency_of(session: Session, account: int) -> tuple[str, bool]:
    row = session.execute(
        select(Account.currency, Account.currency_locked_at).where(Account.id == account)
    ).one()
    return row.currency, row.currency_locked_at is not None


def audited(session: Session, account: int, action: str) -> list[dict[str, Any]]:
    return list(
        session.scalars(
            select(AuditRecord.details)
            .where(AuditRecord.account_id == account, AuditRecord.action == action)
            .order_by(AuditRecord.id)
        )
    )


# ── Versions ───────────────────────────────────────────────────────────────────────────────────
def test_an_account_begins_without_a_profile(session: Session, account: int) -> None:
    assert billing_profiles.current_profile(session, actor=SYSTEM, account_id=account) is None
    assert versions(session, account) == []
    assert currency_of(session, account) == ("USD", False)


def test_each_change_is_a_version_and_the_newest_is_current(
    session: Session, clock: TestClock, account: int
) -> None:
    owner = member(session, account, MemberRole.OWNER)
    billing = member(session, account, MemberRole.BILLING)
    assert save(session, account, actor=owner) == SavedProfile(1, "USD", is_changed=True)
    first_at = clock.instant
    clock.advance(days=1)
    saved = save(session, account, COMPANY, expected_version=1, actor=billing)
    assert saved == SavedProfile(2, "USD", is_changed=True)
    newest, first = billing_profiles.profile_history(session, actor=owner, account_id=account)
    assert (newest.version, newest.changed_by) == (2, f"user:{billing.user_id}")
    assert newest.profile == replace(COMPANY, tax_code="FR40303265045")
    assert (first.version, first.changed_by) == (1, f"user:{owner.user_id}")
    assert first.profile == PERSON
    assert first.changed_at <= first_at < newest.changed_at
    current = billing_profiles.current_profile(session, actor=owner, account_id=account)
    assert current == newest
    old = billing_profiles.find_profile(session, actor=owner, account_id=account, version=1)
    assert old == first


def test_a_version_that_is_not_there_is_not_found(session: Session, account: int) -> None:
    save(session, account)
    with pytest.raises(NotFound, match="billing_profile"):
        billing_profiles.find_profile(session, actor=SYSTEM, account_id=account, version=2)


def test_saving_what_is_saved_already_makes_no_version(session: Session, account: int) -> None:
    save(session, account)
    again = save(session, account, replace(PERSON, name="  Lan  Tran "), expected_version=1)
    assert again == SavedProfile(1, "USD", is_changed=False)
    assert versions(session, account) == [1]
    assert len(audited(session, account, "save_billing_profile")) == 1


@pytest.mark.parametrize("expected_version", [0, 2])
def test_who_edited_another_version_is_refused(
    session: Session, account: int, expected_version: int
) -> None:
    save(session, account)
    with pytest.raises(Conflict, match="profile_changed"):
        save(session, account, COMPANY, expected_version=expected_version)
    assert versions(session, account) == [1]


def test_the_first_version_follows_no_other(session: Session, account: int) -> None:
    with pytest.raises(Conflict, match="profile_changed"):
        save(session, account, expected_version=1)
    assert currency_of(session, account) == ("USD", False)


def test_a_version_cannot_be_changed_or_erased(
    session: Session, engine: Engine, account: int
) -> None:
    save(session, account)
    session.commit()
    for statement in (
        "UPDATE billing_profiles SET name = 'Other'",
        "DELETE FROM billing_profiles",
        "TRUNCATE billing_profiles",
    ):
        with engine.connect() as runtime, pytest.raises(DBAPIError, match="permission denied"):
            runtime.execute(text(statement))
        with engine.connect() as owner:
            owner.execute(text("RESET ROLE"))
            with pytest.raises(DBAPIError, match="insert-only"):
                owner.execute(text(statement))


# ── What a profile may say ─────────────────────────────────────────────────────────────────────
def test_what_is_kept_is_one_form(session: Session, account: int) -> None:
    typed = BillingProfile(
        kind=ProfileKind.PERSONAL,
        name=" Tra\N{COMBINING CIRCUMFLEX ACCENT}\N{COMBINING GRAVE ACCENT}n   Lan\n",
        email=" Lan@Example.COM ",
        address="12 Rue Sample,\r\n\n  69001  Lyon \n",
        country="FR",
        city="  ",
        tax_code=" ",
    )
    save(session, account, typed)
    current = billing_profiles.current_profile(session, actor=SYSTEM, account_id=account)
    assert current is not None
    assert current.profile == BillingProfile(
        kind=ProfileKind.PERSONAL,
        name="Trần Lan",
        email="lan@example.com",
        address="12 Rue Sample, 69001 Lyon",
        country="FR",
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", "", "empty"),
        ("name", " \N{ZERO WIDTH SPACE} ", "empty"),
        ("name", "x" * (MAX_NAME_LENGTH + 1), "too_long"),
        ("name", "Lan\0Tran", "control_characters"),
        ("email", " ", "empty"),
        ("email", "lan.example.com", "not_an_email"),
        ("email", "lan@example.com\0", "not_an_email"),
        ("address", " \n ", "empty"),
        ("address", "x" * (MAX_ADDRESS_LENGTH + 1), "too_long"),
        ("address", "1 Rue \x1b[31mSample", "control_characters"),
        ("city", "x" * 101, "too_long"),
        ("city", "Ly\u202eon", "control_characters"),
        ("country", "", "empty"),
        ("country", "fr", "unknown"),
        ("country", "XX", "unknown"),
        ("country", "FRA", "unknown"),
        ("tax_code", "FR12345678901", "wrong_format"),
    ],
)
def test_each_field_is_checked(
    session: Session, account: int, field: str, value: str, reason: str
) -> None:
    changed: dict[str, Any] = {field: value}
    assert fault(session, account, replace(PERSON, **changed)) == (field, reason)
    assert versions(session, account) == []
    assert currency_of(session, account) == ("USD", False)


@pytest.mark.parametrize("tax_code", [None, "", " "])
def test_a_company_needs_a_tax_code_and_a_person_does_not(
    session: Session, account: int, tax_code: str | None
) -> None:
    nameless = replace(COMPANY, tax_code=tax_code)
    assert fault(session, account, nameless) == ("tax_code", "empty")
    save(session, account, replace(PERSON, tax_code=tax_code))
    assert versions(session, account) == [1]


def test_a_form_learns_every_fault_at_once() -> None:
    empty = BillingProfile(
        kind=ProfileKind.COMPANY, name="", email="", address="", country="", tax_code=""
    )
    assert [each.field for each in profile_faults(empty)] == [
        "name",
        "email",
        "address",
        "country",
        "tax_code",
    ]
    assert profile_faults(COMPANY) == ()


def test_what_a_profile_says_does_not_get_into_logs() -> None:
    shown = repr(COMPANY)
    for value in (COMPANY.name, COMPANY.email, COMPANY.address, COMPANY.city, COMPANY.tax_code):
        assert str(value) not in shown


# ── Sites and their countries ──────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("site", ["vn", "jp", "global"])
@pytest.mark.parametrize("country", ["VN", "JP", "FR", "US", "XK"])
def test_a_site_bills_its_countries(session: Session, site: str, country: str) -> None:
    account = make_account(session, site=site, currency=CURRENCY_OF[site])
    profile = replace(PERSON, country=country)
    served = {"vn": {"VN"}, "jp": {"JP"}, "global": {"FR", "US", "XK"}}[site]
    choices = billing_profiles.profile_choices(session, actor=SYSTEM, account_id=account)
    assert (country in choices.countries) == (country in served)
    if country in served:
        assert save(session, account, profile).version == 1
    else:
        assert fault(session, account, profile) == ("country", "not_at_site")


def test_everybody_who_can_sign_up_can_be_billed(session: Session) -> None:
    offered = {code for site in ("vn", "jp", "global") for code in served_countries(session, site)}
    assert offered == set(country_codes())
    assert offered == {each.alpha_2 for each in pycountry.countries} | {"XK"}


def test_the_form_offers_what_can_be_saved(session: Session) -> None:
    vietnam = make_account(session, site="vn", currency="VND")
    choices = billing_profiles.profile_choices(session, actor=SYSTEM, account_id=vietnam)
    assert (choices.countries, choices.currencies) == (("VN",), ("VND",))
    world = make_account(session, currency="EUR")
    choices = billing_profiles.profile_choices(session, actor=SYSTEM, account_id=world)
    assert choices.site_code == "global"
    assert (choices.currencies, choices.currency) == (("USD", "EUR"), "EUR")
    assert len(choices.countries) > 200
    assert not choices.is_currency_locked
    save(session, world)
    choices = billing_profiles.profile_choices(session, actor=SYSTEM, account_id=world)
    assert (choices.currencies, choices.is_currency_locked) == (("EUR",), True)


# ── The currency ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("site", ["vn", "jp", "global"])
def test_the_first_profile_locks_the_currency(
    session: Session, clock: TestClock, site: str
) -> None:
    account = make_account(session, site=site, currency=CURRENCY_OF[site])
    clock.advance(hours=1)
    saved = save(session, account, replace(PERSON, country=COUNTRY_OF[site]))
    assert saved.currency == CURRENCY_OF[site]
    assert currency_of(session, account) == (CURRENCY_OF[site], True)
    locked_at = session.scalar(select(Account.currency_locked_at).where(Account.id == account))
    save(
        session,
        account,
        replace(PERSON, country=COUNTRY_OF[site], name="Other"),
        expected_version=1,
    )
    assert (
        session.scalar(select(Account.currency_locked_at).where(Account.id == account)) == locked_at
    )
    moved = {"from": CURRENCY_OF[site], "to": CURRENCY_OF[site]}
    assert audited(session, account, "lock_currency") == [moved]


def test_with_the_first_profile_another_currency_of_the_site_may_be_chosen(
    session: Session, account: int
) -> None:
    assert save(session, account, currency="EUR").currency == "EUR"
    assert currency_of(session, account) == ("EUR", True)
    assert audited(session, account, "lock_currency") == [{"from": "USD", "to": "EUR"}]
    grant(session, account, 5)
    assert ledger.verify_ledger(session, actor=SYSTEM) == []


@pytest.mark.parametrize(
    ("site", "currency"),
    [("vn", "USD"), ("jp", "USD"), ("global", "VND"), ("global", "JPY"), ("global", "usd")],
)
def test_a_currency_that_the_site_does_not_keep_is_refused(
    session: Session, site: str, currency: str
) -> None:
    account = make_account(session, site=site, currency=CURRENCY_OF[site])
    profile = replace(PERSON, country=COUNTRY_OF[site])
    assert fault(session, account, profile, currency=currency) == ("currency", "not_at_site")
    assert currency_of(session, account) == (CURRENCY_OF[site], False)


def test_from_the_first_profile_on_the_currency_stays(session: Session, account: int) -> None:
    save(session, account)
    later: dict[str, Any] = {"expected_version": 1, "currency": "EUR"}
    assert fault(session, account, COMPANY, **later) == ("currency", "locked")
    assert save(session, account, COMPANY, expected_version=1, currency="USD").version == 2


def _granted(session: Session, account: int) -> None:
    grant(session, account, 5, kind="voucher")


def _refused(session: Session, account: int) -> None:
    outcome = charge(session, account, 1, occurred_at=datetime.now(UTC))
    assert outcome.status == "refused"


def _carried(session: Session, account: int) -> None:
    half_a_micro = make_charge(account, "0.0000005", occurred_at=datetime.now(UTC), refusable=False)
    ledger.charge(session, charge=half_a_micro, actor=SYSTEM)


@pytest.mark.parametrize("post", [_granted, _refused, _carried])
def test_amounts_of_one_currency_never_turn_into_another(
    session: Session, account: int, post: Callable[[Session, int], None]
) -> None:
    post(session, account)
    assert fault(session, account, PERSON, currency="EUR") == ("currency", "locked")
    assert save(session, account).currency == "USD"


def test_the_choice_waits_for_a_posting_that_has_begun(sessions: sessionmaker[Session]) -> None:
    """Two connections by hand: the currency is chosen while the first credit is being posted."""
    with sessions() as session:
        account = make_account(session)
        session.commit()
    with sessions() as poster, sessions() as saver:
        grant(poster, account, 5)
        saver.execute(text("SET LOCAL lock_timeout = '200ms'"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            save(saver, account, currency="EUR")
        saver.rollback()
        poster.commit()
        assert fault(saver, account, PERSON, currency="EUR") == ("currency", "locked")


def test_a_credit_that_waited_for_the_choice_is_in_the_chosen_currency(
    sessions: sessionmaker[Session],
) -> None:
    # Not pg_stat_activity: a transaction sees it as it was at its first look.
    waits = text(
        "SELECT EXISTS (SELECT FROM pg_locks"
        " WHERE NOT granted AND transactionid = CAST(pg_current_xact_id() AS xid))"
    )
    with sessions() as session:
        account = make_account(session)
        session.commit()

    def post() -> None:
        with sessions() as poster:
            grant(poster, account, 5)
            poster.commit()

    with sessions() as saver, ThreadPoolExecutor() as pool:
        save(saver, account, currency="EUR")
        posting = pool.submit(post)
        while not saver.execute(waits).scalar_one():
            assert not posting.done()
            time.sleep(0.02)  # noqa: TID251 - a poll; the test's time-out is its deadline
        saver.commit()
        posting.result()
    with sessions() as session:
        assert ledger.verify_ledger(session, actor=SYSTEM) == []


# ── Who may ────────────────────────────────────────────────────────────────────────────────────
def test_owners_billing_members_and_the_system_save(session: Session, account: int) -> None:
    savers = [
        member(session, account, MemberRole.OWNER),
        member(session, account, MemberRole.BILLING),
        SYSTEM,
    ]
    for number, actor in enumerate(savers):
        profile = replace(PERSON, name=f"Version {number}")
        assert save(session, account, profile, expected_version=number, actor=actor).is_changed
    assert versions(session, account) == [3, 2, 1]


def test_readers_and_staff_look_and_do_not_save(session: Session, account: int) -> None:
    save(session, account)
    staff = [user_actor(900, staff_role=role) for role in StaffRole]
    for actor in (member(session, account, MemberRole.READER), *staff):
        with pytest.raises(NotAuthorised):
            save(session, account, COMPANY, expected_version=1, actor=actor)
        reading: dict[str, Any] = {"actor": actor, "account_id": account}
        assert billing_profiles.current_profile(session, **reading) is not None
        assert len(billing_profiles.profile_history(session, **reading)) == 1
        assert billing_profiles.find_profile(session, **reading, version=1).version == 1
        assert billing_profiles.profile_choices(session, **reading).currency == "USD"


def test_members_of_another_account_find_nothing(session: Session, account: int) -> None:
    save(session, account)
    other = make_account(session)
    stranger = member(session, other, MemberRole.OWNER)
    with pytest.raises(NotFound):
        save(session, account, COMPANY, expected_version=1, actor=stranger)
    reading: dict[str, Any] = {"actor": stranger, "account_id": account}
    for read in (
        billing_profiles.current_profile,
        billing_profiles.profile_history,
        billing_profiles.profile_choices,
    ):
        with pytest.raises(NotFound):
            read(session, **reading)
    with pytest.raises(NotFound):
        billing_profiles.find_profile(session, **reading, version=1)
    assert versions(session, other) == []


def test_an_account_that_is_not_there_has_no_profile(session: Session) -> None:
    with pytest.raises(NotFound):
        save(session, 999_999)
    with pytest.raises(NotFound):
        billing_profiles.profile_choices(session, actor=SYSTEM, account_id=999_999)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ("UPDATE account_members SET role = 'reader' WHERE user_id = :id", NotAuthorised),
        ("DELETE FROM account_members WHERE user_id = :id", NotFound),
    ],
)
def test_a_right_that_went_meanwhile_is_gone(
    session: Session, account: int, change: str, refusal: type[BillingError]
) -> None:
    owner = member(session, account, MemberRole.OWNER)
    session.execute(text(change), {"id": owner.user_id})
    with pytest.raises(refusal):
        save(session, account, actor=owner)
    assert versions(session, account) == []


# ── Once ───────────────────────────────────────────────────────────────────────────────────────
def test_a_key_that_is_repeated_saves_once_and_answers_the_same(
    session: Session, account: int
) -> None:
    first = save(session, account, currency="EUR", key="once")
    save(session, account, COMPANY, expected_version=1)
    again = save(session, account, currency="EUR", key="once")
    assert again == first == SavedProfile(1, "EUR", is_changed=True)
    assert versions(session, account) == [2, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"profile": COMPANY},
        {"profile": replace(PERSON, email="other@example.com")},
        {"currency": "EUR"},
        {"expected_version": 1},
    ],
)
def test_a_key_is_for_one_request(session: Session, account: int, other: dict[str, Any]) -> None:
    save(session, account, key="once")
    with pytest.raises(IdempotencyMismatch):
        save(session, account, key="once", **other)
    assert versions(session, account) == [1]


def test_the_key_of_another_account_is_another_key(session: Session, account: int) -> None:
    save(session, account, key="once")
    assert save(session, make_account(session), COMPANY, key="once").version == 1


# ── At the same time, on connections of their own ──────────────────────────────────────────────
def _race(
    sessions: sessionmaker[Session], acts: list[Callable[[Session], SavedProfile]]
) -> list[str]:
    barrier = Barrier(len(acts))

    def run(act: Callable[[Session], SavedProfile]) -> str:
        with sessions() as session:
            session.execute(text("SELECT 1"))
            barrier.wait()
            try:
                saved = act(session)
                session.commit()
            except BillingError as error:
                session.rollback()
                return error.code
        return f"version {saved.version}"

    with ThreadPoolExecutor(len(acts)) as threads:
        return sorted(threads.map(run, acts))


@pytest.mark.parametrize("saved_before", [0, 1])
def test_of_savers_of_one_version_one_wins(
    sessions: sessionmaker[Session], saved_before: int
) -> None:
    with sessions() as session:
        account = make_account(session)
        actors = [member(session, account, MemberRole.OWNER) for _ in range(8)]
        if saved_before:
            save(session, account)
        session.commit()

    def saver(actor: Actor) -> Callable[[Session], SavedProfile]:
        profile = replace(PERSON, name=f"Saver {actor.user_id}")
        return lambda session: save(
            session, account, profile, expected_version=saved_before, actor=actor
        )

    outcomes = _race(sessions, [saver(actor) for actor in actors])
    assert outcomes == ["conflict"] * 7 + [f"version {saved_before + 1}"]
    with sessions() as session:
        assert versions(session, account)[0] == saved_before + 1
        assert len(audited(session, account, "lock_currency")) == 1


def test_one_key_from_many_threads_saves_once(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        account = make_account(session)
        session.commit()
    outcomes = _race(sessions, [lambda session: save(session, account, key="once")] * 8)
    assert outcomes == ["version 1"] * 8
    with sessions() as session:
        assert versions(session, account) == [1]
        assert len(audited(session, account, "save_billing_profile")) == 1


def test_two_currencies_chosen_at_once_lock_one(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        account = make_account(session)
        session.commit()

    def chooser(currency: str) -> Callable[[Session], SavedProfile]:
        return lambda session: save(session, account, currency=currency)

    assert _race(sessions, [chooser("USD"), chooser("EUR")]) == ["conflict", "version 1"]
    with sessions() as session:
        kept = currency_of(session, account)
        (choice,) = audited(session, account, "lock_currency")
        assert kept == (choice["to"], True)


# ── What is written down of it ─────────────────────────────────────────────────────────────────
def test_the_log_names_the_fields_and_tells_nothing_of_what_they_say(
    session: Session, account: int
) -> None:
    owner = member(session, account, MemberRole.OWNER)
    save(session, account, actor=owner)
    changed = replace(COMPANY, email="bills@example.com")
    save(session, account, changed, expected_version=1, actor=owner)
    first, second = audited(session, account, "save_billing_profile")
    assert first["version"] == 1
    assert first["changed"] == ["kind", "name", "email", "address", "country", "city"]
    assert second["changed"] == ["kind", "name", "email", "tax_code"]
    assert first["from"] is None
    assert second["from"] == first["to"] != second["to"]
    assert len(second["to"]) == 64
    kept = session.execute(
        text(
            "SELECT (SELECT json_agg(a) FROM audit_log a), (SELECT json_agg(k) FROM"
            " idempotency_keys k)"
        )
    ).one()
    for table in kept:
        shown = json.dumps(table, ensure_ascii=False)
        assert "billing_profile" in shown
        for value in ("Lan", "Sample", "example.com", "Lyon", "303265045"):
            assert value not in shown
