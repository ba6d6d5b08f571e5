"""The link of a colleague who is invited as staff, as browsers open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text, update

from db.models import OutboxMessage, StaffInvitation, User
from domain import identity, staff
from domain.accounts.sign_up import SignUp, sign_up
from domain.actors import StaffRole, user_actor
from domain.rights import waits_for_role
from portal.routes import staff_invitations
from portal.runtime import database
from portal.runtime.settings import settings
from tests.factories import SYSTEM
from tests.support import route_browser
from tests.support.environment import OUTSIDE_DEMO
from tests.support.keys import parameters_of
from tests.support.route_browser import HERE, form_token, post

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

EMAIL = "lan@example.com"
PASSWORD = "violet-kettle-9-march"
STRANGERS = "another-kettle-9-march"
PATH = staff_invitations.PATH
SESSION = "credit_portal_session"
REPLACES = "The name and password that you enter here replace the earlier ones."
STAYS = "You will not be added to the billing account from that earlier sign-up."

pytestmark = pytest.mark.usefixtures("portal_database")


@pytest.fixture
def browser() -> TestClient:
    """A browser on our own routes, where nobody is signed in."""
    return open_browser()


def open_browser() -> TestClient:
    return route_browser.browser(also=(staff_invitations,))


def make_user(email: str, role: StaffRole | None = None) -> int:
    return database.transaction(
        identity.create_user,
        email=email,
        display_name="Sample Person",
        password=PASSWORD,
        staff_role=role,
        actor=SYSTEM,
    )


@pytest.fixture
def admin() -> int:
    """The administrator who invites."""
    return make_user("boss@example.com", StaffRole.ADMIN)


def invited(admin: int, role: StaffRole = StaffRole.SUPPORT) -> str:
    """Invite, and return the path of the link that was mailed."""
    database.transaction(
        staff.invite_staff,
        email=EMAIL,
        role=role,
        reason="hired",
        actor=user_actor(admin),
        policy=settings().policy,
    )

    def newest(session: Session) -> str:
        row = session.scalars(
            select(OutboxMessage)
            .where(OutboxMessage.template == "staff_invitation")
            .order_by(OutboxMessage.id.desc())
            .limit(1)
        ).one()
        return str(parameters_of(session, row)["token"])

    return f"{PATH}?token={database.read_snapshot(newest)}"


def token_in(path: str) -> str:
    return path.partition("token=")[2]


def stranger_signs_up() -> None:
    form = SignUp(EMAIL, "Stranger", STRANGERS, "Stranger's lab", "VN", "VND")
    sign_up(
        database.form_sessions(),
        form=form,
        client=identity.Client("198.51.100.7"),
        policy=settings().policy,
    )


def role_of(email: str = EMAIL) -> str | None:
    found = select(User.staff_role).where(User.email == email)
    return database.read_snapshot(lambda session: session.scalars(found).one_or_none())


def join(client: TestClient, path: str, **fields: str) -> tuple[int, str, str]:
    """Fill the form in and send it; return the status, where it leads and what it says."""
    given = {"display_name": "Lan", "password": PASSWORD, **fields}
    answer = post(client, PATH, path, token=token_in(path), **given)
    return answer.status_code, answer.headers.get("location", ""), answer.text


def test_colleague_chooses_a_password_and_is_in(browser: TestClient, admin: int) -> None:
    path = invited(admin)
    page = browser.get(path)
    assert f"{EMAIL} is invited with the role Support." in page.text
    assert role_of() is None, "a mail scanner that follows the link accepts nothing"
    status, _where, shown = join(browser, path, password="short")
    assert status == 422
    assert "at least 10 characters" in shown
    assert join(browser, path)[:2] == (303, "/")
    assert role_of() == "support"
    user = database.read_snapshot(
        identity.session_actor, token=browser.cookies[SESSION], policy=settings().policy
    )
    assert user is not None
    assert user.staff_role is StaffRole.SUPPORT


def test_used_link_says_to_sign_in_and_the_second_day_goes_on(
    browser: TestClient, admin: int
) -> None:
    path = invited(admin)
    join(browser, path)
    later = open_browser()
    fields = {"token": token_in(path), "display_name": "Lan", "password": PASSWORD}
    form = form_token(later.get("/sign-in"))
    for answer in (later.get(path), later.post(PATH, data={"form_token": form, **fields})):
        assert answer.status_code == 410
        assert "If you have used it, sign in." in answer.text
    signed_in = post(later, "/sign-in", email=EMAIL, password=PASSWORD)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/")
    assert role_of() == "support"


@pytest.mark.parametrize("role", [StaffRole.FINANCE, StaffRole.ADMIN])
def test_who_waits_for_approval_is_told_so_and_sets_a_second_factor_up_then(
    browser: TestClient, admin: int, configure_portal: Callable[..., None], role: StaffRole
) -> None:
    configure_portal(**OUTSIDE_DEMO | {"BASE_URL": HERE})
    path = invited(admin, role)
    assert "This role needs approval by a second administrator" in browser.get(path).text
    status, _where, shown = join(browser, path)
    assert status == 200
    name = {StaffRole.FINANCE: "Finance", StaffRole.ADMIN: "Administrator"}[role]
    assert f"You get the role {name} once another administrator approves" in shown
    assert role_of() is None
    user = database.read_snapshot(
        identity.session_actor, token=browser.cookies[SESSION], policy=settings().policy
    )
    assert user is not None
    assert database.read_snapshot(waits_for_role, user.user_id)
    database.transaction(
        lambda session: session.execute(
            update(User).where(User.email == EMAIL).values(staff_role=role)
        )
    )
    later = open_browser()
    signed_in = post(later, "/sign-in", email=EMAIL, password=PASSWORD)
    assert signed_in.headers["location"] == "/set-up-second-factor"
    assert SESSION not in later.cookies
    assert "app" in later.get("/set-up-second-factor").text


@pytest.mark.parametrize(
    "end",
    [
        update(StaffInvitation).values(withdrawn_at=text("now()")),
        update(StaffInvitation).values(expires_at=text("created_at + interval '1 microsecond'")),
        update(User).values(staff_role=None),
        update(User).values(disabled_at=text("now()")),
    ],
    ids=["withdrawn", "expired", "inviter_without_role", "inviter_disabled"],
)
def test_dead_link_says_what_to_do(browser: TestClient, admin: int, end: object) -> None:
    path = invited(admin)
    token = form_token(browser.get(path))
    database.transaction(lambda session: session.execute(end))  # type: ignore[call-overload]
    fields = {"token": token_in(path), "display_name": "Lan", "password": PASSWORD}
    for answer in (browser.get(path), browser.post(PATH, data={"form_token": token, **fields})):
        assert answer.status_code == 410
        assert "ask an administrator to send it again" in answer.text
    assert role_of() is None


@pytest.mark.parametrize("query", ["", "?token=", "?token=nonsense"])
def test_link_that_never_was_is_dead(browser: TestClient, query: str) -> None:
    assert browser.get(PATH + query).status_code == 410


def test_who_signed_up_meanwhile_is_told_whom_to_ask(browser: TestClient, admin: int) -> None:
    path = invited(admin)
    token = form_token(browser.get(path))
    make_user(EMAIL)
    fields = {"token": token_in(path), "display_name": "Lan", "password": PASSWORD}
    for answer, status in (
        (browser.post(PATH, data={"form_token": token, **fields}), 409),
        (browser.get(path), 200),
    ):
        assert answer.status_code == status
        assert "ask an administrator to assign you the role" in answer.text
        assert 'name="password"' not in answer.text
    assert role_of() is None


@pytest.mark.parametrize("when", ["before", "between"])
def test_stranger_who_only_signed_up_with_the_address_is_in_nobodys_way(
    browser: TestClient, admin: int, when: str
) -> None:
    if when == "before":
        stranger_signs_up()
    path = invited(admin)
    page = browser.get(path)
    if when == "between":
        assert REPLACES not in page.text
        stranger_signs_up()
    assert 'name="password"' in page.text
    for message in (REPLACES, STAYS):
        assert message in browser.get(path).text
    assert join(browser, path)[:2] == (303, "/")
    assert role_of() == "support"
    user = database.read_snapshot(
        identity.session_actor, token=browser.cookies[SESSION], policy=settings().policy
    )
    assert user is not None
    assert (user.display_name, user.memberships) == ("Lan", {})
    stranger = post(open_browser(), "/sign-in", email=EMAIL, password=STRANGERS)
    assert stranger.status_code != 303
    owner = post(open_browser(), "/sign-in", email=EMAIL, password=PASSWORD)
    assert owner.status_code == 303
    assert browser.get(path).status_code == 410


def test_somebody_who_is_signed_in_signs_out_first(browser: TestClient, admin: int) -> None:
    path = invited(admin)
    post(browser, "/sign-in", email="boss@example.com", password=PASSWORD)
    page = browser.get(path)
    assert "You are signed in as boss@example.com" in page.text
    assert 'name="password"' not in page.text
    fields = {"token": token_in(path), "display_name": "Lan", "password": PASSWORD}
    other = form_token(browser.get("/forgot-password"))
    answer = browser.post(PATH, data={"form_token": other, **fields})
    assert answer.status_code == 409
    assert role_of() is None
    left = browser.post("/sign-out", data={"form_token": form_token(page)})
    assert left.status_code == 303
    assert join(browser, path)[0] == 303


def test_form_of_another_origin_makes_nobody(browser: TestClient, admin: int) -> None:
    path = invited(admin)
    fields = {"token": token_in(path), "display_name": "Lan", "password": PASSWORD}
    answer = browser.post(PATH, data={"form_token": "0" * 64, **fields})
    assert answer.status_code == 403
    assert role_of() is None
