"""Files that staff hand in: by whom, how large, and for how long."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from domain import identity, uploads
from domain.actors import StaffRole, system_actor, user_actor
from domain.errors import InvalidInput, NotAuthorised
from domain.identity import Client
from domain.uploads import CODES, EVIDENCE, MAX_BYTES
from portal.routes import uploads as routes
from portal.runtime import cookies, database
from portal.runtime.settings import settings
from tests.conftest import TestClock
from tests.support.people import register

if TYPE_CHECKING:
    from httpx2 import Response
    from sqlalchemy.orm import Session, sessionmaker

FINANCE = user_actor(1, staff_role=StaffRole.FINANCE)
ANOTHER = user_actor(2, staff_role=StaffRole.FINANCE)
SYSTEM = system_actor("tests")
HERE = "http://localhost:8501"
PDF = b"%PDF-1.7 a slip"
KEY = uuid.UUID(int=1)


@pytest.fixture
def people(session: Session) -> Session:
    """A session on a database that knows two members of finance."""
    register(session, FINANCE)
    register(session, ANOTHER)
    session.commit()
    return session


def keep(session: Session, content: bytes = PDF, **changes: object) -> None:
    given = {"purpose": EVIDENCE, "key": KEY, "name": "slip.pdf", "actor": FINANCE}
    uploads.keep_upload(session, content=content, **(given | changes))  # type: ignore[arg-type]


def found(session: Session, **changes: object) -> bytes | None:
    given = {"purpose": EVIDENCE, "key": KEY, "actor": FINANCE}
    file = uploads.find_upload(session, **(given | changes))  # type: ignore[arg-type]
    return None if file is None else file.content


def test_a_file_waits_for_its_form_and_is_replaced(people: Session) -> None:
    assert found(people) is None
    keep(people)
    assert found(people) == PDF
    assert uploads.name_of_upload(people, purpose=EVIDENCE, key=KEY, actor=FINANCE) == "slip.pdf"
    keep(people, b"%PDF another")
    keep(people, b"%PDF another")
    assert found(people) == b"%PDF another"
    for _ in range(2):
        uploads.drop_upload(people, key=KEY, actor=FINANCE)
        assert found(people) is None
    uploaded = "SELECT details FROM audit_log WHERE action = 'upload_file' ORDER BY id"
    logged = people.scalars(text(uploaded))
    assert [each["bytes"] for each in logged] == [len(PDF), 12, 12]


def test_a_file_is_of_who_handed_it_in(people: Session) -> None:
    keep(people)
    assert found(people, actor=ANOTHER) is None
    assert found(people, purpose=CODES) is None
    with pytest.raises(NotAuthorised):
        keep(people, b"mine now", actor=ANOTHER)
    uploads.drop_upload(people, key=KEY, actor=ANOTHER)
    assert found(people) == PDF


@pytest.mark.parametrize("role", [None, StaffRole.SUPPORT, StaffRole.ADMIN])
@pytest.mark.parametrize("purpose", [EVIDENCE, CODES, "anything"])
def test_who_may_not_use_a_file_hands_none_in(
    people: Session, role: StaffRole | None, purpose: str
) -> None:
    actor = user_actor(1, staff_role=role)
    for act in (
        lambda: keep(people, purpose=purpose, actor=actor),
        lambda: found(people, purpose=purpose, actor=actor),
        lambda: uploads.name_of_upload(people, purpose=purpose, key=KEY, actor=actor),
    ):
        with pytest.raises(NotAuthorised):
            act()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"content": b""}, "empty"),
        ({"content": b"x" * (MAX_BYTES + 1)}, "too_large"),
        ({"name": "a\x00b"}, "control_characters"),
    ],
)
def test_what_is_no_file_is_refused(
    people: Session, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        keep(people, **changes)  # type: ignore[arg-type]
    assert refused.value.reason == reason


def test_one_persons_files_are_bounded_also_at_once(
    people: Session, sessions: sessionmaker[Session]
) -> None:
    people.close()

    def attempt(number: int) -> str:
        try:
            with sessions.begin() as session:
                keep(session, b"x" * MAX_BYTES, key=uuid.UUID(int=number))
        except InvalidInput as refused:
            return refused.reason
        return "kept"

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(attempt, range(1, 9)))
    assert answers == ["kept"] * 5 + ["too_many"] * 3
    with sessions.begin() as session:
        keep(session, key=uuid.UUID(int=99), actor=ANOTHER)


def test_a_file_whose_form_is_not_sent_goes_after_a_day(
    people: Session, sessions: sessionmaker[Session]
) -> None:
    keep(people)
    people.commit()
    clock = TestClock()
    sessions.configure(info={"clock": clock})
    with sessions.begin() as session:
        assert uploads.purge_uploads(session, actor=SYSTEM) == 0
    clock.advance(days=400)
    with sessions.begin() as session:
        assert uploads.purge_uploads(session, actor=SYSTEM) == 1
        with pytest.raises(NotAuthorised):
            uploads.purge_uploads(session, actor=FINANCE)
    assert timedelta(days=1) == uploads.KEPT_FOR


# ── The route ──────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def client(portal: None) -> TestClient:  # noqa: ARG001 - it is connected before this
    """A browser on the route of uploads, where nobody signed in."""
    return TestClient(Starlette(routes=routes.routes()), base_url=HERE, headers={"origin": HERE})


@pytest.fixture
def as_finance(client: TestClient) -> str:
    """Sign in as finance; return the form token."""
    token = database.transaction(signed_in, role=StaffRole.FINANCE)
    client.cookies.set(cookies.session_cookie(settings()), token)
    return cookies.form_token(token)


def signed_in(session: Session, role: StaffRole) -> str:
    user = identity.create_user(
        session,
        email=f"{role}@example.com",
        display_name="Minh",
        password="violet-kettle-9-march",
        staff_role=role,
        actor=SYSTEM,
    )
    return identity.create_session(
        session, user_id=user, client=Client("127.0.0.1"), policy=settings().policy
    ).token


def put(
    client: TestClient, token: str = "", path: str = f"/uploads/evidence/{KEY}", **options: object
) -> Response:
    headers = {"X-Form-Token": token}
    given = {"content": PDF, "headers": headers, "params": {"name": "slip.pdf"}}
    return client.put(path, **(given | options))  # type: ignore[arg-type]


def kept() -> list[tuple[str, int]]:
    with database.sessions()() as session:
        rows = session.execute(text("SELECT name, length(content) FROM uploads"))
        return [(row[0], row[1]) for row in rows]


def test_a_browser_hands_a_file_in_again_and_again(client: TestClient, as_finance: str) -> None:
    for _ in range(2):
        assert put(client, as_finance).status_code == 204
        assert kept() == [("slip.pdf", len(PDF))]


def test_a_file_comes_from_a_form_of_ours_only(client: TestClient, as_finance: str) -> None:
    for token, headers in (
        ("", {}),
        ("0" * 64, {}),
        (as_finance, {"origin": "http://evil.example"}),
        (as_finance, {"origin": ""}),
    ):
        answer = put(client, headers={"X-Form-Token": token, **headers})
        assert answer.status_code == 403
    client.cookies.clear()
    assert put(client, as_finance).status_code == 403
    assert kept() == []


def test_whose_session_ended_hands_nothing_in(client: TestClient, as_finance: str) -> None:
    with database.sessions().begin() as session:
        session.execute(text("UPDATE user_sessions SET revoked_at = created_at"))
    assert put(client, as_finance).status_code == 403
    assert kept() == []


@pytest.mark.parametrize("role", [StaffRole.SUPPORT, StaffRole.ADMIN])
def test_the_route_asks_what_somebody_may(client: TestClient, role: StaffRole) -> None:
    token = database.transaction(signed_in, role=role)
    client.cookies.set(cookies.session_cookie(settings()), token)
    for purpose in ("evidence", "codes", "anything"):
        answer = put(client, cookies.form_token(token), f"/uploads/{purpose}/{KEY}")
        assert answer.status_code == 403
    assert kept() == []


def test_a_refused_sender_is_not_listened_to(client: TestClient) -> None:
    def endless() -> object:
        yield b"x"
        pytest.fail("the body was read")

    assert put(client, content=endless()).status_code == 403


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"content": b""}, 422, "The file is empty. Choose another file."),
        ({"content": b"x" * (MAX_BYTES + 1)}, 413, ""),
        ({"params": {"name": "a\x01.pdf"}}, 422, "The file name has invalid characters."),
        ({"path": "/uploads/evidence/7"}, 404, ""),
    ],
)
def test_the_answer_says_what_to_do(
    client: TestClient, as_finance: str, options: dict[str, object], status: int, message: str
) -> None:
    answer = put(client, as_finance, **options)  # type: ignore[arg-type]
    assert (answer.status_code, answer.text[: len(message)]) == (status, message)
    assert kept() == []


def test_other_methods_are_refused(client: TestClient, as_finance: str) -> None:
    assert as_finance
    for method in ("GET", "POST", "DELETE", "BREW"):
        answer = client.request(method, f"/uploads/evidence/{KEY}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "PUT")


def test_a_database_that_is_away_is_told_of_in_words(
    client: TestClient, as_finance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("INSERT", {}, Exception("server closed the connection"))

    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", away)
        answer = put(client, as_finance)
    assert answer.status_code == 503
    assert "Try again" in answer.text
    assert put(client, as_finance).status_code == 204
