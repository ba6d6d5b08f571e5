"""Card numbers are found as they are written, with work that grows with a file's length alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stdnum import luhn

from domain.payments import card_numbers
from domain.payments.card_numbers import MAX_CANDIDATES, has_card_number, has_check_digit

if TYPE_CHECKING:
    from collections.abc import Iterator

VALID = "4111111111111111"
INVALID = "4111111111111112"
PIECES = [
    *(VALID, INVALID, "4222222222222", "378282246310005", "30569309025904", "5555555555554444"),
    *("4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005", "3056 930902 5904"),
    *("6304 0000 0000 0000 000", "4111 11111111 1111", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    *(" ", "-", "  ", "x", "\n", "1", "12", "4111", "1111", "822463", "1111 1111", "0000"),
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.text(alphabet="0134 -x", max_size=40),
)


def numbers_written_in(text: str) -> Iterator[str]:
    """The definition, word for word, without a thought of how long it takes."""
    for line in re.split(r"[^0-9 -]|[ -]{2,}", text):
        groups = re.split("[ -]", line.strip(" -"))
        yield "".join(groups)
        yield from groups
        sizes = [len(group) for group in groups]
        for start in range(len(groups)):
            if sizes[start : start + 4] == [4, 4, 4, 4]:
                yield "".join(groups[start : start + 4])
                if sizes[start + 4 : start + 5] and sizes[start + 4] <= 3:
                    yield "".join(groups[start : start + 5])
            if sizes[start : start + 3] in ([4, 6, 4], [4, 6, 5]):
                yield "".join(groups[start : start + 3])


def has_one_by_definition(text: str) -> bool:
    return any(
        13 <= len(digits) <= 19
        and card_numbers._SCHEME.fullmatch(digits.encode()) is not None
        and luhn.is_valid(digits)
        for digits in numbers_written_in(text)
    )


@example(f"2 of {VALID} 12")
@example("Card 12 4111 1111 1111 1111 2026")
@example(f"{VALID}{VALID}")
@given(TEXTS)
def test_card_number_is_found_exactly_where_one_is_written(text: str) -> None:
    assert has_card_number(text.encode()) == has_one_by_definition(text)


@given(st.text(alphabet="0123456789", min_size=13, max_size=19))
def test_check_digit_is_luhn_s(digits: str) -> None:
    assert has_check_digit(digits.encode()) == luhn.is_valid(digits)


@pytest.mark.parametrize(
    "written",
    [
        "4111 1111 1111 1111",
        "order 12 4111 1111 1111 1111 of 2026",
        "(4111-1111-1111-1111)",
        "3782 822463 10005",
        "2026 3782 822463 10005",
        f"ref{VALID}ref",
    ],
)
def test_printed_number_is_found_among_others(written: str) -> None:
    assert has_card_number(written.encode())


@pytest.mark.parametrize(
    "written",
    [INVALID, f"1{VALID}2222", "20261129175521", "4111  1111  1111  1111", "4111.1111.1111.1111"],
)
def test_other_number_is_none(written: str) -> None:
    assert not has_card_number(written.encode())


# ── How much work a crafted file makes ────────────────────────────────────────────────────────
def invalid_numbers(count: int) -> list[str]:
    numbers = (str(4_000_000_000_000 + number) for number in range(2 * count + 20))
    return [number for number in numbers if not luhn.is_valid(number)][:count]


CRAFTED = {
    "digits": "4",
    "digits and blanks": "4 ",
    "digits and dashes": "4-",
    "one number": f"{INVALID}\n",
    "groups": "4111 1111 1111 1112 ",
    "groups of fifteen": "3782 822463 10006 ",
    "nearly as long": "411111111111\n",
    "too long": "41111111111111111111\n",
}


@pytest.mark.parametrize("unit", CRAFTED.values(), ids=CRAFTED)
def test_work_for_a_crafted_file_grows_no_faster_than_its_length(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[bytes] = []

    def counted(digits: bytes) -> bool:
        computed.append(digits)
        return has_check_digit(digits)

    monkeypatch.setattr(card_numbers, "has_check_digit", counted)
    looked_at = []
    for size in (20_000, 40_000):
        content = (unit * (size // len(unit))).encode()
        assert not has_card_number(content)
        looked_at.append(sum(1 for _ in card_numbers._candidates(content)))
    assert looked_at[1] <= 2 * looked_at[0] + 4
    # At most one number for each way to write it begins at a digit group.
    assert looked_at[1] <= 40_000 // 4
    assert len(set(computed)) <= 4
    assert len(computed) <= 2 * len(set(computed))


def test_check_digits_are_computed_for_a_bounded_count_of_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[bytes] = []

    def counted(digits: bytes) -> bool:
        computed.append(digits)
        return has_check_digit(digits)

    monkeypatch.setattr(card_numbers, "has_check_digit", counted)
    numbers = invalid_numbers(5 * MAX_CANDIDATES)
    assert not has_card_number("\n".join(numbers[:MAX_CANDIDATES]).encode())
    assert len(computed) == MAX_CANDIDATES
    computed.clear()
    assert has_card_number("\n".join(numbers).encode())
    assert len(computed) == MAX_CANDIDATES
