"""The Makefile and .ci/run, run in a copy of their own with programs that only note their calls.

The copy's path holds a space, its home is empty, and its PATH has a few tools and no Python but
the pretended ones, so what this machine has installed makes no difference.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
TOOLS = (
    *("awk", "bash", "cat", "cp", "dirname", "echo", "env", "find", "grep", "head", "id", "make"),
    *("mkdir", "mktemp", "rm", "sh", "tail", "touch"),
)

PYTEST = "-m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder"

PRETENDED_PYTHON = """#!/bin/sh
# Describes itself as told, makes environments that hold a Python which notes what it is asked.
case "$1 $2" in
    "-c "*) echo "{kind} {version} /opt/{name}" ;;
    "-m venv")
        echo "{name} $*" >> "{calls}"
        rm -rf .venv
        mkdir -p .venv/bin
        cp "{tools}/noting-python" .venv/bin/python
        ;;
esac
"""

NOTING_PYTHON = """#!/bin/sh
case "$1 $2" in
    "-ISc "*) echo True ;;
    "-c import sys, pip"*) exit 0 ;;
    "-m pip") echo "pip $*" >> "{calls}"; [ ! -e pip-fails ] || {{ cat pip-fails; exit 1; }} ;;
    *) echo "$*" >> "{calls}"; env > "{environment}" ;;
