"""The pages of the second factor, as browsers and attackers open them."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyotp
import pytest
from sqlalchemy import func, select, update

from db.models import OutboxMessage, PendingSignIn, UserSession
from domain import identity
from domain.actors import StaffRole, system_actor
from portal.runtime import database
from tests.support.environment import OUTSIDE_DEMO
from tests.support.passkeys import Device
from tests.support.route_browser import HERE, browser, form_token, post

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx2 import Response
    from starlette.testclient import TestClient

EMAIL = "lan@example.com"
PASSWORD = "violet-kettle-9-march"
PENDING = "credit_portal_sign_in"

pytestmark = pytest.mark.usefixtures("portal_database")


def make_user(role: StaffRole | None = None) -> None:
    database.transaction(
        identity.create_user,
        email=EMAIL,
        display_name="Lan",
        password=PASSWORD,
        staff_role=role,
        actor=system_actor("tests"),
    )


def give_password(client: TestClient, **fields: str) -> Response:
    return post(client, "/sign-in", email=EMAIL, password=PASSWORD, **fields)


def is_signed_in(client: TestClient) -> bool:
    return client.get("/sessions").status_code == 200


def secret_in(page: Response) -> str:
    found = re.search(r'<code class="secret">([A-Z2-7 ]+)</code>', page.text)
    assert found, page.text
    return found.group(1).replace(" ", "")


def code_of(secret: str, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(datetime.now(UTC), counter_offset=steps)


def codes_in(page: Response) -> list[str]:
    return re.findall(r"<code>([a-z2-9]{5}-[a-z2-9]{5})</code>", page.text)


def set_up_app(client: TestClient) -> tuple[str, list[str]]:
    """Set an app up on a signed-in person's page; return its secret and the recovery codes."""
    page = post(client, "/two-factor", current_password=PASSWORD, action="add_app")
    assert page.status_code == 200
    secret = secret_in(page)
    shown = enter_code(client, code_of(secret, -1), offer_in(page))
    assert shown.status_code == 200
    return secret, codes_in(shown)


def replace_codes(client: TestClient) -> Response:
    """Press the button that creates new recovery codes."""
    return client.post("/two-factor", data=codes_form(client))


def codes_form(client: TestClient) -> dict[str, str]:
    """Return what the button sends that creates new recovery codes."""
    page = client.get("/two-factor")
    [code_set] = re.findall(r'name="code_set" value="([0-9a-f]+)"', page.text)
    return {
        "form_token": form_token(page),
        "current_password": PASSWORD,
        "action": "replace_codes",
        "code_set": code_set,
    }


def prove(client: TestClient, **fields: str) -> Response:
    """Prove a second factor, before factors are changed."""
    return post(client, "/two-factor/confirm", **fields)


def enter_code(client: TestClient, code: str, offer: str) -> Response:
    return post(client, "/two-factor/app", page="/two-factor", code=code, offer=offer)


def offer_in(page: Response) -> str:
    """Return the token in a page that shows a secret."""
    found = re.search(r'name="offer" value="([^"]+)"', page.text)
    assert found, page.text
    return found.group(1)


def options_in(page: Response) -> tuple[str, str]:
    """Return the options and the state that a page hands to the browser for a passkey."""
    [options] = re.findall(r'data-options="([^"]+)"', page.text)
    [state] = re.findall(r'name="passkey_state" value="([^"]+)"', page.text)
    return html.unescape(options), state


def person_with_app() -> tuple[str, list[str]]:
    make_user()
    client = browser()
    give_password(client)
    return set_up_app(client)


def test_a_person_sets_an_app_up_and_signs_in_with_it_on_the_next_days() -> None:
    secret, codes = person_with_app()
    assert len(codes) == 10
    for steps in (0, 1):
        client = browser()
        answer = give_password(client, next="/billing?tab=history")
        assert answer.headers["location"] == "/second-factor?next=/billing%3Ftab%3Dhistory"
        assert not is_signed_in(client)
        page = client.get(answer.headers["location"])
        assert EMAIL in page.text
        wrong = post(client, "/second-factor", code="000000")
        assert wrong.status_code == 403
        done = post(
            client,
            "/second-factor?next=/billing%3Ftab%3Dhistory",
            code=code_of(secret, steps),
            next="/billing?tab=history",
        )
        assert done.headers["location"] == "/billing?tab=history"
        assert is_signed_in(client)
        assert "password and authenticator app" in client.get("/sessions").text
        assert PENDING not in client.cookies


