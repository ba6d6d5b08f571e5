"""The people who sign in: creation, lookup and mail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert

from db.models import User
from domain import clock, outbox
from domain.actors import Actor, ActorKind, StaffRole, user_actor
from domain.audit import record
from domain.errors import Conflict, InvalidInput, NotAuthorised
from domain.permissions import require
from domain.security import passwords, rate_limits
from domain.validation import checked_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from domain.identity.policy import AuthPolicy, Client


_MAX_EMAIL_TYPED_LENGTH = 4 * 254
"""No address is longer, with each letter of it typed as a letter and its accents."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person as one transaction has read them."""

    id: int
    email: str
    display_name: str
    password_hash: str
    staff_role: StaffRole | None
    locale: str | None
    is_verified: bool
    is_disabled: bool


def normalise_email(email: str) -> str:
    """Return the address as it is stored. Raises InvalidInput("email", "not_an_email")."""
    typed = email.strip()
    if len(typed) > _MAX_EMAIL_TYPED_LENGTH:
        raise InvalidInput("email", "not_an_email")
    try:
        checked = validate_email(typed, check_deliverability=False)
    except EmailNotValidError:
        raise InvalidInput("email", "not_an_email") from None
    return checked.normalized.lower()


def known_form(email: str) -> str | None:
    """Return the address in its stored form, or None where it is invalid."""
    try:
        return normalise_email(email)
    except InvalidInput:
        return None


def create_user(
    session: Session,
    *,
    email: str,
    display_name: str,
    password: str,
    staff_role: StaffRole | None,
    actor: Actor,
    locale: str | None = None,
    time_zone: str | None = None,
) -> int:
    """Make a person whose address needs no proof; return their id.

    The system may. Raises NotAuthorised, InvalidInput, and Conflict
    ("email_taken").
    """
    require(actor, "create_person")
    user_id = add_proven_person(
        session,
        email=email,
        display_name=display_name,
        password_hash=hash_new_password(password, email=normalise_email(email)),
        staff_role=staff_role,
        actor=actor,
        locale=locale,
        time_zone=time_zone,
    )
    if user_id is None:
        raise Conflict("email_taken")
    return user_id


def hash_new_password(password: str, *, email: str) -> str:
    """Return the hash of an acceptable password; slow, so call it outside any transaction.

    Raises InvalidInput on "password", Overloaded.
    """
    passwords.check_password(password, email=email)
    return passwords.hash_password(password)


def add_proven_person(
    session: Session,
    *,
    email: str,
    display_name: str,
    password_hash: str,
    actor: Actor,
    staff_role: StaffRole | None = None,
    locale: str | None = None,
    time_zone: str | None = None,
) -> int | None:
    """Add a person whose address needs no proof; return their id, or None where it is taken.

    Raises InvalidInput.
    """
    person = add_user(
        session,
        email=normalise_email(email),
        display_name=checked_name(display_name, "display_name"),
        password_hash=password_hash,
        staff_role=staff_role,
        locale=locale,
        time_zone=time_zone,
        email_verified_at=clock.now(session),
    )
    if person is None:
        return None
    details = {"user_id": person.id, "staff_role": staff_role}
    record(session, action="create_user", actor=actor, details=details)
    return person.id


def add_user(session: Session, *, email: str, **values: Any) -> Person | None:  # noqa: ANN401
    """Add a person; return them, or None where the address is taken."""
    now = clock.now(session)
    statement = insert(User).values(email=email, created_at=now, **values)
    added = session.execute(
        statement.on_conflict_do_nothing(index_elements=[User.email]).returning(User.id)
    ).scalar_one_or_none()
    return None if added is None else load_person(session, User.id == added)


def load_person(session: Session, which: ColumnElement[bool]) -> Person | None:
    """Return the one person that the condition holds for, as the database has them now."""
    user = session.scalars(
        select(User).where(which).execution_options(populate_existing=True)
    ).one_or_none()
    if user is None:
        return None
    return Person(
        id=user.id,
        email=user.email,
        display_name=user.display_name,
        password_hash=user.password_hash,
        staff_role=StaffRole(user.staff_role) if user.staff_role else None,
        locale=user.locale,
        is_verified=user.email_verified_at is not None,
        is_disabled=user.disabled_at is not None,
    )


def lock_person(session: Session, which: ColumnElement[bool]) -> bool:
    """Wait for others who change or sign in a person, and have them wait until the commit.

    Returns whether there is a person that the condition holds for.
    """
    found = session.execute(select(User.id).where(which).with_for_update(key_share=True))
    return found.scalar_one_or_none() is not None


def require_person_id(actor: Actor) -> int:
    """Return who the actor is. Raises NotAuthorised where it is no person."""
    if actor.user_id is None:
        raise NotAuthorised
    return actor.user_id


def set_password(session: Session, user_id: int, password_hash: str) -> None:
    """Replace the hash of a person's password."""
    session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


def mark_verified(session: Session, person: Person) -> None:
    """Note that the address is proven to be the person's."""
    verified_at = func.coalesce(User.email_verified_at, clock.now(session))
    session.execute(update(User).where(User.id == person.id).values(email_verified_at=verified_at))


def actor_for(person: Person, client: Client) -> Actor:
    """Return the person as the actor of audit log entries, without rights."""
    return user_actor(person.id, ip=client.address)


def outside_actor(client: Client) -> Actor:
    """Return the actor for requests of people who are not signed in."""
    return Actor(ActorKind.SYSTEM, None, label="sign-in", ip=client.address)


# No mail contains a person's name: it is chosen at sign-up, and could be an advertisement.
def mail_person(
    session: Session, person: Person, template: str, parameters: Mapping[str, Any], client: Client
) -> None:
    """Have a mail sent to the person, in their language."""
    outbox.enqueue(
        session,
        recipient=person.email,
        template=template,
        parameters=parameters,
        locale=person.locale or client.locale,
    )


def may_mail(session: Session, person: Person, policy: AuthPolicy, kind: str) -> bool:
    """Count a mail to the person; False where they have had enough of the kind.

    Each kind by itself: anyone can cause some of them, which would otherwise block the others.
    """
    counter = rate_limits.counter(policy.key, policy.mails_per_person, "mail", kind, str(person.id))
    return rate_limits.try_attempt(session, [counter])
