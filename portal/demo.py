"""The demo: people of every role, and three months of credit and usage in four wallets.

Everything goes through the services that real customers go through, at a clock that walks from
then to now; the same day gives the same demo. Its password is known to everybody, so it is for
demo mode alone.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import clock, ledger, vouchers
from domain.accounts import add_member, open_account
from domain.accounts.members import invite_member
from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.catalogue.loading import current_catalogue
from domain.catalogue.pricing import Usage, rate
from domain.identity import AuthPolicy, create_user
from domain.ledger import Charge, ChargeItem, GrantTerms
from domain.money import MICROS_PER_UNIT, Money
from domain.payments import exchange_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import TextClause
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.catalogue.pricing import Catalogue

PASSWORD = "try-the-demo-portal"  # noqa: S105 - shown to everybody who starts the demo
DAYS = 92

_ACTOR = system_actor("demo")
_COST_OF_A_DOLLAR = {"VND": "25400", "JPY": "152.4"}
_ORIGIN = "demo-metering"
_STEP = timedelta(hours=6)
_EXPIRY_ROUND = 500

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('demo', 0))")
_HAS_USERS = text("SELECT EXISTS (SELECT FROM users WHERE email = ANY(:emails))")
_USER = text("SELECT id FROM users WHERE email = :email")
_CAN_SIGN_IN = text(
    "SELECT EXISTS (SELECT FROM users WHERE email = ANY(:emails) AND disabled_at IS NULL)"
)


# ── Who there is ──────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Person:
    """Someone who signs in: a member of staff, or of wallets (by name, each with a role)."""

    email: str
    display_name: str
    staff_role: StaffRole | None = None
    memberships: tuple[tuple[str, MemberRole], ...] = ()

    @property
    def role(self) -> str:
        """What the person is, in a few words for the list of sign-ins."""
        if self.staff_role is not None:
            return f"staff, {self.staff_role}"
        return ", ".join(f"{role} of {wallet}" for wallet, role in self.memberships)


@dataclass(frozen=True, slots=True)
class Credit:
    """Credit that came `days_ago`, in currency units; valid for `valid_days` where that is set."""

    days_ago: int
    kind: str
    amount: int
    source: str
    services: tuple[str, ...] | None = None
    valid_days: int | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Wallet:
    """An account, and how lively it is: about `bursts` stretches of use on a working day."""

    name: str
    site: str
    country: str
    currency: str
    bursts: int
    credits: tuple[Credit, ...]


_VIETNAM = Wallet(
    name="Demo Vietnam",
    site="vn",
    country="VN",
    currency="VND",
    bursts=9,
    credits=(
        Credit(92, "top_up", 3_000_000, "vnpay", origin="payment-vn-1"),
        Credit(88, "voucher", 500_000, "voucher", ("ai-inference",), 21, "XINCHAO"),
        Credit(85, "plan", 1_300_000, "plan", None, 30, "plan-1"),
        Credit(55, "plan", 1_300_000, "plan", None, 30, "plan-2"),
        Credit(47, "top_up", 3_000_000, "stripe", origin="payment-vn-2"),
        Credit(25, "plan", 1_300_000, "plan", None, 30, "plan-3"),
        Credit(20, "adjustment", 200_000, "support", None, 90, "slow-answers"),
        Credit(16, "top_up", 4_000_000, "vnpay", origin="payment-vn-3"),
        Credit(8, "voucher", 800_000, "voucher", ("model-fine-tuning", "gpu-vm"), 11, "GPUVN"),
    ),
)
_JAPAN = Wallet(
    name="Demo Japan",
    site="jp",
    country="JP",
    currency="JPY",
    bursts=8,
    credits=(
        Credit(92, "top_up", 20_000, "stripe", origin="payment-jp-1"),
        Credit(80, "voucher", 3_000, "voucher", None, 30, "YOUKOSO"),
        Credit(58, "top_up", 20_000, "stripe", origin="payment-jp-2"),
        Credit(30, "adjustment", 2_500, "support", None, 60, "outage"),
        Credit(24, "top_up", 30_000, "bank", origin="payment-jp-3"),
        Credit(4, "voucher", 6_000, "voucher", ("gpu-container",), 9, "CONTAINER"),
    ),
)
_GLOBAL = Wallet(
    name="Demo Global",
    site="global",
    country="SG",
    currency="USD",
    bursts=14,
    credits=(
        Credit(92, "voucher", 50, "voucher", None, 45, "WELCOME50"),
        Credit(91, "top_up", 150, "stripe", origin="payment-usd-1"),
        Credit(78, "plan", 40, "plan", None, 30, "plan-1"),
        Credit(60, "top_up", 200, "paypal", origin="payment-usd-2"),
        Credit(48, "plan", 40, "plan", None, 30, "plan-2"),
        Credit(33, "top_up", 200, "stripe", origin="payment-usd-3"),
        Credit(18, "plan", 40, "plan", None, 30, "plan-3"),
        Credit(14, "adjustment", 25, "support", None, 120, "outage"),
        Credit(9, "voucher", 80, "voucher", ("ai-inference", "ai-notebook"), 14, "NOTEBOOK80"),
        Credit(5, "top_up", 150, "paypal", origin="payment-usd-4"),
    ),
)
_EUROPE = Wallet(
    name="Demo Europe",
    site="global",
    country="DE",
    currency="EUR",
    bursts=4,
    credits=(
        Credit(70, "top_up", 70, "stripe", origin="payment-eur-1"),
        Credit(62, "voucher", 20, "voucher", ("gpu-vm",), 25, "GPUVM20"),
        Credit(40, "top_up", 40, "stripe", origin="payment-eur-2"),
    ),
)
WALLETS = (_VIETNAM, _JAPAN, _GLOBAL, _EUROPE)

PEOPLE = (
    Person(
        "owner.vn@demo.example",
        "Owner, Vietnam",
        memberships=((_VIETNAM.name, MemberRole.OWNER),),
    ),
    Person("owner.jp@demo.example", "Owner, Japan", memberships=((_JAPAN.name, MemberRole.OWNER),)),
    Person("owner@demo.example", "Owner, Global", memberships=((_GLOBAL.name, MemberRole.OWNER),)),
    Person(
        "owner.eu@demo.example", "Owner, Europe", memberships=((_EUROPE.name, MemberRole.OWNER),)
    ),
    Person("billing@demo.example", "Billing", memberships=((_GLOBAL.name, MemberRole.BILLING),)),
    Person(
        "reader@demo.example",
        "Reader",
        memberships=((_GLOBAL.name, MemberRole.READER), (_EUROPE.name, MemberRole.READER)),
    ),
    Person("support@demo.example", "Support", StaffRole.SUPPORT),
    Person("finance@demo.example", "Finance", StaffRole.FINANCE),
    Person("controller@demo.example", "Finance, second person", StaffRole.FINANCE),
    Person("admin@demo.example", "Administrator", StaffRole.ADMIN),
)
INVITED = "newcomer@demo.example"
"""Who is invited into the global wallet, and has not signed up yet."""
VOUCHER_CODE = "WELCOME100"
"""A code that every account of the demo can redeem once."""
_FINANCE = ("finance@demo.example", "controller@demo.example")
"""Who proposes the demo's campaigns, and who approves them."""
_MAX_VOUCHERS = 1_000
_WELCOME = {
    "USD": Money.from_minor_units(10_000, "USD"),
    "EUR": Money.from_minor_units(10_000, "EUR"),
    "JPY": Money.from_minor_units(15_000, "JPY"),
    "VND": Money.from_minor_units(2_500_000, "VND"),
}
_APOLOGY = {
    "USD": Money.from_minor_units(2_000, "USD"),
    "EUR": Money.from_minor_units(2_000, "EUR"),
    "JPY": Money.from_minor_units(3_000, "JPY"),
    "VND": Money.from_minor_units(500_000, "VND"),
}
SIGN_INS = tuple((person.email, person.role) for person in PEOPLE)
"""Address and role of everyone; all have the same password."""


