"""Invite colleagues as staff by mail, so that they need no customer account.

The link proves the address and creates the person, who belongs to no account. A person who signed
up with the address and never proved it may be a stranger, and is replaced. In the same transaction
the new person gets the role from the administrator who invited them, as if granted at this moment:
`give_invited_role` checks what that administrator may do now, and creates a request for the roles
Finance and Administrator, which waits for a second administrator.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, func, select

from db.models import StaffInvitation, User
from domain import audit, clock, identity
from domain.accounts.members import remove_sole_memberships
from domain.actors import Actor, StaffRole, user_actor
from domain.errors import Conflict, NotAuthorised, NotFound
from domain.identity.guesses import network_counters
from domain.identity.invitation_mails import INVITATION_LIFETIME, count_mail, mail_link
from domain.identity.invited import invitation_actor, is_taken, replaces_sign_up
from domain.identity.pending import admit
from domain.identity.tokens import new_token, token_digest
from domain.identity.users import load_person
from domain.permissions import require
from domain.rights import with_current_rights
from domain.security import rate_limits
from domain.staff.changes import TAKEN_BY_TWO, Standing, lock_admins
from domain.staff.notices import mail_admins
from domain.staff.roles import give_invited_role
from domain.validation import checked_name, checked_reason

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity import AuthPolicy, Client, SignIn
    from domain.staff.role_requests import RoleRequest

MAX_OPEN_INVITATIONS = 50
"""How many invitations may be open at a time, expired ones included."""

_TEMPLATE = "staff_invitation"


class InvitationState(StrEnum):
    """Whether the link of an open invitation works, or why it does not."""

    OPEN = "open"
    EXPIRED = "expired"
    INVITER_NOT_ADMIN = "inviter_not_admin"
    HAS_SIGN_IN = "has_sign_in"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A role that was offered to an address, and neither accepted nor withdrawn yet.

    `invited_by` is who sent it last, as facts name people, and `sent_at` when. `is_mailed_now`:
    the call that returned it has mailed it.
    """

    invitation_id: int
    email: str
    role: StaffRole
    reason: str
    invited_by: str
    sent_at: datetime
    expires_at: datetime
    state: InvitationState
    is_mailed_now: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class RoleOffer:
    """What a mailed link offers: which role, to which address.

    `is_known`: the address belongs to a person by now (`identity.is_taken`), for whom the link has
    no effect. `replaces_sign_up`: a person signed up with it and never proved it.
    """

    email: str
    role: StaffRole
    is_known: bool
    replaces_sign_up: bool

    @property
    def takes_approval(self) -> bool:
        """Whether a second administrator approves before the person has the role."""
        return self.role in TAKEN_BY_TWO


# ── Inviting ───────────────────────────────────────────────────────────────────────────────────
def invite_staff(
    session: Session,
    *,
    email: str,
    role: StaffRole,
    reason: str,
    actor: Actor,
    policy: AuthPolicy,
    locale: str = "en",
) -> Invitation:
    """Mail the offer of a role to an address; repeated, return the invitation that is open.

    The mail is in `locale`. Raises NotAuthorised; InvalidInput on "email" or "reason"; RateLimited;
    and Conflict: "has_sign_in" where the address belongs to a person, "invited_with_another_role",
    or "too_many_invitations".
    """
    require(actor, "manage_people")
    address, reason = identity.normalise_email(email), checked_reason(reason)
    _lock(session, actor)
    _refuse_known(session, address)
    now = clock.now(session)
    row = _open_row(session, address)
    if row is not None and _state(session, row, now) is InvitationState.OPEN:
        if row.role != role:
            raise Conflict("invited_with_another_role")
        return _view(row, InvitationState.OPEN)
    if row is not None:  # its link does not work any more
        _withdraw(session, row, actor, now)
    _check_room(session)
    token = new_token()
    row = StaffInvitation(
        email=address,
        role=role.value,
        reason=reason,
        token_digest=token_digest(token),
        invited_by=audit.actor_name(actor),
        created_at=now,
        expires_at=now + INVITATION_LIFETIME,
    )
    session.add(row)
    session.flush()
    _send(session, row, _Sending(token, actor, policy, locale))
    _record(session, row, "invite_staff", actor)
    _mail_admins(session, row, "invited")
    return replace(_view(row, InvitationState.OPEN), is_mailed_now=True)


