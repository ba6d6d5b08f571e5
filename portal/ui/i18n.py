"""Translations of the texts that people read. English is the source and the fallback.

The language belongs to the context (a request, a script run, a job), not to the process: `use` it
at the start. Code that runs before that, such as a widget's callback, uses English.
"""

from __future__ import annotations

import gettext
import io
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from babel import Locale, negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE_LANGUAGE = "en"
LOCALE_FOLDER = Path(__file__).resolve().parents[1] / "locale"
_CATALOGUE = Path("LC_MESSAGES", "messages.po")
_MAX_PREFERENCE_LENGTH = 200

_language: ContextVar[str] = ContextVar("language", default=SOURCE_LANGUAGE)


@cache
def available_languages() -> tuple[str, ...]:
    """Return the codes of the languages with translations, English first."""
    translated = sorted(file.parts[-3] for file in LOCALE_FOLDER.glob(f"*/{_CATALOGUE}"))
    return (SOURCE_LANGUAGE, *(code for code in translated if code != SOURCE_LANGUAGE))


def language_name(language: str) -> str:
    """Return the language's own name."""
    name = Locale.parse(language).get_display_name()
    return name[:1].upper() + name[1:] if name else language


def choose_language(lang_query: str | None, cookie: str | None, browser_locale: str | None) -> str:
    """Return the first of these wishes that can be met, else English.

    The browser's may be one locale ("vi-VN") or a whole Accept-Language header.
    """
    wishes = [wish for wish in (lang_query, cookie) if wish and len(wish) <= _MAX_PREFERENCE_LENGTH]
    wishes += _accepted_languages(browser_locale or "")
    wishes = [wish.strip().replace("-", "_") for wish in wishes]
    codes = {code.lower(): code for code in available_languages()}
    found = negotiate_locale(wishes, codes)
    return codes[found.lower()] if found else SOURCE_LANGUAGE


def use(language: str) -> None:
    """Set the language of the current context from now on; an unknown one means English."""
    _language.set(_known(language))


@contextmanager
def using(language: str) -> Iterator[None]:
    """Speak this language inside the block: for mail to a reader who is not the one acting."""
    token = _language.set(_known(language))
    try:
        yield
    finally:
        _language.reset(token)


def current_language() -> str:
    """Return the code of this context's language, which Babel takes as a locale."""
    return _language.get()


def _(message: str) -> str:
    """Return the message in the language of the context."""
    return _translations(_language.get()).gettext(message) if message else ""


def ngettext(singular: str, plural: str, count: int) -> str:
    """Return the form that goes with the count, in the language of the context."""
    return _translations(_language.get()).ngettext(singular, plural, count)


def N_(message: str) -> str:  # noqa: N802 - the name under which gettext's tools look for it
    """Mark a message for translation where it is defined; `_` translates it where it is shown."""
    return message


def _known(language: str) -> str:
    return language if language in available_languages() else SOURCE_LANGUAGE


@cache
def _translations(language: str) -> gettext.NullTranslations:
    file = LOCALE_FOLDER / language / _CATALOGUE
    if not file.is_file():
        return gettext.NullTranslations()
    with file.open("rb") as source:
        catalogue = read_po(source, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _accepted_languages(header: str) -> list[str]:
    """Return the languages of an Accept-Language header, the preferred one first."""
    wishes = []
    for part in header[:_MAX_PREFERENCE_LENGTH].replace(" ", "").split(","):
        language, _separator, weight = part.partition(";q=")
        # Weights are "1", "0.8", "0.75": as text they sort as they do as numbers.
        wishes.append((weight or "1", language))
    wishes.sort(key=lambda wish: wish[0], reverse=True)
    return [language for weight, language in wishes if language and weight.strip("0.")]
