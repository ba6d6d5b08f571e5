"""The demo: people of every role, and three months of credit and usage in four wallets.

Everything goes through the services that real customers go through, with a clock that advances from
three months ago to now; the same day yields the same demo. Its password is public, so it is for
demo mode alone.
"""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import clock, ledger
from domain.accounts import add_member, open_account
from domain.accounts.invitations import invite_member
from domain.actors import MemberRole, system_actor, user_actor
from domain.catalogue.loading import current_catalogue
from domain.catalogue.pricing import Usage, rate
from domain.identity import AuthPolicy, create_user
from domain.ledger import Charge, ChargeItem, GrantTerms
from domain.money import MICROS_PER_UNIT
from portal.demo.people import (
    DAYS,
    EUROPE,
    GLOBAL,
    INVITED,
    JAPAN,
    PASSWORD,
    PEOPLE,
    WALLETS,
    Credit,
    Wallet,
)
from portal.demo.usage import CONTAINER, FINE_TUNING, HABITS, WEEKDAYS, Habit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import TextClause
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.catalogue.pricing import Catalogue


ACTOR = system_actor("demo")
_ORIGIN = "demo-metering"
_STEP = timedelta(hours=6)
_EXPIRY_ROUND = 500

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('demo', 0))")
_HAS_USERS = text("SELECT EXISTS (SELECT FROM users WHERE email = ANY(:emails))")
_USER = text("SELECT id FROM users WHERE email = :email")
_CAN_SIGN_IN = text(
    "SELECT EXISTS (SELECT FROM users WHERE email = ANY(:emails) AND disabled_at IS NULL)"
)


# ── Loading ───────────────────────────────────────────────────────────────────────────────────
def load(sessions: sessionmaker[Session], *, report: Callable[[str], None]) -> None:
    """Create the demo's people, wallets and history, all or nothing; do nothing where they exist.

    `report` receives a sentence about each step that takes a few seconds.
    """
    with sessions() as session, session.begin():
        session.execute(_LOCK)
        if _ask(session, _HAS_USERS):
            return
        report("Loading sample accounts with three months of usage (a few seconds)")
        _Demo(session).run()


def anyone_can_sign_in(session: Session) -> bool:
    """Return whether the database has an active person with the demo's password."""
    return _ask(session, _CAN_SIGN_IN)


def _ask(session: Session, question: TextClause) -> bool:
    emails = [person.email for person in PEOPLE]
    return bool(session.execute(question, {"emails": emails}).scalar_one())


