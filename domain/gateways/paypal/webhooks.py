"""Verify that PayPal sent a webhook, by its signature and the certificate behind it.

PayPal signs `transmission id|transmission time|webhook id|crc32 of the body` by RSA and SHA-256,
and names the address of its certificate. Nothing here trusts what such a message states about
itself: the address must be PayPal's, and the certificate must lead to a root that is trusted for
PayPal's name. The identifier of the webhook is ours, never one from the message. The cheap checks
come first: an address or a time that cannot be PayPal's causes no request and no computation.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
import zlib
from collections import OrderedDict, deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from domain.gateways.interface import WebhookRefused
from domain.gateways.paypal.certificates import (
    NANOSECONDS,
    Certificates,
    CertificateUnavailable,
    Chain,
    read_certificates,
    reading_certificates,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.gateways.interface import InboundMessage


ALGORITHM = "SHA256withRSA"
SIMULATOR_WEBHOOK_ID = "WEBHOOK_ID"
"""What PayPal's simulator signs with: anybody can have a message signed under it."""

_HEADERS = (
    "paypal-transmission-id",
    "paypal-transmission-time",
    "paypal-transmission-sig",
    "paypal-cert-url",
    "paypal-auth-algo",
)
_LIVE_HOSTS = frozenset(("api.paypal.com", "api-m.paypal.com"))
_SANDBOX_HOSTS = frozenset(("api.sandbox.paypal.com", "api-m.sandbox.paypal.com"))
_CERTIFICATE_URL = re.compile(
    r"https://(?P<host>[a-z.-]{1,100})(?::443)?/v1/notifications/certs/[A-Za-z0-9_-]{1,200}",
    re.ASCII,
)
"""The whole address: no user, no other port, no query, no path that climbs."""


_NAME_SUFFIX = ".paypal.com"
_SANDBOX_SUFFIX = ".sandbox.paypal.com"
_MAX_HEADER_LENGTH = 2_000
_MAX_AGE, _MAX_AHEAD = timedelta(days=4), timedelta(minutes=5)
"""How old a transmission may be: PayPal repeats one for three days. Or ahead, as clocks differ."""
_MAX_WAIT_SECONDS = 5
_MAX_FETCHING = 3
"""Messages at once whose certificate is not known yet: one has it fetched, two wait.

They stand in the way of all other webhooks, which are taken a few at a time.
"""
_REFUSED_FOR_NS = 30 * NANOSECONDS
_MAX_REFUSED = 256
_MAX_FETCHES, _FETCHES_WITHIN_NS = 6, 60 * NANOSECONDS
"""PayPal changes its certificate once in months: whoever names new ones all the time is not it."""
_KEPT = 16


def signed_text(
    transmission_id: str, transmission_time: str, webhook_id: str, body: bytes
) -> bytes:
    """Return what PayPal signs of a message."""
    return f"{transmission_id}|{transmission_time}|{webhook_id}|{zlib.crc32(body)}".encode()


