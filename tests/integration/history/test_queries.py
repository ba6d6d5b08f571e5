"""What pages read: right figures, every filter exactly, and nothing of another account."""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from db.engine import make_engine, make_sessions
from domain import ledger
from domain.accounts import add_member
from domain.accounts.queries import own_accounts, service_names
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import InvalidInput, NotAuthorised, NotFound
from domain.history.cursors import HistoryCursor
from domain.history.details import (
    HoldDetail,
    entry_calls,
    entry_detail,
    entry_with_calls,
    hold_detail,
    refusal_detail,
)
from domain.history.pages import history_count, history_page, history_view
from domain.history.rows import (
    HISTORY_KINDS,
    MAX_TEXT_LENGTH,
    HistoryFilter,
    HistoryReference,
    HistoryRow,
    HistoryStatus,
)
from domain.identity import create_user
from domain.ledger.balances import GrantStatus, account_overview, account_summary
from domain.support.account_search import find_accounts
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, make_charge, next_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.history.rows import HistoryPage
    from tests.conftest import TestClock

CUSTOMER_ID = 7
STAFF = user_actor(8, staff_role=StaffRole.SUPPORT)
ALL = HistoryFilter()


def reader_of(*account_ids: int) -> Actor:
    return user_actor(CUSTOMER_ID, memberships=dict.fromkeys(account_ids, MemberRole.READER))


@pytest.fixture
def account_id(session: Session, clock: TestClock) -> int:
    assert session.info["clock"] is clock
    return make_account(session)


def hold(
    session: Session,
    account_id: int,
    amount: int,
    *,
    expires_at: datetime,
    service: str = "gpu-container",
) -> ledger.HoldOutcome:
    return ledger.place_hold(
        session,
        account_id=account_id,
        service=service,
        amount_micros=amount * UNIT,
        expires_at=expires_at,
        source="container-1",
        actor=SYSTEM,
        idempotency_key=next_key("hold"),
    )


# ── Overview ───────────────────────────────────────────────────────────────────────────────────
def test_overview_of_an_account_without_credit_is_nothing(
    session: Session, account_id: int
) -> None:
    overview = account_overview(session, actor=reader_of(account_id), account_id=account_id)

    assert overview.summary.balance_micros == 0
    assert overview.available_micros == overview.due_micros == overview.restricted_micros == 0
    assert overview.grants == ()
    assert overview.debts == ()
    assert overview.next_expiry is None
    assert [kind.kind for kind in overview.kinds] == ["plan", "voucher", "adjustment", "top_up"]


def test_overview_says_what_can_be_spent_now_and_what_cannot(
    session: Session, account_id: int, clock: TestClock
) -> None:
    now = clock.instant
    soon, later = now + timedelta(days=3), now + timedelta(days=30)
    grant(session, account_id, 100)
    grant(session, account_id, 10, kind="voucher", expires_at=soon)
    grant(session, account_id, 5, kind="voucher", expires_at=later, services=("gpu-vm",))
    grant(session, account_id, 40, kind="plan", starts_at=later)
    grant(session, account_id, 1, kind="adjustment")
    hold(session, account_id, 12, expires_at=soon)

    overview = account_overview(session, actor=reader_of(account_id), account_id=account_id)

    assert overview.summary.balance_micros == 156 * UNIT
    assert overview.summary.held_micros == 12 * UNIT
    assert overview.available_micros == (156 - 40 - 12) * UNIT
    assert overview.restricted_micros == 5 * UNIT
    assert {
        kind.kind: (kind.remaining_micros, kind.held_micros, kind.available_micros)
        for kind in overview.kinds
    } == {
        "plan": (40 * UNIT, 0, 0),
        "voucher": (15 * UNIT, 10 * UNIT, 5 * UNIT),
        "adjustment": (1 * UNIT, 1 * UNIT, 0),
        "top_up": (100 * UNIT, 1 * UNIT, 99 * UNIT),
    }
    assert [(one.kind, one.status) for one in overview.grants] == [
        ("plan", GrantStatus.SCHEDULED),
        ("voucher", GrantStatus.HELD),
        ("voucher", GrantStatus.ACTIVE),
        ("adjustment", GrantStatus.HELD),
        ("top_up", GrantStatus.ACTIVE),
    ]
    assert overview.next_expiry is not None
    assert overview.next_expiry.amount_micros == 10 * UNIT
    assert overview.next_expiry.expires_at == ceil_minute(soon)
    total = sum(kind.remaining_micros for kind in overview.kinds) - overview.due_micros
    assert total == overview.summary.balance_micros


