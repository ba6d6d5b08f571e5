"""Outcomes of a sign-in attempt, and the factors that a person has proven."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum


class Factor(StrEnum):
    """The strongest thing that a session was signed in to with; all but PASSWORD are second."""

    PASSWORD = "password"  # noqa: S105 - a kind of proof, not a password
    AUTHENTICATOR = "authenticator"
    PASSKEY = "passkey"
    RECOVERY_CODE = "recovery_code"


class SignInOutcome(StrEnum):
    """The outcome of a sign-in attempt. All but WRONG are reported only after a right password."""

    SIGNED_IN = "signed_in"
    SECOND_FACTOR = "second_factor"
    SET_UP_FACTOR = "set_up_factor"
    WRONG = "wrong"
    UNVERIFIED = "unverified"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class SignIn:
    """The outcome, and the token that was created with its longest lifetime.

    That is a session where the outcome is SIGNED_IN, and a pending sign-in where it is
    SECOND_FACTOR or SET_UP_FACTOR.
    """

    outcome: SignInOutcome
    token: str = field(default="", repr=False)
    lifetime: timedelta = timedelta(0)
