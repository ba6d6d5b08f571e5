"""A history in which everything has happened that facts can tell, made by the services alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from db.engine import make_sessions
from db.models import Payment
from domain import ledger, support
from domain.accounts import open_account
from domain.actors import StaffRole, system_actor, user_actor
from domain.clock import CLOCK
from domain.gateways.interface import (
    DisputeState,
    DisputeUpdate,
    GatewayPaymentState,
    GatewayRefused,
    Instrument,
    PaymentUpdate,
    RefundState,
    RefundUpdate,
)
from domain.identity import create_user
from domain.ledger.journal import JournalLine, post_journal_entry
from domain.ledger.site_totals import fold_totals
from domain.metering.usage import UsageEvent, record_usage
from domain.money import Money
from domain.payments import record_payout, request_refund, send_refund
from domain.payments.bank_transfers import Evidence, decide_transfer, record_transfer
from domain.payments.exchange_rates import decide_rate, make_quote, request_rate
from domain.payments.gateway_updates import apply_updates
from domain.payments.receipts import issue_documents
from domain.payments.reviews import (
    approve_payment,
    record_return,
    reject_payment,
    request_acceptance,
    review_discrepancy,
    reviews_of,
)
from domain.security import payload_encryption
from domain.security.digests import DIGEST_KEY, digest_key
from domain.vouchers import (
    CampaignTerms,
    CurrencyTerms,
    GrantTemplate,
    codes_of_batch,
    decide_campaign,
    end_campaign,
    generate_codes,
    import_codes,
    make_codes_for,
    redeem_code_unlimited,
    request_campaign,
    revoke_codes,
)
from tests.factories import SYSTEM, UNIT, charge, grant, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.gateways.interface import GatewayUpdate
    from tests.conftest import TestClock

SECRET = b"the secret key of this history"
VAULT = payload_encryption.Vault(b"the-secret-key-of-this-history-0123456789")
MAKER = user_actor(900, staff_role=StaffRole.FINANCE)
CHECKER = user_actor(901, staff_role=StaffRole.FINANCE)
RATE_MAKER = user_actor(904, staff_role=StaffRole.FINANCE)
ADMIN = user_actor(902, staff_role=StaffRole.ADMIN)
JOBS = system_actor("jobs")
SLIP = Evidence("slip.pdf", b"%PDF-1.7 a slip of 2026")


def session_info(clock: TestClock) -> dict[str, Any]:
    """Return what the history's sessions carry: its clock, and the key of its digests."""
    return {payload_encryption.VAULT: VAULT, CLOCK: clock, DIGEST_KEY: digest_key(SECRET)}