def ceil_minute(instant: datetime) -> datetime:
    floor = instant.replace(second=0, microsecond=0)
    return floor if floor == instant else floor + timedelta(minutes=1)


def test_credit_past_its_time_is_not_available_before_its_expiry_is_posted(
    session: Session, account_id: int, clock: TestClock
) -> None:
    grant(session, account_id, 10, kind="voucher", expires_at=clock.instant + timedelta(hours=1))
    clock.advance(hours=1, minutes=2)

    overview = account_overview(session, actor=reader_of(account_id), account_id=account_id)

    assert overview.summary.balance_micros == 0
    assert overview.summary.ended_micros == 10 * UNIT
    assert overview.available_micros == 0
    assert [kind.remaining_micros for kind in overview.kinds] == [0, 0, 0, 0]
    assert [one.status for one in overview.grants] == [GrantStatus.ENDED]
    assert overview.next_expiry is None


def test_balance_in_the_grace_hour_is_what_it_is_after_it(
    session: Session, account_id: int, clock: TestClock
) -> None:
    end = clock.instant + timedelta(hours=1)
    grant(session, account_id, 30, kind="voucher", expires_at=end)
    clock.advance(hours=1, minutes=2)
    charge(session, account_id, 4, occurred_at=clock.instant, refusable=False)

    def shown() -> tuple[int, int, int]:
        found = account_overview(session, actor=reader_of(account_id), account_id=account_id)
        total = sum(kind.remaining_micros for kind in found.kinds) - found.due_micros
        assert total == found.summary.balance_micros
        return total // UNIT, found.available_micros // UNIT, found.summary.ended_micros // UNIT

    assert shown() == (-4, 0, 30)
    # Usage from before the end still uses it, and changes nothing of what there is now.
    charge(session, account_id, 10, occurred_at=end - timedelta(minutes=5), refusable=False)
    assert shown() == (-4, 0, 20)
    clock.advance(hours=1)
    assert ledger.expire_grants(session, actor=SYSTEM) == 1
    assert shown() == (-4, 0, 0)


def test_held_part_of_ended_credit_still_counts(
    session: Session, account_id: int, clock: TestClock
) -> None:
    grant(session, account_id, 30, kind="voucher", expires_at=clock.instant + timedelta(hours=1))
    hold(session, account_id, 12, expires_at=clock.instant + timedelta(hours=3))
    clock.advance(hours=1, minutes=2)
    found = account_overview(session, actor=reader_of(account_id), account_id=account_id)
    assert found.summary.balance_micros == 12 * UNIT
    assert found.summary.ended_micros == 18 * UNIT
    assert sum(kind.remaining_micros for kind in found.kinds) == 12 * UNIT


def test_two_grants_that_expire_together_are_one_warning(
    session: Session, account_id: int, clock: TestClock
) -> None:
    soon = clock.instant + timedelta(days=2)
    for amount in (3, 4):
        grant(session, account_id, amount, kind="voucher", expires_at=soon)
    grant(session, account_id, 9, kind="voucher", expires_at=soon + timedelta(days=1))

    overview = account_overview(session, actor=reader_of(account_id), account_id=account_id)

    assert overview.next_expiry is not None
    assert overview.next_expiry.amount_micros == 7 * UNIT


def test_debt_is_shown_by_service_and_lowers_the_total(
    session: Session, account_id: int, clock: TestClock
) -> None:
    grant(session, account_id, 5, kind="voucher", services=("gpu-vm",))
    charge(session, account_id, 3, occurred_at=clock.instant, refusable=False)

    overview = account_overview(session, actor=reader_of(account_id), account_id=account_id)

    assert overview.due_micros == 3 * UNIT
    assert [(debt.service, debt.cause) for debt in overview.debts] == [("ai-inference", "usage")]
    assert overview.summary.balance_micros == 2 * UNIT
    assert overview.available_micros == 5 * UNIT


