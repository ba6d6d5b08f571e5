"""Everything that can happen to a ledger, in any order, against a model in plain Python.

HYPOTHESIS_PROFILE=deep searches longer and elsewhere each time.
"""

from __future__ import annotations

import copy
import os
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from db.engine import make_engine, make_sessions
from domain import ledger
from domain.errors import BillingError
from tests.factories import SYSTEM, make_account, next_key
from tests.properties import ledger_model as model

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

_SHARED: dict[str, Any] = {
    "deadline": None,  # a step is as slow as the machine
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
PROFILES = {
    "ci": settings(max_examples=200, stateful_step_count=40, derandomize=True, **_SHARED),
    "deep": settings(max_examples=3_000, stateful_step_count=80, **_SHARED),
}
PROFILE = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "ci")]

PLACES = (("vn", "VND"), ("jp", "JPY"), ("global", "USD"), ("global", "EUR"))
SERVICES = ("ai-inference", "gpu-vm", "ai-notebook")

# Amounts of one size meet one another more often; credit is mostly larger than what it pays for.
amounts = st.integers(1, 100) | st.integers(50, 400) | st.integers(1, 5_000_000)
exact_amounts = st.one_of(
    st.integers(0, 60).map(Decimal),
    st.integers(20, 250).map(Decimal),
    st.decimals(0, 90, places=12),
)
services = st.sampled_from(SERVICES)
scopes = st.none() | st.sets(services, min_size=1, max_size=2)
minutes = st.integers(-300, 600)
indexes = st.integers(0, 2)


@st.composite
def charges(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "account": draw(indexes),
        "service": draw(services),
        "items": draw(st.lists(exact_amounts, min_size=1, max_size=3)),
        "age": draw(st.sampled_from((0, 0, 0, 1, 30, 90, 2_000, 50_000))),
        "refusable": draw(st.booleans()),
    }


