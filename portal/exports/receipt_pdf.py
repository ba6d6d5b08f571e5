"""Receipts, credit notes and their cancellations as PDF, in the customer's language and script.

Latin letters, Vietnamese among them, are Source Sans; what it lacks comes from Kurinto Sans JP.
Both are embedded, so that a document looks the same everywhere. The same content makes the same
bytes.
"""

from __future__ import annotations

import unicodedata
from datetime import date as calendar_date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from babel import Locale
from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import XPos, YPos

from domain.gateways.registry import BANK
from domain.payments.receipts import CANCELLATION, CREDIT_NOTE, RECEIPT, moment
from portal.ui import formats
from portal.ui.i18n import N_, _, current_language
from portal.ui.labels import gateways as gateway_labels

if TYPE_CHECKING:
    from domain.payments import DocumentContent

_MARGIN_MM = 20
_LINE_MM = 6
_LABEL_MM = 55
_BODY_PT, _SMALL_PT, _TITLE_PT, _TOTAL_PT = 10, 8.5, 22, 16
_GREY, _BLACK, _WARNING = (95, 95, 95), (20, 20, 20), (170, 60, 0)
_MAX_LINE_LENGTH = 400
_WORDS = {
    RECEIPT: {
        "title": N_("Receipt"),
        "about": N_("Payment"),
        "moment": N_("Paid on"),
        "credit": N_("Credit added"),
        "total": N_("Amount paid"),
    },
    CREDIT_NOTE: {
        "title": N_("Credit note"),
        "refers_to": N_("For receipt {number}"),
        "about": N_("Refund"),
        "moment": N_("Refunded on"),
        "credit": N_("Credit clawed back"),
        "total": N_("Amount refunded"),
    },
    CANCELLATION: {
        "title": N_("Cancellation of a credit note"),
        "refers_to": N_("Cancels credit note {number}"),
        "about": N_("Refund not paid"),
        "moment": N_("Cancelled on"),
        "credit": N_("Credit on the credit note"),
        "total": N_("Amount cancelled"),
        "note": N_("The refund on this credit note was not paid, or became part of a dispute."),
    },
}
_MISSING = "\N{GETA MARK}"
_FONTS = "static/weblate_fonts"
_REGULAR = "source-sans/ttf/SourceSans3-Regular.ttf"
_BOLD = "source-sans/ttf/SourceSans3-Semibold.ttf"
_FALLBACK = "kurinto/ttf/KurintoSansJP-Rg.ttf"


def render(content: DocumentContent, *, zone: str) -> bytes:
    """Return the document as PDF; `zone` is that of the seller's site."""
    page = _Page(content, zone)
    page.draw()
    return bytes(page.pdf.output())


@cache
def _known_characters() -> frozenset[int]:
    found: set[int] = set()
    for name in (_REGULAR, _FALLBACK):
        with TTFont(_path(name), lazy=True) as font:
            found.update(font.getBestCmap())
    return frozenset(found)


def _path(name: str) -> str:
    return str(files("weblate_fonts").joinpath(_FONTS, name))


def _printable(text: str) -> str:
    """Return a line that can be drawn: no control characters, and a mark for what has no glyph."""
    tidy = "".join(" " if unicodedata.category(char)[0] == "C" else char for char in text)
    known = _known_characters()
    drawn = "".join(char if ord(char) in known else _MISSING for char in tidy[:_MAX_LINE_LENGTH])
    return " ".join(drawn.split())


