"""People: how they sign up, prove who they are, stay signed in, and leave.

Nobody acts before they have signed in, so the first services take no actor but a `Client`: where
the request comes from. None of them tells whether an address is known; the mailbox does.

Services that check a password take a `sessionmaker`: a try is counted and committed before the
slow hash runs, and no connection or lock is held while it runs.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from babel import Locale
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from db.models import AccountInvitation, AccountMember, EmailToken, Site, User, UserSession
from domain import accounts, clock, outbox, passwords, signals, throttling
from domain.actors import Actor, ActorKind, MemberRole, StaffRole, user_actor
from domain.audit import record
from domain.errors import Conflict, InvalidInput, NotAuthorised, NotFound, RateLimited
from domain.permissions import require
from domain.rights import roles_of
from domain.texts import CONTROL, checked_name
from domain.throttling import Counter, Limit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

LONGEST_USER_AGENT = 300
VERIFY_EMAIL = "verify_email"
RESET_PASSWORD = "reset_password"  # noqa: S105 - the purpose of a link, not a password

_TOKEN_BYTES = 32
_SEEN_EVERY = timedelta(minutes=1)
_LIFETIMES = {VERIFY_EMAIL: timedelta(hours=48), RESET_PASSWORD: timedelta(hours=1)}
_GUESSES_PER_PERSON = Limit(5, timedelta(seconds=30), timedelta(minutes=15), timedelta(hours=24))
_GUESSES_OF_PERSON = Limit(40, timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=24))
_GUESSES_PER_ADDRESS = Limit(30, timedelta(seconds=10), timedelta(minutes=15), timedelta(hours=1))
_REQUESTS_PER_ADDRESS = Limit(20, timedelta(seconds=30), timedelta(hours=1), timedelta(hours=6))
_MAILS_PER_PERSON = Limit(3, timedelta(minutes=5), timedelta(hours=6), timedelta(hours=24))
_WIDER_NETWORKS_MORE = 2
"""A network that holds many others has so many times their free guesses."""

_WARNED_EVERY = Limit(1, timedelta(hours=24), timedelta(hours=24), timedelta(hours=24))
_NETWORK_KNOWN_FOR = timedelta(days=90)
_NOT_COUNTRIES = frozenset(
    ("AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ")
)


# ── What the edge passes in and gets back ──────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from: network address, browser, and the language it is answered in."""

    address: str
    user_agent: str = ""
    locale: str = "en"


@dataclass(frozen=True, slots=True)
class Rules:
    """How long sessions live, and how fast guesses are slowed down.

    `key` makes the throttle's digests unreadable. `guesses_per_person` is of one person from one
    network, `guesses_of_person` of one from all networks where they never signed in, and
    `guesses_per_address` of everybody from one network. A session ends after `idle` without a
    click, and after `longest` in any case; staff have times of their own.
    """

    key: bytes = field(repr=False)
    customer_idle: timedelta = timedelta(hours=8)
    customer_longest: timedelta = timedelta(days=7)
    staff_idle: timedelta = timedelta(hours=1)
    staff_longest: timedelta = timedelta(hours=12)
    guesses_per_person: Limit = _GUESSES_PER_PERSON
    guesses_of_person: Limit = _GUESSES_OF_PERSON
    guesses_per_address: Limit = _GUESSES_PER_ADDRESS
    requests_per_address: Limit = _REQUESTS_PER_ADDRESS
    mails_per_person: Limit = _MAILS_PER_PERSON


