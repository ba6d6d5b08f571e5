"""Find payment card numbers in a file, in time that grows with its length alone.

A card number is 13 to 19 digits that begin as a card scheme's numbers do and end with the right
check digit (Luhn). It is found as it is written: as digits that stand together, in the groups that
cards print, or as a line of digits that single spaces or dashes part.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CANDIDATES = 1000
"""How many different numbers of a scheme's form are checked. One in ten has the right check digit
by chance, so a file with more than this holds one, or was made to keep a processor busy."""

_MIN_DIGITS = 13
_MAX_DIGITS = 19

# How the numbers of card schemes begin, by ISO/IEC 7812; those of a date do otherwise, such as
# 20261129175521, in which one in ten has a right last digit too.
_SCHEME = re.compile(
    rb"4\d{12}(\d{3}){0,2}|5[1-5]\d{14}|2(22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    rb"|3[47]\d{13}|3(0[0-5]|[689]\d)\d{11,16}|35\d{14,17}|(5[06-9]|6\d)\d{11,17}|81\d{14,17}"
)

# Bytes are digits, separators or others; the patterns look for digits first, which is quick, and
# never go back in them: the work for a byte does not depend on how many come after it.
_CLASSES = bytes(
    byte if byte in b"0123456789" else ord("s") if byte in b" -" else ord("x")
    for byte in range(256)
)
_TOGETHER = re.compile(rb"\d{%d,}+" % _MIN_DIGITS)
# A number may stand within a line of others ("2 of 4111 1111 1111 1111 12"): only its first group
# is taken, so that the next one is looked at too.
_FOURS = re.compile(rb"[2-8]\d{3}(?=s(\d{4})s(\d{4})s(\d{4})(?!\d)(?:s(\d{1,3})(?!\d))?)")
_FOUR_SIX = re.compile(rb"3\d{3}(?=s(\d{6})s(\d{4,5})(?!\d))")

_DIGIT_VALUES = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(bytes(range(10)), bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))


def has_card_number(content: bytes) -> bool:
    """Return whether a file holds a card number, or more such numbers than are checked."""
    checked: set[bytes] = set()
    for candidate in _candidates(content):
        if candidate in checked or _SCHEME.fullmatch(candidate) is None:
            continue
        if len(checked) == MAX_CANDIDATES or has_check_digit(candidate):
            return True
        checked.add(candidate)
    return False


def has_check_digit(digits: bytes) -> bool:
    """Whether the last of these ASCII digits is the check digit of the others, by Luhn."""
    values = digits.translate(_DIGIT_VALUES)[::-1]
    return (sum(values[::2]) + sum(values[1::2].translate(_DOUBLED))) % 10 == 0


def _candidates(content: bytes) -> Iterator[bytes]:
    classes = content.translate(_CLASSES)
    yield from _of_length(classes)
    # Two separators end a line of digits; one within it goes.
    yield from _of_length(classes.replace(b"ss", b"xx").translate(None, b"s"))
    for pattern in (_FOURS, _FOUR_SIX):
        for found in pattern.finditer(classes):
            before = classes[found.start() - 1 : found.start()]
            if not before.isdigit():
                *groups, rest = found.groups(b"")
                number = b"".join((found[0], *groups))
                yield number
                if rest:
                    yield number + rest


def _of_length(classes: bytes) -> Iterator[bytes]:
    """Yield the digits that stand together and are as many as a card number has."""
    for found in _TOGETHER.finditer(classes):
        if found.end() - found.start() <= _MAX_DIGITS:
            yield found[0]
