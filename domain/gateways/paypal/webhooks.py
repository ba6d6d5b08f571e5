"""Whether a webhook was sent by PayPal: its signature, and the certificate that it was made with.

PayPal signs `transmission id|transmission time|webhook id|crc32 of the body` by RSA and SHA-256,
and names the address of its certificate. Nothing here trusts what such a message says of itself:
the address must be PayPal's, and the certificate must lead to a root that is trusted for PayPal's
name. The identifier of the webhook is ours, never one from the message. What costs nothing is
checked first: an address or a time that cannot be PayPal's has nobody asked and nothing computed.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
import warnings
import zlib
from collections import OrderedDict, deque
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import certifi
import httpx2
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import AuthorityInformationAccessOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from domain.gateways.interface import Outcome, WebhookRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from domain.gateways.interface import InboundMessage

Chain = tuple[x509.Certificate, ...]
"""A certificate and those that lead from it to a root."""

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
_CERTIFICATE_PATH = "/v1/notifications/certs/"
_LIVE_HOSTS = frozenset(("api.paypal.com", "api-m.paypal.com"))
_SANDBOX_HOSTS = frozenset(("api.sandbox.paypal.com", "api-m.sandbox.paypal.com"))
_CERTIFICATE_URL = re.compile(
    r"https://(?P<host>[a-z.-]{1,100})(?::443)?/v1/notifications/certs/[A-Za-z0-9_-]{1,200}",
    re.ASCII,
)
"""The whole address: no user, no other port, no query, no path that climbs."""

_ISSUER_URL = re.compile(r"https?://(?:[a-z0-9-]+\.)+[a-z]{2,}/[A-Za-z0-9._/-]{1,200}", re.ASCII)
"""Where an issuer's certificate may lie: at a public name, never at an address within."""

_NAME_SUFFIX = ".paypal.com"
_SANDBOX_SUFFIX = ".sandbox.paypal.com"
_MAX_HEADER_LENGTH = 2_000
_MAX_AGE, _MAX_AHEAD = timedelta(days=4), timedelta(minutes=5)
"""How old a transmission may be: PayPal repeats one for three days. Or ahead, as clocks differ."""
_MAX_CERTIFICATE = 64 * 1024
_NANOSECONDS = 1_000_000_000
_MAX_READ_SECONDS, _MAX_CONNECT_SECONDS = 10, 5
_MAX_FETCH_NS = 15 * _NANOSECONDS
_MAX_WAIT_SECONDS = 5
_MAX_FETCHING = 3
"""Messages at once whose certificate is not known yet: one has it fetched, two wait.

They stand in the way of all other webhooks, which are taken a few at a time.
"""
_REFUSED_FOR_NS = 30 * _NANOSECONDS
_MAX_REFUSED = 256
_MAX_FETCHES, _FETCHES_WITHIN_NS = 6, 60 * _NANOSECONDS
"""PayPal changes its certificate once in months: whoever names new ones all the time is not it."""
_MAX_ISSUERS = 3
_KEPT = 16


class CertificateUnavailable(Exception):  # noqa: N818 - as the other errors of the gateways
    """A certificate cannot be had now."""


class Certificates(Protocol):
    """Where PayPal's certificates come from, and what they must lead to."""

    def fetch(self, url: str) -> bytes:
        """Return the certificates at an address as PEM; raise CertificateUnavailable."""

    def anchors(self) -> Sequence[x509.Certificate]:
        """Return the roots that are trusted; raise CertificateUnavailable."""


