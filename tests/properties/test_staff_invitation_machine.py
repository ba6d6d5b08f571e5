"""Colleagues who are invited among all that administrators do: no link makes more than it may.

Strangers sign up with the invited addresses meanwhile, whom the link replaces.

The machine of test_staff_machine.py goes on beside it: administrators come and go while links wait.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError

from db.models import OutboxMessage, StaffInvitation, User
from domain import accounts, identity
from domain.accounts.sign_up import SignUp, sign_up
from domain.actors import MemberRole, StaffRole
from domain.errors import Conflict, NotFound
from domain.identity import AuthPolicy, Client
from domain.security.rate_limits import Limit
from domain.staff import (
    Invitation,
    accept_staff_invitation,
    invite_staff,
    resend_staff_invitation,
    withdraw_staff_invitation,
)
from tests.factories import SYSTEM
from tests.properties.test_staff_machine import (
    ADMIN,
    BROKEN,
    DAY,
    FINANCE,
    PROFILE,
    PROFILES,
    START,
    SUPPORT,
    WEEK,
    Is,
    Model,
    StaffMachine,
    admins_mostly,
    connected,
    picks,
    roles,
)
from tests.support.keys import parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

CLIENT = Client("192.0.2.10")
OFTEN = Limit(10_000, DAY, DAY, DAY)
RULES = AuthPolicy(key=b"a key of the tests", requests_per_address=OFTEN, mails_per_person=OFTEN)
STRANGERS_PASSWORD = "another-kettle-9-march"
addresses = st.sampled_from(("hire-0@example.com", "hire-1@example.com", "hire-2@example.com"))


# ── The model ──────────────────────────────────────────────────────────────────────────────────
@dataclass
class Offered:
    """A role that was offered to an address by mail, by whom and when it was sent last."""

    email: str
    role: str
    by: int
    at: datetime
    end: str | None = None


@dataclass
class HiringModel(Model):
    """Everybody, everything that was asked for, and every role that was offered.

    `unproven` is who signed up with an address that may not be theirs, `hired` who proved one;
    `shared` are those of them whose account has another member.
    """

    offered: list[Offered] = field(default_factory=list)
    hired: set[str] = field(default_factory=set)
    unproven: dict[str, int] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)

    def sign_up(self, email: str, *, is_shared: bool) -> None:
        """Have a stranger open an account, unless the address is known."""
        if email in self.hired or email in self.unproven:
            return
        who = len(self.people)
        self.people.append(Is(None))
        self.unproven[email] = who
        self.members.add(who)
        if is_shared:
            self.shared.add(who)

    def is_taken(self, email: str) -> bool:
        """Whether somebody has proven the address, or an administrator has dealt with them."""
        who = self.unproven.get(email)
        if who is None:
            return email in self.hired
        waits = any(
            each.who == who and each.state == "requested" and each.after.role is not None
            for each in self.asked
        )
        return waits or self.people[who] != Is(None)

    def is_live(self, offered: Offered, now: datetime) -> bool:
        return offered.end is None and now < offered.at + WEEK and offered.by in self.admins()

    def invite(self, by: int, email: str, role: str, now: datetime) -> str:
        if by not in self.admins():
            return "denied"
        if self.is_taken(email):
            return "has_sign_in"
        for each in self.offered:
            if each.email == email and self.is_live(each, now):
                return "sent" if each.role == role else "invited_with_another_role"
            if each.email == email and each.end is None:
                each.end = "withdrawn"
        self.offered.append(Offered(email, role, by, now))
        return "sent"

    def resend(self, by: int, offered: Offered, now: datetime) -> str:
        if by not in self.admins():
            return "denied"
        if offered.end is not None:
            return "invitation_over"
        if self.is_taken(offered.email):
            return "has_sign_in"
        offered.by, offered.at = by, now
        return "sent"

    def withdraw(self, by: int, offered: Offered) -> str:
        if by not in self.admins():
            return "denied"
        if offered.end == "accepted":
            return "invitation_over"
        offered.end = "withdrawn"
        return "withdrawn"

    def accept(self, offered: Offered, now: datetime, *, is_newest: bool) -> str:
        if not is_newest or not self.is_live(offered, now):
            return "over"
        if self.is_taken(offered.email):
            return "email_taken"
        offered.end = "accepted"
        self.hired.add(offered.email)
        who = self.unproven.pop(offered.email, None)
        if who is None:
            self.people.append(Is(None))
            who = len(self.people) - 1
        elif who not in self.shared:
            self.members.remove(who)
        return self.change(offered.by, who, Is(offered.role), now)


# ── Both side by side ──────────────────────────────────────────────────────────────────────────
class OneSession:
    """Stands for a factory of sessions where a history is one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @contextmanager
    def begin(self) -> Iterator[Session]:
        with self._session.begin_nested():
            yield self._session

    @contextmanager
    def __call__(self) -> Iterator[Session]:
        yield self._session