# ── What they use ─────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Habit:
    """One way of using a service: how often, on what, and what each call measures."""

    weight: int
    service: str
    source: str
    model: str
    calls: tuple[int, int]
    quantities: Mapping[str, tuple[int, int]]


_TOKENS = {"input-tokens": (8_000, 90_000), "output-tokens": (500, 9_000)}
_HABITS = (
    Habit(22, "ai-inference", "support-assistant", "llama-3.3-70b-instruct", (3, 12), _TOKENS),
    Habit(14, "ai-inference", "document-search", "deepseek-v3", (2, 9), _TOKENS),
    Habit(10, "ai-inference", "code-review", "qwen2.5-coder-32b-instruct", (2, 8), _TOKENS),
    Habit(8, "ai-inference", "translation", "gemma-3-27b-it", (2, 10), _TOKENS),
    Habit(
        9,
        "ai-inference",
        "document-search",
        "multilingual-e5-large",
        (4, 15),
        {"input-tokens": (20_000, 400_000)},
    ),
    Habit(
        14,
        "model-hub",
        "model-registry",
        "",
        (1, 1),
        {"storage-time": (60, 60), "gigabytes": (240, 320)},
    ),
    Habit(
        12,
        "ai-notebook",
        "research-notebook",
        "a30",
        (1, 1),
        {
            "cpu-time": (1_800, 3_600),
            "cpus": (4, 4),
            "gpu-time": (600, 3_600),
            "gpus": (1, 1),
            "disk-time": (3_600, 3_600),
            "disk-gigabytes": (80, 80),
        },
    ),
    Habit(
        7,
        "gpu-container",
        "batch-embedding",
        "h100",
        (1, 1),
        {
            "gpu-time": (600, 3_600),
            "gpus": (1, 1),
            "disk-time": (3_600, 3_600),
            "disk-gigabytes": (120, 120),
        },
    ),
    Habit(
        4,
        "gpu-vm",
        "evaluation-vm",
        "h200",
        (1, 1),
        {
            "gpu-time": (1_800, 3_600),
            "gpus": (1, 1),
            "disk-time": (3_600, 3_600),
            "disk-gigabytes": (200, 200),
        },
    ),
    Habit(
        2,
        "model-fine-tuning",
        "assistant-tuning",
        "h100",
        (1, 1),
        {"gpu-time": (1_200, 5_400), "gpus": (1, 2)},
    ),
)
_FINE_TUNING = _HABITS[-1]
_CONTAINER = next(habit for habit in _HABITS if habit.service == "gpu-container")
_WEEKDAYS = 5