def test_grants_stand_in_the_order_in_which_charges_spend_them(
    session: Session, account_id: int, clock: TestClock
) -> None:
    now = clock.instant
    for kind, days in itertools.product(
        ("top_up", "adjustment", "voucher", "plan"), (None, 40, 20)
    ):
        expires_at = None if days is None else now + timedelta(days=days)
        grant(session, account_id, 1, kind=kind, expires_at=expires_at)
    shown = account_overview(session, actor=reader_of(account_id), account_id=account_id).grants

    charge(session, account_id, len(shown), occurred_at=clock.instant)

    spent = session.execute(
        text(
            "SELECT grant_number FROM allocations WHERE account_id = :account_id"
            " AND amount_micros < 0 ORDER BY account_sequence, line_number"
        ),
        {"account_id": account_id},
    ).scalars()
    assert [one.grant_number for one in shown] == list(spent)


# ── Credit history ─────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def busy_account(session: Session, clock: TestClock) -> int:
    """An account with rows of every kind that the ledger writes, some at one instant."""
    account_id = make_account(session)
    voucher_ends = clock.instant + timedelta(hours=4)
    grant(session, account_id, 20, source="paypal", origin="PAY-1%A")
    grant(session, account_id, 5, kind="voucher", expires_at=voucher_ends, origin="SUMMER2026")
    grant(session, account_id, 6, kind="plan", services=("gpu-vm",))
    grant(session, account_id, 2, kind="adjustment")
    at = clock.instant
    for number in range(30):
        service = ("ai-inference", "gpu-vm", "model-hub")[number % 3]
        moment = at if number < 12 else clock.advance(minutes=7)
        description = {"model": f"Llama_{number % 4}"}
        charge(
            session,
            account_id,
            "0.25",
            occurred_at=moment,
            service=service,
            description_parameters=description,
        )
    charge(session, account_id, 500, occurred_at=at, service="gpu-vm")
    charge(session, account_id, 400, occurred_at=clock.advance(minutes=1))
    hold(session, account_id, 3, expires_at=clock.instant + timedelta(days=1))
    hold(session, account_id, 900, expires_at=clock.instant + timedelta(days=1), service="gpu-vm")
    hold(session, account_id, 1, expires_at=clock.instant + timedelta(days=1), service="gpu-vm")
    reverse(session, account_id, 7)
    clock.advance(hours=8)
    ledger.expire_grants(session, actor=SYSTEM)
    refund(session, account_id, grant_number=1, amount=2)
    charge(session, account_id, 60, occurred_at=clock.instant, refusable=False)
    grant(session, account_id, 90, source="stripe")
    session.commit()
    return account_id


def reverse(
    session: Session, account_id: int, sequence: int, *, amount_micros: int | None = None
) -> int:
    return ledger.reverse_entry(
        session,
        account_id=account_id,
        entry_sequence=sequence,
        reason="wrong price",
        actor=SYSTEM,
        idempotency_key=next_key("reversal"),
        amount_micros=amount_micros,
    )


def refund(session: Session, account_id: int, *, grant_number: int, amount: int) -> int:
    return ledger.claw_back_credit(
        session,
        account_id=account_id,
        kind="refund",
        grant_numbers=[grant_number],
        amount_micros=amount * UNIT,
        source="paypal",
        actor=SYSTEM,
        idempotency_key=next_key("refund"),
    )


def walk_older(
    session: Session, account_id: int, filters: HistoryFilter, size: int
) -> list[HistoryPage]:
    """Return every page from the newest on."""
    pages = []
    cursor = None
    for _ in range(300):
        page = history_page(
            session,
            actor=SYSTEM,
            account_id=account_id,
            filters=filters,
            older_than=cursor,
            page_size=size,
        )
        pages.append(page)
        cursor = page.older
        if cursor is None:
            return pages
    raise AssertionError("the pages do not end")


def every_row(session: Session, account_id: int, filters: HistoryFilter = ALL) -> list[HistoryRow]:
    return [row for page in walk_older(session, account_id, filters, 1000) for row in page.rows]


def passes(row: HistoryRow, filters: HistoryFilter) -> bool:
    """Say what the filter says, in plain Python."""
    values = [
        row.service,
        row.source,
        *(value for value in row.description_parameters.values() if isinstance(value, str)),
    ]
    return (
        (not filters.services or row.service in filters.services)
        and (not filters.statuses or row.status in filters.statuses)
        and (not filters.kinds or row.kind in filters.kinds)
        and (filters.occurred_from is None or row.occurred_at >= filters.occurred_from)
        and (filters.occurred_before is None or row.occurred_at < filters.occurred_before)
        and (not filters.text or any(filters.text.lower() in value.lower() for value in values))
    )


