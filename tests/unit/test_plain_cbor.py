"""CBOR that devices send is let through, and what would keep a decoder busy is not."""

from __future__ import annotations

import cbor2
import pytest

from domain.identity.plain_cbor import is_plain, is_plain_authenticator_data

KEY = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: b"\xd8\x23" * 16})
FIXED = bytes(32)


def data(flags: int, rest: bytes = b"") -> bytes:
    return FIXED + bytes([flags]) + bytes(4) + rest


def test_what_devices_send_is_plain() -> None:
    attested = bytes(16) + b"\x00\x02ab" + KEY
    assert is_plain_authenticator_data(data(0x05))
    assert is_plain_authenticator_data(data(0x45, attested))
    assert is_plain_authenticator_data(data(0xC5, attested + cbor2.dumps({"credProtect": 2})))
    assert is_plain_authenticator_data(data(0x85, cbor2.dumps({"appid": True})))
    assert is_plain(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data(0x45, attested)}))


@pytest.mark.parametrize(
    "odd",
    [
        b"\xa1aa\xd8\x23" + cbor2.dumps("(?i)" + "[\x00-\uffff]" * 1500),
        b"\xc1\x00",
        b"\x9f\x01\xff",
        b"\x5f\x41a\xff",
        b"\x9b" + b"\xff" * 8,
        b"\x5b" + b"\xff" * 8,
        b"\x18",
        b"\x1c",
        b"\x00" * 2_000,
    ],
)
def test_tags_open_ends_and_what_is_cut_are_not(odd: bytes) -> None:
    assert not is_plain(odd)
    assert not is_plain_authenticator_data(data(0x85, odd))
    assert not is_plain_authenticator_data(data(0xC5, bytes(16) + b"\x00\x02ab" + KEY + odd))


def test_what_is_too_short_or_has_more_than_it_says_is_not() -> None:
    assert not is_plain_authenticator_data(b"")
    assert not is_plain_authenticator_data(data(0x05, b"\x00"))
    assert not is_plain_authenticator_data(data(0x45, bytes(5)))
