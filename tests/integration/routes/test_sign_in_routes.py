"""The forms of our own routes, as browsers and attackers send them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, select, text, update

from db.models import OutboxMessage, User, UserSession
from domain import identity
from domain.actors import StaffRole, system_actor
from portal.routes import refusals
from portal.runtime import database
from portal.ui import urls
from tests.support.environment import OUTSIDE_DEMO
from tests.support.keys import parameters_of
from tests.support.route_browser import HERE, browser, form_token, post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from httpx2 import Response
    from starlette.testclient import TestClient

EMAIL = "lan@example.com"
PASSWORD = "violet-kettle-9-march"
NEW_PASSWORD = "amber-ladder-4-june"
SESSION = "credit_portal_session"
FORM = "credit_portal_form"
SIGN_UP = {
    "email": EMAIL,
    "display_name": "Lan Nguyen",
    "password": PASSWORD,
    "account_name": "Lan's lab",
    "country": "VN",
    "currency": "VND",
}


def make_user(email: str = EMAIL, role: StaffRole | None = None) -> int:
    return database.transaction(
        identity.create_user,
        email=email,
        display_name="Lan",
        password=PASSWORD,
        staff_role=role,
        actor=system_actor("tests"),
    )


def sign_in_as(client: TestClient, email: str = EMAIL, **fields: str) -> Response:
    return post(client, "/sign-in", email=email, password=PASSWORD, **fields)


def is_signed_in(client: TestClient) -> bool:
    answer = client.get("/sessions")
    assert answer.status_code in {200, 303}
    return answer.status_code == 200


def mails() -> list[OutboxMessage]:
    return database.read_snapshot(
        lambda session: list(session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)))
    )


def mailed_token() -> str:
    newest = mails()[-1]
    return str(database.read_snapshot(lambda session: parameters_of(session, newest))["token"])


def mailed_path(purpose: str) -> str:
    return f"/{purpose}?token={mailed_token()}"


def count_sessions() -> int:
    return database.read_snapshot(
        lambda s: s.scalars(select(func.count(UserSession.user_id))).one()
    )


def everything_but_secrets(answer: Response) -> tuple[int, dict[str, str], str]:
    """What two answers have in common if neither tells more than the other."""
    hidden = re.sub(r"[0-9a-f]{64}", "TOKEN", answer.text)
    hidden = re.sub(r"challenge&#34;: &#34;[\w-]{43}", "CHALLENGE", hidden)
    hidden = re.sub(r'(?<=name="passkey_state" value=")[\w.-]+', "STATE", hidden)
    headers = {name: re.sub(r"=[\w-]{43}", "=X", value) for name, value in answer.headers.items()}
    return answer.status_code, headers, hidden


# ── Signing in and out ─────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize("role", [None, StaffRole.SUPPORT])
def test_who_is_disabled_reads_whom_to_ask_once_the_password_is_right(
    role: StaffRole | None,
) -> None:
    make_user(role=role)
    database.transaction(
        lambda session: session.execute(update(User).values(disabled_at=func.now()))
    )
    message = "Your sign-in is disabled. Contact support, or an administrator if you are staff."
    for password, is_reported in ((PASSWORD, True), ("wrong-kettle-9-march", False)):
        client = browser()
        answer = post(client, "/sign-in", email=EMAIL, password=password)
        assert answer.status_code == 403
        assert (message in answer.text) is is_reported
        assert not is_signed_in(client)


@pytest.mark.usefixtures("portal_database")
def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get() -> None:
    make_user()
    client = browser()
    answer = sign_in_as(client, next="/billing?tab=history")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/billing?tab=history"
    cookie = next(
        line for line in answer.headers.get_list("set-cookie") if line.startswith(SESSION)
    )
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert f"max-age={7 * 24 * 3600}" in attributes
    assert "secure" not in attributes
    assert not any(part.startswith("domain") for part in attributes)
    assert is_signed_in(client)


@pytest.mark.usefixtures("portal_database")
def test_behind_tls_cookies_are_for_tls_and_this_host_alone(
    configure_portal: Callable[..., None],
) -> None:
    configure_portal(BASE_URL="https://billing.example.com")
    make_user()
    client = browser("https://billing.example.com")
    page = client.get("/sign-in")
    assert page.headers["set-cookie"].startswith(f"__Host-{FORM}=")
    assert "Secure" in page.headers["set-cookie"]
    assert page.headers["strict-transport-security"] == "max-age=31536000"
    answer = sign_in_as(client)
    cookie = next(
        line
        for line in answer.headers.get_list("set-cookie")
        if line.startswith("__Host-" + SESSION)
    )
    assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert is_signed_in(client)


@pytest.mark.usefixtures("portal_database")
def test_the_form_cookie_is_not_sent_along_by_other_sites() -> None:
    cookie = browser().get("/sign-in").headers["set-cookie"]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert cookie.startswith(FORM)
    assert {"httponly", "samesite=strict", "path=/"} <= attributes


@pytest.mark.usefixtures("portal_database")
def test_signing_out_ends_the_session_here_alone() -> None:
    make_user()
    here, elsewhere = browser(), browser()
    sign_in_as(here)
    sign_in_as(elsewhere)
    copied = here.cookies[SESSION]
    answer = post(here, "/sign-out", page="/password")
    assert answer.headers["location"] == "/sign-in?notice=signed_out"
    assert SESSION not in here.cookies
    assert "You are signed out." in here.get(answer.headers["location"]).text
    here.cookies.set(SESSION, copied)
    assert not is_signed_in(here), "a copied cookie opens nothing any more"
    assert is_signed_in(elsewhere)


@pytest.mark.usefixtures("portal_database")
def test_list_of_sessions_says_that_this_browser_is_seen_now() -> None:
    """Whatever the database has, which is up to a minute old; and the others when they were."""
    make_user()
    browsers = [browser() for _ in range(3)]
    for each in browsers:
        sign_in_as(each)
    for each in browsers:  # the one that was seen last is another each time
        rows = re.findall(r"<li>.*?</li>", each.get("/sessions").text, re.DOTALL)
        assert ["this browser" in row for row in rows] == [True, False, False]
        assert ["last seen" in row for row in rows] == [False, True, True]


@pytest.mark.usefixtures("portal_database")
def test_signing_out_everywhere() -> None:
    make_user()
    browsers = [browser() for _ in range(3)]
    for each in browsers:
        sign_in_as(each)
    post(browsers[0], "/sign-out-everywhere", page="/sessions")
    assert [is_signed_in(each) for each in browsers] == [False, False, False]


@pytest.mark.usefixtures("portal_database")
def test_one_browser_signs_another_out() -> None:
    make_user()
    here, elsewhere = browser(), browser()
    sign_in_as(here)
    sign_in_as(elsewhere)
    other = identity.session_id_of(elsewhere.cookies[SESSION])
    assert other in here.get("/sessions").text
    post(here, "/sessions", session=other)
    assert is_signed_in(here)
    assert not is_signed_in(elsewhere)
    own = identity.session_id_of(here.cookies[SESSION])
    assert post(here, "/sessions", session=own).headers["location"].startswith("/sign-in")
    assert not is_signed_in(here)


@pytest.mark.usefixtures("portal_database")
def test_nobody_signs_somebody_else_out() -> None:
    make_user()
    make_user("minh@example.com")
    lan, minh = browser(), browser()
    sign_in_as(lan)
    sign_in_as(minh, "minh@example.com")
    victim = identity.session_id_of(lan.cookies[SESSION])
    assert victim not in minh.get("/sessions").text
    post(minh, "/sessions", session=victim)
    assert is_signed_in(lan)


@pytest.mark.usefixtures("portal_database")
def test_signing_out_with_a_session_that_has_ended_is_no_error() -> None:
    make_user()
    client = browser()
    sign_in_as(client)
    token = form_token(client.get("/password"))
    database.transaction(
        lambda session: session.execute(update(UserSession).values(revoked_at=func.now()))
    )
    answer = client.post("/sign-out", data={"form_token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")


@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize(("column", "age"), [("last_seen_at", "9 hours"), ("expires_at", "0")])
def test_idle_and_old_sessions_are_out(column: str, age: str) -> None:
    make_user()
    client = browser()
    sign_in_as(client)
    assert is_signed_in(client)
    database.transaction(
        lambda session: session.execute(
            text(f"UPDATE user_sessions SET {column} = now() - interval '{age}'")  # noqa: S608
        )
    )
    assert not is_signed_in(client)


@pytest.mark.usefixtures("portal_database")
def test_a_planted_session_cookie_is_not_adopted() -> None:
    make_user()
    client = browser()
    client.cookies.set(SESSION, "planted-by-an-attacker")
    sign_in_as(client)
    values = {cookie.value for cookie in client.cookies.jar if cookie.name == SESSION}
    fresh = values - {"planted-by-an-attacker"}
    assert len(fresh) == 1
    attacker = browser()
    attacker.cookies.set(SESSION, "planted-by-an-attacker")
    assert not is_signed_in(attacker)


@pytest.mark.usefixtures("portal_database")
def test_signing_in_again_ends_the_session_that_this_browser_had() -> None:
    make_user()
    make_user("minh@example.com")
    client = browser()
    page = client.get("/sign-in")
    sign_in_as(client)
    first = client.cookies[SESSION]
    client.cookies.set(FORM, page.cookies[FORM])
    data = {"form_token": form_token(page), "email": "minh@example.com", "password": PASSWORD}
    assert client.post("/sign-in", data=data).status_code == 303
    assert client.cookies[SESSION] != first
    earlier = browser()
    earlier.cookies.set(SESSION, first)
    assert not is_signed_in(earlier)


@pytest.mark.usefixtures("portal_database")
def test_who_is_signed_in_need_not_sign_in() -> None:
    make_user()
    client = browser()
    sign_in_as(client)
    answer = client.get("/sign-in?next=/billing")
    assert (answer.status_code, answer.headers["location"]) == (303, "/billing")


# ── Where one ends up ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example",
        "https:evil.example",
        "https:",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "evil.example",
        "",
        "/" + "x" * 3000,
        "//[",
        "/billing\r\nSet-Cookie: a=b",
        "/%5Cevil\\example",
    ],
)
def test_after_signing_in_nobody_is_sent_elsewhere(elsewhere: str) -> None:
    assert urls.local_path(elsewhere) == "/"


@pytest.mark.parametrize("path", ["/", "/billing", "/billing?tab=history&q=a%20b", "/a:b"])
def test_paths_of_the_portal_are_kept(path: str) -> None:
    assert urls.local_path(path) == path


@pytest.mark.usefixtures("portal_database")
def test_an_open_redirect_is_not_followed() -> None:
    make_user()
    client = browser()
    page = client.get("/sign-in", params={"next": "//evil.example"})
    assert "evil.example" not in page.text
    assert sign_in_as(client, next="/\\evil.example").headers["location"] == "/"
    again = client.get("/sign-in", params={"next": "https://evil.example"})
    assert again.headers["location"] == "/"


@pytest.mark.usefixtures("portal_database")
def test_pages_send_strangers_to_sign_in_and_back() -> None:
    client = browser()
    answer = client.get("/billing?tab=history&q=a%20b")
    assert answer.status_code == 303
    location = answer.headers["location"]
    assert location == "/sign-in?next=/billing%3Ftab%3Dhistory%26q%3Da%2520b"
    assert 'name="next" value="/billing?tab=history&amp;q=a%20b"' in client.get(location).text
    assert client.get("/").headers["location"] == "/sign-in"
    evil = client.get("http://localhost:8501//evil.example").headers["location"]
    assert evil == "/sign-in"


@pytest.mark.usefixtures("portal_database")
def test_only_pages_are_guarded_by_the_redirect() -> None:
    client = browser()
    for path in ("/_stcore/health", "/_stcore/host-config", "/static/app.js"):
        assert client.get(path).text == "the page shell"
    for path in ("/media/1.png", "/_stcore/metrics"):
        assert client.get(path).status_code == 404
    assert client.get("/billing", headers={"accept": "*/*"}).text == "the page shell"
    for method in ("POST", "PUT", "DELETE", "BREW"):
        assert client.request(method, "/billing").status_code == 405
    make_user()
    sign_in_as(client)
    assert client.get("/billing").text == "the page shell"


@pytest.mark.usefixtures("portal_database")
def test_forms_for_signed_in_people_send_others_to_sign_in() -> None:
    client = browser()
    assert client.get("/password").headers["location"] == "/sign-in?next=/password"
    assert client.get("/sessions").headers["location"] == "/sign-in?next=/sessions"
    for path in ("/password", "/sessions"):
        answer = client.post(path, data={"current_password": PASSWORD})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")


@pytest.mark.usefixtures("portal_database")
def test_a_return_from_another_site_stays_signed_in() -> None:
    make_user()
    client = browser()
    sign_in_as(client)
    headers = {"origin": "https://gateway.example", "referer": "https://gateway.example/"}
    assert client.get("/sessions", headers=headers).status_code == 200


# ── Forged requests ────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize("token", ["", "0" * 64, "é", "of another browser"])
def test_a_form_without_its_token_does_nothing(token: str) -> None:
    make_user()
    client = browser()
    client.get("/sign-in")
    if token == "of another browser":
        token = form_token(browser().get("/sign-in"))
    data = {"form_token": token, "email": EMAIL, "password": PASSWORD}
    answer = client.post("/sign-in", data=data)
    assert answer.status_code == 403
    assert SESSION not in client.cookies
    assert f'value="{EMAIL}"' in answer.text, "what was typed is kept"
    assert PASSWORD not in answer.text
    data["form_token"] = form_token(answer)
    assert client.post("/sign-in", data=data).status_code == 303, "sending it again works"


@pytest.mark.usefixtures("portal_database")
def test_a_form_without_its_cookie_does_nothing() -> None:
    make_user()
    client = browser()
    token = form_token(client.get("/sign-in"))
    client.cookies.clear()
    data = {"form_token": token, "email": EMAIL, "password": PASSWORD}
    assert client.post("/sign-in", data=data).status_code == 403
    assert count_sessions() == 0


@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "https://evil.example",
        "http://localhost:9999",
        "http://localhost:8501.evil.example",
        "http://evil.example/localhost:8501",
        "http://[",
    ],
)
def test_a_form_from_another_origin_does_nothing(origin: str | None) -> None:
    make_user()
    client = browser()
    token = form_token(client.get("/sign-in"))
    del client.headers["origin"]
    headers = {} if origin is None else {"origin": origin}
    data = {"form_token": token, "email": EMAIL, "password": PASSWORD}
    assert client.post("/sign-in", data=data, headers=headers).status_code == 403
    assert count_sessions() == 0


@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://billing.example.com", 303),
        ("https://billing.example.com:8443", 403),
        ("http://billing.example.com", 403),
        ("https://internal:8501", 403),
    ],
)
def test_with_a_base_url_forms_come_from_there_alone(
    configure_portal: Callable[..., None], origin: str, status: int
) -> None:
    configure_portal(BASE_URL="https://billing.example.com:443")
    make_user()
    client = browser("https://internal:8501")
    token = form_token(client.get("/sign-in"))
    data = {"form_token": token, "email": EMAIL, "password": PASSWORD}
    answer = client.post("/sign-in", data=data, headers={"origin": origin})
    assert answer.status_code == status


@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize("path", ["/sign-out", "/sign-out-everywhere", "/sessions", "/password"])
def test_signed_in_forms_need_the_session_s_own_token(path: str) -> None:
    make_user()
    client, other = browser(), browser()
    sign_in_as(client)
    sign_in_as(other)
    for token in ("", form_token(other.get("/password"))):
        data = {
            "form_token": token,
            "session": identity.session_id_of(client.cookies[SESSION]),
            "current_password": PASSWORD,
            "new_password": NEW_PASSWORD,
        }
        assert client.post(path, data=data).status_code == 403
    token = form_token(client.get("/password"))
    answer = client.post(
        path, data={"form_token": token}, headers={"origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert is_signed_in(client)
    assert is_signed_in(other)


@pytest.mark.usefixtures("portal_database")
def test_page_of_an_older_token_signs_out_at_the_second_press() -> None:
    make_user()
    client = browser()
    sign_in_as(client)
    stale = form_token(client.get("/password"))
    changed = post(client, "/password", current_password=PASSWORD, new_password=NEW_PASSWORD)
    assert changed.status_code == 303
    page = client.post("/sign-out", data={"form_token": stale})
    assert page.status_code == 403
    assert "The form was open for too long. Send it again." in page.text
    assert is_signed_in(client)
    done = client.post("/sign-out", data={"form_token": form_token(page)})
    assert done.headers["location"] == "/sign-in?notice=signed_out"
    assert not is_signed_in(client)
    assert client.get("/sign-out").headers["location"] == "/sign-in", "and not back to here"


@pytest.mark.usefixtures("portal_database")
def test_wrong_methods_are_405_and_do_not_fall_through() -> None:
    client = browser()
    assert client.get("/sign-out-everywhere").headers["allow"] == "POST"
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = client.request(method, "/sign-in")
        assert (answer.status_code, answer.text) == (405, "")
        assert answer.headers["allow"] == "GET, HEAD, POST"
    assert client.post("/check-mail").status_code == 405
    assert client.post("/mailbox").status_code == 405
    assert client.post("/health").status_code == 405
    assert client.head("/sign-in").status_code == 200


@pytest.mark.usefixtures("portal_database")
def test_bodies_are_small_forms_and_nothing_else() -> None:
    client = browser()
    token = form_token(client.get("/sign-in"))
    huge = client.post("/sign-in", data={"form_token": token, "email": "x" * 70_000})
    assert huge.status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"email=" + b"x" * 1000 + b"&"

    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/sign-in", content=endless(), headers=headers).status_code == 413
    many = "&".join(f"f{number}=1" for number in range(51))
    assert client.post("/sign-in", content=many, headers=headers).status_code == 400
    assert client.post("/sign-in", json={"email": EMAIL}).status_code == 415
    assert client.post("/sign-in", files={"email": b"x"}).status_code == 415


@pytest.mark.usefixtures("portal_database")
def test_texts_that_no_database_takes_are_no_error() -> None:
    client = browser()
    answer = post(client, "/sign-up", **(SIGN_UP | {"display_name": "a\x00b", "email": "\x00"}))
    assert answer.status_code == 422
    answer = post(client, "/forgot-password", email="\N{THUMBS UP SIGN}\x00")
    assert answer.status_code == 422
    assert "Use letters, digits and punctuation only." in answer.text
    assert post(client, "/sign-in", email="\x00", password="\x00").status_code == 422


@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize("nonsense", [b"%ff%fe", b"%ed%a0%bd", b"\xff", b"%", b"%zz", b"=&=&;"])
@pytest.mark.parametrize("field", [b"email", b"form_token"])
def test_bytes_that_are_no_text_are_no_error(field: bytes, nonsense: bytes) -> None:
    client = browser()
    token = form_token(client.get("/sign-in")).encode()
    content = b"form_token=" + token + b"&password=x&" + field + b"=" + nonsense
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post("/sign-in", content=content, headers=headers)
    assert answer.status_code in {400, 403}
    assert client.get(b"/sign-in?next=".decode() + nonsense.decode("latin-1")).status_code == 200


# ── Guessing ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("portal_database")
def test_known_and_unknown_people_are_answered_alike() -> None:
    make_user()

    def answer_to(email: str, path: str, **fields: str) -> tuple[int, dict[str, str], str]:
        answer = post(browser(), path, email=email, **fields)
        status, headers, content = everything_but_secrets(answer)
        return status, headers, content.replace(email, "ADDRESS")

    unknown = "bob@example.com"
    wrong = {"password": "not the password"}
    assert answer_to(EMAIL, "/sign-in", **wrong) == answer_to(unknown, "/sign-in", **wrong)
    assert answer_to(EMAIL, "/forgot-password") == answer_to(unknown, "/forgot-password")
    rest = {name: value for name, value in SIGN_UP.items() if name != "email"}
    assert answer_to(EMAIL, "/sign-up", **rest) == answer_to(unknown, "/sign-up", **rest)
    assert [(mail.recipient, mail.template) for mail in mails()] == [
        (EMAIL, "reset_password"),
        (EMAIL, "already_signed_up"),
        (unknown, "verify_email"),
    ]


@pytest.mark.usefixtures("portal_database")
def test_guesses_are_slowed_down_and_it_says_how_long() -> None:
    make_user()
    client = browser()
    for _ in range(5):
        answer = post(client, "/sign-in", email=EMAIL, password="not the password")
        assert answer.status_code == 403
    answer = sign_in_as(client)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 30
    assert "Too many attempts" in answer.text
    assert f'value="{EMAIL}"' in answer.text
    assert sign_in_as(browser(address="198.51.100.7")).status_code == 303


@pytest.mark.usefixtures("portal_database")
def test_twenty_guesses_at_once_are_five_guesses() -> None:
    make_user()
    client = browser()
    token = form_token(client.get("/sign-in"))
    cookie = client.cookies[FORM]

    def guess(number: int) -> int:
        own = browser()
        own.cookies.set(FORM, cookie)
        data = {"form_token": token, "email": EMAIL, "password": f"wrong password {number}"}
        return own.post("/sign-in", data=data).status_code

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(guess, range(20)))
    assert sorted(answers) == [403] * 5 + [429] * 15


@pytest.mark.usefixtures("portal_database")
def test_who_has_to_wait_is_told_again_without_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refusals, "DELAY_SECONDS", 0.01)
    client = browser()
    form = {"form_token": form_token(client.get("/sign-up")), "email": "no address"}
    answers = [client.post("/sign-up", data=form) for _ in range(21)]
    assert [each.status_code for each in answers] == [422] * 20 + [429]
    database.disconnect()
    for again in (client.post("/sign-up", data=form), client.post("/sign-up")):
        assert again.status_code == 429
        assert 0 < int(again.headers["retry-after"]) <= 30
        assert "Too many attempts" in again.text
        assert "no-store" in again.headers["cache-control"]
    neighbour = browser(address="198.51.100.7")
    assert neighbour.post("/sign-up", data=form).status_code == 500, "this one would be looked at"


# ── Signing up, confirming, resetting ──────────────────────────────────────────────────────────
@pytest.mark.usefixtures("portal_database")
def test_from_sign_up_to_the_first_page() -> None:
    client = browser()
    answer = post(client, "/sign-up", **SIGN_UP)
    assert answer.headers["location"] == "/check-mail?for=sign-up"
    assert "Check your email" in client.get(answer.headers["location"]).text
    assert post(client, "/sign-in", email=EMAIL, password=PASSWORD).status_code == 403

    link = mailed_path("verify-email")
    page = client.get(link)
    assert EMAIL in page.text
    assert client.get(link).status_code == 200, (
        "looking at a link, as mail scanners do, uses nothing"
    )
    token = mailed_token()
    wrong = post(client, "/verify-email", page=link, token=token, password="not the password")
    assert wrong.status_code == 403
    entered = post(client, "/verify-email", page=link, token=token, password=PASSWORD)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert is_signed_in(client)
    assert client.get(link).status_code == 410
    rows = database.read_snapshot(
        lambda session: session.execute(text("SELECT currency, site_code FROM accounts")).all()
    )
    assert [tuple(row) for row in rows] == [("VND", "vn")]


@pytest.mark.usefixtures("portal_database")
def test_a_sign_up_with_faults_says_each_and_keeps_the_rest() -> None:
    wrong = SIGN_UP | {"email": "lan@", "password": "short", "currency": "USD", "display_name": " "}
    answer = post(browser(), "/sign-up", **wrong)
    assert answer.status_code == 422
    for sentence in (
        "This is not an email address.",
        "Enter your name.",
        "Use at least 10 characters.",
        "Choose a currency available in your country: VND.",
    ):
        assert sentence in answer.text
    assert 'value="lan@"' in answer.text
    assert "Lan&#39;s lab" in answer.text
    assert '<option value="VN" selected>' in answer.text
    assert 'value="short"' not in answer.text
    assert mails() == []


@pytest.mark.usefixtures("portal_database")
def test_what_is_typed_is_shown_as_text() -> None:
    answer = post(browser(), "/sign-up", **(SIGN_UP | {"email": '"><script>alert(1)</script>'}))
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text


@pytest.mark.usefixtures("portal_database")
def test_a_forgotten_password_is_replaced_once() -> None:
    make_user()
    client, elsewhere = browser(), browser()
    sign_in_as(elsewhere)
    post(client, "/forgot-password", email=EMAIL)
    link = mailed_path("reset-password")
    token = mailed_token()
    weak = post(client, "/reset-password", page=link, token=token, password="password123")
    assert weak.status_code == 422
    assert "easy to guess" in weak.text
    done = post(client, "/reset-password", page=link, token=token, password=NEW_PASSWORD)
    assert done.headers["location"] == "/sign-in?notice=password_reset"
    assert not is_signed_in(elsewhere)
    assert client.get(link).status_code == 410
    form = form_token(client.get("/forgot-password"))
    data = {"form_token": form, "token": token, "password": PASSWORD}
    assert client.post("/reset-password", data=data).status_code == 410
    assert post(client, "/sign-in", email=EMAIL, password=NEW_PASSWORD).status_code == 303


@pytest.mark.usefixtures("portal_database")
def test_changing_the_password() -> None:
    make_user()
    client, elsewhere = browser(), browser()
    sign_in_as(client)
    sign_in_as(elsewhere)
    wrong = post(client, "/password", current_password="not it", new_password=NEW_PASSWORD)
    assert wrong.status_code == 422
    assert "The current password is wrong." in wrong.text
    weak = post(client, "/password", current_password=PASSWORD, new_password="password123")
    assert "easy to guess" in weak.text
    done = post(client, "/password", current_password=PASSWORD, new_password=NEW_PASSWORD)
    assert done.headers["location"] == "/sessions?notice=password_changed"
    assert is_signed_in(client)
    assert not is_signed_in(elsewhere)


@pytest.mark.usefixtures("portal_database")
def test_password_managers_find_their_way() -> None:
    make_user()
    client = browser()
    signing_up = client.get("/sign-up").text
    assert 'type="email"' in signing_up
    assert 'autocomplete="username"' in signing_up
    assert 'autocomplete="new-password"' in signing_up
    assert 'autocomplete="current-password"' in client.get("/sign-in").text
    sign_in_as(client)
    changing = client.get("/password").text
    for kind in ("username", "current-password", "new-password"):
        assert f'autocomplete="{kind}"' in changing


@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize("path", ["/sign-in", "/sign-up", "/forgot-password"])
def test_every_field_has_a_label_and_every_fault_is_tied_to_its_field(path: str) -> None:
    answer = post(browser(), path, **(SIGN_UP | {"email": "lan@", "country": ""}))
    for content in (browser().get(path).text, answer.text):
        fields = re.findall(r'<(?:input|select) id="(\w+)"', content)
        labels = re.findall(r'<label for="(\w+)"', content)
        assert fields == labels
        for described in re.findall(r'aria-describedby="([\w-]+)"', content):
            assert f'id="{described}"' in content


# ── Headers, language, faults ──────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("portal_database")
def test_forms_are_kept_nowhere_framed_nowhere_and_run_only_our_script() -> None:
    answer = browser().get("/sign-in")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["content-language"] == "en"
    assert '<html lang="en">' in answer.text
    shell = browser().get("/_stcore/health")
    assert "script-src 'self' 'unsafe-inline'" in shell.headers["content-security-policy"]
    assert shell.headers["x-frame-options"] == "DENY"


@pytest.mark.usefixtures("portal_database")
def test_an_error_shows_a_number_that_the_log_has_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(identity, "list_sites", fail)
    answer = browser().get("/sign-up")
    assert answer.status_code == 500
    assert "a secret detail" not in answer.text
    number = re.search(r"this number: ([0-9a-f]{8})", answer.text)
    assert number
    assert number.group(1) in caplog.text
    assert "a secret detail" in caplog.text


@pytest.mark.usefixtures("configure_portal")
def test_without_a_database_it_says_so() -> None:
    database.connect("postgresql+psycopg2://nobody@127.0.0.1:1/nothing")
    try:
        answer = browser().get("/sign-up")
    finally:
        database.disconnect()
    assert answer.status_code == 503
    assert "Try again in a minute" in answer.text
    assert "127.0.0.1" not in answer.text


# ── The demo's mailbox ─────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("portal_database")
def test_the_demo_shows_mail_on_this_computer_with_links_to_where_one_is() -> None:
    client = browser("http://127.0.0.1:9000")
    assert "No email yet." in client.get("/mailbox").text
    post(client, "/sign-up", **SIGN_UP)
    page = client.get("/mailbox").text
    assert EMAIL in page
    link = re.search(r'<a href="(http://127\.0\.0\.1:9000/verify-email\?token=[\w-]+)"', page)
    assert link
    assert client.get(link.group(1)).status_code == 200
    assert '<a href="/mailbox">' in client.get("/sign-in").text


@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize(
    ("base_url", "address", "headers"),
    [
        ("http://localhost:8501", "192.0.2.7", {}),
        ("http://rebound.example:8501", "127.0.0.1", {}),
        ("http://localhost:8501", "127.0.0.1", {"x-forwarded-for": "192.0.2.7"}),
        ("http://localhost:8501", "127.0.0.1", {"forwarded": "for=192.0.2.7"}),
        ("http://localhost:8501", "not an address", {}),
    ],
)
def test_the_mailbox_is_closed_to_others(
    base_url: str, address: str, headers: dict[str, str]
) -> None:
    post(browser(), "/sign-up", **SIGN_UP)
    answer = browser(base_url, address).get("/mailbox", headers=headers)
    assert answer.status_code == 404
    assert EMAIL not in answer.text


@pytest.mark.usefixtures("portal_database")
@pytest.mark.parametrize(
    "environment",
    [
        {"DEMO": "1", "SMTP_HOST": "mail.example.com"},
        {**OUTSIDE_DEMO, "BASE_URL": HERE},
    ],
)
def test_there_is_no_mailbox_outside_the_demo(
    configure_portal: Callable[..., None], environment: dict[str, str]
) -> None:
    configure_portal(**environment)
    client = browser()
    post(client, "/sign-up", **SIGN_UP)
    assert client.get("/mailbox").status_code == 404
    assert "/mailbox" not in client.get("/sign-in").text


# ── Health ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("portal_database")
def test_health_and_readiness() -> None:
    client = browser()
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ok"}
    database.disconnect()
    assert client.get("/health").status_code == 200
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "database unreachable"})


@pytest.mark.usefixtures("portal_database")
def test_an_old_database_is_not_ready(database_url: str) -> None:
    owner = create_engine(database_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    owner.dispose()
    assert browser().get("/ready").json() == {"status": "database not migrated"}
