"""Every refusal of the domain, typed, with a stable code for pages and HTTP answers.

A class's docstring is its default message, for logs. The text that people read is created at the
edge, in their language, from the code and the attributes.
"""

# ruff: noqa: N818 - a name that says what is wrong needs no "Error" after it.

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import date, datetime


class BillingError(Exception):
    """The request cannot be carried out."""

    code: ClassVar[str] = "billing_error"

    @property
    def message(self) -> str:
        """The class's one-line description."""
        return (type(self).__doc__ or "").strip()

    def __str__(self) -> str:
        """Return the description and the attributes, for logs."""
        details = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{self.message} ({details})" if details else self.message


class InvalidInput(BillingError):
    """A value that was given is not usable."""

    code = "invalid_input"

    def __init__(self, field: str, reason: str, **values: str | int) -> None:
        """Take the field, the reason as a stable slug, and what a message may need besides."""
        super().__init__(field, reason)
        self.field = field
        self.reason = reason
        self.values = values


class AmountOutOfRange(BillingError):
    """The amount is larger than the ledger can hold."""

    code = "amount_out_of_range"


class NotFound(BillingError):
    """There is no such thing, or not for this actor."""

    code = "not_found"

    def __init__(self, kind: str) -> None:
        """Take the kind of thing only: an id would reveal that it was looked up."""
        super().__init__(kind)
        self.kind = kind


class NotAuthorised(BillingError):
    """The actor's role does not allow this."""

    code = "not_authorised"


class Overloaded(BillingError):
    """More is asked for at this moment than can be done soon."""

    code = "overloaded"

    def __init__(self, retry_after_seconds: int) -> None:
        """Take the time after which a retry is worthwhile."""
        super().__init__(retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds


class Conflict(BillingError):
    """Something changed, or exists already, so that this is no longer possible."""

    code = "conflict"

    def __init__(self, reason: str) -> None:
        """Give the reason as a stable slug."""
        super().__init__(reason)
        self.reason = reason


class AlreadyDecided(Conflict):
    """Somebody decided about it before."""

    def __init__(
        self,
        state: str,
        decided_by: str | None,
        decided_at: datetime | None,
        reason: str = "already_decided",
    ) -> None:
        """Take the outcome, and who decided it when, as an identifier such as `user:12`."""
        super().__init__(reason)
        self.state = state
        self.decided_by = decided_by
        self.decided_at = decided_at


class IdempotencyMismatch(BillingError):
    """The idempotency key was used before, for another request."""

    code = "idempotency_mismatch"

    def __init__(self, key: str) -> None:
        """Name the key that was used twice."""
        super().__init__(key)
        self.key = key


class VoucherRefused(BillingError):
    """The voucher code gives this account nothing."""

    code = "voucher_refused"

    def __init__(
        self, reason: str, when: datetime | None = None, *, limit: int | None = None
    ) -> None:
        """Give the reason as a stable slug, and the moment or the limit that it is about, if any.

        `limit` is how many redemptions of the campaign one account may have.
        """
        super().__init__(reason, when)
        self.reason = reason
        self.when = when
        self.limit = limit


class HoldNotOpen(BillingError):
    """The hold was captured, released or expired already."""

    code = "hold_not_open"

    def __init__(self, status: str) -> None:
        """Take the state that the hold has reached."""
        super().__init__(status)
        self.status = status


class PeriodClosed(BillingError):
    """The books of this month are closed."""

    code = "period_closed"

    def __init__(self, site: str, month: date) -> None:
        """Name the site and the first day of the closed month."""
        super().__init__(site, month)
        self.site = site
        self.month = month


class ReversalExceedsOriginal(BillingError):
    """The reversals would sum to more than what they reverse."""

    code = "reversal_exceeds_original"

    def __init__(self, requested_micros: int, reversible_micros: int) -> None:
        """Take the amount requested and the amount that can still be reversed."""
        super().__init__(requested_micros, reversible_micros)
        self.requested_micros = requested_micros
        self.reversible_micros = reversible_micros


class RefundRefused(BillingError):
    """The gateway refused the refund, and its credit was restored."""

    code = "refund_refused"

    def __init__(self, gateway: str) -> None:
        """Name the gateway."""
        super().__init__(gateway)
        self.gateway = gateway


class CurrencyMismatch(BillingError):
    """Amounts of different currencies cannot be combined."""

    code = "currency_mismatch"

    def __init__(self, expected: str, given: str) -> None:
        """Name both currencies."""
        super().__init__(expected, given)
        self.expected = expected
        self.given = given


class RateLimited(BillingError):
    """There were too many attempts."""

    code = "rate_limited"

    def __init__(self, retry_after_seconds: int, *, is_of_network: bool = False) -> None:
        """Take the wait, and whether it applies to the client's whole network."""
        super().__init__(retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds
        self.is_of_network = is_of_network


class UnknownCurrency(BillingError):
    """This is not a currency of the ISO 4217 list with minor units."""

    code = "unknown_currency"

    def __init__(self, currency: str) -> None:
        """Take the text that was entered as a currency."""
        super().__init__(currency)
        self.currency = currency


class InvalidConfiguration(BillingError):
    """A file that configures the product is not clear."""

    code = "invalid_configuration"

    def __init__(self, file: str, where: str, reason: str) -> None:
        """Take the file, the place in it, and the problem there, for the file's editor."""
        super().__init__(file, where, reason)
        self.file = file
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        """Return the sentence for the file's editor."""
        return f"{self.file}, {self.where}: {self.reason}."


class CatalogueConflict(BillingError):
    """The catalogue would change a price that usage may have been charged at already."""

    code = "catalogue_conflict"

    def __init__(self, where: str) -> None:
        """Name the price."""
        super().__init__(where)
        self.where = where


class UnknownService(BillingError):
    """The catalogue has no such service."""

    code = "unknown_service"

    def __init__(self, service: str) -> None:
        """Take the text that was entered as a service."""
        super().__init__(service)
        self.service = service


class UnknownMeter(BillingError):
    """The service is not measured by this meter."""

    code = "unknown_meter"

    def __init__(self, service: str, meter: str) -> None:
        """Take the service and the text that was entered as a meter of it."""
        super().__init__(service, meter)
        self.service = service
        self.meter = meter


class NoPrice(BillingError):
    """The catalogue has no price for this meter at that time in that currency."""

    code = "no_price"

    def __init__(
        self, service: str, model: str, meter: str, currency: str, occurred_at: datetime
    ) -> None:
        """Name everything that a price is looked up by."""
        super().__init__(service, model, meter, currency, occurred_at)
        self.service = service
        self.model = model
        self.meter = meter
        self.currency = currency
        self.occurred_at = occurred_at


class ExportsBusy(BillingError):
    """As many files are being written as may be at once."""

    code = "exports_busy"
