"""Nothing counts as PayPal's that PayPal did not sign, whatever it says of itself."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from domain.gateways.interface import InboundMessage, Outcome, WebhookRefused
from domain.gateways.paypal import webhooks
from domain.gateways.paypal.certificates import (
    CertificateUnavailable,
    PublicCertificates,
    SandboxCertificates,
    public_roots,
)
from domain.gateways.paypal.webhooks import WebhookVerifier, signed_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOW = datetime(2026, 1, 15, 2, 33, 12, tzinfo=UTC)
WEBHOOK_ID = "1JE4291016473214C"
URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594"
HOST = "messageverificationcerts.paypal.com"
BODY = json.dumps({"id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED"}).encode()
YEAR = timedelta(days=365)
ROOT_KEY = rsa.generate_private_key(65537, 2048)
KEY = rsa.generate_private_key(65537, 2048)
STRANGER = rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True)
class Making:
    """How a certificate is made; what is given is what is odd about it."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = KEY
    names: Sequence[str] = (HOST,)
    issuer_key: rsa.RSAPrivateKey = ROOT_KEY
    issuer: str = "A root"
    starts: datetime = NOW - YEAR
    ends: datetime = NOW + YEAR
    is_authority: bool = False
    subject: str = ""
    issuer_at: str = ""


def make(how: Making) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    public_key = how.key.public_key()
    is_root = how.is_authority
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(how.subject or (how.issuer if is_root else "a certificate")))
        .issuer_name(named(how.issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(how.starts)
        .not_valid_after(how.ends)
        .add_extension(x509.BasicConstraints(is_root, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(how.issuer_key.public_key()),
            critical=False,
        )
        .add_extension(usage_of(is_root=is_root), critical=True)
    )
    if how.issuer_at:
        issuer_at = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(how.issuer_at)
        )
        access = x509.AuthorityInformationAccess([issuer_at])
        builder = builder.add_extension(access, critical=False)
    if how.names and not is_root:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in how.names])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
    return builder.sign(how.issuer_key, hashes.SHA256())


def usage_of(*, is_root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_root,
        crl_sign=is_root,
        encipher_only=False,
        decipher_only=False,
    )


ROOT = make(Making(key=ROOT_KEY, is_authority=True))
LEAF = make(Making())


@dataclass
class Given:
    """Certificates that a test gives; what was asked for stands in `asked`."""

    chain: bytes = field(default_factory=lambda: LEAF.public_bytes(Encoding.PEM))
    roots: Sequence[x509.Certificate] = (ROOT,)
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return self.chain

    def anchors(self) -> Sequence[x509.Certificate]:
        return self.roots


def message(
    *,
    body: bytes = BODY,
    signed: bytes | None = None,
    key: rsa.RSAPrivateKey = KEY,
    webhook_id: str = WEBHOOK_ID,
    sent_at: str = "2026-01-15T02:33:12Z",
    **headers: str,
) -> InboundMessage:
    """Return a message; what is given is what is odd about it."""
    transmission_id = "69cd13f0-d67a-11e5-baa3-778b53f4ae55"
    text = f"{transmission_id}|{sent_at}|{webhook_id}|{zlib.crc32(signed or body)}"
    signature = key.sign(text.encode(errors="replace"), padding.PKCS1v15(), hashes.SHA256())
    given = {
        "paypal-transmission-id": transmission_id,
        "paypal-transmission-time": sent_at,
        "paypal-transmission-sig": base64.b64encode(signature).decode(),
        "paypal-cert-url": URL,
        "paypal-auth-algo": "SHA256withRSA",
    } | {f"paypal-{name.replace('_', '-')}": value for name, value in headers.items()}
    return InboundMessage("POST", given, (), "", body, NOW)


def verifier(certificates: Given, webhook_id: str = WEBHOOK_ID) -> WebhookVerifier:
    return WebhookVerifier(webhook_id, certificates, is_sandbox=False)


