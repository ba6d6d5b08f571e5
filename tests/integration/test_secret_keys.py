"""SECRET_KEY changes: what was encrypted stays readable, and a key that is missing is told."""

from __future__ import annotations

import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from db.engine import make_sessions
from db.models import AuditRecord
from domain import identity, key_rotation, outbox
from domain.actors import StaffRole, system_actor, user_actor
from domain.errors import NotAuthorised, NotFound
from domain.key_rotation import KeyState, Rotation, key_state, open_digest_key, rotate_keys
from domain.security.digests import digest_key
from domain.security.keyring import Keyring, UnknownKey
from domain.security.payload_encryption import NOBODY, VAULT, Vault
from portal import startup
from portal.cli import main as cli
from portal.runtime import database
from portal.runtime.settings import Settings, SettingsError, load_settings, settings
from tests.support.environment import OUTSIDE_DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

OLD = "the-old-secret-key-of-these-tests-0123456789"
NEW = "the-new-secret-key-of-these-tests-0123456789"
OLD_RING, NEW_RING = Keyring(OLD.encode()), Keyring(NEW.encode())
BOTH = Keyring(NEW.encode(), [OLD.encode()])
ACTOR = system_actor("tests")
ACCOUNTS = range(1, 8)
FIRST_BATCH = {"account_id": -1, "year": 0, "current": NEW_RING.current_id, "limit": 500}
DEADLINE_SECONDS = 240.0


def keep(session: Session, vault: Vault) -> dict[int, bytes]:
    """Keep something of several accounts and of nobody; return it sealed, by account."""
    return {
        account: vault.seal(session, account_id=account, content=f"about {account}".encode())
        for account in (NOBODY, *ACCOUNTS)
    }


@pytest.fixture
def kept(sessions: sessionmaker[Session]) -> dict[int, bytes]:
    """What was sealed while OLD was the secret key, and the key of digests of then."""
    with sessions.begin() as session:
        open_digest_key(session, keyring=OLD_RING)
        return keep(session, Vault(OLD_RING))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_rotation, "_BATCH_SIZE", 3)


def read_all(sessions: sessionmaker[Session], keyring: Keyring, kept: dict[int, bytes]) -> None:
    with sessions() as session:
        for account, sealed in kept.items():
            opened = Vault(keyring).open(session, account_id=account, sealed=sealed)
            assert opened == f"about {account}".encode()


def rotate(
    sessions: sessionmaker[Session], keyring: Keyring = BOTH, *, discard_lost: bool = False
) -> Rotation:
    return rotate_keys(sessions, keyring=keyring, actor=ACTOR, discard_lost=discard_lost)


# ── Rotation ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("small_batches")
def test_everything_is_readable_by_the_new_key_alone_and_again_changes_nothing(
    sessions: sessionmaker[Session], kept: dict[int, bytes]
) -> None:
    keys = len(kept) + 1
    with pytest.raises(NotFound):
        read_all(sessions, NEW_RING, kept)
    assert rotate(sessions) == Rotation(keys, keys, 0, discarded=False, remaining=0)
    read_all(sessions, NEW_RING, kept)
    rows = text(
        "SELECT t::text FROM data_keys t UNION SELECT t::text FROM portal_keys t ORDER BY 1"
    )
    with sessions() as session:
        before = session.scalars(rows).all()
    again = rotate(sessions)
    assert again == Rotation(keys, 0, 0, discarded=False, remaining=0)
    assert again.is_complete
    with sessions() as session:
        assert session.scalars(rows).all() == before
        assert key_state(session, keyring=NEW_RING) == KeyState(keys, 0, 0)
        recorded = select(AuditRecord.details).where(AuditRecord.action == "rotate_keys")
        assert session.scalars(recorded).all() == [
            {"rewrapped": keys, "lost": 0, "discarded": False}
        ]


@pytest.mark.usefixtures("small_batches")
def test_a_rotation_that_was_interrupted_goes_on_where_it_was(
    sessions: sessionmaker[Session], kept: dict[int, bytes]
) -> None:
    done: list[int] = []

    def end_after_two(count: int) -> None:
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotate_keys(sessions, keyring=BOTH, actor=ACTOR, on_batch=end_after_two)
    assert done == [3, 3]
    read_all(sessions, BOTH, kept)
    with sessions() as session:
        assert key_state(session, keyring=BOTH) == KeyState(len(kept) + 1, 2, 0)
        assert key_state(session, keyring=NEW_RING).lost == 2
    assert rotate(sessions) == Rotation(len(kept) + 1, 2, 0, discarded=False, remaining=0)
    read_all(sessions, NEW_RING, kept)


