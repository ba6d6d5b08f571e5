"""The link of an invitation and the statement's page, as browsers open them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from db.models import AuditRecord, OutboxMessage
from domain import accounts, identity
from domain.accounts import members
from domain.accounts.invitations import invite_member
from domain.accounts.sign_up import SignUp, sign_up
from domain.actors import MemberRole, StaffRole, system_actor
from portal.routes import invitations, security, sign_in, statements
from portal.runtime import database
from portal.runtime.settings import settings
from tests.factories import grant, make_account
from tests.support.keys import parameters_of

if TYPE_CHECKING:
    from httpx2 import Response
    from sqlalchemy.orm import Session

HERE = "http://localhost:8501"
EMAIL = "lan@example.com"
PASSWORD = "violet-kettle-9-march"
SYSTEM = system_actor("tests")
REPLACES = "The name and password that you enter here replace the earlier ones."
MONTH = f"{datetime.now(UTC):%Y-%m}"


pytestmark = pytest.mark.usefixtures("portal")


@pytest.fixture
def account() -> int:
    """An account with ten dollars."""

    def make(session: Session) -> int:
        made = make_account(session)
        grant(session, made, 10)
        return made

    return database.transaction(make)


@pytest.fixture
def browser() -> TestClient:
    """A browser on our own routes."""
    routes = [
        *sign_in.routes(),
        *security.routes(),
        *invitations.routes(),
        *statements.routes(),
    ]
    return TestClient(
        Starlette(routes=routes),
        base_url=HERE,
        follow_redirects=False,
        headers={"accept": "text/html", "origin": HERE},
    )


def form_token(page: Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found.group(1)


def post(client: TestClient, page: str, **fields: str) -> Response:
    token = form_token(client.get(page))
    path = page.partition("?")[0]
    return client.post(path, data={"form_token": token, **fields})


def make_user(email: str = EMAIL, role: StaffRole | None = None) -> int:
    return database.transaction(
        identity.create_user,
        email=email,
        display_name="Lan",
        password=PASSWORD,
        staff_role=role,
        actor=SYSTEM,
    )


def enter(client: TestClient, email: str = EMAIL) -> None:
    answer = post(client, "/sign-in", email=email, password=PASSWORD)
    assert answer.status_code == 303


def invited(account: int) -> str:
    database.transaction(
        invite_member,
        account_id=account,
        email=EMAIL,
        role=MemberRole.BILLING,
        actor=SYSTEM,
        idempotency_key="invite",
        policy=settings().policy,
    )

    def newest(session: Session) -> str:
        mail = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id.desc())).first()
        assert mail is not None
        return str(parameters_of(session, mail)["token"])

    return database.read_snapshot(newest)


def roles(account: int) -> dict[str, MemberRole]:
    seen = database.read_snapshot(members.list_members, actor=SYSTEM, account_id=account)
    return {member.email: member.role for member in seen.members}


# ── Invitations ────────────────────────────────────────────────────────────────────────────────
def test_a_signed_in_person_accepts_and_their_session_acts_on_the_account(
    browser: TestClient, account: int
) -> None:
    other = database.transaction(make_account)
    database.transaction(
        accounts.add_member,
        account_id=other,
        user_id=make_user(),
        role=MemberRole.OWNER,
        actor=SYSTEM,
    )
    enter(browser)
    token = invited(account)
    page = browser.get(f"/accept-invitation?token={token}")
    assert "Accept invitation" in page.text
    assert roles(account) == {}, "a mail scanner that follows the link accepts nothing"
    answer = post(browser, f"/accept-invitation?token={token}", token=token)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert roles(account) == {EMAIL: MemberRole.BILLING}
    session_token = browser.cookies["credit_portal_session"]
    user = database.read_snapshot(
        identity.session_actor, token=session_token, policy=settings().policy
    )
    assert user is not None
    assert user.account_id == account
    assert browser.get(f"/accept-invitation?token={token}").status_code == 410


def test_staff_are_told_to_use_another_address(browser: TestClient, account: int) -> None:
    make_user(role=StaffRole.SUPPORT)
    enter(browser)
    token = invited(account)
    path = f"/accept-invitation?token={token}"
    sent = {"form_token": form_token(browser.get("/forgot-password")), "token": token}
    for answer in (browser.get(path), browser.post("/accept-invitation", data=sent)):
        assert answer.status_code == 409
        text_of_page = "You have a staff role, or a request for one. Use another email address"
        assert text_of_page in answer.text
    assert roles(account) == {}


def test_a_known_person_signs_in_first_and_comes_back(browser: TestClient, account: int) -> None:
    make_user()
    token = invited(account)
    page = browser.get(f"/accept-invitation?token={token}")
    assert "Sign in with this address" in page.text
    assert 'name="password"' not in page.text
    (path,) = re.findall(r'href="(/sign-in\?next=[^"]+)"', page.text)
    shown = browser.get(path)
    (next_path,) = set(re.findall(r'name="next" value="([^"]+)"', shown.text))
    answer = post(browser, path, email=EMAIL, password=PASSWORD, next=next_path)
    assert answer.headers["location"] == f"/accept-invitation?token={token}"
    assert "Accept invitation" in browser.get(answer.headers["location"]).text


def test_a_stranger_chooses_a_password_and_is_in(browser: TestClient, account: int) -> None:
    token = invited(account)
    path = f"/accept-invitation?token={token}"
    invites = f"{EMAIL} is invited to this billing account with the role Billing (view everything"
    assert f"{invites}, manage payments)." in browser.get(path).text
    weak = post(browser, path, token=token, display_name="Lan", password="short")
    assert weak.status_code == 422
    assert "at least 10 characters" in weak.text
    answer = post(browser, path, token=token, display_name="Lan", password=PASSWORD)
    assert answer.status_code == 303
    assert roles(account) == {EMAIL: MemberRole.BILLING}
    assert browser.cookies["credit_portal_session"]


def test_who_signed_up_meanwhile_is_asked_to_sign_in(browser: TestClient, account: int) -> None:
    token = invited(account)
    path = f"/accept-invitation?token={token}"
    form = form_token(browser.get(path))
    make_user()
    fields = {"form_token": form, "token": token, "display_name": "X", "password": PASSWORD}
    answer = browser.post("/accept-invitation", data=fields)
    assert answer.status_code == 409
    assert "Sign in with this address" in answer.text
    assert roles(account) == {}


@pytest.mark.parametrize("when", ["before", "between"])
def test_stranger_who_only_signed_up_with_the_address_is_in_nobodys_way(
    browser: TestClient, account: int, when: str
) -> None:
    strangers = "another-kettle-9-march"

    def stranger_signs_up() -> None:
        form = SignUp(EMAIL, "Stranger", strangers, "Stranger's lab", "VN", "VND")
        client = identity.Client("198.51.100.7")
        sign_up(database.form_sessions(), form=form, client=client, policy=settings().policy)

    if when == "before":
        stranger_signs_up()
    token = invited(account)
    path = f"/accept-invitation?token={token}"
    page = browser.get(path)
    form = form_token(page)
    assert (REPLACES in page.text) is (when == "before")
    if when == "between":
        stranger_signs_up()
    assert REPLACES in browser.get(path).text
    fields = {"form_token": form, "token": token, "display_name": "Lan", "password": PASSWORD}
    answer = browser.post("/accept-invitation", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert roles(account) == {EMAIL: MemberRole.BILLING}
    browser.cookies.clear()
    assert post(browser, "/sign-in", email=EMAIL, password=strangers).status_code != 303
    enter(browser)


def test_somebody_else_is_told_to_sign_out(browser: TestClient, account: int) -> None:
    make_user("other@example.com")
    enter(browser, "other@example.com")
    token = invited(account)
    page = browser.get(f"/accept-invitation?token={token}")
    assert "You are signed in as other@example.com" in page.text
    left = browser.post("/sign-out", data={"form_token": form_token(page)})
    assert left.headers["location"] == "/sign-in?notice=signed_out"


def test_somebody_elses_form_takes_nothing(browser: TestClient, account: int) -> None:
    token = invited(account)
    make_user("other@example.com")
    enter(browser, "other@example.com")
    again = form_token(browser.get("/forgot-password"))
    answer = browser.post("/accept-invitation", data={"form_token": again, "token": token})
    assert answer.status_code == 410
    assert roles(account) == {}


def test_a_form_of_another_origin_accepts_nothing(browser: TestClient, account: int) -> None:
    token = invited(account)
    fields = {"form_token": "0" * 64, "token": token, "display_name": "X", "password": PASSWORD}
    answer = browser.post("/accept-invitation", data=fields)
    assert answer.status_code == 403
    assert roles(account) == {}


@pytest.mark.parametrize("query", ["", "?token=", "?token=nonsense"])
def test_a_dead_link_says_whom_to_ask(browser: TestClient, query: str) -> None:
    answer = browser.get(f"/accept-invitation{query}")
    assert answer.status_code == 410
    assert "Ask the person who invited you" in answer.text


# ── Statements ─────────────────────────────────────────────────────────────────────────────────
def test_a_member_reads_the_statement(browser: TestClient, account: int) -> None:
    database.transaction(
        accounts.add_member,
        account_id=account,
        user_id=make_user(),
        role=MemberRole.READER,
        actor=SYSTEM,
    )
    path = f"/statements/{account}/{MONTH}"
    away = browser.get(path)
    assert away.headers["location"].startswith("/sign-in?next=/statements/")
    enter(browser)
    page = browser.get(path)
    assert page.status_code == 200
    assert "Opening balance" in page.text
    assert "$0.00" in page.text
    assert page.text.count("$10.00") >= 3
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["{other}/{month}", "{own}/2999-01", "{own}/x", "x/{month}", "0/{month}"]
)
def test_a_statement_of_another_account_or_month_is_not_there(
    browser: TestClient, account: int, path: str
) -> None:
    database.transaction(
        accounts.add_member,
        account_id=account,
        user_id=make_user(),
        role=MemberRole.OWNER,
        actor=SYSTEM,
    )
    other = database.transaction(make_account)
    enter(browser)
    asked = path.format(own=account, other=other, month=MONTH)
    answer = browser.get(f"/statements/{asked}")
    assert answer.status_code == 404
    assert "Statement not found" in answer.text


def test_a_look_of_staff_is_written_down(browser: TestClient, account: int) -> None:
    make_user("support@example.com", StaffRole.SUPPORT)
    enter(browser, "support@example.com")
    assert browser.get(f"/statements/{account}/{MONTH}").status_code == 200

    def looks(session: Session) -> list[object]:
        return list(
            session.scalars(
                select(AuditRecord.details).where(
                    AuditRecord.action == "look_at_account", AuditRecord.account_id == account
                )
            )
        )

    assert database.read_snapshot(looks) == [{"statement": MONTH}]
