"""People who follow the link of an invitation: it proves the mailbox, unlike sign-up alone.

Anyone can sign up with any address. Until it is proven, the address is free for the person who
reads its mail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, exists, not_, or_, select, update

from db.models import User
from domain import clock
from domain.actors import Actor, ActorKind
from domain.audit import record
from domain.errors import Conflict
from domain.identity.email_links import void_links
from domain.identity.sessions import revoke_user_sessions
from domain.identity.users import add_proven_person, lock_person, normalise_email
from domain.permissions import require
from domain.rights import is_role_requested
from domain.validation import checked_name

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from domain.identity.policy import Client


def is_taken(address: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Return whether an address belongs to a person whom no invitation replaces.

    They have proven it, are disabled, have a staff role, or wait for one.
    """
    return exists().where(
        User.email == address,
        or_(
            User.email_verified_at.is_not(None),
            User.disabled_at.is_not(None),
            User.staff_role.is_not(None),
            is_role_requested(User.id),
        ),
    )


def replaces_sign_up(address: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Return whether an invitation replaces who signed up with an address and never proved it."""
    return and_(exists().where(User.email == address), not_(is_taken(address)))


def invitation_actor(client: Client) -> Actor:
    """Return the part of the product that lets in who follows the link of an invitation."""
    return Actor(ActorKind.SYSTEM, None, label="invitation", ip=client.address)


def create_invited_person(
    session: Session, *, email: str, display_name: str, password_hash: str, client: Client
) -> int:
    """Create a person for the address of an invitation, which its mailed link has proven.

    A person who signed up with the address and never proved it is replaced: their password, name,
    mailed links and sessions end, and their memberships stay. Returns the person's id. Raises
    InvalidInput, and Conflict("email_taken") where the address `is_taken`.
    """
    actor = invitation_actor(client)
    require(actor, "create_person")
    address, name = normalise_email(email), checked_name(display_name, "display_name")
    if not lock_person(session, User.email == address):
        made = add_proven_person(
            session,
            email=address,
            display_name=name,
            password_hash=password_hash,
            locale=client.locale,
            actor=actor,
        )
        if made is not None:
            return made
        lock_person(session, User.email == address)  # who signed up in between
    if session.scalars(select(is_taken(address))).one():
        raise Conflict("email_taken")
    user_id = session.execute(
        update(User)
        .where(User.email == address)
        .values(
            display_name=name,
            password_hash=password_hash,
            locale=client.locale,
            email_verified_at=clock.now(session),
        )
        .returning(User.id)
    ).scalar_one()
    void_links(session, user_id)
    revoke_user_sessions(session, user_id)
    record(session, action="verify_email", actor=actor, details={"user_id": user_id})
    return user_id
