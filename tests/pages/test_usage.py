"""The usage page as Streamlit runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from domain import ledger
from domain.actors import StaffRole
from domain.metering.usage import UsageEvent, record_usage
from tests.factories import SYSTEM, UNIT, charge, grant, make_account, make_site
from tests.pages.conftest import FURTHEST_EAST, FURTHEST_WEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

PAGE = "pages/usage.py"
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)


@pytest.fixture
def account(session: Session) -> int:
    account = make_account(session)
    grant(session, account, 100)
    for days, amount, service in ((0, 6, "gpu-vm"), (2, 3, "ai-notebook"), (45, 10, "gpu-vm")):
        charge(
            session,
            account,
            amount,
            occurred_at=NOW - timedelta(days=days),
            service=service,
            refusable=False,
        )
    quantities = {"input-tokens": 2_000_000, "output-tokens": 1_000}
    event = UsageEvent(account, "t", "c1", "ai-inference", NOW, quantities, "llama-3.1-8b-instruct")
    record_usage(session, events=[event], actor=SYSTEM)
    session.commit()
    return account


def open_usage(app: AppTest) -> AppTest:
    app.switch_page(PAGE).run()
    assert not app.exception
    return app


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value.replace("\\", "") for metric in app.metric}


def test_the_page_tells_what_was_spent_on_what(show: Callable[..., AppTest], account: int) -> None:
    app = open_usage(show(account))
    message = metrics(app)
    assert message["Spent"].startswith("$9.")
    assert message["Calls"] == "1"
    most_expensive = app.dataframe[1].value
    assert list(most_expensive["Service"]) == ["GPU VM", "AI Notebook", "AI Inference"]
    assert list(most_expensive["Usage"])[-1] == "2,000,000 input tokens · 1,000 output tokens"
    assert "over a year" not in message["Runway"]


def test_credit_that_is_held_is_said_to_be_out_of_the_forecast(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    def message() -> list[str]:
        captions = [
            caption.value.replace("\\", "") for caption in open_usage(show(account)).caption
        ]
        return [caption for caption in captions if "forecast" in caption]

    assert message() == []
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
    assert message() == ["$4.00 is on hold. The forecast does not include it."]


def test_time_used_reads_in_hours_and_sizes_are_not_summed(
    show: Callable[..., AppTest], session: Session
) -> None:
    account = make_account(session)
    grant(session, account, 100)
    for number, gpus in enumerate((1, 2)):
        quantities = {"gpus": gpus, "gpu-time": 5_400, "disk-gigabytes": 100, "disk-time": 3_600}
        event = UsageEvent(account, "t", f"c{number}", "gpu-container", NOW, quantities, "h100")
        record_usage(session, events=[event], actor=SYSTEM)
    session.commit()
    most_expensive = open_usage(show(account)).dataframe[1].value
    assert list(most_expensive["Usage"]) == ["Disk 2 hr · GPU time 3 hr"]


def test_a_longer_period_has_more_and_weeks_for_days(
    show: Callable[..., AppTest], account: int
) -> None:
    app = open_usage(show(account))
    app.selectbox(key="usage_period").select("365").run()
    assert not app.exception
    assert metrics(app)["Spent"].startswith("$19.")
    assert app.selectbox(key="usage_bars").options == ["Weeks", "Months"]
    assert app.query_params["period"] == "365"


def test_own_days_are_kept_in_the_address_and_a_wrong_order_is_told(
    show: Callable[..., AppTest], account: int
) -> None:
    yesterday = (NOW - timedelta(days=1)).date()
    app = open_usage(show(account, period="own"))
    app.query_params["period"] = "own"
    app.query_params["from"] = (yesterday - timedelta(days=2)).isoformat()
    app.query_params["to"] = yesterday.isoformat()
    app.run()
    assert metrics(app)["Spent"] == "$3.00"
    app.query_params["to"] = (yesterday - timedelta(days=9)).isoformat()
    app.run()
    assert "is before the From date" in app.warning[0].value


def test_an_account_without_usage_says_what_to_do(
    show: Callable[..., AppTest], session: Session
) -> None:
    account = make_account(session)
    session.commit()
    app = open_usage(show(account))
    assert "Choose a longer period" in app.info[0].value
    assert metrics(app)["Runway"] == "\N{EN DASH}"


def test_staff_see_the_account_they_look_at(show: Callable[..., AppTest], account: int) -> None:
    app = show(None, staff_role=StaffRole.SUPPORT, account=str(account))
    assert metrics(open_usage(app))["Calls"] == "1"
    nobody = open_usage(show(None, staff_role=StaffRole.SUPPORT))
    assert "Choose an account under Accounts first" in nobody.info[0].value


def test_a_viewer_behind_the_sites_clock_sees_the_sites_day(
    show: Callable[..., AppTest], session: Session
) -> None:
    """The viewer's clock is a day and an hour behind the site's."""
    account = make_account(session, site=make_site(session, code="east", zone=FURTHEST_EAST))
    grant(session, account, 100)
    charge(session, account, 7, occurred_at=NOW)
    session.commit()
    app = open_usage(show(account, time_zone=FURTHEST_WEST))
    assert metrics(app)["Spent"] == "$7.00"


def test_days_of_a_chart_are_the_sites_days_in_the_history(
    show: Callable[..., AppTest], session: Session
) -> None:
    """At 20:00 UTC it is the next day already for the viewer, who is in Tokyo."""
    account = make_account(session)
    grant(session, account, 100)
    moment = (NOW - timedelta(days=5)).replace(hour=20)
    charge(session, account, 1, occurred_at=moment, service="gpu-vm")
    session.commit()
    day = moment.date().isoformat()
    days = {"tab": "history", "kind": "charge", "from": day, "to": day}
    assert "1 row" not in [caption.value for caption in show(account, **days).caption]
    message = [caption.value for caption in show(account, **days, zone="UTC").caption]
    assert "1 row" in message
    assert any("From and To are dates in UTC" in caption for caption in message)
