"""Checks of CBOR before it is decoded: devices send no tags and no indefinite lengths.

CTAP2 allows neither (its canonical form of RFC 8949). A general decoder takes tags for regular
expressions, dates or fractions, and the sender would choose how long that takes.
"""

from __future__ import annotations

_LENGTH_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_TEXTS, _ARRAY, _MAP, _TAG, _SIMPLE = (2, 3), 4, 5, 6, 7
_MAX_ITEMS = 1_000
"""More than any answer of a device has."""

_RELYING_PARTY_BYTES = 37
"""The digest of the relying party's id, the flags, and the count of signatures."""

_AAGUID_BYTES, _ID_LENGTH_BYTES = 16, 2
_HAS_KEY, _HAS_EXTENSIONS = 0x40, 0x80


def is_plain(content: bytes) -> bool:
    """Return whether these are complete CBOR items in sequence, in canonical form.

    The work grows with the length alone.
    """
    place, items = 0, 0
    while place < len(content):
        kind, info = content[place] >> 5, content[place] & 0x1F
        place += 1
        size = _LENGTH_BYTES.get(info, 0)
        if kind == _TAG or info > max(_LENGTH_BYTES) or place + size > len(content):
            return False
        value = int.from_bytes(content[place : place + size], "big") if size else info
        place += size
        if kind in _TEXTS:
            place += value
        elif kind in {_ARRAY, _MAP} and value > _MAX_ITEMS:
            return False
        items += 1
        if items > _MAX_ITEMS:
            return False
    return place == len(content)


def is_plain_authenticator_data(content: bytes) -> bool:
    """Return whether the part after the fixed one (WebAuthn, section 6.1) is plain CBOR."""
    if len(content) < _RELYING_PARTY_BYTES:
        return False
    flags, rest = content[32], content[_RELYING_PARTY_BYTES:]
    if flags & _HAS_KEY:
        start = _AAGUID_BYTES + _ID_LENGTH_BYTES
        if len(rest) < start:
            return False
        rest = rest[start + int.from_bytes(rest[_AAGUID_BYTES:start], "big") :]
    elif not flags & _HAS_EXTENSIONS:
        return not rest
    return is_plain(rest)
