"""The chain of the audit log: what it proves, and which break it names."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from domain import audit
from domain.actors import StaffRole, user_actor
from domain.audit.chain import Head, chain_state, seal_audit_log, verify_audit
from domain.clock import CLOCK
from domain.errors import InvalidInput, NotAuthorised
from domain.jobs import standard_jobs
from tests.factories import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session, sessionmaker

    from domain.audit.chain import Proof

ADMIN = user_actor(1, staff_role=StaffRole.ADMIN)


@pytest.fixture
def tamper(database_url: str) -> Iterator[Callable[[str], None]]:
    """Return a function that does by hand, as the owner of the database, what nobody may."""
    engine = create_engine(database_url)

    def run(statement: str) -> None:
        with engine.begin() as connection:
            for table in ("audit_log", "audit_seals"):
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            connection.execute(text(statement))
            for table in ("audit_log", "audit_seals"):
                connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))

    yield run
    engine.dispose()


def write(session: Session, *actions: str) -> None:
    for action in actions:
        audit.record(
            session, action=action, actor=ADMIN, details={"é": 1.50, "a": [action], "big": 10**30}
        )
    session.commit()


def seal(session: Session) -> int:
    sealed = seal_audit_log(session, actor=SYSTEM)
    session.commit()
    return sealed


def sealed(session: Session, count: int = 5) -> Head:
    """Write and seal some rows, after what was there; return the head."""
    write(session, *(f"act_{number}" for number in range(count)))
    seal(session)
    proof = prove(session)
    assert proof.first_break is None
    assert proof.head is not None
    return proof.head


def prove(session: Session, kept: Head | None = None) -> Proof:
    proof = verify_audit(session, actor=SYSTEM, kept=kept)
    session.rollback()
    return proof


def the_break(session: Session, kept: Head | None = None) -> tuple[str, int]:
    found = prove(session, kept).first_break
    assert found is not None
    return found.kind, found.position


def id_at(session: Session, position: int) -> int:
    statement = text("SELECT audit_id FROM audit_seals WHERE position = :position")
    found: int = session.scalars(statement, {"position": position}).one()
    return found


def test_an_untouched_log_is_proved(session: Session) -> None:
    assert prove(session).rows == 0
    head = sealed(session)
    write(session, "late")
    proof = prove(session, head)
    assert (proof.rows, proof.waiting, proof.head) == (head.position, 1, head)
    assert seal(session) == 1
    assert seal(session) == 0
    assert prove(session, head).rows == head.position + 1


def test_a_stranger_can_compute_it(session: Session) -> None:
    sealed(session)
    rows = session.execute(
        text(
            "SELECT s.position, s.digest, a.id, a.recorded_at, a.actor, a.address, a.action,"
            " a.account_id, a.details::text FROM audit_seals s JOIN audit_log a"
            " ON a.id = s.audit_id ORDER BY s.position"
        )
    ).all()
    digest = b"\0" * 32
    start = datetime(1970, 1, 1, tzinfo=UTC)
    for position, kept, number, recorded_at, *rest in rows:
        micros = (recorded_at - start) // timedelta(microseconds=1)
        shown = json.dumps([position, number, micros, *rest], separators=(",", ":"))
        digest = hashlib.sha256(digest + shown.encode("utf-8")).digest()
        assert bytes(kept) == digest
    assert len(rows) >= 5


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'user:2'",
        "action = 'act_9'",
        "account_id = 7",
        "address = '127.0.0.1'",
        "recorded_at = recorded_at + interval '1 microsecond'",
        """details = details || '{"a": []}'""",
    ],
)
def test_a_changed_row_is_found(
    session: Session, tamper: Callable[[str], None], change: str
) -> None:
    place = sealed(session).position - 2
    number = id_at(session, place)
    session.rollback()
    tamper(f"UPDATE audit_log SET {change} WHERE id = {number}")  # noqa: S608 - of this test
    assert the_break(session) == ("row_changed", place)


def test_a_deleted_row_is_found(session: Session, tamper: Callable[[str], None]) -> None:
    place = sealed(session).position - 2
    number = id_at(session, place)
    session.rollback()
    tamper(f"DELETE FROM audit_log WHERE id = {number}")  # noqa: S608 - of this test
    found = prove(session).first_break
    assert found is not None
    assert (found.kind, found.position, found.audit_id) == ("row_deleted", place, number)


def test_swapped_rows_are_found(session: Session, tamper: Callable[[str], None]) -> None:
    place = sealed(session).position - 3
    one, other = id_at(session, place), id_at(session, place + 1)
    session.rollback()
    tamper(
        "UPDATE audit_log a SET action = b.action, details = b.details FROM audit_log b"  # noqa: S608 - of this test
        f" WHERE (a.id, b.id) IN (({one}, {other}), ({other}, {one}))"
    )
    assert the_break(session) == ("row_changed", place)


def test_swapped_seals_are_found(session: Session, tamper: Callable[[str], None]) -> None:
    place = sealed(session).position - 3
    session.rollback()
    tamper(f"UPDATE audit_seals SET position = -1 WHERE position = {place}")  # noqa: S608
    tamper(f"UPDATE audit_seals SET position = {place} WHERE position = {place + 1}")  # noqa: S608
    tamper(f"UPDATE audit_seals SET position = {place + 1} WHERE position = -1")  # noqa: S608
    assert the_break(session) == ("row_changed", place)


def test_a_missing_seal_is_found(session: Session, tamper: Callable[[str], None]) -> None:
    place = sealed(session).position - 1
    session.rollback()
    tamper(f"DELETE FROM audit_seals WHERE position = {place}")  # noqa: S608 - of this test
    assert the_break(session) == ("seal_missing", place)


def test_a_cut_end_is_found_by_a_head_that_was_kept(
    session: Session, tamper: Callable[[str], None]
) -> None:
    head = sealed(session)
    number = id_at(session, head.position)
    session.rollback()
    tamper(f"DELETE FROM audit_seals WHERE position = {head.position}")  # noqa: S608
    tamper(f"DELETE FROM audit_log WHERE id = {number}")  # noqa: S608 - of this test
    assert prove(session).first_break is None
    assert the_break(session, head) == ("cut", head.position)
    write(session, "another")
    seal(session)
    assert prove(session).first_break is None
    assert the_break(session, head) == ("other_chain", head.position)


def test_a_row_that_the_sealer_never_saw_is_found(
    session: Session, tamper: Callable[[str], None]
) -> None:
    sealed(session)
    session.rollback()
    tamper(
        "INSERT INTO audit_log (id, recorded_at, actor, action, details) OVERRIDING SYSTEM VALUE"
        " VALUES (-5, now() - interval '2 days', 'user:1', 'forged', '{}')"
    )
    assert seal(session) == 0
    assert the_break(session)[0] == "never_sealed"


def test_a_row_that_was_committed_late_is_sealed_late(
    session: Session, sessions: sessionmaker[Session]
) -> None:
    sealed(session)
    with sessions() as slow:
        audit.record(slow, action="slow", actor=ADMIN)
        write(session, "quick")
        assert seal(session) == 1
        slow.commit()
    assert seal(session) == 1
    assert prove(session).waiting == 0


def test_the_first_rows_may_come_late_too(
    session: Session, sessions: sessionmaker[Session]
) -> None:
    with sessions() as slow:
        audit.record(slow, action="slow", actor=ADMIN)
        write(session, "quick")
        seal(session)
        slow.commit()
    assert seal(session) == 1
    assert prove(session).first_break is None


def test_days_later_only_what_is_new_is_looked_for(session: Session) -> None:
    head = sealed(session)
    session.info[CLOCK] = lambda: datetime.now(UTC) + timedelta(days=3)
    write(session, "new")
    assert seal(session) == 1
    assert prove(session, head).rows == head.position + 1


def test_sealers_at_once_seal_each_row_once(
    session: Session, sessions: sessionmaker[Session]
) -> None:
    write(session, *(f"act_{number}" for number in range(60)))

    def work(_number: int) -> int:
        with sessions.begin() as mine:
            return seal_audit_log(mine, actor=SYSTEM, limit=7)

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(work, range(24)))
    proof = prove(session)
    assert proof.first_break is None
    assert proof.waiting == 0
    assert sum(counts) == proof.rows


def test_the_nightly_proof_tells_of_a_break(
    session: Session, sessions: sessionmaker[Session], tamper: Callable[[str], None]
) -> None:
    head = sealed(session)
    number = id_at(session, head.position)
    session.rollback()
    jobs = standard_jobs(sessions, actor=SYSTEM, deliver_mail=None)
    (nightly,) = [each for each in jobs if each.name == "verify_audit"]
    assert nightly.run(threading.Event()) == f"{head.position} rows proved"
    tamper(f"UPDATE audit_log SET actor = 'user:2' WHERE id = {number}")  # noqa: S608 - of this test
    assert nightly.run(threading.Event()) == f"broken: row_changed at {head.position}"


def test_the_portal_itself_cannot_change_the_chain(session: Session) -> None:
    sealed(session)
    for statement in (
        "UPDATE audit_seals SET position = position + 1",
        "DELETE FROM audit_seals",
        "TRUNCATE audit_seals",
        "UPDATE audit_log SET actor = 'user:2'",
        "DELETE FROM audit_log",
    ):
        with pytest.raises(DBAPIError):
            session.execute(text(statement))
        session.rollback()


@pytest.mark.parametrize("kept", ["", "1", "x:00", "0:" + "00" * 32, "3:abc", "1:" + "00" * 31])
def test_what_is_no_head_is_refused(kept: str) -> None:
    with pytest.raises(InvalidInput, match="not_a_head"):
        Head.parse(kept)


def test_a_head_is_read_as_it_is_written() -> None:
    head = Head(12, bytes(range(32)))
    assert Head.parse(f" {head}\n") == head


def test_who_may_look(session: Session) -> None:
    support = user_actor(2, staff_role=StaffRole.SUPPORT)
    with pytest.raises(NotAuthorised):
        verify_audit(session, actor=support)
    with pytest.raises(NotAuthorised):
        chain_state(session, actor=support)
    with pytest.raises(NotAuthorised):
        seal_audit_log(session, actor=ADMIN)
    head = sealed(session)
    state = chain_state(session, actor=ADMIN)
    assert (state.head, state.waiting) == (head, 0)
