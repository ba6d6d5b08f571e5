"""The certificates that PayPal signs webhooks with: fetched, checked and kept."""

from __future__ import annotations

import re
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import certifi
import httpx2
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import AuthorityInformationAccessOID

from domain.gateways.interface import Outcome, WebhookRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


CERTIFICATE_PATH = "/v1/notifications/certs/"
NANOSECONDS = 1_000_000_000
MAX_FETCH_NS = 15 * NANOSECONDS
MAX_ISSUERS = 3
ISSUER_URL = re.compile(r"https?://(?:[a-z0-9-]+\.)+[a-z]{2,}/[A-Za-z0-9._/-]{1,200}", re.ASCII)
"""Where an issuer's certificate may lie: at a public name, never at an address within."""
MAX_CERTIFICATE = 64 * 1024
MAX_READ_SECONDS, MAX_CONNECT_SECONDS = 10, 5

Chain = tuple[x509.Certificate, ...]
"""A certificate and those that lead from it to a root."""


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
        ends_ns = time.monotonic_ns() + MAX_FETCH_NS
        content = download(self._transport, url, ends_ns)
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
            return b""  # the reader of the result sees the error
        roots = {root.subject for root in self.anchors()}
        found, asked = b"", set[str]()
        while len(asked) < MAX_ISSUERS:
            url = issuer_url(last)
            if url is None or url in asked or last.issuer in roots:
                break
            asked.add(url)
            issuer = read_issuer(download(self._transport, url, ends_ns))
            check_issued(last, issuer)
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
        ends_ns = time.monotonic_ns() + MAX_FETCH_NS
        return download(self._transport, self._api_base + urlsplit(url).path, ends_ns)

    def anchors(self) -> Sequence[x509.Certificate]:
        """Return the stand-in's root."""
        ends_ns = time.monotonic_ns() + MAX_FETCH_NS
        found = download(self._transport, f"{self._api_base}{CERTIFICATE_PATH}ca", ends_ns)
        return read_certificates(found)


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


@contextmanager
def reading_certificates() -> Iterator[None]:
    """Refuse the message whose certificate the library knows how to load and not how to read."""
    try:
        yield
    except (UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise refused("certificate_unreadable") from None


def read_certificates(content: bytes) -> Chain:
    """Return the certificates of a PEM file. Raises WebhookRefused."""
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError:
        raise refused("certificate_unreadable") from None


def download(transport: httpx2.BaseTransport | None, url: str, ends_ns: int) -> bytes:
    """Return what is at an address. It is asked once in years: no connection is kept.

    Raises CertificateUnavailable where that takes until the moment `ends_ns` or longer.
    """
    content = bytearray()
    seconds = (ends_ns - time.monotonic_ns()) // NANOSECONDS
    if seconds < 0:
        raise CertificateUnavailable("too slow")
    read, connect = min(MAX_READ_SECONDS, seconds + 1), min(MAX_CONNECT_SECONDS, seconds + 1)
    timeout = httpx2.Timeout(read, connect=connect)
    client = httpx2.Client(timeout=timeout, follow_redirects=False, transport=transport)
    try:
        with client, client.stream("GET", url) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise CertificateUnavailable(f"HTTP {answer.status_code}")
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_CERTIFICATE:
                    raise CertificateUnavailable("too large")
                if time.monotonic_ns() > ends_ns:
                    raise CertificateUnavailable("too slow")
    except httpx2.HTTPError as error:
        raise CertificateUnavailable(type(error).__name__) from None
    return bytes(content)


def issuer_url(certificate: x509.Certificate) -> str | None:
    """Return where a certificate says that its issuer's lies."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, ValueError):
        return None
    for found in access.value:
        is_issuer = found.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        if is_issuer and ISSUER_URL.fullmatch(str(found.access_location.value)):
            return str(found.access_location.value)
    return None


def read_issuer(content: bytes) -> x509.Certificate:
    """Return the certificate of an issuer. Raises CertificateUnavailable."""
    try:
        return x509.load_der_x509_certificate(content)
    except ValueError:
        raise CertificateUnavailable("no issuer") from None


def check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Raise CertificateUnavailable where a certificate is not by this issuer."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        raise CertificateUnavailable("not the issuer") from None


def refused(reason: str) -> WebhookRefused:
    """Return the refusal of a webhook whose signature does not hold."""
    return WebhookRefused(Outcome.BAD_SIGNATURE, reason)
