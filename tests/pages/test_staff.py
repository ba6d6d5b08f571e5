"""The page of staff, and the access review."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from sqlalchemy import select, text

from db.models import AuditRecord, User
from domain.accounts import add_member
from domain.actors import MemberRole, StaffRole, user_actor
from portal.staff import review
from tests.factories import make_account
from tests.integration.test_support import make_person
from tests.support.owner import as_owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.actors import Actor

__all__ = ["make_person"]


@pytest.fixture
def admin(session: Session, make_person: Callable[[StaffRole], Actor]) -> Actor:
    """The person who looks: number 1."""
    found = make_person(StaffRole.ADMIN)
    session.commit()
    assert found.user_id == 1
    return found


@pytest.fixture
def page(staff_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def shown(role: StaffRole = StaffRole.ADMIN, **query: str) -> AppTest:
        return staff_page("staff", role, **query)

    return shown


def texts(elements: Any) -> list[str]:
    return [element.value.replace("\\", "") for element in elements]


def press(app: AppTest, label: str) -> AppTest:
    (button,) = [each for each in app.button if each.label == label]
    button.click().run()
    assert not app.exception
    return app


def test_alone_one_is_told_to_find_a_second(page: Callable[..., AppTest], admin: Actor) -> None:
    app = page()
    assert app.dataframe[0].value["Role"].tolist() == ["Administrator"]
    assert any("You are the only one here." in each for each in texts(app.info))
    assert admin.is_staff


def test_a_role_is_given_changed_and_taken_away(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    person = make_person(StaffRole.SUPPORT)
    email = session.scalars(select(User.email).where(User.id == person.user_id)).one()
    session.execute(text("UPDATE users SET staff_role = NULL WHERE id = 2"))
    session.commit()
    app = page()
    app.text_input(key="staff_email").set_value("nobody@example.com")
    app.text_input(key="staff_reason").set_value("Hired")
    press(app, "Give role")
    assert texts(app.error) == ["Nobody has signed up with this address yet."]
    app.text_input(key="staff_email").set_value(email)
    app.text_input(key="staff_reason").set_value("")
    press(app, "Give role")
    assert texts(app.error) == ["Say why."]
    app.text_input(key="staff_reason").set_value("Hired")
    press(app, "Give role")
    assert texts(app.success) == ["They have the role now, and sign in again to use it."]
    app.text_input(key="staff_change_reason").set_value("Moved")
    press(app, "Change role to Finance")
    assert app.dataframe[0].value["Role"].tolist() == ["Administrator", "Finance"]
    app.text_input(key="staff_change_reason").set_value("Away for a year")
    press(app, "Disable person")
    assert app.dataframe[0].value["State"].tolist() == ["Active", "Disabled"]
    press(app, "Enable person")
    press(app, "Remove role")
    assert app.dataframe[0].value["Role"].tolist() == ["Administrator"]


def test_finance_looks_and_changes_nothing(page: Callable[..., AppTest], admin: Actor) -> None:
    app = page(StaffRole.FINANCE)
    assert not app.text_input
    assert "Administrators give, change and remove roles." in texts(app.caption)
    assert admin.is_staff


def test_support_has_no_such_page(show: Callable[..., AppTest]) -> None:
    app = show(None, staff_role=StaffRole.SUPPORT)
    with pytest.raises(Exception, match="staff"):
        app.switch_page("pages/staff.py").run()


def test_the_access_review_says_who_may_and_who_did(
    page: Callable[..., AppTest], admin: Actor
) -> None:
    page()  # connects
    content = review.make(admin, review.workbook)
    people, may, did, flags = openpyxl.load_workbook(io.BytesIO(content)).worksheets
    assert [row[2] for row in people.values] == ["Role", "Administrator"]
    actions = {row[2] for row in may.values}
    assert "Change what one person may do alone" in actions
    assert "Refund a payment" not in actions
    assert [row[1:3] for row in did.values] == [("Action", "Times"), ("export_access_review", 1)]
    assert [row[:3] for row in flags.values] == [("Email", "Role", "Flag")]


def test_the_roles_alone_say_on_what_and_by_whom(
    session: Session, page: Callable[..., AppTest], admin: Actor
) -> None:
    page()  # connects
    account = make_account(session)
    owner = user_actor(900, memberships={account: MemberRole.OWNER})
    add_member(session, account_id=account, user_id=1, role=MemberRole.READER, actor=owner)
    with as_owner(session):
        session.execute(text("UPDATE accounts SET name = '=cmd()' WHERE id = :id"), {"id": account})
    session.commit()
    content = review.make(admin, review.roles_csv).decode("utf-8-sig")
    titles, staff, member = csv.reader(io.StringIO(content))
    assert titles[2:4] == ["Role", "On"]
    assert staff[2:7] == ["Administrator", "everything", "Active", "", "system:tests"]
    assert member[2:4] == ["Reader", f"'=cmd() · {account}"]
    assert member[6] == "user:900"
    assert titles[-1] == "Flags"
    assert staff[-1] == member[-1] == f"Member of customer account =cmd() · {account}"
    actions = session.scalars(select(AuditRecord.action)).all()
    assert actions.count("export_access_review") == 1


def test_a_customer_is_looked_up_shut_out_and_let_in_again(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    make_person(StaffRole.SUPPORT)
    session.execute(text("UPDATE users SET staff_role = NULL WHERE id = 2"))
    email = session.scalars(select(User.email).where(User.id == 2)).one()
    session.commit()
    app = page()
    app.text_input(key="sought_email").set_value("nobody@example.com")
    press(app, "Look up")
    assert texts(app.error) == ["Nobody has signed up with this address yet."]
    app.text_input(key="sought_email").set_value(email)
    press(app, "Look up")
    assert "No role · Active · last sign-in: Never" in texts(app.caption)
    assert "Remove role" not in [each.label for each in app.button]
    app.text_input(key="staff_change_reason").set_value("Stolen card")
    press(app, "Sign out everywhere")
    assert texts(app.success) == ["They are signed out, and can sign in again."]
    press(app, "Disable person")
    assert "No role · Disabled · last sign-in: Never" in texts(app.caption)
    press(app, "Enable person")
    assert "No role · Active · last sign-in: Never" in texts(app.caption)
