from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pypdf import PdfReader

from domain.payments import DocumentContent
from portal.exports import receipt_pdf

if TYPE_CHECKING:
    from collections.abc import Iterable

VIETNAM = DocumentContent(
    kind="receipt",
    number="VN-R-2026-000123",
    issued_on="2026-11-24",
    seller="AI Marketplace Vietnam",
    seller_country="VN",
    customer="Công ty TNHH Nguyễn Thị Hạnh",
    address="Số 1 Đường Nguyễn Huệ, Quận 1, Hồ Chí Minh",
    country="VN",
    tax_code="0100109106",
    email="lan@example.com",
    reference="ABCDEFGHJKLMNPQRSTUV",
    gateway="vnpay",
    gateway_payment_id="14422574",
    is_sandbox=False,
    happened_at="2026-11-23T18:33:00+00:00",
    pay_micros=1_000_000_000_000,
    pay_currency="VND",
    credit_micros=1_000_000_000_000,
    credit_currency="VND",
    exchange_rate="",
    tax_point="TOP_UP",
    tax_rate="10",
    tax_micros=90_909_090_909,
    refers_to="",
    language="vi",
)
JAPAN = replace(
    VIETNAM,
    number="JP-R-2026-000007",
    seller="AI Marketplace Japan",
    customer="株式会社サンプル 髙﨑太郎",
    address="東京都渋谷区神南一丁目2番3号",
    country="JP",
    tax_code="T1234567890123",
    gateway="stripe",
    pay_micros=10_000_000_000,
    pay_currency="JPY",
    credit_micros=10_000_000_000,
    credit_currency="JPY",
    tax_point="USAGE",
    tax_micros=None,
    language="ja",
)
DOLLARS = replace(
    VIETNAM,
    gateway="paypal",
    pay_micros=39_970_000,
    pay_currency="USD",
    exchange_rate="25019",
)


def text_of(content: DocumentContent) -> str:
    pages = PdfReader(io.BytesIO(receipt_pdf.render(content, zone="Asia/Ho_Chi_Minh"))).pages
    return "\n".join(page.extract_text() for page in pages)


def check(content: DocumentContent, expected: Iterable[str]) -> None:
    text = text_of(content)
    for each in expected:
        assert each in text, each


def test_cancellation_names_the_credit_note_and_says_why() -> None:
    cancellation = replace(
        VIETNAM, kind="cancellation", number="VN-X-2026-000001", refers_to="VN-C-2026-000009"
    )
    check(
        cancellation,
        [
            "Cancellation of a credit note",
            "VN-X-2026-000001",
            "Cancels credit note VN-C-2026-000009",
            "Amount cancelled",
            "₫1,000,000",
            "was not paid, or became part of a dispute",
        ],
    )


def test_credit_note_names_the_receipt() -> None:
    note = replace(VIETNAM, kind="credit_note", refers_to="VN-R-2026-000123")
    check(note, ["Credit note", "For receipt VN-R-2026-000123", "Amount refunded"])


def test_vietnamese_and_dong() -> None:
    check(
        VIETNAM,
        [
            "VN-R-2026-000123",
            "Nov 24, 2026",
            "Công ty TNHH Nguyễn Thị Hạnh",
            "Số 1 Đường Nguyễn Huệ, Quận 1, Hồ Chí Minh",
            "₫1,000,000",
            "₫909,091",
            "₫90,909",
            "not a tax invoice",
        ],
    )


def test_japanese_and_yen_without_tax_on_a_top_up() -> None:
    check(
        JAPAN,
        [
            "株式会社サンプル",
            "髙﨑太郎",
            "東京都渋谷区神南一丁目2番3号",
            "¥10,000",
            "tax is due when",
        ],
    )
    assert "Tax included" not in text_of(JAPAN)


def test_dollars_that_bought_dong_show_the_rate() -> None:
    check(DOLLARS, ["$39.97", "1 USD = 25,019 VND", "₫1,000,000"])


def test_a_credit_note_names_its_receipt() -> None:
    note = replace(VIETNAM, kind="credit_note", refers_to="VN-R-2026-000122")
    check(note, ["Credit note", "For receipt VN-R-2026-000122", "Amount refunded"])


def test_test_money_says_so() -> None:
    assert "TEST: no money was moved" in text_of(replace(VIETNAM, is_sandbox=True))
    assert "TEST" not in text_of(VIETNAM)


def test_the_same_content_makes_the_same_bytes() -> None:
    first, second = (receipt_pdf.render(VIETNAM, zone="Asia/Ho_Chi_Minh") for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "name",
    [
        "A" * 10_000,
        "\u202eabc\x00\x1b[31m",
        "\U0001f600 \uac00 \u0639\u0631\u0628\u064a",
        "<b>&amp;</b> **x** ${y}",
        " ",
    ],
)
def test_whatever_a_customer_is_called_there_is_a_receipt(name: str) -> None:
    check(replace(VIETNAM, customer=name, address=name), ["VN-R-2026-000123", "₫1,000,000"])


def test_what_has_no_glyph_is_marked() -> None:
    assert "\N{GETA MARK}" in text_of(replace(VIETNAM, customer="\uac00"))


def test_receipt_names_the_zone_of_its_time() -> None:
    check(VIETNAM, ["Nov 24, 2026, 1:33:00", "Times are in Asia/Ho_Chi_Minh."])


def test_receipt_of_a_bank_transfer_has_a_day_and_no_time() -> None:
    transfer = replace(VIETNAM, gateway="bank", happened_at="2026-11-23T05:00:00+00:00")
    text = text_of(transfer)
    assert "Nov 23, 2026" in text
    assert "12:00" not in text
    assert "Times are in" not in text
    note = replace(transfer, kind="credit_note")
    check(note, ["Nov 23, 2026, 12:00:00", "Times are in Asia/Ho_Chi_Minh."])