def refusal(
    given: InboundMessage, certificates: Given | None = None, webhook_id: str = WEBHOOK_ID
) -> str:
    """Return why a message is refused."""
    with pytest.raises(WebhookRefused) as caught:
        verifier(certificates or Given(), webhook_id).verify(given)
    assert caught.value.outcome is Outcome.BAD_SIGNATURE
    return caught.value.reason


def chain_of(how: Making) -> Given:
    return Given(make(how).public_bytes(Encoding.PEM))


# ── Signatures ────────────────────────────────────────────────────────────────────────────────
def test_what_paypal_signed_is_believed() -> None:
    verifier(Given()).verify(message())


def test_the_checksum_is_decimal_and_of_the_bytes_as_they_came() -> None:
    body = (
        '{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED",'
        '"resource":{"id":"3C6","note":"Nạp tiền"}}'
    ).encode()
    text = signed_text(
        "69cd13f0-d67a-11e5-baa3-778b53f4ae55", "2026-01-15T02:33:12Z", WEBHOOK_ID, body
    )
    assert text.decode().split("|") == [
        "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        "2026-01-15T02:33:12Z",
        WEBHOOK_ID,
        "1516667967",
    ]


def test_a_changed_body_is_refused() -> None:
    assert refusal(message(body=BODY + b" ", signed=BODY)) == "signature"


def test_another_webhook_identifier_is_refused() -> None:
    assert refusal(message(webhook_id="8PT597110X687430LKGECATA")) == "signature"


def test_the_simulator_is_refused() -> None:
    assert refusal(message(webhook_id="WEBHOOK_ID")) == "signature"
    assert refusal(message(webhook_id="WEBHOOK_ID"), webhook_id="WEBHOOK_ID") == "simulator"
    assert refusal(message(webhook_id=""), webhook_id="") == "simulator"


def test_another_key_is_refused() -> None:
    assert refusal(message(key=STRANGER)) == "signature"


@pytest.mark.parametrize("algorithm", ["SHA1withRSA", "sha256withrsa", "none"])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    assert refusal(message(auth_algo=algorithm)) == "algorithm"


@pytest.mark.parametrize("signature", ["%%%", "YQ==", "é"])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert refusal(message(transmission_sig=signature)) == "signature"


@pytest.mark.parametrize("name", sorted(message().headers))
def test_every_header_is_needed(name: str) -> None:
    given = message()
    headers = {key: value for key, value in given.headers.items() if key != name}
    assert refusal(replace(given, headers=headers)) == "unsigned"
    assert refusal(replace(given, headers={**headers, name: "x" * 3_000})) == "unsigned"


# ── The certificate's address ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "url",
    [
        "https://api.paypal.com.evil.test/v1/notifications/certs/CERT-1",
        "https://evilpaypal.com/v1/notifications/certs/CERT-1",
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "ftp://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://evil.test/?.paypal.com/v1/notifications/certs/CERT-1",
        "https://evil.test/v1/notifications/certs/CERT-1#.paypal.com",
        "https://evil.test/.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com@evil.test/v1/notifications/certs/CERT-1",
        "https://user:secret@api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:443@evil.test/v1/notifications/certs/CERT-1",
        "https://evil.test\\.paypal.com/v1/notifications/certs/CERT-1",
        "https://evil.test\t.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com\n/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/CERT-1\n",
        "https://api.paypal.com/v1/notifications/certs/../../redirect?to=https://evil.test",
        "https://api.paypal.com/v1/notifications/certs/CERT-1?next=https://evil.test",
        "https://api.paypal.com/upload/CERT-1",
        "https://аpi.pаypal.com/v1/notifications/certs/CERT-1",  # noqa: RUF001 - looks alike
        "https://[::1]/v1/notifications/certs/CERT-1",
        "//api.paypal.com/v1/notifications/certs/CERT-1",
        # Another name of PayPal's zone may be one that is forgotten, and somebody else's.
        "https://paypal.com/v1/notifications/certs/CERT-1",
        "https://www.paypal.com/v1/notifications/certs/CERT-1",
        "https://forgotten.paypal.com/v1/notifications/certs/CERT-1",
        "https://evil.api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com./v1/notifications/certs/CERT-1",
        "https://.api.paypal.com/v1/notifications/certs/CERT-1",
        "https://API.PAYPAL.COM/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:80/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:0443/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/",
        "https://api.paypal.com/v1/notifications/certs/CERT-1/CERT-2",
        "https://api.paypal.com/v1/notifications/certs/CERT%2D1",
        "https://api.paypal.com//v1/notifications/certs/CERT-1",
        f"https://api.paypal.com/v1/notifications/certs/{'C' * 201}",
        "data:application/x-pem-file,CERT",
    ],
)
def test_an_address_that_is_not_paypals_is_not_even_asked(url: str) -> None:
    certificates = Given()
    assert refusal(message(cert_url=url), certificates) == "certificate_url"
    assert certificates.asked == []


