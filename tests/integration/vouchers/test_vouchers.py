"""Campaigns, codes and redeeming, on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from db.models import AuditRecord, CampaignAmount, VoucherCode, VoucherRedemption
from domain import ledger
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import (
    AlreadyDecided,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NotAuthorised,
    NotFound,
    RateLimited,
    VoucherRefused,
)
from domain.ledger.balances import account_overview, account_summary
from domain.ledger.verify import verify_ledger
from domain.money import Money
from domain.vouchers import (
    CurrencyTerms,
    GrantTemplate,
    codes_of_batch,
    count_codes,
    count_revocable,
    decide_campaign,
    end_campaign,
    find_campaign,
    generate_codes,
    hide_code,
    import_codes,
    issue_code,
    list_batches,
    lock_campaign,
    make_codes_for,
    read_code,
    redeem_code,
    request_campaign,
    revoke_codes,
)
from domain.vouchers import codes as voucher_codes
from domain.vouchers.queries import account_vouchers, waiting_vouchers
from tests.factories import SYSTEM, charge, grant, make_account, next_key
from tests.support.campaigns import (
    ANOTHER,
    FINANCE,
    a_code,
    campaign,
    codes,
    customer,
    dollars,
    offer,
    redeem,
    terms,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor

SUPPORT = user_actor(903, staff_role=StaffRole.SUPPORT)
KEY = b"a key of these tests"


def balance(session: Session, account: int) -> Money:
    summary = account_summary(session, actor=SYSTEM, account_id=account)
    return Money(summary.balance_micros, summary.currency)


def refusal(session: Session, account: int, owner: Actor, code: str) -> str:
    """Return why a code is refused; a refusal leaves everything as it was."""
    before = entries(session)
    with pytest.raises(VoucherRefused) as refused:
        redeem(session, account, owner, code)
    assert entries(session) == before
    return refused.value.reason


def entries(session: Session) -> list[tuple[int, ...]]:
    counted = text(
        "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM voucher_redemptions),"
        " (SELECT coalesce(sum(uses), 0) FROM voucher_codes),"
        " (SELECT coalesce(sum(granted_micros), 0) FROM campaign_amounts)"
    )
    return [tuple(row) for row in session.execute(counted)]


# ── Reading a code ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("ABCD234567", "ABCD234567"),
        ("  abcd-234-567 ", "ABCD234567"),
        ("abcd 234 567\n", "ABCD234567"),
        ("ＡＢＣＤ２３４５６７", "ABCD234567"),  # noqa: RUF001 - as a Japanese keyboard types it
        ("abcd\u2013234\u2014567", "ABCD234567"),
        ("ABCD23456", ""),
        ("ABCD2345678", ""),
        ("ABCD23456É", ""),
        ("", ""),
        ("'; DROP --", ""),
    ],
)
def test_a_code_is_read_as_people_type_it(typed: str, read: str) -> None:
    assert read_code(typed) == read


def test_a_hidden_code_shows_its_end_only() -> None:
    assert hide_code("ABCD234567") == "••••••4567"


# ── Campaigns ─────────────────────────────────────────────────────────────────────────────────
def test_nobody_approves_their_own_campaign(session: Session) -> None:
    campaign_id = request_campaign(session, terms=terms(), actor=FINANCE, idempotency_key="one")
    with pytest.raises(NotAuthorised):
        decide_campaign(session, campaign_id=campaign_id, is_approved=True, actor=FINANCE)
    with pytest.raises(Conflict, match="campaign_not_approved"):
        codes(session, campaign_id)
    decide_campaign(session, campaign_id=campaign_id, is_approved=True, actor=ANOTHER)
    decide_campaign(session, campaign_id=campaign_id, is_approved=True, actor=ANOTHER)
    with pytest.raises(Conflict, match="already_decided"):
        decide_campaign(session, campaign_id=campaign_id, is_approved=False, actor=ANOTHER)
    assert find_campaign(session, campaign_id=campaign_id, actor=SUPPORT).state == "approved"


def test_what_a_campaign_was_before_and_after_is_written_down(session: Session) -> None:
    campaign_id = campaign(session)
    end_campaign(session, campaign_id=campaign_id, actor=FINANCE)
    expected = AuditRecord.action.in_(("decide_campaign", "end_campaign"))
    assert list(
        session.scalars(select(AuditRecord.details).where(expected).order_by(AuditRecord.id))
    ) == [
        {"campaign": campaign_id, "from": "requested", "to": "approved"},
        {"campaign": campaign_id, "from": "approved", "to": "ended"},
    ]


def test_a_refused_campaign_makes_no_codes(session: Session) -> None:
    campaign_id = request_campaign(session, terms=terms(), actor=FINANCE, idempotency_key="one")
    decide_campaign(session, campaign_id=campaign_id, is_approved=False, actor=ANOTHER)
    with pytest.raises(Conflict, match="campaign_not_approved"):
        codes(session, campaign_id)


def test_a_campaign_is_proposed_once(session: Session) -> None:
    expected = terms()
    first, second = (
        request_campaign(session, terms=expected, actor=FINANCE, idempotency_key="one")
        for _ in range(2)
    )
    assert first == second
    with pytest.raises(IdempotencyMismatch):
        request_campaign(
            session,
            terms=replace(expected, validity_days=31),
            actor=FINANCE,
            idempotency_key="one",
        )
    with pytest.raises(Conflict, match="name_is_taken"):
        request_campaign(
            session,
            terms=replace(expected, name=expected.name.upper()),
            actor=FINANCE,
            idempotency_key="two",
        )


def test_what_was_proposed_is_what_staff_see(session: Session) -> None:
    expected = terms(
        offers=(
            CurrencyTerms(
                (GrantTemplate(dollars(10), ("gpu-vm",)), GrantTemplate(dollars(70))),
                dollars(800),
            ),
        ),
        site_codes=("global",),
        countries=("SG", "US"),
        uses_per_account=2,
        is_for_support=True,
    )
    campaign_id = request_campaign(session, terms=expected, actor=FINANCE, idempotency_key="one")
    session.expire_all()
    seen = find_campaign(session, campaign_id=campaign_id, actor=FINANCE)
    assert seen.terms == expected
    assert (seen.state, seen.codes, seen.redemptions) == ("requested", 0, 0)
    assert seen.granted == (dollars(0),)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": " "}, ("name", "empty")),
        ({"description": ""}, ("description", "empty")),
        ({"description": "x" * 201}, ("description", "too_long")),
        ({"redeem_until": datetime(2020, 1, 1, tzinfo=UTC)}, ("redeem_until", "too_early")),
        ({"validity_days": 0}, ("validity_days", "out_of_range")),
        ({"code_budget": 0}, ("code_budget", "out_of_range")),
        ({"uses_per_code": 0}, ("uses_per_code", "out_of_range")),
        ({"trigger": "birthday"}, ("trigger", "unknown")),
        ({"site_codes": ("mars",)}, ("site_codes", "unknown")),
        ({"countries": ("sg",)}, ("countries", "unknown")),
        ({"offers": ()}, ("offers", "empty")),
        ({"offers": (offer(), offer())}, ("offers", "twice")),
        ({"offers": (CurrencyTerms((), dollars(1)),)}, ("parts", "empty")),
        ({"offers": (offer(amount=50, budget=49),)}, ("budget", "below_amount")),
        (
            {"offers": (CurrencyTerms((GrantTemplate(dollars(0)),), dollars(1)),)},
            ("parts", "not_positive"),
        ),
        (
            {"offers": (CurrencyTerms((GrantTemplate(dollars(1), ("tea",)),), dollars(1)),)},
            ("services", "unknown"),
        ),
        ({"trigger": "first_top_up"}, ("minimum_top_up", "empty")),
        (
            {"offers": (replace(offer(), minimum_top_up=dollars(1)),)},
            ("minimum_top_up", "not_for_codes"),
        ),
        (
            {"site_codes": ("vn",)},
            ("offers", "wrong_currency"),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_terms_that_do_not_fit_together_are_refused(
    session: Session, changes: dict[str, Any], fault: tuple[str, str]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        request_campaign(session, terms=terms(**changes), actor=FINANCE, idempotency_key="one")
    assert (refused.value.field, refused.value.reason) == fault


# ── Codes ─────────────────────────────────────────────────────────────────────────────────────
def test_a_hundred_thousand_codes_are_made_and_read_again_in_one_go(session: Session) -> None:
    campaign_id = campaign(session, code_budget=100_000)
    batch = generate_codes(
        session, campaign_id=campaign_id, count=100_000, actor=FINANCE, idempotency_key="one"
    )
    made = list(codes_of_batch(session, batch_id=batch, actor=FINANCE))
    assert len(set(made)) == 100_000
    assert all(read_code(code) == code for code in made)
    assert not set("01ILO") & set("".join(made))
    # Chance uses every letter about as often as any other.
    letters = Counter("".join(made))
    assert min(letters.values()) > 0.9 * max(letters.values())
    again = generate_codes(
        session, campaign_id=campaign_id, count=100_000, actor=FINANCE, idempotency_key="one"
    )
    assert again == batch
    with pytest.raises(Conflict, match="code_budget_spent"):
        codes(session, campaign_id)
    assert count_codes(session, campaign_id=campaign_id)["made"] == 100_000


def test_codes_made_elsewhere_are_brought_in_all_or_none(session: Session) -> None:
    campaign_id = campaign(session)
    with pytest.raises(InvalidInput) as refused:
        import_codes(
            session,
            campaign_id=campaign_id,
            typed=["PARTNER001", "too short"],
            actor=FINANCE,
            idempotency_key="one",
        )
    assert (refused.value.reason, refused.value.values) == ("not_a_code", {"line": 2})
    with pytest.raises(InvalidInput, match="twice"):
        import_codes(
            session,
            campaign_id=campaign_id,
            typed=["PARTNER001", "partner-001"],
            actor=FINANCE,
            idempotency_key="two",
        )
    batch = import_codes(
        session,
        campaign_id=campaign_id,
        typed=["partner-001", "PARTNER002"],
        actor=FINANCE,
        idempotency_key="three",
    )
    assert list(codes_of_batch(session, batch_id=batch, actor=FINANCE)) == [
        "PARTNER001",
        "PARTNER002",
    ]
    with pytest.raises(InvalidInput, match="taken"):
        import_codes(
            session,
            campaign_id=campaign_id,
            typed=["PARTNER003", "PARTNER002"],
            actor=FINANCE,
            idempotency_key="four",
        )
    assert [
        each.kind for each in list_batches(session, campaign_id=campaign_id, actor=FINANCE)
    ] == ["imported"]


def test_who_takes_codes_away_is_written_down(session: Session) -> None:
    codes(session, campaign(session))
    taken = session.scalars(select(AuditRecord).where(AuditRecord.action == "download_codes")).one()
    assert taken.actor == "user:901"


@pytest.mark.parametrize("actor", [SUPPORT, user_actor(7)], ids=["support", "customer"])
@pytest.mark.parametrize(
    "act",
    [
        lambda session, who, _number: request_campaign(
            session, terms=terms(), actor=who, idempotency_key="x"
        ),
        lambda session, who, number: decide_campaign(
            session, campaign_id=number, is_approved=True, actor=who
        ),
        lambda session, who, number: end_campaign(session, campaign_id=number, actor=who),
        lambda session, who, number: generate_codes(
            session, campaign_id=number, count=1, actor=who, idempotency_key="x"
        ),
        lambda session, who, number: import_codes(
            session, campaign_id=number, typed=["A234567890"], actor=who, idempotency_key="x"
        ),
        lambda session, who, number: revoke_codes(
            session, campaign_id=number, reason="lost", actor=who
        ),
        lambda session, who, number: codes_of_batch(session, batch_id=number, actor=who),
        lambda session, who, number: list_batches(session, campaign_id=number, actor=who),
    ],
    ids=["propose", "decide", "end", "generate", "import", "revoke", "download", "batches"],
)
def test_campaigns_are_finances_and_admins(
    session: Session, actor: Actor, act: Callable[..., object]
) -> None:
    campaign_id = campaign(session)
    with pytest.raises(NotAuthorised):
        act(session, actor, campaign_id)


# ── Redeeming ─────────────────────────────────────────────────────────────────────────────────
def test_a_code_becomes_credit_at_once(session: Session) -> None:
    account, owner = customer(session)
    code = a_code(session)
    redeemed = redeem(session, account, owner, code.lower())
    assert redeemed.amount == dollars(50)
    assert balance(session, account) == dollars(50)
    (row,) = account_vouchers(session, actor=owner, account_id=account)
    assert (row.code, row.description, row.status) == (code, "Spring credit", "active")
    assert (row.amount, row.remaining, row.services) == (dollars(50), dollars(50), ())
    assert row.expires_at == redeemed.expires_at
    valid = redeemed.expires_at - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < valid <= timedelta(days=30, minutes=1)
    assert verify_ledger(session, actor=SYSTEM) == []


def test_the_same_request_again_gives_nothing_more(session: Session) -> None:
    account, owner = customer(session)
    code = a_code(session)
    first, second = (redeem(session, account, owner, code, key="once") for _ in range(2))
    assert first == second
    assert balance(session, account) == dollars(50)


def test_a_starter_pack_gives_its_split(session: Session) -> None:
    account, owner = customer(session)
    parts = (
        GrantTemplate(dollars(10), ("gpu-container",)),
        GrantTemplate(dollars(10), ("gpu-vm",)),
        GrantTemplate(dollars(10), ("ai-notebook",)),
        GrantTemplate(dollars(70)),
    )
    code = a_code(session, offers=(CurrencyTerms(parts, dollars(1_000)),))
    assert redeem(session, account, owner, code).amount == dollars(100)
    now = datetime.now(UTC)
    charge(session, account, 12, occurred_at=now, service="gpu-vm")
    left = session.execute(
        text(
            "SELECT services, remaining_micros / 1000000 FROM grant_balances"
            " WHERE account_id = :account AND grant_number > 0 ORDER BY grant_number"
        ),
        {"account": account},
    )
    assert [tuple(row) for row in left] == [
        (["gpu-container"], 10),
        (["gpu-vm"], 0),
        (["ai-notebook"], 10),
        (None, 68),
    ]
    (row,) = account_vouchers(session, actor=owner, account_id=account)
    assert (row.remaining, row.services) == (dollars(88), ())


def test_scoped_credit_falls_through_to_top_up_credit(session: Session) -> None:
    account, owner = customer(session)
    code = a_code(
        session, offers=(CurrencyTerms((GrantTemplate(dollars(5), ("gpu-vm",)),), dollars(500)),)
    )
    redeem(session, account, owner, code)
    grant(session, account, 20)
    now = datetime.now(UTC)
    charge(session, account, 7, occurred_at=now, service="gpu-vm")
    charge(session, account, 3, occurred_at=now, service="ai-inference")
    assert balance(session, account) == dollars(15)
    (row,) = account_vouchers(session, actor=owner, account_id=account)
    assert (row.remaining, row.status, row.services) == (dollars(0), "used_up", ("gpu-vm",))


def test_expiry_takes_the_rest_and_says_so(session: Session) -> None:
    account, owner = customer(session)
    code = a_code(session)
    long_ago = datetime.now(UTC) - timedelta(days=40)
    session.info["clock"] = lambda: long_ago
    code = a_code(session, redeem_from=long_ago - timedelta(days=1))
    redeem(session, account, owner, code)
    del session.info["clock"]
    ledger.expire_grants(session, actor=SYSTEM)
    assert balance(session, account) == dollars(0)
    (row,) = account_vouchers(session, actor=owner, account_id=account)
    assert row.status == "expired"
    kinds = session.scalars(
        text("SELECT kind FROM entries WHERE account_id = :account ORDER BY account_sequence"),
        {"account": account},
    )
    assert list(kinds) == ["voucher", "expiry"]


def test_what_staff_take_back_is_shown_as_revoked(session: Session) -> None:
    account, owner = customer(session)
    redeem(session, account, owner, a_code(session))
    (row,) = account_vouchers(session, actor=owner, account_id=account)
    ledger.reverse_entry(
        session,
        account_id=account,
        entry_sequence=row.entries[0],
        reason="given by mistake",
        actor=SUPPORT,
        idempotency_key="back",
    )
    (row,) = account_vouchers(session, actor=owner, account_id=account)
    assert (row.status, row.remaining) == ("revoked", dollars(0))


# ── Refusals ──────────────────────────────────────────────────────────────────────────────────
def test_each_refusal_says_why(session: Session) -> None:
    account, owner = customer(session)
    other, other_owner = customer(session)
    now = datetime.now(UTC)
    used = a_code(session)
    redeem(session, other, other_owner, used)
    ended = campaign(session)
    (of_ended,) = codes(session, ended)
    end_campaign(session, campaign_id=ended, actor=FINANCE)
    taken_back = campaign(session)
    (revoked,) = codes(session, taken_back)
    revoke_codes(session, campaign_id=taken_back, reason="leaked", actor=FINANCE)
    named = lock_campaign(session, campaign(session, is_for_support=True))
    for_other = issue_code(session, campaign=named, account_id=other, actor=FINANCE)
    dong = (
        CurrencyTerms(
            (GrantTemplate(Money.from_minor_units(50, "VND")),), Money.from_minor_units(50, "VND")
        ),
    )
    reasons = {
        "unknown": "ZZZZZZZZZ9",
        "used": used,
        "not_yet": a_code(session, redeem_from=now + timedelta(days=1)),
        "revoked": revoked,
        "not_for_this_account": for_other,
        "wrong_currency": a_code(session, offers=dong),
        "wrong_site": a_code(session, offers=dong, site_codes=("vn",)),
        "wrong_country": a_code(session, countries=("US",)),
    }
    assert {refusal(session, account, owner, code): code for code in reasons.values()} == reasons
    assert refusal(session, account, owner, of_ended) == "revoked"
    assert refusal(session, account, owner, "not a code at all") == "unknown"
    assert verify_ledger(session, actor=SYSTEM) == []


def test_a_code_that_is_out_of_date_says_since_when(session: Session) -> None:
    account, owner = customer(session)
    until = datetime.now(UTC) - timedelta(days=2)
    session.info["clock"] = lambda: until - timedelta(days=2)
    code = a_code(session, redeem_from=until - timedelta(days=5), redeem_until=until)
    del session.info["clock"]
    with pytest.raises(VoucherRefused) as refused:
        redeem(session, account, owner, code)
    assert (refused.value.reason, refused.value.when) == ("expired", until)


def test_an_account_needs_a_billing_profile_first(session: Session) -> None:
    account = make_account(session)
    owner = user_actor(7, memberships={account: MemberRole.OWNER})
    assert refusal(session, account, owner, a_code(session)) == "no_billing_profile"


def test_a_campaign_for_new_accounts_refuses_others(session: Session) -> None:
    account, owner = customer(session)
    grant(session, account, 1)
    code = a_code(session, is_for_new_accounts=True)
    assert refusal(session, account, owner, code) == "not_new"
    fresh, fresh_owner = customer(session)
    redeem(session, fresh, fresh_owner, code)


def test_an_account_has_its_share_of_a_campaign_only(session: Session) -> None:
    account, owner = customer(session)
    first, second, third = codes(session, campaign(session, uses_per_account=2), 3)
    redeem(session, account, owner, first)
    redeem(session, account, owner, second)
    assert refusal(session, account, owner, third) == "used_by_this_account"


def test_a_budget_that_is_spent_gives_nothing_more(session: Session) -> None:
    campaign_id = campaign(session, offers=(offer(amount=50, budget=120),))
    many = codes(session, campaign_id, 3)
    for code in many[:2]:
        redeem(session, *customer(session), code)
    account, owner = customer(session)
    assert refusal(session, account, owner, many[2]) == "budget_spent"
    seen = find_campaign(session, campaign_id=campaign_id, actor=FINANCE)
    assert (seen.granted, seen.redemptions) == ((dollars(100),), 2)


def test_readers_strangers_and_staff_redeem_nothing(session: Session) -> None:
    account, _owner = customer(session)
    code = a_code(session)
    with pytest.raises(NotAuthorised):
        redeem(session, account, user_actor(5, memberships={account: MemberRole.READER}), code)
    with pytest.raises(NotFound):
        redeem(session, account, user_actor(6), code)
    for role in StaffRole:
        with pytest.raises(NotAuthorised):
            redeem(session, account, user_actor(8, staff_role=role), code)
    assert balance(session, account) == dollars(0)


def test_vouchers_of_others_are_not_shown(session: Session) -> None:
    account, owner = customer(session)
    _other, stranger = customer(session)
    redeem(session, account, owner, a_code(session))
    for query in (account_vouchers, waiting_vouchers):
        with pytest.raises(NotFound):
            query(session, actor=stranger, account_id=account)


# ── Codes for one account ─────────────────────────────────────────────────────────────────────
def test_a_code_made_for_an_account_waits_for_it(session: Session) -> None:
    account, owner = customer(session)
    named = lock_campaign(session, campaign(session, is_for_named_accounts=True))
    code = issue_code(session, campaign=named, account_id=account, actor=FINANCE)
    (waiting,) = waiting_vouchers(session, actor=owner, account_id=account)
    assert (waiting.code, waiting.amount) == (code, dollars(50))
    redeem(session, account, owner, waiting.code)
    assert waiting_vouchers(session, actor=owner, account_id=account) == ()


def test_a_general_code_of_a_campaign_for_named_accounts_is_nobodys(session: Session) -> None:
    account, owner = customer(session)
    code = a_code(session, is_for_named_accounts=True)
    assert refusal(session, account, owner, code) == "not_for_this_account"


def test_codes_are_taken_back_by_one_by_batch_and_altogether(session: Session) -> None:
    campaign_id = campaign(session)
    first, *_others = codes(session, campaign_id, 3)
    codes(session, campaign_id, 2)
    newest = list_batches(session, campaign_id=campaign_id, actor=FINANCE)[0].batch_id

    def revoke(**which: Any) -> int:
        return revoke_codes(
            session, campaign_id=campaign_id, reason="leaked", actor=FINANCE, **which
        )

    assert revoke(code=first) == 1
    assert revoke(code=first) == 0
    assert revoke(batch_id=newest) == 2
    assert revoke() == 2
    with pytest.raises(InvalidInput, match="reason"):
        revoke_codes(session, campaign_id=campaign_id, reason=" ", actor=FINANCE)


def test_revoking_wants_the_count_that_was_confirmed(session: Session) -> None:
    campaign_id = campaign(session)
    first, *_others = codes(session, campaign_id, 3)

    def revoke(expected_count: int) -> int:
        return revoke_codes(
            session,
            campaign_id=campaign_id,
            reason="leaked",
            actor=FINANCE,
            expected_count=expected_count,
        )

    revoke_codes(session, campaign_id=campaign_id, code=first, reason="leaked", actor=FINANCE)
    with pytest.raises(Conflict, match="codes_changed"):
        revoke(3)
    found = count_revocable(session, campaign_id=campaign_id, actor=FINANCE)
    assert (found.count, found.total, found.used, found.revoked) == (2, 3, 0, 1)
    assert found.last_revoked_by == f"user:{FINANCE.user_id}"
    assert revoke(2) == 2
    with pytest.raises(NotAuthorised):
        count_revocable(session, campaign_id=campaign_id, actor=SUPPORT)


def test_revoking_is_bounded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign_id = campaign(session)
    codes(session, campaign_id, 3)
    monkeypatch.setattr(voucher_codes, "MAX_CODES_PER_BATCH", 2)
    with pytest.raises(InvalidInput, match="too_many_to_revoke"):
        revoke_codes(session, campaign_id=campaign_id, reason="leaked", actor=FINANCE)


def test_second_end_of_a_campaign_says_who_ended_it(session: Session) -> None:
    campaign_id = campaign(session)
    for _ in range(2):
        end_campaign(session, campaign_id=campaign_id, actor=FINANCE)
    ended = ("ended", f"user:{FINANCE.user_id}")
    with pytest.raises(AlreadyDecided) as caught:
        end_campaign(session, campaign_id=campaign_id, actor=ANOTHER)
    assert (caught.value.state, caught.value.decided_by) == ended
    with pytest.raises(AlreadyDecided) as caught:
        decide_campaign(session, campaign_id=campaign_id, is_approved=True, actor=ANOTHER)
    assert (caught.value.state, caught.value.decided_by) == ended


# ── Usage from before the redemption ──────────────────────────────────────────────────────────
def test_voucher_settles_usage_that_is_still_due(session: Session) -> None:
    account, owner = customer(session)
    earlier = datetime.now(UTC) - timedelta(days=1)
    charge(session, account, 20, occurred_at=earlier, refusable=False)
    redeem(session, account, owner, a_code(session))
    found = account_overview(session, actor=SYSTEM, account_id=account)
    assert found.due_micros == 0
    assert found.summary.balance_micros == dollars(30).micros
    assert not list(verify_ledger(session, actor=SYSTEM))


def test_voucher_never_pays_again_what_was_paid(session: Session) -> None:
    account, owner = customer(session)
    grant(session, account, 100)
    charge(session, account, 20, occurred_at=datetime.now(UTC) - timedelta(days=1))
    redeem(session, account, owner, a_code(session))
    assert remaining(session, account) == {"top_up": 80, "voucher": 50}


def test_voucher_pays_earlier_usage_that_arrives_after_it(session: Session) -> None:
    account, owner = customer(session)
    grant(session, account, 100)
    redeem(session, account, owner, a_code(session))
    charge(session, account, 20, occurred_at=datetime.now(UTC) - timedelta(days=1))
    assert remaining(session, account) == {"top_up": 100, "voucher": 30}


def test_voucher_for_services_settles_only_what_is_due_for_them(session: Session) -> None:
    account, owner = customer(session)
    earlier = datetime.now(UTC) - timedelta(days=1)
    charge(session, account, 20, occurred_at=earlier, service="gpu-vm", refusable=False)
    scoped = CurrencyTerms((GrantTemplate(dollars(50), ("ai-notebook",)),), dollars(5_000))
    redeem(session, account, owner, a_code(session, offers=(scoped,)))
    found = account_overview(session, actor=SYSTEM, account_id=account)
    assert found.due_micros == dollars(20).micros
    assert remaining(session, account) == {"voucher": 50}


def remaining(session: Session, account: int) -> dict[str, int]:
    """Return what is left by kind of credit, in whole units."""
    found = account_overview(session, actor=SYSTEM, account_id=account)
    kinds = {each.kind: each.remaining_micros // 1_000_000 for each in found.kinds}
    return {kind: amount for kind, amount in kinds.items() if amount}


def test_facts_of_vouchers_are_only_ever_added(session: Session) -> None:
    account, owner = customer(session)
    redeem(session, account, owner, a_code(session))
    session.commit()
    for statement in (
        "UPDATE voucher_redemptions SET amount_micros = 1",
        "DELETE FROM voucher_redemptions",
        "DELETE FROM voucher_codes",
        "UPDATE campaign_parts SET amount_micros = 1",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            session.execute(text(statement))
        session.rollback()


# ── Guessing ──────────────────────────────────────────────────────────────────────────────────
def test_guesses_are_counted_and_then_have_to_wait(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        account, owner = customer(session)
        good = a_code(session)

    def attempt(code: str) -> object:
        return redeem_code(
            sessions,
            account_id=account,
            typed=code,
            actor=owner,
            idempotency_key=next_key("guess"),
            key=KEY,
        )

    for _ in range(10):
        with pytest.raises(VoucherRefused, match="unknown"):
            attempt("AAAAAAAAA2")
    with pytest.raises(RateLimited) as limited:
        attempt(good)
    assert 0 < limited.value.retry_after_seconds <= 60
    with sessions() as session:
        assert balance(session, account) == dollars(0)


def test_right_codes_do_not_count_as_guesses(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        account, owner = customer(session)
        many = codes(session, campaign(session, uses_per_account=30), 15)
    for code in many:
        redeem_code(
            sessions,
            account_id=account,
            typed=code,
            actor=owner,
            idempotency_key=next_key("good"),
            key=KEY,
        )
    with sessions() as session:
        assert balance(session, account) == dollars(750)


# ── Many at once ──────────────────────────────────────────────────────────────────────────────
def redeem_at_once(
    sessions: sessionmaker[Session], tries: list[tuple[int, Actor, str]]
) -> Counter[str]:
    """Redeem in as many threads as there are tries; return how often each outcome came."""
    start = threading.Barrier(len(tries))

    def one(trial: tuple[int, Actor, str]) -> str:
        account, owner, code = trial
        start.wait()
        try:
            with sessions.begin() as session:
                redeem(session, account, owner, code)
        except VoucherRefused as refused:
            return refused.reason
        return "redeemed"

    with ThreadPoolExecutor(len(tries)) as pool:
        return Counter(pool.map(one, tries))


def test_two_people_at_the_last_use_one_wins(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        code = a_code(session)
        first, second = customer(session), customer(session)
    outcomes = redeem_at_once(sessions, [(*first, code), (*second, code)])
    assert outcomes == {"redeemed": 1, "used": 1}
    with sessions() as session:
        assert balance(session, first[0]) + balance(session, second[0]) == dollars(50)


@settings(
    max_examples=6,
    deadline=None,
    # A counterexample of 32 threads is as good as any smaller one, and shrinking takes minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    uses=st.integers(1, 5),
    affordable=st.integers(1, 40),
    per_account=st.integers(1, 4),
    choices=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 11)), min_size=32, max_size=32),
)
def test_32_at_once_never_get_more_than_budget_uses_and_share(
    sessions: sessionmaker[Session],
    uses: int,
    affordable: int,
    per_account: int,
    choices: list[tuple[int, int]],
) -> None:
    with sessions.begin() as session:
        people = [customer(session) for _ in range(8)]
        campaign_id = campaign(
            session,
            offers=(offer(amount=50, budget=50 * affordable + 49),),
            uses_per_code=uses,
            uses_per_account=per_account,
        )
        many = codes(session, campaign_id, 12)
    outcomes = redeem_at_once(
        sessions, [(*people[person], many[number]) for person, number in choices]
    )
    with sessions() as session:
        amount = session.scalars(
            select(CampaignAmount).where(CampaignAmount.campaign_id == campaign_id)
        ).one()
        given_to = Counter(
            session.scalars(
                select(VoucherRedemption.account_id).where(
                    VoucherRedemption.campaign_id == campaign_id
                )
            )
        )
        used = session.scalars(
            select(VoucherCode.uses).where(VoucherCode.campaign_id == campaign_id)
        ).all()
        balances = [balance(session, account).micros for account, _ in people]
        assert verify_ledger(session, actor=SYSTEM) == []
    redeemed = outcomes["redeemed"]
    assert redeemed <= affordable
    assert max(used) <= uses
    assert max(given_to.values()) <= per_account
    assert amount.redemptions == redeemed == sum(used) == given_to.total()
    assert amount.granted_micros == dollars(50).micros * redeemed == sum(balances)
    # Whoever went away with nothing was right to: what there is was given.
    assert set(outcomes) <= {"redeemed", "used", "used_by_this_account", "budget_spent"}
    if "budget_spent" in outcomes:
        assert redeemed == affordable


# ── Codes for named accounts ──────────────────────────────────────────────────────────────────
def name_accounts(
    session: Session, number: int, accounts: list[int], actor: Actor = FINANCE, key: str = ""
) -> int:
    return make_codes_for(
        session,
        campaign_id=number,
        accounts=accounts,
        actor=actor,
        idempotency_key=key or next_key(),
    )


def test_each_named_account_finds_a_code_that_only_it_can_use(session: Session) -> None:
    number = campaign(session, is_for_named_accounts=True)
    (first, owner), (second, other) = customer(session), customer(session)
    batch = name_accounts(session, number, [first, second], key="one")
    assert name_accounts(session, number, [first, second], key="one") == batch
    (waiting,) = waiting_vouchers(session, actor=owner, account_id=first)
    assert refusal(session, second, other, waiting.code) == "not_for_this_account"
    redeem(session, first, owner, waiting.code)
    assert balance(session, first) == dollars(50)
    assert len(waiting_vouchers(session, actor=other, account_id=second)) == 1
    assert count_codes(session, campaign_id=number)["made"] == 2


def test_accounts_that_make_no_sense_get_no_code(session: Session) -> None:
    number = campaign(session, is_for_named_accounts=True)
    account, _ = customer(session)
    for accounts in ([], [account, account], [account, 999_999]):
        with pytest.raises(InvalidInput, match="accounts"):
            name_accounts(session, number, accounts)
    insider = user_actor(
        905, staff_role=StaffRole.FINANCE, memberships={account: MemberRole.READER}
    )
    with pytest.raises(NotAuthorised):
        name_accounts(session, number, [account], insider)
    with pytest.raises(NotAuthorised):
        name_accounts(session, number, [account], SUPPORT)
    assert count_codes(session, campaign_id=number)["made"] == 0


def test_whoever_works_here_redeems_no_code(session: Session) -> None:
    account, owner = customer(session)
    (code,) = codes(session, campaign(session))
    with pytest.raises(NotAuthorised):
        redeem(session, account, replace(owner, staff_role=StaffRole.FINANCE), code)