class HiringMachine(StaffMachine):
    """Every step goes to the product and to the model."""

    model: HiringModel

    def __init__(self) -> None:
        super().__init__()
        self.model = HiringModel()
        self.invitations: list[Invitation] = []
        self.tokens: list[tuple[int, str]] = []
        self.strangers: dict[int, str] = {}

    def do(self, work: Callable[[], str]) -> str:
        def found() -> str:
            try:
                return work()
            except NotFound:
                return "over"

        return super().do(found)

    @rule(by=admins_mostly, email=addresses, role=st.sampled_from((SUPPORT, FINANCE, ADMIN)))
    def invite(self, by: int, email: str, role: str) -> None:
        known = len(self.model.offered)
        expected = self.model.invite(by, email, role, self.now)
        made: list[Invitation] = []

        def work() -> str:
            made.append(
                invite_staff(
                    self.session,
                    email=email,
                    role=StaffRole(role),
                    reason="hired",
                    actor=self.stale_actor(by),
                    policy=RULES,
                )
            )
            return "sent"

        assert self.do(work) == expected
        if len(self.model.offered) > known:
            self.invitations.append(made[0])
            self.note_token(known)
        assert len(self.invitations) == len(self.model.offered)

    def note_token(self, place: int) -> None:
        newest = select(OutboxMessage).where(OutboxMessage.template == "staff_invitation")
        row = self.session.scalars(newest.order_by(OutboxMessage.id.desc()).limit(1)).one()
        self.tokens.append((place, parameters_of(self.session, row)["token"]))

    @precondition(lambda self: self.invitations)
    @rule(by=admins_mostly, pick=picks)
    def send_again(self, by: int, pick: int) -> None:
        place = len(self.invitations) - 1 - pick % len(self.invitations)
        expected = self.model.resend(by, self.model.offered[place], self.now)

        def work() -> str:
            before = self.invitations[place]
            self.invitations[place] = resend_staff_invitation(
                self.session,
                invitation_id=before.invitation_id,
                sent_at=before.sent_at,
                actor=self.stale_actor(by),
                policy=RULES,
            )
            return "sent"

        assert self.do(work) == expected
        if expected == "sent":
            self.note_token(place)

    @precondition(lambda self: self.invitations)
    @rule(by=admins_mostly, pick=picks)
    def withdraw_invitation(self, by: int, pick: int) -> None:
        place = len(self.invitations) - 1 - pick % len(self.invitations)
        expected = self.model.withdraw(by, self.model.offered[place])
        number = self.invitations[place].invitation_id

        def work() -> str:
            withdraw_staff_invitation(
                self.session, invitation_id=number, actor=self.stale_actor(by)
            )
            return "withdrawn"

        assert self.do(work) == expected

    @precondition(lambda self: self.tokens)
    @rule(pick=picks)
    def accept_invitation(self, pick: int) -> None:
        """Follow any link that was ever mailed; nobody alone makes an administrator by it."""
        place, token = self.tokens[len(self.tokens) - 1 - pick % len(self.tokens)]
        is_newest = token == next(each for n, each in reversed(self.tokens) if n == place)
        known = len(self.model.asked)
        offered = self.model.offered[place]
        expected = self.model.accept(offered, self.now, is_newest=is_newest)
        factory: Any = OneSession(self.session)

        def work() -> str:
            _signed_in, request = accept_staff_invitation(
                factory,
                token=token,
                display_name="Sample Hire",
                password="a long word of these tests",
                client=CLIENT,
                policy=RULES,
            )
            return "done" if request is None else "waits"

        assert self.do(work) == expected
        self.note_request(known)
        if len(self.model.people) > len(self.ids):
            self.ids.append(self.person_of(offered.email).id)
        assert self.admins() == self.seen, "one person alone made an administrator"

    @rule(email=addresses, is_shared=st.booleans())
    def stranger_signs_up(self, email: str, is_shared: bool) -> None:  # noqa: FBT001 - Hypothesis calls it
        """Have a stranger sign up with the address, whose account may get another member."""
        known = len(self.model.people)
        self.model.sign_up(email, is_shared=is_shared)
        factory: Any = OneSession(self.session)
        form = SignUp(email, "Stranger", STRANGERS_PASSWORD, "A lab", "VN", "VND")
        assert sign_up(factory, form=form, client=CLIENT, policy=RULES) == ()
        if len(self.model.people) == known:
            return
        person = self.person_of(email)
        self.ids.append(person.id)
        self.strangers[person.id] = person.password_hash
        if is_shared:
            (account,) = accounts.memberships(self.session, user_id=person.id)
            company = identity.create_user(
                self.session,
                email=f"company-{person.id}@example.com",
                display_name="Company",
                password=STRANGERS_PASSWORD,
                staff_role=None,
                actor=SYSTEM,
            )
            accounts.add_member(
                self.session,
                account_id=account,
                user_id=company,
                role=MemberRole.READER,
                actor=SYSTEM,
            )

    @precondition(lambda self: self.invitations)
    @rule(pick=picks, is_shared=st.booleans())
    def stranger_comes_first(self, pick: int, is_shared: bool) -> None:  # noqa: FBT001 - as above
        """Have a stranger sign up with an address that is invited, and follow the link."""
        place = len(self.invitations) - 1 - pick % len(self.invitations)
        self.stranger_signs_up(self.model.offered[place].email, is_shared)
        self.accept_invitation(self.newest_link(place))

    def newest_link(self, place: int) -> int:
        """Return the pick that is the newest link of an invitation."""
        return next(n for n, each in enumerate(reversed(self.tokens)) if each[0] == place)

    def person_of(self, email: str) -> User:
        found = select(User).where(User.email == email).execution_options(populate_existing=True)
        return self.session.scalars(found).one()

    @invariant()
    def nobody_who_was_hired_has_a_strangers_password(self) -> None:
        for email in self.model.hired:
            person = self.person_of(email)
            assert person.email_verified_at is not None
            assert person.password_hash != self.strangers.get(person.id)
        for email in self.model.unproven:
            person = self.person_of(email)
            assert person.email_verified_at is None
            assert person.password_hash == self.strangers[person.id]

    @invariant()
    def who_is_a_member_is_known(self) -> None:
        for who in range(len(START), len(self.ids)):
            places = accounts.memberships(self.session, user_id=self.ids[who])
            assert bool(places) is (who in self.model.members)

    @precondition(lambda self: self.invitations)
    @rule(pick=picks)
    def inviter_leaves(self, pick: int) -> None:
        """Have the product itself take the role of who sent an invitation, and follow the link."""
        place = len(self.invitations) - 1 - pick % len(self.invitations)
        self.change_by_command_line(self.model.offered[place].by, None)
        self.accept_invitation(self.newest_link(place))

    @precondition(lambda self: len(self.ids) > len(START))
    @rule(by=admins_mostly, pick=picks, role=roles, is_out=st.booleans())
    def change_hired(self, by: int, pick: int, role: str | None, is_out: bool) -> None:  # noqa: FBT001 - Hypothesis calls it
        who = len(self.ids) - 1 - pick % (len(self.ids) - len(START))
        before, actor = self.model.people[who], self.stale_actor(by)
        after = replace(before, role=role) if pick % 2 else replace(before, is_out=is_out)
        if pick % 2:
            self.compare_change(by, who, after, lambda: self.set_role(actor, who, role))
        else:
            self.compare_change(by, who, after, lambda: self.set_out(actor, who, is_out))


