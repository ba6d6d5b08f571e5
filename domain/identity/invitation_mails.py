"""Shared parts of invitations: the lifetime of a link, limits on mails, and the mail itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from db.models import User
from domain import outbox
from domain.security import rate_limits
from domain.security.rate_limits import Limit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.identity import AuthPolicy

INVITATION_LIFETIME = timedelta(days=7)
_INVITATIONS_PER_SENDER = Limit(30, timedelta(minutes=1), timedelta(hours=1), timedelta(hours=12))


def count_mail(
    session: Session, policy: AuthPolicy, kind: str, *, senders: Iterable[str], address: str
) -> None:
    """Count an invitation mail, against abuse for mailing strangers. Raises RateLimited.

    `senders` are the counted parties: the account's id and the actor's name. An address is counted
    over invitations of one kind by all senders: invitations to accounts do not delay those of
    staff.
    """
    rate_limits.record_attempt(
        session,
        [
            *(
                rate_limits.counter(policy.key, _INVITATIONS_PER_SENDER, "invite", kind, sender)
                for sender in senders
            ),
            rate_limits.counter(policy.key, policy.mails_per_person, "invited", kind, address),
        ],
    )


# The mail names the inviter's address, which was proven; names of people and accounts are chosen
# freely, and could be abused for advertisements.
def mail_link(
    session: Session,
    *,
    template: str,
    address: str,
    token: str,
    actor: Actor,
    locale: str,
    **parameters: str,
) -> None:
    """Mail the link of an invitation, in the person's language where they have proven the address.

    Who has only signed up with it may be a stranger, whose language it is not.
    """
    inviter = None
    if actor.user_id is not None:
        inviter = session.scalar(select(User.email).where(User.id == actor.user_id))
    known_locale = session.scalar(
        select(User.locale).where(User.email == address, User.email_verified_at.is_not(None))
    )
    outbox.enqueue(
        session,
        recipient=address,
        template=template,
        parameters={
            "token": token,
            "days": INVITATION_LIFETIME.days,
            "inviter": inviter,
            **parameters,
        },
        locale=known_locale or locale,
    )