@dataclass
class RichHistory:
    """Who acts in the history, and what it made, by names of its own."""

    sessions: sessionmaker[Session]
    clock: TestClock
    accounts: dict[str, int] = field(default_factory=dict)
    owners: dict[str, Actor] = field(default_factory=dict)
    payments: dict[str, tuple[int, str]] = field(default_factory=dict)
    gateways: dict[str, ScriptedGateway] = field(
        default_factory=lambda: {
            name: ScriptedGateway(name=name) for name in ("vnpay", "stripe", "paypal")
        }
    )

    def build(self) -> RichHistory:
        """Make all of it."""
        self._open_accounts()
        self._put_rates_in_force()
        self._give_vouchers()
        self._top_up()
        self._put_payments_under_review()
        self._record_transfers()
        self._refund()
        self._dispute()
        self._use_credit()
        self._hold_credit()
        self._add_debt_and_settle()
        self._act_as_staff()
        self._finish()
        return self

    def do(self, work: Callable[[Session], Any]) -> Any:
        """Carry out one transaction, a minute after the last."""
        self.clock.advance(minutes=1)
        with self.sessions.begin() as session:
            return work(session)

    # ── Accounts and prices ───────────────────────────────────────────────────────────────────
    def _open_accounts(self) -> None:
        for name, site in (
            ("dong", "vn"),
            ("yen", "jp"),
            ("dollar", "global"),
            ("reviewed", "vn"),
            ("bank", "vn"),
            ("exchange", "vn"),
            ("refund", "vn"),
            ("dispute", "jp"),
        ):
            self.accounts[name], self.owners[name] = self.do(partial(payer, site=site))
        for name in ("meter", "hold", "debt", "staff"):
            self.accounts[name] = self.do(
                lambda session: open_account(
                    session, site_code="jp", name=next_key("Account"), currency="JPY", actor=SYSTEM
                )
            )

    def _put_rates_in_force(self) -> None:
        def propose(session: Session, rate: str, reason: str = "") -> int:
            return request_rate(
                session,
                base_currency="USD",
                quote_currency="VND",
                rate=Decimal(rate),
                margin_basis_points=150,
                source="A bank, transfer",
                as_of=self.clock.instant - timedelta(minutes=5),
                reason=reason,
                actor=RATE_MAKER,
            )

        def decide(session: Session, rate_id: int, *, is_approved: bool) -> None:
            decide_rate(session, rate_id=rate_id, is_approved=is_approved, actor=ADMIN)

        first = self.do(lambda session: propose(session, "25400.1234567891"))
        self.do(lambda session: decide(session, first, is_approved=True))
        second = self.do(lambda session: propose(session, "1", "Typed wrongly"))
        self.do(lambda session: decide(session, second, is_approved=False))
        self.do(lambda session: propose(session, "25500"))

    # ── Vouchers ──────────────────────────────────────────────────────────────────────────────
    def _campaign(self, offer: CurrencyTerms, **changes: Any) -> int:
        now = self.clock.instant
        terms = CampaignTerms(
            name=next_key("Campaign"),
            description="Credit of a campaign",
            offers=(offer,),
            redeem_from=now - timedelta(days=1),
            redeem_until=now + timedelta(days=300),
            validity_days=200,
            code_budget=20,
        )
        campaign_id: int = self.do(
            lambda session: request_campaign(
                session,
                terms=replace(terms, **changes),
                actor=MAKER,
                idempotency_key=next_key("campaign"),
            )
        )
        self.do(
            lambda session: decide_campaign(
                session, campaign_id=campaign_id, is_approved=True, actor=CHECKER
            )
        )
        return campaign_id

    def _give_vouchers(self) -> None:
        yen = self._yen
        offer = CurrencyTerms(
            (GrantTemplate(yen(500), ("gpu-vm",)), GrantTemplate(yen(700))), yen(50_000)
        )
        campaign = self._campaign(offer, uses_per_account=3)
        batch = self.do(
            lambda session: generate_codes(
                session, campaign_id=campaign, count=3, actor=MAKER, idempotency_key=next_key()
            )
        )
        codes = self.do(lambda session: list(codes_of_batch(session, batch_id=batch, actor=MAKER)))
        self.do(
            lambda session: import_codes(
                session,
                campaign_id=campaign,
                typed=["SAMPLE2345"],
                actor=MAKER,
                idempotency_key=next_key(),
            )
        )
        self.do(
            lambda session: make_codes_for(
                session,
                campaign_id=campaign,
                accounts=[self.accounts["yen"]],
                actor=MAKER,
                idempotency_key=next_key(),
            )
        )
        both = [self.accounts["yen"], self.accounts["dispute"]]
        self.do(
            lambda session: make_codes_for(
                session,
                campaign_id=campaign,
                accounts=both,
                actor=MAKER,
                idempotency_key=next_key(),
            )
        )
        for code in codes[:2]:
            self._redeem("yen", code)
        self.do(
            lambda session: revoke_codes(
                session, campaign_id=campaign, reason="Given away twice", actor=MAKER, code=codes[2]
            )
        )
        ended = self._campaign(offer)
        self.do(lambda session: end_campaign(session, campaign_id=ended, actor=MAKER))
        self._campaign(
            CurrencyTerms(
                (GrantTemplate(yen(100), ("gpu-container",)), GrantTemplate(yen(900))),
                yen(100_000),
                yen(3_000),
            ),
            trigger="first_top_up",
        )

    def _redeem(self, name: str, code: str) -> None:
        self.do(
            lambda session: redeem_code_unlimited(
                session,
                account_id=self.accounts[name],
                typed=code,
                actor=self.owners[name],
                idempotency_key=next_key("redeem"),
            )
        )

    # ── Payments ──────────────────────────────────────────────────────────────────────────────
    def begin(
        self, name: str, account: str, gateway: str, credit: Money, *, quote_id: int | None = None
    ) -> None:
        """Begin a payment, and remember it under `name`."""
        started = self.do(
            lambda session: begin(
                session,
                self.gateways[gateway],
                self.accounts[account],
                self.owners[account],
                credit,
                quote_id=quote_id,
            )
        )
        self.payments[name] = (started.payment_id, started.reference)

    def tell(self, gateway: str, *updates: GatewayUpdate) -> None:
        """Have a gateway say something."""
        self.do(
            lambda session: apply_updates(
                session, gateway=self.gateways[gateway], updates=updates, actor=GATEWAYS
            )
        )

    def pay(
        self, name: str, account: str, gateway: str, credit: Money, *, fee: int = 0, **changes: Any
    ) -> None:
        """Begin and pay a payment; its money is named after it."""
        self.begin(name, account, gateway, credit)
        update = replace(
            paid(self.payments[name][1], credit, number=f"money-{name}"),
            fee=Money(fee, credit.currency) if fee else None,
            occurred_at=self.clock.instant,
            method="card",
            **changes,
        )
        self.tell(gateway, update)

    def _top_up(self) -> None:
        card = Instrument("fingerprint", "card …4242")
        self.pay("konbini", "yen", "stripe", self._yen(5_000), fee=180 * UNIT, instrument=card)
        self.pay("usual", "dong", "vnpay", dong(550_000), fee=6_050 * UNIT)
        self.pay("second", "dong", "vnpay", dong(1_100_000))
        self.pay("euro", "dollar", "paypal", Money.from_minor_units(10_000, "USD"), fee=3_400_000)
        for name, state in (
            ("failed", GatewayPaymentState.FAILED),
            ("cancelled", GatewayPaymentState.CANCELLED),
            ("expired", GatewayPaymentState.EXPIRED),
        ):
            self.begin(name, "dong", "vnpay", dong(520_000))
            self.tell("vnpay", PaymentUpdate(state, reference=self.payments[name][1], code="24"))
        self.begin("open", "dong", "vnpay", dong(530_000))
        self.exchanged("exchanged", 1_000_000)

    def exchanged(self, name: str, credit: int) -> None:
        """Pay for credit in dong with dollars."""
        quote = self.do(
            lambda session: make_quote(
                session,
                account_id=self.accounts["exchange"],
                credit=dong(credit),
                pay_currency="USD",
                actor=self.owners["exchange"],
            )
        )
        self.begin(name, "exchange", "paypal", dong(credit), quote_id=quote.id)
        update = replace(
            paid(self.payments[name][1], quote.pay, number=f"money-{name}"),
            fee=Money(1_500_000, "USD"),
            occurred_at=self.clock.instant,
        )
        self.tell("paypal", update)

    def _put_payments_under_review(self) -> None:
        for name, amount in (
            ("accepted", 330_000),
            ("refused", 440_000),
            ("returned", 450_000),
            ("never came", 460_000),
            ("waiting", 470_000),
        ):
            self.begin(name, "reviewed", "vnpay", dong(550_000))
            self.tell("vnpay", paid(self.payments[name][1], dong(amount), number=f"money-{name}"))
        self._decide("accepted", request_acceptance, MAKER)
        self._decide("accepted", approve_payment, CHECKER)
        self._decide("waiting", request_acceptance, MAKER)
        for name in ("refused", "returned", "never came"):
            self._decide(name, reject_payment, MAKER)
        self.tell(
            "vnpay", paid(self.payments["accepted"][1], dong(550_000), number="money-accepted")
        )
        self._decide("accepted", review_discrepancy, MAKER)
        review = self._reviews("returned").decided[-1].review_id
        self.do(
            lambda session: record_return(session, review_id=review, reference="FT 1", actor=MAKER)
        )
        self.tell(
            "vnpay",
            PaymentUpdate(
                GatewayPaymentState.FAILED,
                reference=self.payments["never came"][1],
                gateway_payment_id="money-never came",
                code="02",
            ),
        )

    def _reviews(self, name: str) -> Any:
        return self.do(
            lambda session: reviews_of(session, payment_id=self.payments[name][0], actor=MAKER)
        )

    def _decide(self, name: str, action: Any, actor: Actor) -> None:
        found = self._reviews(name)
        case = (found.waiting[0].case if found.waiting else found.discrepancies[0]).id
        self.do(
            lambda session: action(
                session,
                payment_id=self.payments[name][0],
                case_id=case,
                reason="Seen",
                actor=actor,
            )
        )

    def _record_transfers(self) -> None:
        transfers = [
            self.do(
                partial(
                    record_transfer,
                    account_id=self.accounts["bank"],
                    amount=dong(2_000_000 + number),
                    bank_reference=f"FT26329 {number}",
                    received_on=self.clock.instant.date(),
                    evidence=SLIP,
                    remark="Invoice 7",
                    actor=MAKER,
                )
            )
            for number in range(3)
        ]
        for transfer, is_approved in zip(transfers, (True, False), strict=False):
            payment_id = self.do(
                partial(
                    decide_transfer, transfer_id=transfer, is_approved=is_approved, actor=CHECKER
                )
            )
            if is_approved:
                self.payments["transfer"] = (payment_id, "")

    # ── Money that goes out again ─────────────────────────────────────────────────────────────
    def pay_out(self, name: str, account: str, gateway: str, amount: int) -> Money:
        """Pay a payment whose money will go out again, and return what was paid."""
        paid_amount = dong(amount) if account == "refund" else self._yen(amount)
        self.pay(name, account, gateway, paid_amount)
        return paid_amount

    def ask_refund(self, name: str, amount: Money, *, answer: Any = None) -> int:
        """Ask for a refund; `answer` is what its gateway says of it, None where it is not sent."""
        payment_id, _reference = self.payments[name]
        planned = self.do(
            lambda session: request_refund(
                session,
                payment_id=payment_id,
                amount=amount,
                reason="Paid twice",
                actor=MAKER,
                idempotency_key=next_key("refund"),
            )
        )
        if answer is not None:
            gateway = ScriptedGateway(name="vnpay")
            if isinstance(answer, Exception):
                gateway.failure = answer
            else:
                gateway.refunded = RefundUpdate(next_key("re"), answer, amount)
            self.clock.advance(minutes=1)
            send_refund(self.sessions, gateway=gateway, refund_id=planned.refund_id)
        refund_id: int = planned.refund_id
        return refund_id

    def tell_refund(
        self, name: str, gateway: str, amount: Money, *, refund: str = "", **changes: Any
    ) -> None:
        """Have a gateway say that it gave money of a payment back."""
        update = RefundUpdate(
            refund or next_key("re"),
            RefundState.SUCCEEDED,
            amount,
            gateway_payment_id=f"money-{name}",
            stated_at=self.clock.instant,
        )
        self.tell(gateway, replace(update, **changes))

    def tell_dispute(
        self, name: str, gateway: str, state: DisputeState, amount: Money, **changes: Any
    ) -> None:
        """Have a gateway say how a dispute of a payment stands."""
        update = DisputeUpdate(
            f"dispute-{name}",
            state,
            amount,
            gateway_payment_id=f"money-{name}",
            reason="fraudulent",
            occurred_at=self.clock.instant,
            stated_at=self.clock.instant,
        )
        self.tell(gateway, replace(update, **changes))

    def _reverse_top_up(self, name: str, amount: Money) -> None:
        def reverse(session: Session) -> None:
            row = session.get_one(Payment, self.payments[name][0])
            assert row.entry_sequence is not None
            ledger.reverse_entry(
                session,
                account_id=row.account_id,
                entry_sequence=row.entry_sequence,
                amount_micros=amount.micros,
                reason="Recorded too high",
                actor=MAKER,
                idempotency_key=next_key("reversal"),
            )

        self.do(reverse)

    def _refund(self) -> None:
        whole, part = dong(600_000), dong(200_000)
        for name in ("waits", "pending", "refunded", "refused", "excess", "unapplied"):
            self.pay_out(name, "refund", "vnpay", 600_000)
        self.ask_refund("waits", part)
        self.ask_refund("pending", part, answer=RefundState.PENDING)
        self.ask_refund("refunded", part, answer=RefundState.SUCCEEDED)
        self.tell_refund("refunded", "vnpay", dong(100_000))
        self.ask_refund("refused", dong(150_000), answer=GatewayRefused("vnpay", "95"))
        self.tell_refund("excess", "vnpay", whole)
        self.tell_refund("excess", "vnpay", part)
        self._reverse_top_up("unapplied", dong(250_000))
        self.ask_refund("unapplied", dong(100_000), answer=RefundState.SUCCEEDED)
        self.ask_refund("unapplied", dong(300_000), answer=RefundState.SUCCEEDED)
        self._charge("refund", 2_000_000)
        self.ask_refund("refused", whole, answer=RefundState.SUCCEEDED)  # spent: becomes debt
        # Of money that bought no credit: it came beside a credited one, and went back.
        self.tell("vnpay", paid(self.payments["waits"][1], whole, number="money-beside"))
        self.tell_refund("beside", "vnpay", part, payment_reference=self.payments["waits"][1])
        early = replace(
            RefundUpdate("re-early", RefundState.SUCCEEDED, part),
            gateway_payment_id="money-early",
        )
        self.begin("early", "refund", "vnpay", whole)
        self.tell("vnpay", replace(early, payment_reference=self.payments["early"][1]))
        self.tell("vnpay", paid(self.payments["early"][1], whole, number="money-early"))
        self.exchanged("exchanged back", 2_000_003)
        self.tell_refund("exchanged back", "paypal", Money(17_010_000, "USD"))
        self.exchanged("exchanged part", 1_500_000)
        self.tell_refund("exchanged part", "paypal", Money(7_770_000, "USD"), refund="re-x")
        self.tell_refund(
            "exchanged part",
            "paypal",
            Money(7_770_000, "USD"),
            refund="re-x",
            state=RefundState.FAILED,
        )
        transfer = self.payments["transfer"][0]
        refund = self.do(
            lambda session: request_refund(
                session,
                payment_id=transfer,
                amount=dong(500_000),
                reason="Paid too much",
                actor=MAKER,
                idempotency_key=next_key("refund"),
            )
        )
        self.do(
            lambda session: record_payout(
                session, refund_id=refund.refund_id, reference="FT 99", actor=CHECKER
            )
        )

    def _dispute(self) -> None:
        whole, part = self._yen(7_000), self._yen(3_000)
        states = DisputeState
        for name in ("opened", "lost", "won", "partly", "appealed", "restored", "reversed"):
            self.pay_out(name, "dispute", "stripe", 7_000)
            fee = self._yen(1_500)
            if name != "reversed":
                self.tell_dispute(name, "stripe", states.OPEN, whole, fee=fee)
        self._charge("dispute", 45_000)
        self.tell_dispute("lost", "stripe", states.LOST, whole)
        self.tell_dispute("won", "stripe", states.WON, whole, fee=self._yen(0))
        self.tell_dispute("partly", "stripe", states.LOST, whole, lost=part)
        self.tell_dispute("appealed", "stripe", states.LOST, whole)
        self.tell_dispute("appealed", "stripe", states.OPEN, whole)
        self.tell_dispute("restored", "stripe", states.LOST, whole)
        self.tell_dispute("restored", "stripe", states.WON, whole)
        self.tell_refund("reversed", "stripe", part, is_reversal=True)
        self.tell_dispute("reversed", "stripe", states.LOST, whole, lost=part)
        self.pay_out("uncovered", "dispute", "stripe", 7_000)
        self._reverse_top_up("uncovered", self._yen(2_000))
        self.tell_dispute("uncovered", "stripe", states.LOST, whole)
        self.pay_out("taken twice", "dispute", "stripe", 7_000)
        self.tell_refund("taken twice", "stripe", whole)
        self.tell_dispute("taken twice", "stripe", states.LOST, whole)
        self.begin("claimed early", "dispute", "stripe", whole)
        self.tell_dispute(
            "claimed early",
            "stripe",
            states.OPEN,
            whole,
            payment_reference=self.payments["claimed early"][1],
        )

    # ── The ledger ────────────────────────────────────────────────────────────────────────────
    def _yen(self, amount: int) -> Money:
        return Money.from_minor_units(amount, "JPY")

    def _meter(self, account: str, *tokens: int, event: str = "") -> None:
        events = [
            UsageEvent(
                account_id=self.accounts[account],
                origin="trace",
                event_id=event or next_key("call"),
                service="ai-inference",
                occurred_at=self.clock.instant + timedelta(seconds=place),
                quantities={"input-tokens": count, "output-tokens": count + 1},
            )
            for place, count in enumerate(tokens)
        ]
        self.do(lambda session: record_usage(session, events=events, actor=SYSTEM))

    def _use_credit(self) -> None:
        meter = self.accounts["meter"]
        day = timedelta(days=1)
        soon = self.clock.instant + day
        self.do(
            lambda session: grant(
                session, meter, 1_000, kind="plan", consideration_micros=800 * UNIT
            )
        )
        self.do(lambda session: grant(session, meter, 50, kind="voucher", expires_at=soon))
        self.do(lambda session: grant(session, meter, 300))
        self._meter("meter", 1_001, 2_003)
        self._meter("meter", 777)
        self._meter("yen", 5_001, 6)
        self._meter("yen", 40_007)
        self._charge("meter", 20, service="gpu-vm")
        self._charge("meter", 100_000, service="gpu-vm", refusable=True)
        self._reverse("meter", 5, 1)
        self.clock.advance(days=2)
        self.do(lambda session: ledger.expire_grants(session, actor=JOBS))

    def _charge(self, account: str, amount: int, **options: Any) -> None:
        options.setdefault("refusable", False)
        self.do(
            lambda session: charge(
                session,
                self.accounts[account],
                amount,
                occurred_at=self.clock.instant - timedelta(seconds=7),
                **options,
            )
        )

    def _reverse(self, account: str, sequence: int, amount_micros: int | None) -> int:
        reversal: int = self.do(
            lambda session: ledger.reverse_entry(
                session,
                account_id=self.accounts[account],
                entry_sequence=sequence,
                amount_micros=amount_micros,
                reason="Charged twice",
                actor=SYSTEM,
                idempotency_key=next_key("reversal"),
            )
        )
        return reversal

    def _hold(self, amount: int, *, hours: int = 30, service: str = "gpu-vm") -> int | None:
        outcome = self.do(
            lambda session: ledger.place_hold(
                session,
                account_id=self.accounts["hold"],
                service=service,
                amount_micros=amount * UNIT,
                expires_at=self.clock.instant + timedelta(hours=hours),
                source="vm",
                actor=SYSTEM,
                idempotency_key=next_key("hold"),
            )
        )
        number: int | None = outcome.hold_number
        return number

    def _hold_credit(self) -> None:
        hold = self.accounts["hold"]
        self.do(lambda session: grant(session, hold, 40, kind="voucher", services=("gpu-vm",)))
        self.do(lambda session: grant(session, hold, 500))
        smaller, larger, voided = self._hold(60), self._hold(30), self._hold(10)
        self._hold(20, hours=1)
        self._charge("hold", 50, service="gpu-vm", hold_number=smaller)
        self._charge("hold", 80, service="gpu-vm", hold_number=larger)
        self.do(
            lambda session: ledger.void_hold(
                session,
                account_id=hold,
                hold_number=voided or 0,
                actor=SYSTEM,
                idempotency_key=next_key("void"),
            )
        )
        self.clock.advance(hours=2)
        self.do(lambda session: ledger.expire_holds(session, actor=JOBS))
        self._hold(25)
        self._hold(100_000)

    def _add_debt_and_settle(self) -> None:
        debt = self.accounts["debt"]
        self.do(lambda session: grant(session, debt, 100))
        self._charge("debt", 130, service="gpu-vm")  # 2: owes 30
        self._charge("debt", 5, service="gpu-container")  # 3
        self._reverse("debt", 2, 10 * UNIT)  # 4: gives back of the debt
        self.do(
            lambda session: grant(session, debt, 12, kind="adjustment", services=("gpu-vm",))
        )  # 5, and 6 settles
        self._reverse("debt", 2, 11 * UNIT)  # 7: the rest of the debt, and the grant that paid
        self._charge("debt", 20, service="gpu-vm")
        self.do(
            lambda session: ledger.write_off_debt(
                session,
                account_id=debt,
                amount_micros=9 * UNIT,
                reason="Nobody will pay",
                actor=SYSTEM,
                idempotency_key=next_key("write-off"),
            )
        )
        self._reverse("debt", 1, None)  # credit that is spent becomes a debt of the reversal

    # ── Staff and finance ─────────────────────────────────────────────────────────────────────
    def _person(self, role: StaffRole) -> Actor:
        user_id = self.do(
            lambda session: create_user(
                session,
                email=f"{next_key(role.value)}@example.com",
                display_name="A Person",
                password="a long word of these tests",
                staff_role=role,
                actor=SYSTEM,
            )
        )
        return user_actor(user_id, staff_role=role)

    def _act_as_staff(self) -> None:
        agent, checker = self._person(StaffRole.SUPPORT), self._person(StaffRole.FINANCE)
        campaign = self._campaign(
            CurrencyTerms((GrantTemplate(self._yen(50)),), self._yen(5_000)), is_for_support=True
        )
        self._act(agent, support.GiveGoodwill(9 * UNIT, days=90))
        self._act(agent, support.IssueVoucher(campaign))
        code = self.do(
            lambda session: next(
                codes_of_batch(
                    session,
                    batch_id=generate_codes(
                        session,
                        campaign_id=campaign,
                        count=1,
                        actor=MAKER,
                        idempotency_key=next_key(),
                    ),
                    actor=MAKER,
                )
            )
        )
        self._act(agent, support.ApplyCode(code), account="yen")
        self._act(agent, support.ReverseEntry(1, 2 * UNIT))
        waiting = self._act(agent, support.GiveGoodwill(90_000 * UNIT, days=30))
        self.do(
            lambda session: support.approve_request(
                session, request_id=waiting.request_id, actor=checker
            )
        )
        refused = self._act(agent, support.GiveGoodwill(91_000 * UNIT, days=30))
        self.do(
            lambda session: support.reject_request(
                session, request_id=refused.request_id, reason="Too much", actor=checker
            )
        )
        self._act(agent, support.GiveGoodwill(92_000 * UNIT, days=30))
        payment_id = self.payments["konbini"][0]
        part = self._yen(100).micros
        self._act(checker, support.RefundPayment(payment_id, part, "JPY"), account="yen")

    def _act(self, actor: Actor, options: Any, *, account: str = "staff") -> Any:
        return self.do(
            lambda session: support.perform_or_request(
                session,
                account_id=self.accounts[account],
                action=options,
                reason="Slow answers in March",
                actor=actor,
                idempotency_key=next_key("act"),
            )
        )

    def _finish(self) -> None:
        self.do(
            lambda session: post_journal_entry(
                session,
                site_code="jp",
                kind="payout",
                reference="po_1",
                lines=[
                    JournalLine("1010", 5 * UNIT, "JPY"),
                    JournalLine("1110.stripe", -5 * UNIT, "JPY"),
                ],
                occurred_at=self.clock.instant,
                actor=SYSTEM,
                idempotency_key="payout:po_1",
            )
        )
        self.do(lambda session: fold_totals(session, actor=JOBS, limit=20))
        self.do(lambda session: issue_documents(session, vault=VAULT, actor=JOBS))
        for state in (RefundState.SUCCEEDED, RefundState.FAILED):
            self.tell_refund("usual", "vnpay", dong(500_000), refund="re-noted", state=state)
            self.do(lambda session: issue_documents(session, vault=VAULT, actor=JOBS))


def rich_history(engine: Engine, clock: TestClock) -> RichHistory:
    """Return the history, made in the engine's database."""
    return RichHistory(make_sessions(engine, session_info(clock)), clock).build()
