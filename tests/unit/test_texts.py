from __future__ import annotations

import pytest

from domain.errors import InvalidInput
from domain.validation import MAX_NAME_LENGTH, check_text, checked_name

NOT_ONE_LINE = [
    "a\0b",
    "a\nb",
    "a\rb",
    "a\tb",
    "\x1b[31m",
    "a\x85b",
    "a\u2028b",
    "a\u202eb",
    "\ud83d",
]


@pytest.mark.parametrize("text", NOT_ONE_LINE)
def test_text_is_one_line_wherever_it_stands(text: str) -> None:
    for given in (text, [text], ("a", text), {"a": text}, {text: "a"}, {"a": [{"b": text}]}):
        with pytest.raises(InvalidInput) as caught:
            check_text(source="bank", reason=given)
        assert (caught.value.field, caught.value.reason) == ("reason", "control_characters")


def test_words_of_every_language_pass_and_what_is_no_text() -> None:
    check_text(
        reason="Trần Thị Lan · 日本語 · 500.000\N{NO-BREAK SPACE}₫ · می\u200cبینم · 👩\u200d🔬",
        amount=5,
        services=None,
        lines=["1110.bank", ("x", 1)],
        parameters={"calls": 3, "origin": "WELCOME$20 -> https://example.com"},
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("\u200b", "empty"),
        ("x" * (MAX_NAME_LENGTH + 1), "too_long"),
        ("a\0b", "control_characters"),
        ("a\u202eb", "control_characters"),
        ("\u3164", "empty"),
        ("\u2800 \u115f", "empty"),
        *(
            (f"Lan{sign}Tran", "control_characters")
            for sign in "\u00ad\u034f\u200b\u200e\u2060\u2800\u3164\ufeff\U000e0041"
        ),
        ("Lan\u200d", "control_characters"),
        ("\u200cLan", "control_characters"),
        ("Lan\u200d Tran", "control_characters"),
        ("Lan\u200d\u200dTran", "control_characters"),
    ],
)
def test_a_name_can_be_read(name: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_name(name, "account_name")
    assert (caught.value.field, caught.value.reason) == ("account_name", reason)


@pytest.mark.parametrize(
    "name",
    [
        "Trần Thị Lan",
        "O'Neil-Šmíd Jr.",
        "می\u200cبینم",
        "क्\u200dष",
        "日本 太郎",
        "👩\u200d🔬 Lab",
        "❤️ & Co",
    ],
)
def test_names_of_every_language_pass(name: str) -> None:
    assert checked_name(name, "name") == name


def test_a_name_has_single_spaces() -> None:
    assert checked_name("  Lan's \n\t lab ", "name") == "Lan's lab"
    assert checked_name("x" * MAX_NAME_LENGTH, "name") == "x" * MAX_NAME_LENGTH
