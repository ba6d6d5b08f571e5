"""Signing up: a person and the account that they own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from db.models import User
from domain import accounts, fraud_signals
from domain.audit import record
from domain.errors import InvalidInput
from domain.identity.email_links import VERIFY_EMAIL, mail_link
from domain.identity.guesses import network_counters
from domain.identity.sites import SiteChoice, list_sites, site_of
from domain.identity.users import (
    actor_for,
    add_user,
    load_person,
    mail_person,
    may_mail,
    normalise_email,
    outside_actor,
)
from domain.security import passwords, rate_limits
from domain.validation import checked_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from domain.identity.policy import AuthPolicy, Client


@dataclass(frozen=True, slots=True)
class SignUp:
    """The details that a person enters to open an account."""

    email: str
    display_name: str
    password: str = field(repr=False)
    account_name: str
    country: str
    currency: str


def sign_up_faults(form: SignUp, sites: Sequence[SiteChoice]) -> tuple[InvalidInput, ...]:
    """Return everything that is wrong with the form, one fault a field, in the form's order."""
    return tuple(_sign_up_faults(form, sites))


def _sign_up_faults(form: SignUp, sites: Sequence[SiteChoice]) -> Iterator[InvalidInput]:
    checks = (
        lambda: normalise_email(form.email),
        lambda: checked_name(form.display_name, "display_name"),
        lambda: passwords.check_password(form.password, email=form.email.strip()),
        lambda: checked_name(form.account_name, "account_name"),
        lambda: _checked_currency(form, sites),
    )
    for check in checks:
        try:
            check()
        except InvalidInput as fault:
            yield fault


def _checked_currency(form: SignUp, sites: Sequence[SiteChoice]) -> SiteChoice:
    site = site_of(form.country, sites)
    if form.currency not in site.currencies:
        raise InvalidInput("currency", "not_at_site", currencies=", ".join(site.currencies))
    return site


def sign_up(
    sessions: sessionmaker[Session], *, form: SignUp, client: Client, policy: AuthPolicy
) -> tuple[InvalidInput, ...]:
    """Create a person and an account that they own, and mail them a link.

    If the form has errors, returns all of them and does nothing. An address that is already
    registered gets a mail that says so, which the caller cannot detect. Raises RateLimited before
    anything that takes long, and Overloaded.
    """
    with sessions.begin() as session:
        rate_limits.record_attempt(
            session, network_counters(policy, policy.requests_per_address, "sign-up", client)
        )
        sites = list_sites(session)
    faults = sign_up_faults(form, sites)
    if not faults:
        password_hash = passwords.hash_password(form.password)
        with sessions.begin() as session:
            site = site_of(form.country, sites)
            _sign_up(session, form, password_hash, site=site, client=client, policy=policy)
    return faults


def _sign_up(
    session: Session,
    form: SignUp,
    password_hash: str,
    *,
    site: SiteChoice,
    client: Client,
    policy: AuthPolicy,
) -> None:
    email = normalise_email(form.email)
    person = add_user(
        session,
        email=email,
        display_name=checked_name(form.display_name, "display_name"),
        password_hash=password_hash,
        locale=client.locale,
    )
    if person is None:
        _answer_known_address(session, email, client, policy)
        return
    account_id = accounts.open_account(
        session,
        site_code=site.code,
        name=checked_name(form.account_name, "account_name"),
        currency=form.currency,
        country=form.country,
        owner_user_id=person.id,
        actor=outside_actor(client),
    )
    fraud_signals.record_network(session, account_id=account_id, address=client.address)
    fraud_signals.record_email(session, account_id=account_id, email=email)
    mail_link(session, person, VERIFY_EMAIL, client)
    record(session, action="sign_up", actor=actor_for(person, client))


def _answer_known_address(session: Session, email: str, client: Client, policy: AuthPolicy) -> None:
    person = load_person(session, User.email == email)
    if (
        person is not None
        and not person.is_disabled
        and may_mail(session, person, policy, "already_signed_up")
    ):
        mail_person(session, person, "already_signed_up", {}, client)
    record(session, action="repeat_sign_up", actor=outside_actor(client))
