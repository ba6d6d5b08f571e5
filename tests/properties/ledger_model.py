"""A ledger in plain Python, to hold the real one against: slow, obvious, and its own arithmetic."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

GRACE = timedelta(hours=1)
BURNING = ("plan", "voucher", "adjustment", "top_up")
Debt = tuple[str, str]
TAKINGS: tuple[Debt, ...] = (("", "dispute"), ("", "refund"), ("", "reversal"))
Line = tuple[int, int, Debt | None]
"""(grant number, signed amount, the debt it concerns); grant 0 is the overdraft."""


class Refused(Exception):  # noqa: N818 - it says what happened
    """The model would not do this either."""


@dataclass
class Grant:
    number: int
    kind: str
    amount: int
    is_paid: bool
    services: frozenset[str] | None
    starts: datetime | None
    expires: datetime | None
    granted: datetime
    entry: int
    remaining: int = 0
    held: int = 0
    taken: int = 0
    expired: int = 0

    @property
    def kept(self) -> int:
        return max(0, self.amount - self.taken - self.expired)

    def serves(self, service: str) -> bool:
        return self.services is None or service in self.services

    def lives(self, at: datetime) -> bool:
        has_begun = self.starts is None or at >= self.starts
        return has_begun and (self.expires is None or at < self.expires)

    def is_over(self, now: datetime) -> bool:
        return self.expires is not None and now - self.expires >= GRACE


@dataclass
class Entry:
    kind: str
    lines: list[Line]
    left: list[int]
    """How much of each line no reversal has taken yet."""


@dataclass
class Hold:
    service: str
    expires: datetime
    parts: dict[int, int]
    is_open: bool = True


@dataclass
class Account:
    grants: dict[int, Grant] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    refusals: int = 0
    owed: Counter[Debt] = field(default_factory=Counter)
    owed_since: dict[Debt, datetime] = field(default_factory=dict)
    paid_by: dict[Debt, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    carry: dict[str, Fraction] = field(default_factory=dict)
    is_frozen: bool = False

    @property
    def debt(self) -> int:
        return sum(self.owed.values())

    @property
    def paid_charges(self) -> list[tuple[int, int]]:
        """Each charge that a grant paid for, by its sequence and the grant's number."""
        return [
            (sequence, number)
            for sequence, entry in enumerate(self.entries, start=1)
            if entry.kind == "charge"
            for number, _, _ in entry.lines
            if number
        ]

    def in_order(self) -> list[Grant]:
        """The grants as they burn, found by repeated comparison rather than by a key."""
        ordered: list[Grant] = []
        for grant in self.grants.values():
            place = 0
            while place < len(ordered) and _burns_before(ordered[place], grant):
                place += 1
            ordered.insert(place, grant)
        return ordered

    # What moves money; each returns the lines of an entry, `post` numbers them.

    def post(self, kind: str, lines: Iterable[Line]) -> int:
        kept = [line for line in lines if line[1]]
        self.entries.append(Entry(kind, kept, [abs(amount) for _, amount, _ in kept]))
        return len(self.entries)

    def _spend(self, grant: Grant, amount: int, debt: Debt | None = None) -> Line:
        grant.remaining -= amount
        return (grant.number, -amount, debt)

    def _add_debt(self, debt: Debt, amount: int, now: datetime) -> Line:
        if not self.owed[debt]:
            self.owed_since[debt] = now
        self.owed[debt] += amount
        return (0, -amount, debt)

    def _pay(self, debt: Debt, amount: int) -> Line:
        self.owed[debt] -= amount
        return (0, amount, debt)

    def _burn(
        self, service: str, amount: int, occurred: datetime, now: datetime
    ) -> list[tuple[Grant, int]]:
        taken = []
        for grant in self.in_order():
            free = grant.remaining - grant.held
            if grant.serves(service) and grant.lives(occurred) and not grant.is_over(now):
                part = min(free, amount)
                if part:
                    taken.append((grant, part))
                    amount -= part
        return taken

    def settle_clawbacks(self, now: datetime) -> set[int]:
        """What is free above what was left of a grant pays for takings; who paid is relieved."""
        relieved: set[int] = set()
        for grant in self.in_order():
            over = min(grant.remaining - grant.held, grant.remaining - grant.kept)
            if over > 0:
                lines = self._pay_takings(grant, over)
                back = self._relieve(grant, over - moved(lines))
                relieved |= {number for number, amount, _ in back if amount > 0}
                missing = over - moved([*lines, *back])
                self._restore_liability(missing, now)
                lines += [*back, *self._pay_takings(grant, missing)]
                assert moved(lines) == over
                self.post("settlement_of_debt", lines)
        return relieved

    def _pay_takings(self, grant: Grant, amount: int) -> list[Line]:
        lines: list[Line] = []
        for debt in TAKINGS:
            part = min(self.owed[debt], amount)
            amount -= part
            lines += [self._pay(debt, part), self._spend(grant, part, debt)]
            self.paid_by[debt][grant.number] += part
        return lines

    def _relieve(self, grant: Grant, amount: int) -> list[Line]:
        lines: list[Line] = []
        for debt in TAKINGS:
            for number in sorted(self.paid_by[debt], reverse=True):
                other = self.grants[number]
                part = min(self.paid_by[debt][number], amount, other.kept - other.remaining)
                if part > 0 and other is not grant:
                    amount -= part
                    self.paid_by[debt][number] -= part
                    self.paid_by[debt][grant.number] += part
                    lines += [self._spend(other, -part, debt), self._spend(grant, part, debt)]
        return lines

    def _restore_liability(self, amount: int, now: datetime) -> None:
        for entry in [entry for entry in reversed(self.entries) if entry.kind == "write_off"]:
            for place, (_, _, debt) in enumerate(entry.lines):
                part = min(entry.left[place], amount)
                if part and debt is not None and debt in TAKINGS:
                    entry.left[place] -= part
                    amount -= part
                    self.post("reversal", [self._add_debt(debt, part, now)])

    def settle(self, now: datetime) -> None:
        self.settle_clawbacks(now)
        lines: list[Line] = []
        for debt in sorted(+self.owed, key=lambda debt: (self.owed_since[debt], debt)):
            service, cause = debt
            for grant in self.in_order():
                if not grant.lives(now) or grant.is_over(now):
                    continue
                if cause == "usage" and not grant.serves(service):
                    continue
                if cause != "usage" and not (grant.is_paid and grant.services is None):
                    continue
                part = min(grant.remaining - grant.held, self.owed[debt])
                if part:
                    lines += [self._spend(grant, part, debt), self._pay(debt, part)]
                    self.paid_by[debt][grant.number] += part
        if lines:
            self.post("settlement_of_debt", lines)

    # What people and machines do.

    def add(self, grant: Grant, now: datetime) -> None:
        if grant.is_over(now):
            raise Refused
        grant.number = len(self.grants) + 1
        grant.remaining = grant.amount
        self.grants[grant.number] = grant
        grant.entry = self.post(grant.kind, [(grant.number, grant.amount, None)])
        self.settle(now)

    def charge(
        self,
        service: str,
        exact: Fraction,
        occurred: datetime,
        now: datetime,
        *,
        refusable: bool,
        hold: int | None = None,
    ) -> str:
        owed = exact + self.carry.get(service, Fraction(0))
        amount = floor(owed)
        if refusable and self.is_frozen:
            self.refusals += 1
            return "account_frozen"
        lines: list[Line] = []
        if hold is not None and self.holds[hold - 1].is_open:
            if self.holds[hold - 1].service != service:
                raise Refused
            lines = self._capture(self.holds[hold - 1], amount)
        missing = amount + sum(change for _, change, _ in lines)
        takes = self._burn(service, missing, occurred, now)
        short = missing - sum(part for _, part in takes)
        if short and refusable:
            self.refusals += 1
            return "insufficient_credit"
        self.carry[service] = owed - amount
        lines += [self._spend(grant, part) for grant, part in takes]
        if short:
            lines.append(self._add_debt((service, "usage"), short, now))
        self.post("charge", lines)
        return "charged"

    def _capture(self, hold: Hold, amount: int) -> list[Line]:
        self._release(hold)
        lines = []
        for grant in self.in_order():
            part = min(hold.parts.get(grant.number, 0), amount)
            amount -= part
            if part:
                lines.append(self._spend(grant, part))
        return lines

    def _release(self, hold: Hold) -> None:
        hold.is_open = False
        for number, part in hold.parts.items():
            self.grants[number].held -= part

    def place(self, service: str, amount: int, expires: datetime, now: datetime) -> str | None:
        self.settle(now)
        takes = self._burn(service, amount, now, now)
        short = amount - sum(part for _, part in takes)
        if self.is_frozen or self.debt or short:
            self.refusals += 1
            self.settle(now)
            if self.is_frozen:
                return "account_frozen"
            return "in_debt" if self.debt else "insufficient_credit"
        for grant, part in takes:
            grant.held += part
        self.holds.append(Hold(service, expires, {grant.number: part for grant, part in takes}))
        return None

    def void(self, hold: int, now: datetime) -> None:
        if not self.holds[hold - 1].is_open:
            raise Refused
        self._release(self.holds[hold - 1])
        self.settle(now)

    def expire_holds(self, now: datetime) -> int:
        due = [hold for hold in self.holds if hold.is_open and hold.expires <= now]
        for hold in due:
            self._release(hold)
        if due:
            self.settle(now)
        return len(due)

    def expire_grants(self, now: datetime) -> int:
        due = [
            grant
            for grant in self.grants.values()
            if grant.is_over(now) and grant.remaining > grant.held
        ]
        for grant in sorted(due, key=lambda grant: (grant.expires, grant.number)):
            self._expire(grant)
        if due:
            self.settle(now)
        return len(due)

    def _expire(self, grant: Grant) -> None:
        free = grant.remaining - grant.held
        if free:
            grant.expired += free
            self.post("expiry", [self._spend(grant, free)])

    def take_back(self, kind: str, number: int, amount: int, now: datetime) -> None:
        grant = self.grants[number]
        left = grant.amount - grant.taken - (grant.expired if kind == "refund" else 0)
        if amount > left:
            raise Refused
        self.post(kind, self._take(grant, amount, kind, now))
        self.settle(now)

    def _take(self, grant: Grant, amount: int, cause: str, now: datetime) -> list[Line]:
        grant.taken += amount
        free = min(grant.remaining - grant.held, amount)
        lines = [self._spend(grant, free)]
        if amount > free:
            lines.append(self._add_debt(("", cause), amount - free, now))
        return lines

    def write_off(self, amount: int, now: datetime) -> None:
        if amount > self.debt:
            raise Refused
        lines = []
        for debt in sorted(+self.owed, key=lambda debt: (self.owed_since[debt], debt)):
            part = min(self.owed[debt], amount)
            amount -= part
            lines.append(self._pay(debt, part))
        self.post("write_off", lines)
        self.settle(now)

    def reverse(self, sequence: int, amount: int | None, now: datetime) -> None:
        entry = self.entries[sequence - 1]
        if entry.kind == "charge":
            self._reverse_charge(entry, amount, now)
        elif entry.kind in BURNING:
            grant = self.grants[entry.lines[0][0]]
            left = min(entry.left[0], grant.kept)
            expected = left if amount is None else amount
            if not 0 < expected <= left:
                raise Refused
            entry.left[0] -= expected
            self.post("reversal", self._take(grant, expected, "reversal", now))
        else:
            raise Refused
        self.settle(now)

    def _reverse_charge(self, entry: Entry, amount: int | None, now: datetime) -> None:
        reachable = [
            left if debt is None else min(left, self.owed[debt] + self.paid_by[debt].total())
            for (_, _, debt), left in zip(entry.lines, entry.left, strict=True)
        ]
        expected = sum(reachable) if amount is None else amount
        if not 0 < expected <= sum(reachable):
            raise Refused
        lines: list[Line] = []
        for place in reversed(range(len(entry.lines))):
            number, _, debt = entry.lines[place]
            part = min(reachable[place], expected)
            expected -= part
            entry.left[place] -= part
            if debt is None:
                lines.append(self._spend(self.grants[number], -part))
            else:
                lines += self._unpay(debt, part)
        self.post("reversal", lines)
        gained = {number for number, change, _ in lines if number and change}
        for number in sorted(gained | self.settle_clawbacks(now)):
            if self.grants[number].is_over(now):
                self._expire(self.grants[number])

    def _unpay(self, debt: Debt, amount: int) -> list[Line]:
        to_debt = min(self.owed[debt], amount)
        lines = [self._pay(debt, to_debt)]
        amount -= to_debt
        for number in sorted(self.paid_by[debt], reverse=True):
            part = min(self.paid_by[debt][number], amount)
            amount -= part
            self.paid_by[debt][number] -= part
            lines.append(self._spend(self.grants[number], -part, debt))
        return lines


def moved(lines: list[Line]) -> int:
    return sum(amount for _, amount, _ in lines if amount > 0)


def _burns_before(first: Grant, second: Grant) -> bool:
    """Whether the first burns before the second."""
    if first.kind != second.kind:
        return BURNING.index(first.kind) < BURNING.index(second.kind)
    if first.expires != second.expires:
        if first.expires is None or second.expires is None:
            return second.expires is None
        return first.expires < second.expires
    if first.granted != second.granted:
        return first.granted < second.granted
    return first.number < second.number
