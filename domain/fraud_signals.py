"""Signals that link accounts: checks that advise staff, and stop campaigns that require them.

A signal is a card, a tax code, an address, an email or a part of the network that an account was
seen with. It is stored as a keyed digest, beside a description that staff may see; nothing is
stored in clear. Signals stay when their source changes: an account that once had the same card
stays linked.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from domain import clock
from domain.permissions import require
from domain.security.digests import keyed_digest
from domain.validation import normalised

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session

    from domain.actors import Actor
    from domain.gateways.interface import Instrument

INSTRUMENT, TAX_CODE, NETWORK = "instrument", "tax_code", "network_address"
EMAIL, ADDRESS = "email", "address"

MANY_ACCOUNTS = 5
"""So many accounts from one place are no household: a family or a small office has fewer."""

MANY_WITHIN_DAYS = 7
"""Whoever opens accounts to collect credit does so in a row; a school or a firm takes longer."""

_MAX_SHOWN = 50
_SHOWN_OF_TAX_CODE = 3
_MAX_WORDS_LENGTH = 500
"""More than the longest address with its city."""
_DOTS_MEAN_NOTHING = {"gmail.com": "gmail.com", "googlemail.com": "gmail.com"}
"""Domains at which dots in an address are left out, and the one that both names lead to."""

_LEARN = text("""
INSERT INTO account_signals (kind, digest, account_id, shown, first_seen_at)
VALUES (:kind, :digest, :account_id, :shown, :now)
ON CONFLICT (kind, digest, account_id) DO NOTHING
""")
_ACCOUNTS_OF = text("""
SELECT account_id FROM account_members WHERE user_id = :user_id ORDER BY account_id
""")
_SHARED = text("""
SELECT mine.kind, mine.digest, mine.shown, other.account_id, a.name,
       greatest(mine.first_seen_at, other.first_seen_at)
FROM account_signals mine
CROSS JOIN LATERAL (
  SELECT o.account_id, o.first_seen_at FROM account_signals o
  WHERE o.kind = mine.kind AND o.digest = mine.digest AND o.account_id <> mine.account_id
  ORDER BY o.account_id LIMIT :limit
) other
JOIN accounts a ON a.id = other.account_id
WHERE mine.account_id = :account_id AND mine.kind <> 'network_address'
ORDER BY mine.kind, mine.first_seen_at, mine.digest, other.account_id
""")
# Every week that begins with one of the accounts and has this one in it is looked at. They all
# overlap, so that what lies between the first and the last of them is what they have in them.
_MANY = text("""
WITH near AS (
  SELECT mine.digest, mine.shown, o.account_id, o.first_seen_at, a.name, a.created_at,
         me.created_at AS my_start,
         count(*) OVER (
           PARTITION BY mine.digest ORDER BY a.created_at
           RANGE BETWEEN CURRENT ROW AND CAST(:span AS interval) FOLLOWING
         ) AS following
  FROM account_signals mine
  JOIN accounts me ON me.id = mine.account_id
  JOIN account_signals o ON o.kind = mine.kind AND o.digest = mine.digest
  JOIN accounts a ON a.id = o.account_id
    AND a.created_at BETWEEN me.created_at - CAST(:span AS interval)
                         AND me.created_at + CAST(:span AS interval)
  WHERE mine.account_id = :account_id AND mine.kind = 'network_address'
), rows AS (
  SELECT digest, min(created_at) AS first_at, max(created_at) + CAST(:span AS interval) AS last_at
  FROM near WHERE following >= :many AND created_at <= my_start
  GROUP BY digest
)
SELECT n.digest, n.shown, n.account_id, n.name, n.first_seen_at
FROM near n
JOIN rows r ON r.digest = n.digest AND n.created_at BETWEEN r.first_at AND r.last_at
WHERE n.account_id <> :account_id
ORDER BY n.digest, n.account_id
LIMIT :limit
""")
_FORGET_NETWORKS = text("""
DELETE FROM account_signals WHERE kind = 'network_address' AND first_seen_at < :before
RETURNING account_id
""")
# An account is not held up by later ones: anyone can type its tax code.
_IS_SUSPECT = text("""
SELECT EXISTS (
  SELECT FROM account_signals mine
  JOIN account_signals other
    ON other.kind = mine.kind AND other.digest = mine.digest AND other.account_id <> mine.account_id
  WHERE mine.account_id = :account_id AND mine.kind <> 'network_address'
    AND (other.account_id < mine.account_id OR EXISTS (
      SELECT FROM voucher_redemptions r
      WHERE r.account_id = other.account_id AND r.campaign_id = :campaign_id))
) OR EXISTS (
  SELECT FROM account_signals mine
  JOIN accounts me ON me.id = mine.account_id
  JOIN account_signals other ON other.kind = mine.kind AND other.digest = mine.digest
  JOIN accounts a ON a.id = other.account_id AND a.id <= me.id
    AND a.created_at >= me.created_at - CAST(:span AS interval)
  WHERE mine.account_id = :account_id AND mine.kind = 'network_address'
  GROUP BY mine.digest HAVING count(*) >= :many
)
""")


@dataclass(frozen=True, slots=True)
class SharedBy:
    """Another account with the same signal, and since when both had it."""

    account_id: int
    name: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason why staff should review an account: what it shares, and with which accounts.

    `kind` is instrument, tax_code, email or address; or network_address, where many new accounts
    were opened from one. `accounts` are the first fifty. `since` is when the first of them shared
    it.
    """

    kind: str
    shown: str
    accounts: tuple[SharedBy, ...]

    @property
    def since(self) -> datetime:
        """Since when it is shared."""
        return min(each.since for each in self.accounts)


