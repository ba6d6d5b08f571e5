"""Invitations to an account: sent, sent again, withdrawn, accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from db.models import Account, AccountInvitation, AccountMember, User
from domain import accounts, audit, clock, identity
from domain.accounts.member_changes import LOCK, change_members, record_change
from domain.actors import Actor, ActorKind, MemberRole
from domain.errors import Conflict, NotFound
from domain.identity.guesses import network_counters
from domain.identity.invitation_mails import INVITATION_LIFETIME, count_mail, mail_link
from domain.identity.invited import replaces_sign_up
from domain.identity.tokens import new_token
from domain.ledger.idempotency import IdempotentRequest
from domain.rights import with_current_rights
from domain.security import rate_limits
from domain.validation import checked_name

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity import AuthPolicy, Client, SignIn


_TEMPLATE = "invitation"


@dataclass(frozen=True, slots=True)
class Offer:
    """The offer behind a mailed link: to whom, of which account, in which role.

    `is_known`: the address belongs to a person, who has to sign in to accept. A person who has only
    signed up with it does not count, as they may be a stranger: `replaces_sign_up` says that there
    is one, whose name and password are removed when the link is followed.
    """

    account_id: int
    account_name: str
    email: str
    role: MemberRole
    is_known: bool
    replaces_sign_up: bool


def invite_member(
    session: Session,
    *,
    account_id: int,
    email: str,
    role: MemberRole,
    actor: Actor,
    idempotency_key: str,
    policy: AuthPolicy,
    locale: str = "en",
) -> int:
    """Offer a place in the account to an address by mail; return the invitation's id.

    The mail is in the person's language where the address is known, else in `locale`. Raises
    NotFound, NotAuthorised, InvalidInput on "email", Conflict ("already_a_member",
    "already_invited"), RateLimited, IdempotencyMismatch.
    """
    address = identity.normalise_email(email)
    request = {"email": address, "role": role.value}

    def invite() -> dict[str, Any]:
        _refuse_double(session, account_id, address)
        _count_mail(session, policy, account_id, actor, address)
        token = new_token()
        now = clock.now(session)
        invitation = AccountInvitation(
            account_id=account_id,
            email=address,
            role=role.value,
            token_digest=identity.token_digest(token),
            invited_by=audit.actor_name(actor),
            created_at=now,
            expires_at=now + INVITATION_LIFETIME,
        )
        session.add(invitation)
        session.flush()
        _mail(session, address, token, actor, locale)
        details = {"invitation_id": invitation.id, "role": role.value}
        record_change(session, "invite_member", actor, account_id, details)
        return {"invitation_id": invitation.id}

    write = IdempotentRequest(account_id, f"members:{idempotency_key}", "invite_member", request)
    answer = change_members(session, write, actor, invite)
    return int(answer["invitation_id"])


def resend_invitation(
    session: Session,
    *,
    account_id: int,
    invitation_id: int,
    actor: Actor,
    idempotency_key: str,
    policy: AuthPolicy,
    locale: str = "en",
) -> None:
    """Mail a new link, good for another seven days; the link before it is dead from now on.

    Raises NotFound, NotAuthorised, RateLimited, IdempotencyMismatch.
    """

    def resend() -> dict[str, Any]:
        token = new_token()
        address = session.execute(
            update(AccountInvitation)
            .where(open_of(account_id), AccountInvitation.id == invitation_id)
            .values(
                token_digest=identity.token_digest(token),
                expires_at=clock.now(session) + INVITATION_LIFETIME,
            )
            .returning(AccountInvitation.email)
        ).scalar_one_or_none()
        if address is None:
            raise NotFound("invitation")
        _count_mail(session, policy, account_id, actor, address)
        _mail(session, address, token, actor, locale)
        details = {"invitation_id": invitation_id}
        record_change(session, "resend_invitation", actor, account_id, details)
        return {}

    request = {"invitation_id": invitation_id}
    write = IdempotentRequest(
        account_id, f"members:{idempotency_key}", "resend_invitation", request
    )
    change_members(session, write, actor, resend)


def withdraw_invitation(
    session: Session, *, account_id: int, invitation_id: int, actor: Actor, idempotency_key: str
) -> None:
    """Take an invitation back: its link is dead from now on.

    Raises NotFound, NotAuthorised, IdempotencyMismatch.
    """

    def withdraw() -> dict[str, Any]:
        withdrawn = session.execute(
            update(AccountInvitation)
            .where(open_of(account_id), AccountInvitation.id == invitation_id)
            .values(withdrawn_at=clock.now(session))
            .returning(AccountInvitation.id)
        ).scalar_one_or_none()
        if withdrawn is None:
            raise NotFound("invitation")
        details = {"invitation_id": invitation_id}
        record_change(session, "withdraw_invitation", actor, account_id, details)
        return {}

    request = {"invitation_id": invitation_id}
    write = IdempotentRequest(
        account_id, f"members:{idempotency_key}", "withdraw_invitation", request
    )
    change_members(session, write, actor, withdraw)


def _count_mail(
    session: Session, policy: AuthPolicy, account_id: int, actor: Actor, address: str
) -> None:
    """Count an invitation for the account, and for who sends it: administrators do for many."""
    senders = [str(account_id)]
    if not actor.is_system:
        senders.append(audit.actor_name(actor))
    count_mail(session, policy, "member", senders=senders, address=address)


def _refuse_double(session: Session, account_id: int, address: str) -> None:
    member = session.execute(
        select(AccountMember.user_id)
        .join(User, User.id == AccountMember.user_id)
        .where(AccountMember.account_id == account_id, User.email == address)
    ).scalar_one_or_none()
    if member is not None:
        raise Conflict("already_a_member")
    invited = session.execute(
        select(AccountInvitation.id).where(open_of(account_id), AccountInvitation.email == address)
    ).scalar_one_or_none()
    if invited is not None:
        raise Conflict("already_invited")


def _mail(session: Session, address: str, token: str, actor: Actor, locale: str) -> None:
    mail_link(session, template=_TEMPLATE, address=address, token=token, actor=actor, locale=locale)


def find_offer(session: Session, *, token: str) -> Offer:
    """Return what a mailed link offers. Raises NotFound where it is used, withdrawn or expired."""
    row = session.execute(
        select(
            Account.id,
            Account.name,
            AccountInvitation.email,
            AccountInvitation.role,
            identity.is_taken(AccountInvitation.email),
            replaces_sign_up(AccountInvitation.email),
        )
        .join(Account, Account.id == AccountInvitation.account_id)
        .where(*_usable(session, token))
    ).one_or_none()
    if row is None:
        raise NotFound("invitation")
    account_id, name, email, role, is_known, is_replacing = row
    return Offer(account_id, name, email, MemberRole(role), is_known, is_replacing)


def accept_invitation(session: Session, *, token: str, actor: Actor) -> int:
    """Accept the invitation, as the person whose proven address it was sent to.

    Returns the account's id. The token is the key: the same person's second attempt returns the
    same result. An existing member of the account keeps their role. Raises NotFound where the link
    is used, withdrawn, expired, or sent to another address, and Conflict ("staff_role") for a
    member of staff, whose invitation stays open.
    """
    account_id = session.scalar(
        select(AccountInvitation.account_id).where(
            AccountInvitation.token_digest == identity.token_digest(token)
        )
    )
    if account_id is None or actor.user_id is None:
        raise NotFound("invitation")
    session.execute(LOCK, {"account_id": account_id})
    again = session.scalar(
        select(AccountInvitation.id).where(
            AccountInvitation.account_id == account_id,
            AccountInvitation.token_digest == identity.token_digest(token),
            AccountInvitation.accepted_by == actor.user_id,
        )
    )
    if again is not None:
        return account_id
    _take_place(session, account_id, token, actor)
    return account_id


def _take_place(session: Session, account_id: int, token: str, actor: Actor) -> None:
    proven = (User.email_verified_at.is_not(None), User.disabled_at.is_(None))
    own_address = select(User.email).where(User.id == actor.user_id, *proven).scalar_subquery()
    invitation = session.scalars(
        select(AccountInvitation)
        .where(*_usable(session, token), AccountInvitation.email == own_address)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if invitation is None or actor.user_id is None:
        raise NotFound("invitation")
    accounts.refuse_staff(session, actor.user_id)
    now = clock.now(session)
    invitation.accepted_at, invitation.accepted_by = now, actor.user_id
    belongs = session.get(AccountMember, (account_id, actor.user_id), populate_existing=True)
    if belongs is None:
        session.add(
            AccountMember(
                account_id=account_id,
                user_id=actor.user_id,
                role=invitation.role,
                added_at=now,
            )
        )
    session.flush()
    details = {
        "invitation_id": invitation.id,
        "user_id": actor.user_id,
        "role": invitation.role,
    }
    record_change(session, "accept_invitation", actor, account_id, details)


def sign_up_invited(
    sessions: sessionmaker[Session],
    *,
    token: str,
    display_name: str,
    password: str,
    client: Client,
    policy: AuthPolicy,
) -> tuple[SignIn, int]:
    """Create a person for the invited address, make them a member and sign them in.

    The link was sent to their mailbox, so it proves the address, and replaces a sign-up with the
    address that was never confirmed. Returns the session and the account's id. Raises NotFound
    where the link does not work, Conflict ("email_taken") where the address belongs to a person,
    who has to sign in instead, InvalidInput, Overloaded.
    """
    with sessions.begin() as session:
        counters = network_counters(policy, policy.requests_per_address, "join", client)
        rate_limits.record_attempt(session, counters)
    with sessions() as session:
        offer = find_offer(session, token=token)
    name = checked_name(display_name, "display_name")
    password_hash = identity.hash_new_password(password, email=offer.email)
    with sessions.begin() as session:
        user_id = identity.create_invited_person(
            session,
            email=offer.email,
            display_name=name,
            password_hash=password_hash,
            client=client,
        )
        actor = Actor(ActorKind.USER, user_id, ip=client.address)
        account_id = accept_invitation(session, token=token, actor=actor)
        signed_in = identity.create_session(session, user_id=user_id, client=client, policy=policy)
        # Who was replaced may have opened another account, which is not where the link leads.
        identity.choose_account(
            session,
            session_id=identity.session_id_of(signed_in.token),
            account_id=account_id,
            actor=with_current_rights(session, actor),
        )
    return signed_in, account_id


def open_of(account_id: int) -> ColumnElement[bool]:
    """Return the condition of invitations to an account that can still be accepted."""
    return (
        (AccountInvitation.account_id == account_id)
        & AccountInvitation.accepted_at.is_(None)
        & AccountInvitation.withdrawn_at.is_(None)
    )


def _usable(session: Session, token: str) -> tuple[ColumnElement[bool], ...]:
    return (
        AccountInvitation.token_digest == identity.token_digest(token),
        AccountInvitation.accepted_at.is_(None),
        AccountInvitation.withdrawn_at.is_(None),
        AccountInvitation.expires_at > clock.now(session),
    )


@dataclass(frozen=True, slots=True)
class Invitation:
    """A place in the account that was offered to an address and not taken yet."""

    invitation_id: int
    email: str
    role: MemberRole
    sent_at: datetime
    expires_at: datetime
    is_expired: bool


def list_open_invitations(session: Session, account_id: int) -> tuple[Invitation, ...]:
    """Return the invitations that wait for an answer."""
    now = clock.now(session)
    rows = session.scalars(
        select(AccountInvitation)
        .where(open_of(account_id))
        .order_by(AccountInvitation.id.desc())
        .execution_options(populate_existing=True)
    )
    return tuple(
        Invitation(
            invitation_id=row.id,
            email=row.email,
            role=MemberRole(row.role),
            sent_at=row.expires_at - INVITATION_LIFETIME,
            expires_at=row.expires_at,
            is_expired=row.expires_at <= now,
        )
        for row in rows
    )
