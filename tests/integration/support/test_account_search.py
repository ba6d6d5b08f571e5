"""Staff find accounts by what a customer may tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from domain.actors import StaffRole, user_actor
from domain.errors import NotAuthorised
from domain.support.account_search import FOUND_LIMIT, find_accounts
from tests.factories import make_account
from tests.support.campaigns import a_code, customer, redeem
from tests.support.owner import as_owner

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SUPPORT = user_actor(903, staff_role=StaffRole.SUPPORT)


def rename(session: Session, name: str) -> int:
    account = make_account(session)
    with as_owner(session):
        session.execute(
            text("UPDATE accounts SET name = :name WHERE id = :id"), {"name": name, "id": account}
        )
    return account


def found(session: Session, search_text: str) -> list[int]:
    return [
        one.account_id for one in find_accounts(session, actor=SUPPORT, search_text=search_text)
    ]


def test_any_part_of_a_name_finds_it_whatever_its_case(session: Session) -> None:
    account = rename(session, "Công ty Đại Việt 100%_ok")
    for part in ("đại việt", "CÔNG TY", "ty Đại", " viỆT ", "100%_OK"):
        assert found(session, part) == [account]


def test_wildcards_are_letters_like_others(session: Session) -> None:
    account = rename(session, "Fifty % off")
    rename(session, "Fifty or so off")
    assert found(session, "fifty %") == [account]
    for search_text in ("fifty _", "f%y", "%%%", "\\"):
        assert found(session, search_text) == []


def test_a_start_of_two_letters_finds_names(session: Session) -> None:
    account = rename(session, "東京電機")
    rename(session, "Other")
    assert found(session, "東京") == [account]
    assert found(session, "電機") == []
    assert found(session, "京電機") == [account]


def test_a_payment_is_found_by_our_reference_and_the_gateways(session: Session) -> None:
    account, _owner = customer(session)
    session.execute(
        text("""
        INSERT INTO payments (account_id, reference, gateway, is_sandbox, state, pay_micros,
          pay_currency, credit_micros, credit_currency, profile_version, consent_version,
          language, created_by, idempotency_key, request_hash, created_at, expires_at,
          gateway_reference, gateway_payment_id)
        VALUES (:account, 'ABCDEFGHJKLMNPQRSTUV', 'paypal', true, 'pending', 25000000, 'USD',
          25000000, 'USD', 1, 'v', 'en', 'user:1', 'key', '\\x00', now(),
          now() + interval '1 hour', '5O190127TN364715T', '3C679366HH908993F')
        """),
        {"account": account},
    )
    for search_text in ("abcdefghjklmnpqrstuv", "5O190127TN364715T", " 3C679366HH908993F "):
        assert found(session, search_text) == [account]


def test_a_voucher_code_finds_who_redeemed_it(session: Session) -> None:
    account, owner = customer(session)
    code = a_code(session)
    assert found(session, code) == []
    redeem(session, account, owner, code)
    assert found(session, code.lower()) == [account]


def test_what_was_named_exactly_comes_first(session: Session) -> None:
    account = make_account(session)
    named = rename(session, f"Branch {account}")
    assert found(session, str(account)) == [account, named]


def test_number_is_found_as_people_write_it(session: Session) -> None:
    account, other = make_account(session), make_account(session)
    for search_text in (f"#{account}", f" # {account} ", str(account)):
        assert found(session, search_text) == [account]
    named = rename(session, f"Order #{other}")
    assert found(session, f"#{other}") == [other, named]
    assert found(session, "#") == []
    assert found(session, f"##{account}") == []


def test_a_search_for_nothing_shows_the_newest(session: Session) -> None:
    made = [make_account(session) for _ in range(FOUND_LIMIT + 3)]
    assert found(session, " ") == made[: -FOUND_LIMIT - 1 : -1]


@pytest.mark.parametrize("search_text", ["x" * 500, "9" * 50, "\x00", "a\x00b", "\ud800", "@", "'"])
def test_odd_words_find_nothing(session: Session, search_text: str) -> None:
    make_account(session)
    assert found(session, search_text) in ([], found(session, ""))


def test_customers_search_nothing(session: Session) -> None:
    with pytest.raises(NotAuthorised):
        find_accounts(session, actor=user_actor(5), search_text="a")
