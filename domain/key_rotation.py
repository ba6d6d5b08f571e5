"""The keys that a database holds under the portal's secret key: inspection and rotation.

Only keys are encrypted under it: those of `data_keys`, one an account and year, and those of
`portal_keys`. Each row names the secret key that it is under by an identifier that reveals nothing
of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from domain import audit
from domain.permissions import require
from domain.security.digests import DigestKey, digest_key
from domain.security.keyring import UnknownKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session, sessionmaker

    from domain.actors import Actor
    from domain.security.keyring import Keyring

_DIGESTS = "digests"
_BATCH_SIZE = 500

_PORTAL_KEY = text("SELECT wrapped_key FROM portal_keys WHERE name = :name")
_ADD_PORTAL_KEY = text("""
INSERT INTO portal_keys (name, wrapped_key, wrapped_by) VALUES (:name, :wrapped_key, :wrapped_by)
ON CONFLICT (name) DO NOTHING
""")
_PORTAL_KEYS = text("SELECT name, wrapped_key, wrapped_by FROM portal_keys ORDER BY name")
_LOCK_PORTAL_KEYS = text(f"{_PORTAL_KEYS.text} FOR UPDATE")
_REWRAP_PORTAL_KEY = text("""
UPDATE portal_keys SET wrapped_key = :wrapped_key, wrapped_by = :wrapped_by WHERE name = :name
""")
_COUNTS = text("""
SELECT count(*), count(*) FILTER (WHERE wrapped_by = :current),
       count(*) FILTER (WHERE wrapped_by <> ALL(:known))
