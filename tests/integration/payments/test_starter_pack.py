"""What campaigns give with a first top-up: once an account, once an instrument, within budget."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from db.engine import make_sessions
from db.models import CampaignAmount, Payment, PaymentEvent, VoucherRedemption
from domain import ledger
from domain.errors import InvalidInput
from domain.gateways.interface import Instrument, PaymentUpdate, RefundState, RefundUpdate, Snapshot
from domain.history.pages import history_page
from domain.history.rows import HistoryFilter
from domain.ledger.balances import account_summary
from domain.money import Money
from domain.payments import check_due, starter_packs
from domain.payments.bank_transfers import decide_transfer
from domain.payments.gateway_updates import apply_updates
from domain.payments.reviews import approve_payment, request_acceptance
from domain.security.digests import DIGEST_KEY, digest_key
from domain.vouchers import (
    CampaignTerms,
    CurrencyTerms,
    GrantTemplate,
    codes_of_batch,
    decide_campaign,
    end_campaign,
    generate_codes,
    grant_redemption,
    redeem_code_unlimited,
    request_campaign,
)
from domain.vouchers.queries import account_vouchers
from tests.factories import SYSTEM, charge, grant, make_site, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, away, begin, paid, payer
from tests.support.keys import KNOWS_VAULT
from tests.support.starter_packs import ANOTHER, FINANCE, PACK, SPLIT, STRIPE, TOP_UP, pack, yen
from tests.support.transfers import CHECKER, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

SECRET = b"the secret key of these tests"
CARD, OTHER_CARD = Instrument("fpA", "card …4242"), Instrument("fpB", "card …4444")


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return make_sessions(engine, {**KNOWS_VAULT, DIGEST_KEY: digest_key(SECRET)})


def begun(session: Session, amount: Money = TOP_UP) -> tuple[int, str]:
    """Return a new account in Japan and the reference of a payment that it began."""
    account, owner = payer(session, site="jp")
    return account, begin(session, STRIPE, account, owner, amount).reference


def pay(
    session: Session,
    reference: str,
    amount: Money = TOP_UP,
    *,
    instrument: Instrument | None = CARD,
    **changes: Any,
) -> PaymentUpdate:
    update = replace(paid(reference, amount), instrument=instrument, **changes)
    apply_updates(session, gateway=STRIPE, updates=(update,), actor=GATEWAYS)
    return update


def balance(session: Session, account: int) -> Money:
    summary = account_summary(session, actor=SYSTEM, account_id=account)
    return Money(summary.balance_micros, summary.currency)


def steps(session: Session, account: int) -> list[tuple[str, Any]]:
    """Return what the payments' timelines say of packs."""
    rows = session.scalars(
        select(PaymentEvent)
        .where(PaymentEvent.account_id == account, PaymentEvent.kind.startswith("starter_pack"))
        .order_by(PaymentEvent.id)
    )
    return [(row.kind.removeprefix("starter_pack"), row.details.get("reason")) for row in rows]


def check_ledger(session: Session) -> None:
    assert ledger.verify_ledger(session, actor=SYSTEM) == []


# ── What is given ─────────────────────────────────────────────────────────────────────────────
def test_a_first_top_up_gives_the_split(session: Session) -> None:
    pack(session)
    account, reference = begun(session)
    pay(session, reference)
    assert balance(session, account) == TOP_UP + PACK
    (voucher,) = account_vouchers(session, actor=SYSTEM, account_id=account)
    assert (voucher.code, voucher.description, voucher.amount) == (None, "Starter pack", PACK)
    grants = session.execute(
        text(
            "SELECT kind, amount_micros / 1000000, services, consideration_micros > 0"
            " FROM grants WHERE account_id = :id AND kind <> 'overdraft' ORDER BY grant_number"
        ),
        {"id": account},
    ).all()
    assert [tuple(row) for row in grants] == [
        ("top_up", 3_000, None, True),
        ("voucher", 1_000, ["gpu-container"], False),
        ("voucher", 1_000, ["gpu-vm"], False),
        ("voucher", 1_000, ["ai-notebook"], False),
        ("voucher", 7_000, None, False),
    ]
    assert steps(session, account) == [("", None)]
    check_ledger(session)


def test_credit_history_tells_where_it_came_from_without_a_code(session: Session) -> None:
    pack(session)
    account, reference = begun(session)
    pay(session, reference)
    page = history_page(
        session,
        actor=SYSTEM,
        account_id=account,
        filters=HistoryFilter(),
    )
    vouchers = [row for row in page.rows if row.kind == "voucher"]
    assert len(vouchers) == len(SPLIT)
    for row in vouchers:
        assert row.description_parameters["origin"] is None
        assert row.description_parameters["reason"] == "Starter pack"


