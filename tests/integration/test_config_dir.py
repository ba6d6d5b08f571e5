"""CONFIG_DIR: sites, prices and limits of one's own beside the built-in ones, loaded at a start."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from db.models import ActionLimit, Price, Service, Site, TopUpLimit
from domain.actors import system_actor
from domain.bootstrap import load_reference
from domain.catalogue.configuration import ConfigurationFile
from domain.catalogue.file import CATALOGUE_FILE
from domain.catalogue.loading import load_catalogue, load_sites
from domain.catalogue.sites import SITES_FILE
from domain.errors import BillingError, CatalogueConflict, InvalidConfiguration
from domain.payments.top_up_limits import TOP_UP_LIMITS_FILE, load_limits
from domain.support.limits import ACTION_LIMITS_FILE, load_action_limits
from portal.runtime.settings import SettingsError, load_settings
from tests.support import toml_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

SYSTEM = system_actor("tests")
FILES = (SITES_FILE, CATALOGUE_FILE, TOP_UP_LIMITS_FILE, ACTION_LIMITS_FILE)
TABLES = (
    *("sites", "tax_policies", "prices", "services", "catalogue_versions"),
    *("top_up_limits", "action_limits"),
)
LOADERS: dict[str, Callable[[Session, ConfigurationFile], object]] = {
    SITES_FILE.name: lambda session, file: load_sites(session, file=file),
    CATALOGUE_FILE.name: lambda session, file: load_catalogue(session, file=file, actor=SYSTEM),
    TOP_UP_LIMITS_FILE.name: lambda session, file: load_limits(session, actor=SYSTEM, file=file),
    ACTION_LIMITS_FILE.name: lambda session, file: load_action_limits(
        session, actor=SYSTEM, file=file
    ),
}
DOCUMENTS = {
    file.name: tomllib.loads(file.read_text("utf-8"), parse_float=Decimal) for file in FILES
}


@pytest.fixture
def empty(session: Session) -> Session:
    """A database that no file was loaded into."""
    session.execute(text("RESET ROLE"))
    # Facts may not be deleted: their triggers are off meanwhile.
    session.execute(text("SET session_replication_role = replica"))
    for table in TABLES:
        session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names above
    session.execute(text("SET session_replication_role = origin"))
    return session


def own(folder: Path, file: Path, before: str, after: str) -> None:
    """Put a file into the folder that differs from the built-in one in one place."""
    content = file.read_text("utf-8")
    assert before in content
    (folder / file.name).write_text(content.replace(before, after, 1), "utf-8")


def test_each_file_of_the_folder_counts_and_the_built_in_ones_do_for_the_rest(
    empty: Session, tmp_path: Path
) -> None:
    own(tmp_path, SITES_FILE, 'name = "Vietnam"', 'name = "Hanoi"')
    own(tmp_path, TOP_UP_LIMITS_FILE, "[USD]\nminimum = 25", "[USD]\nminimum = 20")
    load_reference(empty, actor=SYSTEM, folder=tmp_path)
    assert empty.scalars(select(Site.name).where(Site.code == "vn")).one() == "Hanoi"
    minimum = select(TopUpLimit.minimum_micros).where(TopUpLimit.currency == "USD")
    assert empty.scalars(minimum).one() == 20_000_000
    assert empty.scalars(select(Service.slug)).all()
    assert empty.scalars(select(ActionLimit.daily_micros)).all()


def test_prices_and_limits_of_the_folder_count(empty: Session, tmp_path: Path) -> None:
    own(tmp_path, CATALOGUE_FILE, "{ USD = 0.50,", "{ USD = 0.25,")
    own(tmp_path, ACTION_LIMITS_FILE, "give_goodwill = 2\n", "give_goodwill = 3\n")
    load_reference(empty, actor=SYSTEM, folder=tmp_path)
    prices = select(Price.price).where(
        Price.service == "ai-inference", Price.model == "", Price.meter == "input-tokens",
        Price.currency == "USD",
    )  # fmt: skip
    assert empty.scalars(prices).all() == [Decimal("0.25")]
    goodwill = select(ActionLimit.daily_micros).where(
        ActionLimit.action == "give_goodwill",
        ActionLimit.role == "support",
        ActionLimit.currency == "USD",
    )
    assert empty.scalars(goodwill).one() == 75_000_000


def test_start_with_the_same_folder_again_changes_nothing(empty: Session, tmp_path: Path) -> None:
    own(tmp_path, CATALOGUE_FILE, "{ USD = 0.50,", "{ USD = 0.25,")
    for _start in range(2):
        load_reference(empty, actor=SYSTEM, folder=tmp_path)
    count = text("SELECT count(*) FROM catalogue_versions")
    assert empty.execute(count).scalar_one() == 1


def test_folder_cannot_change_a_price_that_was_in_force(session: Session, tmp_path: Path) -> None:
    own(tmp_path, CATALOGUE_FILE, "{ USD = 0.50,", "{ USD = 0.25,")
    with pytest.raises(CatalogueConflict):
        load_reference(session, actor=SYSTEM, folder=tmp_path)


def test_fault_names_the_file_of_the_folder(session: Session, tmp_path: Path) -> None:
    own(tmp_path, SITES_FILE, "tax_rate = 0.10", "tax_rate = 10")
    with pytest.raises(InvalidConfiguration) as caught:
        load_reference(session, actor=SYSTEM, folder=tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'sites.toml'}, site, block 1.tax, block 1: ")


def test_file_that_nothing_reads_is_refused(session: Session, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("")
    (tmp_path / "README.md").write_text("Ours.")
    with pytest.raises(InvalidConfiguration, match=r"site\.toml, file: the names are catalogue"):
        load_reference(session, actor=SYSTEM, folder=tmp_path)


def test_setting_names_a_folder_that_exists(tmp_path: Path) -> None:
    assert load_settings({}).config_directory is None
    assert load_settings({"CONFIG_DIR": str(tmp_path)}).config_directory == tmp_path
    with pytest.raises(SettingsError, match="CONFIG_DIR is a folder that exists"):
        load_settings({"CONFIG_DIR": str(tmp_path / "missing")})


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data(), st.sampled_from(sorted(LOADERS)))
def test_changed_document_is_loaded_or_refused(
    empty: Session, data: st.DataObject, name: str
) -> None:
    """What the reader takes, the database takes too: no error of its own comes through."""
    document = data.draw(toml_documents.changed(DOCUMENTS[name]))
    file = ConfigurationFile(name, toml_documents.write(document))
    with empty.begin_nested() as savepoint:
        if name == ACTION_LIMITS_FILE.name:
            load_limits(empty, actor=SYSTEM)
        try:
            LOADERS[name](empty, file)
        except DBAPIError as error:
            pytest.fail(f"{error}\n{file.text}")
        except BillingError:
            pass
        savepoint.rollback()
