"""Clients, lifetimes of sessions, and throttling of guesses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from domain.security.rate_limits import Limit

if TYPE_CHECKING:
    from domain.actors import StaffRole

_GUESSES_PER_PERSON = Limit(5, timedelta(seconds=30), timedelta(minutes=15), timedelta(hours=24))
_GUESSES_OF_PERSON = Limit(40, timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=24))
_GUESSES_PER_ADDRESS = Limit(30, timedelta(seconds=10), timedelta(minutes=15), timedelta(hours=1))
_REQUESTS_PER_ADDRESS = Limit(20, timedelta(seconds=30), timedelta(hours=1), timedelta(hours=6))
_MAILS_PER_PERSON = Limit(3, timedelta(minutes=5), timedelta(hours=6), timedelta(hours=24))


@dataclass(frozen=True, slots=True)
class Client:
    """The origin of a request: network address, browser, and the language of the answer."""

    address: str
    user_agent: str = ""
    locale: str = "en"


@dataclass(frozen=True, slots=True)
class AuthPolicy:
    """Lifetimes of sessions, and limits of guesses.

    `key` makes the throttle's digests unreadable. `guesses_per_person` is of one person from one
    network, `guesses_of_person` of one from all networks where they never signed in, and
    `guesses_per_address` of all persons from one network. A session ends after `idle` without a
    click, and after `longest` in any case; staff have times of their own. Staff of
    `second_factor_roles` sign in with a second factor, and not without.
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
    second_factor_roles: frozenset[StaffRole] = frozenset()