def test_the_credit_of_a_service_is_spent_by_it_alone(session: Session) -> None:
    pack(session)
    account, reference = begun(session)
    pay(session, reference)
    charge(session, account, 1_500, service="gpu-vm", occurred_at=datetime.now(UTC))
    left = session.execute(
        text(
            "SELECT coalesce(services[1], kind), remaining_micros / 1000000 FROM grant_balances"
            " WHERE account_id = :id AND kind <> 'overdraft' ORDER BY grant_number"
        ),
        {"id": account},
    ).all()
    assert [tuple(row) for row in left] == [
        ("top_up", 3_000),
        ("gpu-container", 1_000),
        ("gpu-vm", 0),
        ("ai-notebook", 1_000),
        ("voucher", 6_500),
    ]


def test_every_campaign_that_fits_gives_in_the_order_of_their_ids(session: Session) -> None:
    first, second = pack(session), pack(session)
    account, reference = begun(session)
    pay(session, reference)
    assert balance(session, account) == TOP_UP + PACK + PACK
    found = session.scalars(select(VoucherRedemption.campaign_id).order_by(VoucherRedemption.id))
    assert list(found) == [first, second]


def test_a_bank_transfer_is_a_top_up_too(session: Session) -> None:
    account, _ = payer(session, site="jp")
    pack(session)
    transfer = record(session, account, amount=TOP_UP)
    decide_transfer(session, transfer_id=transfer, is_approved=True, actor=CHECKER)
    assert balance(session, account) == TOP_UP + PACK


def test_money_at_a_store_has_no_instrument_and_earns_it_once_an_account(session: Session) -> None:
    pack(session)
    for _ in range(2):
        account, reference = begun(session)
        pay(session, reference, instrument=None)
        assert balance(session, account) == TOP_UP + PACK


# ── What is not given ─────────────────────────────────────────────────────────────────────────
def now_and(**delta: int) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


def dollars(amount: int) -> Money:
    return Money.from_minor_units(amount * 100, "USD")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"minimum": 3_001}, []),
        ({"redeem_from": now_and(days=1)}, []),
        ({"offers": (CurrencyTerms((GrantTemplate(dollars(1)),), dollars(9), dollars(1)),)}, []),
        ({"countries": ("US",)}, [("_refused", "wrong_country")]),
    ],
    ids=["minimum", "window", "currency", "country"],
)
def test_a_campaign_that_does_not_fit_gives_nothing(
    session: Session, changes: dict[str, Any], why: list[tuple[str, str]]
) -> None:
    pack(session, **changes)
    account, reference = begun(session)
    pay(session, reference)
    assert balance(session, account) == TOP_UP
    assert steps(session, account) == why


def test_a_campaign_of_another_site_gives_nothing(session: Session) -> None:
    other = make_site(session, code="other", zone="UTC")
    offers = (CurrencyTerms((GrantTemplate(dollars(100)),), dollars(1_000), dollars(1)),)
    given = pack(session, site_codes=("global",), offers=offers)
    pack(session, site_codes=(other,), offers=offers)
    account, owner = payer(session, site="global")
    paypal = ScriptedGateway(name="paypal")
    started = begin(session, paypal, account, owner, dollars(25))
    update = paid(started.reference, dollars(25))
    apply_updates(session, gateway=paypal, updates=(update,), actor=GATEWAYS)
    assert balance(session, account) == dollars(125)
    assert session.scalars(select(VoucherRedemption.campaign_id)).all() == [given]


def test_a_campaign_that_ended_or_waits_for_approval_gives_nothing(session: Session) -> None:
    end_campaign(session, campaign_id=pack(session), actor=FINANCE)
    account, reference = begun(session)
    pay(session, reference)
    assert balance(session, account) == TOP_UP


def test_a_second_top_up_gives_nothing(session: Session) -> None:
    account, owner = payer(session, site="jp")
    pay(session, begin(session, STRIPE, account, owner, TOP_UP).reference)
    pack(session)
    pay(session, begin(session, STRIPE, account, owner, TOP_UP).reference)
    assert balance(session, account) == TOP_UP + TOP_UP
    assert steps(session, account) == []


def test_a_top_up_that_came_by_no_payment_counts_as_the_first(session: Session) -> None:
    account, owner = payer(session, site="jp")
    grant(session, account, 5)
    pack(session)
    pay(session, begin(session, STRIPE, account, owner, TOP_UP).reference)
    assert balance(session, account) == yen(3_005)