def test_two_rotations_at_once_rewrite_each_key_once(
    sessions: sessionmaker[Session], kept: dict[int, bytes]
) -> None:
    waits = text(
        "SELECT count(*) FROM pg_locks"
        " WHERE NOT granted AND transactionid = CAST(pg_current_xact_id() AS xid)"
    )
    with ThreadPoolExecutor() as pool:
        with sessions.begin() as first:
            rows = first.execute(key_rotation._NEXT_TO_REWRAP, FIRST_BATCH).all()
            key_rotation._rotate_batch(first, BOTH, rows, discard_lost=False)
            second = pool.submit(rotate, sessions)
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not second.done() and first.execute(waits).scalar_one() == 0:
                assert time.monotonic() < deadline, "the other neither waits nor ends"
        done = second.result()
    assert len(rows) == len(kept)
    assert done.rewrapped == 1, "the key of digests alone"
    assert done.is_complete
    read_all(sessions, NEW_RING, kept)


def test_a_key_that_another_process_still_makes_under_the_old_one_is_found(
    sessions: sessionmaker[Session], kept: dict[int, bytes]
) -> None:
    def make_another(_count: int) -> None:
        with sessions.begin() as session:
            at = datetime(2001, 1, 1, tzinfo=UTC)
            Vault(OLD_RING).seal(session, account_id=NOBODY, content=b"late", at=at)

    first = rotate_keys(sessions, keyring=BOTH, actor=ACTOR, on_batch=make_another)
    assert not first.is_complete
    assert (first.total, first.remaining) == (len(kept) + 2, 1)
    second = rotate(sessions)
    assert (second.rewrapped, second.is_complete) == (1, True)


