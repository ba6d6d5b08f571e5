"""How passwords are kept, and which are good enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from argon2 import Type, extract_parameters

from domain.errors import InvalidInput
from domain.security import passwords
from tests.conftest import OWN_HASHER

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "violet-kettle-9-march"


@pytest.fixture(autouse=True)
def own_hasher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(passwords, "_HASHER", OWN_HASHER)
    passwords._nobodys_hash.cache_clear()
    yield
    passwords._nobodys_hash.cache_clear()


def test_a_hash_is_argon2id_with_memory_to_make_guessing_dear() -> None:
    made = passwords.hash_password(PASSWORD)
    parameters = extract_parameters(made)
    assert parameters.type is Type.ID
    assert parameters.memory_cost >= 19 * 1024, "kibibytes: the least that OWASP advises"
    assert passwords.verify_password(PASSWORD, made)
    assert not passwords.verify_password(PASSWORD + " ", made)
    assert not passwords.needs_rehash(made)
    assert passwords.hash_password(PASSWORD) != made


def test_nobody_has_no_password() -> None:
    assert not passwords.verify_password("nobody has this password", None)


@pytest.mark.parametrize("broken", ["", "plain text", "$argon2id$v=19$broken", "$2b$12$x"])
def test_a_hash_that_is_none_opens_nothing(broken: str) -> None:
    assert not passwords.verify_password("", broken)


def test_a_megabyte_is_no_password() -> None:
    made = passwords.hash_password("x" * (4 * passwords.MAX_LENGTH + 1))
    assert passwords.verify_password("x" * 1_000_000, made), "only its beginning is looked at"
    with pytest.raises(InvalidInput) as caught:
        passwords.check_password("x" * 1_000_000, email="lan@example.com")
    assert (caught.value.reason, caught.value.values) == ("too_long", {"maximum": 200})


def test_a_good_password_of_any_script_passes() -> None:
    for good in (
        PASSWORD,
        "một con vịt xòe ra 2 cái cánh",
        "青い空と白い雲の下で歩く",
        "🐝🐢🦔🐙🦊🐧🦉🐳🐿🦚",
    ):
        passwords.check_password(good, email="lan@example.com")
