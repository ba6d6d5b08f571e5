"""The page of staff, and the access review."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from sqlalchemy import select, text, update

from db.models import AuditRecord, OutboxMessage, Passkey, User
from domain import audit
from domain.accounts import add_member
from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.staff import (
    change_staff_role,
    end_due_role_requests,
    list_role_requests,
    withdraw_role_request,
)
from portal.views.staff import review
from tests.factories import SYSTEM, make_account
from tests.support.owner import as_owner
from tests.support.people import join_before
from tests.support.staff_actions import make_person
from tests.support.staff_pages import (
    admin,
    email_of,
    facts,
    field,
    labels,
    page,
    press,
    shown,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.actors import Actor
    from domain.staff import RoleRequest

TITLES_ROW = 5
"""The row of each sheet of the review that has the titles of its columns."""


__all__ = ["admin", "make_person", "page"]


def test_alone_one_is_told_to_find_a_second(page: Callable[..., AppTest], admin: Actor) -> None:
    app = page()
    assert app.dataframe[0].value["Role"].tolist() == ["Administrator"]
    assert any("You are the only staff member." in each for each in texts(app.info))
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
    field(app, "staff_email").set_value("nobody@example.com")
    field(app, "staff_reason").set_value("Hired")
    press(app, "Assign role")
    assert texts(app.error) == [
        "No one has signed up with this address yet. Use Invite a colleague."
    ]
    field(app, "staff_email").set_value(email)
    field(app, "staff_reason").set_value("")
    press(app, "Assign role")
    assert texts(app.error) == ["Enter a reason."]
    field(app, "staff_reason").set_value("Hired")
    press(app, "Assign role")
    assert texts(app.success) == [
        f"Role Support assigned to {email}, who must sign in again to use it."
    ]
    field(app, "staff_email").set_value(email)
    field(app, "staff_reason").set_value("Hired again")
    press(app, "Assign role")
    assert texts(app.error) == ["This person already has a role. Change it under Change a person."]
    session.execute(update(User).where(User.email == email).values(staff_role="finance"))
    session.commit()
    app.run()
    assert app.dataframe[0].value["Role"].tolist() == ["Administrator", "Finance"]
    field(app, "staff_change_reason").set_value("Moved")
    press(app, "Change role to Support")
    assert app.dataframe[0].value["Role"].tolist() == ["Administrator", "Support"]
    for label, states in (
        ("Disable person", ["Active", "Disabled"]),
        ("Enable person", ["Active", "Active"]),
    ):
        field(app, "staff_change_reason").set_value("Away for a year")
        press(app, label)
        assert app.dataframe[0].value["State"].tolist() == states
    field(app, "staff_change_reason").set_value("Gone")
    press(app, "Remove role")
    assert app.dataframe[0].value["Role"].tolist() == ["Administrator"]


def test_a_lost_second_factor_is_reset_with_a_reason_and_told_to_administrators(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    person = make_person(StaffRole.FINANCE)
    email = session.scalars(select(User.email).where(User.id == person.user_id)).one()
    passkey = Passkey(
        credential_id=b"lost",
        user_id=person.user_id,
        name="Phone",
        public_key=b"",
        sign_count=0,
        transports=[],
    )
    session.add(passkey)
    session.commit()
    app = page()
    staff = app.dataframe[0].value
    assert staff.loc[staff["Email"] == email, "Two-factor"].tolist() == ["On"]
    press(app, "Reset second factor")
    assert texts(app.error) == ["Enter a reason."]
    field(app, "staff_change_reason").set_value("Lost the phone")
    press(app, "Reset second factor")
    message = f"Second factors of {email} removed. They are signed out and notified by email."
    assert texts(app.success) == [message]
    assert "On" not in app.dataframe[0].value["Two-factor"].tolist()
    assert "Reset second factor" not in [each.label for each in app.button]
    session.rollback()
    mails = session.execute(
        select(OutboxMessage.recipient, OutboxMessage.template).order_by(OutboxMessage.id)
    )
    first = session.scalars(select(User.email).where(User.id == 1)).one()
    assert [tuple(each) for each in mails] == [
        (email, "second_factor_changed"),
        (first, "staff_change"),
    ]


def test_finance_looks_and_changes_nothing(page: Callable[..., AppTest], admin: Actor) -> None:
    app = page(StaffRole.FINANCE)
    assert not app.text_input
    assert "Only administrators assign, change and remove roles." in texts(app.caption)
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
    book = openpyxl.load_workbook(io.BytesIO(content))
    people, may, did, flags = book.worksheets
    assert [row[2] for row in rows_of(people)] == ["Role", "Administrator"]
    actions = {row[2] for row in rows_of(may)}
    assert "Change approval limits" in actions
    assert "Refund a payment" not in actions
    assert [row[1:3] for row in rows_of(did)] == [
        ("Action", "Count"),
        ("Downloaded the access review", 1),
    ]
    assert [row[:3] for row in rows_of(flags)] == [("Email", "Role", "Flag")]
    for sheet in book.worksheets:
        assert sheet["A1"].value == f"Access review: {sheet.title}"
        assert sheet["A2"].value == "Created on (UTC)"
        made = sheet["B2"].value
        assert sheet["B2"].is_date
        assert abs(datetime.now(UTC).replace(tzinfo=None) - made) < timedelta(hours=1)
        assert sheet["A3"].value == "All times are in UTC."
        assert sheet.freeze_panes == f"A{TITLES_ROW + 1}"
        titles = sheet[TITLES_ROW]
        assert all(cell.font.bold for cell in titles)
        assert sheet.auto_filter.ref.startswith(f"A{TITLES_ROW}:")
    first = TITLES_ROW + 1
    assert people[f"I{first}"].is_date, "when the role was given"
    assert did[f"D{first}"].is_date
    assert people[f"G{first}"].value is None, "never signed in"


def rows_of(sheet: Any) -> list[tuple[Any, ...]]:
    """Return the titles of a sheet, and its rows."""
    return list(sheet.iter_rows(min_row=TITLES_ROW, values_only=True))


def test_the_roles_alone_say_on_what_and_by_whom(
    session: Session, page: Callable[..., AppTest], admin: Actor
) -> None:
    page()  # connects
    account = make_account(session)
    owner = user_actor(900, memberships={account: MemberRole.OWNER})
    join_before(session, account_id=account, user_id=1)
    place = {"user_id": 1}
    audit.record(session, action="add_member", actor=owner, account_id=account, details=place)
    with as_owner(session):
        session.execute(text("UPDATE accounts SET name = '=cmd()' WHERE id = :id"), {"id": account})
    session.commit()
    content = review.make(admin, review.roles_csv).decode("utf-8-sig")
    titles, staff, member = csv.reader(io.StringIO(content))
    assert titles[2:4] == ["Role", "On"]
    assert staff[2:8] == ["Administrator", "all accounts", "Active", "Off", "", "system:tests"]
    assert member[2:4] == ["Reader", f"'=cmd() · {account}"]
    assert member[7] == "user:900"
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
    press(app, "Find person")
    assert texts(app.error) == [
        "No one has signed up with this address yet. Use Invite a colleague."
    ]
    app.text_input(key="sought_email").set_value(email)
    press(app, "Find person")
    assert "No role · Active · last sign-in: Never" in texts(app.caption)
    assert "Remove role" not in [each.label for each in app.button]
    field(app, "staff_change_reason").set_value("Stolen card")
    press(app, "Sign out everywhere")
    assert texts(app.success) == [f"{email} is signed out everywhere, and can sign in again."]
    for label, state in (("Disable person", "Disabled"), ("Enable person", "Active")):
        field(app, "staff_change_reason").set_value("Stolen card")
        press(app, label)
        assert f"No role · {state} · last sign-in: Never" in texts(app.caption)


# ── Changes that take two administrators ───────────────────────────────────────────────────────
def choose(app: AppTest, person: Actor) -> AppTest:
    app.selectbox(key="staff_person").set_value(person.user_id).run()
    field(app, "staff_change_reason").set_value("Moved")
    return app


def role_of(session: Session, person: Actor) -> str | None:
    session.rollback()
    return session.scalars(select(User.staff_role).where(User.id == person.user_id)).one()


def request(session: Session, person: Actor, role: StaffRole | None, by: Actor) -> RoleRequest:
    found = change_staff_role(
        session, user_id=person.user_id or 0, role=role, reason="Moved", actor=by
    )
    session.commit()
    assert found is not None
    return found


def table(app: AppTest, column: str) -> Any:
    """Return the table that has a column."""
    (found,) = [each.value for each in app.dataframe if column in each.value]
    return found


def test_outcome_stands_beside_what_was_pressed(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    person, maker = make_person(StaffRole.SUPPORT), make_person(StaffRole.ADMIN)
    others = [make_person(StaffRole.FINANCE) for _ in range(2)]
    waiting = [request(session, each, StaffRole.ADMIN, maker) for each in others]
    email = email_of(session, person)
    app = press(choose(page(), person), "Sign out everywhere")
    for _ in range(2):  # the second time is like the first
        order = shown(app)
        message = order.index(f"{email} is signed out everywhere, and can sign in again.")
        assert order.index("Disable person") < message < order.index("Invite a colleague")
        app = press(choose(app, person), "Sign out everywhere")
    app.button(key=f"approve-{waiting[0].request_id}").click().run()
    order = shown(app)
    change = f"Change role of {email_of(session, others[0])} from Finance to Administrator"
    message = order.index(f"Approved: {change}. The change is in effect.")
    assert order.index("Requests") < message < order.index("Approve change")
    app = press(app, "Approve change")
    order = shown(app)
    change = change.replace(email_of(session, others[0]), email_of(session, others[1]))
    message = order.index(f"Approved: {change}. The change is in effect.")
    assert message < order.index("People")
    assert admin.is_staff


def test_buttons_say_what_happens_to_whom_and_why_it_waits(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    agent, other = make_person(StaffRole.SUPPORT), make_person(StaffRole.ADMIN)
    session.commit()
    email = email_of(session, agent)
    app = choose(page(), agent)
    said = shown(app)
    for text_of in (
        f"{email} loses the role Support and is signed out everywhere.",
        f"{email} is signed out in all browsers, and can sign in again.",
    ):
        assert text_of in said
    assert any(each.startswith(f"{email} is signed out everywhere and cannot") for each in said)
    why = "Needs a second administrator, because it changes who is an administrator."
    assert [each for each in said if why in each] == [f"Administrator: {why}"]
    # Of an administrator everything waits, and for time where nobody else may decide.
    app.selectbox(key="staff_person").set_value(other.user_id).run()
    why = (
        "Takes effect after 24 hours, because it changes who is an administrator and no other"
        " administrator can decide."
    )
    why = f"{why} {email_of(session, other)} is notified by email, and can object until then."
    said = shown(app)
    assert [each for each in said if why in each] == [why, why, f"Support, Finance: {why}"]
    field(app, "staff_change_reason").set_value("")
    for label in ("Disable person", "Remove role", "Sign out everywhere"):
        app = press(app, label)
        assert texts(app.error) == ["Enter a reason."]


def test_customer_who_gets_a_role_is_said_to_wait(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    person = make_person(StaffRole.FINANCE)
    make_person(StaffRole.ADMIN)
    join_before(session, account_id=make_account(session), user_id=person.user_id or 0)
    session.commit()
    said = shown(choose(page(), person))
    why = "Needs a second administrator, because the person is a member of a customer account."
    assert f"Support: {why}" in said


def test_role_that_moves_money_is_said_to_wait(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    person = make_person(StaffRole.SUPPORT)
    session.commit()
    said = shown(choose(page(), person))
    why = "because Finance can move money and no other administrator can decide."
    assert f"Finance: Takes effect after 24 hours, {why}" in said


def test_one_of_several_administrators_is_told_for_whom_a_change_waits(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    person = make_person(StaffRole.FINANCE)
    make_person(StaffRole.ADMIN)
    session.commit()
    app = press(choose(page(), person), "Change role to Administrator")
    change = f"Change role of {email_of(session, person)} from Finance to Administrator"
    (message,) = texts(app.success)
    waits = "Waiting for approval by another administrator until "
    assert message.startswith(f"Requested: {change}. {waits}")
    assert f"**{change}**" in texts(app.markdown)
    assert "Waiting for approval by another administrator until " in facts(app)
    assert "Approve change" not in labels(app)
    assert role_of(session, person) == "finance"
    # The same again is the same request; something else waits for its end.
    press(choose(app, person), "Change role to Administrator")
    assert len(list_role_requests(session, actor=admin)) == 1
    app = press(app, "Withdraw request")
    assert texts(app.success) == [f"Withdrawn: {change}. Nothing was changed."]
    assert "Withdraw request" not in labels(app)
    assert table(app, "Change")["Status"].tolist() == ["Withdrawn"]


def test_sole_administrator_is_told_when_a_change_takes_effect(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    person = make_person(StaffRole.FINANCE)
    session.commit()
    app = press(choose(page(), person), "Change role to Administrator")
    (message,) = texts(app.success)
    change = f"Change role of {email_of(session, person)} from Finance to Administrator"
    assert message.startswith(f"Requested: {change}. Takes effect on ")
    assert message.endswith("unless it is withdrawn or another administrator decides first.")
    (waiting,) = list_role_requests(session, actor=admin)
    assert waiting.effective_at is not None
    assert role_of(session, person) == "finance"


def test_administrator_who_is_disabled_waits_as_well(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    other = make_person(StaffRole.ADMIN)
    make_person(StaffRole.ADMIN)
    session.commit()
    app = press(choose(page(), other), "Disable person")
    (message,) = texts(app.success)
    change = f"Disable {email_of(session, other)} (Administrator)"
    assert message.startswith(f"Requested: {change}. Waiting for")
    assert app.dataframe[0].value["State"].tolist() == ["Active"] * 3
    app = press(choose(app, other), "Remove role")
    (message,) = texts(app.error)
    assert message == (
        "Another change for this person is waiting under Requests. Approve, reject or withdraw"
        " that request first."
    )


def test_second_administrator_approves(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    maker, person = make_person(StaffRole.ADMIN), make_person(StaffRole.FINANCE)
    request(session, person, StaffRole.ADMIN, maker)
    app = page()
    assert "Withdraw request" not in labels(app)
    app = press(app, "Approve change")
    change = f"Change role of {email_of(session, person)} from Finance to Administrator"
    assert texts(app.success) == [f"Approved: {change}. The change is in effect."]
    assert role_of(session, person) == "admin"
    assert "Approve change" not in labels(app)


def test_second_administrator_rejects_with_a_reason(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    maker, person = make_person(StaffRole.ADMIN), make_person(StaffRole.FINANCE)
    waiting = request(session, person, StaffRole.ADMIN, maker)
    app = page()
    for _ in range(2):  # the second time is like the first
        app = press(app, "Reject change")
        assert texts(app.error) == ["Enter a reason."]
        order = shown(app)
        typed, message = order.index("Reason (required)"), order.index("Enter a reason.")
        assert typed < message < order.index("Reject change"), "beside the field, in the popover"
    app.text_input(key=f"why-{waiting.request_id}").set_value("Not agreed")
    app = press(app, "Reject change")
    change = f"Change role of {email_of(session, person)} from Finance to Administrator"
    assert texts(app.success) == [f"Rejected: {change}. Nothing was changed."]
    assert table(app, "Change")["Note"].tolist() == ["Not agreed"]
    assert role_of(session, person) == "finance"


def test_old_page_says_what_happened_meanwhile(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    maker, person = make_person(StaffRole.ADMIN), make_person(StaffRole.FINANCE)
    waiting = request(session, person, StaffRole.ADMIN, maker)
    change = f"Change role of {email_of(session, person)} from Finance to Administrator"
    app = page()
    withdraw_role_request(session, request_id=waiting.request_id, actor=maker)
    session.commit()
    app = press(app, "Approve change")
    (message,) = texts(app.error)
    assert message.startswith(f"{change}. Nothing was changed: withdrawn by ")
    assert role_of(session, person) == "finance"


def test_request_that_does_not_fit_any_more_says_why(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    maker, person = make_person(StaffRole.ADMIN), make_person(StaffRole.FINANCE)
    request(session, person, StaffRole.ADMIN, maker)
    app = page()
    session.execute(
        text("UPDATE users SET staff_role = NULL WHERE id = :id"), {"id": maker.user_id}
    )
    session.commit()
    app = press(app, "Approve change")
    change = f"Change role of {email_of(session, person)} from Finance to Administrator"
    (message,) = texts(app.error)
    assert message == (
        f"{change}: closed without effect. The administrator who requested it is no longer an"
        " administrator. Check the current role and access. If the change is still needed,"
        " request it again."
    )
    assert role_of(session, person) == "finance"


@pytest.mark.parametrize("is_ended", [False, True], ids=["fails now", "ended before"])
def test_request_about_a_person_who_changed_says_what_changed(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
    *,
    is_ended: bool,
) -> None:
    maker, person = make_person(StaffRole.ADMIN), make_person(StaffRole.FINANCE)
    request(session, person, StaffRole.ADMIN, maker)
    app = page()
    if is_ended:
        change_staff_role(
            session,
            user_id=person.user_id or 0,
            role=StaffRole.SUPPORT,
            reason="Moved",
            actor=admin,
        )
    else:
        session.execute(
            text("UPDATE users SET staff_role = 'support', disabled_at = now() WHERE id = :id"),
            {"id": person.user_id},
        )
    session.commit()
    app = press(app, "Approve change")
    change = f"Change role of {email_of(session, person)} from Finance to Administrator"
    now = "Support" if is_ended else "Support, disabled"
    (message,) = texts(app.error)
    assert message == (
        f"{change}: closed without effect. At the time of the request: Finance. Now:"
        f" {now}. Check the current role and access. If the change is still needed, request it"
        " again."
    )
    (remark,) = table(app, "Change")["Note"].tolist()
    assert remark == "The role or access of the person had changed since it was requested."


def test_forms_are_empty_once_done_and_keep_what_was_refused(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    person, other = make_person(StaffRole.SUPPORT), make_person(StaffRole.SUPPORT)
    session.execute(text("UPDATE users SET staff_role = NULL WHERE id = 3"))
    session.commit()
    app = page()
    for reason, kept in ((" ", email_of(session, other)), ("Hired", "")):
        field(app, "staff_email").set_value(email_of(session, other))
        field(app, "staff_reason").set_value(reason)
        app = press(app, "Assign role")
        assert bool(app.error) is bool(kept)
        assert field(app, "staff_email").value == kept
        assert not field(app, "staff_reason").value.strip()
    # Of the last administrator's colleague everything is done at once.
    app = choose(app, person)
    assert press(app, "Sign out everywhere").success
    assert not field(app, "staff_change_reason").value
    app = press(app, "Sign out everywhere")
    assert texts(app.error) == ["Enter a reason."]
    choose(app, person)
    app.selectbox(key="staff_person").set_value(other.user_id).run()
    assert not field(app, "staff_change_reason").value, "a reason is about one person"


def test_page_begins_with_what_waits_and_ends_with_the_review(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    person, other = make_person(StaffRole.FINANCE), make_person(StaffRole.ADMIN)
    own = "{} waiting for approval by another person."
    request(session, person, StaffRole.ADMIN, other)
    app = page()
    assert not [each for each in texts(app.caption) if "of your requests" in each]
    request(session, make_person(StaffRole.SUPPORT), StaffRole.ADMIN, admin)
    app = page()
    assert own.format("1 of your requests is") in texts(app.caption)
    assert texts(app.subheader) == [
        "Requests",
        "People",
        "Change a person",
        "Invite a colleague",
        "Assign a role",
        "Access review",
    ]


def test_request_that_waits_for_time_is_not_counted_as_somebody_elses(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    request(session, make_person(StaffRole.FINANCE), StaffRole.ADMIN, admin)
    app = page()
    assert "Withdraw request" in labels(app)
    assert not [each for each in texts(app.caption) if "of your requests" in each]


def test_outcome_is_brought_into_view(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    person = make_person(StaffRole.SUPPORT)
    session.commit()
    app = choose(page(), person)
    assert "scrollIntoView" not in facts(app)
    for reason in ("Moved", ""):  # what was done, and what was refused
        field(app, "staff_change_reason").set_value(reason)
        app = press(app, "Sign out everywhere")
        assert "scrollIntoView" in facts(app)
        assert "st-key-drawn-flash-staff_changing" in facts(app)


def test_who_is_concerned_and_finance_see_a_request_without_buttons(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    maker = make_person(StaffRole.ADMIN)
    make_person(StaffRole.ADMIN)
    request(session, admin, StaffRole.FINANCE, maker)
    app = page()
    assert "This request is about you. Another administrator decides." in texts(app.caption)
    buttons = {"Approve change", "Reject change", "Withdraw request", "Object to change"}
    assert not buttons & labels(app)


def test_administrator_objects_to_their_own_removal_once_and_again(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    maker = make_person(StaffRole.ADMIN)
    change = f"Change role of {email_of(session, admin)} from Administrator to No role"
    for _ in range(2):
        request(session, admin, None, maker)
        app = page()
        assert "unless you object, it is withdrawn, or another" in facts(app)
        assert "Withdraw request" not in labels(app)
        app = press(app, "Object to change")
        assert texts(app.success) == [f"You objected: {change}. Nothing was changed."]
        assert "Object to change" not in labels(app)
        assert role_of(session, admin) == "admin"
    states = table(app, "Change")["Status"].tolist()
    assert states == ["Stopped by objection"] * 2


def test_objection_from_an_old_page_says_what_happened_meanwhile(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    maker = make_person(StaffRole.ADMIN)
    waiting = request(session, admin, None, maker)
    change = f"Change role of {email_of(session, admin)} from Administrator to No role"
    app = page()
    withdraw_role_request(session, request_id=waiting.request_id, actor=maker)
    session.commit()
    app = press(app, "Object to change")
    (message,) = texts(app.error)
    assert message.startswith(f"{change}. Nothing was changed: withdrawn by ")


def test_change_that_took_effect_by_itself_says_so_and_names_no_system(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    person, other = make_person(StaffRole.FINANCE), make_person(StaffRole.FINANCE)
    waiting = []
    for each, hours in ((person, 25), (other, 8 * 24)):
        session.info["clock"] = lambda hours=hours: datetime.now(UTC) - timedelta(hours=hours)
        waiting.append(request(session, each, StaffRole.ADMIN, admin))
    app = page()
    del session.info["clock"]
    assert end_due_role_requests(session, actor=system_actor("jobs")) == 2
    session.commit()
    app.button(key=f"withdraw-{waiting[0].request_id}").click().run()
    (message,) = texts(app.error)
    change = f"Change role of {email_of(session, person)} from Finance to Administrator"
    assert message.startswith(
        f"{change}. Nothing was changed: the change took effect automatically "
    )
    people, ended = table(app, "Two-factor"), table(app, "Change")
    (approved,) = people.loc[people["Email"] == email_of(session, person), "Approved by"]
    assert approved == "Automatic (after 24 hours)"
    assert sorted(ended["Decided by"].tolist()) == ["", "Automatic (after 24 hours)"]
    content = review.make(admin, review.roles_csv).decode("utf-8-sig")
    lines = [line for line in content.splitlines() if email_of(session, person) in line]
    assert "Automatic (after 24 hours)" in lines[0]
    assert "System" not in " ".join(ended["Decided by"])


def test_role_of_a_member_of_an_account_waits(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    person = make_person(StaffRole.SUPPORT)
    make_person(StaffRole.ADMIN)
    account = make_account(session)
    session.execute(
        text("UPDATE users SET staff_role = NULL WHERE id = :id"), {"id": person.user_id}
    )
    add_member(
        session,
        account_id=account,
        user_id=person.user_id or 0,
        role=MemberRole.OWNER,
        actor=SYSTEM,
    )
    session.commit()
    app = page()
    field(app, "staff_email").set_value(email_of(session, person))
    field(app, "staff_reason").set_value("Hired")
    app = press(app, "Assign role")
    (message,) = texts(app.success)
    assert "from No role to Support. Waiting for approval by another administrator" in message
    assert role_of(session, person) is None


def test_page_that_was_drawn_before_enables_nobody(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    del admin
    person = make_person(StaffRole.SUPPORT)
    session.commit()
    app = choose(page(), person)
    session.execute(
        text("UPDATE users SET disabled_at = now() WHERE id = :id"), {"id": person.user_id}
    )
    session.commit()
    press(app, "Disable person")
    session.rollback()
    disabled = select(User.disabled_at).where(User.id == person.user_id)
    assert session.scalars(disabled).one() is not None


def test_flags_stand_on_the_page_and_in_the_review(
    session: Session,
    page: Callable[..., AppTest],
    admin: Actor,
    make_person: Callable[[StaffRole], Actor],
) -> None:
    finance, gone = make_person(StaffRole.FINANCE), make_person(StaffRole.FINANCE)
    for action in ("request_campaign", "decide_campaign"):
        audit.record(session, action=action, actor=gone)
    session.execute(text("UPDATE users SET staff_role = NULL WHERE id = :id"), {"id": gone.user_id})
    session.commit()
    did = "Did both in 90 days: requesting and approving campaigns"
    could = "Role allows both: exchange rates and recording bank transfers"
    shown = table(page(), "Flag")
    assert shown["Email"].tolist()[0] == email_of(session, gone)
    assert [each for each in shown["Flag"] if each in {did, could}] == [did, could]
    book = openpyxl.load_workbook(io.BytesIO(review.make(admin, review.workbook)))
    rows = [row[:3] for row in rows_of(book["Flags"])]
    assert rows[1] == (email_of(session, gone), "No role", did)
    assert (email_of(session, finance), "Finance", could) in rows
    content = review.make(admin, review.roles_csv).decode("utf-8-sig")
    lines = list(csv.reader(io.StringIO(content)))
    assert (lines[-1][1], lines[-1][-1]) == (email_of(session, gone), did)
