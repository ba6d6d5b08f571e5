"""A real PostgreSQL for every test that asks: one server a run, one fresh database a test."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, make_url, text

from db.embedded.server import acquire, remove
from db.engine import make_engine, make_sessions
from db.migrate import migrate
from domain.actors import system_actor
from domain.bootstrap import load_reference
from domain.security import passwords
from tests.support.databases import FreshDatabases, let_owner_turn_triggers_off
from tests.support.keys import KNOWS_VAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

# A developer's own .env is not for the portals that tests start in this folder.
os.environ["ENV_FILE"] = os.devnull

pytest_plugins = ["tests.support.route_browser", "tests.support.running_portal"]

# How fast an example is found or run says how busy the machine is, and nothing of the product.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# What slows guesses down would slow tests down too; test_passwords.py has the product's own.
OWN_HASHER = passwords._HASHER
passwords._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

TEMPLATE = f"portal_template_{os.getpid()}"
SYSTEM = system_actor("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes minutes, so that no process ends long after the others."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The owner's URL of a server: TEST_DATABASE_URL, or an embedded one of this run."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder = tmp_path_factory.mktemp("postgres")
    server = acquire(
        folder,
        report=lambda _: None,
        settings={"fsync": "off", "full_page_writes": "off"},  # this server need not outlive us
    )
    let_owner_turn_triggers_off(folder, server.url)
    yield server.url
    server.release()
    remove(folder)


@pytest.fixture(scope="session")
def run_on_server(server_url: str) -> Iterator[Callable[[str], None]]:
    """Run a statement outside any transaction, such as CREATE DATABASE."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")

    def run(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement))

    yield run
    engine.dispose()


@pytest.fixture(scope="session")
def template(server_url: str, run_on_server: Callable[[str], None]) -> Iterator[str]:
    """The name of a migrated database with the sites and the catalogue in it."""
    run_on_server(f'CREATE DATABASE "{TEMPLATE}"')
    url = database_on(server_url, TEMPLATE)
    migrate(url)
    engine = make_engine(url)
    with make_sessions(engine)() as session:
        load_reference(session, actor=SYSTEM)
        session.commit()
    engine.dispose()
    # Migrations leave dead rows in the catalogue, which every clone would copy.
    owner = create_engine(url, isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        connection.execute(text("VACUUM (FULL)"))
    owner.dispose()
    yield TEMPLATE
    run_on_server(f'DROP DATABASE IF EXISTS "{TEMPLATE}" WITH (FORCE)')


@pytest.fixture(scope="session")
def make_database(
    server_url: str, template: str, run_on_server: Callable[[str], None]
) -> Iterator[Callable[[], str]]:
    """Return a function that clones the template and returns the clone's URL."""
    names: list[str] = []

    def make() -> str:
        name = f"portal_{uuid.uuid4().hex[:12]}"
        run_on_server(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        names.append(name)
        return database_on(server_url, name)

    yield make
    # A server of this run goes as a whole; somebody else's is left as it was.
    for name in names if os.environ.get("TEST_DATABASE_URL") else ():
        run_on_server(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def fresh_databases(
    make_database: Callable[[], str], run_on_server: Callable[[str], None]
) -> FreshDatabases:
    """Where each test of this process has its database from."""
    return FreshDatabases(make_database, run_on_server)


@pytest.fixture
def database_url(fresh_databases: FreshDatabases) -> Iterator[str]:
    """The URL of a fresh database, for this test alone."""
    url = fresh_databases.take()
    yield url
    fresh_databases.refund_attempt(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a fresh database, under the runtime role."""
    engine = make_engine(database_url, pool_size=20)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """The factory of sessions on a fresh database."""
    return make_sessions(engine, KNOWS_VAULT)


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A session on a fresh database; what it commits goes with the database."""
    with sessions() as session:
        yield session


class TestClock:
    """A clock that tests move; give it to a session as `session.info["clock"]`."""

    __test__ = False

    def __init__(self) -> None:
        """Start at a fixed instant, so that a failing test fails again."""
        self.instant = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the instant, a microsecond later at each call."""
        self.instant += timedelta(microseconds=1)
        return self.instant

    def advance(self, **duration: int) -> datetime:
        """Move on by a timedelta's arguments."""
        self.instant += timedelta(**duration)
        return self.instant


@pytest.fixture
def clock(session: Session) -> TestClock:
    """The clock that `session` goes by."""
    clock = TestClock()
    session.info["clock"] = clock
    return clock


def database_on(server_url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)