def test_a_campaign_for_new_accounts_takes_none_that_had_a_voucher(session: Session) -> None:
    account, reference = begun(session)
    grant(session, account, 5, kind="voucher")
    pack(session, is_for_new_accounts=True)
    pay(session, reference)
    assert balance(session, account) == yen(3_005)
    assert steps(session, account) == [("_refused", "not_new")]
    other, reference = begun(session)
    pay(session, reference)
    assert balance(session, other) == TOP_UP + PACK


def test_the_same_card_gives_it_once_and_another_card_again(session: Session) -> None:
    pack(session)
    (first, one), (second, two), (third, three) = (begun(session) for _ in range(3))
    pay(session, one)
    pay(session, two)
    pay(session, three, instrument=OTHER_CARD)
    assert balance(session, first) == balance(session, third) == TOP_UP + PACK
    assert balance(session, second) == TOP_UP
    assert steps(session, second) == [("_refused", "instrument_seen")]
    check_ledger(session)


def test_what_was_paid_with_stands_nowhere_in_clear(session: Session) -> None:
    pack(session)
    _, reference = begun(session)
    pay(session, reference, instrument=Instrument("fingerprintInClear", "card …4242"))
    session.flush()
    for table in ("account_signals", "voucher_redemptions", "payment_events", "audit_log"):
        rows = session.execute(text(f"SELECT t::text FROM {table} t"))  # noqa: S608 - from above
        message = " ".join(row[0] for row in rows)
        assert "fingerprintInClear" not in message
        assert b"fingerprintInClear".hex() not in message


def test_a_spent_budget_does_not_stop_the_top_up(session: Session) -> None:
    pack(session, budget=19_999)
    (first, one), (second, two) = begun(session), begun(session)
    pay(session, one)
    pay(session, two, instrument=OTHER_CARD)
    assert balance(session, first) == TOP_UP + PACK
    assert balance(session, second) == TOP_UP
    assert steps(session, second) == [("_refused", "budget_spent")]
    assert account_vouchers(session, actor=SYSTEM, account_id=second) == ()
    check_ledger(session)