# ── Learning ──────────────────────────────────────────────────────────────────────────────────
def record_instrument(
    session: Session, *, account_id: int, gateway: str, instrument: Instrument | None
) -> bytes | None:
    """Record the instrument that an account paid with; return its digest, or None without one."""
    if instrument is None:
        return None
    return _learn(
        session, INSTRUMENT, (account_id,), (gateway, instrument.identity), instrument.shown
    )


def record_profile(
    session: Session,
    *,
    account_id: int,
    email: str,
    address: str,
    city: str | None,
    country: str,
    tax_code: str | None,
) -> None:
    """Record the parts of a billing profile that another account's may share."""
    record_email(session, account_id=account_id, email=email)
    place = _plain_letters(f"{address} {city or ''}")
    # Without a number it names a town at most, and a town links no accounts.
    if any(each.isdigit() for each in place):
        shown = ", ".join(filter(None, ("…", city, country)))
        _learn(session, ADDRESS, (account_id,), (country, place), shown)
    if tax_code:
        code = _plain_letters(tax_code)
        shown = f"…{code[-_SHOWN_OF_TAX_CODE:]}".upper()
        _learn(session, TAX_CODE, (account_id,), (country, code), shown)


def record_email(session: Session, *, account_id: int, email: str) -> None:
    """Record an email address, whichever of its aliases was entered."""
    local, _at, domain = email.partition("@")
    _learn(session, EMAIL, (account_id,), (main_address(email),), f"{local[:1]}…@{domain}")


def record_network(session: Session, *, account_id: int, address: str) -> None:
    """Write down from where an account was opened or used."""
    _record_network(session, (account_id,), address)


def record_network_of_person(session: Session, *, user_id: int, address: str) -> None:
    """Write down from where a person signed in, for each account that they belong to."""
    _record_network(session, session.scalars(_ACCOUNTS_OF, {"user_id": user_id}).all(), address)


def _record_network(session: Session, accounts: Iterable[int], address: str) -> None:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return
    # This computer itself: all clients, where a proxy hides their addresses.
    if not found.is_loopback:
        network = network_of(address)
        _learn(session, NETWORK, accounts, (network,), _hidden_network(network))


