"""The billing page as Streamlit runs it, for each kind of person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from domain import ledger
from domain.actors import StaffRole, user_actor
from domain.history.cursors import HistoryCursor
from domain.identity import create_user
from domain.metering.usage import UsageEvent, record_usage
from domain.staff import change_staff_role
from tests.factories import SYSTEM, UNIT, charge, grant, make_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)


@pytest.fixture
def account(session: Session) -> int:
    """An account with credit of three kinds, a hold, a charge with a call, and a refusal."""
    account = make_account(session)
    grant(session, account, 10, kind="plan", expires_at=NOW + timedelta(days=20))
    grant(session, account, 20, kind="voucher", origin="WELCOME$20", services=("ai-notebook",))
    grant(session, account, 30)
    call = UsageEvent(
        account,
        "tests",
        "call-1",
        "ai-inference",
        NOW,
        {"input-tokens": 13_394, "output-tokens": 127},
        "llama-3.1-8b-instruct",
    )
    record_usage(session, events=[call], actor=SYSTEM)
    charge(session, account, 500, occurred_at=NOW, service="gpu-vm")
    ledger.place_hold(
        session,
        account_id=account,
        service="gpu-vm",
        amount_micros=4 * UNIT,
        expires_at=NOW + timedelta(days=1),
        source="vm-1",
        actor=SYSTEM,
        idempotency_key="hold",
    )
    session.commit()
    return account


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value.replace("\\", "") for metric in app.metric}


def test_the_overview_tells_total_available_on_hold_and_due(
    show: Callable[..., AppTest], account: int
) -> None:
    app = show(account)
    assert metrics(app) == {
        "Total balance": "$60.00",
        "Available": "$56.00",
        "On hold": "$4.00",
        "Amount due": "$0.00",
    }
    kinds = app.dataframe[0].value
    assert dict(zip(kinds["Credit"], kinds["Remaining"], strict=True)) == {
        "Plan credit": "$10.00",
        "Voucher credit": "$20.00",
        "Top-up credit": "$30.00",
    }
    order = app.dataframe[1].value
    assert list(order["Credit"]) == ["Plan credit", "Voucher credit", "Top-up credit"]
    assert list(order["Services"]) == ["All", "AI Notebook", "All"]


def test_credit_that_has_ended_is_not_in_the_balance(
    show: Callable[..., AppTest], session: Session
) -> None:
    account = make_account(session)
    granted_at = NOW - timedelta(hours=2)
    session.info["clock"] = lambda: granted_at
    grant(session, account, 26, kind="voucher", expires_at=NOW - timedelta(minutes=20))
    del session.info["clock"]
    charge(session, account, 4, occurred_at=NOW, refusable=False)
    session.commit()
    app = show(account)
    shown = metrics(app)
    assert shown["Total balance"].replace("\N{MINUS SIGN}", "-") == "-$4.00"
    assert (shown["Available"], shown["Amount due"]) == ("$0.00", "$4.00")
    message = [caption.value.replace("\\", "") for caption in app.caption]
    assert any(
        text.startswith("$26.00 has expired and is no longer in the balance.") for text in message
    )
    (table,) = [each.value for each in app.dataframe if "Expires" in each.value.columns]
    assert table["Status"].tolist() == ["Expired"]


def test_the_history_has_every_row_with_its_status_and_amount(
    show: Callable[..., AppTest], account: int
) -> None:
    rows = show(account, tab="history").dataframe[0].value
    assert list(rows.columns) == [
        "Date",
        "Service",
        "Source",
        "Description",
        "Code",
        "Status",
        "Amount (USD)",
    ]
    message = dict(zip(rows["Status"], rows["Amount (USD)"], strict=True))
    assert message["Failed"] == "\N{MINUS SIGN}$500.00"
    assert message["Processing"] == "\N{MINUS SIGN}$4.00"
    assert sorted(rows["Status"]).count("Success") == 4
    assert "+$20.00" in set(rows["Amount (USD)"])
    assert "WELCOME$20" in set(rows["Code"])
    assert "1 call · 13,394 input tokens · 127 output tokens" in set(rows["Description"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"service": "ai-inference"}, 1),
        ({"status": "failed"}, 1),
        ({"kind": "voucher"}, 1),
        ({"kind": "top_up", "status": "success"}, 1),
        ({"text": "welcome"}, 1),
        ({"service": "no-such-service", "status": "x"}, 6),
        ({"older": "garbage", "newer": "garbage"}, 6),
        ({"from": "not-a-date"}, 6),
        ({"from": "0001-01-01", "to": "9999-12-31"}, 6),
    ],
)
def test_filters_in_the_address_combine_and_nonsense_is_ignored(
    show: Callable[..., AppTest], account: int, query: dict[str, str], expected: int
) -> None:
    assert len(show(account, tab="history", **query).dataframe[0].value) == expected


def test_filters_that_match_nothing_say_what_to_do(
    show: Callable[..., AppTest], account: int
) -> None:
    app = show(account, tab="history", **{"from": "2020-01-01", "to": "2020-01-31"})
    assert [info.value for info in app.info] == [
        "No results. Reset the filters, or choose a longer period."
    ]
    reset = next(button for button in app.button if button.label == "Reset filters")
    reset.click().run()
    assert len(app.dataframe[0].value) == 6


def test_a_charge_opens_its_grants_its_calls_and_the_running_balance(
    show: Callable[..., AppTest], account: int
) -> None:
    app = show(account, tab="history", row="e4")
    assert "Entry 4" in [heading.value for heading in app.subheader]
    facts = "".join(text.value for text in app.markdown).replace("\\", "")
    assert "Exact amount: **\N{MINUS SIGN}$0.002233**" in facts
    assert "Balance before: **$60.00**" in facts
    assert "Balance after: **$59.997767**" in facts
    movements, calls = (table.value for table in app.dataframe)
    assert list(movements["Credit"]) == ["Plan credit"]
    assert list(calls["Exact cost"]) == ["$0.002233759"]
    assert (
        Decimal("0.002233759")
        == Decimal(13_394) * Decimal("0.165") / 10**6 + Decimal(127) * Decimal("0.187") / 10**6
    )


@pytest.mark.parametrize("row", ["e999", "r999", "h999", "x1", "e1 OR 1=1"])
def test_a_row_that_is_not_there_is_said_so(
    show: Callable[..., AppTest], account: int, row: str
) -> None:
    app = show(account, tab="history", row=row)
    assert [warning.value for warning in app.warning] == ["Entry not found on this account."]


def test_a_refusal_and_a_hold_open_too(show: Callable[..., AppTest], account: int) -> None:
    assert "Declined charge: not enough credit" in [
        heading.value for heading in show(account, tab="history", row="r1").subheader
    ]
    assert "Hold 1" in [
        heading.value for heading in show(account, tab="history", row="h1").subheader
    ]


def test_another_accounts_number_in_the_address_shows_ones_own(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    mine = make_account(session)
    grant(session, mine, 1)
    session.commit()
    for named in (str(account), "999999", "0", "-1", "x"):
        app = show(mine, account=named)
        assert len(app.warning) == 1
        assert metrics(app)["Total balance"] == "$1.00"


def test_staff_see_an_account_by_its_number_and_that_it_is_not_theirs(
    show: Callable[..., AppTest], account: int
) -> None:
    app = show(None, staff_role=StaffRole.SUPPORT, account=str(account))

    def is_reported() -> bool:
        return any("as staff" in info.value for info in app.info)

    assert not is_reported()
    for name in ("account", "payments", "approvals", "rates", "usage", "members", "billing"):
        app.switch_page(f"pages/{name}.py").run()
        assert not app.exception
        assert is_reported() == (name in {"usage", "members", "billing"}), name
    app.switch_page("pages/billing.py").run()
    assert metrics(app)["Total balance"] == "$60.00"


def test_a_person_without_an_account_is_told_what_to_do(show: Callable[..., AppTest]) -> None:
    app = show(None)
    assert [info.value for info in app.info] == [
        "You are not a member of an account yet. Ask an account owner to invite you."
    ]


def test_a_colleague_whose_role_waits_is_told_so(
    show: Callable[..., AppTest], session: Session
) -> None:
    app = show(None)
    admin_id = create_user(
        session,
        email="admin@example.com",
        display_name="Admin",
        password="violet-kettle-9-march",
        staff_role=StaffRole.ADMIN,
        actor=SYSTEM,
    )
    change_staff_role(
        session,
        user_id=1,
        role=StaffRole.FINANCE,
        reason="hired",
        actor=user_actor(admin_id, staff_role=StaffRole.ADMIN),
    )
    session.commit()
    app.run()
    (message,) = [info.value for info in app.info]
    assert message.startswith("Your role is waiting for approval by an administrator.")


def test_debt_is_shown_with_what_happens_next(
    show: Callable[..., AppTest], session: Session
) -> None:
    account = make_account(session)
    charge(session, account, 3, occurred_at=NOW, refusable=False)
    session.commit()
    app = show(account)
    assert metrics(app)["Amount due"] == "$3.00"
    assert "Your next top-up pays this first." in app.warning[0].value
    assert list(app.dataframe[0].value.columns) == ["Reason", "Since", "Amount due"]


def test_a_look_of_staff_is_kept_in_the_audit_log_once(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    app = show(None, staff_role=StaffRole.SUPPORT, account=str(account))
    app.run()
    looks = session.execute(
        text("SELECT actor, account_id FROM audit_log WHERE action = 'look_at_account'")
    )
    assert looks.all() == [("user:1", account)]
    assert app.query_params["account"] == str(account)


def test_staff_who_have_chosen_no_account_are_told_where_to_choose(
    show: Callable[..., AppTest],
) -> None:
    app = show(None, staff_role=StaffRole.FINANCE)
    app.switch_page("pages/billing.py").run()
    assert "Accounts" in app.info[0].value


def test_staff_find_an_account_by_a_part_of_its_name(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    other = make_account(session)
    session.commit()
    app = show(None, staff_role=StaffRole.SUPPORT)
    labels = {f"Open account {account}", f"Open account {other}"}
    assert {button.label for button in app.button} == labels
    app.text_input[0].set_value(str(other)).run()
    assert f"Open account {other}" in {button.label for button in app.button}
    app.text_input[0].set_value(f"#{other}").run()
    assert {button.label for button in app.button} == {f"Open account {other}"}
    message = (
        "No account found. Search by account name, account number, a member's full email"
        " address, payment reference or voucher code."
    )
    for search_text in ("no such name", "reader@"):
        app.text_input[0].set_value(search_text).run()
        assert [info.value for info in app.info] == [message]


def test_new_installation_says_that_it_has_no_accounts(show: Callable[..., AppTest]) -> None:
    app = show(None, staff_role=StaffRole.SUPPORT)
    assert [info.value for info in app.info] == ["No accounts yet."]
    app.text_input[0].set_value("any name").run()
    assert [info.value for info in app.info] == ["No accounts yet."]


def test_an_account_that_staff_cannot_find_is_not_called_their_own(
    show: Callable[..., AppTest],
) -> None:
    app = show(None, staff_role=StaffRole.SUPPORT, account="999999")
    assert [warning.value for warning in app.warning] == ["Account not found."]


def test_a_filter_goes_into_the_address_and_starts_at_the_newest_row(
    show: Callable[..., AppTest], account: int
) -> None:
    token = HistoryCursor(NOW, 1, 5).encode()
    app = show(account, tab="history", older=token)
    app.multiselect(key="history_kind").set_value(["voucher", "plan"]).run()
    assert not app.exception
    assert app.query_params["kind"] == ["voucher", "plan"]
    assert "older" not in app.query_params
    assert len(app.dataframe[0].value) == 2
    app.multiselect(key="history_kind").set_value([]).run()
    assert "kind" not in app.query_params


def test_an_account_without_history_says_what_will_come(
    show: Callable[..., AppTest], session: Session
) -> None:
    account = make_account(session)
    session.commit()
    overview = show(account)
    assert metrics(overview)["Total balance"] == "$0.00"
    assert "No credit. Add credit" in overview.info[0].value
    assert "No entries yet." in show(account, tab="history").info[0].value


def test_calls_come_in_pages(show: Callable[..., AppTest], session: Session, account: int) -> None:
    calls = [
        UsageEvent(
            account,
            "tests",
            f"many-{number}",
            "ai-inference",
            NOW,
            {"input-tokens": 1_000, "output-tokens": 1},
            "deepseek-v3",
        )
        for number in range(60)
    ]
    record_usage(session, events=calls, actor=SYSTEM)
    session.commit()
    app = show(account, tab="history", row="e5")
    assert len(app.dataframe[1].value) == 50
    next(button for button in app.button if button.label == "More calls").click().run()
    assert len(app.dataframe[1].value) == 10
    assert app.query_params["calls"] == "50"
    next(button for button in app.button if button.label == "First calls").click().run()
    assert len(app.dataframe[1].value) == 50


def test_a_reversal_and_its_original_lead_to_each_other(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    ledger.reverse_entry(
        session,
        account_id=account,
        entry_sequence=3,
        reason="sample",
        actor=SYSTEM,
        idempotency_key="reversal",
    )
    session.commit()
    app = show(account, tab="history", row="e3")
    next(button for button in app.button if button.label.startswith("Reversed by")).click().run()
    assert "Entry 5" in [heading.value for heading in app.subheader]
    next(button for button in app.button if button.label.startswith("Reverses")).click().run()
    assert "Entry 3" in [heading.value for heading in app.subheader]


def test_what_was_used_reads_as_people_say_it(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    container = UsageEvent(
        account,
        "tests",
        "container",
        "gpu-container",
        NOW,
        {"gpus": 2, "gpu-time": 5_400, "disk-gigabytes": 100, "disk-time": 3_600},
        "h100",
    )
    record_usage(session, events=[container], actor=SYSTEM)
    session.commit()
    rows = show(account, tab="history", service="gpu-container").dataframe[0].value
    times = "\N{MULTIPLICATION SIGN}"
    assert list(rows["Description"]) == [f"2 GPU {times} 1 hr 30 min · 100 GB disk {times} 1 hr"]


def test_wide_and_narrow_screens_show_the_same_rows(
    show: Callable[..., AppTest], account: int
) -> None:
    wide, narrow = (table.value for table in show(account, tab="history").dataframe)
    assert list(narrow.columns)[:2] == ["Date", "Amount (USD)"]
    assert wide.equals(narrow[wide.columns])