class WebhookVerifier:
    """A verifier that rejects every message not signed by PayPal for our webhook. Thread-safe.

    Forged messages are cheap: only messages with an unknown certificate wait for one, at most
    `_MAX_FETCHING` of them at once, an address that failed is not requested again for a while, and
    no more than `_MAX_FETCHES` certificates are requested in a minute. PayPal retries a message
    that is rejected because of these limits.
    """

    def __init__(
        self,
        webhook_id: str,
        certificates: Certificates,
        *,
        is_sandbox: bool,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._webhook_id = webhook_id
        self._certificates = certificates
        self._is_sandbox = is_sandbox
        self._clock_ns = clock_ns
        self._places = threading.BoundedSemaphore(_MAX_FETCHING)
        self._fetching = threading.Lock()
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Chain, Store]] = OrderedDict()
        self._refused: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._fetched_ns: deque[int] = deque(maxlen=_MAX_FETCHES)

    def verify(self, message: InboundMessage) -> None:
        """Raise WebhookRefused unless the message is PayPal's, for our webhook, unchanged."""
        if self._webhook_id in {"", SIMULATOR_WEBHOOK_ID}:
            raise refused("simulator")
        given = [message.headers.get(name, "") for name in _HEADERS]
        if not all(given) or any(len(value) > _MAX_HEADER_LENGTH for value in given):
            raise refused("unsigned")
        transmission_id, transmission_time, signature_text, url, algorithm = given
        if algorithm != ALGORITHM:
            raise refused("algorithm")
        self._check_url(url)
        _check_time(transmission_time, message.received_at)
        try:
            signature = base64.b64decode(signature_text, validate=True)
        except (binascii.Error, ValueError):
            raise refused("signature") from None
        key = self._key(url, message.received_at)
        text = signed_text(transmission_id, transmission_time, self._webhook_id, message.body)
        try:
            key.verify(signature, text, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise refused("signature") from None

    def _check_url(self, url: str) -> None:
        found = _CERTIFICATE_URL.fullmatch(url)
        if found is None or found["host"] not in _LIVE_HOSTS | _SANDBOX_HOSTS:
            raise refused("certificate_url")
        if not self._is_sandbox and found["host"] in _SANDBOX_HOSTS:
            raise refused("sandbox_certificate")

    def _key(self, url: str, moment: datetime) -> rsa.RSAPublicKey:
        """Return the key of the certificate at an address, if it is to be trusted now."""
        known = self._recall(url)
        if known is None:
            known = self._learn(url, moment)
        else:
            self._check_chain(*known, moment)
        with reading_certificates():
            key = known[0][0].public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise refused("certificate_key")
        return key

    def _recall(self, url: str) -> tuple[Chain, Store] | None:
        with self._lock:
            known = self._known.get(url)
            if known is not None:
                self._known.move_to_end(url)
            return known

    def _learn(self, url: str, moment: datetime) -> tuple[Chain, Store]:
        """Fetch a certificate, and keep it if it is to be trusted."""
        self._check_not_refused(url)
        if not self._places.acquire(blocking=False):
            raise refused("certificate_unavailable")
        try:
            # One at a time: forged messages cause one request at once at most.
            if not self._fetching.acquire(timeout=_MAX_WAIT_SECONDS):
                raise refused("certificate_unavailable")
            try:
                return self._fetch(url, moment)
            finally:
                self._fetching.release()
        finally:
            self._places.release()

    def _fetch(self, url: str, moment: datetime) -> tuple[Chain, Store]:
        known = self._recall(url)
        if known is not None:
            self._check_chain(*known, moment)
            return known
        self._check_not_refused(url)
        self._count_fetch()
        try:
            with reading_certificates():
                chain = read_certificates(self._certificates.fetch(url))
                known = chain, Store(list(self._certificates.anchors()))
                self._check_chain(*known, moment)
        except CertificateUnavailable:
            self._refuse(url, "certificate_unavailable")
            raise refused("certificate_unavailable") from None
        except WebhookRefused as refusal:
            self._refuse(url, refusal.reason)
            raise
        self._keep(url, known)
        return known

    def _check_not_refused(self, url: str) -> None:
        with self._lock:
            ends_ns, reason = self._refused.get(url, (0, ""))
        if self._clock_ns() < ends_ns:
            raise refused(reason)

    def _count_fetch(self) -> None:
        """Refuse the message where so many certificates were asked for within the last minute."""
        now_ns = self._clock_ns()
        with self._lock:
            is_full = len(self._fetched_ns) == _MAX_FETCHES
            if is_full and now_ns - self._fetched_ns[0] < _FETCHES_WITHIN_NS:
                raise refused("certificate_unavailable")
            self._fetched_ns.append(now_ns)

    def _refuse(self, url: str, reason: str) -> None:
        with self._lock:
            self._refused[url] = self._clock_ns() + _REFUSED_FOR_NS, reason
            self._refused.move_to_end(url)
            while len(self._refused) > _MAX_REFUSED:
                self._refused.popitem(last=False)

    def _keep(self, url: str, known: tuple[Chain, Store]) -> None:
        with self._lock:
            self._known[url] = known
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def _check_chain(self, chain: Chain, store: Store, moment: datetime) -> None:
        leaf = chain[0]
        if not leaf.not_valid_before_utc <= moment <= leaf.not_valid_after_utc:
            raise refused("certificate_expired")
        name = self._name(leaf)
        verifier = (
            PolicyBuilder().store(store).time(moment).build_server_verifier(x509.DNSName(name))
        )
        try:
            verifier.verify(leaf, list(chain[1:]))
        except VerificationError:
            raise refused("certificate_untrusted") from None

    def _name(self, leaf: x509.Certificate) -> str:
        """Return the name under paypal.com that a certificate is for."""
        try:
            extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = extension.value.get_values_for_type(x509.DNSName)
        except (x509.ExtensionNotFound, ValueError):
            raise refused("certificate_name") from None
        ours = [name for name in names if name.endswith(_NAME_SUFFIX) and "*" not in name]
        if not self._is_sandbox:
            ours = [name for name in ours if not name.endswith(_SANDBOX_SUFFIX)]
        if not ours:
            raise refused("certificate_name")
        return ours[0]


def _check_time(text: str, received_at: datetime) -> None:
    """Refuse a message that was not sent lately, or says no moment at which it was."""
    try:
        age = received_at - datetime.fromisoformat(text)
    except (OverflowError, TypeError, ValueError):
        raise refused("time") from None
    if not -_MAX_AHEAD <= age <= _MAX_AGE:
        raise refused("old" if age > _MAX_AGE else "future")
