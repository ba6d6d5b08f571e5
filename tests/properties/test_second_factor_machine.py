"""Sign-ins, second factors and what ends them, in any order, beside a model that shares no code."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyotp
import pytest
import webauthn
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from domain import identity
from domain.actors import StaffRole, system_actor, user_actor
from domain.errors import Conflict, NotFound
from domain.identity import (
    AuthPolicy,
    Client,
    Factor,
    FactorAnswer,
    PasskeyAnswer,
    Reauthentication,
    RelyingParty,
    SignIn,
    SignInOutcome,
    authenticators,
)
from domain.identity import sessions as sessions_service
from domain.security.rate_limits import Limit
from domain.staff import change_staff_role, disable_user
from tests.conftest import TestClock
from tests.support.keys import KNOWS_KEYS
from tests.support.passkeys import Device

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.identity import SignedInUser

SYSTEM = system_actor("tests")
PASSWORD = "violet-kettle-9-march"
CLIENT = Client("192.0.2.10", "tests")
PARTY = RelyingParty("billing.example", "https://billing.example", "Billing")
# How fast guesses are slowed down is another test's: here each try is judged.
FREE = Limit(10_000, timedelta(seconds=1), timedelta(seconds=1), timedelta(hours=1))
MOSTLY = st.sampled_from((True, True, True, True, False))
"""What keeps histories alive happens often, what ends them seldom: others say little."""

STEPS = st.sampled_from((0, 0, 0, 0, 1, -1, 2, -2))
LONG = timedelta(days=99)
RULES = AuthPolicy(
    key=b"a key of the tests",
    guesses_per_person=FREE,
    guesses_of_person=FREE,
    guesses_per_address=FREE,
    second_factor_roles=frozenset((StaffRole.FINANCE,)),
    customer_idle=LONG,
    customer_longest=LONG,
    staff_idle=LONG,
    staff_longest=LONG,
)
PROFILE = settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None)
BROKEN = settings(
    max_examples=200,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    print_blob=False,
)
STEP_SECONDS = 30
PENDING_SECONDS = 600
OFFER_SECONDS = 3600
CONFIRMED_SECONDS = 600
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Offer:
    """A secret that is shown to who has the token, until then."""

    token: str
    secret: str
    ends_at: float


@dataclass
class Model:
    """What should be so, by hand."""

    role: StaffRole | None = None
    is_disabled: bool = False
    secret: str | None = None
    last_step: int = -1
    offer: Offer | None = None
    devices: dict[int, Device] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)
    pending: dict[str, float] = field(default_factory=dict)
    sessions: dict[str, Factor] = field(default_factory=dict)
    confirmed: dict[str, float] = field(default_factory=dict)

    @property
    def is_protected(self) -> bool:
        return self.secret is not None or bool(self.devices)

    @property
    def is_required(self) -> bool:
        return self.role is StaffRole.FINANCE

    def end_begun(self) -> None:
        self.pending.clear()
        self.offer = None

    def live(self) -> dict[str, Factor]:
        if self.is_disabled:
            return {}
        return {
            token: factor
            for token, factor in self.sessions.items()
            if not (self.is_required and factor is Factor.PASSWORD)
        }


class SecondFactors(RuleBasedStateMachine):
    """One person with browsers and devices, an administrator, and the clock."""

    sessions: sessionmaker[Session]
    clock: TestClock

    @initialize()
    def begin(self) -> None:
        self.email = f"person{next(_NUMBERS)}@example.com"
        self.model = Model()
        with self.sessions.begin() as session:
            self.user_id = identity.create_user(
                session,
                email=self.email,
                display_name="Lan",
                password=PASSWORD,
                staff_role=None,
                actor=SYSTEM,
            )
        self.names = itertools.count(1)
        self.opened: list[str] = []
        self.begun: list[str] = []
        self.shown: list[str] = []

    # ── Helpers ───────────────────────────────────────────────────────────────────────────────
    @property
    def now(self) -> float:
        return self.clock().timestamp()

    def code(self, secret: str, steps: int) -> tuple[str, int]:
        step = int(self.now) // STEP_SECONDS + steps
        return pyotp.TOTP(secret).generate_otp(step), step

    def expect_signed_in(self, signed_in: SignIn, factor: Factor) -> None:
        assert signed_in.outcome is SignInOutcome.SIGNED_IN
        self.model.sessions[signed_in.token] = factor
        self.opened.append(signed_in.token)

    def finish(self, pending: str, works: bool, factor: Factor, act: Callable[[], SignIn]) -> bool:  # noqa: FBT001
        """Finish a pending sign-in, which works or does not; return whether it did."""
        alive = self.model.pending.get(pending, 0) > self.now and not self.model.is_disabled
        try:
            result = act()
        except NotFound:
            assert not alive
            return False
        assert alive
        if not works:
            assert result.outcome is SignInOutcome.WRONG
            return False
        self.expect_signed_in(result, factor)
        self.model.end_begun()
        return True

    def finish_by(self, pending: str, answer: FactorAnswer) -> SignIn:
        return identity.finish_sign_in(
            self.sessions, token=pending, answer=answer, client=CLIENT, policy=RULES
        )

    def user(self, token: str) -> SignedInUser:
        with self.sessions() as session:
            found = identity.session_actor(session, token=token, policy=RULES)
        assert found is not None
        return found

    def again(self, token: str, password: str = PASSWORD) -> Reauthentication:
        return Reauthentication(self.user(token), password, CLIENT, RULES)

    def keep_only(self, token: str | None) -> None:
        """Everybody else of the person's browsers is signed out."""
        kept = {token: self.model.sessions[token]} if token in self.model.sessions else {}
        self.model.sessions = kept
        self.model.end_begun()

    def some_session(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.model.live())))

    def some_pending(self, data: st.DataObject) -> str:
        """Return a pending sign-in's token, mostly of one that is not over."""
        if bool(self.model.pending) and data.draw(MOSTLY):
            return data.draw(st.sampled_from(list(self.model.pending)))
        return data.draw(st.sampled_from([*self.begun, "no such token"]))

    # ── Signing in ────────────────────────────────────────────────────────────────────────────
    @rule(right=MOSTLY)
    def give_password(self, right: bool) -> None:  # noqa: FBT001
        result = identity.authenticate(
            self.sessions,
            email=self.email,
            password=PASSWORD if right else "another-password-1",
            client=CLIENT,
            policy=RULES,
        )
        if not right:
            assert result.outcome is SignInOutcome.WRONG
        elif self.model.is_disabled:
            assert result.outcome is SignInOutcome.DISABLED
        elif self.model.is_protected or self.model.is_required:
            expected = SignInOutcome.SECOND_FACTOR
            if not self.model.is_protected:
                expected = SignInOutcome.SET_UP_FACTOR
                self.note_offer(result.token)
            assert result.outcome is expected
            self.model.pending[result.token] = self.now + PENDING_SECONDS
            self.begun.append(result.token)
        else:
            self.expect_signed_in(result, Factor.PASSWORD)

    @precondition(lambda self: not self.model.is_disabled and len(self.model.pending) < 3)
    @rule()
    def give_right_password(self) -> None:
        self.give_password(right=True)

    def note_offer(self, token: str) -> None:
        """A new secret is offered, and read from the page; what was offered before is gone."""
        found, before = self.offered(token), self.model.offer
        assert found is not None
        assert before is None or found != before.secret
        self.model.offer = Offer(token, found, self.now + OFFER_SECONDS)

    def offered(self, token: str) -> str | None:
        with self.sessions() as session:
            found = identity.own_authenticator_offer(
                session, actor=self.as_themselves(), token=token, email=self.email, issuer="Billing"
            )
        return None if found is None else found.secret

    def some_offer(self, data: st.DataObject) -> str:
        """Return the token of what is offered, or another one."""
        if self.model.offer is not None and data.draw(MOSTLY):
            return self.model.offer.token
        return data.draw(st.sampled_from([*self.shown, "no such token"]))

    def is_open(self, token: str) -> bool:
        offer = self.model.offer
        return offer is not None and offer.token == token and offer.ends_at > self.now

    def as_themselves(self) -> Actor:
        return user_actor(self.user_id)

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), steps=STEPS)
    def finish_with_code(self, data: st.DataObject, steps: int) -> None:
        pending = self.some_pending(data)
        code, step = self.code(self.model.secret or pyotp.random_base32(), steps)
        works = self.model.secret is not None and abs(steps) <= 1 and step > self.model.last_step
        done = self.finish(
            pending,
            works,
            Factor.AUTHENTICATOR,
            lambda: self.finish_by(pending, FactorAnswer(Factor.AUTHENTICATOR, code=code)),
        )
        if done:
            self.model.last_step = step

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), is_real=MOSTLY)
    def finish_with_recovery_code(self, data: st.DataObject, is_real: bool) -> None:  # noqa: FBT001
        pending = self.some_pending(data)
        code = "aaaaa-aaaaa"
        if is_real and self.model.codes:
            code = data.draw(st.sampled_from(sorted(self.model.codes)))
        done = self.finish(
            pending,
            code in self.model.codes,
            Factor.RECOVERY_CODE,
            lambda: self.finish_by(pending, FactorAnswer(Factor.RECOVERY_CODE, code=code)),
        )
        if done:
            self.model.codes.discard(code)

    @precondition(lambda self: self.model.is_protected and not self.model.is_disabled)
    @rule(data=st.data(), steps=STEPS, is_real=st.booleans(), with_code=st.booleans())
    def sign_in_in_two_tabs(
        self,
        data: st.DataObject,
        steps: int,
        is_real: bool,  # noqa: FBT001
        with_code: bool,  # noqa: FBT001
    ) -> None:
        """Give the password in each, and then the factor in one after the other."""
        self.give_password(right=True)
        self.give_password(right=True)
        if with_code:
            self.finish_with_code(data, steps)
        else:
            self.finish_with_recovery_code(data, is_real)
        self.finish_with_recovery_code(data, is_real=True)

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), steps=STEPS)
    def finish_set_up(self, data: st.DataObject, steps: int) -> None:
        pending = self.some_pending(data)
        secret = self.model.offer.secret if self.model.offer else pyotp.random_base32()
        code, step = self.code(secret, steps)
        codes: tuple[str, ...] = ()
        alive = self.model.pending.get(pending, 0) > self.now and not self.model.is_disabled

        def act() -> SignIn:
            nonlocal codes
            result, codes = identity.finish_set_up(
                self.sessions, token=pending, code=code, client=CLIENT, policy=RULES
            )
            return result

        if alive and self.model.is_protected:
            try:
                act()
            except Conflict:
                return
            raise AssertionError("a factor was set up over another")
        if alive and not self.is_open(pending):
            try:
                act()
            except NotFound:
                return
            raise AssertionError("nothing was offered")
        if self.finish(pending, abs(steps) <= 1, Factor.AUTHENTICATOR, act):
            self.take_app(secret, step)
            self.model.codes = set(codes)

    def take_app(self, secret: str, step: int) -> None:
        self.model.secret, self.model.last_step, self.model.offer = secret, step, None

    @precondition(lambda self: self.model.devices)
    @rule(data=st.data(), with_password=st.booleans())
    def use_passkey(self, data: st.DataObject, with_password: bool) -> None:  # noqa: FBT001
        device = self.model.devices[data.draw(st.sampled_from(list(self.model.devices)))]
        if not with_password:
            options = identity.passkey_sign_in_options(
                party=PARTY, binding="a browser", policy=RULES, now=self.clock()
            )
            answer = PasskeyAnswer(device.get(options.json), options.state)
            for is_first in (True, False):
                result = identity.authenticate_with_passkey(
                    self.sessions,
                    answer=answer,
                    party=PARTY,
                    binding="a browser",
                    client=CLIENT,
                    policy=RULES,
                )
                if not is_first:
                    assert result.outcome is SignInOutcome.WRONG
                elif self.model.is_disabled:
                    assert result.outcome is SignInOutcome.DISABLED
                else:
                    self.expect_signed_in(result, Factor.PASSKEY)
            return
        pending = self.some_pending(data)
        with self.sessions() as session:
            try:
                options = identity.pending_passkey_options(
                    session, token=pending, party=PARTY, policy=RULES
                )
            except NotFound:
                return
        answer = PasskeyAnswer(device.get(options.json), options.state)
        self.finish(
            pending,
            works=True,
            factor=Factor.PASSKEY,
            act=lambda: self.finish_by(
                pending, FactorAnswer(Factor.PASSKEY, passkey=answer, party=PARTY)
            ),
        )

    # ── Proving a factor before it is changed ─────────────────────────────────────────────────
    def may_change(self, token: str) -> bool:
        return not self.model.is_protected or self.model.confirmed.get(token, 0) > self.now

    def prove(self, token: str, answer: FactorAnswer, *, works: bool) -> str:
        """Return the token of the session afterwards: another one where the proof was right."""
        renewed = identity.confirm_factor(
            self.sessions, user=self.user(token), answer=answer, client=CLIENT, policy=RULES
        )
        assert (renewed.outcome is SignInOutcome.SIGNED_IN) is works
        if not works:
            return token
        self.model.sessions[renewed.token] = self.model.sessions.pop(token)
        self.model.confirmed[renewed.token] = self.now + CONFIRMED_SECONDS
        self.opened.append(renewed.token)
        return renewed.token

    @precondition(lambda self: self.model.live())
    @rule(data=st.data(), steps=STEPS)
    def prove_by_code(self, data: st.DataObject, steps: int) -> None:
        code, step = self.code(self.model.secret or pyotp.random_base32(), steps)
        works = self.model.secret is not None and abs(steps) <= 1 and step > self.model.last_step
        answer = FactorAnswer(Factor.AUTHENTICATOR, code=code)
        self.prove(self.some_session(data), answer, works=works)
        if works:
            self.model.last_step = step

    @precondition(lambda self: self.model.live())
    @rule(data=st.data(), is_real=MOSTLY)
    def prove_by_recovery_code(self, data: st.DataObject, is_real: bool) -> None:  # noqa: FBT001
        code = "aaaaa-aaaaa"
        if is_real and self.model.codes:
            code = data.draw(st.sampled_from(sorted(self.model.codes)))
        answer = FactorAnswer(Factor.RECOVERY_CODE, code=code)
        self.prove(self.some_session(data), answer, works=code in self.model.codes)
        self.model.codes.discard(code)

    @precondition(lambda self: self.model.live() and self.model.devices)
    @rule(data=st.data(), is_own=MOSTLY)
    def prove_by_passkey(self, data: st.DataObject, is_own: bool) -> None:  # noqa: FBT001
        """Answer what this session asks, or what another one asked."""
        token = self.some_session(data)
        device = self.model.devices[data.draw(st.sampled_from(list(self.model.devices)))]
        asked = token if is_own else self.some_session(data)
        with self.sessions() as session:
            options = identity.confirmation_passkey_options(
                session, actor=self.user(asked).actor(None), party=PARTY, policy=RULES
            )
        passkey = PasskeyAnswer(device.get(options.json), options.state)
        answer = FactorAnswer(Factor.PASSKEY, passkey=passkey, party=PARTY)
        is_own = asked == token
        token = self.prove(token, answer, works=is_own)
        if is_own:
            self.prove(token, answer, works=False)  # an answer counts once

    def some_ready_session(self, data: st.DataObject) -> str:
        """Return a session, mostly one in which factors can be changed now."""
        token = self.some_session(data)
        if not self.may_change(token) and self.model.codes and data.draw(MOSTLY):
            code = min(self.model.codes)
            token = self.prove(token, FactorAnswer(Factor.RECOVERY_CODE, code=code), works=True)
            self.model.codes.discard(code)
        return token

    def is_refused(self, token: str, change: Callable[[], object]) -> bool:
        """Whether the change is refused because no factor was proven, as it should be then."""
        if self.may_change(token):
            return False
        with pytest.raises(Conflict, match="factor_not_confirmed"):
            change()
        return True

    # ── Changes by the person ─────────────────────────────────────────────────────────────────
    @precondition(lambda self: self.model.live())
    @rule(data=st.data(), knows=MOSTLY)
    def begin_app(self, data: st.DataObject, knows: bool) -> None:  # noqa: FBT001
        browser = self.some_ready_session(data)
        again = self.again(browser, PASSWORD if knows else "another-one-1")
        if self.is_refused(browser, lambda: identity.begin_authenticator(self.sessions, again)):
            return
        token = identity.begin_authenticator(self.sessions, again)
        assert (token is not None) is knows
        if token is not None:
            self.note_offer(token)
            self.shown.append(token)

    @precondition(lambda self: self.model.live())
    @rule(data=st.data())
    def set_up_app(self, data: st.DataObject) -> None:
        self.begin_app(data, knows=True)
        self.confirm_app(data, steps=0)

    @precondition(lambda self: self.model.live())
    @rule(data=st.data(), steps=STEPS)
    def confirm_app(self, data: st.DataObject, steps: int) -> None:
        token, offer = self.some_session(data), self.some_offer(data)
        secret = self.model.offer.secret if self.model.offer else pyotp.random_base32()
        code, step = self.code(secret, steps)
        actor = self.user(token).actor(None)
        try:
            with self.sessions.begin() as session:
                codes = identity.confirm_own_authenticator(
                    session, code=code, token=offer, actor=actor, client=CLIENT
                )
        except NotFound:
            assert not self.is_open(offer)
            return
        assert self.is_open(offer)
        if codes is None:
            assert abs(steps) > 1
            return
        assert abs(steps) <= 1
        assert bool(codes) is not self.model.is_protected
        self.take_app(secret, step)
        self.model.codes = set(codes) or self.model.codes
        self.keep_only(token)

    @precondition(lambda self: self.model.live())
    @rule(data=st.data())
    def remove_app(self, data: st.DataObject) -> None:
        token = self.some_ready_session(data)
        is_last = self.model.secret is not None and not self.model.devices
        if self.is_refused(
            token, lambda: identity.remove_own_authenticator(self.sessions, self.again(token))
        ):
            return
        try:
            assert identity.remove_own_authenticator(self.sessions, self.again(token))
        except Conflict:
            assert is_last
            assert self.model.is_required
            return
        assert not (is_last and self.model.is_required)
        had_app = self.model.secret is not None
        self.model.secret, self.model.offer = None, None
        self.after_removal(token, changed=had_app)

    @precondition(lambda self: self.model.live() and len(self.model.devices) < 3)
    @rule(data=st.data())
    def add_passkey(self, data: st.DataObject) -> None:
        token = self.some_ready_session(data)
        device = Device(PARTY.origin)
        with self.sessions() as session:
            options = identity.own_passkey_options(
                session,
                actor=self.user(token).actor(None),
                email=self.email,
                party=PARTY,
                policy=RULES,
            )
        number = next(self.names)
        answer = PasskeyAnswer(device.create(options.json), options.state)

        def add() -> tuple[str, ...] | None:
            return identity.add_own_passkey(
                self.sessions,
                self.again(token),
                name=f"device {number}",
                answer=answer,
                party=PARTY,
            )

        if self.is_refused(token, add):
            return
        codes = add()
        assert codes is not None
        assert bool(codes) is not self.model.is_protected
        self.model.devices[number] = device
        self.model.codes = set(codes) or self.model.codes
        self.keep_only(token)

    @precondition(lambda self: self.model.live() and self.model.devices)
    @rule(data=st.data())
    def remove_passkey(self, data: st.DataObject) -> None:
        token = self.some_ready_session(data)
        number = data.draw(st.sampled_from(list(self.model.devices)))
        again = self.again(token)
        with self.sessions() as session:
            listed = identity.list_second_factors(
                session, actor=again.user.actor(None), policy=RULES
            )
        keys = {each.name: each.key for each in listed.passkeys}
        is_last = self.model.secret is None and len(self.model.devices) == 1
        key = keys[f"device {number}"]
        if self.is_refused(
            token, lambda: identity.remove_own_passkey(self.sessions, again, key=key)
        ):
            return
        try:
            identity.remove_own_passkey(self.sessions, again, key=key)
        except Conflict:
            assert is_last
            assert self.model.is_required
            return
        assert not (is_last and self.model.is_required)
        del self.model.devices[number]
        self.after_removal(token, changed=True)

    def after_removal(self, token: str, *, changed: bool) -> None:
        if not changed:
            return
        if not self.model.is_protected:
            self.model.codes.clear()
        self.keep_only(token)

    @precondition(lambda self: self.model.live())
    @rule(data=st.data())
    def replace_codes(self, data: st.DataObject) -> None:
        token = self.some_ready_session(data)
        again = self.again(token)
        if self.is_refused(token, lambda: identity.replace_recovery_codes(self.sessions, again)):
            return
        try:
            codes = identity.replace_recovery_codes(self.sessions, again)
        except Conflict:
            assert not self.model.is_protected
            return
        assert self.model.is_protected
        assert codes is not None
        assert not set(codes) & self.model.codes
        self.model.codes = set(codes)

    # ── By others, and the clock ──────────────────────────────────────────────────────────────
    @rule(spares=MOSTLY)
    def reset(self, spares: bool) -> None:  # noqa: FBT001
        if spares:
            return
        with self.sessions.begin() as session:
            identity.reset_second_factors(
                session, user_id=self.user_id, reason="lost", actor=SYSTEM
            )
        self.model = Model(role=self.model.role, is_disabled=self.model.is_disabled)

    @rule(is_enabled=MOSTLY)
    def disable(self, is_enabled: bool) -> None:  # noqa: FBT001
        is_disabled = not is_enabled
        with self.sessions.begin() as session:
            disable_user(
                session,
                user_id=self.user_id,
                is_disabled=is_disabled,
                reason="as asked",
                actor=SYSTEM,
            )
        if is_disabled != self.model.is_disabled:
            self.model.is_disabled = is_disabled
            self.model.sessions.clear()
            self.model.end_begun()

    @rule(spares=MOSTLY, role=st.sampled_from([None, StaffRole.FINANCE, StaffRole.SUPPORT]))
    def change_role(self, spares: bool, role: StaffRole | None) -> None:  # noqa: FBT001
        if spares:
            return
        with self.sessions.begin() as session:
            change_staff_role(
                session, user_id=self.user_id, role=role, reason="as asked", actor=SYSTEM
            )
        if role is not self.model.role:
            self.model.role = role
            self.model.sessions.clear()
            self.model.end_begun()

    @rule(seconds=st.sampled_from([1, 31, 299, 601]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)

    # ── What is always so ─────────────────────────────────────────────────────────────────────
    @invariant()
    def sessions_are_those_of_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        with self.sessions() as session:
            found = {
                token: identity.session_actor(session, token=token, policy=RULES)
                for token in [*self.opened, *self.begun]
            }
        live = {token: user.factor for token, user in found.items() if user is not None}
        assert live == self.model.live()

    @invariant()
    def secrets_are_shown_to_whom_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        offer = self.model.offer
        for token in {*self.shown[-2:], *self.begun[-2:]}:
            expected = offer.secret if offer is not None and self.is_open(token) else None
            assert self.offered(token) == expected


@pytest.fixture
def machine(sessions: sessionmaker[Session]) -> type[SecondFactors]:
    clock = TestClock()
    sessions.configure(info={**KNOWS_KEYS, "clock": clock})
    return type("Machine", (SecondFactors,), {"sessions": sessions, "clock": clock})


def test_factors_and_sessions_are_as_the_model_says(machine: type[SecondFactors]) -> None:
    run_state_machine_as_test(machine, settings=PROFILE)


def _takes_no_notice(*_given: object, **_named: object) -> None:
    """Stand in for what refuses or ends something."""


def _says_yes(*_given: object, **_named: object) -> bool:
    return True


def _says_no(*_given: object, **_named: object) -> bool:
    return False


def _counts_no_signatures(**given: Any) -> Any:
    return VERIFY(**{**given, "credential_current_sign_count": 0})


def _forgets_the_last_step(
    secret: str | None, code: str, now: datetime, *, after: int | None
) -> int | None:
    del after
    return STEP_OF(secret, code, now, after=None)


def _leaves_the_copy(session: Session, session_id: str) -> SignIn:
    """Give the session another token, and leave whoever has the old one in."""
    renewed = RENEW(session, session_id)
    columns = "user_id, expires_at, address, user_agent, factor, factor_confirmed_at"
    session.execute(
        text(
            f"INSERT INTO user_sessions (token_digest, {columns})"  # noqa: S608 - constant text
            f" SELECT :old, {columns} FROM user_sessions WHERE token_digest = :new"
        ),
        {"old": bytes.fromhex(session_id), "new": identity.token_digest(renewed.token)},
    )
    return renewed


RENEW = sessions_service.renew_session
STEP_OF = authenticators._step_of
VERIFY = webauthn.verify_authentication_response


@pytest.mark.parametrize(
    "broken",
    [
        {"authenticators._step_of": _forgets_the_last_step},
        {"authenticators._is_open": _says_yes},
        {"sessions.withdraw_offer": _takes_no_notice},
        {
            "passkeys._take": _says_yes,
            "passkeys.verify_authentication_response": _counts_no_signatures,
        },
        {"pending.end_pending_sign_ins": _takes_no_notice},
        {"pending.has_second_factor": _says_no},
        {"recovery_codes.use_recovery_code": _says_yes},
        {"second_factor._after_removal": _takes_no_notice},
        {"factor_confirmation._is_confirmed": _says_yes},
        {"factor_confirmation.is_proven": _says_yes},
        {"factor_confirmation.renew_session": _leaves_the_copy},
        {"second_factor.revoke_user_sessions": _takes_no_notice},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_machine_finds_a_check_that_is_missing(
    machine: type[SecondFactors], monkeypatch: pytest.MonkeyPatch, broken: dict[str, object]
) -> None:
    for place, instead in broken.items():
        monkeypatch.setattr(f"domain.identity.{place}", instead)
    with pytest.raises((AssertionError, Conflict, NotFound, pytest.fail.Exception)):
        run_state_machine_as_test(machine, settings=BROKEN)
