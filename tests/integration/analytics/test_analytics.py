"""What all accounts were granted, used and have left, by currency, place, service and time."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from domain import ledger
from domain.accounts import open_account
from domain.actors import StaffRole, user_actor
from domain.analytics.queries import (
    AccountShares,
    AnalyticsReport,
    account_shares,
    analytics_choices,
    analytics_report,
)
from domain.errors import InvalidInput, NotAuthorised
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, next_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.conftest import TestClock

FINANCE = user_actor(1, staff_role=StaffRole.FINANCE)
TODAY = date(2026, 3, 10)
DAY = timedelta(days=1)


class Accounts:
    """Two accounts in yen, one in dollars and one in euro, by name."""

    def __init__(self, session: Session) -> None:
        self.tokyo = open_account(
            session, site_code="jp", name="Tokyo", currency="JPY", country="JP", actor=SYSTEM
        )
        self.osaka = make_account(session, site="jp", currency="JPY")
        self.dollar = make_account(session)
        self.euro = open_account(
            session, site_code="global", name="Euro", currency="EUR", country="DE", actor=SYSTEM
        )


def reverse(session: Session, account: int, sequence: int) -> None:
    ledger.reverse_entry(
        session,
        account_id=account,
        entry_sequence=sequence,
        reason="mistake",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )


def use(session: Session, account: int, amount: int, at: datetime, service: str) -> int:
    charged = charge(
        session, account, amount, occurred_at=at, service=service, refusable=False
    ).entry_sequence
    assert charged is not None
    return charged


@pytest.fixture
def accounts(session: Session, clock: TestClock) -> Accounts:
    """Accounts over seven days, in which everything that changes a balance happened."""
    found = Accounts(session)
    clock.advance(days=-6)  # 4 March
    grant(session, found.tokyo, 100)
    grant(session, found.tokyo, 20, kind="voucher", expires_at=clock.instant + 2 * DAY)
    grant(session, found.osaka, 30, kind="plan", consideration_micros=24 * UNIT)
    grant(session, found.dollar, 7)
    use(session, found.tokyo, 5, clock.instant, "gpu-vm")
    clock.advance(days=3)  # 7 March: 15 of the voucher lapsed on the 6th
    assert ledger.expire_grants(session, actor=SYSTEM) == 1
    use(session, found.tokyo, 40, clock.instant, "gpu-vm")
    mistaken = use(session, found.tokyo, 8, clock.instant, "ai-notebook")
    reverse(session, found.tokyo, mistaken)
    use(session, found.osaka, 50, clock.instant, "ai-inference")  # 20 of it is debt
    use(session, found.dollar, 2, clock.instant, "ai-inference")
    clock.advance(days=3)  # 10 March
    ledger.write_off_debt(
        session,
        account_id=found.osaka,
        amount_micros=6 * UNIT,
        reason="lost",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    grant(session, found.osaka, 3, kind="adjustment")
    ledger.claw_back_credit(
        session,
        account_id=found.tokyo,
        kind="refund",
        grant_numbers=[1],
        amount_micros=9 * UNIT,
        source="bank",
        actor=SYSTEM,
        idempotency_key=next_key(),
    )
    reverse(session, found.dollar, 1)
    use(session, found.tokyo, 1, clock.instant, "gpu-vm")
    session.commit()
    return found


def report(
    session: Session, first: date = date(2026, 3, 5), last: date = TODAY, **expected: Any
) -> AnalyticsReport:
    return analytics_report(session, actor=FINANCE, first=first, last=last, **expected)


def shares(session: Session, currency: str = "JPY", **expected: Any) -> AccountShares:
    first = expected.pop("first", date(2026, 3, 5))
    return account_shares(
        session, actor=FINANCE, first=first, last=TODAY, currency=currency, **expected
    )


@pytest.mark.usefixtures("accounts")
def test_what_was_there_came_went_and_remains_is_told_by_currency(session: Session) -> None:
    found = report(session)
    assert list(found.totals) == ["JPY", "USD"]
    yen = found.totals["JPY"]
    assert yen.begin_micros == (100 + 20 + 30 - 5) * UNIT
    assert yen.granted == {"adjustment": 3 * UNIT}
    assert yen.used_micros == (40 + 50 + 1) * UNIT
    assert yen.expired_micros == 15 * UNIT
    assert yen.taken_back_micros == 9 * UNIT
    assert yen.other_micros == -6 * UNIT
    assert yen.remaining_micros == (145 + 3 - 91 - 15 - 9 + 6) * UNIT
    dollar = found.totals["USD"]
    assert (dollar.begin_micros, dollar.used_micros) == (7 * UNIT, 2 * UNIT)
    assert (dollar.other_micros, dollar.remaining_micros) == (7 * UNIT, -2 * UNIT)


@pytest.mark.usefixtures("accounts")
def test_credit_is_told_by_its_kind(session: Session) -> None:
    found = report(session, first=date(2026, 3, 4))
    assert found.totals["JPY"].granted == {
        "top_up": 100 * UNIT,
        "plan": 30 * UNIT,
        "voucher": 20 * UNIT,
        "adjustment": 3 * UNIT,
    }
    assert found.totals["JPY"].begin_micros == 0


BALANCES = text("""
SELECT c.currency, (e.occurred_at AT TIME ZONE s.time_zone)::date, e.amount_micros
FROM entries e JOIN accounts c ON c.id = e.account_id JOIN sites s ON s.code = c.site_code
""")


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("folded", [0, 9])
@pytest.mark.parametrize("grain", ["day", "week", "month"])
def test_every_row_of_every_period_ties_to_the_entries(
    session: Session, grain: str, folded: int
) -> None:
    # Some of the changes are in the sums, and some still wait.
    assert ledger.fold_totals(session, actor=SYSTEM, limit=folded) == folded
    entries = session.execute(BALANCES).all()
    days = [TODAY - number * DAY for number in range(8, -2, -1)]
    for first, last in combinations_with_replacement(days, 2):
        found = report(session, first=first, last=last, grain=grain)
        for currency, flow in found.totals.items():
            of_currency = [(day, micros) for code, day, micros in entries if code == currency]
            assert flow.begin_micros == sum(micros for day, micros in of_currency if day < first)
            assert flow.remaining_micros == sum(
                micros for day, micros in of_currency if day <= last
            )
            buckets = [one.flow for one in found.buckets if one.currency == currency]
            assert sum(one.used_micros for one in buckets) == flow.used_micros
            assert not buckets or buckets[-1].remaining_micros == flow.remaining_micros
            for places in (found.sites, found.countries):
                rows = [one.flow for one in places if one.currency == currency]
                assert sum(one.remaining_micros or 0 for one in rows) == flow.remaining_micros
                assert sum(one.used_micros for one in rows) == flow.used_micros
            services = [one for one in found.services if one.currency == currency]
            assert sum(one.used_micros for one in services) == flow.used_micros


@pytest.mark.usefixtures("accounts")
def test_rows_stand_by_time_place_and_service(session: Session) -> None:
    found = report(session)
    days = [(one.begins, one.flow.used_micros // UNIT) for one in found.buckets]
    assert days == [
        (date(2026, 3, 6), 0), (date(2026, 3, 7), 90), (TODAY, 1),
        (date(2026, 3, 7), 2), (TODAY, 0),
    ]  # fmt: skip
    assert [(one.code, one.currency, one.flow.used_micros // UNIT) for one in found.sites] == [
        ("jp", "JPY", 91),
        ("global", "USD", 2),
    ]
    assert [(one.code, one.currency, one.flow.used_micros // UNIT) for one in found.countries] == [
        ("", "JPY", 50),
        ("JP", "JPY", 41),
        ("", "USD", 2),
    ]
    assert [(one.service, one.currency, one.used_micros // UNIT) for one in found.services] == [
        ("ai-inference", "JPY", 50),
        ("gpu-vm", "JPY", 41),
        ("ai-notebook", "JPY", 0),
        ("ai-inference", "USD", 2),
    ]
    weeks = report(session, grain="week").buckets
    assert {one.begins for one in weeks} == {date(2026, 3, 2), date(2026, 3, 9)}


@pytest.mark.usefixtures("accounts")
def test_filters_narrow_everything(session: Session) -> None:
    assert list(report(session, site="global").totals) == ["USD"]
    assert list(report(session, currency="JPY").totals) == ["JPY"]
    tokyo = report(session, country="JP").totals["JPY"]
    assert tokyo.remaining_micros == (100 + 20 - 5 - 15 - 41 - 9) * UNIT
    nowhere = report(session, country="", currency="JPY").totals["JPY"]
    assert nowhere.remaining_micros == (30 - 50 + 6 + 3) * UNIT
    assert report(session, country="VN").totals == {}


@pytest.mark.usefixtures("accounts")
def test_of_one_service_only_its_use_is_told(session: Session) -> None:
    found = report(session, service="gpu-vm")
    assert list(found.totals) == ["JPY"]
    flow = found.totals["JPY"]
    assert (flow.used_micros, flow.granted_micros) == (41 * UNIT, 0)
    assert (flow.begin_micros, flow.remaining_micros) == (None, None)
    assert [one.service for one in found.services] == ["gpu-vm"]


def test_accounts_stand_by_what_they_used(session: Session, accounts: Accounts) -> None:
    found = shares(session)
    assert [(one.account_id, one.used_micros // UNIT, one.zone) for one in found.accounts] == [
        (accounts.osaka, 50, "Asia/Tokyo"),
        (accounts.tokyo, 41, "Asia/Tokyo"),
    ]
    assert (found.other_accounts, found.other_micros, found.other_calls) == (0, 0, 0)
    top = shares(session, limit=1)
    assert [one.account_id for one in top.accounts] == [accounts.osaka]
    assert (top.other_accounts, top.other_micros) == (1, 41 * UNIT)
    assert shares(session, "USD").accounts[0].account_id == accounts.dollar
    assert shares(session, "EUR").accounts == ()


def test_the_filters_of_the_report_find_its_accounts(session: Session, accounts: Accounts) -> None:
    filters: list[dict[str, Any]] = [
        {},
        {"country": "JP"},
        {"country": ""},
        {"service": "gpu-vm"},
        {"site": "jp"},
    ]
    for expected in filters:
        found = shares(session, **expected)
        whole = report(session, currency="JPY", **expected).totals["JPY"].used_micros
        assert sum(one.used_micros for one in found.accounts) == whole
    assert shares(session, site="global").accounts == ()
    assert [one.account_id for one in shares(session, country="JP").accounts] == [accounts.tokyo]


@pytest.mark.usefixtures("accounts")
def test_choices_are_what_occurs(session: Session) -> None:
    found = analytics_choices(session, actor=FINANCE)
    assert list(found.sites) == ["global", "jp"]
    assert found.countries == ("", "JP")
    assert found.currencies == ("JPY", "USD")
    assert found.services == ("ai-inference", "ai-notebook", "gpu-vm")


@pytest.mark.parametrize("role", [None, StaffRole.SUPPORT])
def test_only_finance_and_administrators_read_it(session: Session, role: StaffRole | None) -> None:
    actor = user_actor(2, staff_role=role)
    for asked in (
        lambda: analytics_report(session, actor=actor, first=TODAY, last=TODAY),
        lambda: account_shares(session, actor=actor, first=TODAY, last=TODAY, currency="USD"),
        lambda: analytics_choices(session, actor=actor),
    ):
        with pytest.raises(NotAuthorised):
            asked()
    admin = user_actor(3, staff_role=StaffRole.ADMIN)
    assert analytics_report(session, actor=admin, first=TODAY, last=TODAY).totals == {}


def test_a_period_that_makes_no_sense_is_refused(session: Session) -> None:
    with pytest.raises(InvalidInput):
        report(session, first=TODAY + DAY)
    with pytest.raises(InvalidInput):
        report(session, first=TODAY - timedelta(days=1_100))
    with pytest.raises(InvalidInput):
        report(session, grain="hour")
    with pytest.raises(InvalidInput):
        shares(session, first=TODAY + DAY)
