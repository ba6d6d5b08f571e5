"""A dialog or fragment that was drawn before, run for whoever asks now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import streamlit as st
from sqlalchemy import text

from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import NotAuthorised
from domain.ledger.balances import account_summary
from domain.permissions import allows, require
from portal.runtime import database
from portal.shell import page_context
from portal.shell.visitor import Visitor
from portal.ui import formats, partial_runs
from tests.factories import make_account
from tests.support.keys import TEST_VAULT
from tests.support.people import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from portal.shell.page_context import PageContext


class Stopped(Exception):  # noqa: N818 - what ends a run is no error
    """The run ended before anything was drawn."""


class Drawn:
    """A fragment that was drawn for the owner of an account, to be run later."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.account = make_account(session)
        session.commit()
        owner = user_actor(1, memberships={self.account: MemberRole.OWNER})
        database.transaction(register, owner)
        self.seen: list[PageContext] = []
        self.errors: list[str] = []
        self.acted = 0
        self._monkeypatch = monkeypatch
        self._later: list[Callable[[], None]] = []
        monkeypatch.setattr(st, "error", lambda message, **_: self.errors.append(message))
        monkeypatch.setattr(st, "rerun", self._stop)
        visitor = self.comes(owner)
        summary = database.read_snapshot(account_summary, actor=owner, account_id=self.account)
        here = page_context.PageContext(visitor, summary, formats.time_zone("UTC"))
        partial_runs._with_current_rights(self._keep)(self._draw)(here)

    def comes(self, actor: Actor) -> Visitor:
        """Have somebody be signed in from now on, with these rights."""
        visitor = Visitor(
            user_id=actor.user_id or 0,
            display_name="Lan",
            email="lan@example.com",
            locale="en",
            time_zone="UTC",
            actor=actor,
            account_id=self.account,
            session_id="session",
            form_token="token",
        )
        self._monkeypatch.setattr(page_context, "require_visitor", lambda: visitor)
        return visitor

    def leaves(self) -> None:
        """Have nobody be signed in."""
        self._monkeypatch.setattr(page_context, "require_visitor", self._stop)

    def run(self) -> None:
        """Run the fragment alone."""
        [later] = self._later
        later()

    def _keep(self, run: Callable[..., None]) -> Callable[..., None]:
        def partial_run(*args: Any) -> None:
            assert all(isinstance(each, int | None) for each in args), "ids alone are kept"
            self._later.append(lambda: run(*args))

        return partial_run

    def _draw(self, here: PageContext) -> None:
        self.seen.append(here)
        require(here.visitor.actor, "manage_members", self.account)
        self.acted += 1

    def _stop(self) -> Any:
        raise Stopped


@pytest.fixture
def drawn(database_url: str, session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drawn]:
    database.connect(database_url, vault=TEST_VAULT)
    yield Drawn(session, monkeypatch)
    database.disconnect()


def test_whoever_it_was_drawn_for_acts(drawn: Drawn) -> None:
    drawn.run()
    [here] = drawn.seen
    assert here.account is not None
    assert here.account.account_id == drawn.account
    assert (drawn.acted, drawn.errors) == (1, [])


def test_nobody_acts_after_they_were_signed_out(drawn: Drawn) -> None:
    drawn.leaves()
    with pytest.raises(Stopped):
        drawn.run()
    assert drawn.seen == []


@pytest.mark.parametrize("role", [None, *StaffRole])
def test_somebody_else_has_the_page_drawn_for_them(drawn: Drawn, role: StaffRole | None) -> None:
    drawn.comes(user_actor(2, staff_role=role, memberships={drawn.account: MemberRole.OWNER}))
    with pytest.raises(Stopped):
        drawn.run()
    assert drawn.seen == []


def test_a_lower_role_counts_at_once(drawn: Drawn) -> None:
    drawn.comes(user_actor(1, memberships={drawn.account: MemberRole.READER}))
    drawn.run()
    assert drawn.acted == 0
    assert drawn.errors == ["Your role does not allow this. Ask an owner of the account."]


def test_an_account_that_was_lost_is_not_drawn(drawn: Drawn) -> None:
    drawn.comes(user_actor(1))
    drawn.run()
    assert drawn.seen == []
    assert len(drawn.errors) == 1


def test_the_balance_is_of_the_run(drawn: Drawn, session: Session) -> None:
    session.execute(text("SELECT 1"))
    drawn.run()
    drawn.run()
    first, second = (each.account for each in drawn.seen)
    assert first == second
    assert first is not second


def test_a_write_looks_the_rights_up_once_more(drawn: Drawn) -> None:
    """Between the look and the write, too, a role may have gone."""
    drawn.run()
    actor = drawn.seen[0].visitor.actor
    database.transaction(register, replace(actor, memberships={drawn.account: MemberRole.READER}))
    assert allows(actor, "manage_members", drawn.account)

    def manage(_session: Session, *, actor: Actor) -> None:
        require(actor, "manage_members", drawn.account)

    with pytest.raises(NotAuthorised):
        database.transaction(manage, actor=actor)
