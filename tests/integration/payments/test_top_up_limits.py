"""What a top-up may be: loaded once, then finance's alone, one change at a time."""

from __future__ import annotations

import tomllib
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from db.models import AuditRecord, Site
from domain.actors import MemberRole, StaffRole, user_actor
from domain.bootstrap import load_reference
from domain.catalogue.configuration import ConfigurationFile
from domain.errors import (
    BillingError,
    Conflict,
    CurrencyMismatch,
    IdempotencyMismatch,
    InvalidConfiguration,
    InvalidInput,
    NotAuthorised,
    NotFound,
)
from domain.money import Money
from domain.payments import top_up_limits
from domain.payments.top_up_limits import (
    MAX_PRESETS,
    change_limits,
    limits_of,
    list_limits,
    load_limits,
)
from tests.factories import SYSTEM, make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from tests.conftest import TestClock

FILE = Path(top_up_limits.__file__).with_name("top_up_limits.toml")
FINANCE = user_actor(1, staff_role=StaffRole.FINANCE)
# fmt: off
PAYPAL = {
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS",
    "JPY", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "SEK", "SGD", "THB", "TWD", "USD",
}
# fmt: on
"""What PayPal can be paid in; VNPay adds the dong."""


def money(amount: str | int, currency: str = "USD") -> Money:
    return Money.from_decimal(Decimal(amount), currency)


def change(session: Session, **given: Any) -> int:
    expected: dict[str, Any] = {
        "currency": "USD",
        "minimum": money(30),
        "maximum": money(5_000),
        "presets": [money(30), money(60)],
        "expected_version": 1,
        "actor": FINANCE,
        "idempotency_key": next_key(),
        **given,
    }
    return change_limits(session, **expected)


def changes(session: Session) -> list[dict[str, Any]]:
    expected = AuditRecord.action == "change_limits"
    return list(
        session.scalars(select(AuditRecord.details).where(expected).order_by(AuditRecord.id))
    )


# ── The file ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("currency", "minimum"), [("VND", 500_000), ("JPY", 3_000), ("USD", 25), ("EUR", 25)]
)
def test_the_minimum_is_that_of_the_brief(session: Session, currency: str, minimum: int) -> None:
    limits = limits_of(session, currency)
    assert limits.minimum == money(minimum, currency)
    assert limits.presets[0] == limits.minimum
    assert (limits.version, limits.updated_by) == (1, "system:tests")


def test_every_currency_that_can_be_paid_in_has_limits(session: Session) -> None:
    known = [limits.currency for limits in list_limits(session, actor=SYSTEM)]
    assert known == sorted(PAYPAL | {"VND"})
    for currencies in session.scalars(select(Site.currencies)):
        assert set(currencies) <= set(known)


def test_the_files_figures_are_whole_units(session: Session) -> None:
    """PayPal takes no fraction of a Hungarian forint or a Taiwanese dollar, whatever ISO says."""
    file = tomllib.loads(FILE.read_text("utf-8"), parse_float=Decimal)
    assert set(file) == {limits.currency for limits in list_limits(session, actor=SYSTEM)}
    for figures in file.values():
        assert all(type(each) is int for each in (figures["minimum"], figures["maximum"]))
        assert all(type(each) is int for each in figures["presets"])
        assert figures["presets"] == sorted(set(figures["presets"]))