def test_a_secret_is_shown_as_the_answer_to_the_password_and_at_no_address() -> None:
    make_user()
    client = browser()
    give_password(client)
    first = post(client, "/two-factor", current_password=PASSWORD, action="add_app")
    again = client.get("/two-factor/app")
    assert again.headers["location"] == "/two-factor"
    wrong = enter_code(client, "000000", offer_in(first))
    assert wrong.status_code == 422
    assert secret_in(wrong) == secret_in(first)
    # Whoever begins anew, in another tab, ends the first.
    second = post(client, "/two-factor", current_password=PASSWORD, action="add_app")
    assert secret_in(second) != secret_in(first)
    for offer in (offer_in(first), "", "made-up"):
        ended = enter_code(client, code_of(secret_in(first)), offer)
        assert ended.status_code == 409
        assert "Your current settings are shown below" in ended.text
        assert "secret" not in ended.text
    stale = client.post("/two-factor/app", data={"offer": offer_in(second), "code": "000000"})
    assert stale.status_code == 403
    assert 'name="current_password"' in stale.text
    done = enter_code(client, code_of(secret_in(second), -1), offer_in(second))
    assert len(codes_in(done)) == 10
    # The button pressed twice: the app is set up, and nothing else happens.
    assert enter_code(client, code_of(secret_in(second), -1), offer_in(second)).status_code == 409
    assert "Set up." in client.get("/two-factor").text


def test_the_cookie_of_a_pending_sign_in_opens_nothing_else() -> None:
    person_with_app()
    client = browser()
    answer = give_password(client)
    [cookie] = [each for each in answer.headers.get_list("set-cookie") if each.startswith(PENDING)]
    assert {"httponly", "samesite=strict", "max-age=600"} <= {
        part.strip().lower() for part in cookie.split(";")
    }
    token = client.cookies[PENDING]
    client.cookies.set("credit_portal_session", token)
    for path in ("/sessions", "/two-factor", "/two-factor/app", "/password"):
        assert client.get(path).status_code == 303
    kept = database.read_snapshot(
        lambda session: session.scalars(select(PendingSignIn.token_digest)).one()
    )
    assert kept.hex() != token


def test_without_a_pending_sign_in_the_pages_lead_to_the_beginning() -> None:
    client = browser()
    for path in ("/second-factor", "/set-up-second-factor"):
        assert client.get(f"{path}?next=/usage").headers["location"] == "/sign-in?next=/usage"
        client.cookies.set(PENDING, "x" * 43)
        assert client.get(path).headers["location"] == "/sign-in"
        client.cookies.clear()
    # A form that stayed open over the ten minutes.
    person_with_app()
    client = browser()
    give_password(client)
    token = form_token(client.get("/second-factor"))
    database.transaction(
        lambda session: session.execute(update(PendingSignIn).values(expires_at=func.now()))
    )
    late = client.post("/second-factor", data={"form_token": token, "code": "123456"})
    assert late.headers["location"] == "/sign-in"


def test_a_recovery_code_signs_in_and_leads_back_where_one_was_going() -> None:
    _secret, codes = person_with_app()
    client = browser()
    give_password(client, next="/usage")
    page = client.get("/second-factor?next=/usage")
    [other] = re.findall(r'href="(/second-factor[^"]+use=recovery_code)"', page.text)
    shown = client.get(html.unescape(other))
    assert "Recovery code" in shown.text
    answer = client.post(
        "/second-factor",
        data={
            "form_token": form_token(shown),
            "use": "recovery_code",
            "next": "/usage",
            "code": codes[0],
        },
    )
    assert answer.headers["location"] == "/usage"
    assert "password and recovery code" in client.get("/sessions").text
    again = browser()
    give_password(again)
    used = post(again, "/second-factor?use=recovery_code", use="recovery_code", code=codes[0])
    assert used.status_code == 403
    assert "already used or replaced" in used.text


