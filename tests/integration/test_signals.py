"""What ties accounts together: learned as it is seen, told to staff, and kept from campaigns."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from db.engine import make_sessions
from db.models import AccountSignal, PaymentEvent, VoucherRedemption
from domain import fraud_signals, identity
from domain.accounts.sign_up import SignUp, sign_up
from domain.actors import MemberRole, StaffRole, user_actor
from domain.billing_profiles import BillingProfile, ProfileKind, save_profile
from domain.errors import NotAuthorised, VoucherRefused
from domain.fraud_signals import (
    MANY_ACCOUNTS,
    MANY_WITHIN_DAYS,
    is_linked_to_prior_account,
    main_address,
    reasons_of,
)
from domain.gateways.interface import Instrument
from domain.payments.gateway_updates import apply_updates
from domain.security.digests import DIGEST_KEY, digest_key
from domain.vouchers import redeem_code_unlimited
from tests.factories import SYSTEM, make_account, next_key
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.support.campaigns import campaign, codes
from tests.support.keys import KNOWS_VAULT
from tests.support.owner import as_owner
from tests.support.starter_packs import STRIPE, TOP_UP
from tests.support.starter_packs import pack as starter_pack

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

SUPPORT = user_actor(903, staff_role=StaffRole.SUPPORT)
SECRET = b"the secret key of these tests"
RULES = identity.AuthPolicy(key=b"a key of these tests")
HOME = identity.Client("203.0.113.7")
PASSWORD = "correct horse battery"


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return make_sessions(engine, {**KNOWS_VAULT, DIGEST_KEY: digest_key(SECRET)})


def customer(
    session: Session, *, site: str = "global", currency: str = "USD", **profile: Any
) -> tuple[int, Actor]:
    """Return an account whose billing profile is like nobody else's but where it is said."""
    account = make_account(session, site=site, currency=currency)
    number = next_key("")
    given: dict[str, Any] = {
        "kind": ProfileKind.PERSONAL,
        "name": "Lan Tran",
        "email": f"lan{number}@example.com",
        "address": f"{number} Sample Street",
        "country": "SG",
    }
    save_profile(
        session,
        account_id=account,
        profile=BillingProfile(**(given | profile)),
        currency=None,
        expected_version=0,
        actor=SYSTEM,
        idempotency_key="profile",
    )
    return account, user_actor(account + 100_000, memberships={account: MemberRole.OWNER})


def shared(session: Session, account: int) -> list[tuple[str, str, list[int]]]:
    """Return kind, words and the other accounts of each reason to look at an account."""
    found = reasons_of(session, account_id=account, actor=SUPPORT)
    return [(each.kind, each.shown, [by.account_id for by in each.accounts]) for each in found]


def kinds(session: Session, account: int) -> set[str]:
    rows = select(AccountSignal.kind).where(AccountSignal.account_id == account)
    return set(session.scalars(rows))


# ── One form of what is written in many ────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("written", "main"),
    [
        ("lan@example.com", "lan@example.com"),
        (" Lan+credits@Example.com ", "lan@example.com"),
        ("l.a.n+1@gmail.com", "lan@gmail.com"),
        ("L.an@googlemail.com", "lan@gmail.com"),
        ("l.a.n@example.com", "l.a.n@example.com"),
        ("+tag@example.com", "+tag@example.com"),
    ],
)
def test_aliases_lead_to_one_mailbox(written: str, main: str) -> None:
    assert main_address(written) == main


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_household_has_one_network(address: str, network: str) -> None:
    assert fraud_signals.network_of(address) == network


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("12 Nguyễn Huệ, Quận 1", "12 nguyen hue quan 1"),
        ("１−２−３ 千代田", "1-2-3 千代田"),  # noqa: RUF001 - as a Japanese keyboard types it
        ("5 Đường Láng", "5 DUONG LANG"),
        ("7, Rue de l'Église", "7 rue de l eglise"),
    ],
)
def test_an_address_is_one_however_it_is_typed(session: Session, one: str, same: str) -> None:
    first, _ = customer(session, address=one)
    second, _ = customer(session, address=same)
    assert shared(session, second) == [("address", "…, SG", [first])]


@pytest.mark.parametrize(
    ("one", "other"), [("1 がけ", "1 かけ"), ("12 Main Street", "1 Main Street"), ("Hue", "Hue")]
)
def test_other_addresses_and_towns_tie_nobody(session: Session, one: str, other: str) -> None:
    customer(session, address=one)
    second, _ = customer(session, address=other)
    assert shared(session, second) == []