# ── Loading ───────────────────────────────────────────────────────────────────────────────────
def load(sessions: sessionmaker[Session], *, report: Callable[[str], None]) -> None:
    """Make the demo's people, wallets and history, all or nothing; do nothing where they exist.

    `report` is told in plain words what takes a few seconds.
    """
    with sessions() as session, session.begin():
        session.execute(_LOCK)
        if _ask(session, _HAS_USERS):
            return
        report("Loading sample accounts with three months of usage (a few seconds)")
        _Demo(session).run()


def anyone_can_sign_in(session: Session) -> bool:
    """Whether the database holds a person with the demo's password who is not disabled."""
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
        """Leave an invitation that waits for somebody who has not signed up."""
        invite_member(
            self._session,
            account_id=self._accounts[_GLOBAL.name],
            email=INVITED,
            role=MemberRole.READER,
            actor=_ACTOR,
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
                actor=_ACTOR,
            )
        for person in PEOPLE:
            user_id = create_user(
                self._session,
                email=person.email,
                display_name=person.display_name,
                password=PASSWORD,
                staff_role=person.staff_role,
                actor=_ACTOR,
            )
            for wallet_name, role in person.memberships:
                add_member(
                    self._session,
                    account_id=self._accounts[wallet_name],
                    user_id=user_id,
                    role=role,
                    actor=_ACTOR,
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
                actor=_ACTOR,
                idempotency_key=f"demo:{credit.origin}",
            )

        return grant

    def _expire(self) -> None:
        while ledger.expire_grants(self._session, actor=_ACTOR) == _EXPIRY_ROUND:
            pass
        ledger.expire_holds(self._session, actor=_ACTOR)

    # ── Usage ─────────────────────────────────────────────────────────────────────────────────
    def _usage(self) -> Mapping[datetime, list[Charge]]:
        """Return the charges of all wallets by the instant at which they are posted."""
        posted: dict[datetime, list[Charge]] = defaultdict(list)
        first = self._ago(days=DAYS - 1)
        for wallet in WALLETS:
            for day in range(DAYS - 1):
                date = first + timedelta(days=day)
                busy = wallet.bursts if date.weekday() < _WEEKDAYS else wallet.bursts // 4
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
        weights = [habit.weight for habit in _HABITS]
        habit = self._dice.choices(_HABITS, weights)[0]
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
            ledger.charge_batch(self._session, charges=charges, actor=_ACTOR)

        return charge

    # ── What does not happen every day ────────────────────────────────────────────────────────
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
        return ledger.charge(self._session, charge=charge, actor=_ACTOR).entry_sequence

    def _reverse_a_charge(self) -> None:
        sequence = self._charge_now(_GLOBAL, _CONTAINER)
        if sequence is not None:
            ledger.reverse_entry(
                self._session,
                account_id=self._accounts[_GLOBAL.name],
                entry_sequence=sequence,
                reason="outage",
                actor=_ACTOR,
                idempotency_key="demo:reversal",
            )

    def _refuse_a_charge(self) -> None:
        self._charge_now(_EUROPE, _FINE_TUNING, refusable=True)

    def _capture_a_hold(self) -> None:
        held = self._hold(_GLOBAL, 40, hours=8)
        self._charge_now(_GLOBAL, _FINE_TUNING, hold_number=held)

    def _void_a_hold(self) -> None:
        held = self._hold(_JAPAN, 4_000, hours=8)
        if held is not None:
            ledger.void_hold(
                self._session,
                account_id=self._accounts[_JAPAN.name],
                hold_number=held,
                actor=_ACTOR,
                idempotency_key="demo:void",
            )

    def _hold_for_a_job(self) -> None:
        self._hold(_JAPAN, 5_000, hours=72)
        self._hold(_GLOBAL, 60, hours=48)

    def _hold(self, wallet: Wallet, amount: int, *, hours: int) -> int | None:
        return ledger.place_hold(
            self._session,
            account_id=self._accounts[wallet.name],
            service=_FINE_TUNING.service,
            amount_micros=amount * MICROS_PER_UNIT,
            expires_at=self._tick() + timedelta(hours=hours),
            source=_FINE_TUNING.source,
            actor=_ACTOR,
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


def load_rates(session: Session) -> None:
    """Put today's rates of exchange in force, so that a demo offers every payment method."""
    now = clock.now(session)
    for quoted, cost in _COST_OF_A_DOLLAR.items():
        rate_id = exchange_rates.propose_rate(
            session,
            base_currency="USD",
            quote_currency=quoted,
            rate=Decimal(cost),
            margin_basis_points=150,
            source="sample rate",
            as_of=now,
            reason="sample rate",
            actor=_ACTOR,
        )
        exchange_rates.load_rate(session, rate_id=rate_id, actor=system_actor("startup"))


def load_campaigns(session: Session) -> None:
    """Leave a code that any account of the demo can redeem, and vouchers that support can issue."""
    proposer, approver = (_person(session, email) for email in _FINANCE)
    known = {each.terms.name for each in vouchers.list_campaigns(session, actor=proposer)}
    now = clock.now(session)
    for terms in _campaigns(now):
        if terms.name in known:
            continue
        key = f"demo:{terms.name.lower()}"
        campaign = vouchers.propose_campaign(
            session, terms=terms, actor=proposer, idempotency_key=key
        )
        vouchers.decide_campaign(session, campaign_id=campaign, is_approved=True, actor=approver)
        if not terms.is_for_support:
            vouchers.import_codes(
                session,
                campaign_id=campaign,
                typed=[VOUCHER_CODE],
                actor=proposer,
                idempotency_key=key,
            )


def _campaigns(now: datetime) -> tuple[vouchers.CampaignTerms, ...]:
    in_a_year = now + timedelta(days=365)
    welcome = vouchers.CampaignTerms(
        name="Welcome",
        description="Welcome credit",
        offers=_offers(_WELCOME),
        validity_days=30,
        code_budget=1,
        uses_per_code=_MAX_VOUCHERS,
        redeem_from=now,
        redeem_until=in_a_year,
    )
    apology = vouchers.CampaignTerms(
        name="Apology",
        description="For the trouble",
        offers=_offers(_APOLOGY),
        validity_days=60,
        code_budget=_MAX_VOUCHERS,
        uses_per_account=3,
        is_for_named_accounts=True,
        is_for_support=True,
        redeem_from=now,
        redeem_until=in_a_year,
    )
    return welcome, apology


def _offers(amounts: Mapping[str, Money]) -> tuple[vouchers.CurrencyTerms, ...]:
    return tuple(
        vouchers.CurrencyTerms(
            (vouchers.GrantTemplate(amount),), Money(amount.micros * _MAX_VOUCHERS, currency)
        )
        for currency, amount in amounts.items()
    )


def _person(session: Session, email: str) -> Actor:
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
            actor=_ACTOR,
        )
    return user_actor(user_id, staff_role=person.staff_role)