class PublicCertificates:
    """PayPal's own certificates over HTTPS, under the public roots or those that are given."""

    def __init__(
        self,
        anchors: Sequence[x509.Certificate] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._given = anchors
        self._transport = transport

    def fetch(self, url: str) -> bytes:
        """Return what is at the address, which must be of HTTPS, and what it leaves out.

        No redirect is followed.
        """
        if not url.startswith("https://"):
            raise CertificateUnavailable("not https")
        ends_ns = time.monotonic_ns() + _MAX_FETCH_NS
        content = _download(self._transport, url, ends_ns)
        return content + self._issuers(content, ends_ns)

    def anchors(self) -> Sequence[x509.Certificate]:
        """Return the roots."""
        if self._given is None:
            self._given = public_roots()
        return self._given

    def _issuers(self, content: bytes, ends_ns: int) -> bytes:
        """Return what leads from the last certificate to a root, as PEM.

        PayPal gives the certificate that it signs with alone. Certificates name where that of
        their issuer lies, at an address of plain HTTP (RFC 5280, 4.2.2.1): what comes from there
        counts only once a root vouches for it. Nor is anything of it read before it is shown to
        have signed the one before: who answers in its place could else have us ask anywhere.
        """
        try:
            last = x509.load_pem_x509_certificates(content)[-1]
        except ValueError:
            return b""  # whoever reads it finds out
        roots = {root.subject for root in self.anchors()}
        found, asked = b"", set[str]()
        while len(asked) < _MAX_ISSUERS:
            url = _issuer_url(last)
            if url is None or url in asked or last.issuer in roots:
                break
            asked.add(url)
            issuer = _read_issuer(_download(self._transport, url, ends_ns))
            _check_issued(last, issuer)
            last = issuer
            found += b"\n" + last.public_bytes(Encoding.PEM)
        return found


class SandboxCertificates:
    """The certificates of a stand-in on this computer, which is asked under its own address.

    The addresses in its messages look as PayPal's do, and are checked as PayPal's are; what they
    lead to comes from the stand-in. Its root is trusted for its own messages alone.
    """

    def __init__(self, api_base: str, transport: httpx2.BaseTransport | None = None) -> None:
        self._api_base = api_base.rstrip("/")
        self._transport = transport

    def fetch(self, url: str) -> bytes:
        """Return the certificate of that name from the stand-in."""
        ends_ns = time.monotonic_ns() + _MAX_FETCH_NS
        return _download(self._transport, self._api_base + urlsplit(url).path, ends_ns)

    def anchors(self) -> Sequence[x509.Certificate]:
        """Return the stand-in's root."""
        ends_ns = time.monotonic_ns() + _MAX_FETCH_NS
        found = _download(self._transport, f"{self._api_base}{_CERTIFICATE_PATH}ca", ends_ns)
        return _read_certificates(found)


def public_roots() -> list[x509.Certificate]:
    """Return the roots that browsers trust; one that breaks the standard is left out."""
    found: list[x509.Certificate] = []
    ending = "-----END CERTIFICATE-----"
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        for block in certifi.contents().split(ending)[:-1]:
            try:
                found.append(x509.load_pem_x509_certificate((block + ending).encode()))
            except (ValueError, CryptographyDeprecationWarning):
                continue
    return found


def signed_text(
    transmission_id: str, transmission_time: str, webhook_id: str, body: bytes
) -> bytes:
    """Return what PayPal signs of a message."""
    return f"{transmission_id}|{transmission_time}|{webhook_id}|{zlib.crc32(body)}".encode()


class WebhookVerifier:
    """Refuses every message that PayPal did not sign for our webhook. Safe in many threads.

    Forged messages are cheap: nobody waits for a certificate but those who need an unknown one, of
    whom there are `_MAX_FETCHING` at once, an address that failed is not asked again for a while,
    and no more than `_MAX_FETCHES` certificates are asked for in a minute. Whoever is refused for
    that comes again, if it is PayPal.
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
            raise _refused("simulator")
        given = [message.headers.get(name, "") for name in _HEADERS]
        if not all(given) or any(len(value) > _MAX_HEADER_LENGTH for value in given):
            raise _refused("unsigned")
        transmission_id, transmission_time, signature_text, url, algorithm = given
        if algorithm != ALGORITHM:
            raise _refused("algorithm")
        self._check_url(url)
        _check_time(transmission_time, message.received_at)
        try:
            signature = base64.b64decode(signature_text, validate=True)
        except (binascii.Error, ValueError):
            raise _refused("signature") from None
        key = self._key(url, message.received_at)
        text = signed_text(transmission_id, transmission_time, self._webhook_id, message.body)
        try:
            key.verify(signature, text, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise _refused("signature") from None

    def _check_url(self, url: str) -> None:
        found = _CERTIFICATE_URL.fullmatch(url)
        if found is None or found["host"] not in _LIVE_HOSTS | _SANDBOX_HOSTS:
            raise _refused("certificate_url")
        if not self._is_sandbox and found["host"] in _SANDBOX_HOSTS:
            raise _refused("sandbox_certificate")

    def _key(self, url: str, moment: datetime) -> rsa.RSAPublicKey:
        """Return the key of the certificate at an address, if it is to be trusted now."""
        known = self._recall(url)
        if known is None:
            known = self._learn(url, moment)
        else:
            self._check_chain(*known, moment)
        with _reading_certificates():
            key = known[0][0].public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise _refused("certificate_key")
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
            raise _refused("certificate_unavailable")
        try:
            # One at a time: whoever sends false messages makes us ask for one thing at once.
            if not self._fetching.acquire(timeout=_MAX_WAIT_SECONDS):
                raise _refused("certificate_unavailable")
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
            with _reading_certificates():
                chain = _read_certificates(self._certificates.fetch(url))
                known = chain, Store(list(self._certificates.anchors()))
                self._check_chain(*known, moment)
        except CertificateUnavailable:
            self._refuse(url, "certificate_unavailable")
            raise _refused("certificate_unavailable") from None
        except WebhookRefused as refusal:
            self._refuse(url, refusal.reason)
            raise
        self._keep(url, known)
        return known

    def _check_not_refused(self, url: str) -> None:
        with self._lock:
            ends_ns, reason = self._refused.get(url, (0, ""))
        if self._clock_ns() < ends_ns:
            raise _refused(reason)

    def _count_fetch(self) -> None:
        """Refuse the message where so many certificates were asked for within the last minute."""
        now_ns = self._clock_ns()
        with self._lock:
            is_full = len(self._fetched_ns) == _MAX_FETCHES
            if is_full and now_ns - self._fetched_ns[0] < _FETCHES_WITHIN_NS:
                raise _refused("certificate_unavailable")
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
            raise _refused("certificate_expired")
        name = self._name(leaf)
        verifier = (
            PolicyBuilder().store(store).time(moment).build_server_verifier(x509.DNSName(name))
        )
        try:
            verifier.verify(leaf, list(chain[1:]))
        except VerificationError:
            raise _refused("certificate_untrusted") from None

    def _name(self, leaf: x509.Certificate) -> str:
        """Return the name under paypal.com that a certificate is for."""
        try:
            extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = extension.value.get_values_for_type(x509.DNSName)
        except (x509.ExtensionNotFound, ValueError):
            raise _refused("certificate_name") from None
        ours = [name for name in names if name.endswith(_NAME_SUFFIX) and "*" not in name]
        if not self._is_sandbox:
            ours = [name for name in ours if not name.endswith(_SANDBOX_SUFFIX)]
        if not ours:
            raise _refused("certificate_name")
        return ours[0]


def _check_time(text: str, received_at: datetime) -> None:
    """Refuse a message that was not sent lately, or says no moment at which it was."""
    try:
        age = received_at - datetime.fromisoformat(text)
    except (OverflowError, TypeError, ValueError):
        raise _refused("time") from None
    if not -_MAX_AHEAD <= age <= _MAX_AGE:
        raise _refused("old" if age > _MAX_AGE else "future")


def _download(transport: httpx2.BaseTransport | None, url: str, ends_ns: int) -> bytes:
    """Return what is at an address. It is asked once in years: no connection is kept.

    Raises CertificateUnavailable where that takes until the moment `ends_ns` or longer.
    """
    content = bytearray()
    seconds = (ends_ns - time.monotonic_ns()) // _NANOSECONDS
    if seconds < 0:
        raise CertificateUnavailable("too slow")
    read, connect = min(_MAX_READ_SECONDS, seconds + 1), min(_MAX_CONNECT_SECONDS, seconds + 1)
    timeout = httpx2.Timeout(read, connect=connect)
    client = httpx2.Client(timeout=timeout, follow_redirects=False, transport=transport)
    try:
        with client, client.stream("GET", url) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise CertificateUnavailable(f"HTTP {answer.status_code}")
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MAX_CERTIFICATE:
                    raise CertificateUnavailable("too large")
                if time.monotonic_ns() > ends_ns:
                    raise CertificateUnavailable("too slow")
    except httpx2.HTTPError as error:
        raise CertificateUnavailable(type(error).__name__) from None
    return bytes(content)


def _issuer_url(certificate: x509.Certificate) -> str | None:
    """Return where a certificate says that its issuer's lies."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, ValueError):
        return None
    for found in access.value:
        is_issuer = found.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        if is_issuer and _ISSUER_URL.fullmatch(str(found.access_location.value)):
            return str(found.access_location.value)
    return None


def _read_issuer(content: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(content)
    except ValueError:
        raise CertificateUnavailable("no issuer") from None


def _check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        raise CertificateUnavailable("not the issuer") from None


@contextmanager
def _reading_certificates() -> Iterator[None]:
    """Refuse the message whose certificate the library knows how to load and not how to read."""
    try:
        yield
    except (UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise _refused("certificate_unreadable") from None


def _read_certificates(content: bytes) -> Chain:
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError:
        raise _refused("certificate_unreadable") from None


def _refused(reason: str) -> WebhookRefused:
    return WebhookRefused(Outcome.BAD_SIGNATURE, reason)