# ── Learning and telling ──────────────────────────────────────────────────────────────────────
def test_staff_see_what_accounts_share_masked(session: Session) -> None:
    company: dict[str, Any] = {
        "site": "vn",
        "currency": "VND",
        "kind": ProfileKind.COMPANY,
        "country": "VN",
        "tax_code": "0100109106",
        "city": "Hanoi",
        "address": "1 Trang Tien",
    }
    first, _ = customer(session, email="lan.tran@gmail.com", **company)
    second, _ = customer(session, email="lantran+2@gmail.com", **company)
    stranger, _ = customer(session)
    assert shared(session, second) == [
        ("address", "…, Hanoi, VN", [first]),
        ("email", "l…@gmail.com", [first]),
        ("tax_code", "…106", [first]),
    ]
    (reason, *_) = reasons_of(session, account_id=first, actor=SUPPORT)
    (by,) = reason.accounts
    assert (by.account_id, reason.since) == (second, by.since)
    assert by.name.startswith("Account")
    assert shared(session, stranger) == []


def test_nothing_is_kept_in_clear(session: Session) -> None:
    account, _ = customer(session, email="secret@example.com", address="77 Hidden Lane")
    fraud_signals.record_network(session, account_id=account, address="203.0.113.77")
    rows = session.execute(text("SELECT s::text FROM account_signals s"))
    message = " ".join(row[0] for row in rows)
    for clear in ("secret", "Hidden", "hidden", "77 ", "113.77"):
        assert clear not in message
    assert "203.0.113.…" in message


def test_the_digest_is_the_same_after_a_restart_and_another_under_another_key(
    session: Session, engine: Engine
) -> None:
    first, _ = customer(session, email="lan@example.com")
    session.commit()
    with make_sessions(engine, {DIGEST_KEY: digest_key(SECRET)})() as restarted:
        second, _ = customer(restarted, email="lan@example.com")
        restarted.commit()
    with make_sessions(engine, {DIGEST_KEY: digest_key(b"another")})() as other:
        third, _ = customer(other, email="lan@example.com")
        other.commit()
    assert shared(session, second) == [("email", "l…@example.com", [first])]
    assert shared(session, third) == []


def test_only_staff_may_ask(session: Session) -> None:
    account, owner = customer(session)
    for actor in (owner, SYSTEM):
        with pytest.raises(NotAuthorised):
            reasons_of(session, account_id=account, actor=actor)


def test_a_new_profile_adds_to_what_is_known_and_takes_nothing_away(session: Session) -> None:
    first, _ = customer(session, email="lan@example.com")
    second, _ = customer(session, email="lan@example.com")
    save_profile(
        session,
        account_id=second,
        profile=BillingProfile(
            ProfileKind.PERSONAL, "Lan Tran", "other@example.com", "99 Elsewhere", "SG"
        ),
        currency=None,
        expected_version=1,
        actor=SYSTEM,
        idempotency_key="another",
    )
    assert shared(session, second) == [("email", "l…@example.com", [first])]


def test_what_was_paid_with_ties_accounts(session: Session) -> None:
    accounts = []
    for card in ("fpA", "fpA", "fpB"):
        account, owner = payer(session, site="jp")
        started = begin(session, STRIPE, account, owner, TOP_UP)
        update = replace(
            paid(started.reference, TOP_UP), instrument=Instrument(card, f"card …{card[-1]}")
        )
        apply_updates(session, gateway=STRIPE, updates=(update,), actor=GATEWAYS)
        accounts.append(account)
    message = [each for each in shared(session, accounts[1]) if each[0] == "instrument"]
    assert message == [("instrument", "card …A", [accounts[0]])]


def test_the_same_number_at_two_gateways_is_no_instrument_in_common(session: Session) -> None:
    found = []
    for gateway in ("stripe", "paypal"):
        account, _ = customer(session)
        digest = fraud_signals.record_instrument(
            session, account_id=account, gateway=gateway, instrument=Instrument("1", "…1")
        )
        found.append(digest)
    assert found[0] != found[1]


def sign_up_as(sessions: sessionmaker[Session], email: str, client: identity.Client = HOME) -> int:
    form = SignUp(email, "Lan Tran", PASSWORD, "Lan's account", "SG", "USD")
    assert not sign_up(sessions, form=form, client=client, policy=RULES)
    with sessions() as session:
        return int(session.execute(text("SELECT max(id) FROM accounts")).scalar_one())