def test_a_start_adds_what_is_missing_and_leaves_what_finance_changed(session: Session) -> None:
    change(session)
    session.execute(text("RESET ROLE"))
    session.execute(text("DELETE FROM top_up_limits WHERE currency = 'EUR'"))
    load_reference(session, actor=SYSTEM)
    assert limits_of(session, "USD").minimum == money(30)
    assert limits_of(session, "USD").version == 2
    assert limits_of(session, "EUR").version == 1


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ("minimum = 0\nmaximum = 5\npresets = [1]", "'minimum' must be above zero"),
        (
            "minimum = 2.555\nmaximum = 5\npresets = [3]",
            "'minimum' has more decimals than the currency",
        ),
        ("minimum = 6\nmaximum = 5\npresets = [6]", "'maximum' is below the minimum"),
        ("minimum = 1\nmaximum = 5\npresets = []", "'presets' is empty"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(
    session: Session, figures: str, expected: str
) -> None:
    file = ConfigurationFile("top_up_limits.toml", f"[USD]\n{figures}")
    with pytest.raises(InvalidConfiguration) as caught:
        load_limits(session, actor=SYSTEM, file=file)
    assert (caught.value.file, caught.value.where) == ("top_up_limits.toml", "USD")
    assert caught.value.reason == expected


def test_a_file_names_currencies(session: Session) -> None:
    content = "[XXX]\nminimum = 1\nmaximum = 5\npresets = [1]"
    with pytest.raises(InvalidConfiguration, match="'XXX' is no currency"):
        load_limits(session, actor=SYSTEM, file=ConfigurationFile("top_up_limits.toml", content))


def test_a_currency_without_limits_is_not_found(session: Session) -> None:
    with pytest.raises(NotFound, match="top_up_limits"):
        limits_of(session, "KWD")


# ── Changing them ──────────────────────────────────────────────────────────────────────────────
def test_finance_changes_them_and_it_is_written_down(session: Session, clock: TestClock) -> None:
    now = clock.advance(days=1)
    assert change(session, presets=[money(60), money(30), money(60)]) == 2
    limits = limits_of(session, "USD")
    assert (limits.minimum, limits.maximum) == (money(30), money(5_000))
    assert limits.presets == (money(30), money(60))
    assert (limits.version, limits.updated_by) == (2, "user:1")
    assert limits.updated_at >= now
    (details,) = changes(session)
    assert details["currency"] == "USD"
    assert details["from"]["minimum_micros"] == 25_000_000
    assert details["to"] == {
        "minimum_micros": 30_000_000,
        "maximum_micros": 5_000_000_000,
        "presets_micros": [30_000_000, 60_000_000],
    }
    assert limits_of(session, "EUR").version == 1


def test_a_currency_that_had_none_gets_limits(session: Session) -> None:
    dinars: dict[str, Any] = {
        "currency": "KWD",
        "minimum": money("7.500", "KWD"),
        "maximum": money(3_000, "KWD"),
        "presets": [money("7.500", "KWD")],
    }
    with pytest.raises(Conflict, match="limits_changed"):
        change(session, **dinars, expected_version=1)
    assert change(session, **dinars, expected_version=0) == 1
    assert limits_of(session, "KWD").minimum.micros == 7_500_000


@pytest.mark.parametrize("expected_version", [0, 2])
def test_who_edited_another_version_is_refused(session: Session, expected_version: int) -> None:
    with pytest.raises(Conflict, match="limits_changed"):
        change(session, expected_version=expected_version)
    assert limits_of(session, "USD").version == 1
    assert changes(session) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"minimum": money(0)}, ("minimum", "not_positive")),
        ({"minimum": money(-5)}, ("minimum", "not_positive")),
        ({"minimum": money("25.001")}, ("minimum", "too_many_decimals")),
        ({"maximum": money("5000.000001")}, ("maximum", "too_many_decimals")),
        ({"maximum": money("29.99")}, ("maximum", "below_minimum")),
        ({"presets": []}, ("presets", "empty")),
        ({"presets": [money(30), money("29.99")]}, ("presets", "below_minimum")),
        ({"presets": [money(30), money("5000.01")]}, ("presets", "above_maximum")),
        ({"presets": [money("30.005")]}, ("presets", "too_many_decimals")),
        (
            {"presets": [money(30 + number) for number in range(MAX_PRESETS + 1)]},
            ("presets", "too_many"),
        ),
    ],
)
def test_limits_fit_together_in_whole_coins(
    session: Session, given: dict[str, Any], expected: tuple[str, str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        change(session, **given)
    assert (caught.value.field, caught.value.reason) == expected
    assert limits_of(session, "USD").version == 1


def test_a_yen_has_no_fraction(session: Session) -> None:
    yen: dict[str, Any] = {
        "currency": "JPY",
        "minimum": money(3_000, "JPY"),
        "maximum": money("9000.5", "JPY"),
        "presets": [money(3_000, "JPY")],
    }
    with pytest.raises(InvalidInput) as caught:
        change(session, **yen)
    assert (caught.value.field, caught.value.reason) == ("maximum", "too_many_decimals")
    assert change(session, **{**yen, "maximum": money(9_000, "JPY")}) == 2


@pytest.mark.parametrize(
    "given", [{"minimum": money(30, "EUR")}, {"presets": [money(30, "EUR")]}, {"currency": "EUR"}]
)
def test_limits_are_in_their_own_currency(session: Session, given: dict[str, Any]) -> None:
    with pytest.raises(CurrencyMismatch):
        change(session, **given)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE top_up_limits SET minimum_micros = 0 WHERE currency = 'USD'",
        "UPDATE top_up_limits SET maximum_micros = minimum_micros - 1 WHERE currency = 'USD'",
        "UPDATE top_up_limits SET presets_micros = ARRAY[1] WHERE currency = 'USD'",
        "UPDATE top_up_limits SET presets_micros = ARRAY[maximum_micros + 1]",
    ],
)
def test_the_database_refuses_limits_that_do_not_fit(session: Session, statement: str) -> None:
    with pytest.raises(DBAPIError, match="violates check constraint"):
        session.execute(text(statement))