esac
"""


class Checkout:
    """A copy of the commands, with pretended programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a checkout"
        self.tools = folder / "tools"
        self.home = folder / "home"
        (folder / "shared").mkdir()
        self._calls = folder / "calls"
        self._environment = folder / "environment"
        for path in (self.folder / ".ci", self.folder / "scripts", self.tools, self.home):
            path.mkdir(parents=True)
        for script in (ROOT / "scripts").glob("*.sh"):
            shutil.copy(script, self.folder / "scripts")
        for name in ("Makefile", "requirements.txt", "requirements-dev.txt", ".ci/run"):
            shutil.copy(ROOT / name, self.folder / name)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, f"this test needs {tool}"
            (self.tools / tool).symlink_to(found)
        noting = NOTING_PYTHON.format(calls=self._calls, environment=self._environment)
        self.program("noting-python", noting)

    def program(self, name: str, text: str = "#!/bin/sh\n") -> Path:
        path = self.tools / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def python(self, name: str, version: str, kind: str = "pip") -> None:
        """Pretend to have a Python; kinds are those that the Makefile tells apart."""
        self.program(
            name,
            PRETENDED_PYTHON.format(
                kind=kind, version=version, name=name, calls=self._calls, tools=self.tools
            ),
        )

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": str(self.tools), "HOME": str(self.home), "LC_ALL": "C"}
        return subprocess.run(  # noqa: S603 - the commands under test
            command,
            cwd=self.folder,
            env=clean | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", *words, environment=environment)

    @property
    def calls(self) -> list[str]:
        """What the pretended programs were asked, in order."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def seen(self, variable: str) -> str | None:
        """Return the value that the last program found in its environment."""
        lines = self._environment.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line).get(variable)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    """Return a checkout on a machine with one good Python."""
    checkout.python("python3.12", "3.12")
    return checkout


# ── Help ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", [(), ("help",)])
def test_make_lists_its_commands(checkout: Checkout, words: tuple[str, ...]) -> None:
    done = checkout.make(*words)
    commands = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert done.returncode == 0
    assert {"run", "test", "test-browser", "check", "bench", "demo", "clean"} <= set(commands)
    assert {"PORT", "DATA_DIR", "DATABASE_URL", "MIGRATION_DATABASE_URL"} <= set(commands)
    assert not checkout.calls


# ── Choosing a Python ─────────────────────────────────────────────────────────────────────────


def test_the_newest_python_is_chosen(checkout: Checkout) -> None:
    checkout.python("python3", "3.11")
    checkout.python("python3.11", "3.11")
    checkout.python("python3.13", "3.13")
    done = checkout.make("run")
    assert "Python 3.13" in done.stdout
    assert checkout.calls[0] == "python3.13 -m venv --clear .venv"


def test_a_python_that_only_has_the_common_name_is_found(checkout: Checkout) -> None:
    checkout.python("python3", "3.11")
    assert checkout.make("run").returncode == 0
    assert checkout.calls[0] == "python3 -m venv --clear .venv"


def test_a_python_that_does_not_start_is_passed_over(ready: Checkout) -> None:
    ready.program("python3.14", "#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    assert ready.make("run").returncode == 0
    assert ready.calls[0].startswith("python3.12 ")


def test_a_python_without_ensurepip_gives_way_to_one_with_it(ready: Checkout) -> None:
    ready.python("python3.14", "3.14", kind="no-pip")
    assert ready.make("run").returncode == 0
    assert ready.calls[0].startswith("python3.12 ")


def test_the_chosen_python_comes_first(ready: Checkout) -> None:
    ready.python("my python", "3.11")
    assert ready.make("run", PYTHON="my python").returncode == 0
    assert ready.calls[0].startswith("my python ")


@pytest.mark.parametrize("name", ["/nowhere/python3", "true"])
def test_a_chosen_python_has_to_be_one(ready: Checkout, name: str) -> None:
    ready.program("true")
    done = ready.make("run", PYTHON=name)
    assert done.returncode != 0
    assert f"PYTHON={name} is no Python" in done.stderr
    assert not ready.calls


def test_without_ensurepip_the_package_is_named(checkout: Checkout) -> None:
    checkout.program("apt-get")
    checkout.python("python3.13", "3.13", kind="no-pip")
    checkout.python("python3", "3.11", kind="no-pip")
    done = checkout.make("run")
    assert done.returncode != 0
    assert "apt install python3.13-venv\n" in done.stderr
    assert not checkout.calls


@pytest.mark.parametrize(("user_id", "command"), [("0", "    apt"), ("1000", "    sudo apt")])
def test_the_advice_fits_the_user(checkout: Checkout, user_id: str, command: str) -> None:
    checkout.program("apt-get")
    checkout.program("id", f"#!/bin/sh\necho {user_id}\n")
    checkout.python("python3", "3.11", kind="no-pip")
    assert f"\n{command} install python3.11-venv" in checkout.make("run").stderr


def test_without_ensurepip_and_apt_the_module_is_named(checkout: Checkout) -> None:
    checkout.python("python3", "3.11", kind="no-pip")
    done = checkout.make("run")
    assert done.returncode != 0
    assert "ensurepip" in done.stderr
    assert "apt" not in done.stderr


def test_an_old_python_is_named(checkout: Checkout) -> None:
    checkout.python("python3", "3.9", kind="old")
    done = checkout.make("run")
    assert done.returncode != 0
    assert "Python 3.9 (/opt/python3) is too old" in done.stderr
    assert "Python 3.11 or newer is needed" in done.stderr


def test_no_python_at_all(checkout: Checkout) -> None:
    done = checkout.make("test")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr


# ── Installing ────────────────────────────────────────────────────────────────────────────────


def pip_runs(checkout: Checkout) -> list[str]:
    return [call.rpartition(" ")[2] for call in checkout.calls if call.startswith("pip ")]


def test_packages_are_installed_once(ready: Checkout) -> None:
    ready.make("run")
    ready.make("run")
    assert pip_runs(ready) == ["requirements.txt"]


def test_a_test_run_installs_what_the_portal_needs_as_well(ready: Checkout) -> None:
    ready.make("test")
    ready.make("run")
    ready.make("test")
    assert pip_runs(ready) == ["requirements-dev.txt"]


def test_a_change_of_requirements_is_installed(ready: Checkout) -> None:
    ready.make("run")
    newer = (ready.folder / ".venv/.installed").stat().st_mtime + 10
    os.utime(ready.folder / "requirements.txt", (newer, newer))
    ready.make("run")
    assert pip_runs(ready) == ["requirements.txt", "requirements.txt"]


def test_an_environment_whose_python_has_gone_is_made_again(ready: Checkout) -> None:
    ready.make("run")
    python = ready.folder / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python3.10")
    assert ready.make("run").returncode == 0
    assert pip_runs(ready) == ["requirements.txt", "requirements.txt"]


@pytest.mark.parametrize(
    "shown",
    [
        "WARNING: Retrying (...) after connection broken by 'NewConnectionError(...)'\nERROR: None",
        "ERROR: Could not find a version of altair==6.3.0 (from versions: none)\n",
    ],
)
def test_without_network_it_says_so(ready: Checkout, shown: str) -> None:
    (ready.folder / "pip-fails").write_text(shown)
    done = ready.make("run")
    assert done.returncode != 0
    assert "The package index cannot be reached" in done.stderr
    assert "Retrying" not in done.stderr
    assert not any("portal" in call for call in ready.calls)


def test_a_file_that_is_not_the_locked_one_is_told(ready: Checkout) -> None:
    (ready.folder / "pip-fails").write_text(
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. ...\n"
        "    six==1.17.0 from file:///mirror/six-1.17.0-py2.py3-none-any.whl:\n"
    )
    done = ready.make("run")
    assert done.returncode != 0
    assert "not the file that requirements.txt locks" in done.stderr
    assert not any("portal" in call for call in ready.calls)


def test_after_a_failure_it_installs_again(ready: Checkout) -> None:
    (ready.folder / "pip-fails").write_text("ERROR: something else\n")
    failed = ready.make("run")
    (ready.folder / "pip-fails").unlink()
    assert "ERROR: something else" in failed.stderr
    assert ready.make("run").returncode == 0
    assert pip_runs(ready) == ["requirements.txt", "requirements.txt"]


def test_noise_of_pip_is_kept_from_people(ready: Checkout) -> None:
    done = ready.make("run")
    assert len(done.stdout.splitlines()) == 2
    assert not done.stderr


# ── Running ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("run", "-m portal serve"),
        ("demo", "-m portal demo"),
        ("bench", "-m benchmarks"),
        ("types", "-m mypy"),
    ],
)
def test_a_command_runs_its_program(ready: Checkout, command: str, call: str) -> None:
    done = ready.make(command)
    assert done.returncode == 0, done.stderr
    assert ready.calls[-1].strip() == call


def test_settings_reach_the_portal_untouched(ready: Checkout) -> None:
    url = "postgresql://billing:p$HOME#%40'x@db/portal"
    ready.make("run", "PORT=9000", DATABASE_URL=url, MIGRATION_DATABASE_URL=url, DATA_DIR="my data")
    assert ready.seen("PORT") == "9000"
    assert ready.seen("DATABASE_URL") == url
    assert ready.seen("MIGRATION_DATABASE_URL") == url
    assert ready.seen("DATA_DIR") == "my data"


def test_a_foreign_python_path_does_not_leak_in(ready: Checkout) -> None:
    ready.make("run", PYTHONPATH="/elsewhere", PYTHONHOME="/elsewhere")
    assert ready.seen("PYTHONPATH") is None
    assert ready.seen("PYTHONHOME") is None


# ── Tests and their browser ───────────────────────────────────────────────────────────────────


def test_journeys_are_left_out_without_a_browser(ready: Checkout) -> None:
    done = ready.make("test")
    assert done.returncode == 0
    assert "No Chromium found: the browser journeys are left out" in done.stdout
    assert "No LibreOffice found: the test that opens a file in it is left out" in done.stdout
    assert ready.calls[-1] == f"{PYTEST} -m not peers and not browser and not office"


def test_a_browser_alone_leaves_out_the_office(ready: Checkout) -> None:
    ready.program("chromium")
    ready.make("test")
    assert ready.calls[-1] == f"{PYTEST} -m not peers and not office"


def test_what_reads_real_traces_is_left_out_without_them(ready: Checkout) -> None:
    (ready.folder.parent / "shared").rmdir()
    ready.program("chromium")
    ready.program("soffice")
    assert "No ../shared found" in ready.make("test").stdout
    assert ready.calls[-1] == f"{PYTEST} -m not peers and not shared"


def test_ledger_runs_on_a_named_postgresql(ready: Checkout) -> None:
    folder = ready.folder / "pg 15"
    folder.mkdir()
    (folder / "postgres").symlink_to(ready.program("pg", "#!/bin/sh\necho postgres 15.1\n"))
    done = ready.make("test-postgresql", f"PG_BIN={folder}", "ARGS=-x")
    assert done.returncode == 0, done.stderr
    assert "postgres 15.1" in done.stdout
    assert "tests/integration/ledger/test_journal.py" in ready.calls[-1]
    assert ready.calls[-1].endswith(" -x")
    assert ready.seen("PG_BIN") == str(folder)


@pytest.mark.parametrize("folder", ["", "/nowhere"])
def test_ledger_needs_a_postgresql_that_is_named(ready: Checkout, folder: str) -> None:
    done = ready.make("test-postgresql", f"PG_BIN={folder}")
    assert done.returncode != 0
    assert "Set PG_BIN to the folder of a PostgreSQL" in done.stderr


def test_journeys_run_with_the_rest_where_a_browser_is(ready: Checkout) -> None:
    chromium = ready.program("chromium")
    ready.program("soffice")
    done = ready.make("test")
    assert "left out" not in done.stdout
    assert ready.calls[-1] == f"{PYTEST} -m not peers"
    assert ready.seen("CHROMIUM") == str(chromium)


def test_a_browser_without_windows_comes_first(ready: Checkout) -> None:
    ready.program("chromium")
    shell = ready.program("chromium-headless-shell")
    ready.make("test")
    assert ready.seen("CHROMIUM") == str(shell)


def test_journeys_alone(ready: Checkout) -> None:
    ready.program("chromium")
    assert ready.make("test-browser").returncode == 0
    assert ready.calls[-1] == f"{PYTEST} -m browser"


def test_journeys_alone_need_a_browser(ready: Checkout) -> None:
    done = ready.make("test-browser")
    assert done.returncode != 0
    assert "The journeys need Chromium" in done.stderr


def test_a_browser_in_a_snap_is_left_out(ready: Checkout) -> None:
    ready.program("chromium-browser", '#!/bin/sh\nexec /snap/bin/chromium "$@"\n')
    other = ready.program("google-chrome")
    ready.make("test")
    assert ready.seen("CHROMIUM") == str(other)


def test_a_named_browser_has_to_exist(ready: Checkout) -> None:
    done = ready.make("test", CHROMIUM="/nowhere/chromium")
    assert done.returncode != 0
    assert "CHROMIUM=/nowhere/chromium is no program" in done.stderr


def test_more_words_go_to_pytest(ready: Checkout) -> None:
    ready.make("test", "ARGS=-k 'one and two' -x")
    assert (
        ready.calls[-1] == f"{PYTEST} -m not peers and not browser and not office -k one and two -x"
    )


def test_a_failing_test_fails_the_command(ready: Checkout) -> None:
    ready.make("test")
    ready.program("noting-python", "#!/bin/sh\ncase $1 in -ISc) echo True ;; *) exit 5 ;; esac\n")
    shutil.copy(ready.tools / "noting-python", ready.folder / ".venv/bin/python")
    assert ready.make("test").returncode != 0


def test_a_search_is_repeated_by_its_seed(ready: Checkout) -> None:
    done = ready.make("fuzz", "SEED=7", "HISTORIES=5", "ARGS=-x")
    assert done.returncode == 0, done.stderr
    assert "Searching 5 histories; this search again: make fuzz SEED=7" in done.stdout
    assert ready.calls[-1].endswith("--hypothesis-seed=7 -x")
    assert ready.seen("PAYMENT_FUZZ") == "5"
    assert "make fuzz-routes SEED=8" in ready.make("fuzz-routes", "SEED=8", "REQUESTS=6").stdout
    assert (ready.seen("FUZZ_REQUESTS"), ready.seen("FUZZ_SEED")) == ("6", "8")


def test_shell_code_is_in_scripts() -> None:
    """A recipe has one simple command a line; an editor and `sh -n` read the rest."""
    lines = (ROOT / "Makefile").read_text("utf-8").splitlines()
    recipes = [line for line in lines if line.startswith("\t") and "awk" not in line]
    assert recipes
    assert [line for line in recipes if re.search(r"[;|]|&&|\$\$|\\$", line)] == [
        "\t@$(PYTHON_IN_VENV) -m ruff check --fix --quiet . || true"
    ]


@pytest.mark.parametrize(
    "script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name
)
def test_script_is_sound_and_used(script: Path) -> None:
    subprocess.run(["/bin/sh", "-n", str(script)], check=True)  # noqa: S603 - our own
    assert f"scripts/{script.name}" in (ROOT / "Makefile").read_text("utf-8")


# ── Clean ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def used(ready: Checkout) -> Checkout:
    """Return a checkout whose portal has run and has data."""
    ready.make("run")
    (ready.folder / ".data/cluster").mkdir(parents=True)
    (ready.folder / ".data/startup.lock").touch()
    (ready.folder / ".mypy_cache").mkdir()
    return ready


def test_clean_keeps_the_data(used: Checkout) -> None:
    done = used.make("clean")
    assert "Keeping the data in .data" in done.stdout
    assert (used.folder / ".data/cluster").exists()
    assert not (used.folder / ".venv").exists()
    assert not (used.folder / ".mypy_cache").exists()
    assert "-m scripts.stop_database .data" in used.calls[-1]
    assert used.calls[-1].strip().endswith(" .data")


def test_clean_removes_the_data_when_asked(used: Checkout) -> None:
    done = used.make("clean", "DATA=yes")
    assert "Removed the data in .data" in done.stdout
    assert used.calls[-1].endswith(" .data yes")


def test_clean_leaves_all_where_the_database_is_in_use(used: Checkout) -> None:
    python = used.folder / ".venv/bin/python"
    python.write_text("#!/bin/sh\n[ $1 = -ISc ] || { echo 'in use by 4711' >&2; exit 1; }\n")
    done = used.make("clean", "DATA=yes")
    assert done.returncode != 0
    assert "in use by 4711" in done.stderr
    assert python.exists()
    assert (used.folder / ".data/cluster").exists()


def test_clean_on_a_fresh_clone(checkout: Checkout) -> None:
    assert checkout.make("clean").returncode == 0


def test_clean_touches_no_foreign_folder(used: Checkout) -> None:
    foreign = used.folder / "documents"
    foreign.mkdir()
    (foreign / "letter").touch()
    done = used.make("clean", "DATA=yes", "DATA_DIR=documents")
    assert done.returncode == 0
    assert "data" not in done.stdout
    assert (foreign / "letter").exists()


# ── CI ────────────────────────────────────────────────────────────────────────────────────────

REPORT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_one" name="test_a">{inner}</testcase>
<testcase classname="tests.{folder}.test_two" name="test_b"/>
<testcase classname="tests.integration.test_three" name="test_{office}_adds_up"/>
</testsuite></testsuites>
"""


def run_ci(checkout: Checkout, report: str, *, failing: str = "") -> tuple[int, str]:
    """Run .ci/run where make only notes its words and leaves `report`; return exit and output.

    The command that has the target `failing` first fails.
    """
    checkout.program("chromium-headless-shell")
    checkout.program("soffice")
    checkout.program("npm")
    (checkout.folder / "report").write_text(report)
    (checkout.folder / ".venv/bin").mkdir(parents=True)
    (checkout.folder / ".venv/bin/python").symlink_to(sys.executable)
    (checkout.tools / "make").unlink()
    checkout.program(
        "make",
        "#!/bin/sh\n"
        f'echo "make $*" >> "{checkout.folder}/makes"\n'
        f"[ $1 != '{failing}' ] || {{ echo $1 failed; exit 2; }}\n"
        "[ $1 = test ] || exit 0\n"
        "mkdir -p .ci/reports; cp report .ci/reports/junit.xml; echo '1 passed'\n",
    )
    for version in (9, 14, 15, 17):
        folder = checkout.folder / f"postgresql/{version}/bin"
        folder.mkdir(parents=True)
        (folder / "postgres").symlink_to(checkout.program(f"postgres-{version}"))
    here = {"SYSTEM_POSTGRESQL": str(checkout.folder / "postgresql")}
    done = checkout.run(".ci/run", environment=here)
    return done.returncode, done.stdout + done.stderr


def test_ci_checks_everything_and_pytest_speaks_last(checkout: Checkout) -> None:
    code, shown = run_ci(checkout, REPORT.format(folder="e2e", inner="", office="libreoffice"))
    first, *beside, last = (checkout.folder / "makes").read_text().splitlines()
    assert code == 0, shown
    assert shown.endswith("1 passed\n")
    assert (first, last) == ("make .venv/.installed-dev", "make test")
    *beside, oldest = beside
    assert sorted(beside) == ["make lint types layers", "make test-peers"]
    assert oldest == f"make test-postgresql PG_BIN={checkout.folder}/postgresql/15/bin"


@pytest.mark.parametrize(
    "target", [".venv/.installed-dev", "lint", "test-peers", "test-postgresql", "test"]
)
def test_ci_fails_where_a_command_does(checkout: Checkout, target: str) -> None:
    report = REPORT.format(folder="e2e", inner="", office="libreoffice")
    code, shown = run_ci(checkout, report, failing=target)
    assert code != 0
    assert f"{target} failed" in shown
    makes = (checkout.folder / "makes").read_text()
    assert ("make test\n" in makes) == (target == "test")


@pytest.mark.parametrize("kind", ["pytest.skip", "pytest.xfail"])
def test_ci_fails_on_a_skipped_test(checkout: Checkout, kind: str) -> None:
    skipped = f'<skipped type="{kind}" message="no server"/>'
    code, shown = run_ci(checkout, REPORT.format(folder="e2e", inner=skipped, office="libreoffice"))
    assert code != 0
    assert "skipped: tests.unit.test_one.test_a: no server" in shown


def test_ci_fails_where_no_journey_ran(checkout: Checkout) -> None:
    code, shown = run_ci(checkout, REPORT.format(folder="pages", inner="", office="libreoffice"))
    assert code != 0
    assert "no browser journey ran" in shown


def test_ci_fails_where_no_file_was_opened(checkout: Checkout) -> None:
    code, shown = run_ci(checkout, REPORT.format(folder="e2e", inner="", office="nothing"))
    assert code != 0
    assert "LibreOffice opened no file" in shown


def test_ci_of_forks_runs_the_same_on_every_python_that_is_looked_for() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    (listed,) = re.findall(r"python: \[(.*)\]", workflow)
    script = (ROOT / "scripts/set_up.sh").read_text("utf-8")
    looked_for = re.findall(r"python(3\.\d+)(?= )", script.partition("for name in ")[2])
    assert re.findall(r"[\d.]+", listed) == sorted(set(looked_for))
    assert "- run: .ci/run\n" in workflow
    assert "make test-postgresql PG_BIN=" in workflow
