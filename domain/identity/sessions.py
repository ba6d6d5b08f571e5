"""Sessions: a signed-in browser, by a token of which only a digest is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, delete, exists, select, text, update

from db.models import AccountMember, PendingSignIn, User, UserSession
from domain import clock, fraud_signals
from domain.actors import Actor, MemberRole, StaffRole, user_actor
from domain.audit import record
from domain.errors import NotFound
from domain.identity.authenticators import withdraw_offer
from domain.identity.outcomes import Factor, SignIn, SignInOutcome
from domain.identity.tokens import new_token, token_digest
from domain.identity.users import Person, actor_for, load_person, require_person_id
from domain.rights import roles_of
from domain.validation import CONTROL

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.orm import Session

    from domain.identity.policy import AuthPolicy, Client

MAX_USER_AGENT_LENGTH = 300
_SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """A signed-in person, as the database has them at this moment.

    `account_id` is the account that this session acts on: the selected one, else the first
    membership, else none. `touch_due`: it is time to call `touch_session`.
    """

    session_id: str
    user_id: int
    email: str
    display_name: str
    locale: str | None
    time_zone: str | None
    staff_role: StaffRole | None
    memberships: Mapping[int, MemberRole]
    account_id: int | None
    touch_due: bool
    factor: Factor

    def actor(self, address: str | None) -> Actor:
        """Return the actor that this person is, asking from `address`."""
        return user_actor(
            self.user_id,
            staff_role=self.staff_role,
            memberships=self.memberships,
            ip=address,
            session_id=self.session_id,
        )


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """One of the browsers in which a person is signed in."""

    session_id: str
    created_at: datetime
    last_seen_at: datetime
    address: str
    user_agent: str
    factor: Factor


_SIGNED_IN = """
FROM (SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now) t,
     user_sessions s JOIN users u ON u.id = s.user_id
WHERE s.revoked_at IS NULL AND s.expires_at > t.now AND u.disabled_at IS NULL
  AND s.last_seen_at > t.now - CASE WHEN u.staff_role IS NULL
        THEN CAST(:customer_idle AS interval) ELSE CAST(:staff_idle AS interval) END
  AND (s.factor <> 'password' OR u.staff_role IS NULL
       OR u.staff_role <> ALL(CAST(:second_factor_roles AS text[])))
"""
_VISIT = text(f"""
SELECT u.id, u.email, u.display_name, u.locale, u.time_zone, u.staff_role, s.account_id, s.factor,
       s.last_seen_at <= t.now - CAST(:seen_every AS interval) AS touch_due,
       (SELECT json_object_agg(m.account_id, m.role ORDER BY m.account_id)
        FROM account_members m WHERE m.user_id = u.id) AS memberships
{_SIGNED_IN}
  AND s.token_digest = :digest
""")  # noqa: S608 - constant text
_LIVE = text(f"SELECT s.token_digest {_SIGNED_IN} AND s.token_digest = ANY(:digests)")


def _bounds(policy: AuthPolicy) -> dict[str, object]:
    return {
        "customer_idle": policy.customer_idle,
        "staff_idle": policy.staff_idle,
        "second_factor_roles": sorted(policy.second_factor_roles),
    }


def session_actor(session: Session, *, token: str, policy: AuthPolicy) -> SignedInUser | None:
    """Return who is signed in with this token, with their roles as they are now, or None.

    One query, and no write: see `touch_session`.
    """
    row = session.execute(
        _VISIT,
        {
            "now": clock.given(session),
            "digest": token_digest(token),
            "seen_every": _SEEN_EVERY,
            **_bounds(policy),
        },
    ).one_or_none()
    if row is None:
        return None
    staff_role, memberships = roles_of(row)
    chosen = row.account_id if row.account_id in memberships else next(iter(memberships), None)
    return SignedInUser(
        session_id=session_id_of(token),
        user_id=row.id,
        email=row.email,
        display_name=row.display_name,
        locale=row.locale,
        time_zone=row.time_zone,
        staff_role=staff_role,
        memberships=memberships,
        account_id=chosen,
        touch_due=row.touch_due,
        factor=Factor(row.factor),
    )


def live_sessions(
    session: Session, *, session_ids: Collection[str], policy: AuthPolicy
) -> frozenset[str]:
    """Return those of the sessions (`session_id_of`) that are signed in now."""
    found = session.scalars(
        _LIVE,
        {
            "now": clock.given(session),
            "digests": [bytes.fromhex(each) for each in session_ids],
            **_bounds(policy),
        },
    )
    return frozenset(bytes(digest).hex() for digest in found)


def session_id_of(token: str) -> str:
    """Return an identifier of a session that grants no access: the digest of its token, in hex."""
    return token_digest(token).hex()


def create_session(session: Session, *, user_id: int, client: Client, policy: AuthPolicy) -> SignIn:
    """Open a session for a person who has just proven who they are; return its token.

    The token leaves this function once and is stored nowhere. Raises NotFound where there is
    no such person, or they are disabled.
    """
    person = load_person(session, User.id == user_id)
    if person is None or person.is_disabled:
        raise NotFound("user")
    return open_session(session, person, client, policy)


def touch_session(session: Session, *, session_id: str) -> None:
    """Record that the session is in use; at most once a minute."""
    now = clock.now(session)
    session.execute(
        update(UserSession)
        .where(
            UserSession.token_digest == bytes.fromhex(session_id),
            UserSession.revoked_at.is_(None),
            UserSession.last_seen_at <= now - _SEEN_EVERY,
        )
        .values(last_seen_at=now)
    )


def choose_account(session: Session, *, session_id: str, account_id: int, actor: Actor) -> None:
    """Have the actor's session act on another of their accounts. Raises NotFound."""
    member = exists().where(
        AccountMember.account_id == account_id, AccountMember.user_id == UserSession.user_id
    )
    chosen = session.execute(
        update(UserSession)
        .where(_own_session(session_id, actor), member)
        .values(account_id=account_id)
        .returning(UserSession.user_id)
    ).scalar_one_or_none()
    if chosen is None:
        raise NotFound("account")
    record(session, action="choose_account", actor=actor, account_id=account_id)


