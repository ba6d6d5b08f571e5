"""A browser's tab names the page, and its icon is asked of nobody else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_each_page_has_its_title_and_our_own_icon(
    open_page: Callable[..., Page], sign_in: Callable[..., Page], portal_url: str
) -> None:
    door = open_page()
    door.goto(portal_url)
    expect(door).to_have_title("Sign in · Credit Portal")
    page = sign_in("owner@demo.example")
    hosts: set[str] = set()
    blocked: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("console", lambda shown: blocked.append(shown.text) if shown.type == "error" else None)
    page.reload()
    expect(page).to_have_title("Billing · Credit Portal")
    icon = page.locator("link[rel='shortcut icon'], link[rel='icon']").first
    expect(icon).to_have_attribute("href", re.compile("^data:image/svg"))
    page.get_by_role("link", name="Usage").click()
    expect(page).to_have_title("Usage · Credit Portal")
    assert hosts <= {urlsplit(portal_url).netloc, ""}
    assert [text for text in blocked if "Content Security Policy" in text] == []
