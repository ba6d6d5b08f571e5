"""Settings in files: `.env` with many of them, and files of one secret each."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from dotenv.parser import Binding

SECRETS = frozenset(
    ("DATABASE_URL", "MIGRATION_DATABASE_URL", "SECRET_KEY", "SECRET_KEY_PREVIOUS", "SMTP_PASSWORD")
)
"""Variables whose value may be in a file that the variable of the same name with _FILE names.

The keys of gateways are more of them.
"""
FILE_SUFFIX = "_FILE"
_MAX_SECRET_BYTES = 65_536


def read_env_file(environ: MutableMapping[str, str], folder: Path) -> tuple[str, ...]:
    """Add the variables of the file ENV_FILE, or of `.env` in the folder if there is one.

    What `environ` has stays, be it empty: NAME is not read either where it has NAME_FILE, and the
    other way round. Returns the problems, a sentence each; none of them shows a value.
    """
    named = environ.get("ENV_FILE", "").strip()
    path = Path(named) if named else folder / ".env"
    if not named and not path.is_file():
        return ()
    try:
        content = path.read_text("utf-8-sig")
    except OSError as error:
        return (f"{path} cannot be read: {error.strerror}.",)
    except UnicodeDecodeError:
        return (f"{path} is not text in UTF-8.",)
    bindings = list(parse_stream(io.StringIO(content)))
    problems = tuple(
        f"{path}, line {_line(each)}: NAME=value is expected."
        for each in bindings
        if each.error or (each.key is not None and not _is_variable(each.key, each.value))
    )
    if problems:
        return problems
    found = {each.key: each.value for each in bindings if each.key and each.value is not None}
    before = set(environ)
    for name, value in found.items():
        if before.isdisjoint((name, _other_form(name))):
            environ[name] = value
    return ()


def _is_variable(name: str, value: str | None) -> bool:
    """Return whether an environment can hold it."""
    return value is not None and name != "" and "=" not in name and "\0" not in name + value


def _line(binding: Binding) -> int:
    """Return the line number of a variable, which blank lines may precede."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _other_form(name: str) -> str:
    """Return the other variable that may hold a secret: NAME_FILE for NAME, or the reverse."""
    plain = name.removesuffix(FILE_SUFFIX)
    return plain if name != plain else name + FILE_SUFFIX


def read_secret(path: Path) -> tuple[str | None, str]:
    """Return the one line of a file, or None and the problem, as the end of a sentence."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SECRET_BYTES + 1)
        text = content.decode("utf-8-sig").strip()
    except OSError as error:
        return None, f"names a file that cannot be read: {error.strerror}."
    except UnicodeDecodeError:
        return None, "names a file that is not text in UTF-8."
    if len(content) > _MAX_SECRET_BYTES:
        return None, f"names a file of more than {_MAX_SECRET_BYTES} bytes."
    if len(text.splitlines()) > 1 or "\0" in text:
        return None, "names a file that has more than one line of text in it."
    return (text, "") if text else (None, "names a file that is empty.")
