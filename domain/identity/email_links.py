"""Links that are mailed: each proves a mailbox, once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, select, update

from db.models import EmailToken, User
from domain import clock
from domain.errors import NotFound
from domain.identity.tokens import new_token, token_digest
from domain.identity.users import Person, load_person, mail_person

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.identity.policy import Client

VERIFY_EMAIL = "verify_email"
RESET_PASSWORD = "reset_password"  # noqa: S105 - the purpose of a link, not a password
_LIFETIMES = {VERIFY_EMAIL: timedelta(hours=48), RESET_PASSWORD: timedelta(hours=1)}


def email_of_link(session: Session, *, token: str, purpose: str) -> str:
    """Return the address of a mailed link. Raises NotFound where it is used or expired."""
    return person_of_link(session, token, purpose).email


def mail_link(session: Session, person: Person, purpose: str, client: Client) -> None:
    """Mail the person a new link for a purpose."""
    token = new_token()
    now = clock.now(session)
    lifetime = _LIFETIMES[purpose]
    session.add(
        EmailToken(
            token_digest=token_digest(token),
            user_id=person.id,
            purpose=purpose,
            created_at=now,
            expires_at=now + lifetime,
        )
    )
    hours = lifetime // timedelta(hours=1)
    mail_person(session, person, purpose, {"token": token, "hours": hours}, client)


def person_of_link(session: Session, token: str, purpose: str) -> Person:
    """Return the person of a link. Raises NotFound where it is used, expired or void."""
    user_id = (
        select(EmailToken.user_id).where(_open_link(session, token, purpose)).scalar_subquery()
    )
    person = load_person(session, User.id == user_id)
    if person is None or person.is_disabled:
        raise NotFound("email_link")
    return person


def use_link(session: Session, token: str, purpose: str) -> None:
    """Mark the link as used. Raises NotFound where it was used before, or has expired."""
    used = session.execute(
        update(EmailToken)
        .where(_open_link(session, token, purpose))
        .values(used_at=clock.now(session))
        .returning(EmailToken.user_id)
    ).scalar_one_or_none()
    if used is None:
        raise NotFound("email_link")


def void_links(session: Session, user_id: int) -> None:
    """Make all open links of a person useless."""
    session.execute(
        update(EmailToken)
        .where(EmailToken.user_id == user_id, EmailToken.used_at.is_(None))
        .values(used_at=clock.now(session))
    )


def _open_link(session: Session, token: str, purpose: str) -> ColumnElement[bool]:
    return and_(
        EmailToken.token_digest == token_digest(token),
        EmailToken.purpose == purpose,
        EmailToken.used_at.is_(None),
        EmailToken.expires_at > clock.now(session),
    )