class LedgerMachine(RuleBasedStateMachine):
    """Three accounts of different sites; every step goes to the ledger and to the model."""

    sessions: sessionmaker[Session]

    def __init__(self) -> None:
        super().__init__()
        self.session = self.sessions()
        self.now = datetime(2026, 3, 10, 9, 30, 20, 5, tzinfo=UTC)
        self.session.info["clock"] = lambda: self.now
        self.accounts: list[model.Account] = []
        self.ids: list[int] = []
        self.calls: list[tuple[Callable[..., Any], dict[str, Any], Any]] = []
        self.charged: list[tuple[ledger.Charge, ledger.ChargeOutcome]] = []
        self.seen = Counter[int]()

    def teardown(self) -> None:
        try:
            if self.ids:
                self.check_books()
        finally:
            self.session.rollback()
            self.session.close()

    @initialize(first=st.integers(0, len(PLACES) - 1))
    def open_accounts(self, first: int) -> None:
        for place in range(3):
            site, currency = PLACES[(first + place) % len(PLACES)]
            self.ids.append(make_account(self.session, site=site, currency=currency))
            self.accounts.append(model.Account())
            if place:
                self.give(place, ledger.GrantTerms("top_up", 150, 150))
                self.give(place, ledger.GrantTerms("voucher", 70, expires_at=self.after(120)))

    # ── What happens ─────────────────────────────────────────────────────────────────────────

    @rule(
        index=indexes,
        kind=st.sampled_from(model.BURNING),
        amount=amounts,
        paid=st.sampled_from((0, 1, 37, 100, 100)),
        scope=scopes,
        starts=st.none() | st.none() | minutes,
        expires=st.none() | minutes,
    )
    def grant(
        self,
        *,
        index: int,
        kind: str,
        amount: int,
        paid: int,
        scope: set[str] | None,
        starts: int | None,
        expires: int | None,
    ) -> None:
        consideration = amount if kind == "top_up" else amount * paid // 100
        terms = ledger.GrantTerms(
            kind=kind,
            amount_micros=amount,
            consideration_micros=0 if kind in {"voucher", "adjustment"} else consideration,
            services=None if scope is None else tuple(scope),
            starts_at=self.after(starts),
            expires_at=self.after(expires),
        )
        if starts is None or expires is None or starts <= expires:
            self.give(index, terms)

    @rule(batch=st.lists(charges(), min_size=1, max_size=4), repeat=st.integers(0, 9))
    def charge(self, batch: list[dict[str, Any]], repeat: int) -> None:
        asked = [self.make_charge(**one) for one in batch]
        expected = [self.expect_charge(one) for one in asked]
        if repeat < 3 and self.charged:
            known, _ = self.charged[repeat % len(self.charged)]
            asked.append(known)
            expected.append(("replayed", None))
        outcomes = ledger.charge_batch(self.session, charges=asked, actor=SYSTEM)
        for one, outcome, requested in zip(asked, outcomes, expected, strict=True):
            assert (outcome.status, outcome.reason) == requested
            if outcome.status != "replayed":
                self.charged.append((one, outcome))
        for account_id in {one.account_id for one in asked[: len(batch)]}:
            self.accounts[self.ids.index(account_id)].settle(self.now)
        self.check_step()

    @precondition(lambda self: any(account.holds for account in self.accounts))
    @rule(data=st.data(), exact=exact_amounts, service=st.none() | services, same=st.booleans())
    def capture(self, data: st.DataObject, exact: Decimal, service: str | None, same: bool) -> None:  # noqa: FBT001 - a drawn value
        index, number, hold = self.draw_hold(data)
        one = self.make_charge(
            account=index,
            service=service or hold.service,
            items=[Decimal(sum(hold.parts.values())) if same else exact],
            age=0,
            refusable=False,
        )
        one = replace(one, hold_number=number)
        self.both(
            lambda: self.expect_capture(index, one),
            ledger.charge,
            key=False,
            charge=one,
        )

    @rule(index=indexes, service=services, amount=amounts, lasts=st.integers(1, 600))
    def place_hold(self, index: int, service: str, amount: int, lasts: int) -> None:
        expires = self.now + timedelta(minutes=lasts)
        requested = self.accounts[index].place(service, amount, expires, self.now)
        self.accounts[index].settle(self.now)
        outcome = self.call(
            ledger.place_hold,
            account_id=self.ids[index],
            service=service,
            amount_micros=amount,
            expires_at=expires,
            source="vm",
        )
        assert outcome.reason == requested
        self.check_step()

    @precondition(lambda self: any(account.holds for account in self.accounts))
    @rule(data=st.data())
    def void_hold(self, data: st.DataObject) -> None:
        index, number, _ = self.draw_hold(data)
        self.both(
            lambda: self.accounts[index].void(number, self.now),
            ledger.void_hold,
            account_id=self.ids[index],
            hold_number=number,
        )

    @rule(passed=st.sampled_from((1, 40, 59, 61, 300, 3_000, 45_000)))
    def let_time_pass(self, passed: int) -> None:
        self.now += timedelta(minutes=passed)

    @rule()
    def expire_grants(self) -> None:
        expected = sum(account.expire_grants(self.now) for account in self.accounts)
        assert ledger.expire_grants(self.session, actor=SYSTEM) == expected
        self.check_step()

    @rule()
    def expire_holds(self) -> None:
        expected = sum(account.expire_holds(self.now) for account in self.accounts)
        assert ledger.expire_holds(self.session, actor=SYSTEM) == expected
        self.check_step()

    @rule(limit=st.integers(1, 20))
    def fold_totals(self, limit: int) -> None:
        assert ledger.fold_totals(self.session, actor=SYSTEM, limit=limit) <= limit

    @precondition(lambda self: any(account.grants for account in self.accounts))
    @rule(data=st.data(), kind=st.sampled_from(("refund", "dispute")), amount=amounts)
    def take_back(self, data: st.DataObject, kind: str, amount: int) -> None:
        index = data.draw(st.sampled_from([i for i, a in enumerate(self.accounts) if a.grants]))
        number = data.draw(st.sampled_from(sorted(self.accounts[index].grants)))
        whole = self.accounts[index].grants[number].amount
        asked = data.draw(st.sampled_from((whole, amount, amount % whole + 1)))
        self.both(
            lambda: self.accounts[index].take_back(kind, number, asked, self.now),
            ledger.claw_back_credit,
            account_id=self.ids[index],
            kind=kind,
            grant_numbers=[number],
            amount_micros=asked,
            source="stripe",
        )

    @precondition(lambda self: any(account.debt for account in self.accounts))
    @rule(data=st.data(), amount=amounts)
    def write_off(self, data: st.DataObject, amount: int) -> None:
        index = data.draw(st.sampled_from([i for i, a in enumerate(self.accounts) if a.debt]))
        self.write_off_some(index, data.draw(st.sampled_from((amount, self.accounts[index].debt))))

    def write_off_some(self, index: int, asked: int) -> None:
        self.both(
            lambda: self.accounts[index].write_off(asked, self.now),
            ledger.write_off_debt,
            account_id=self.ids[index],
            amount_micros=asked,
            reason="gone",
        )

    @precondition(lambda self: any(account.entries for account in self.accounts))
    @rule(data=st.data(), amount=st.none() | amounts)
    def reverse(self, data: st.DataObject, amount: int | None) -> None:
        index = data.draw(st.sampled_from([i for i, a in enumerate(self.accounts) if a.entries]))
        entries = self.accounts[index].entries
        sequence = data.draw(st.integers(1, len(entries)))
        whole = sum(entries[sequence - 1].left)
        if amount is not None and whole:
            amount = data.draw(st.sampled_from((amount, amount % whole + 1)))
        self.reverse_one(index, sequence, amount)

    @precondition(lambda self: any(account.paid_charges for account in self.accounts))
    @rule(
        data=st.data(),
        between=st.permutations(("pay", "give_up", "pay a little", "give up a little")),
        steps=st.integers(0, 3),
        drained=st.booleans(),
        amount=st.none() | amounts,
    )
    def withdraw_then_undo(
        self,
        *,
        data: st.DataObject,
        between: list[str],
        steps: int,
        drained: bool,
        amount: int | None,
    ) -> None:
        """Chance alone seldom reverses just the charge of which the credit was taken back."""
        spenders = [i for i, account in enumerate(self.accounts) if account.paid_charges]
        index = data.draw(st.sampled_from(spenders))
        account = self.accounts[index]
        sequence, number = data.draw(st.sampled_from(account.paid_charges))
        if drained:
            free = sum(grant.remaining - grant.held for grant in account.grants.values())
            one = self.make_charge(index, SERVICES[0], [Decimal(free)], 0, refusable=False)
            self.both(lambda: self.expect_capture(index, one), ledger.charge, key=False, charge=one)
        self.reverse_one(index, account.grants[number].entry, None)
        for step in between[:steps]:
            debt = self.accounts[index].debt
            part = debt // 3 + 1 if "little" in step else debt
            if debt and step.startswith("pay"):
                self.give(index, ledger.GrantTerms("top_up", part, part))
            elif debt:
                self.write_off_some(index, part)
        self.reverse_one(index, sequence, amount)

    def reverse_one(self, index: int, sequence: int, amount: int | None) -> None:
        self.both(
            lambda: self.accounts[index].reverse(sequence, amount, self.now),
            ledger.reverse_entry,
            account_id=self.ids[index],
            entry_sequence=sequence,
            amount_micros=amount,
            reason="mistake",
        )

    @rule(index=indexes)
    def freeze_or_thaw(self, index: int) -> None:
        account = self.accounts[index]
        account.is_frozen = not account.is_frozen
        self.session.execute(
            text(
                "INSERT INTO account_freezes (account_id, cause, frozen_at, frozen_by, lifted_at)"
                " VALUES (:id, 'staff', now(), 'tests', :lifted_at) ON CONFLICT"
                " (account_id, cause) DO UPDATE SET lifted_at = EXCLUDED.lifted_at"
            ),
            {"lifted_at": None if account.is_frozen else self.now, "id": self.ids[index]},
        )
        self.session.execute(
            text("UPDATE accounts SET status = :status WHERE id = :id"),
            {"status": "frozen" if account.is_frozen else "active", "id": self.ids[index]},
        )

    @rule(index=indexes)
    def close_last_month(self, index: int) -> None:
        self.session.execute(
            text(
                "INSERT INTO accounting_periods (site_code, month, is_closed, changed_by)"
                " SELECT site_code, date_trunc('month', CAST(:on AS date))::date, true, 'tests'"
                " FROM accounts WHERE id = :id ON CONFLICT DO NOTHING"
            ),
            {"on": (self.now - timedelta(days=32)).date(), "id": self.ids[index]},
        )

    @precondition(lambda self: self.calls or self.charged)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        if self.calls:
            service, request, answer = data.draw(st.sampled_from(self.calls))
            assert service(self.session, **request) == answer
        if self.charged:
            one, first = data.draw(st.sampled_from(self.charged))
            again = ledger.charge(self.session, charge=one, actor=SYSTEM)
            assert again.status == "replayed"
            assert again.entry_sequence == first.entry_sequence
            assert again.refusal_number == first.refusal_number
        self.check_step()

    def give(self, index: int, terms: ledger.GrantTerms) -> None:
        """Grant in both; the model's minutes are whole because the clock stands at 20.000005 s."""
        starts, expires, scope = terms.starts_at, terms.expires_at, terms.services
        early, late = (timedelta(seconds=20, microseconds=5), timedelta(minutes=1))
        granted = model.Grant(
            number=0,
            kind=terms.kind,
            amount=terms.amount_micros,
            is_paid=terms.consideration_micros > 0,
            services=None if scope is None else frozenset(scope),
            starts=None if starts is None else starts - early,
            expires=None if expires is None else expires - early + late,
            granted=self.now,
            entry=0,
        )
        self.both(
            lambda: self.accounts[index].add(granted, self.now),
            ledger.add_grant,
            account_id=self.ids[index],
            terms=terms,
            source="stripe",
        )

    # ── Both sides of a step ─────────────────────────────────────────────────────────────────

    def after(self, minutes_from_now: int | None) -> datetime | None:
        if minutes_from_now is None:
            return None
        return self.now + timedelta(minutes=minutes_from_now)

    def make_charge(
        self,
        account: int,
        service: str,
        items: list[Decimal],
        age: int,
        refusable: bool,  # noqa: FBT001 - as drawn
    ) -> ledger.Charge:
        return ledger.Charge(
            account_id=self.ids[account],
            service=service,
            source="m",
            items=tuple(
                ledger.ChargeItem(
                    origin="machine",
                    event_id=next_key("event"),
                    exact_micros=exact,
                    occurred_at=self.now - timedelta(minutes=age),
                    quantities={"tokens": 3},
                    catalogue_version=1,
                )
                for exact in items
            ),
            refusable=refusable,
        )

    def expect_charge(self, one: ledger.Charge) -> tuple[str, str | None]:
        status = self.accounts[self.ids.index(one.account_id)].charge(
            one.service,
            sum((Fraction(item.exact_micros) for item in one.items), Fraction(0)),
            one.items[0].occurred_at,
            self.now,
            refusable=one.refusable,
            hold=one.hold_number,
        )
        return ("charged", None) if status == "charged" else ("refused", status)

    def expect_capture(self, index: int, one: ledger.Charge) -> None:
        self.expect_charge(one)
        self.accounts[index].settle(self.now)

    def draw_hold(self, data: st.DataObject) -> tuple[int, int, model.Hold]:
        index = data.draw(st.sampled_from([i for i, a in enumerate(self.accounts) if a.holds]))
        holds = dict(enumerate(self.accounts[index].holds, start=1))
        still_open = [number for number, hold in holds.items() if hold.is_open]
        any_hold = st.sampled_from(sorted(holds))
        number = data.draw(st.sampled_from(still_open) | any_hold if still_open else any_hold)
        return index, number, holds[number]

    def call(self, service: Callable[..., Any], /, **request: Any) -> Any:
        request |= {"actor": SYSTEM, "idempotency_key": next_key()}
        answer = service(self.session, **request)
        self.calls.append((service, request, answer))
        return answer

    def both(
        self,
        expect: Callable[[], object],
        service: Callable[..., Any],
        /,
        *,
        key: bool = True,
        **request: Any,
    ) -> None:
        """Do it in both; what the model refuses must be refused, and change nothing."""
        before = copy.deepcopy(self.accounts)
        try:
            expect()
        except model.Refused:
            self.accounts = before
            with pytest.raises(BillingError), self.session.begin_nested():
                service(self.session, **request, **self.keys(key))
        else:
            if key:
                self.call(service, **request)
            else:
                outcome = service(self.session, **request, actor=SYSTEM)
                self.charged.append((request["charge"], outcome))
        self.check_step()

    def keys(self, key: bool) -> dict[str, Any]:  # noqa: FBT001 - one of two shapes
        return {"actor": SYSTEM, **({"idempotency_key": next_key()} if key else {})}

    # ── What must hold ───────────────────────────────────────────────────────────────────────

    def check_step(self) -> None:
        for account_id, account in zip(self.ids, self.accounts, strict=True):
            assert self.found(account_id) == expected_state(account)
            self.check_new_entries(account_id, account)

    def found(self, account_id: int) -> dict[str, Any]:
        row = self.session.execute(_STATE, {"id": account_id}).one()
        return {
            "balance": row.balance_micros,
            "held": row.held_micros,
            "counters": (
                row.last_entry_sequence,
                row.last_grant_number,
                row.last_hold_number,
                row.last_refusal_number,
            ),
            "grants": {number: (left, held) for number, left, held in row.grants or ()},
            "debts": {(service, cause): owed for service, cause, owed in row.debts or ()},
            "open_holds": set(row.open_holds or ()),
            "carries": {service: Fraction(carry) for service, carry in row.carries.items()},
        }

    def check_new_entries(self, account_id: int, account: model.Account) -> None:
        rows = self.session.execute(_LINES, {"id": account_id, "after": self.seen[account_id]})
        found: dict[int, tuple[str, Counter[tuple[int, str | None, str | None]]]] = {}
        for sequence, kind, number, service, cause, amount in rows:
            lines = found.setdefault(sequence, (kind, Counter()))[1]
            if number is not None:
                lines[number, service, cause] += amount
        for sequence in range(self.seen[account_id] + 1, len(account.entries) + 1):
            entry = account.entries[sequence - 1]
            expected: Counter[tuple[int, str | None, str | None]] = Counter()
            for number, amount, debt in entry.lines:
                service, cause = debt or (None, None)
                expected[number, service, cause] += amount
            assert found.pop(sequence) == (entry.kind, expected)
        assert not found
        self.seen[account_id] = len(account.entries)

    def check_books(self) -> None:
        assert ledger.verify_ledger(self.session, actor=SYSTEM) == []