@pytest.mark.parametrize("host", ["api.paypal.com", "api-m.paypal.com", "api-m.paypal.com:443"])
def test_paypals_own_addresses_are_asked(host: str) -> None:
    certificates = Given()
    url = f"https://{host}/v1/notifications/certs/CERT-1"
    verifier(certificates).verify(message(cert_url=url))
    assert certificates.asked == [url]


def test_a_certificate_of_the_sandbox_says_nothing_about_live_money() -> None:
    for host in ("api.sandbox.paypal.com", "api-m.sandbox.paypal.com"):
        certificates, url = Given(), URL.replace("api.paypal.com", host)
        assert refusal(message(cert_url=url), certificates) == "sandbox_certificate"
        assert certificates.asked == []
    names = Making(names=("messageverificationcerts.sandbox.paypal.com",))
    assert refusal(message(), chain_of(names)) == "certificate_name"
    sandbox = WebhookVerifier(WEBHOOK_ID, chain_of(names), is_sandbox=True)
    sandbox.verify(message(cert_url=url))


# ── The time ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("sent_at", "reason"),
    [
        ("2026-01-11T02:33:11Z", "old"),
        ("1970-01-01T00:00:00Z", "old"),
        ("2026-01-15T02:38:13Z", "future"),
        ("9999-12-31T23:59:59-12:00", "future"),
        ("2026-01-15T02:33:12", "time"),  # of no time zone
        ("2026-01-15", "time"),
        ("1768444392", "time"),
        ("yesterday", "time"),
        ("\ud800", "time"),
        ("9" * 1_999, "time"),
    ],
)
def test_message_that_was_not_sent_lately_is_refused_before_anything_is_asked_or_computed(
    sent_at: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates, given = Given(), message(sent_at=sent_at)
    assert refusal(given, certificates) == reason
    assert certificates.asked == []
    # Not even where the certificate is known.
    ours = verifier(certificates)
    ours.verify(message())
    monkeypatch.setattr(ours, "_key", None)
    with pytest.raises(WebhookRefused, match=reason):
        ours.verify(given)


@pytest.mark.parametrize(
    "sent_at",
    ["2026-01-11T02:33:12Z", "2026-01-15T02:38:12Z", "2026-01-15T11:33:12.345678+09:00"],
)
def test_message_that_paypal_repeats_for_days_is_believed(sent_at: str) -> None:
    verifier(Given()).verify(message(sent_at=sent_at))


# ── The certificate ───────────────────────────────────────────────────────────────────────────
def test_a_certificate_is_fetched_once() -> None:
    certificates = Given()
    ours = verifier(certificates)
    for _ in range(3):
        ours.verify(message())
    assert certificates.asked == [URL]


class Stuck(Given):
    """Certificates of which one does not come until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.may_come = threading.Event(), threading.Event()

    def fetch(self, url: str) -> bytes:
        if url.endswith("-stuck"):
            self.is_asked.set()
            self.may_come.wait()
        return super().fetch(url)


class Queue:
    """A lock that says each time that somebody waits for it."""

    def __init__(self) -> None:
        self.waiting = threading.Semaphore(0)
        self._lock = threading.Lock()

    def acquire(self, timeout: float) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        self.waiting.release()
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()


def test_unknown_certificate_two_messages_wait_for_it_and_others_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, certificates, given = Queue(), Stuck(), message(cert_url=f"{URL}-stuck")
    ours = verifier(certificates)
    monkeypatch.setattr(ours, "_fetching", queue)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ours.verify, given)
        assert certificates.is_asked.wait(20)
        others = [pool.submit(ours.verify, given) for _ in range(2)]
        assert all(queue.waiting.acquire(timeout=20) for _ in others)
        # The places are taken: nobody else stands in the way of other webhooks.
        for url in (f"{URL}-stuck", *(f"{URL}-forged-{number}" for number in range(50))):
            with pytest.raises(WebhookRefused, match="certificate_unavailable"):
                ours.verify(message(cert_url=url))
        assert not any(one.done() for one in (first, *others))
        certificates.may_come.set()
        for one in (first, *others):
            one.result(20)
    assert certificates.asked == [f"{URL}-stuck"]
    ours.verify(message(cert_url=f"{URL}-next"))


def test_nobody_waits_for_a_certificate_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_MAX_WAIT_SECONDS", 0)
    certificates = Stuck()
    ours = verifier(certificates)
    ours.verify(message())
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(ours.verify, message(cert_url=f"{URL}-stuck"))
        try:
            assert certificates.is_asked.wait(120)
            ours.verify(message())
            with pytest.raises(WebhookRefused, match="certificate_unavailable"):
                ours.verify(message(cert_url=f"{URL}-unknown"))
        finally:
            certificates.may_come.set()
        stuck.result()
    assert certificates.asked == [URL, f"{URL}-stuck"]


class Clock:
    """A clock that a test puts forward."""

    def __init__(self) -> None:
        self.seconds = 1_000

    def __call__(self) -> int:
        return self.seconds * 1_000_000_000


def test_refused_certificate_is_asked_for_again_after_30_seconds_only() -> None:
    certificates, clock = chain_of(Making(ends=NOW - timedelta(days=1))), Clock()
    ours = WebhookVerifier(WEBHOOK_ID, certificates, is_sandbox=False, clock_ns=clock)
    for seconds in (0, 0, 29):
        clock.seconds += seconds
        with pytest.raises(WebhookRefused, match="certificate_expired"):
            ours.verify(message())
    assert len(certificates.asked) == 1
    certificates.chain = LEAF.public_bytes(Encoding.PEM)
    clock.seconds += 1
    ours.verify(message())
    assert len(certificates.asked) == 2


def test_refused_addresses_that_are_remembered_are_bounded_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhooks, "_MAX_REFUSED", 3)
    certificates = Given(b"<html>")
    ours = verifier(certificates)
    monkeypatch.setattr(webhooks, "_MAX_FETCHES", 100)

    def ask(number: int) -> int:
        with pytest.raises(WebhookRefused, match="certificate_unreadable"):
            ours.verify(message(cert_url=f"{URL}-{number}"))
        return len(certificates.asked)

    assert [ask(number) for number in (0, 1, 2, 3)] == [1, 2, 3, 4]
    assert [ask(number) for number in (1, 2, 3)] == [4, 4, 4]
    assert ask(0) == 5


def test_known_certificate_is_believed_while_others_fail() -> None:
    certificates = Given()
    ours = verifier(certificates)
    ours.verify(message())
    certificates.chain = b"<html>"
    for number in range(300):
        with pytest.raises(WebhookRefused):
            ours.verify(message(cert_url=f"{URL}-{number}"))
        ours.verify(message())


def test_only_six_certificates_are_asked_for_in_a_minute_whatever_is_sent() -> None:
    certificates, clock = Given(b"<html>"), Clock()
    ours = WebhookVerifier(WEBHOOK_ID, certificates, is_sandbox=False, clock_ns=clock)

    def ask(number: int, reason: str) -> None:
        with pytest.raises(WebhookRefused, match=reason):
            ours.verify(message(cert_url=f"{URL}-{number}"))

    for number in range(6):
        clock.seconds += 5
        ask(number, "certificate_unreadable")
    for number in range(6, 500):
        ask(number, "certificate_unavailable")
    assert len(certificates.asked) == 6
    # A minute after the first one there is room for one, and five seconds later for the next.
    clock.seconds += 35
    ask(6, "certificate_unreadable")
    ask(7, "certificate_unavailable")
    clock.seconds += 5
    ask(7, "certificate_unreadable")
    assert len(certificates.asked) == 8
    clock.seconds += 60
    certificates.chain = LEAF.public_bytes(Encoding.PEM)
    ours.verify(message())


def test_what_is_remembered_is_bounded_whatever_is_sent() -> None:
    certificates, clock = Given(b"<html>"), Clock()
    ours = WebhookVerifier(WEBHOOK_ID, certificates, is_sandbox=False, clock_ns=clock)
    for number in range(1_000):
        clock.seconds += 10
        certificates.chain = LEAF.public_bytes(Encoding.PEM) if number % 2 else b"<html>"
        with contextlib.suppress(WebhookRefused):
            ours.verify(message(cert_url=f"{URL}-{number}"))
    assert len(certificates.asked) == 1_000
    sizes = len(ours._known), len(ours._refused), len(ours._fetched_ns)
    assert sizes == (webhooks._KEPT, webhooks._MAX_REFUSED, 6)


def test_no_more_than_a_few_certificates_are_kept() -> None:
    certificates, clock = Given(), Clock()
    ours = WebhookVerifier(WEBHOOK_ID, certificates, is_sandbox=False, clock_ns=clock)
    for number in range(20):
        clock.seconds += 20
        ours.verify(message(cert_url=f"{URL}-{number}"))
    clock.seconds += 60
    ours.verify(message(cert_url=f"{URL}-19"))
    assert len(certificates.asked) == 20
    ours.verify(message(cert_url=f"{URL}-0"))
    assert len(certificates.asked) == 21
    # What was used stays longer than what was not.
    ours.verify(message(cert_url=f"{URL}-5"))
    ours.verify(message(cert_url=f"{URL}-1"))
    ours.verify(message(cert_url=f"{URL}-5"))
    assert len(certificates.asked) == 22


@pytest.mark.parametrize(
    "how",
    [
        Making(starts=NOW - 2 * YEAR, ends=NOW - timedelta(seconds=1)),
        Making(starts=NOW + timedelta(seconds=1)),
    ],
)
def test_a_certificate_counts_in_its_time_only(how: Making) -> None:
    assert refusal(message(), chain_of(how)) == "certificate_expired"


def test_a_certificate_that_ends_while_it_is_kept_is_refused() -> None:
    ours = verifier(Given())
    ours.verify(message())
    later = message(sent_at="2028-01-15T02:33:12Z")
    with pytest.raises(WebhookRefused, match="certificate_expired"):
        ours.verify(replace(later, received_at=NOW + 2 * YEAR))


def test_a_self_signed_certificate_is_refused() -> None:
    how = Making(issuer="a certificate", issuer_key=KEY)
    assert refusal(message(), chain_of(how)) == "certificate_untrusted"


def test_a_certificate_under_another_root_of_that_name_is_refused() -> None:
    assert refusal(message(), chain_of(Making(issuer_key=STRANGER))) == "certificate_untrusted"


def test_a_root_that_comes_with_the_certificate_is_not_trusted() -> None:
    root = make(Making(key=STRANGER, issuer_key=STRANGER, issuer="Theirs", is_authority=True))
    leaf = make(Making(issuer_key=STRANGER, issuer="Theirs"))
    both = leaf.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM)
    assert refusal(message(), Given(both)) == "certificate_untrusted"
    verifier(Given(both, roots=(ROOT, root))).verify(message())


@pytest.mark.parametrize(
    "names",
    [(), ("paypal.com.evil.test",), ("evilpaypal.com",), ("*.paypal.com",), ("evil.test",)],
)
def test_a_certificate_for_another_name_is_refused(names: tuple[str, ...]) -> None:
    assert refusal(message(), chain_of(Making(names=names))) == "certificate_name"


def test_a_certificate_with_another_kind_of_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert refusal(message(), chain_of(Making(key=key))) == "certificate_key"


@pytest.mark.parametrize("content", [b"", b"<html>", b"-----BEGIN CERTIFICATE-----\nYQ==\n"])
def test_what_is_no_certificate_is_refused(content: bytes) -> None:
    assert refusal(message(), Given(content)) == "certificate_unreadable"


# ── Where certificates come from ──────────────────────────────────────────────────────────────
def answering(respond: Callable[[httpx2.Request], httpx2.Response]) -> httpx2.MockTransport:
    return httpx2.MockTransport(respond)


BETWEEN_KEY = rsa.generate_private_key(65537, 2048)
ISSUER_AT = "http://cacerts.example.com/Between-1.crt"
BETWEEN = make(
    Making(
        key=BETWEEN_KEY,
        subject="Between",
        issuer_key=ROOT_KEY,
        is_authority=True,
        issuer_at="http://cacerts.example.com/Root.crt",
    )
).public_bytes(Encoding.DER)


class Web(httpx2.BaseTransport):
    """PayPal, which gives its certificate alone, and where the issuer's may lie."""

    def __init__(self, *issuers: bytes, issuer_at: str = ISSUER_AT) -> None:
        how = Making(issuer="Between", issuer_key=BETWEEN_KEY, issuer_at=issuer_at)
        self.leaf = make(how).public_bytes(Encoding.PEM)
        self.issuers = list(issuers)
        self.asked: list[str] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(str(request.url))
        if request.url.host.endswith("paypal.com"):
            return httpx2.Response(200, content=self.leaf)
        issuer = self.issuers.pop(0) if len(self.issuers) > 1 else self.issuers[0]
        return httpx2.Response(200, content=issuer) if issuer else httpx2.Response(503)


def public(web: Web) -> WebhookVerifier:
    return WebhookVerifier(WEBHOOK_ID, PublicCertificates([ROOT], web), is_sandbox=False)


def test_an_issuer_that_paypal_leaves_out_is_fetched_once() -> None:
    web = Web(BETWEEN)
    ours = public(web)
    for _ in range(2):
        ours.verify(message())
    assert web.asked == [URL, ISSUER_AT]


def test_an_issuer_that_paypal_gives_is_not_fetched() -> None:
    web = Web(b"")
    between = x509.load_der_x509_certificate(BETWEEN)
    web.leaf = web.leaf.rstrip() + b"\n" + between.public_bytes(Encoding.PEM)
    public(web).verify(message())
    assert web.asked == [URL]


def test_an_issuer_counts_only_under_a_root() -> None:
    false = Making(key=BETWEEN_KEY, subject="Between", issuer_key=STRANGER, is_authority=True)
    for issuer in (false, replace(false, issuer="Between", issuer_key=BETWEEN_KEY)):
        web = Web(make(issuer).public_bytes(Encoding.DER))
        with pytest.raises(WebhookRefused, match="certificate_untrusted"):
            public(web).verify(message())
        assert web.asked == [URL, ISSUER_AT]


@pytest.mark.parametrize(
    "issuer_at",
    [
        "",
        "http://127.0.0.1/issuer.crt",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/issuer.crt",
        "http://[::1]/issuer.crt",
        "http://cacerts.example.com:8080/issuer.crt",
        "http://user@cacerts.example.com/issuer.crt",
        "http://cacerts.example.com/issuer.crt?x=1",
        "file:///etc/hostname",
        "ldap://cacerts.example.com/issuer",
    ],
)
def test_an_issuer_lies_at_a_public_name_or_is_not_asked_for(issuer_at: str) -> None:
    web = Web(BETWEEN, issuer_at=issuer_at)
    with pytest.raises(WebhookRefused, match="certificate_untrusted"):
        public(web).verify(message())
    assert web.asked == [URL]


def test_an_issuer_that_cannot_be_had_is_asked_for_again() -> None:
    for answer in (b"", b"<html>"):
        web, clock = Web(answer, BETWEEN), Clock()
        ours = WebhookVerifier(
            WEBHOOK_ID, PublicCertificates([ROOT], web), is_sandbox=False, clock_ns=clock
        )
        with pytest.raises(WebhookRefused, match="certificate_unavailable"):
            ours.verify(message())
        clock.seconds += 30
        ours.verify(message())
        assert web.asked == [URL, ISSUER_AT] * 2


def test_issuers_without_an_end_are_given_up() -> None:
    how = Making(
        key=BETWEEN_KEY,
        subject="Between",
        issuer="Between",
        issuer_key=BETWEEN_KEY,
        is_authority=True,
        issuer_at=ISSUER_AT,
    )
    web = Web(make(how).public_bytes(Encoding.DER))
    with pytest.raises(WebhookRefused, match="certificate_untrusted"):
        public(web).verify(message())
    assert web.asked == [URL, ISSUER_AT]


def linked(keys: list[rsa.RSAPrivateKey]) -> list[bytes]:
    """Return a certificate for each key, signed by the next one; the last is signed by the root."""
    found = []
    for number, key in enumerate(keys):
        is_last = number == len(keys) - 1
        how = Making(
            key=key,
            subject="Between" if number == 0 else f"Between {number}",
            issuer="A root" if is_last else f"Between {number + 1}",
            issuer_key=ROOT_KEY if is_last else keys[number + 1],
            is_authority=True,
            issuer_at=f"http://cacerts.example.com/Between-{number + 2}.crt",
        )
        found.append(make(how).public_bytes(Encoding.DER))
    return found


OTHER_KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(3)]


