"""A device with passkeys in software: it answers as WebAuthn says, or wrongly where told to."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

USER_PRESENT, USER_VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def encode(content: bytes) -> str:
    """Return bytes in base64url without padding, as WebAuthn writes them."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode(content: str) -> bytes:
    return base64.urlsafe_b64decode(content + "=" * (-len(content) % 4))


@dataclass
class Device:
    """One key pair for one site, which counts its signatures."""

    origin: str
    flags: int = USER_PRESENT | USER_VERIFIED
    sign_count: int = 0
    credential_id: bytes = field(default_factory=lambda: os.urandom(32))
    user_handle: bytes = b""

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: str) -> str:
        """Answer the options of a registration."""
        asked = json.loads(options)
        self.user_handle = decode(asked["user"]["id"])
        numbers = self._key.public_key().public_numbers()
        cose_key = cbor2.dumps(
            {
                1: 2,
                3: -7,
                -1: 1,
                -2: numbers.x.to_bytes(32, "big"),
                -3: numbers.y.to_bytes(32, "big"),
            }
        )
        length = len(self.credential_id).to_bytes(2, "big")
        attested = bytes(16) + length + self.credential_id + cose_key
        data = self._authenticator_data(asked["rp"]["id"], self.flags | ATTESTED) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        return self._answer(
            clientDataJSON=self._client_data("webauthn.create", asked["challenge"]),
            attestationObject=attestation,
        )

    def get(self, options: str) -> str:
        """Answer the options of a sign-in."""
        asked = json.loads(options)
        self.sign_count += 1
        data = self._authenticator_data(asked["rpId"], self.flags)
        client_data = self._client_data("webauthn.get", asked["challenge"])
        signed = data + hashlib.sha256(client_data).digest()
        return self._answer(
            clientDataJSON=client_data,
            authenticatorData=data,
            signature=self._key.sign(signed, ec.ECDSA(SHA256())),
            userHandle=self.user_handle,
        )

    def _authenticator_data(self, party_id: str, flags: int) -> bytes:
        party = hashlib.sha256(party_id.encode()).digest()
        return party + bytes([flags]) + self.sign_count.to_bytes(4, "big")

    def _client_data(self, kind: str, challenge: str) -> bytes:
        content = {"type": kind, "challenge": challenge, "origin": self.origin}
        return json.dumps(content | {"crossOrigin": False}).encode()

    def _answer(self, **response: bytes) -> str:
        content: dict[str, Any] = {
            "id": encode(self.credential_id),
            "rawId": encode(self.credential_id),
            "type": "public-key",
            "response": {name: encode(value) for name, value in response.items()},
            "clientExtensionResults": {},
        }
        return json.dumps(content)
