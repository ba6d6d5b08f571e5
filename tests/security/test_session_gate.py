"""Who gets to Streamlit at all: its websocket, its files, and the pages of others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import requests
from websockets.exceptions import InvalidStatus

from portal import demo
from portal.routes.session_gate import SESSION_HEADER
from portal.shell.open_pages import MAX_PAGES, POLICY_VIOLATION, UNSUPPORTED_DATA
from tests.security.streamlit_client import ANSWER_SECONDS, open_page, sign_in
from tests.support.loops import run_async

if TYPE_CHECKING:
    from collections.abc import Callable

FORBIDDEN, NOT_FOUND = 403, 404
CLOSED_PATHS = (
    "/_stcore/metrics",
    "/_stcore/agent/openapi.json",
    "/_stcore/script-health-check",
    "/_stcore/upload_file/a/b",
    "/_stcore/bidi-components/x/y.js",
    "/_stcore/no-such-thing",
    "/media/0123456789abcdef.pdf",
    "/component/any/index.html",
    "/app/static/x",
    "/auth/login",
    "/oauth2callback",
)


@pytest.fixture(scope="module")
def staff_cookies(portal_url: str) -> str:
    """Cookies of somebody who works here."""
    return sign_in(portal_url, "finance@demo.example", demo.PASSWORD)


async def leave(address: str, cookies: str) -> tuple[str, int | None]:
    """Open a page that is not welcome; return where it is sent, and how it is closed."""
    async with open_page(address, cookies) as page:
        messages, code = await page.until_closed()
    (message,) = messages
    assert message.WhichOneof("type") == "auth_redirect"
    return message.auth_redirect.url, code


@pytest.mark.parametrize("cookies", ["", "credit_portal_session=", "credit_portal_session=stolen"])
def test_nobody_has_a_page_without_a_session(portal_url: str, cookies: str) -> None:
    assert run_async(leave(portal_url, cookies)) == ("", POLICY_VIOLATION)


def test_a_page_of_an_ended_session_is_sent_to_sign_in(
    portal_url: str,
    new_owner: Callable[[str], str],
    cookies_of: Callable[[str], str],
    revoke: Callable[[str], None],
) -> None:
    owner = new_owner("global")
    cookies = cookies_of(owner)
    revoke(owner)
    assert run_async(leave(portal_url, cookies)) == ("", POLICY_VIOLATION)
    answer = requests.get(
        f"{portal_url}/billing?tab=history",
        headers={"Cookie": cookies, "Accept": "text/html"},
        allow_redirects=False,
        timeout=ANSWER_SECONDS,
    )
    assert answer.headers["location"] == "/sign-in?next=/billing%3Ftab%3Dhistory"


@pytest.mark.parametrize("is_signed_in", [False, True])
@pytest.mark.parametrize("path", CLOSED_PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
def test_what_no_page_needs_is_closed_to_everybody(
    portal_url: str,
    staff_cookies: str,
    is_signed_in: bool,  # noqa: FBT001 - a case
    path: str,
    method: str,
) -> None:
    answer = requests.request(
        method,
        portal_url + path,
        data=b"x" * 100,
        headers={"Cookie": staff_cookies if is_signed_in else ""},
        allow_redirects=False,
        timeout=ANSWER_SECONDS,
    )
    assert answer.status_code == NOT_FOUND


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:1", "null"])
def test_no_other_site_opens_a_page(portal_url: str, staff_cookies: str, origin: str) -> None:
    async def attempt() -> None:
        async with open_page(portal_url, staff_cookies, origin=origin):
            pass

    with pytest.raises(InvalidStatus) as refused:
        run_async(attempt())
    assert refused.value.response.status_code == FORBIDDEN


def test_a_page_comes_back_to_its_own_person_only(
    portal_url: str, new_owner: Callable[[str], str], cookies_of: Callable[[str], str]
) -> None:
    lan, minh = cookies_of(new_owner("vn")), cookies_of(new_owner("vn"))

    async def ids() -> tuple[str, str, str, str]:
        async with open_page(portal_url, lan) as page:
            first = (await page.run()).session_id
            async with open_page(portal_url, minh, session_id=first) as another:
                stolen_open = (await another.run()).session_id
        async with open_page(portal_url, minh, session_id=first) as another:
            stolen_left = (await another.run()).session_id
        async with open_page(portal_url, lan, session_id=first) as page:
            again = (await page.run()).session_id
        return first, stolen_open, stolen_left, again

    first, stolen_open, stolen_left, again = run_async(ids())
    assert first == again
    assert first not in {stolen_open, stolen_left}


def test_nobody_names_another_session_to_streamlit(
    portal_url: str, new_owner: Callable[[str], str], cookies_of: Callable[[str], str]
) -> None:
    """The header by which the gate names a session is dropped where a browser sends it."""
    cookies = cookies_of(new_owner("vn"))

    async def ids() -> tuple[str, str]:
        async with open_page(portal_url, cookies, headers={SESSION_HEADER: "a"}) as page:
            first = (await page.run()).session_id
        async with open_page(
            portal_url, cookies, headers={SESSION_HEADER: "b"}, session_id=first
        ) as page:
            return first, (await page.run()).session_id

    first, again = run_async(ids())
    assert first == again


@pytest.mark.parametrize("frame", ["a text", ""])
def test_a_text_frame_ends_the_page_without_a_word(
    portal_url: str, staff_cookies: str, frame: str
) -> None:
    async def code() -> int | None:
        async with open_page(portal_url, staff_cookies) as page:
            await page.send(frame)
            return (await page.until_closed())[1]

    assert run_async(code()) == UNSUPPORTED_DATA


def test_one_person_has_so_many_pages_and_no_more(
    portal_url: str, new_owner: Callable[[str], str], cookies_of: Callable[[str], str]
) -> None:
    cookies = cookies_of(new_owner("vn"))
    another = cookies_of(new_owner("vn"))

    async def open_many() -> int:
        async with asyncio.timeout(ANSWER_SECONDS):
            pages = [open_page(portal_url, cookies) for _ in range(MAX_PAGES)]
            for page in pages:
                await page.__aenter__()
            with pytest.raises(InvalidStatus) as refused:
                await open_page(portal_url, cookies).__aenter__()
            # It is one person's limit, and room comes back with each page that is closed.
            async with open_page(portal_url, another) as theirs:
                assert (await theirs.run()).drawn
            for page in pages:
                await page.__aexit__(None, None, None)
            return refused.value.response.status_code

    assert run_async(open_many()) == FORBIDDEN

    async def open_one() -> None:
        async with open_page(portal_url, cookies) as page:
            assert (await page.run()).drawn

    run_async(open_one())
