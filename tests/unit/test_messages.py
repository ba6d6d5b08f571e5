"""The catalogue of texts is what the code says now."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from babel.messages.pofile import read_po

from scripts import messages

if TYPE_CHECKING:
    from pathlib import Path


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
