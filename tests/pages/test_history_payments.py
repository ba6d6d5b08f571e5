"""Credit History shows a payment under way, and leads from it and to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from domain.actors import MemberRole, user_actor
from domain.payments.gateway_updates import apply_updates
from tests.gateways import GATEWAYS, ScriptedGateway, begin, dong, paid, payer
from tests.support.query_counts import MOST, statements_of_a_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

CREDIT = dong(500_000)


@pytest.fixture
def paying(session: Session) -> tuple[int, str]:
    """An account whose only doing is a payment that was begun, and the payment's reference."""
    account, _owner = payer(session)
    return account, begun(session, account)


def begun(session: Session, account: int) -> str:
    owner = user_actor(9, memberships={account: MemberRole.OWNER})
    started = begin(session, ScriptedGateway(), account, owner, CREDIT)
    session.commit()
    return started.reference


def credit(session: Session, reference: str) -> None:
    update = paid(reference, CREDIT)
    apply_updates(session, gateway=ScriptedGateway(), updates=(update,), actor=GATEWAYS)
    session.commit()


def captions(app: AppTest) -> list[str]:
    return [caption.value.replace("\\", "") for caption in app.caption]


def style_of(table: Any) -> str:
    """Return how the first row of a table is styled."""
    styles = re.search(r"row0_col\d+[^{]*\{\s*([^;}]+)", table.proto.arrow_data.styler.styles)
    return styles[1].strip() if styles else ""


def test_a_payment_under_way_is_a_row_that_is_processing(
    show: Callable[..., AppTest], paying: tuple[int, str]
) -> None:
    app = show(paying[0], tab="history")
    wide, narrow = (table.value for table in app.dataframe)
    row = wide.iloc[0]
    assert len(wide) == 1
    assert row["Status"] == "Processing"
    assert row["Service"] == row["Source"] == "VNPay"
    assert row["Description"] == "Top-up · Not paid yet"
    assert row["Amount (VND)"] == "₫500,000", "nothing has come: no plus"
    assert row["Date"]
    assert wide.equals(narrow[wide.columns])
    assert captions(app)[0] == "1 row"
    assert "Times are in Asia/Tokyo." in captions(app)
    assert not app.info
    assert {style_of(table) for table in app.dataframe} == {"color: #5b6472"}


def test_a_credited_payment_is_an_entry_that_leads_to_it(
    show: Callable[..., AppTest], session: Session, paying: tuple[int, str]
) -> None:
    account, reference = paying
    credit(session, reference)
    app = show(account, tab="history")
    assert list(app.dataframe[0].value["Status"]) == ["Success"]
    assert captions(app)[0] == "1 row"
    assert app.dataframe[0].value["Amount (VND)"].iloc[0] == "+₫500,000"
    assert {style_of(table) for table in app.dataframe} == {""}
    opened = show(account, tab="history", row="e1")
    links = [link for link in opened.get("page_link") if link.proto.label == "Open payment"]
    (query,) = (parse_qs(link.proto.query_string) for link in links)
    assert query == {"ref": [reference], "back": ["tab=history&row=e1"]}


def test_rows_and_a_payment_are_counted_together(
    show: Callable[..., AppTest], session: Session, paying: tuple[int, str]
) -> None:
    account, reference = paying
    credit(session, reference)
    begun(session, account)
    app = show(account, tab="history")
    assert list(app.dataframe[0].value["Status"]) == ["Processing", "Success"]
    assert captions(app)[0] == "2 rows"


def test_the_page_asks_as_little_with_a_payment_under_way(
    show: Callable[..., AppTest], paying: tuple[int, str]
) -> None:
    statements = statements_of_a_run(show(paying[0], tab="history"))
    assert 0 < len(statements) <= MOST["history"], "\n".join(statements)
