from __future__ import annotations

import contextvars
from datetime import date
from typing import TYPE_CHECKING

import pytest

from portal.ui import formats, i18n
from portal.ui.i18n import N_, _, choose_language, current_language, ngettext, use, using

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JAPANESE = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"

msgid "Balance"
msgstr "残高"

msgid "%(count)d call"
msgid_plural "%(count)d calls"
msgstr[0] "%(count)d 回"

#, fuzzy
msgid "Sign in"
msgstr "推測"

msgid "today"
msgstr "今日"
"""


@pytest.fixture(autouse=True)
def languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have Japanese and Brazilian Portuguese beside English, and English in use."""
    for code, words in [("ja", JAPANESE), ("pt_BR", "")]:
        file = tmp_path / code / "LC_MESSAGES" / "messages.po"
        file.parent.mkdir(parents=True)
        file.write_text(words, encoding="utf-8")
    (tmp_path / "fr").mkdir()
    monkeypatch.setattr(i18n, "LOCALE_FOLDER", tmp_path)
    forget()
    with using("en"):
        yield
    forget()


def forget() -> None:
    i18n.available_languages.cache_clear()
    i18n._translations.cache_clear()


def test_a_language_is_there_with_its_file() -> None:
    assert i18n.available_languages() == ("en", "ja", "pt_BR")


def test_the_source_language_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i18n, "LOCALE_FOLDER", tmp_path / "nothing")
    forget()
    assert i18n.available_languages() == ("en",)
    assert _("Balance") == "Balance"
    assert ngettext("%(count)d call", "%(count)d calls", 2) % {"count": 2} == "2 calls"


def test_words_in_the_language_of_the_context() -> None:
    assert _("Balance") == "Balance"
    use("ja")
    assert current_language() == "ja"
    assert _("Balance") == "残高"
    assert ngettext("%(count)d call", "%(count)d calls", 2) == "%(count)d 回"


def test_what_is_not_translated_stays_english() -> None:
    use("ja")
    assert _("Voucher") == "Voucher"
    assert _("Sign in") == "Sign in"  # a guess that nobody has confirmed
    assert _("") == ""
    assert ngettext("one row", "many rows", 1) == "one row"


def test_an_unknown_language_is_english() -> None:
    use("ja")
    for language in ("tlh", "", "../ja", "fr"):
        use(language)
        assert current_language() == "en"


def test_using_a_language_ends_with_its_block() -> None:
    use("ja")
    with using("en"):
        assert _("Balance") == "Balance"
    assert _("Balance") == "残高"


def test_contexts_do_not_hear_one_another() -> None:
    contextvars.copy_context().run(use, "ja")
    assert current_language() == "en"


def test_a_marked_message_is_translated_where_it_is_shown() -> None:
    message = N_("Balance")
    assert message == "Balance"
    use("ja")
    assert _(message) == "残高"


def test_formats_follow_the_context() -> None:
    assert formats.money(3_000_000_000, "JPY") == "¥3,000"
    use("ja")
    assert formats.money(3_000_000_000, "JPY") == "\uffe53,000"
    today = date(2026, 1, 31)
    assert formats.relative_days(today, today) == "今日"
    assert formats.relative_days(today, today, locale="en") == "today"


@pytest.mark.parametrize(
    ("query", "cookie", "browser", "language"),
    [
        (None, None, None, "en"),
        ("ja", "en", "en-US", "ja"),
        (None, "ja", "en-US", "ja"),
        (None, None, "ja-JP", "ja"),
        (None, None, "ja_JP", "ja"),
        (None, None, "vi-VN", "en"),
        ("vi", "ja", None, "ja"),  # a wish that cannot be met leaves the next one
        ("JA", None, None, "ja"),
        ("pt-br", None, None, "pt_BR"),
        ("x" * 10_000, None, "ja", "ja"),
        ("", "", "", "en"),
        ("../ja", "\0", ";;,,", "en"),
        (None, None, "vi-VN,vi;q=0.9,ja;q=0.8,en;q=0.7", "ja"),
        (None, None, "en;q=0.3, ja; q=0.9", "ja"),
        (None, None, "ja;q=0", "en"),  # by the header's rules: anything but this
        (None, None, "*", "en"),
    ],
)
def test_choosing_a_language(
    query: str | None, cookie: str | None, browser: str | None, language: str
) -> None:
    assert choose_language(query, cookie, browser) == language


def test_a_language_calls_itself_by_its_name() -> None:
    names = [i18n.language_name(code) for code in ("en", "vi", "ja")]
    assert names == ["English", "Tiếng Việt", "日本語"]
