"""What Credit History says of a file: how far it is, that it is ready, that it failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from domain.actors import MemberRole, user_actor
from domain.history import export_jobs
from domain.history.export_jobs import ExportOptions, ExportState
from domain.history.rows import HistoryFilter
from tests.factories import SYSTEM, charge, grant, make_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest


@pytest.fixture
def account(session: Session) -> int:
    account = make_account(session)
    grant(session, account, 10)
    charge(session, account, 1, occurred_at=datetime.now(UTC))
    session.commit()
    return account


def begin(session: Session, account: int, user_id: int = 1) -> int:
    actor = user_actor(user_id, memberships={account: MemberRole.OWNER})
    options = ExportOptions(account, HistoryFilter(), "xlsx", "UTC", "en")
    job_id = export_jobs.begin_export(session, actor=actor, options=options)
    session.commit()
    return job_id


def history(show: Callable[..., AppTest], account: int, job_id: int) -> AppTest:
    return show(account, tab="history", export=str(job_id))


def html_of(app: AppTest) -> str:
    return " ".join(str(element.proto.body) for element in app.get("html"))


def progress_of(app: AppTest) -> Any:
    (bar,) = app.get("progress")
    return bar.proto


def test_a_file_that_is_written_shows_how_far_it_is(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    job_id = begin(session, account)
    bar = progress_of(history(show, account, job_id))
    assert (bar.value, bar.text) == (0, "Writing the file: counting rows")
    export_jobs.note_progress(session, actor=SYSTEM, job_id=job_id, progress=(250_000, 1_000_000))
    session.commit()
    bar = progress_of(history(show, account, job_id))
    assert bar.value == 25
    assert bar.text == "Writing the file: 250,000 of 1,000,000 rows"


def test_a_file_that_is_done_has_a_link(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    job_id = begin(session, account)
    export_jobs.finish_export(session, actor=SYSTEM, job_id=job_id, state=ExportState.DONE)
    session.commit()
    assert f'href="/exports/file?id={job_id}"' in html_of(history(show, account, job_id))


def test_a_file_that_failed_says_what_to_do(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    job_id = begin(session, account)
    session.execute(text("UPDATE export_jobs SET progress_at = now() - interval '3 minutes'"))
    session.commit()
    app = history(show, account, job_id)
    assert [error.value for error in app.error] == ["The export failed. Try again."]


def test_somebody_elses_file_is_none(
    show: Callable[..., AppTest], session: Session, account: int
) -> None:
    job_id = begin(session, account, user_id=2)
    app = history(show, account, job_id)
    assert "This file is no longer available. Export it again." in [info.value for info in app.info]
    assert "/exports/file" not in html_of(app)


def test_the_form_asks_for_what_the_page_shows(show: Callable[..., AppTest], account: int) -> None:
    app = show(account, tab="history", service="gpu-vm", text='"><script>')
    form = html_of(app)
    assert "&quot;services&quot;: [&quot;gpu-vm&quot;]" in form
    assert "<script>" not in form
    assert "disabled" in form, "no row matches: there is nothing to export"
