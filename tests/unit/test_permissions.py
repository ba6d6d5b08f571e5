"""The table of permissions: what it says, who asks it, and the page that is made of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from domain.errors import NotAuthorised, NotFound
from domain.permissions import PERMISSIONS, allows, require, require_another
from domain.permissions_page import permissions_page

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = 7
ACTIONS = {action: each for area in PERMISSIONS.values() for action, each in area.items()}
FINANCE = user_actor(5, staff_role=StaffRole.FINANCE)
READER = user_actor(3, memberships={ACCOUNT: MemberRole.READER})
STRANGER = user_actor(4, memberships={ACCOUNT + 1: MemberRole.OWNER})


def test_the_page_in_docs_is_made_of_the_table() -> None:
    written = (ROOT / "docs" / "permissions.md").read_text("utf-8")
    assert written == permissions_page(), "run: make docs"


def test_every_action_is_asked_for_somewhere_and_no_other() -> None:
    sources = [
        path.read_text("utf-8")
        for folder in ("domain", "portal")
        for path in (ROOT / folder).rglob("*.py")
    ]
    named = {
        name
        for source in sources
        for call in re.findall(r"(?:require|allows)\((?:[^()]|\([^()]*\))*\)", source)
        for name in re.findall(r'"([a-z_]+)"', call)
    }
    assert named == set(ACTIONS)


def test_letters_and_rules_are_known() -> None:
    for permission in ACTIONS.values():
        assert permission.letters
        assert set(permission.letters) <= set("SFAobr+")
        assert set(permission.rules) <= {"not_own", "another", "not_staff"}


def test_refusals_hide_accounts_from_strangers() -> None:
    require(READER, "see_account", ACCOUNT)
    with pytest.raises(NotAuthorised):
        require(READER, "pay", ACCOUNT)
    with pytest.raises(NotFound):
        require(STRANGER, "pay", ACCOUNT)
    with pytest.raises(NotAuthorised):
        require(STRANGER, "see_audit")


def test_staff_who_belong_to_an_account_are_members_there() -> None:
    mine = user_actor(6, staff_role=StaffRole.FINANCE, memberships={ACCOUNT: MemberRole.BILLING})
    assert allows(mine, "pay", ACCOUNT)
    assert not allows(FINANCE, "pay", ACCOUNT)
    assert allows(FINANCE, "refund_payment", ACCOUNT)
    assert not allows(mine, "refund_payment", ACCOUNT)
    assert allows(mine, "refund_payment", ACCOUNT + 1)


def test_whoever_works_here_redeems_no_codes() -> None:
    mine = user_actor(6, staff_role=StaffRole.SUPPORT, memberships={ACCOUNT: MemberRole.OWNER})
    assert not allows(mine, "redeem_code", ACCOUNT)
    assert allows(user_actor(6, memberships={ACCOUNT: MemberRole.OWNER}), "redeem_code", ACCOUNT)


def test_an_action_that_the_table_lacks_is_a_mistake() -> None:
    for actor in (FINANCE, system_actor("jobs")):
        with pytest.raises(KeyError):
            require(actor, "no_such_action")


def test_another_person_decides() -> None:
    require_another(FINANCE, "user:6")
    require_another(system_actor("jobs"), "user:5")
    with pytest.raises(NotAuthorised):
        require_another(FINANCE, "user:5")


def test_who_administers_people_moves_no_money() -> None:
    """The pairs that one person may not hold, as far as roles can tell."""
    admin = user_actor(1, staff_role=StaffRole.ADMIN)
    for action in (
        "act_on_account",
        "decide_request",
        "record_transfer",
        "decide_transfer",
        "decide_payment",
        "refund_payment",
        "request_campaign",
        "decide_campaign",
        "make_codes",
        "give_credit",
        "post_paid_credit",
        "post_journal_entry",
    ):
        assert not allows(admin, action), action
    for role in (StaffRole.SUPPORT, StaffRole.FINANCE):
        person = user_actor(2, staff_role=role)
        assert not allows(person, "manage_people")
        assert not allows(person, "change_action_limit")
