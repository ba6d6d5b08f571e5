"""The catalogue of texts is what the code says now, in the words of the field."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from babel.messages.pofile import read_po

from scripts import messages

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PRIVATE_WORDS = re.compile(
    r"\b(whoever|somebody|nobody|someone else|told|dearest|came|the least|the most|owed)\b",
    re.IGNORECASE,
)
REPLACED_TEXTS = """
    Where it comes from | Made of | Spent in this order | Nothing that you have expires | Owed
    The next credit pays it first | What cost most | A day | Bars | Credit lasts
    The dearest {} of {} | The same in figures | Tick a row | At the beginning | Granted | Used
    Other | At the end | Who pays? | This stands on your receipts | The least is | The most is
    What is offered is at least the least | Asked for | Came | number of it | Ask the gateway
    Messages of the gateway | Repeated | asks the money back | doubts the money
    Begun by the customer | The gateway expects it | Act | Say why | Take it back | What
    had its share of | Make Support | Make Administration | Take the role away
    Somebody else of finance decides | Made here | Brought in | Because
    This is not here, or not for you to see | Bring in {} codes at once
"""
"""Texts that the portal once said, and says in the field's terms now."""
_TEXTS = frozenset(text.lower() for text in re.split(r"\s*[|\n]\s*", REPLACED_TEXTS.strip()))
# One or two words may well stand inside a sentence of today.
_PARTS = frozenset(text for text in _TEXTS if text.count(" ") > 1)


def replaced_texts_in(texts: Iterable[str]) -> list[str]:
    """Return the texts with a private word or a text of old."""
    return [text for text in texts if PRIVATE_WORDS.search(text) or _is_replaced(text)]


def _is_replaced(text: str) -> bool:
    plain = re.sub(r"\{\w+\}", "{}", text).lower()
    return plain.strip(" .:…") in _TEXTS or any(part in plain for part in _PARTS)


def test_catalogue_is_what_the_code_says() -> None:
    assert messages.CATALOGUE.read_text("utf-8") == messages.render(messages.extract_texts()), (
        "portal/locale/messages.pot is not what the code says: run  make messages"
    )


def test_catalogue_of_the_same_code_elsewhere_is_the_same(tmp_path: Path) -> None:
    portal = tmp_path / "portal"
    shutil.copytree(messages.ROOT / "portal" / "ui", portal / "ui")
    shutil.copytree(messages.ROOT / "portal" / "templates", portal / "templates")
    first = messages.render(messages.extract_texts(portal))
    source = portal / "ui" / "flash.py"
    source.write_text("\n\n" + source.read_text("utf-8"), encoding="utf-8")
    assert messages.render(messages.extract_texts(portal)) == first
    assert str(tmp_path) not in first


def test_texts_are_found_in_code_and_templates(tmp_path: Path) -> None:
    portal = tmp_path / "portal"
    (portal / "templates" / "mail").mkdir(parents=True)
    (portal / "page.py").write_text(
        'a = _("Balance")\nb = N_("Available")\nc = ngettext("{n} row", "{n} rows", 2)\n'
    )
    (portal / "templates" / "page.html").write_text('<p>{{ _("On hold") }}</p>')
    (portal / "templates" / "mail" / "mail.txt").write_text('{{ _("Hello,") }}')
    catalogue = messages.extract_texts(portal)
    found = ["Balance", "Available", "{n} row", "{n} rows", "On hold", "Hello,"]
    assert list(messages.texts(catalogue)) == found
    with (tmp_path / "messages.pot").open("w+", encoding="utf-8") as file:
        file.write(messages.render(catalogue))
        file.seek(0)
        assert [entry.id for entry in read_po(file) if entry.id] == [
            "Balance",
            "Available",
            ("{n} row", "{n} rows"),
            "Hello,",
            "On hold",
        ]


def test_texts_are_in_the_words_of_the_field() -> None:
    assert replaced_texts_in(messages.texts(messages.extract_texts())) == []


@pytest.mark.parametrize(
    "text",
    [
        "Ask whoever gave it to you.",
        "Somebody else changed this.",
        "Nobody decided in time.",
        "{amount} is owed.",
        "Enter the least top-up.",
        "Money came after it was rejected.",
        "Where it comes from",
        "Act",
        "What",
        "Used",
        "Brought in",
        "Bring in {maximum} codes at once, or fewer.",
        "The dearest {count} of {all}.",
        "Tick a row to see the payment.",
        "This account had its share of this offer already.",
    ],
)
def test_text_of_old_is_found_and_a_text_of_today_is_not(tmp_path: Path, text: str) -> None:
    portal = tmp_path / "portal"
    portal.mkdir()
    today = ["Used up", "Because of it, wait a day.", "Make changes", "Amount due: {amount}."]
    (portal / "page.py").write_text("".join(f'_("{each}")\n' for each in [*today, text]))
    assert replaced_texts_in(messages.texts(messages.extract_texts(portal))) == [text]