@pytest.mark.parametrize(("length", "is_enough"), [(1, True), (2, True), (3, True), (4, False)])
def test_issuers_of_issuers_are_followed_up_to_three(length: int, *, is_enough: bool) -> None:
    web = Web(*linked([BETWEEN_KEY, *OTHER_KEYS][:length]))
    if is_enough:
        public(web).verify(message())
    else:
        with pytest.raises(WebhookRefused, match="certificate_untrusted"):
            public(web).verify(message())
    between = [
        f"http://cacerts.example.com/Between-{number}.crt" for number in range(1, length + 1)
    ]
    assert web.asked == [URL, *between[:3]]


def test_who_did_not_sign_is_asked_for_nothing_more() -> None:
    # Whoever answers in an issuer's place would have us ask elsewhere.
    for how in (
        Making(key=STRANGER, subject="Between", issuer="Between 2", issuer_key=STRANGER),
        Making(key=BETWEEN_KEY, subject="Stranger", issuer="Between 2", issuer_key=STRANGER),
    ):
        elsewhere = replace(how, is_authority=True, issuer_at="http://intranet.example.com/x")
        web = Web(make(elsewhere).public_bytes(Encoding.DER))
        with pytest.raises(WebhookRefused, match="certificate_unavailable"):
            public(web).verify(message())
        assert web.asked == [URL, ISSUER_AT]


