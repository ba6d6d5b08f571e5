"""The portal as pip installs it: the wheel has every file, and runs away from the checkout."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tomllib
import zipfile
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from db.embedded.server import remove
from scripts import locks
from tests.support.environment import OUTSIDE_DEMO

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("portal", "domain", "db", "sandbox")
PATIENCE_SECONDS = 240
STREAMLIT_CONFIG = "portal/.streamlit/config.toml"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


class Installed:
    """A copy that pip installed, an empty folder to start it from, and a home of its own."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.packages = folder / "packages"
        self.working_folder = folder / "empty"
        self.data = folder / "data"
        self.working_folder.mkdir()
        run_python("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile",
                   "--target", str(self.packages), str(wheel))  # fmt: skip

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `credit-portal` with these arguments."""
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
        paths = {
            "PYTHONPATH": str(self.packages),
            "HOME": str(self.data),
            "XDG_DATA_HOME": str(self.data),
        }
        return subprocess.Popen(  # noqa: S603 - our own command
            [str(self.packages / "bin" / "credit-portal"), *arguments],
            cwd=self.working_folder,
            env=kept | paths | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        """Return what `credit-portal` prints; fail where it fails."""
        with self.start(*arguments) as command:
            output, _ = command.communicate(timeout=PATIENCE_SECONDS)
        assert command.returncode == 0, output
        return output


def run_python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)  # noqa: S603 - our own


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run_python("-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Installed]:
    copy = Installed(tmp_path_factory.mktemp("installed"), wheel)
    yield copy
    remove(copy.data / "credit-portal")


def test_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert archive.read(STREAMLIT_CONFIG) == (ROOT / ".streamlit/config.toml").read_bytes()
    assert names == expected | {STREAMLIT_CONFIG}


def test_wheel_needs_what_requirements_in_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    prefix = "Requires-Dist: "
    needed = {Requirement(each.removeprefix(prefix)) for each in lines if each.startswith(prefix)}
    pins = locks.read_pins(ROOT / "requirements.in").values()
    assert needed == {Requirement(pin.text) for pin in pins}


def test_build_backend_is_the_one_that_is_locked_for_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    pin = locks.read_pins(ROOT / "requirements-dev.in")["hatchling"]
    assert project["build-system"]["requires"] == [pin.text]


def test_installed_command_prints_its_version(installed: Installed) -> None:
    assert installed.run("--version") == f"{VERSION}\n"


def test_installed_portal_keeps_its_data_in_the_user_s_data_folder(installed: Installed) -> None:
    assert installed.run("migrate").endswith("The database is up to date.\n")
    assert (installed.data / "credit-portal" / "startup.lock").is_file()
    assert list(installed.working_folder.iterdir()) == []


def test_installed_portal_serves_from_an_empty_folder(
    installed: Installed, database_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = {"DATABASE_URL": database_url, "JOBS": "0", "PORT": str(port)}
    address = {"BASE_URL": f"http://localhost:{port}"}
    with installed.start("serve", **OUTSIDE_DEMO | settings | address) as portal:
        try:
            assert portal.stdout is not None
            printed = ""
            for line in portal.stdout:
                printed += line
                if "The portal is ready" in line:
                    break
            else:
                pytest.fail(f"The portal did not start:\n{printed}")
            assert get(port, "/ready") == b'{"status":"ok"}'
            assert b"<form" in get(port, "/sign-in")
            portal.send_signal(signal.SIGTERM)
            rest, _ = portal.communicate(timeout=PATIENCE_SECONDS)
        finally:
            portal.kill()
    assert portal.returncode == 0
    assert rest.endswith("Stopped.\n")
    assert list(installed.working_folder.iterdir()) == []


def get(port: int, path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("GET", path)
    content = connection.getresponse().read()
    connection.close()
    return content