def test_signing_up_and_signing_in_tell_from_where(sessions: sessionmaker[Session]) -> None:
    first = sign_up_as(sessions, "lan@gmail.com")
    second = sign_up_as(sessions, "l.an+1@gmail.com", identity.Client("198.51.100.9"))
    with sessions.begin() as session:
        assert kinds(session, first) == {"email", "network_address"}
        assert shared(session, second) == [("email", "l…@gmail.com", [first])]
        user = session.execute(text("SELECT min(id) FROM users")).scalar_one()
        away = identity.Client("2001:db8::7")
        identity.create_session(session, user_id=user, client=away, policy=RULES)
        identity.create_session(session, user_id=user, client=away, policy=RULES)
        rows = select(AccountSignal.shown).where(
            AccountSignal.account_id == first, AccountSignal.kind == "network_address"
        )
        assert set(session.scalars(rows)) == {"203.0.113.…", "2001:db8:…"}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "testclient", ""])
def test_this_computer_and_what_is_no_address_tie_nobody(session: Session, address: str) -> None:
    account, _ = customer(session)
    fraud_signals.record_network(session, account_id=account, address=address)
    assert "network_address" not in kinds(session, account)


def opened(session: Session, *days_ago: int, address: str = "203.0.113.7") -> list[int]:
    """Return accounts that were opened from one address, so many days ago each."""
    found = []
    for days in days_ago:
        account, _ = customer(session)
        fraud_signals.record_network(session, account_id=account, address=address)
        earlier = "UPDATE accounts SET created_at = now() - :days * interval '1 day' WHERE id = :id"
        with as_owner(session):
            session.execute(text(earlier), {"days": days, "id": account})
        found.append(account)
    return found


def test_many_new_accounts_from_one_address_are_told(session: Session) -> None:
    few = opened(session, *[1] * (MANY_ACCOUNTS - 1))
    opened(session, *[1] * MANY_ACCOUNTS, address="198.51.100.1")
    assert shared(session, few[0]) == []
    (last,) = opened(session, 0)
    assert shared(session, last) == [("network_address", "203.0.113.…", few)]
    assert shared(session, few[0]) == [("network_address", "203.0.113.…", [*few[1:], last])]


def test_accounts_that_come_slowly_are_no_row(session: Session) -> None:
    # Five at any time within two weeks, and never five within one.
    slow = opened(session, 14, 12, 10, 6, 4, 2)
    for account in slow:
        assert shared(session, account) == []
        assert not is_linked_to_prior_account(session, account_id=account, campaign_id=1)
    more = opened(session, MANY_WITHIN_DAYS + 1, 5)
    assert [bool(shared(session, account)) for account in (slow[0], *more)] == [False, True, True]


# ── Blocking ──────────────────────────────────────────────────────────────────────────────────
def redeem(session: Session, account: int, owner: Actor, code: str) -> None:
    redeem_code_unlimited(
        session, account_id=account, typed=code, actor=owner, idempotency_key=next_key()
    )


def test_a_campaign_that_minds_refuses_who_comes_after_another(session: Session) -> None:
    first, older = customer(session, email="lan@example.com")
    second, younger = customer(session, email="lan+2@example.com")
    minding = codes(session, campaign(session, blocks_suspects=True), 2)
    with pytest.raises(VoucherRefused) as refused:
        redeem(session, second, younger, minding[0])
    assert refused.value.reason == "suspect"
    # Whoever types somebody's tax code or address does not keep them from their credit.
    redeem(session, first, older, minding[0])
    advised = codes(session, campaign(session))
    redeem(session, second, younger, advised[0])


def test_an_older_account_does_not_get_what_the_younger_had(session: Session) -> None:
    first, older = customer(session)
    second, younger = customer(session, email="lan@example.com")
    minding = codes(session, campaign(session, blocks_suspects=True), 2)
    redeem(session, second, younger, minding[0])
    fraud_signals.record_email(session, account_id=first, email="lan@example.com")
    with pytest.raises(VoucherRefused, match="suspect"):
        redeem(session, first, older, minding[1])


def test_the_row_of_new_accounts_ends_at_its_fifth(session: Session) -> None:
    row = opened(session, *[1] * (MANY_ACCOUNTS + 1))
    suspects = [is_linked_to_prior_account(session, account_id=each, campaign_id=1) for each in row]
    assert suspects == [False] * (MANY_ACCOUNTS - 1) + [True, True]


def test_the_place_of_whoever_redeems_counts_and_that_of_staff_does_not(session: Session) -> None:
    opened(session, *[0] * (MANY_ACCOUNTS - 1))
    account, owner = customer(session)
    minding = codes(session, campaign(session, blocks_suspects=True), 2)
    with pytest.raises(VoucherRefused, match="suspect"):
        redeem(session, account, replace(owner, ip="203.0.113.7"), minding[0])
    elsewhere, other = customer(session)
    redeem(session, elsewhere, replace(other, ip="198.51.100.77"), minding[0])
    assert "network_address" in kinds(session, elsewhere)