def test_a_fault_of_a_campaign_does_not_stop_the_top_up_nor_the_next_campaign(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = pack(session), pack(session)
    account, reference = begun(session)

    def give_or_fail(session: Session, **given: Any) -> VoucherRedemption:
        redemption = grant_redemption(session, **given)
        if given["campaign"].id == broken:
            raise InvalidInput("services", "unknown")
        return redemption

    monkeypatch.setattr(starter_packs, "grant_redemption", give_or_fail)
    pay(session, reference)
    assert balance(session, account) == TOP_UP + PACK
    assert steps(session, account) == [("_refused", "fault"), ("", None)]
    spent = session.get_one(CampaignAmount, (broken, "JPY"), populate_existing=True)
    assert (spent.granted_micros, spent.redemptions) == (0, 0)
    assert session.get_one(CampaignAmount, (sound, "JPY")).redemptions == 1
    check_ledger(session)


# ── What is told later ────────────────────────────────────────────────────────────────────────
def later(session: Session, update: PaymentUpdate, **changes: Any) -> None:
    """Tell the same once more, as the answer to a question of ours."""
    again = replace(update, instrument=CARD, asking_tells_instrument=False, **changes)
    apply_updates(session, gateway=STRIPE, updates=(again,), actor=GATEWAYS)


def test_a_pack_waits_for_the_instrument_and_the_credit_does_not(session: Session) -> None:
    pack(session)
    account, reference = begun(session)
    update = pay(session, reference, instrument=None, asking_tells_instrument=True)
    assert balance(session, account) == TOP_UP
    row = session.scalars(select(Payment).where(Payment.reference == reference)).one()
    assert row.next_check_at is not None
    assert row.next_check_at <= datetime.now(UTC)
    apply_updates(session, gateway=STRIPE, updates=(update,), actor=GATEWAYS)
    assert balance(session, account) == TOP_UP
    for _ in range(2):
        later(session, update)
        assert balance(session, account) == TOP_UP + PACK
    assert steps(session, account) == [("_waits", None), ("", None)]
    check_ledger(session)


def test_a_gateway_that_is_away_is_asked_again(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        pack(session)
        account, reference = begun(session)
        update = pay(session, reference, instrument=None, asking_tells_instrument=True)
    gateway = ScriptedGateway(name="stripe", failure=away("stripe"))
    check_due(sessions, gateways={"stripe": gateway}, actor=SYSTEM)
    with sessions.begin() as session:
        row = session.scalars(select(Payment).where(Payment.reference == reference)).one()
        assert row.next_check_at is not None
        assert row.next_check_at > datetime.now(UTC)
        row.next_check_at = datetime.now(UTC)
    message = replace(update, instrument=CARD, asking_tells_instrument=False)
    gateway = ScriptedGateway(name="stripe", snapshot=Snapshot(message))
    check_due(sessions, gateways={"stripe": gateway}, actor=SYSTEM)
    with sessions() as session:
        assert balance(session, account) == TOP_UP + PACK


def test_the_day_of_the_credit_counts_however_late_the_instrument_is_told(session: Session) -> None:
    pack(session)
    account, reference = begun(session)
    update = pay(session, reference, instrument=None, asking_tells_instrument=True)
    late = pack(session, name="Approved after it")
    later(session, update)
    assert balance(session, account) == TOP_UP + PACK
    campaigns = session.scalars(select(VoucherRedemption.campaign_id)).all()
    assert late not in campaigns


def test_a_campaign_that_ended_meanwhile_gives_nothing(session: Session) -> None:
    campaign_id = pack(session)
    account, reference = begun(session)
    update = pay(session, reference, instrument=None, asking_tells_instrument=True)
    end_campaign(session, campaign_id=campaign_id, actor=FINANCE)
    later(session, update)
    assert balance(session, account) == TOP_UP
    assert steps(session, account) == [("_waits", None), ("_refused", "over")]


def test_money_that_went_back_meanwhile_earns_nothing(session: Session) -> None:
    pack(session)
    account, reference = begun(session)
    update = pay(session, reference, instrument=None, asking_tells_instrument=True)
    refund = RefundUpdate(
        gateway_refund_id=next_key("refund"),
        state=RefundState.SUCCEEDED,
        amount=TOP_UP,
        gateway_payment_id=update.gateway_payment_id,
    )
    apply_updates(session, gateway=STRIPE, updates=(refund,), actor=GATEWAYS)
    later(session, update)
    assert balance(session, account) == yen(0)
    assert steps(session, account) == [("_waits", None), ("_refused", "money_went_back")]


def test_a_pack_that_was_given_stays_when_the_money_goes_back(session: Session) -> None:
    pack(session)
    account, reference = begun(session)
    update = pay(session, reference)
    refund = RefundUpdate(
        gateway_refund_id=next_key("refund"),
        state=RefundState.SUCCEEDED,
        amount=TOP_UP,
        gateway_payment_id=update.gateway_payment_id,
    )
    apply_updates(session, gateway=STRIPE, updates=(refund,), actor=GATEWAYS)
    assert balance(session, account) == PACK
    check_ledger(session)


def test_money_that_people_accepted_earns_a_pack_of_what_came(session: Session) -> None:
    pack(session)
    account, reference = begun(session, yen(4_000))
    update = pay(session, reference, TOP_UP)
    case = session.scalars(
        select(PaymentEvent).where(
            PaymentEvent.account_id == account, PaymentEvent.kind == "wrong_amount"
        )
    ).one()
    for decide, actor in ((request_acceptance, FINANCE), (approve_payment, ANOTHER)):
        decide(
            session,
            payment_id=case.payment_id,
            case_id=case.id,
            reason="It came",
            actor=actor,
        )
    assert balance(session, account) == TOP_UP
    later(session, update)
    assert balance(session, account) == TOP_UP + PACK


def test_without_a_key_nothing_is_given_for_an_instrument(engine: Engine) -> None:
    with make_sessions(engine)() as session:
        pack(session)
        account, reference = begun(session)
        pay(session, reference)
        assert balance(session, account) == TOP_UP
        assert steps(session, account) == [("_refused", "no_key")]


# ── At once ───────────────────────────────────────────────────────────────────────────────────
def at_once(jobs: list[Callable[[], Any]]) -> list[Any]:
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        barrier.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def paying(
    sessions: sessionmaker[Session], reference: str, instrument: Instrument | None
) -> Callable[[], None]:
    def job() -> None:
        with sessions.begin() as session:
            pay(session, reference, instrument=instrument)

    return job


@pytest.mark.parametrize("cards", [(CARD, CARD), (CARD, OTHER_CARD), (None, None)])
def test_two_first_top_ups_of_an_account_at_once_give_it_once(
    sessions: sessionmaker[Session], cards: tuple[Instrument | None, ...]
) -> None:
    for _ in range(5):
        with sessions.begin() as session:
            campaign_id = pack(session)
            account, owner = payer(session, site="jp")
            references = [
                begin(session, STRIPE, account, owner, TOP_UP).reference for _ in range(2)
            ]
        at_once([paying(sessions, *each) for each in zip(references, cards, strict=True)])
        with sessions.begin() as session:
            assert balance(session, account) == TOP_UP + TOP_UP + PACK
            end_campaign(session, campaign_id=campaign_id, actor=FINANCE)
            check_ledger(session)


def test_one_card_in_many_accounts_at_once_gives_it_once(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        pack(session)
        many = [begun(session) for _ in range(8)]
    at_once([paying(sessions, reference, CARD) for _, reference in many])
    with sessions() as session:
        balances = sorted(balance(session, account).micros for account, _ in many)
        assert balances == [TOP_UP.micros] * 7 + [(TOP_UP + PACK).micros]
        check_ledger(session)


def test_answers_and_webhooks_at_once_give_it_once(sessions: sessionmaker[Session]) -> None:
    """Two accounts with one card, each with two payments: some wait, and some are told at once."""
    with sessions.begin() as session:
        pack(session)
        updates, accounts = [], []
        for _ in range(2):
            account, owner = payer(session, site="jp")
            first = begin(session, STRIPE, account, owner, TOP_UP).reference
            waiting = pay(session, first, instrument=None, asking_tells_instrument=True)
            second = paid(begin(session, STRIPE, account, owner, TOP_UP).reference, TOP_UP)
            answered = replace(waiting, instrument=CARD, asking_tells_instrument=False)
            updates += [answered, answered, waiting, replace(second, instrument=CARD)]
            accounts.append(account)

    def telling(update: PaymentUpdate) -> Callable[[], None]:
        def job() -> None:
            with sessions.begin() as session:
                apply_updates(session, gateway=STRIPE, updates=(update,), actor=GATEWAYS)

        return job

    at_once([telling(update) for update in updates])
    with sessions() as session:
        balances = sorted(balance(session, account).micros for account in accounts)
        twice = (TOP_UP + TOP_UP).micros
        assert balances == [twice, twice + PACK.micros]
        check_ledger(session)


def test_a_code_of_the_same_account_meanwhile_waits_for_nobody_in_a_circle(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        pack(session)
        now = datetime.now(UTC)
        coded = request_campaign(
            session,
            terms=CampaignTerms(
                name=next_key("Codes"),
                description="Codes",
                offers=(CurrencyTerms((GrantTemplate(yen(500)),), yen(500_000)),),
                redeem_from=now - timedelta(days=1),
                redeem_until=now + timedelta(days=30),
                validity_days=30,
                code_budget=100,
            ),
            actor=FINANCE,
            idempotency_key=next_key(),
        )
        decide_campaign(session, campaign_id=coded, is_approved=True, actor=ANOTHER)
        batch = generate_codes(
            session, campaign_id=coded, count=6, actor=FINANCE, idempotency_key=next_key()
        )
        many = list(codes_of_batch(session, batch_id=batch, actor=FINANCE))
        people = []
        for _ in many:
            account, owner = payer(session, site="jp")
            owner = replace(owner, ip="203.0.113.9")
            people.append((account, owner, begin(session, STRIPE, account, owner, TOP_UP)))

    def redeeming(account: int, owner: Any, code: str) -> Callable[[], None]:
        def job() -> None:
            with sessions.begin() as session:
                redeem_code_unlimited(
                    session, account_id=account, typed=code, actor=owner, idempotency_key="one"
                )

        return job

    jobs = []
    for number, ((account, owner, started), code) in enumerate(zip(people, many, strict=True)):
        card = Instrument(f"fp{number}", "card …4242")
        jobs += [paying(sessions, started.reference, card), redeeming(account, owner, code)]
    at_once(jobs)
    with sessions() as session:
        for account, _owner, _started in people:
            assert balance(session, account) == TOP_UP + PACK + yen(500)
        check_ledger(session)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(
    affordable=st.integers(1, 6),
    cards=st.lists(st.integers(0, 4), min_size=2, max_size=8),
)
def test_however_many_pay_at_once_a_budget_is_kept(
    sessions: sessionmaker[Session], affordable: int, cards: list[int]
) -> None:
    with sessions.begin() as session:
        campaign_id = pack(session, budget=10_000 * affordable + 9_999)
        many = [begun(session) for _ in cards]
    at_once(
        [
            paying(sessions, reference, Instrument(f"fp{card}", "card …1"))
            for (_, reference), card in zip(many, cards, strict=True)
        ]
    )
    with sessions.begin() as session:
        amount = session.get_one(CampaignAmount, (campaign_id, "JPY"))
        assert amount.redemptions == min(affordable, len(set(cards)))
        total = sum(balance(session, account).micros for account, _ in many)
        assert total == len(cards) * TOP_UP.micros + amount.granted_micros
        end_campaign(session, campaign_id=campaign_id, actor=FINANCE)
        check_ledger(session)
