"""The Settings tab lets each person choose how they see the portal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from domain.actors import StaffRole
from domain.identity import create_user
from tests.factories import SYSTEM, make_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest


def signed_up(session: Session) -> int:
    """Return an account, and have the person of `show` exist."""
    account = make_account(session)
    create_user(
        session,
        email="sample@example.com",
        display_name="Sample Person",
        password="a password of some length",
        staff_role=None,
        actor=SYSTEM,
    )
    session.commit()
    return account


def test_language_and_zone_are_chosen_and_kept(
    show: Callable[..., AppTest], session: Session
) -> None:
    app = show(signed_up(session), tab="settings")
    assert "Display" in [heading.value for heading in app.subheader]
    choices = {box.label: box for box in app.selectbox}
    assert choices["Your time zone"].value == "Asia/Tokyo"
    assert "USD" in next(caption.value for caption in app.caption if "Amounts" in caption.value)
    choices["Your time zone"].set_value("Europe/Paris")
    next(button for button in app.button if button.label == "Save display").click().run()
    assert not app.exception
    assert [note.value for note in app.success] == ["Display settings saved."]
    row = session.execute(text("SELECT locale, time_zone FROM users WHERE id = 1")).one()
    assert tuple(row) == ("en", "Europe/Paris")


def test_staff_choose_for_themselves_also_beside_a_customers_account(
    show: Callable[..., AppTest], session: Session
) -> None:
    account = signed_up(session)
    app = show(None, staff_role=StaffRole.SUPPORT, account=str(account), tab="settings")
    app.switch_page("pages/billing.py").run()
    assert "Your language" in {box.label for box in app.selectbox}