def test_staff_who_must_have_a_factor_set_it_up_on_the_way_in(
    configure_portal: Callable[..., None],
) -> None:
    configure_portal(**OUTSIDE_DEMO | {"BASE_URL": HERE})
    make_user(StaffRole.FINANCE)
    client = browser()
    answer = give_password(client, next="/analytics")
    assert answer.headers["location"] == "/set-up-second-factor?next=/analytics"
    page = client.get(answer.headers["location"])
    assert "data:image/svg+xml" in page.text
    assert not is_signed_in(client)
    assert client.get("/second-factor").headers["location"] == "/set-up-second-factor"
    secret = secret_in(page)
    assert secret_in(client.get("/set-up-second-factor")) == secret, "what was scanned stays"
    wrong = post(client, "/set-up-second-factor", code="12345")
    assert wrong.status_code == 422
    shown = post(
        client, "/set-up-second-factor?next=/analytics", code=code_of(secret), next="/analytics"
    )
    assert len(codes_in(shown)) == 10
    assert 'href="/analytics"' in shown.text
    assert is_signed_in(client)
    again = client.post("/set-up-second-factor", data={"form_token": "0", "code": "123456"})
    assert again.headers["location"] == "/two-factor?notice=codes_shown_once", "a reload"
    assert "Recovery codes are shown once." in client.get(again.headers["location"]).text
    assert client.get("/set-up-second-factor").headers["location"] == "/sign-in"
    assert prove(client, code=code_of(secret, 1)).headers["location"] == "/two-factor"
    refused = post(client, "/two-factor", current_password=PASSWORD, action="remove_app")
    assert refused.status_code == 409
    assert "Your role requires two-factor authentication" in refused.text
    # The next day, and somebody who knows the password alone.
    second = browser()
    assert give_password(second).headers["location"] == "/second-factor"
    assert second.get("/set-up-second-factor").headers["location"] == "/second-factor"


def test_changes_need_the_password_and_say_what_became_of_them() -> None:
    secret, codes = person_with_app()
    client = browser()
    give_password(client)
    post(client, "/second-factor", code=code_of(secret))
    page = client.get("/two-factor")
    assert 'name="action"' not in page.text
    assert 'href="/two-factor/confirm"' in page.text
    for action in ("add_app", "remove_app", "replace_codes", "add_passkey"):
        answer = client.post(
            "/two-factor",
            data={
                "form_token": form_token(page),
                "current_password": PASSWORD,
                "action": action,
                "passkey": "{}",
            },
        )
        assert answer.headers["location"] == "/two-factor/confirm"
    assert "Set up." in client.get("/two-factor").text
    assert prove(client, code="000000").status_code == 403
    by_paper = client.get("/two-factor/confirm?use=recovery_code")
    assert "Recovery code" in by_paper.text
    wrong = prove(client, code="aaaaa-aaaaa", use="recovery_code")
    assert "The recovery code is wrong" in wrong.text
    assert prove(client, code=codes[0], use="recovery_code").headers["location"] == "/two-factor"
    assert client.get("/two-factor/confirm").headers["location"] == "/two-factor"
    for action in ("add_app", "remove_app", "replace_codes"):
        answer = post(client, "/two-factor", current_password="another-one-1", action=action)
        assert answer.status_code == 422
        assert "The current password is wrong" in answer.text
    fresh = codes_in(replace_codes(client))
    assert len(fresh) == 10
    for _time in range(2):
        done = post(client, "/two-factor", current_password=PASSWORD, action="remove_app")
        assert done.headers["location"] == "/two-factor?notice=second_factor_removed"
    assert "Off. You sign in with your password only" in client.get("/two-factor").text
    none = post(client, "/two-factor", current_password=PASSWORD, action="replace_codes")
    assert none.status_code == 409
    odd = post(client, "/two-factor", current_password=PASSWORD, action="burn:everything")
    assert odd.status_code == 200
    gone = post(client, "/two-factor", current_password=PASSWORD, action="remove_passkey:1")
    assert gone.status_code == 303
    assert browser().get("/two-factor/app").status_code == 303
    assert client.get("/two-factor/app").headers["location"] == "/two-factor"


def test_reload_of_new_recovery_codes_keeps_them_and_says_so() -> None:
    secret, old = person_with_app()
    client = browser()
    give_password(client)
    post(client, "/second-factor", code=code_of(secret))
    prove(client, code=code_of(secret, 1))
    sent = codes_form(client)
    codes = codes_in(client.post("/two-factor", data=sent))
    assert len(codes) == 10
    for fields in (sent, sent, {**sent, "code_set": ""}):
        again = client.post("/two-factor", data=fields)
        assert again.status_code == 409
        assert not codes_in(again)
        assert "Your new recovery codes are active and were shown once." in again.text
    assert prove_by_paper(old[0]).status_code == 403
    assert prove_by_paper(codes[0]).headers["location"] == "/"
    # On purpose: the page names the codes that there are now.
    newest = codes_in(replace_codes(client))
    assert len(newest) == 10
    assert prove_by_paper(codes[1]).status_code == 403
    assert prove_by_paper(newest[0]).headers["location"] == "/"


def prove_by_paper(code: str) -> Response:
    """Sign in elsewhere with a recovery code."""
    client = browser()
    give_password(client)
    return post(client, "/second-factor", code=code, use="recovery_code")