def test_history_holds_every_entry_refusal_and_open_hold(
    session: Session, busy_account: int
) -> None:
    rows = every_row(session, busy_account)

    tables = {"entries": "success", "refusals": "failed", "open_holds": "processing"}
    for table, status in tables.items():
        stored = session.execute(
            text(f"SELECT count(*) FROM {table} WHERE account_id = :id"),  # noqa: S608
            {"id": busy_account},
        ).scalar_one()
        assert stored == sum(row.status == status for row in rows) > 1
    assert len({row.reference for row in rows}) == len(rows)
    assert [row.occurred_at for row in rows] == sorted(
        (row.occurred_at for row in rows), reverse=True
    )
    assert {row.kind for row in rows} == set(HISTORY_KINDS) - {"dispute", "write_off"}
    assert {row.service for row in rows if row.kind in {"top_up", "refund"}} == {
        "paypal",
        "stripe",
    }
    assert {row.service for row in rows if row.kind in {"voucher", "expiry"}} == {"system"}


def test_what_was_refused_or_is_held_shows_what_it_would_have_taken(
    session: Session, busy_account: int
) -> None:
    rows = every_row(session, busy_account)

    failed = {row.amount_micros: row.reason for row in rows if row.status == "failed"}
    assert failed == {
        -500 * UNIT: "insufficient_credit",
        -400 * UNIT: "insufficient_credit",
        -900 * UNIT: "insufficient_credit",
    }
    held = [row.amount_micros for row in rows if row.status == "processing"]
    assert sorted(held) == [-3 * UNIT, -1 * UNIT]


SERVICES = (
    frozenset[str](),
    frozenset({"gpu-vm"}),
    frozenset({"ai-inference", "paypal", "system"}),
    frozenset({"system"}),
    frozenset({"no-such-service"}),
)
STATUSES = (
    frozenset[HistoryStatus](),
    frozenset({HistoryStatus.SUCCESS}),
    frozenset({HistoryStatus.FAILED, HistoryStatus.PROCESSING}),
)
KINDS = (
    frozenset[str](),
    frozenset({"charge"}),
    frozenset({"hold"}),
    frozenset({"charge", "top_up", "reversal", "expiry"}),
    frozenset({"voucher", "refund", "hold"}),
    frozenset({"dispute"}),
)


def test_every_combination_of_filters_finds_exactly_its_rows(
    session: Session, busy_account: int
) -> None:
    rows = every_row(session, busy_account)
    times = sorted(row.occurred_at for row in rows)
    dates = ((None, None), (times[20], None), (times[3], times[30]))
    texts = ("", "llama_2", "container")
    some = 0
    for services, statuses, kinds, (start, end), search_text in itertools.product(
        SERVICES, STATUSES, KINDS, dates, texts
    ):
        filters = HistoryFilter(services, statuses, kinds, start, end, search_text)
        expected = [row for row in rows if passes(row, filters)]

        assert every_row(session, busy_account, filters) == expected, filters
        some += bool(expected)
        count = history_count(session, actor=SYSTEM, account_id=busy_account, filters=filters)
        if search_text:
            assert count is None
        else:
            assert count is not None
            assert (count.count, count.is_capped) == (len(expected), False)
    assert some > 100


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pages_lead_on_and_back_without_losing_or_repeating_a_row(
    session: Session, busy_account: int, size: int
) -> None:
    filters = HistoryFilter(kinds=frozenset({"charge", "hold", "top_up"}))
    rows = every_row(session, busy_account, filters)
    older = walk_older(session, busy_account, filters, size)

    assert [row for page in older for row in page.rows] == rows
    assert older[0].newer is None
    for page, before in itertools.pairwise(reversed(older)):
        back = history_page(
            session,
            actor=SYSTEM,
            account_id=busy_account,
            filters=filters,
            newer_than=page.newer,
            page_size=size,
        )
        assert back.rows == before.rows


def test_the_newest_page_is_whole_even_when_it_is_reached_from_its_middle(
    session: Session, busy_account: int
) -> None:
    rows = every_row(session, busy_account)
    middle = rows[2]
    cursor = HistoryCursor(middle.occurred_at, 1, middle.number)

    page = history_page(
        session,
        actor=SYSTEM,
        account_id=busy_account,
        filters=ALL,
        newer_than=cursor,
        page_size=10,
    )

    assert list(page.rows) == rows[:10]
    assert page.newer is None