def resend_staff_invitation(
    session: Session,
    *,
    invitation_id: int,
    sent_at: datetime,
    actor: Actor,
    policy: AuthPolicy,
    locale: str = "en",
) -> Invitation:
    """Mail a new link, valid for another seven days; the link before it is invalid from now on.

    The administrator who sends it again counts as the inviter from now on. `sent_at` is of the link
    that is replaced: where it was sent again since, nothing changes. Raises NotAuthorised,
    NotFound, RateLimited, and Conflict: "has_sign_in", or "invitation_over" where it was accepted
    or withdrawn.
    """
    require(actor, "manage_people")
    _lock(session, actor)
    row = _get_row(session, invitation_id)
    if row.accepted_at is not None or row.withdrawn_at is not None:
        raise Conflict("invitation_over")
    _refuse_known(session, row.email)
    now = clock.now(session)
    is_sent_since = _sent_at(row) != sent_at
    if is_sent_since and _state(session, row, now) is InvitationState.OPEN:
        return _view(row, InvitationState.OPEN)
    token = new_token()
    row.token_digest, row.expires_at = token_digest(token), now + INVITATION_LIFETIME
    row.invited_by = audit.actor_name(actor)
    session.flush()
    _send(session, row, _Sending(token, actor, policy, locale))
    _record(session, row, "resend_staff_invitation", actor)
    _mail_admins(session, row, "invitation_sent_again")
    return replace(_view(row, InvitationState.OPEN), is_mailed_now=True)


def withdraw_staff_invitation(session: Session, *, invitation_id: int, actor: Actor) -> None:
    """Withdraw an invitation, so that its link is invalid; repeated, it has no effect.

    Any administrator may. Raises NotAuthorised, NotFound, and Conflict("invitation_over") where it
    was accepted.
    """
    require(actor, "manage_people")
    _lock(session, actor)
    row = _get_row(session, invitation_id)
    if row.accepted_at is not None:
        raise Conflict("invitation_over")
    if row.withdrawn_at is None:
        _withdraw(session, row, actor, clock.now(session))
        _mail_admins(session, row, "invitation_withdrawn", decided_by=audit.actor_name(actor))


def list_staff_invitations(session: Session, *, actor: Actor) -> tuple[Invitation, ...]:
    """Return the invitations that are open, the newest first, for administrators and finance."""
    require(actor, "review_access")
    now = clock.now(session)
    rows = session.execute(
        select(StaffInvitation, is_taken(StaffInvitation.email), _is_of_admin())
        .where(_is_open())
        .order_by(StaffInvitation.id.desc())
        .execution_options(populate_existing=True)
    )
    return tuple(
        _view(row, _named_state(row, now, is_known=is_known, is_of_admin=is_of_admin))
        for row, is_known, is_of_admin in rows
    )


@dataclass(frozen=True, slots=True)
class _Sending:
    """A link that is mailed: its token, who sends it, and the language of the mail."""

    token: str = field(repr=False)
    actor: Actor
    policy: AuthPolicy
    locale: str


def _send(session: Session, row: StaffInvitation, sending: _Sending) -> None:
    count_mail(session, sending.policy, "staff", senders=(row.invited_by,), address=row.email)
    mail_link(
        session,
        template=_TEMPLATE,
        address=row.email,
        token=sending.token,
        actor=sending.actor,
        locale=sending.locale,
        role=row.role,
    )


def _lock(session: Session, actor: Actor) -> None:
    """Lock all changes of staff. Raises NotAuthorised where the actor is no administrator."""
    if actor.user_id not in lock_admins(session):
        raise NotAuthorised


def _refuse_known(session: Session, address: str) -> None:
    if session.scalars(select(is_taken(address))).one():
        raise Conflict("has_sign_in")


def _check_room(session: Session) -> None:
    count = select(func.count()).select_from(StaffInvitation).where(_is_open())
    if session.scalars(count).one() >= MAX_OPEN_INVITATIONS:
        raise Conflict("too_many_invitations")


def _withdraw(session: Session, row: StaffInvitation, actor: Actor, now: datetime) -> None:
    row.withdrawn_at = now
    session.flush()
    _record(session, row, "withdraw_staff_invitation", actor)


# ── Accepting ──────────────────────────────────────────────────────────────────────────────────
def find_role_offer(session: Session, *, token: str) -> RoleOffer:
    """Return what a mailed link offers.

    Raises NotFound where it is used, withdrawn or expired, or where its sender is no longer an
    administrator.
    """
    row = _usable_row(session, token, clock.now(session))
    asked = select(is_taken(row.email), replaces_sign_up(row.email))
    is_known, is_replacing = session.execute(asked).one()
    return RoleOffer(row.email, StaffRole(row.role), is_known, is_replacing)