def test_no_redirect_is_followed() -> None:
    asked: list[str] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(302, headers={"Location": "https://evil.test/cert"})

    ours = WebhookVerifier(
        WEBHOOK_ID, PublicCertificates([ROOT], answering(respond)), is_sandbox=False
    )
    with pytest.raises(WebhookRefused, match="certificate_unavailable"):
        ours.verify(message())
    assert asked == [URL]


@pytest.mark.parametrize("status", [404, 500])
def test_a_certificate_that_cannot_be_had_is_asked_for_again(status: int) -> None:
    answers = iter([httpx2.Response(status), httpx2.Response(200, content=Given().chain)])
    public, clock = PublicCertificates([ROOT], answering(lambda _: next(answers))), Clock()
    ours = WebhookVerifier(WEBHOOK_ID, public, is_sandbox=False, clock_ns=clock)
    for _ in range(2):
        with pytest.raises(WebhookRefused, match="certificate_unavailable"):
            ours.verify(message())
    clock.seconds += 30
    ours.verify(message())


def test_a_certificate_that_never_ends_is_given_up() -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 4_096

    transport = answering(lambda _: httpx2.Response(200, content=endless()))  # type: ignore[arg-type]
    with pytest.raises(CertificateUnavailable, match="too large"):
        PublicCertificates([ROOT], transport).fetch(URL)
    assert taken < 50