class _Page:
    """An A4 page, from the top: the seller, the customer, what was paid, and the total."""

    def __init__(self, content: DocumentContent, zone: str) -> None:
        self._content = content
        self._zone = zone
        self.pdf = FPDF(format="A4")
        self.pdf.set_creation_date(moment(content))
        self.pdf.set_title(_printable(f"{self._title()} {content.number}"))
        self.pdf.set_lang(content.language)
        self.pdf.add_font("sans", "", _path(_REGULAR))
        self.pdf.add_font("sans", "B", _path(_BOLD))
        self.pdf.add_font("more", "", _path(_FALLBACK))
        self.pdf.set_fallback_fonts(["more"], exact_match=False)
        self.pdf.set_margins(_MARGIN_MM, _MARGIN_MM, _MARGIN_MM)
        self.pdf.set_auto_page_break(auto=True, margin=_MARGIN_MM)
        self.pdf.add_page()

    def draw(self) -> None:
        """Draw everything."""
        self._head()
        self._parties()
        self._amounts()
        self._notes()

    def _title(self) -> str:
        return self._word("title")

    def _word(self, name: str) -> str:
        return _(_WORDS[self._content.kind][name])

    def _head(self) -> None:
        content = self._content
        self._text(self._title(), size=_TITLE_PT, style="B", height=12)
        self._text(content.number, size=_BODY_PT)
        issued = formats.date(calendar_date.fromisoformat(content.issued_on))
        self._text(_("Date: {date}").format(date=issued), size=_BODY_PT)
        if content.refers_to:
            refers = self._word("refers_to").format(number=content.refers_to)
            self._text(refers, size=_BODY_PT)
        if content.is_sandbox:
            self._text(_("TEST: no money was moved"), size=_BODY_PT, style="B", color=_WARNING)
        self._gap()

    def _parties(self) -> None:
        content = self._content
        countries = Locale.parse(current_language()).territories
        self._heading(_("Issued by"))
        self._text(content.seller)
        if content.seller_country:
            self._text(countries.get(content.seller_country, content.seller_country))
        self._gap()
        self._heading(_("Customer"))
        self._text(content.customer)
        self._text(content.address)
        self._text(countries.get(content.country, content.country))
        if content.tax_code:
            self._text(_("Tax code {code}").format(code=content.tax_code))
        self._text(content.email)
        self._gap()

    def _amounts(self) -> None:
        content = self._content
        self._heading(self._word("about"))
        self._row(_("Method"), gateway_labels.title(content.gateway))
        self._row(_("Reference"), content.reference)
        self._row(_("Transaction"), content.gateway_payment_id)
        self._row(self._word("moment"), self._moment())
        if content.exchange_rate:
            rate = _("1 {paid} = {rate} {credited}").format(
                paid=content.pay_currency,
                rate=formats.number(Decimal(content.exchange_rate)),
                credited=content.credit_currency,
            )
            self._row(_("Exchange rate"), rate)
        self._row(self._word("credit"), formats.money(content.credit))
        self._tax()
        self._gap()
        self.pdf.set_draw_color(*_GREY)
        self.pdf.line(_MARGIN_MM, self.pdf.y, self.pdf.w - _MARGIN_MM, self.pdf.y)
        self._gap()
        self._row(self._word("total"), formats.money(content.pay), size=_TOTAL_PT, style="B")

    def _moment(self) -> str:
        content = self._content
        show = formats.date_time if self._has_time() else formats.date
        return show(moment(content), self._zone)

    def _has_time(self) -> bool:
        """Return whether the payment's time is known: for a transfer only its day is."""
        return self._content.gateway != BANK or self._content.kind != RECEIPT

    def _tax(self) -> None:
        tax = self._content.tax
        if tax is None:
            return
        rate = _("Tax included ({rate} %)").format(
            rate=formats.number(Decimal(self._content.tax_rate))
        )
        self._row(_("Net"), formats.money(self._content.credit - tax))
        self._row(rate, formats.money(tax))

    def _notes(self) -> None:
        self._gap()
        if "note" in _WORDS[self._content.kind]:
            self._text(self._word("note"), size=_SMALL_PT, color=_GREY)
        if self._content.tax_point != "TOP_UP":
            text = _("No tax is shown: tax is due when the credit is used.")
            self._text(text, size=_SMALL_PT, color=_GREY)
        if self._has_time():
            text = _("Times are in {zone}.").format(zone=self._zone)
            self._text(text, size=_SMALL_PT, color=_GREY)
        text = _("This is a receipt for prepaid credit. It is not a tax invoice.")
        self._text(text, size=_SMALL_PT, color=_GREY)

    def _heading(self, text: str) -> None:
        self._text(text, size=_SMALL_PT, color=_GREY)

    def _text(
        self,
        text: str,
        *,
        size: float = _BODY_PT,
        style: str = "",
        height: float = _LINE_MM,
        color: tuple[int, int, int] = _BLACK,
    ) -> None:
        self.pdf.set_font("sans", style, size)
        self.pdf.set_text_color(*color)
        self.pdf.multi_cell(
            0, height, _printable(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )
        self.pdf.set_text_color(*_BLACK)

    def _row(self, label: str, value: str, *, size: float = _BODY_PT, style: str = "") -> None:
        height = _LINE_MM * size / _BODY_PT
        self.pdf.set_font("sans", style, size)
        self.pdf.set_text_color(*_BLACK)
        self.pdf.cell(_LABEL_MM, height, _printable(label))
        self.pdf.multi_cell(
            0, height, _printable(value), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )

    def _gap(self) -> None:
        self.pdf.ln(_LINE_MM)