def _learn(
    session: Session, kind: str, accounts: Iterable[int], parts: tuple[str, ...], shown: str
) -> bytes | None:
    digest = keyed_digest(session, kind, *parts)
    if digest is None:
        return None
    row = {"kind": kind, "digest": digest, "shown": shown, "now": clock.now(session)}
    rows = [{**row, "account_id": account_id} for account_id in accounts]
    if rows:
        session.execute(_LEARN, rows)
    return digest


def forget_networks(session: Session, *, before: datetime) -> int:
    """Delete the networks that accounts used before a moment; return the number of signals.

    Such addresses are reassigned, and only series of new accounts are detected by them.
    """
    return len(session.execute(_FORGET_NETWORKS, {"before": before}).all())


# ── Normal forms ──────────────────────────────────────────────────────────────────────────────────
def main_address(email: str) -> str:
    """Return the mailbox that an address delivers to, without its aliases.

    What follows a plus is an alias at almost every provider; dots are left out where the provider
    leaves them out.
    """
    local, _at, domain = email.strip().lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _DOTS_MEAN_NOTHING:
        local, domain = local.replace(".", ""), _DOTS_MEAN_NOTHING[domain]
    return f"{local}@{domain}"


def network_of(address: str) -> str:
    """Return the network of one household or server: an IPv6 /64, or the IPv4 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def networks_of(address: str) -> tuple[str, ...]:
    """Return the networks that an address is of, the smallest first.

    Of IPv6 one customer of a provider often has a /56 or a /48, and a /64 for each of their rooms.
    """
    smallest = network_of(address)
    if not smallest.endswith("/64"):
        return (smallest,)
    network = ipaddress.ip_network(smallest)
    return (smallest, *(str(network.supernet(new_prefix=length)) for length in (56, 48)))


def _hidden_network(network: str) -> str:
    if ":" in network:
        return f"{network.removesuffix('::/64')}:…"
    return f"{network.rpartition('.')[0]}.…"


def _plain_letters(words: str) -> str:
    """Return letters and digits alone, without accents, as people type them in a hurry."""
    kept: list[str] = []
    for each in normalised(words, "NFKD", longest=_MAX_WORDS_LENGTH).casefold().replace("đ", "d"):
        is_mark = unicodedata.category(each).startswith("M")
        # A mark on a Latin letter is left out; in other scripts it makes another letter.
        if each.isalnum() or (is_mark and kept and not kept[-1].isascii()):
            kept.append(each)
    return "".join(kept)


# ── Asking ────────────────────────────────────────────────────────────────────────────────────
def reasons_of(session: Session, *, account_id: int, actor: Actor) -> tuple[Reason, ...]:
    """Return what an account has in common with others, for staff. Raises NotAuthorised."""
    require(actor, "see_ties")
    asked = {"account_id": account_id, "limit": _MAX_SHOWN}
    span = {"span": f"{MANY_WITHIN_DAYS} days", "many": MANY_ACCOUNTS}
    found: dict[tuple[str, bytes, str], list[SharedBy]] = {}
    for kind, digest, shown, other, name, since in session.execute(_SHARED, asked):
        found.setdefault((kind, bytes(digest), shown), []).append(SharedBy(other, name, since))
    for digest, shown, other, name, since in session.execute(_MANY, {**asked, **span}):
        found.setdefault((NETWORK, bytes(digest), shown), []).append(SharedBy(other, name, since))
    return tuple(Reason(kind, shown, tuple(by)) for (kind, _digest, shown), by in found.items())


def is_linked_to_prior_account(session: Session, *, account_id: int, campaign_id: int) -> bool:
    """Return whether an account is linked to an earlier one, for a campaign that excludes those.

    It shares something with an account that was opened before it or redeemed from the campaign, or
    is one of many new ones from one place, and not the first of them. The caller holds the
    campaign's lock, so that two accounts of one person cannot both be checked at once.
    """
    asked = {
        "account_id": account_id,
        "campaign_id": campaign_id,
        "span": f"{MANY_WITHIN_DAYS} days",
        "many": MANY_ACCOUNTS,
    }
    suspect: bool = session.execute(_IS_SUSPECT, asked).scalar_one()
    return suspect