def test_a_starter_pack_minds_too_and_the_top_up_is_credited(session: Session) -> None:
    starter_pack(session, blocks_suspects=True)
    paid_by = []
    for number in range(2):
        account, owner = payer(session, site="jp")  # all of them at the same address
        started = begin(session, STRIPE, account, owner, TOP_UP)
        update = replace(
            paid(started.reference, TOP_UP), instrument=Instrument(f"fp{number}", "card …1")
        )
        apply_updates(session, gateway=STRIPE, updates=(update,), actor=GATEWAYS)
        paid_by.append(account)
    given = session.scalars(select(VoucherRedemption.account_id)).all()
    assert given == paid_by[:1]
    message = session.scalars(
        select(PaymentEvent).where(PaymentEvent.kind == "starter_pack_refused")
    ).one()
    assert (message.account_id, message.details["reason"]) == (paid_by[1], "suspect")


def test_accounts_of_one_person_at_once_do_not_both_pass(sessions: sessionmaker[Session]) -> None:
    for place in range(5):
        with sessions.begin() as session:
            email = f"{next_key('twin')}@example.com"
            twins = [customer(session, email=email) for _ in range(4)]
            many = codes(session, campaign(session, blocks_suspects=True), len(twins))
        barrier = threading.Barrier(len(twins))

        def attempt(
            given: tuple[tuple[int, Actor], str],
            barrier: threading.Barrier = barrier,
            address: str = f"203.0.113.{place}",
        ) -> str:
            (account, owner), code = given
            barrier.wait()
            try:
                with sessions.begin() as session:
                    redeem(session, account, replace(owner, ip=address), code)
            except VoucherRefused as refusal:
                return refusal.reason
            return "redeemed"

        with ThreadPoolExecutor(len(twins)) as pool:
            outcomes = list(pool.map(attempt, zip(twins, many, strict=True)))
        assert outcomes == ["redeemed", "suspect", "suspect", "suspect"]


def test_who_becomes_one_person_while_they_redeem_does_not_both_pass(
    sessions: sessionmaker[Session],
) -> None:
    """The younger redeemed, untied; then both turn out to be one, and the older comes."""
    with sessions.begin() as session:
        first, older = payer(session)
        second, younger = customer(session)
        gateway = ScriptedGateway()
        started = begin(session, gateway, first, older, dong(500_000))
        update = paid(started.reference, dong(500_000))
        apply_updates(session, gateway=gateway, updates=(update,), actor=GATEWAYS)
        code = codes(session, campaign(session, blocks_suspects=True))[0]
        redeem(session, second, younger, code)
        campaign_id = session.scalars(select(VoucherRedemption.campaign_id)).one()
    assert now_tied(sessions, campaign_id, first, second) == [False, True, True]


def now_tied(
    sessions: sessionmaker[Session], campaign_id: int, first: int, second: int
) -> list[bool]:
    """Return whether the older is suspect before, after the tie, and the younger after it."""
    with sessions.begin() as session:
        before = is_linked_to_prior_account(session, account_id=first, campaign_id=campaign_id)
        for account in (first, second):
            fraud_signals.record_email(session, account_id=account, email="one@example.com")
        return [
            before,
            is_linked_to_prior_account(session, account_id=first, campaign_id=campaign_id),
            is_linked_to_prior_account(session, account_id=second, campaign_id=campaign_id),
        ]


def test_networks_are_forgotten_after_ninety_days_and_nothing_else(session: Session) -> None:
    account = make_account(session)
    for days, address in ((91, "203.0.113.1"), (89, "198.51.100.1")):
        moment = datetime.now(UTC) - timedelta(days=days)
        session.info["clock"] = lambda moment=moment: moment
        fraud_signals.record_network(session, account_id=account, address=address)
        fraud_signals.record_email(session, account_id=account, email=f"lan{days}@example.com")
    del session.info["clock"]
    assert identity.purge_identity(session, actor=SYSTEM) == 1
    left = session.scalars(
        select(AccountSignal.shown)
        .where(AccountSignal.account_id == account)
        .order_by(AccountSignal.shown)
    )
    assert left.all() == ["198.51.100.…", "l…@example.com", "l…@example.com"]


def test_a_reason_tells_since_when(session: Session) -> None:
    moments = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 5)]
    accounts = []
    for moment in moments:
        session.info["clock"] = lambda moment=moment: moment
        account = make_account(session)
        fraud_signals.record_email(session, account_id=account, email="lan@example.com")
        accounts.append(account)
    for account in accounts:
        (reason,) = reasons_of(session, account_id=account, actor=SUPPORT)
        assert reason.since - moments[1] == timedelta(0)