class SignInOutcome(StrEnum):
    """What came of a try to sign in. All but WRONG are told only to who knows the password."""

    SIGNED_IN = "signed_in"
    WRONG = "wrong"
    UNVERIFIED = "unverified"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class SignIn:
    """The outcome and, where it is SIGNED_IN, the new session's token and how long it may live."""

    outcome: SignInOutcome
    token: str = field(default="", repr=False)
    lifetime: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Visit:
    """A signed-in person as the database has them at this moment.

    `account_id` is the account that this session acts on: the one that was chosen, else the
    first membership, else none. `touch_due`: it is time to call `touch_session`.
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


@dataclass(frozen=True, slots=True)
class SiteChoice:
    """A market where an account can be opened; `country` is None for the rest of the world."""

    code: str
    name: str
    country: str | None
    default_currency: str
    currencies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SignUp:
    """What a person gives to open an account."""

    email: str
    display_name: str
    password: str = field(repr=False)
    account_name: str
    country: str
    currency: str


@dataclass(frozen=True, slots=True)
class _Person:
    id: int
    email: str
    display_name: str
    password_hash: str
    staff_role: StaffRole | None
    locale: str | None
    is_verified: bool
    is_disabled: bool


# ── Names, addresses, countries ────────────────────────────────────────────────────────────────
def normalise_email(email: str) -> str:
    """Return the address as it is stored. Raises InvalidInput("email", "not_an_email")."""
    try:
        checked = validate_email(email.strip(), check_deliverability=False)
    except EmailNotValidError:
        raise InvalidInput("email", "not_an_email") from None
    return checked.normalized.lower()


def _known_form(email: str) -> str | None:
    try:
        return normalise_email(email)
    except InvalidInput:
        return None


def country_codes() -> tuple[str, ...]:
    """Return the codes of the countries that an account can be of, and is billed in.

    Those of ISO 3166, and XK, by which everybody but ISO knows Kosovo.
    """
    return tuple(
        code
        for code in sorted(Locale("en").territories)
        if len(code) == 2 and code.isalpha() and code not in _NOT_COUNTRIES  # noqa: PLR2004
    )


def list_sites(session: Session) -> tuple[SiteChoice, ...]:
    """Return the markets, those of one country first."""
    sites = session.scalars(select(Site).order_by(Site.country.nulls_last(), Site.code))
    return tuple(
        SiteChoice(
            site.code, site.name, site.country, site.default_currency, tuple(site.currencies)
        )
        for site in sites
    )


def site_of(country: str, sites: Sequence[SiteChoice]) -> SiteChoice:
    """Return the country's own market, or the world's. Raises InvalidInput on "country"."""
    if country in country_codes():
        for site in sorted(sites, key=lambda each: each.country is None):
            if site.country in {country, None}:
                return site
    raise InvalidInput("country", "unknown" if country else "empty")


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


# ── Signing up ─────────────────────────────────────────────────────────────────────────────────
def sign_up(
    sessions: sessionmaker[Session], *, form: SignUp, client: Client, rules: Rules
) -> tuple[InvalidInput, ...]:
    """Make a person and an account that they own, and mail them a link.

    Returns everything that is wrong with the form, and then does nothing. An address that is known
    already gets a mail that says so, and the caller cannot tell. Raises RateLimited before
    anything that takes long, and Overloaded.
    """
    with sessions.begin() as session:
        throttling.count_try(
            session, _network_counters(rules, rules.requests_per_address, "sign-up", client)
        )
        sites = list_sites(session)
    faults = sign_up_faults(form, sites)
    if not faults:
        password_hash = passwords.hash_password(form.password)
        with sessions.begin() as session:
            site = site_of(form.country, sites)
            _sign_up(session, form, password_hash, site=site, client=client, rules=rules)
    return faults


def _sign_up(
    session: Session,
    form: SignUp,
    password_hash: str,
    *,
    site: SiteChoice,
    client: Client,
    rules: Rules,
) -> None:
    email = normalise_email(form.email)
    person = _add_user(
        session,
        email=email,
        display_name=checked_name(form.display_name, "display_name"),
        password_hash=password_hash,
        locale=client.locale,
    )
    if person is None:
        _answer_known_address(session, email, client, rules)
        return
    account_id = accounts.open_account(
        session,
        site_code=site.code,
        name=checked_name(form.account_name, "account_name"),
        currency=form.currency,
        country=form.country,
        owner_user_id=person.id,
        actor=_door(client),
    )
    signals.learn_network(session, account_id=account_id, address=client.address)
    signals.learn_email(session, account_id=account_id, email=email)
    _mail_link(session, person, VERIFY_EMAIL, client)
    record(session, action="sign_up", actor=_acting(person, client))


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

    The system and administrators may. Raises NotAuthorised, InvalidInput, and Conflict
    ("email_taken").
    """
    require(actor, "manage_people")
    return create_user_with_hash(
        session,
        email=email,
        display_name=display_name,
        password_hash=hash_new_password(password, email=normalise_email(email)),
        staff_role=staff_role,
        actor=actor,
        locale=locale,
        time_zone=time_zone,
    )