def test_recovery_code_that_is_used_leaves_the_form_for_new_ones_as_it_is() -> None:
    secret, codes = person_with_app()
    client = browser()
    give_password(client)
    post(client, "/second-factor", code=code_of(secret))
    prove(client, code=code_of(secret, 1))
    sent = codes_form(client)
    assert prove_by_paper(codes[0]).headers["location"] == "/"
    assert len(codes_in(client.post("/two-factor", data=sent))) == 10


def test_reload_of_the_first_recovery_codes_says_that_they_are_shown_once() -> None:
    make_user()
    client = browser()
    give_password(client)
    page = post(client, "/two-factor", current_password=PASSWORD, action="add_app")
    sent = {
        "form_token": form_token(page),
        "offer": offer_in(page),
        "code": code_of(secret_in(page)),
    }
    codes = codes_in(client.post("/two-factor/app", data=sent))
    assert len(codes) == 10
    again = client.post("/two-factor/app", data=sent)
    assert again.status_code == 403
    assert "Recovery codes are shown only once" in again.text
    assert prove_by_paper(codes[0]).headers["location"] == "/"


@pytest.mark.parametrize("path", ["/two-factor/app", "/set-up-second-factor"])
@pytest.mark.parametrize("code", ["1234", "1234567", "abcdef", " ", "12345x"])
def test_code_without_six_digits_is_told_so(
    path: str, code: str, configure_portal: Callable[..., None]
) -> None:
    is_set_up = path == "/set-up-second-factor"
    if is_set_up:
        configure_portal(**OUTSIDE_DEMO | {"BASE_URL": HERE})
    make_user(StaffRole.FINANCE if is_set_up else None)
    client = browser()
    answer = give_password(client)
    if is_set_up:
        page = client.get(answer.headers["location"])
        sent = {"form_token": form_token(page), "code": code}
    else:
        page = post(client, "/two-factor", current_password=PASSWORD, action="add_app")
        sent = {"form_token": form_token(page), "offer": offer_in(page), "code": code}
    answer = client.post(path, data=sent)
    assert answer.status_code == 422
    assert '<p class="fault" id="code-about">Enter the 6-digit code from your app.</p>' in (
        answer.text
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1234", "Enter the 6-digit code from your app."),
        (
            "abcde-fghjk",
            "Enter the 6-digit code from your app, or use a recovery code below.",
        ),
        (
            "000 000",
            ("The code is wrong, expired or already used. Wait for the next code, then enter it."),
        ),
    ],
)
def test_wrong_code_at_the_sign_in_says_what_is_wrong(code: str, message: str) -> None:
    person_with_app()
    client = browser()
    give_password(client)
    answer = post(client, "/second-factor", code=code)
    assert answer.status_code == 403
    assert f">{message}</p>" in answer.text


def test_a_passkey_is_added_and_signs_in_with_and_without_the_password() -> None:
    make_user()
    client = browser()
    give_password(client)
    page = client.get("/two-factor")
    options, state = options_in(page)
    device = Device(HERE)
    fields = {
        "form_token": form_token(page),
        "current_password": PASSWORD,
        "action": "add_passkey",
        "passkey_name": "Laptop",
        "passkey": device.create(options),
        "passkey_state": state,
    }
    codes = codes_in(client.post("/two-factor", data=fields))
    assert len(codes) == 10
    again = client.post("/two-factor", data=fields)
    assert again.status_code == 403, "sent twice"
    assert "Change these settings" in again.text
    assert "Laptop" in client.get("/two-factor").text

    second = browser()
    answer = give_password(second)
    options, state = options_in(second.get(answer.headers["location"]))
    assert len(json.loads(options)["allowCredentials"]) == 1
    answered = {"passkey": device.get(options), "passkey_state": state}
    assert post(second, "/second-factor", **answered).headers["location"] == "/"
    assert "passkey" in second.get("/sessions").text

    third = browser()
    page = third.get("/sign-in?next=/usage")
    options, state = options_in(page)
    sent = {
        "form_token": form_token(page),
        "next": "/usage",
        "passkey": device.get(options),
        "passkey_state": state,
    }
    stolen = browser().post("/sign-in/passkey", data=sent)
    assert stolen.status_code == 403, "another browser's"
    assert third.post("/sign-in/passkey", data=sent).headers["location"] == "/usage"
    assert is_signed_in(third)

    broken = browser()
    odd = post(broken, "/sign-in/passkey", passkey="{", passkey_state="x")
    assert odd.status_code == 403
    assert "was not accepted" in odd.text
    nothing = post(broken, "/sign-in/passkey")
    assert nothing.status_code == 200
    assert 'action="/sign-in/passkey"' in nothing.text