def list_sessions(
    session: Session, *, actor: Actor, policy: AuthPolicy
) -> tuple[SessionSummary, ...]:
    """Return the actor's own open sessions, the latest seen first. Raises NotAuthorised."""
    now = clock.now(session)
    idle = policy.staff_idle if actor.is_staff else policy.customer_idle
    rows = session.scalars(
        select(UserSession)
        .where(
            UserSession.user_id == require_person_id(actor),
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > now,
            UserSession.last_seen_at > now - idle,
        )
        .order_by(UserSession.last_seen_at.desc(), UserSession.created_at.desc())
    )
    return tuple(
        SessionSummary(
            session_id=row.token_digest.hex(),
            created_at=row.created_at,
            last_seen_at=row.last_seen_at,
            address=row.address,
            user_agent=row.user_agent,
            factor=Factor(row.factor),
        )
        for row in rows
    )


def revoke_session(session: Session, *, session_id: str, actor: Actor) -> None:
    """End one of the actor's own sessions, and a set-up of an authenticator app.

    Raises NotFound where it is not theirs, or ended.
    """
    withdraw_offer(session, require_person_id(actor))
    revoked = session.execute(
        update(UserSession)
        .where(_own_session(session_id, actor))
        .values(revoked_at=clock.now(session))
        .returning(UserSession.user_id)
    ).scalar_one_or_none()
    if revoked is None:
        raise NotFound("session")
    record(session, action="sign_out", actor=actor)


def revoke_all_sessions(session: Session, *, actor: Actor) -> int:
    """End every session of the actor, this one too; return how many."""
    ended = revoke_user_sessions(session, require_person_id(actor))
    record(session, action="sign_out_everywhere", actor=actor, details={"sessions": ended})
    return ended


def open_session(
    session: Session,
    person: Person,
    client: Client,
    policy: AuthPolicy,
    factor: Factor = Factor.PASSWORD,
) -> SignIn:
    """Sign the person in, who has proven themselves by a password or more."""
    token = new_token()
    now = clock.now(session)
    longest = policy.staff_longest if person.staff_role else policy.customer_longest
    session.add(
        UserSession(
            token_digest=token_digest(token),
            user_id=person.id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + longest,
            address=client.address,
            user_agent=CONTROL.sub("", client.user_agent)[:MAX_USER_AGENT_LENGTH],
            factor=factor.value,
        )
    )
    session.flush()
    fraud_signals.record_network_of_person(session, user_id=person.id, address=client.address)
    details = {"factor": factor.value}
    record(session, action="sign_in", actor=actor_for(person, client), details=details)
    return SignIn(SignInOutcome.SIGNED_IN, token, longest)


def renew_session(session: Session, session_id: str) -> SignIn:
    """Replace a session's token after a proof of its person: copies of the old one stop working.

    Other sessions stay. Raises NotFound where it has ended.
    """
    token = new_token()
    expires_at = session.execute(
        update(UserSession)
        .where(
            UserSession.token_digest == bytes.fromhex(session_id), UserSession.revoked_at.is_(None)
        )
        .values(token_digest=token_digest(token))
        .returning(UserSession.expires_at)
    ).scalar_one_or_none()
    if expires_at is None:
        raise NotFound("session")
    return SignIn(SignInOutcome.SIGNED_IN, token, expires_at - clock.now(session))


def renew_own_session(session: Session, *, actor: Actor) -> SignIn:
    """Replace the token of the actor's session, where its factors have changed.

    Raises NotFound where it has ended, or the actor has none.
    """
    if actor.session_id is None:
        raise NotFound("session")
    return renew_session(session, actor.session_id)


def end_pending_sign_ins(session: Session, user_id: int) -> None:
    """End the person's pending sign-ins, and a set-up of an authenticator app."""
    withdraw_offer(session, user_id)
    session.execute(delete(PendingSignIn).where(PendingSignIn.user_id == user_id))


def revoke_user_sessions(
    session: Session, user_id: int, *, except_session_id: str | None = None
) -> int:
    """Sign the person out, and end their pending sign-ins; return the number of sessions."""
    end_pending_sign_ins(session, user_id)
    statement = (
        update(UserSession)
        .where(UserSession.user_id == user_id, UserSession.revoked_at.is_(None))
        .values(revoked_at=clock.now(session))
        .returning(UserSession.user_id)
    )
    if except_session_id is not None:
        kept = bytes.fromhex(except_session_id)
        statement = statement.where(UserSession.token_digest != kept)
    return len(session.execute(statement).all())


def _own_session(session_id: str, actor: Actor) -> ColumnElement[bool]:
    try:
        digest = bytes.fromhex(session_id)
    except ValueError:
        raise NotFound("session") from None
    return and_(
        UserSession.token_digest == digest,
        UserSession.user_id == require_person_id(actor),
        UserSession.revoked_at.is_(None),
    )
