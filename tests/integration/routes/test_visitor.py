"""Who a page is for: asked of the database at every run, never of the browser's memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from db.models import UserSession
from domain import accounts, identity
from domain.actors import MemberRole, StaffRole, system_actor
from domain.errors import NotFound
from portal.runtime import cookies, database
from portal.runtime.settings import settings
from portal.shell import visitor as visitor_module
from portal.shell.visitor import (
    choose_account,
    current_actor,
    current_visitor,
    require_visitor,
    sign_out_form,
)
from tests.factories import make_account
from tests.support.keys import TEST_VAULT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.orm import Session

SYSTEM = system_actor("tests")
PASSWORD = "violet-kettle-9-march"


class Stopped(BaseException):
    """Stands for the end of a script's run."""


class QueryParameters(dict[str, list[str]]):
    def get_all(self, key: str) -> list[str]:
        return self[key]


@pytest.fixture
def page(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What Streamlit tells a script of its browser; the test fills it in."""
    for name in ("DATABASE_URL", "BASE_URL", "DEMO"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    database.connect(database_url, vault=TEST_VAULT)
    page = SimpleNamespace(
        context=SimpleNamespace(
            cookies=SimpleNamespace(to_dict=dict), ip_address="192.0.2.9", url=None
        ),
        query_params=QueryParameters(),
        written=[],
    )

    def stop() -> None:
        raise Stopped

    page.html = lambda content, **_options: page.written.append(content)
    page.stop = stop
    monkeypatch.setattr(visitor_module, "st", page)
    yield page
    database.disconnect()
    settings.cache_clear()


def make_user(role: StaffRole | None = None) -> int:
    return database.transaction(
        identity.create_user,
        email="lan@example.com",
        display_name="Lan",
        password=PASSWORD,
        staff_role=role,
        actor=SYSTEM,
        time_zone="Asia/Ho_Chi_Minh",
    )


def sign_in(page: SimpleNamespace, user_id: int) -> str:
    token = database.transaction(
        identity.create_session,
        user_id=user_id,
        client=identity.Client("192.0.2.9"),
        policy=settings().policy,
    ).token
    name = cookies.session_cookie(settings())
    page.context.cookies.to_dict = lambda: {name: token}
    return token


def last_seen(database: Session) -> datetime:
    return database.scalars(select(UserSession.last_seen_at)).one()


def test_a_stranger_is_nobody(page: SimpleNamespace) -> None:
    assert current_visitor() is None
    assert current_actor() is None
    page.context.cookies.to_dict = lambda: {"credit_portal_session": "made up"}
    assert current_visitor() is None


def test_a_visitor_is_who_the_database_says_now(page: SimpleNamespace) -> None:
    user_id = make_user()
    account_id = database.transaction(make_account)
    database.transaction(
        accounts.add_member,
        account_id=account_id,
        user_id=user_id,
        role=MemberRole.BILLING,
        actor=SYSTEM,
    )
    token = sign_in(page, user_id)
    visitor = require_visitor()
    assert (visitor.user_id, visitor.email, visitor.display_name) == (
        user_id,
        "lan@example.com",
        "Lan",
    )
    assert visitor.time_zone == "Asia/Ho_Chi_Minh"
    assert visitor.account_id == account_id
    assert visitor.actor.memberships == {account_id: MemberRole.BILLING}
    assert visitor.actor.ip == "192.0.2.9"
    assert current_actor() == visitor.actor
    assert cookies.is_form_token(visitor.form_token, token)
    assert token not in repr(visitor)

    database.transaction(lambda s: s.execute(text("DELETE FROM account_members")))
    after = require_visitor()
    assert after.account_id is None
    assert after.actor.memberships == {}
    database.transaction(identity.revoke_all_sessions, actor=visitor.actor)
    assert current_visitor() is None


def test_being_here_is_noted_while_reading(page: SimpleNamespace) -> None:
    sign_in(page, make_user())
    database.transaction(
        lambda s: s.execute(text("UPDATE user_sessions SET last_seen_at = now() - interval '1 h'"))
    )
    before = database.read_snapshot(last_seen)
    assert current_visitor() is not None
    after = database.read_snapshot(last_seen)
    assert after > before
    assert current_visitor() is not None
    assert database.read_snapshot(last_seen) == after


def test_a_page_changes_the_session_s_account_to_one_of_the_visitor_s(
    page: SimpleNamespace,
) -> None:
    user_id = make_user()
    first, second, foreign = (database.transaction(make_account) for _ in range(3))
    for account_id in (first, second):
        database.transaction(
            accounts.add_member,
            account_id=account_id,
            user_id=user_id,
            role=MemberRole.READER,
            actor=SYSTEM,
        )
    sign_in(page, user_id)
    choose_account(require_visitor(), second)
    assert require_visitor().account_id == second
    with pytest.raises(NotFound):
        choose_account(require_visitor(), foreign)


@pytest.mark.parametrize(
    ("url", "query", "target"),
    [
        (None, {}, "/sign-in"),
        ("http://localhost:8501/", {}, "/sign-in"),
        (
            "http://localhost:8501/billing",
            {"status": ["Success", "Failed"], "q": ["a b&c"]},
            "/sign-in?next=/billing%3Fstatus%3DSuccess%26status%3DFailed%26q%3Da%2Bb%2526c",
        ),
        ("http://localhost:8501//evil.example", {}, "/sign-in"),
        ("http://localhost:8501/</script>", {}, "/sign-in?next=/%3C/script%3E"),
    ],
)
def test_a_stranger_is_sent_to_sign_in_and_back(
    page: SimpleNamespace, url: str | None, query: dict[str, list[str]], target: str
) -> None:
    page.context.url = url
    page.query_params = QueryParameters(query)
    with pytest.raises(Stopped):
        require_visitor()
    assert page.written == [f'<script>location.replace("{target}")</script>']


def test_the_sign_out_form_cannot_be_broken_out_of(page: SimpleNamespace) -> None:
    sign_in(page, make_user(StaffRole.SUPPORT))
    visitor = require_visitor()
    assert visitor.actor.staff_role is StaffRole.SUPPORT
    form = sign_out_form(visitor, '"><script>')
    assert "<script>" not in form
    assert f'name="form_token" value="{visitor.form_token}"' in form
    assert 'method="post" action="/sign-out"' in form
