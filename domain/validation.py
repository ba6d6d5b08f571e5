"""Validation of text: one displayable line, for names and for the reasons of changes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from domain.errors import InvalidInput

MAX_NAME_LENGTH = 100
MAX_REASON_LENGTH = 200
MAX_NUMBER_LENGTH = 18
"""Digits of a whole number: every one of them fits the database's bigint."""

# Besides control characters: line separators, marks that change the direction of what follows, and
# unpaired surrogates, which no database stores.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_MAX_COMPOSED = 4
"""No letter is composed of more: a text of n characters has n / 4 at least in any normal form."""

_UNKEEPABLE = re.compile(r"[\x00\ud800-\udfff]")


_BLANK = " \u2800\u3164\uffa0\u115f\u1160"
"""Letters and signs by Unicode's tables that look like a space, or like nothing."""

# Names are compared by eye. Joiners belong to words of Persian or Hindi, and to emoji, where there
# is a character on both sides of them.
_INVISIBLE = re.compile(
    f"[{_BLANK[1:]}\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
    "|(?:^|[\\s\u200c\u200d])[\u200c\u200d]|[\u200c\u200d](?:$|\\s)"
)


def checked_name(name: str, field: str) -> str:
    """Return the name of a person or an account with single spaces.

    Raises InvalidInput on the field: "control_characters", "empty" or "too_long".
    """
    tidy = " ".join(name.split())
    check_text(**{field: tidy})
    if not any(character.isprintable() and character not in _BLANK for character in tidy):
        raise InvalidInput(field, "empty")
    if _INVISIBLE.search(tidy):
        raise InvalidInput(field, "control_characters")
    if len(tidy) > MAX_NAME_LENGTH:
        raise InvalidInput(field, "too_long", maximum=MAX_NAME_LENGTH)
    return tidy


def normalised(text: str, form: Literal["NFC", "NFKC", "NFKD"], *, longest: int) -> str:
    """Return Unicode's normal form of a text that may have at most `longest` characters.

    Of a longer one it returns the beginning, which is too long as well. Python sorts the accents of
    one letter in a time that grows with the square of their number: 30,000 take seconds.
    """
    beginning = text[: _MAX_COMPOSED * longest + 1]
    return unicodedata.normalize(form, beginning)  # noqa: TID251 - its length is bounded


def checked_reason(reason: str) -> str:
    """Return the reason of an action, as one tidy line.

    Raises InvalidInput("reason"): "control_characters", "empty" or "too_long".
    """
    tidy = " ".join(reason.split())
    check_text(reason=tidy)
    if not tidy:
        raise InvalidInput("reason", "empty")
    if len(tidy) > MAX_REASON_LENGTH:
        raise InvalidInput("reason", "too_long", maximum=MAX_REASON_LENGTH)
    return tidy


def is_whole_number(text: str) -> bool:
    """Whether these are ASCII digits, and few enough for a number that the database keeps."""
    return text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_LENGTH


def whole_number(text: str) -> int:
    """Return the number that ASCII digits form; 0, which is no valid id, for anything else."""
    return int(text) if is_whole_number(text) else 0


def check_text(**given: object) -> None:
    """Refuse text that is not one line, by field, also inside collections.

    Values that are not text pass. Raises InvalidInput(field, "control_characters").
    """
    for field, value in given.items():
        for text in _texts_in(value):
            # The first question is the cheaper one, and nearly always enough.
            if not text.isprintable() and CONTROL.search(text):
                raise InvalidInput(field, "control_characters")


def check_keepable(given: Mapping[str, str]) -> None:
    """Refuse text that no database stores, by field: NUL, and unpaired surrogates.

    Further rules are up to the caller. Raises InvalidInput(field, "control_characters").
    """
    for field, text in given.items():
        if _UNKEEPABLE.search(field) or _UNKEEPABLE.search(text):
            raise InvalidInput(field, "control_characters")


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts_in(pair)
    elif isinstance(value, Iterable):
        for item in value:
            yield from _texts_in(item)