FROM data_keys
""")
_NEWEST = text("SELECT wrapped_key FROM data_keys ORDER BY made_at DESC LIMIT 1")
_NEWEST_UNNAMED = text("""
SELECT wrapped_key FROM data_keys WHERE wrapped_by IS NULL ORDER BY made_at DESC LIMIT 1
""")
_NEXT = text("""
SELECT account_id, year, wrapped_key FROM data_keys
WHERE (account_id, year) > (:account_id, :year)
ORDER BY account_id, year LIMIT :limit
""")
_NEXT_TO_REWRAP = text("""
SELECT account_id, year, wrapped_key FROM data_keys
WHERE (account_id, year) > (:account_id, :year) AND wrapped_by IS DISTINCT FROM :current
ORDER BY account_id, year LIMIT :limit FOR UPDATE
""")
_REWRAP = text("""
UPDATE data_keys SET wrapped_key = :wrapped_key, wrapped_by = :wrapped_by
WHERE account_id = :account_id AND year = :year
""")
_DISCARD = text("DELETE FROM data_keys WHERE account_id = :account_id AND year = :year")
_BEFORE_ALL = {"account_id": -1, "year": 0}


@dataclass(frozen=True, slots=True)
class KeyState:
    """How many keys the database has, how many of them no secret key opens, and how many an older.

    `older` are those that are not known to be under the secret key of now, and are not `lost`.
    """

    total: int
    older: int
    lost: int


@dataclass(frozen=True, slots=True)
class Rotation:
    """The result of a rotation: `rewrapped` of `total` keys; no secret key decrypts `lost` ones.

    `discarded` says that the lost ones were deleted, as requested. `remaining` were not found under
    the current secret key when every key was tried at the end.
    """

    total: int
    rewrapped: int
    lost: int
    discarded: bool
    remaining: int

    @property
    def is_complete(self) -> bool:
        """Whether the secret key of now opens everything, so that no older one is needed."""
        return self.remaining == 0


# ── At the start ──────────────────────────────────────────────────────────────────────────────
def key_state(session: Session, *, keyring: Keyring) -> KeyState:
    """Return how the database's keys relate to the configured secret keys.

    Of keys that an older version made, which name no secret key, the newest is tried.
    """
    asked = {"current": keyring.current_id, "known": list(keyring.ids)}
    total, current, lost = session.execute(_COUNTS, asked).one()
    newest = session.execute(_NEWEST_UNNAMED).scalar_one_or_none()
    if newest is not None and not _opens(keyring, newest):
        lost += 1
    for row in session.execute(_PORTAL_KEYS):
        total += 1
        current += row.wrapped_by == keyring.current_id
        lost += not _opens(keyring, row.wrapped_key)
    return KeyState(total, total - current - lost, lost)


def open_digest_key(session: Session, *, keyring: Keyring) -> DigestKey:
    """Return the key of digests; create it where there is none yet. Raises UnknownKey.

    It is derived from the secret key that the database has been used with: digests of an older
    version stay valid.
    """
    found = session.execute(_PORTAL_KEY, {"name": _DIGESTS}).scalar_one_or_none()
    if found is None:
        newest = session.execute(_NEWEST).scalar_one_or_none()
        secret = keyring.secret if newest is None else keyring.secret_behind(bytes(newest))
        row = {"name": _DIGESTS, **_wrapped(keyring, digest_key(secret).value)}
        session.execute(_ADD_PORTAL_KEY, row)
        # Another process may have been first.
        found = session.execute(_PORTAL_KEY, {"name": _DIGESTS}).scalar_one()
    return DigestKey(keyring.unwrap(bytes(found)))


def _opens(keyring: Keyring, wrapped: bytes) -> bool:
    try:
        keyring.unwrap(bytes(wrapped))
    except UnknownKey:
        return False
    return True


def _wrapped(keyring: Keyring, key: bytes) -> dict[str, Any]:
    return {"wrapped_key": keyring.wrap(key), "wrapped_by": keyring.current_id}


# ── Rotation ──────────────────────────────────────────────────────────────────────────────────
def rotate_keys(
    sessions: sessionmaker[Session],
    *,
    keyring: Keyring,
    actor: Actor,
    discard_lost: bool = False,
    on_batch: Callable[[int], None] = lambda _count: None,
) -> Rotation:
    """Rewrap every key of the database under the current secret key, and try each of them.

    Each batch is a transaction of its own, after which `on_batch` receives the number of rewritten
    keys: an interrupted rotation continues where it stopped. A second run has nothing to do. A key
    that no secret key opens is left as it is, or deleted with `discard_lost`, and with it what it
    encrypted; a lost key of digests is created anew. Raises NotAuthorised.
    """
    require(actor, "rotate_keys")
    with sessions.begin() as session:
        rewrapped, lost = _rotate_portal_keys(session, keyring, discard_lost=discard_lost)
    place = _BEFORE_ALL
    while True:
        with sessions.begin() as session:
            asked = {**place, "current": keyring.current_id, "limit": _BATCH_SIZE}
            rows = session.execute(_NEXT_TO_REWRAP, asked).all()
            if not rows:
                break
            bad = _rotate_batch(session, keyring, rows, discard_lost=discard_lost)
        place = {"account_id": rows[-1].account_id, "year": rows[-1].year}
        rewrapped += len(rows) - bad
        lost += bad
        on_batch(len(rows) - bad)
    with sessions.begin() as session:
        total, remaining = _count_remaining(session, keyring)
        done = Rotation(total, rewrapped, lost, discard_lost and lost > 0, remaining)
        if rewrapped or done.discarded:
            details = {"rewrapped": rewrapped, "lost": lost, "discarded": done.discarded}
            audit.record(session, action="rotate_keys", actor=actor, details=details)
    return done


def _rotate_portal_keys(
    session: Session, keyring: Keyring, *, discard_lost: bool
) -> tuple[int, int]:
    """Return how many were rewritten, and how many are lost."""
    rewrapped = lost = 0
    for row in session.execute(_LOCK_PORTAL_KEYS).all():
        try:
            key = keyring.unwrap(bytes(row.wrapped_key))
        except UnknownKey:
            lost += 1
            if not discard_lost:
                continue
            key = digest_key(keyring.secret).value
        else:
            if row.wrapped_by == keyring.current_id:
                continue
            rewrapped += 1
        session.execute(_REWRAP_PORTAL_KEY, {"name": row.name, **_wrapped(keyring, key)})
    return rewrapped, lost


def _rotate_batch(
    session: Session, keyring: Keyring, rows: Sequence[Row[Any]], *, discard_lost: bool
) -> int:
    """Rewrite the keys of some rows; return how many of them are lost."""
    good, bad = [], []
    for row in rows:
        place = {"account_id": row.account_id, "year": row.year}
        try:
            key = keyring.unwrap(bytes(row.wrapped_key))
        except UnknownKey:
            bad.append(place)
        else:
            good.append({**place, **_wrapped(keyring, key)})
    if good:
        session.execute(_REWRAP, good)
    if bad and discard_lost:
        session.execute(_DISCARD, bad)
    return len(bad)


def _count_remaining(session: Session, keyring: Keyring) -> tuple[int, int]:
    """Try every key with the secret key of now alone; return how many there are and fail."""
    current = keyring.without_previous()
    total = remaining = 0
    for wrapped in _every_key(session):
        total += 1
        remaining += not _opens(current, wrapped)
    return total, remaining


def _every_key(session: Session) -> Iterator[bytes]:
    for row in session.execute(_PORTAL_KEYS).all():
        yield row.wrapped_key
    place = _BEFORE_ALL
    while rows := session.execute(_NEXT, {**place, "limit": _BATCH_SIZE}).all():
        for row in rows:
            yield row.wrapped_key
        place = {"account_id": rows[-1].account_id, "year": rows[-1].year}