# ── Who may ────────────────────────────────────────────────────────────────────────────────────
def test_only_finance_changes_limits(session: Session) -> None:
    account = make_account(session)
    others = [
        SYSTEM,
        user_actor(1, staff_role=StaffRole.SUPPORT),
        user_actor(1, staff_role=StaffRole.ADMIN),
        *(user_actor(1, memberships={account: role}) for role in MemberRole),
    ]
    for actor in others:
        with pytest.raises(NotAuthorised):
            change(session, actor=actor)
    assert limits_of(session, "USD").version == 1
    assert change(session) == 2


def test_staff_list_limits_and_customers_do_not(session: Session) -> None:
    for role in StaffRole:
        assert len(list_limits(session, actor=user_actor(1, staff_role=role))) > 20
    with pytest.raises(NotAuthorised):
        list_limits(session, actor=user_actor(1, memberships={1001: MemberRole.OWNER}))


def test_only_the_system_and_finance_load_limits(session: Session) -> None:
    load_limits(session, actor=FINANCE)
    for role in (StaffRole.SUPPORT, StaffRole.ADMIN):
        with pytest.raises(NotAuthorised):
            load_limits(session, actor=user_actor(1, staff_role=role))


# ── Once, and at the same time ─────────────────────────────────────────────────────────────────
def test_a_key_that_is_repeated_changes_once_and_answers_the_same(session: Session) -> None:
    assert change(session, idempotency_key="once") == 2
    assert change(session, minimum=money(20), expected_version=2) == 3
    assert change(session, idempotency_key="once") == 2
    assert limits_of(session, "USD").minimum == money(20)
    assert len(changes(session)) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"minimum": money(29)},
        {"presets": [money(30)]},
        {"expected_version": 2},
        {
            "currency": "EUR",
            "minimum": money(30, "EUR"),
            "maximum": money(5_000, "EUR"),
            "presets": [money(30, "EUR"), money(60, "EUR")],
        },
    ],
)
def test_a_key_is_for_one_request(session: Session, other: dict[str, Any]) -> None:
    change(session, idempotency_key="once")
    with pytest.raises(IdempotencyMismatch):
        change(session, idempotency_key="once", **other)
    assert len(changes(session)) == 1


@pytest.mark.parametrize(("currency", "version"), [("USD", 1), ("KWD", 0)])
def test_of_editors_of_one_version_one_wins(
    sessions: sessionmaker[Session], currency: str, version: int
) -> None:
    editors = 6
    barrier = Barrier(editors)

    def edit(number: int) -> str:
        with sessions() as session:
            session.execute(text("SELECT 1"))
            barrier.wait()
            try:
                changed = change(
                    session,
                    currency=currency,
                    minimum=money(30 + number, currency),
                    maximum=money(5_000, currency),
                    presets=[money(100, currency)],
                    expected_version=version,
                )
                session.commit()
            except BillingError as error:
                return error.code
        return f"version {changed}"

    with ThreadPoolExecutor(editors) as threads:
        outcomes = sorted(threads.map(edit, range(editors)))
    assert outcomes == ["conflict"] * (editors - 1) + [f"version {version + 1}"]
    with sessions() as session:
        assert limits_of(session, currency).version == version + 1
        assert len(changes(session)) == 1
