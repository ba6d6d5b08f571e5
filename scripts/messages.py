"""Prints portal/locale/messages.pot: every text of the portal that translators translate.

`make messages` runs it. The file holds no date, no line number and no path of a machine, so that it
changes only where a text is changed, added, removed or moved to another file.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "portal" / "locale" / "messages.pot"

_METHODS = [("**.py", "python"), ("templates/**.html", "jinja2"), ("templates/**.txt", "jinja2")]
_KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2)}
_LINE_LENGTH = 100
_HEADER = """\
# Texts of the portal for translators. Written by `make messages`: do not edit.
msgid ""
msgstr ""
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def extract_texts(folder: Path = ROOT / "portal") -> Catalog:
    """Return the texts of the code and templates below the folder, with the files that use them."""
    catalogue = Catalog(charset="utf-8")
    found = extract_from_dir(folder, method_map=_METHODS, options_map={}, keywords=_KEYWORDS)
    for file, _line, text, _comments, _context in found:
        if text and text != ("",):
            place = (folder.name / Path(file)).as_posix()
            catalogue.add(text, locations=[(place, 0)])
    return catalogue


def render(catalogue: Catalog) -> str:
    """Return the catalogue as a .pot file, in the order of its files, then of its texts."""
    output = io.BytesIO()
    write_po(
        output,
        catalogue,
        width=_LINE_LENGTH,
        omit_header=True,
        sort_by_file=True,
        include_lineno=False,
    )
    return _HEADER + output.getvalue().decode("utf-8")


def texts(catalogue: Catalog) -> Iterator[str]:
    """Yield each text, singular and plural."""
    for entry in catalogue:
        forms = (entry.id,) if isinstance(entry.id, str) else entry.id
        yield from filter(None, forms)


if __name__ == "__main__":
    sys.stdout.write(render(extract_texts()))