def expected_state(account: model.Account) -> dict[str, Any]:
    grants = {grant.number: (grant.remaining, grant.held) for grant in account.grants.values()}
    assert all(0 <= held <= remaining for remaining, held in grants.values())
    assert all(grant.remaining - grant.held <= grant.kept for grant in account.grants.values())
    granted = sum(remaining for remaining, _ in grants.values())
    moved = sum(amount for entry in account.entries for _, amount, _ in entry.lines)
    assert granted - account.debt == moved
    return {
        "balance": moved,
        "held": sum(held for _, held in grants.values()),
        "counters": (
            len(account.entries),
            len(account.grants),
            len(account.holds),
            account.refusals,
        ),
        "grants": {0: (-account.debt, 0), **grants},
        "debts": dict(+account.owed),
        "open_holds": {n for n, hold in enumerate(account.holds, start=1) if hold.is_open},
        "carries": account.carry,
    }


_STATE = text("""
SELECT b.*,
  (SELECT json_agg(json_build_array(grant_number, remaining_micros, held_micros))
   FROM grant_balances WHERE account_id = b.account_id) AS grants,
  (SELECT json_agg(json_build_array(service, cause, due_micros))
   FROM debts WHERE account_id = b.account_id AND due_micros > 0) AS debts,
  (SELECT array_agg(hold_number) FROM open_holds WHERE account_id = b.account_id) AS open_holds
FROM account_balances b WHERE account_id = :id
""")
_LINES = text("""
SELECT e.account_sequence, e.kind, a.grant_number, a.debt_service, a.debt_cause, a.amount_micros
FROM entries e LEFT JOIN allocations a USING (account_id, account_sequence)
WHERE account_id = :id AND e.account_sequence > :after
ORDER BY e.account_sequence, a.line_number
""")


@pytest.mark.timeout(0 if PROFILE is PROFILES["deep"] else 600)
def test_the_ledger_does_what_the_model_does(database_url: str) -> None:
    engine = make_engine(database_url)
    LedgerMachine.sessions = make_sessions(engine)
    run_state_machine_as_test(LedgerMachine, settings=PROFILE)
    engine.dispose()