@pytest.mark.parametrize("window", [1, 4, 1000])
def test_a_text_search_reads_a_window_and_goes_on_behind_it(
    session: Session, busy_account: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.history.pages.SEARCH_WINDOW", window)
    filters = HistoryFilter(text="llama_3")
    pages = walk_older(session, busy_account, filters, 2)

    found = [row for page in pages for row in page.rows]
    assert found == [row for row in every_row(session, busy_account) if passes(row, filters)]
    assert len(found) == 7
    for page in pages[:-1]:
        assert page.older is not None
        assert (page.searched_to is not None) == (len(page.rows) < 2 or window == 2)
    assert pages[-1].searched_to is None


@pytest.mark.parametrize(
    "search_text", ["'", '"', "\\", "%", "_", "$", "}", "\0", "\ud83d", "日本", ".*", "x" * 5000]
)
def test_a_text_is_looked_for_as_it_is(session: Session, account_id: int, search_text: str) -> None:
    filters = HistoryFilter(text=f"a{search_text}b")
    name = filters.search_text
    grant(session, account_id, 1, origin=f"Pre-{name.upper()}-fix")
    grant(session, account_id, 1, origin="axxb")

    found = every_row(session, account_id, filters)

    assert len(name) <= MAX_TEXT_LENGTH
    assert [row.description_parameters["origin"] for row in found] == [f"Pre-{name.upper()}-fix"]


def test_a_count_stops_at_its_cap(
    session: Session, busy_account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = len(every_row(session, busy_account))
    for cap, expected in ((total, (total, False)), (total - 1, (total - 1, True)), (5, (5, True))):
        monkeypatch.setattr("domain.history.pages.COUNT_CAP", cap)
        count = history_count(session, actor=SYSTEM, account_id=busy_account, filters=ALL)
        assert count is not None
        assert (count.count, count.is_capped) == expected


@given(
    st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1)),  # noqa: DTZ001
    st.sampled_from((1, 2, 3)),
    st.integers(1, 2**62),
)
def test_a_cursor_survives_its_token(occurred_at: datetime, rank: int, number: int) -> None:
    cursor = HistoryCursor(occurred_at, rank, number)

    assert HistoryCursor.decode(cursor.encode()) == cursor


TOKEN = HistoryCursor(datetime(2026, 1, 1, tzinfo=UTC), 1, 5).encode()


@pytest.mark.parametrize(
    "token",
    ["", "x", TOKEN[:-1], TOKEN + "A", TOKEN + "=", "é" * 23, "/" * 23, "_" * 23, "f" + "_" * 22],
)
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput):
        HistoryCursor.decode(token)


@given(st.text(max_size=40))
def test_any_token_is_a_cursor_or_refused(token: str) -> None:
    try:
        cursor = HistoryCursor.decode(token)
    except InvalidInput:
        return
    assert cursor.encode() == token


def test_a_row_is_named_by_its_table_and_number() -> None:
    for status in HistoryStatus:
        reference = HistoryReference(status, 12)
        assert HistoryReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "name", ["", "e", "x1", "e-1", "e1.5", "e\N{FULLWIDTH DIGIT ONE}", "E1", "e" + "9" * 19]
)
def test_what_names_no_row_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        HistoryReference.parse(name)


# ── How much is read ───────────────────────────────────────────────────────────────────────────
@contextmanager
def captured(session: Session) -> Iterator[list[tuple[str, Any]]]:
    """Keep the statements that run inside the block."""
    statements: list[tuple[str, Any]] = []

    def keep(
        _connection: object, _cursor: object, statement: str, parameters: object, *_: object
    ) -> None:
        statements.append((statement, parameters))

    engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", keep)
    yield statements
    event.remove(engine, "before_cursor_execute", keep)


def rows_read(session: Session, run: Callable[[], object]) -> int:
    """Return how many rows PostgreSQL took from tables and indexes for what `run` asks."""
    with captured(session) as statements:
        run()
    plans = [
        session.connection().exec_driver_sql(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters
        )
        for statement, parameters in statements
    ]
    return sum(_scanned(json.loads(json.dumps(plan.scalar_one()))[0]["Plan"]) for plan in plans)