def accept_staff_invitation(
    sessions: sessionmaker[Session],
    *,
    token: str,
    display_name: str,
    password: str,
    client: Client,
    policy: AuthPolicy,
) -> tuple[SignIn, RoleRequest | None]:
    """Create the person of the invited address, grant them the role, and sign them in.

    The link was sent to their mailbox, so it proves the address, and replaces a person who signed
    up with it and never proved it: the account that they opened then stays without a member.
    Returns the result of the sign-in, which may be the set-up of a second factor, and the request
    that waits where the role takes a second administrator. Raises NotFound where the link does not
    work, Conflict ("email_taken") where the address belongs to a person by now, InvalidInput,
    Overloaded, and RateLimited before anything that takes long.
    """
    with sessions.begin() as session:
        counters = network_counters(policy, policy.requests_per_address, "join-staff", client)
        rate_limits.record_attempt(session, counters)
    with sessions() as session:
        offer = find_role_offer(session, token=token)
    if offer.is_known:
        raise Conflict("email_taken")
    name = checked_name(display_name, "display_name")
    password_hash = identity.hash_new_password(password, email=offer.email)
    with sessions.begin() as session:
        lock_admins(session)
        now = clock.now(session)
        row = _usable_row(session, token, now)
        user_id = identity.create_invited_person(
            session,
            email=row.email,
            display_name=name,
            password_hash=password_hash,
            client=client,
        )
        remove_sole_memberships(session, user_id=user_id, actor=invitation_actor(client))
        request = _accept(session, row, user_actor(user_id, ip=client.address), now)
        person = load_person(session, User.id == user_id)
        if person is None:
            raise NotFound("invitation")
        return admit(session, person, client, policy), request


def _accept(
    session: Session, row: StaffInvitation, colleague: Actor, now: datetime
) -> RoleRequest | None:
    row.accepted_at, row.accepted_by = now, colleague.user_id
    session.flush()
    _record(session, row, "accept_staff_invitation", colleague)
    inviter = with_current_rights(session, user_actor(_inviter_id(row)))
    request = give_invited_role(
        session,
        user_id=colleague.user_id or 0,
        role=StaffRole(row.role),
        reason=row.reason,
        actor=inviter,
        invitation_id=row.id,
    )
    if request is None:  # otherwise the mail of the request states it
        _mail_admins(session, row, "invitation_accepted")
    return request


# ── What all of them share ─────────────────────────────────────────────────────────────────────
def _is_open() -> ColumnElement[bool]:
    return and_(StaffInvitation.accepted_at.is_(None), StaffInvitation.withdrawn_at.is_(None))


def _is_of_admin() -> ColumnElement[bool]:
    """Return whether the sender is an administrator now."""
    return (
        select(User.id)
        .where(
            StaffInvitation.invited_by == func.concat("user:", User.id),
            User.staff_role == StaffRole.ADMIN,
            User.disabled_at.is_(None),
        )
        .exists()
    )


def _usable_row(session: Session, token: str, now: datetime) -> StaffInvitation:
    row = session.scalars(
        select(StaffInvitation)
        .where(
            StaffInvitation.token_digest == token_digest(token),
            _is_open(),
            StaffInvitation.expires_at > now,
            _is_of_admin(),
        )
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise NotFound("invitation")
    return row


def _open_row(session: Session, address: str) -> StaffInvitation | None:
    return session.scalars(
        select(StaffInvitation)
        .where(_is_open(), StaffInvitation.email == address)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _get_row(session: Session, invitation_id: int) -> StaffInvitation:
    row = session.get(StaffInvitation, invitation_id, populate_existing=True)
    if row is None:
        raise NotFound("invitation")
    return row


def _state(session: Session, row: StaffInvitation, now: datetime) -> InvitationState:
    """Return the state of an open invitation whose address is not taken."""
    is_of_admin = select(_is_of_admin()).where(StaffInvitation.id == row.id)
    return _named_state(row, now, is_known=False, is_of_admin=session.scalars(is_of_admin).one())


def _named_state(
    row: StaffInvitation, now: datetime, *, is_known: bool, is_of_admin: bool
) -> InvitationState:
    if is_known:
        return InvitationState.HAS_SIGN_IN
    if row.expires_at <= now:
        return InvitationState.EXPIRED
    return InvitationState.OPEN if is_of_admin else InvitationState.INVITER_NOT_ADMIN


def _view(row: StaffInvitation, state: InvitationState) -> Invitation:
    return Invitation(
        invitation_id=row.id,
        email=row.email,
        role=StaffRole(row.role),
        reason=row.reason,
        invited_by=row.invited_by,
        sent_at=_sent_at(row),
        expires_at=row.expires_at,
        state=state,
    )


def _sent_at(row: StaffInvitation) -> datetime:
    return row.expires_at - INVITATION_LIFETIME


def _inviter_id(row: StaffInvitation) -> int:
    return int(row.invited_by.removeprefix("user:"))


def _record(session: Session, row: StaffInvitation, action: str, actor: Actor) -> None:
    details = {
        "staff_invitation_id": row.id,
        "role": row.role,
        "reason": row.reason,
        "invited_by": row.invited_by,
    }
    if row.accepted_by is not None:
        details["user_id"] = row.accepted_by
    audit.record(session, action=action, actor=actor, details=details)


def _mail_admins(
    session: Session, row: StaffInvitation, step: str, *, decided_by: str | None = None
) -> None:
    mail_admins(
        session,
        step,
        person=row,
        before=None,
        after=Standing(StaffRole(row.role), is_disabled=False),
        requested_by=row.invited_by,
        reason=row.reason,
        decided_by=decided_by,
        until=row.expires_at,
    )
