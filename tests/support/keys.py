"""The secret key of the tests, and the keys that their sessions seal and compare by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from domain.security.digests import DIGEST_KEY, digest_key
from domain.security.payload_encryption import NOBODY, VAULT, Vault

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.models import OutboxMessage

SECRET = b"the-secret-key-of-these-tests-0123456789"
TEST_VAULT = Vault(SECRET)
KNOWS_VAULT: dict[str, object] = {VAULT: TEST_VAULT}
"""What sessions of `make_sessions` know: the vault, as the portal's own do."""

TEST_DIGEST_KEY = digest_key(SECRET)
KNOWS_KEYS: dict[str, object] = {**KNOWS_VAULT, DIGEST_KEY: TEST_DIGEST_KEY}
"""The vault and the key of digests, as a portal has them that was started whole."""


def parameters_of(session: Session, message: OutboxMessage) -> dict[str, Any]:
    """Return what a mail that waits is made from, links and all."""
    assert message.parameters is None, "it waits in clear"
    sealed = bytes(message.sealed_parameters or b"")
    opened: dict[str, Any] = json.loads(TEST_VAULT.open(session, account_id=NOBODY, sealed=sealed))
    return opened