class _Demo:
    """One loading: its clock, its dice, and the accounts by the wallets' names."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._end = clock.now(session)
        self._instant = self._end - timedelta(days=DAYS, hours=1)
        self._dice = random.Random(20_260)  # noqa: S311 - sample data, the same each time
        self._version, self._catalogue = current_catalogue(session)
        self._accounts: dict[str, int] = {}
        self._events = 0

    def run(self) -> None:
        self._session.info[clock.CLOCK] = self._tick
        self._make_people()
        happenings = sorted(self._happenings(), key=lambda happening: happening[0])
        for instant, happen in happenings:
            self._instant = max(self._instant, instant)
            happen()
        self._invite()

    def _invite(self) -> None:
        """Create an open invitation for a person who has not signed up."""
        invite_member(
            self._session,
            account_id=self._accounts[GLOBAL.name],
            email=INVITED,
            role=MemberRole.READER,
            actor=ACTOR,
            idempotency_key="demo:invitation",
            policy=AuthPolicy(key=_ORIGIN.encode()),
        )

    def _tick(self) -> datetime:
        self._instant += timedelta(microseconds=1)
        return self._instant

    def _make_people(self) -> None:
        for wallet in WALLETS:
            self._accounts[wallet.name] = open_account(
                self._session,
                site_code=wallet.site,
                name=wallet.name,
                currency=wallet.currency,
                country=wallet.country,
                actor=ACTOR,
            )
        for person in PEOPLE:
            user_id = create_user(
                self._session,
                email=person.email,
                display_name=person.display_name,
                password=PASSWORD,
                staff_role=person.staff_role,
                actor=ACTOR,
            )
            for wallet_name, role in person.memberships:
                add_member(
                    self._session,
                    account_id=self._accounts[wallet_name],
                    user_id=user_id,
                    role=role,
                    actor=ACTOR,
                )

    def _happenings(self) -> Iterator[tuple[datetime, Callable[[], None]]]:
        """Yield everything that happens, and when, in any order."""
        for wallet in WALLETS:
            for credit in wallet.credits:
                yield self._ago(days=credit.days_ago), self._granting(wallet, credit)
        for posted_at, charges in self._usage().items():
            yield posted_at, self._charging(charges)
        for day in range(DAYS):
            yield self._ago(days=day, hours=2), self._expire
        yield self._ago(days=15), self._reverse_a_charge
        yield self._ago(days=11), self._capture_a_hold
        yield self._ago(days=6), self._void_a_hold
        yield self._ago(days=2), self._refuse_a_charge
        yield self._ago(hours=3), self._hold_for_a_job

    def _ago(self, **duration: int) -> datetime:
        return self._end - timedelta(**duration)

    # ── Credit ────────────────────────────────────────────────────────────────────────────────
    def _granting(self, wallet: Wallet, credit: Credit) -> Callable[[], None]:
        amount_micros = credit.amount * MICROS_PER_UNIT
        granted_at = self._ago(days=credit.days_ago)
        lifetime = timedelta(days=credit.valid_days or 0)
        terms = GrantTerms(
            kind=credit.kind,
            amount_micros=amount_micros,
            consideration_micros=amount_micros if credit.kind in {"top_up", "plan"} else 0,
            services=credit.services,
            expires_at=granted_at + lifetime if lifetime else None,
            origin=credit.origin,
        )

        def grant() -> None:
            ledger.add_grant(
                self._session,
                account_id=self._accounts[wallet.name],
                terms=terms,
                source=credit.source,
                actor=ACTOR,
                idempotency_key=f"demo:{credit.origin}",
            )

        return grant

    def _expire(self) -> None:
        while ledger.expire_grants(self._session, actor=ACTOR) == _EXPIRY_ROUND:
            pass
        ledger.expire_holds(self._session, actor=ACTOR)

    # ── Usage ─────────────────────────────────────────────────────────────────────────────────
    def _usage(self) -> Mapping[datetime, list[Charge]]:
        """Return the charges of all wallets by the instant at which they are posted."""
        posted: dict[datetime, list[Charge]] = defaultdict(list)
        first = self._ago(days=DAYS - 1)
        for wallet in WALLETS:
            for day in range(DAYS - 1):
                date = first + timedelta(days=day)
                busy = wallet.bursts if date.weekday() < WEEKDAYS else wallet.bursts // 4
                # Customers grow: by the end there is half as much use again.
                growth = self._dice.uniform(0.6, 1.4) * (1 + day / (2 * DAYS))
                for _ in range(round(busy * growth)):
                    minute = self._dice.randrange(24 * 60)
                    occurred_at = (date + timedelta(minutes=minute)).replace(microsecond=0)
                    steps = (self._end - occurred_at) // _STEP
                    charge = self._burst(wallet, occurred_at)
                    posted[self._end - steps * _STEP].append(charge)
        for charges in posted.values():
            charges.sort(key=lambda charge: charge.items[-1].occurred_at)
        return posted

    def _burst(self, wallet: Wallet, occurred_at: datetime) -> Charge:
        weights = [habit.weight for habit in HABITS]
        habit = self._dice.choices(HABITS, weights)[0]
        started_at = occurred_at.replace(second=0)
        seconds = sorted(self._dice.sample(range(60), self._dice.randint(*habit.calls)))
        moments = [started_at + timedelta(seconds=second) for second in seconds]
        return self._charge(wallet, habit, moments)

    def _charge(
        self,
        wallet: Wallet,
        habit: Habit,
        moments: list[datetime],
        *,
        refusable: bool = False,
        hold_number: int | None = None,
    ) -> Charge:
        return Charge(
            account_id=self._accounts[wallet.name],
            service=habit.service,
            source=habit.source,
            items=tuple(self._item(wallet, habit, moment) for moment in moments),
            refusable=refusable,
            hold_number=hold_number,
        )

    def _item(self, wallet: Wallet, habit: Habit, occurred_at: datetime) -> ChargeItem:
        self._events += 1
        quantities = {
            measure: self._dice.randint(*bounds) for measure, bounds in habit.quantities.items()
        }
        return ChargeItem(
            origin=_ORIGIN,
            event_id=f"demo-{self._events:06d}",
            exact_micros=_exact_micros(
                self._catalogue, habit, quantities, occurred_at, wallet.currency
            ),
            occurred_at=occurred_at,
            model=habit.model,
            quantities=quantities,
            catalogue_version=self._version,
        )

    def _charging(self, charges: list[Charge]) -> Callable[[], None]:
        def charge() -> None:
            ledger.charge_batch(self._session, charges=charges, actor=ACTOR)

        return charge

    # ── Rare events ───────────────────────────────────────────────────────────────────────────────
    def _charge_now(
        self,
        wallet: Wallet,
        habit: Habit,
        *,
        refusable: bool = False,
        hold_number: int | None = None,
    ) -> int | None:
        charge = self._charge(
            wallet, habit, [self._tick()], refusable=refusable, hold_number=hold_number
        )
        return ledger.charge(self._session, charge=charge, actor=ACTOR).entry_sequence

    def _reverse_a_charge(self) -> None:
        sequence = self._charge_now(GLOBAL, CONTAINER)
        if sequence is not None:
            ledger.reverse_entry(
                self._session,
                account_id=self._accounts[GLOBAL.name],
                entry_sequence=sequence,
                reason="outage",
                actor=ACTOR,
                idempotency_key="demo:reversal",
            )

    def _refuse_a_charge(self) -> None:
        self._charge_now(EUROPE, FINE_TUNING, refusable=True)

    def _capture_a_hold(self) -> None:
        held = self._hold(GLOBAL, 40, hours=8)
        self._charge_now(GLOBAL, FINE_TUNING, hold_number=held)

    def _void_a_hold(self) -> None:
        held = self._hold(JAPAN, 4_000, hours=8)
        if held is not None:
            ledger.void_hold(
                self._session,
                account_id=self._accounts[JAPAN.name],
                hold_number=held,
                actor=ACTOR,
                idempotency_key="demo:void",
            )

    def _hold_for_a_job(self) -> None:
        self._hold(JAPAN, 5_000, hours=72)
        self._hold(GLOBAL, 60, hours=48)

    def _hold(self, wallet: Wallet, amount: int, *, hours: int) -> int | None:
        return ledger.place_hold(
            self._session,
            account_id=self._accounts[wallet.name],
            service=FINE_TUNING.service,
            amount_micros=amount * MICROS_PER_UNIT,
            expires_at=self._tick() + timedelta(hours=hours),
            source=FINE_TUNING.source,
            actor=ACTOR,
            idempotency_key=f"demo:hold:{amount}",
        ).hold_number


def _exact_micros(
    catalogue: Catalogue,
    habit: Habit,
    quantities: Mapping[str, int],
    occurred_at: datetime,
    currency: str,
) -> Decimal:
    measured = {measure: Decimal(quantity) for measure, quantity in quantities.items()}
    usage = Usage(habit.service, occurred_at, measured, habit.model)
    return rate(catalogue, usage, currency).exact_micros


def person(session: Session, email: str) -> Actor:
    """Return one of the demo's staff, who is hired where an older demo does not have them."""
    (person,) = [each for each in PEOPLE if each.email == email]
    user_id = session.execute(_USER, {"email": email}).scalar_one_or_none()
    if user_id is None:
        user_id = create_user(
            session,
            email=email,
            display_name=person.display_name,
            password=PASSWORD,
            staff_role=person.staff_role,
            actor=ACTOR,
        )
    return user_actor(user_id, staff_role=person.staff_role)