@pytest.fixture
def machine(database_url: str) -> Iterator[type[HiringMachine]]:
    with connected(HiringMachine, database_url) as machine:
        yield machine


@pytest.mark.timeout(0 if PROFILE is PROFILES["deep"] else 600)
def test_link_gives_its_role_once_and_makes_no_administrator_alone(
    machine: type[HiringMachine],
) -> None:
    run_state_machine_as_test(machine, settings=PROFILE)


_ANY = lambda: StaffInvitation.id > 0  # noqa: E731 - a check that takes every invitation
_NOTHING = lambda *_, **__: None  # noqa: E731 - a check, or a service, that does nothing


@pytest.mark.parametrize(
    "broken",
    [
        {"_is_open": _ANY},
        {"_is_of_admin": _ANY},
        {"_lock": _NOTHING},
        {"_refuse_known": _NOTHING},
        {"give_invited_role": _NOTHING},
        {"INVITATION_LIFETIME": timedelta(hours=1)},
        {"is_taken": lambda address: exists().where(User.email == address)},
        {"remove_sole_memberships": _NOTHING},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_machine_finds_a_check_that_is_missing(
    machine: type[HiringMachine], monkeypatch: pytest.MonkeyPatch, broken: dict[str, object]
) -> None:
    for name, instead in broken.items():
        monkeypatch.setattr(f"domain.staff.invitations.{name}", instead)
    with pytest.raises((AssertionError, IntegrityError, Conflict)):
        run_state_machine_as_test(machine, settings=BROKEN)