def _scanned(node: dict[str, Any]) -> int:
    own = 0
    if "Relation Name" in node:
        wasted = node.get("Rows Removed by Filter", 0) + node.get(
            "Rows Removed by Index Recheck", 0
        )
        own = int((node["Actual Rows"] + wasted) * node["Actual Loops"])
    return own + sum(_scanned(child) for child in node.get("Plans", ()))


@pytest.fixture(scope="module")
def crowded(make_database: Callable[[], str]) -> Iterator[tuple[Session, int]]:
    """A session, and an account with many charges of which few are of one service."""
    url = make_database()
    engine = make_engine(url)
    with make_sessions(engine)() as session:
        account_id = make_account(session)
        grant(session, account_id, 100_000, source="paypal")
        start = datetime(2026, 1, 1, tzinfo=UTC)
        charges = [
            make_charge(
                account_id,
                1 if number % 9 else 10**9,
                occurred_at=start + timedelta(minutes=number),
                service="model-hub" if number % 200 == 0 else "ai-inference",
            )
            for number in range(9_000)
        ]
        for first in range(0, len(charges), 3_000):
            ledger.charge_batch(session, charges=charges[first : first + 3_000], actor=SYSTEM)
        grant(session, account_id, 3, kind="voucher")
        session.commit()
        owner = make_engine(url, role=None)
        with owner.begin() as connection:
            connection.execute(text("ANALYZE"))
        owner.dispose()
        yield session, account_id
    engine.dispose()


FEW = {
    "everything": ALL,
    "a rare service": HistoryFilter(services=frozenset({"model-hub"})),
    "a gateway and no service": HistoryFilter(
        services=frozenset({"model-hub", "paypal", "system"})
    ),
    "charges": HistoryFilter(kinds=frozenset({"charge"})),
    "rare kinds": HistoryFilter(kinds=frozenset({"voucher", "top_up"})),
    "kinds without rows": HistoryFilter(kinds=frozenset({"dispute", "refund"})),
    "holds": HistoryFilter(kinds=frozenset({"hold"})),
    "refusals": HistoryFilter(statuses=frozenset({HistoryStatus.FAILED})),
    "all at once": HistoryFilter(
        services=frozenset({"model-hub"}),
        kinds=frozenset({"charge"}),
        statuses=frozenset({HistoryStatus.SUCCESS}),
        occurred_before=datetime(2026, 1, 3, tzinfo=UTC),
    ),
}


@pytest.mark.parametrize("filters", FEW.values(), ids=FEW)
def test_a_page_of_a_crowded_account_reads_little_more_than_it_shows(
    crowded: tuple[Session, int], filters: HistoryFilter
) -> None:
    session, account_id = crowded
    streams = 40  # at most so many indexes are asked for the first row of a page

    read = rows_read(
        session,
        lambda: history_page(
            session, actor=SYSTEM, account_id=account_id, filters=filters, page_size=20
        ),
    )

    assert read <= 21 * 8 + streams