def test_a_certificate_that_comes_drop_by_drop_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic_ns", clock)

    def drops() -> object:
        for _ in range(1_000):
            clock.seconds += 1
            yield b"x"

    transport = answering(lambda _: httpx2.Response(200, content=drops()))  # type: ignore[arg-type]
    with pytest.raises(CertificateUnavailable, match="too slow"):
        PublicCertificates([ROOT], transport).fetch(URL)
    assert clock.seconds == 1_016


def test_a_certificate_and_its_issuers_have_15_seconds_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, waits = Clock(), []
    monkeypatch.setattr(time, "monotonic_ns", clock)
    web = Web(*linked([BETWEEN_KEY, *OTHER_KEYS]))

    def respond(request: httpx2.Request) -> httpx2.Response:
        waits.append(request.extensions["timeout"]["read"])
        clock.seconds += 7
        return web.handle_request(request)

    with pytest.raises(CertificateUnavailable, match="too slow"):
        PublicCertificates([ROOT], answering(respond)).fetch(URL)
    assert waits == [10, 9, 2]


def test_a_server_that_is_away_is_unavailable() -> None:
    def respond(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectTimeout("away")

    with pytest.raises(CertificateUnavailable, match="ConnectTimeout"):
        PublicCertificates([ROOT], answering(respond)).fetch(URL)


def test_only_https_is_spoken() -> None:
    transport = answering(lambda _: httpx2.Response(200, content=Given().chain))
    with pytest.raises(CertificateUnavailable, match="not https"):
        PublicCertificates([ROOT], transport).fetch(URL.replace("https", "http"))


def test_the_public_roots_are_those_of_browsers() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        roots = public_roots()
    assert caught == []
    names = {root.subject.rfc4514_string() for root in roots}
    assert any("CN=DigiCert Global Root G2" in name for name in names)
    assert len(PublicCertificates().anchors()) == len(roots) > 100
    assert refusal(message(), Given(roots=roots)) == "certificate_untrusted"


def test_a_stand_in_is_asked_at_its_own_address() -> None:
    asked: list[str] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        found = ROOT if request.url.path.endswith("/ca") else LEAF
        return httpx2.Response(200, content=found.public_bytes(Encoding.PEM))

    stand_in = SandboxCertificates("http://localhost:8502/paypal", answering(respond))
    ours = WebhookVerifier(WEBHOOK_ID, stand_in, is_sandbox=True)
    for _ in range(2):
        ours.verify(message())
    base = "http://localhost:8502/paypal/v1/notifications/certs"
    assert asked == [f"{base}/CERT-360caa42-fca2a594", f"{base}/ca"]
    evil = "https://evil.test/v1/notifications/certs/CERT-1"
    with pytest.raises(WebhookRefused, match="certificate_url"):
        ours.verify(message(cert_url=evil))