def test_keys_of_an_older_version_that_name_no_secret_key_are_rotated(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        kept = keep(session, Vault(OLD_RING))
        session.execute(text("UPDATE data_keys SET wrapped_by = NULL"))
    with sessions() as session:
        assert key_state(session, keyring=OLD_RING) == KeyState(len(kept), len(kept), 0)
        assert key_state(session, keyring=NEW_RING).lost == 1, "the newest was tried"
    assert rotate(sessions).rewrapped == len(kept)
    read_all(sessions, NEW_RING, kept)


def test_without_the_old_key_nothing_is_touched_until_that_is_asked_for(
    sessions: sessionmaker[Session], kept: dict[int, bytes]
) -> None:
    keys = len(kept) + 1
    assert rotate(sessions, NEW_RING) == Rotation(keys, 0, keys, discarded=False, remaining=keys)
    read_all(sessions, OLD_RING, kept)
    gone = rotate(sessions, NEW_RING, discard_lost=True)
    assert gone == Rotation(1, 0, keys, discarded=True, remaining=0)
    with sessions.begin() as session:
        assert open_digest_key(session, keyring=NEW_RING) == digest_key(NEW.encode())
        anew = keep(session, Vault(NEW_RING))
    read_all(sessions, NEW_RING, anew)


def test_only_the_system_rotates(sessions: sessionmaker[Session]) -> None:
    with pytest.raises(NotAuthorised):
        rotate_keys(sessions, keyring=BOTH, actor=user_actor(1, staff_role=StaffRole.ADMIN))


# ── What depends on the secret key ────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("kept")
def test_what_accounts_share_is_recognised_under_every_secret_key(
    sessions: sessionmaker[Session],
) -> None:
    expected = digest_key(OLD.encode())
    with sessions.begin() as session:
        assert open_digest_key(session, keyring=BOTH) == expected
    rotate(sessions)
    with sessions.begin() as session:
        assert open_digest_key(session, keyring=NEW_RING) == expected
        with pytest.raises(UnknownKey):
            open_digest_key(session, keyring=OLD_RING)


def test_an_upgrade_with_a_new_secret_key_keeps_the_old_key_of_digests(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        keep(session, Vault(OLD_RING))  # an older version derived its digests and kept none
        assert open_digest_key(session, keyring=BOTH) == digest_key(OLD.encode())


def test_a_mail_that_waits_is_sent_after_a_rotation(engine: Engine) -> None:
    before = make_sessions(engine, {VAULT: Vault(OLD_RING)})
    with before.begin() as session:
        outbox.enqueue(
            session,
            recipient="lan@example.com",
            template="reset_password",
            parameters={"token": "t"},
            locale="en",
        )
    rotate(before)
    after = make_sessions(engine, {VAULT: Vault(NEW_RING)})
    sent: list[outbox.Mail] = []
    assert outbox.deliver_due(after, send=sent.append).sent == 1
    assert sent[0].parameters == {"token": "t"}


# ── The start and the command ─────────────────────────────────────────────────────────────────
@pytest.fixture
def given(database_url: str) -> Callable[..., Settings]:
    """Settings of a portal on the test's database, with the secret keys that are named."""

    def make(secret_key: str, previous: str = "") -> Settings:
        return load_settings(
            {
                **OUTSIDE_DEMO,
                "DATABASE_URL": database_url,
                "JOBS": "0",
                "SECRET_KEY": secret_key,
                "SECRET_KEY_PREVIOUS": previous,
            }
        )

    return make


@pytest.fixture
def run(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run rotate-key under some secret keys; return its exit status and all that it said."""
    environment = {**OUTSIDE_DEMO, "DATABASE_URL": database_url, "JOBS": "0"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(secret_key: str, previous: str = "", *words: str) -> tuple[int, str]:
        monkeypatch.setenv("SECRET_KEY", secret_key)
        monkeypatch.setenv("SECRET_KEY_PREVIOUS", previous)
        settings.cache_clear()
        monkeypatch.setattr(sys, "argv", ["portal", "rotate-key", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capfd.readouterr()
        return int(ended.value.code or 0), shown.out + shown.err

    yield run
    settings.cache_clear()
    database.disconnect()


def start(given: Settings) -> None:
    startup.prepare(given).stop()


def test_a_start_without_the_key_of_before_is_refused_in_one_sentence(
    given: Callable[..., Settings], sessions: sessionmaker[Session]
) -> None:
    start(given(OLD))
    with pytest.raises(SettingsError, match="SECRET_KEY is not the one") as caught:
        start(given(NEW))
    (message,) = caught.value.problems
    assert "1 of its 1 keys" in message, "an empty database has one, to tell by"
    assert "SECRET_KEY_PREVIOUS" in message
    assert "rotate-key --discard-lost" in message
    with sessions.begin() as session:
        keep(session, Vault(OLD_RING))
    with pytest.raises(SettingsError, match="9 of its 9 keys"):
        start(given(NEW))
    start(given(NEW, OLD))


def test_a_start_with_keys_under_an_older_one_says_what_to_run(
    given: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    start(given(OLD))
    with caplog.at_level(logging.WARNING, "portal.startup"):
        start(given(NEW, f"another-key-of-long-ago, {OLD}"))
    assert "1 of 1 keys are not known to be under SECRET_KEY" in caplog.text
    assert "rotate-key" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "portal.startup"):
        start(given(OLD))
    assert "rotate-key" not in caplog.text


def test_a_command_that_needs_no_key_works_without_it(
    given: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    start(given(OLD))
    with caplog.at_level(logging.WARNING, "portal.startup"):
        startup.connect(given(NEW), needs_keys=False).stop()
    assert "SECRET_KEY is not the one" in caplog.text


def test_the_command_rotates_once_and_says_so_twice(
    run: Callable[..., tuple[int, str]],
    sessions: sessionmaker[Session],
    kept: dict[int, bytes],
    given: Callable[..., Settings],
) -> None:
    code, shown = run(NEW, OLD)
    assert code == 0
    assert "Keys in the database: 9. Rewritten now: 9." in shown
    assert "SECRET_KEY_PREVIOUS is no longer needed." in shown
    code, shown = run(NEW, OLD)
    assert code == 0
    assert "Keys in the database: 9. Rewritten now: 0." in shown
    read_all(sessions, NEW_RING, kept)
    start(given(NEW))
    with pytest.raises(SettingsError):
        start(given(OLD))


@pytest.mark.usefixtures("kept")
def test_the_command_without_the_old_key_fails_and_discards_only_when_told(
    run: Callable[..., tuple[int, str]], given: Callable[..., Settings]
) -> None:
    code, shown = run(NEW)
    assert code == 1
    assert "Keys that SECRET_KEY does not open: 9." in shown
    code, shown = run(NEW, "", "--discard-lost")
    assert code == 0
    assert "Deleted, because no secret key opens them: 9." in shown
    start(given(NEW))


def test_people_stay_signed_in_and_links_still_open_under_another_secret_key(
    given: Callable[..., Settings],
) -> None:
    before, after = given(OLD), given(NEW, OLD)
    running = startup.prepare(before)
    try:
        database.transaction(
            identity.create_user,
            email="lan@example.com",
            display_name="Lan",
            password="violet-kettle-9-march",
            staff_role=None,
            actor=ACTOR,
        )
        client = identity.Client(address="192.0.2.7", user_agent="a browser")
        signed_in = identity.authenticate(
            database.sessions(),
            email="lan@example.com",
            password="violet-kettle-9-march",
            client=client,
            policy=before.policy,
        )
        database.transaction(
            identity.request_password_reset,
            email="lan@example.com",
            client=client,
            policy=before.policy,
        )
    finally:
        running.stop()
    running = startup.prepare(after)
    try:
        token = signed_in.token
        assert (
            database.read_snapshot(identity.session_actor, token=token, policy=after.policy)
            is not None
        )
        (mail,) = database.read_snapshot(outbox.waiting_mail, actor=ACTOR)
        person = database.read_snapshot(
            identity.email_of_link, token=mail.parameters["token"], purpose="reset_password"
        )
        assert person == "lan@example.com"
    finally:
        running.stop()