def test_wrong_passwords_from_an_address_keep_no_passkey_out() -> None:
    make_user()
    client = browser()
    give_password(client)
    page = client.get("/two-factor")
    options, state = options_in(page)
    device = Device(HERE)
    added = post(
        client,
        "/two-factor",
        current_password=PASSWORD,
        action="add_passkey",
        passkey_name="My laptop",
        passkey=device.create(options),
        passkey_state=state,
    )
    assert codes_in(added)
    guesser = browser()
    statuses = [
        post(guesser, "/sign-in", email=f"{number}@example.com", password="a guess 1").status_code
        for number in range(31)
    ]
    assert statuses == [403] * 30 + [429]
    assert give_password(browser()).status_code == 429
    options, state = options_in(guesser.get("/sign-in"))
    answered = {"passkey": device.get(options), "passkey_state": state}
    assert post(guesser, "/sign-in/passkey", **answered).status_code == 303
    assert is_signed_in(guesser)


@pytest.mark.parametrize(
    ("base_url", "is_offered"),
    [
        (HERE, True),
        ("https://billing.example.com", True),
        ("http://192.0.2.7:8501", False),
        ("http://billing.internal", False),
    ],
)
def test_passkeys_are_offered_where_browsers_have_them(base_url: str, *, is_offered: bool) -> None:
    page = browser(base_url).get("/sign-in")
    assert ('name="passkey_state"' in page.text) is is_offered


def test_a_mail_tells_of_each_change() -> None:
    person_with_app()
    templates = database.read_snapshot(
        lambda session: list(session.scalars(select(OutboxMessage.template)))
    )
    assert templates == ["second_factor_changed"]


def test_a_session_of_before_the_rule_is_over_outside_the_demo(
    configure_portal: Callable[..., None],
) -> None:
    make_user(StaffRole.ADMIN)
    client = browser()
    give_password(client)
    assert is_signed_in(client)
    configure_portal(**OUTSIDE_DEMO | {"BASE_URL": HERE})
    assert not is_signed_in(client)
    database.transaction(
        lambda session: session.execute(update(UserSession).values(factor="passkey"))
    )
    assert is_signed_in(client)


def test_a_host_header_that_is_no_host_offers_no_passkey() -> None:
    page = browser().get("/sign-in", headers={"host": "[::"})
    assert page.status_code == 200
    assert 'name="passkey_state"' not in page.text


def test_the_present_password_is_no_new_one() -> None:
    make_user()
    client = browser()
    give_password(client)
    answer = post(client, "/password", current_password=PASSWORD, new_password=PASSWORD)
    assert answer.status_code == 422
    assert "a password that differs from your current one" in answer.text


def test_a_recovery_code_in_the_field_of_the_app_is_told_where_it_goes() -> None:
    _secret, codes = person_with_app()
    client = browser()
    give_password(client)
    answer = post(client, "/second-factor", code=codes[0])
    assert answer.status_code == 403
    assert "or use a recovery code below." in answer.text


def test_a_copy_of_the_session_is_out_once_a_factor_was_added() -> None:
    make_user()
    client = browser()
    give_password(client)
    copied = browser()
    copied.cookies.update(client.cookies)
    page = post(client, "/two-factor", current_password=PASSWORD, action="add_app")
    code, offer = code_of(secret_in(page), -1), offer_in(page)
    sent = {"form_token": form_token(page), "code": code, "offer": offer}
    assert codes_in(client.post("/two-factor/app", data=sent))
    assert is_signed_in(client)
    assert not is_signed_in(copied)


def test_a_password_is_changed_after_a_factor_and_a_copy_of_the_session_is_out() -> None:
    secret, _codes = person_with_app()
    client = browser()
    give_password(client)
    post(client, "/second-factor", code=code_of(secret))
    copied = browser()
    copied.cookies.update(client.cookies)
    confirm = "/two-factor/confirm?next=/password"
    assert client.get("/password").headers["location"] == confirm
    page = client.get(confirm)
    sent = {"form_token": form_token(page), "current_password": PASSWORD, "new_password": "x"}
    assert client.post("/password", data=sent).headers["location"] == confirm
    proven = client.post(
        confirm,
        data={"form_token": form_token(page), "code": code_of(secret, 1), "next": "/password"},
    )
    assert proven.headers["location"] == "/password"
    # What was proven was proven in this browser, and not in the one that has a copy.
    assert not is_signed_in(copied)
    new = "amber-ladder-4-june"
    done = post(client, "/password", current_password=PASSWORD, new_password=new)
    assert done.headers["location"] == "/sessions?notice=password_changed"
    assert is_signed_in(client)
    evil = client.get("/two-factor/confirm?next=//evil.example")
    assert evil.headers["location"] == "/two-factor"