def hash_new_password(password: str, *, email: str) -> str:
    """Return the hash of a password that is good enough: outside any transaction, it takes long.

    Raises InvalidInput on "password", Overloaded.
    """
    passwords.check_password(password, email=email)
    return passwords.hash_password(password)


def create_user_with_hash(
    session: Session,
    *,
    email: str,
    display_name: str,
    password_hash: str,
    staff_role: StaffRole | None,
    actor: Actor,
    locale: str | None = None,
    time_zone: str | None = None,
) -> int:
    """Make a person as `create_user` does, with a hash that was made before."""
    require(actor, "manage_people")
    person = _add_user(
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
        raise Conflict("email_taken")
    details = {"user_id": person.id, "staff_role": staff_role}
    record(session, action="create_user", actor=actor, details=details)
    return person.id


def _add_user(session: Session, *, email: str, **values: Any) -> _Person | None:  # noqa: ANN401
    now = clock.now(session)
    statement = insert(User).values(email=email, created_at=now, **values)
    added = session.execute(
        statement.on_conflict_do_nothing(index_elements=[User.email]).returning(User.id)
    ).scalar_one_or_none()
    return None if added is None else _person(session, User.id == added)


def _answer_known_address(session: Session, email: str, client: Client, rules: Rules) -> None:
    person = _person(session, User.email == email)
    if person is not None and not person.is_disabled and _may_mail(session, person, rules):
        _mail(session, person, "already_signed_up", {}, client)
    record(session, action="repeat_sign_up", actor=_door(client))


# ── Signing in ─────────────────────────────────────────────────────────────────────────────────
def authenticate(
    sessions: sessionmaker[Session], *, email: str, password: str, client: Client, rules: Rules
) -> SignIn:
    """Check who it is, and open a session for them.

    An unknown address takes as long as a wrong password. Who has not confirmed their address
    gets the link again. Raises RateLimited before the password is looked at.
    """
    person = _prove(sessions, email, password, client, rules)
    if person is None:
        return SignIn(SignInOutcome.WRONG)
    is_outdated = passwords.needs_rehash(person.password_hash)
    new_hash = passwords.hash_password(password) if is_outdated else None
    with sessions.begin() as session:
        if person.is_disabled:
            _record_refusal(session, person, client, SignInOutcome.DISABLED)
            return SignIn(SignInOutcome.DISABLED)
        if not person.is_verified:
            if _may_mail(session, person, rules):
                _mail_link(session, person, VERIFY_EMAIL, client)
            _record_refusal(session, person, client, SignInOutcome.UNVERIFIED)
            return SignIn(SignInOutcome.UNVERIFIED)
        if not _still_so(session, person):
            return SignIn(SignInOutcome.WRONG)
        if new_hash is not None:
            _set_password(session, person.id, new_hash)
        return _open_session(session, person, client, rules)


def verify_email(
    sessions: sessionmaker[Session], *, token: str, password: str, client: Client, rules: Rules
) -> SignIn:
    """Use a mailed link, with the password that was chosen at sign-up, and open a session.

    The password is asked for because anyone could have signed up with this address: its owner
    must not confirm somebody else's password. Raises NotFound where the link is used or too
    old, RateLimited.
    """
    with sessions() as session:
        person = _person_of_link(session, token, VERIFY_EMAIL)
    proven = _prove(sessions, person.email, password, client, rules)
    if proven is None or proven.id != person.id:
        return SignIn(SignInOutcome.WRONG)
    with sessions.begin() as session:
        if not _still_so(session, proven):
            return SignIn(SignInOutcome.WRONG)
        _use_link(session, token, VERIFY_EMAIL)
        _mark_verified(session, proven)
        record(session, action="verify_email", actor=_acting(proven, client))
        return _open_session(session, proven, client, rules)


def email_of_link(session: Session, *, token: str, purpose: str) -> str:
    """Return whom a mailed link is for. Raises NotFound where it is used or too old."""
    return _person_of_link(session, token, purpose).email


def _prove(
    sessions: sessionmaker[Session], email: str, password: str, client: Client, rules: Rules
) -> _Person | None:
    """Return the person if this is their password. Raises RateLimited."""
    address = _known_form(email)
    mine, others = _guess_counters(rules, address or email, client)
    with sessions.begin() as session:
        throttling.count_try(session, [mine, *others])
        person = _person(session, User.email == address) if address else None
        everywhere = _guesses_everywhere(session, person, address or email, client, rules)
        refused = _refused_everywhere(session, everywhere, person, client, rules)
        if refused is not None:
            throttling.give_back(session, [mine, *others])
    if refused is not None:
        raise refused
    if not passwords.verify_password(password, person.password_hash if person else None):
        with sessions.begin() as session:
            _record_refusal(session, person, client, SignInOutcome.WRONG)
        return None
    with sessions.begin() as session:
        throttling.forget(session, [mine])
        throttling.give_back(session, [*others, *everywhere])
    return person


def _guesses_everywhere(
    session: Session, person: _Person | None, email: str, client: Client, rules: Rules
) -> list[Counter]:
    """Return the counter of a person's guesses from everywhere, or none from where they are known.

    So whoever guesses from many networks is slowed down, and shuts nobody out at home.
    """
    if person is not None:
        since = clock.now(session) - _NETWORK_KNOWN_FOR
        addresses = session.scalars(
            select(UserSession.address)
            .where(UserSession.user_id == person.id, UserSession.created_at > since)
            .distinct()
        )
        network = signals.network_of(client.address)
        if any(signals.network_of(each) == network for each in addresses):
            return []
    return [throttling.counter(rules.key, rules.guesses_of_person, "guess everywhere", email)]


def _refused_everywhere(
    session: Session,
    everywhere: Sequence[Counter],
    person: _Person | None,
    client: Client,
    rules: Rules,
) -> RateLimited | None:
    """Count the try; return the refusal, of which the person is told by mail, once a day."""
    try:
        with session.begin_nested():
            throttling.count_try(session, everywhere)
    except RateLimited as refusal:
        if person is not None and not person.is_disabled:
            warned = throttling.counter(rules.key, _WARNED_EVERY, "warned", str(person.id))
            if throttling.counts_try(session, [warned]):
                _mail(session, person, "password_guessed", {}, client)
        return refusal
    return None


def _still_so(session: Session, person: _Person) -> bool:
    """Lock the person, and say whether nothing has changed since the password was checked."""
    still = session.execute(
        select(User.id)
        .where(
            User.id == person.id,
            User.password_hash == person.password_hash,
            User.disabled_at.is_(None),
        )
        .with_for_update(key_share=True)
    ).scalar_one_or_none()
    return still is not None


def _record_refusal(
    session: Session, person: _Person | None, client: Client, outcome: SignInOutcome
) -> None:
    details = {"reason": outcome.value, "user_id": person.id if person else None}
    record(session, action="refuse_sign_in", actor=_door(client), details=details)


# ── Sessions ───────────────────────────────────────────────────────────────────────────────────
_SIGNED_IN = """
FROM (SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now) t,
     user_sessions s JOIN users u ON u.id = s.user_id
WHERE s.revoked_at IS NULL AND s.expires_at > t.now AND u.disabled_at IS NULL
  AND s.last_seen_at > t.now - CASE WHEN u.staff_role IS NULL
        THEN CAST(:customer_idle AS interval) ELSE CAST(:staff_idle AS interval) END
"""
_VISIT = text(f"""
SELECT u.id, u.email, u.display_name, u.locale, u.time_zone, u.staff_role, s.account_id,
       s.last_seen_at <= t.now - CAST(:seen_every AS interval) AS touch_due,
       (SELECT json_object_agg(m.account_id, m.role ORDER BY m.account_id)
        FROM account_members m WHERE m.user_id = u.id) AS memberships
{_SIGNED_IN}
  AND s.token_digest = :digest
""")  # noqa: S608 - constant text
_LIVE = text(f"SELECT s.token_digest {_SIGNED_IN} AND s.token_digest = ANY(:digests)")


def session_actor(session: Session, *, token: str, rules: Rules) -> Visit | None:
    """Return who is signed in with this token, with their roles as they are now, or None.

    One query, and no write: see `touch_session`.
    """
    row = session.execute(
        _VISIT,
        {
            "now": clock.given(session),
            "digest": token_digest(token),
            "seen_every": _SEEN_EVERY,
            "customer_idle": rules.customer_idle,
            "staff_idle": rules.staff_idle,
        },
    ).one_or_none()
    if row is None:
        return None
    staff_role, memberships = roles_of(row)
    chosen = row.account_id if row.account_id in memberships else next(iter(memberships), None)
    return Visit(
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
    )


def live_sessions(
    session: Session, *, session_ids: Collection[str], rules: Rules
) -> frozenset[str]:
    """Return those of the sessions (`session_id_of`) with which somebody is signed in now."""
    found = session.scalars(
        _LIVE,
        {
            "now": clock.given(session),
            "digests": [bytes.fromhex(each) for each in session_ids],
            "customer_idle": rules.customer_idle,
            "staff_idle": rules.staff_idle,
        },
    )
    return frozenset(bytes(digest).hex() for digest in found)


def session_id_of(token: str) -> str:
    """Return what names a session without opening it: the digest of its token, in hex."""
    return token_digest(token).hex()


def create_session(session: Session, *, user_id: int, client: Client, rules: Rules) -> SignIn:
    """Open a session for a person who has just proven who they are; return its token.

    The token leaves this function once and is stored nowhere. Raises NotFound where there is
    no such person, or they are disabled.
    """
    person = _person(session, User.id == user_id)
    if person is None or person.is_disabled:
        raise NotFound("user")
    return _open_session(session, person, client, rules)


def touch_session(session: Session, *, session_id: str) -> None:
    """Note that the session's person is here; at most once a minute."""
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


def list_sessions(session: Session, *, actor: Actor, rules: Rules) -> tuple[SessionSummary, ...]:
    """Return the actor's own open sessions, the latest seen first. Raises NotAuthorised."""
    now = clock.now(session)
    idle = rules.staff_idle if actor.is_staff else rules.customer_idle
    rows = session.scalars(
        select(UserSession)
        .where(
            UserSession.user_id == _person_id(actor),
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > now,
            UserSession.last_seen_at > now - idle,
        )
        .order_by(UserSession.last_seen_at.desc(), UserSession.created_at.desc())
    )
    return tuple(
        SessionSummary(
            row.token_digest.hex(), row.created_at, row.last_seen_at, row.address, row.user_agent
        )
        for row in rows
    )


def revoke_session(session: Session, *, session_id: str, actor: Actor) -> None:
    """End one of the actor's own sessions. Raises NotFound where it is not theirs, or ended."""
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
    ended = _revoke(session, _person_id(actor))
    record(session, action="sign_out_everywhere", actor=actor, details={"sessions": ended})
    return ended


def _open_session(session: Session, person: _Person, client: Client, rules: Rules) -> SignIn:
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    now = clock.now(session)
    longest = rules.staff_longest if person.staff_role else rules.customer_longest
    session.add(
        UserSession(
            token_digest=token_digest(token),
            user_id=person.id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + longest,
            address=client.address,
            user_agent=CONTROL.sub("", client.user_agent)[:LONGEST_USER_AGENT],
        )
    )
    session.flush()
    signals.learn_network_of_person(session, user_id=person.id, address=client.address)
    record(session, action="sign_in", actor=_acting(person, client))
    return SignIn(SignInOutcome.SIGNED_IN, token, longest)


def _revoke(session: Session, user_id: int, *, except_session_id: str | None = None) -> int:
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


# ── Passwords ──────────────────────────────────────────────────────────────────────────────────
def change_password(
    sessions: sessionmaker[Session],
    *,
    visit: Visit,
    current_password: str,
    new_password: str,
    client: Client,
    rules: Rules,
) -> bool:
    """Set a new password, and sign the person out everywhere but here.

    Returns False where the current password is wrong. Raises InvalidInput on "new_password",
    RateLimited.
    """
    passwords.check_password(new_password, email=visit.email, field="new_password")
    person = _prove(sessions, visit.email, current_password, client, rules)
    if person is None or person.id != visit.user_id:
        return False
    new_hash = passwords.hash_password(new_password)
    with sessions.begin() as session:
        if not _still_so(session, person):
            return False
        _set_password(session, person.id, new_hash)
        _void_links(session, person.id)
        _revoke(session, person.id, except_session_id=visit.session_id)
        _mail(session, person, "password_changed", {}, client)
        record(session, action="change_password", actor=_acting(person, client))
    return True


def request_password_reset(session: Session, *, email: str, client: Client, rules: Rules) -> None:
    """Mail a link to the address if it is a person's; the caller cannot tell.

    Raises RateLimited where too many requests come from the client's address.
    """
    throttling.count_try(
        session, _network_counters(rules, rules.requests_per_address, "reset", client)
    )
    address = _known_form(email)
    person = _person(session, User.email == address) if address else None
    if person is None or person.is_disabled or not _may_mail(session, person, rules):
        return
    _mail_link(session, person, RESET_PASSWORD, client)
    record(session, action="request_password_reset", actor=_acting(person, client))


def reset_password(
    sessions: sessionmaker[Session], *, token: str, password: str, client: Client
) -> None:
    """Set a new password with a mailed link, and sign the person out everywhere.

    The link came to their mailbox, so it proves the address too. Raises NotFound where the link
    is used or too old, InvalidInput on "password", Overloaded.
    """
    with sessions() as session:
        person = _person_of_link(session, token, RESET_PASSWORD)
    new_hash = hash_new_password(password, email=person.email)
    with sessions.begin() as session:
        _use_link(session, token, RESET_PASSWORD)
        _set_password(session, person.id, new_hash)
        _mark_verified(session, person)
        _void_links(session, person.id)
        _revoke(session, person.id)
        _mail(session, person, "password_changed", {}, client)
        record(session, action="reset_password", actor=_acting(person, client))


def _set_password(session: Session, user_id: int, password_hash: str) -> None:
    session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


def _mark_verified(session: Session, person: _Person) -> None:
    verified_at = func.coalesce(User.email_verified_at, clock.now(session))
    session.execute(update(User).where(User.id == person.id).values(email_verified_at=verified_at))


# ── Mailed links ───────────────────────────────────────────────────────────────────────────────
def _mail_link(session: Session, person: _Person, purpose: str, client: Client) -> None:
    token = secrets.token_urlsafe(_TOKEN_BYTES)
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
    _mail(session, person, purpose, {"token": token, "hours": hours}, client)


# No mail says a person's name: whoever signs up chooses it, and would choose an advertisement.
def _mail(
    session: Session, person: _Person, template: str, parameters: Mapping[str, Any], client: Client
) -> None:
    outbox.enqueue(
        session,
        recipient=person.email,
        template=template,
        parameters=parameters,
        locale=person.locale or client.locale,
    )


def _may_mail(session: Session, person: _Person, rules: Rules) -> bool:
    counter = throttling.counter(rules.key, rules.mails_per_person, "mail", str(person.id))
    return throttling.counts_try(session, [counter])


def _person_of_link(session: Session, token: str, purpose: str) -> _Person:
    user_id = (
        select(EmailToken.user_id).where(_open_link(session, token, purpose)).scalar_subquery()
    )
    person = _person(session, User.id == user_id)
    if person is None or person.is_disabled:
        raise NotFound("email_link")
    return person


def _use_link(session: Session, token: str, purpose: str) -> None:
    used = session.execute(
        update(EmailToken)
        .where(_open_link(session, token, purpose))
        .values(used_at=clock.now(session))
        .returning(EmailToken.user_id)
    ).scalar_one_or_none()
    if used is None:
        raise NotFound("email_link")


def _void_links(session: Session, user_id: int) -> None:
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


# ── Who and where ──────────────────────────────────────────────────────────────────────────────
def _person(session: Session, which: ColumnElement[bool]) -> _Person | None:
    user = session.scalars(
        select(User).where(which).execution_options(populate_existing=True)
    ).one_or_none()
    if user is None:
        return None
    return _Person(
        id=user.id,
        email=user.email,
        display_name=user.display_name,
        password_hash=user.password_hash,
        staff_role=StaffRole(user.staff_role) if user.staff_role else None,
        locale=user.locale,
        is_verified=user.email_verified_at is not None,
        is_disabled=user.disabled_at is not None,
    )


def _person_id(actor: Actor) -> int:
    if actor.user_id is None:
        raise NotAuthorised
    return actor.user_id


def _own_session(session_id: str, actor: Actor) -> ColumnElement[bool]:
    try:
        digest = bytes.fromhex(session_id)
    except ValueError:
        raise NotFound("session") from None
    return and_(
        UserSession.token_digest == digest,
        UserSession.user_id == _person_id(actor),
        UserSession.revoked_at.is_(None),
    )


def _acting(person: _Person, client: Client) -> Actor:
    return user_actor(person.id, ip=client.address)


def _door(client: Client) -> Actor:
    """Stand for whoever is outside: the part of the product that lets people in."""
    return Actor(ActorKind.SYSTEM, None, label="sign-in", ip=client.address)


def _guess_counters(rules: Rules, email: str, client: Client) -> tuple[Counter, list[Counter]]:
    """Return the counter of one person's guesses from here, and those of everybody's."""
    network = signals.network_of(client.address)
    return (
        throttling.counter(rules.key, rules.guesses_per_person, "guess", email, network),
        _network_counters(rules, rules.guesses_per_address, "guess", client),
    )


def _network_counters(rules: Rules, limit: Limit, purpose: str, client: Client) -> list[Counter]:
    return [
        throttling.counter(
            rules.key,
            replace(limit, free=limit.free * _WIDER_NETWORKS_MORE**wider),
            purpose,
            network,
        )
        for wider, network in enumerate(signals.networks_of(client.address))
    ]


def token_digest(token: str) -> bytes:
    """Return what is kept of a token that opens something: nobody gets the token back from it."""
    return hashlib.sha256(token.encode()).digest()


# ── Housekeeping ───────────────────────────────────────────────────────────────────────────────
def purge_identity(session: Session, *, actor: Actor) -> int:
    """Delete counters, links, invitations and sessions that ended long ago; return how many rows.

    From where accounts were used goes too, after ninety days.

    For the job runner and administrators. Raises NotAuthorised.
    """
    require(actor, "purge_identity")
    now = clock.now(session)
    links = session.execute(
        delete(EmailToken)
        .where(EmailToken.expires_at < now - timedelta(days=7))
        .returning(EmailToken.user_id)
    ).all()
    ended = session.execute(
        delete(UserSession)
        .where(
            or_(
                UserSession.expires_at < now - timedelta(days=30),
                UserSession.revoked_at < now - timedelta(days=30),
            )
        )
        .returning(UserSession.user_id)
    ).all()
    ended_at = func.coalesce(
        AccountInvitation.accepted_at, AccountInvitation.withdrawn_at, AccountInvitation.expires_at
    )
    invitations = session.execute(
        delete(AccountInvitation)
        .where(ended_at < now - timedelta(days=90))
        .returning(AccountInvitation.id)
    ).all()
    counters = throttling.purge(session, before=now - timedelta(days=2))
    networks = signals.forget_networks(session, before=now - timedelta(days=90))
    return len(links) + len(ended) + len(invitations) + counters + networks