def test_a_search_reads_its_window_and_no_more(
    crowded: tuple[Session, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, account_id = crowded
    monkeypatch.setattr("domain.history.pages.SEARCH_WINDOW", 100)

    read = rows_read(
        session,
        lambda: history_page(
            session, actor=SYSTEM, account_id=account_id, filters=HistoryFilter(text="nowhere")
        ),
    )

    assert read <= 3 * 100


# ── One row, opened ────────────────────────────────────────────────────────────────────────────
def test_a_charge_names_its_grants_its_calls_and_the_running_balance(
    session: Session, account_id: int, clock: TestClock
) -> None:
    voucher = grant(session, account_id, 1, kind="voucher", origin="SUMMER")
    top_up = grant(session, account_id, 10, source="paypal")
    calls = tuple(
        ledger.ChargeItem(
            origin="tests",
            event_id=f"call-{number}",
            exact_micros=Decimal("500000.25"),
            occurred_at=clock.instant,
            model="llama",
            quantities={"input-tokens": 5},
            catalogue_version=1,
        )
        for number in range(7)
    )
    outcome = ledger.charge(
        session,
        charge=ledger.Charge(account_id, "ai-inference", "llama", calls),
        actor=SYSTEM,
    )
    assert outcome.entry_sequence is not None

    detail = entry_detail(
        session,
        actor=reader_of(account_id),
        account_id=account_id,
        sequence=outcome.entry_sequence,
    )

    assert detail.amount_micros == -3_500_001
    assert detail.balance_before_micros == 11 * UNIT
    assert detail.balance_after_micros == 11 * UNIT - 3_500_001
    moved = [
        (one.grant_number, one.kind, one.amount_micros, one.remaining_after_micros)
        for one in detail.movements
    ]
    assert moved == [
        (voucher, "voucher", -1 * UNIT, 0),
        (top_up, "top_up", -2_500_001, 10 * UNIT - 2_500_001),
    ]
    assert detail.movements[0].origin == "SUMMER"
    assert detail.call_count == 7
    assert detail.actor is None
    assert detail.reverses is None
    assert detail.reversed_by == ()


def test_calls_come_in_pages(session: Session, account_id: int, clock: TestClock) -> None:
    test_a_charge_names_its_grants_its_calls_and_the_running_balance(session, account_id, clock)
    actor = reader_of(account_id)
    seen: list[str] = []
    after: int | None = 0
    while after is not None:
        page = entry_calls(
            session,
            actor=actor,
            account_id=account_id,
            sequence=3,
            after_line=after,
            page_size=3,
        )
        seen += [call.event_id for call in page.calls]
        after = page.next_after_line

    assert seen == [f"call-{number}" for number in range(7)]
    assert page.calls[0].exact_micros == Decimal("500000.25")
    assert page.calls[0].quantities == {"input-tokens": 5}


def test_a_reversal_and_what_it_reverses_name_each_other(
    session: Session, account_id: int, clock: TestClock
) -> None:
    grant(session, account_id, 10)
    charged = charge(session, account_id, 4, occurred_at=clock.instant).entry_sequence
    assert charged is not None
    first = reverse(session, account_id, charged, amount_micros=UNIT)
    second = reverse(session, account_id, charged)
    details = {
        sequence: entry_detail(session, actor=STAFF, account_id=account_id, sequence=sequence)
        for sequence in (charged, first, second)
    }

    assert [one.sequence for one in details[charged].reversed_by] == [first, second]
    assert [one.amount_micros for one in details[charged].reversed_by] == [UNIT, 3 * UNIT]
    for sequence in (first, second):
        reverses = details[sequence].reverses
        assert reverses is not None
        assert (reverses.sequence, reverses.amount_micros) == (charged, -4 * UNIT)
        assert details[sequence].reversed_by == ()
    assert details[charged].actor == "system:tests"


def test_a_refusal_says_what_was_needed_and_what_there_was(
    session: Session, account_id: int, clock: TestClock
) -> None:
    grant(session, account_id, 2)
    refused = charge(session, account_id, 5, occurred_at=clock.instant)
    assert refused.refusal_number is not None

    detail = refusal_detail(
        session, actor=reader_of(account_id), account_id=account_id, number=refused.refusal_number
    )

    assert (detail.amount_micros, detail.available_micros) == (5 * UNIT, 2 * UNIT)
    assert (detail.operation, detail.reason) == ("charge", "insufficient_credit")


def test_a_hold_says_where_it_is_set_aside_and_how_it_ended(
    session: Session, account_id: int, clock: TestClock
) -> None:
    top_up = grant(session, account_id, 10)
    voucher = grant(session, account_id, 1, kind="voucher")
    placed = hold(session, account_id, 4, expires_at=clock.instant + timedelta(hours=1))

    assert placed.hold_number is not None
    number = placed.hold_number

    def read() -> HoldDetail:
        return hold_detail(
            session, actor=reader_of(account_id), account_id=account_id, number=number
        )

    assert [(part.grant_number, part.amount_micros) for part in read().parts] == [
        (voucher, UNIT),
        (top_up, 3 * UNIT),
    ]
    assert read().outcome is None
    captured_by = charge(
        session,
        account_id,
        3,
        occurred_at=clock.instant,
        service="gpu-container",
        refusable=False,
        hold_number=placed.hold_number,
    )
    assert (read().outcome, read().entry_sequence) == ("captured", captured_by.entry_sequence)


# ── Who may read ───────────────────────────────────────────────────────────────────────────────
ONE_ACCOUNT_QUERIES: dict[str, Callable[..., Any]] = {
    "summary": account_summary,
    "overview": account_overview,
    "page": lambda session, **who: history_page(session, filters=ALL, **who),
    "search": lambda session, **who: history_page(session, filters=HistoryFilter(text="a"), **who),
    "count": lambda session, **who: history_count(session, filters=ALL, **who),
    "view": lambda session, **who: history_view(session, filters=ALL, **who),
    "calls": lambda session, **who: entry_with_calls(session, sequence=1, **who),
    "entry": lambda session, **who: entry_detail(session, sequence=1, **who),
    "more calls": lambda session, **who: entry_calls(session, sequence=1, **who),
    "refusal": lambda session, **who: refusal_detail(session, number=1, **who),
    "hold": lambda session, **who: hold_detail(session, number=1, **who),
}


@pytest.mark.parametrize("query", ONE_ACCOUNT_QUERIES.values(), ids=ONE_ACCOUNT_QUERIES.keys())
def test_nobody_reads_an_account_of_others(
    session: Session, busy_account: int, query: Callable[..., Any]
) -> None:
    own = make_account(session)
    for allowed in (SYSTEM, STAFF, reader_of(busy_account)):
        query(session, actor=allowed, account_id=busy_account)
    for stranger in (reader_of(own), reader_of()):
        with pytest.raises(NotFound):
            query(session, actor=stranger, account_id=busy_account)


def test_numbers_of_another_account_open_nothing_of_it(session: Session, busy_account: int) -> None:
    own = make_account(session)
    actor = reader_of(own)
    for query in (
        lambda: entry_detail(session, actor=actor, account_id=own, sequence=5),
        lambda: refusal_detail(session, actor=actor, account_id=own, number=1),
        lambda: hold_detail(session, actor=actor, account_id=own, number=1),
    ):
        with pytest.raises(NotFound):
            query()
    assert entry_calls(session, actor=actor, account_id=own, sequence=5).calls == ()
    newest = every_row(session, busy_account)[0]
    page = history_page(
        session,
        actor=actor,
        account_id=own,
        filters=ALL,
        older_than=HistoryCursor(newest.occurred_at, 3, 10**6),
    )
    assert page.rows == ()


def test_an_account_that_does_not_exist_is_not_found_by_staff(session: Session) -> None:
    for query in (account_summary, account_overview):
        with pytest.raises(NotFound):
            query(session, actor=STAFF, account_id=1)


def test_people_choose_between_their_own_accounts(session: Session) -> None:
    accounts = [make_account(session) for _ in range(3)]

    assert own_accounts(session, actor=reader_of()) == ()
    chosen = own_accounts(session, actor=reader_of(*accounts[:2]))
    assert {one.account_id for one in chosen} == set(accounts[:2])


def test_staff_find_the_accounts_of_an_address(session: Session) -> None:
    first, second = make_account(session), make_account(session)
    user = create_user(
        session,
        email="lan@example.com",
        display_name="Lan",
        password="violet-kettle-9-march",
        staff_role=None,
        actor=SYSTEM,
    )
    for account in (first, second):
        add_member(session, account_id=account, user_id=user, role=MemberRole.READER, actor=SYSTEM)
    found = find_accounts(session, actor=STAFF, search_text=" Lan@Example.com ")
    assert [one.account_id for one in found] == [second, first]
    assert find_accounts(session, actor=STAFF, search_text="lan@example.co") == ()


def test_staff_find_accounts_by_number_and_by_name(session: Session) -> None:
    account_id = make_account(session)
    name = account_summary(session, actor=STAFF, account_id=account_id).name

    assert [
        one.account_id for one in find_accounts(session, actor=STAFF, search_text=name.upper())
    ] == [account_id]
    by_number = find_accounts(session, actor=STAFF, search_text=f" {account_id} ")
    assert account_id in {one.account_id for one in by_number}
    assert account_id in {
        one.account_id for one in find_accounts(session, actor=STAFF, search_text="")
    }
    for nothing in ("%", "\0no such name", "9" * 40, "²"):
        assert find_accounts(session, actor=STAFF, search_text=nothing) == ()
    with pytest.raises(NotAuthorised):
        find_accounts(session, actor=reader_of(account_id), search_text=name)


def test_services_have_names(session: Session) -> None:
    names = service_names(session)

    assert next(iter(names)) == "ai-inference"
    assert names["gpu-vm"] == "GPU VM"


def test_an_empty_filter_knows_it() -> None:
    assert ALL.is_empty
    assert not replace(ALL, text="x").is_empty
