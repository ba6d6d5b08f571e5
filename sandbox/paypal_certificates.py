"""The root and the certificate that the sandbox signs its webhooks with, created once."""

from __future__ import annotations

import base64
import os
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "paypal-webhooks.pem"
_HOST = "messageverificationcerts.sandbox.paypal.com"
_KEY_BITS = 2048
_EXPONENT = 65537
_LIFE = timedelta(days=3650)
_A_DAY = timedelta(days=1)
_NAME_DIGITS = 32
_OWNER_READS_AND_WRITES = 0o600


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate under a root of its own, and its private key."""

    root: x509.Certificate
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def name(self) -> str:
        """The name of the certificate as PayPal's addresses have it."""
        return f"CERT-{self.certificate.fingerprint(hashes.SHA256()).hex()[:_NAME_DIGITS]}"

    def root_pem(self) -> bytes:
        """Return the root."""
        return self.root.public_bytes(serialization.Encoding.PEM)

    def certificate_pem(self) -> bytes:
        """Return the certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, transmission_id: str, sent_at: str, webhook_id: str, body: bytes) -> str:
        """Return the signature of a webhook in base64."""
        checksum = zlib.crc32(body) & 0xFFFFFFFF
        text = "|".join((transmission_id, sent_at, webhook_id, str(checksum)))
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode("ascii")


def load_or_make(folder: Path) -> Identity:
    """Return the identity stored in a folder; create it where there is none."""
    path = folder / _FILE
    if path.exists():
        path.chmod(_OWNER_READS_AND_WRITES)
    else:
        # Atomic, and the first one stays where two are created at once.
        draft = folder / f"{_FILE}.{os.getpid()}"
        draft.touch(mode=_OWNER_READS_AND_WRITES)
        draft.write_bytes(_pem(_make()))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    content = path.read_bytes()
    root, certificate = x509.load_pem_x509_certificates(content)
    key = serialization.load_pem_private_key(content, None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{path} holds another kind of key")
    return Identity(root, certificate, key)


def _pem(identity: Identity) -> bytes:
    # The key is first in the file: it is read from there.
    key = identity.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key + identity.root_pem() + identity.certificate_pem()


def _make() -> Identity:
    """Create an identity. The root's own key is discarded: it signs nothing more."""
    root_key = rsa.generate_private_key(_EXPONENT, _KEY_BITS)
    key = rsa.generate_private_key(_EXPONENT, _KEY_BITS)
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "PayPal stand-in root")])
    root = (
        _builder(root_name, root_name, root_key.public_key(), root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOST)])
    certificate = (
        _builder(name, root_name, key.public_key(), root_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_HOST)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return Identity(root, certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: rsa.RSAPublicKey,
    issuer_key: rsa.RSAPrivateKey,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _A_DAY)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
