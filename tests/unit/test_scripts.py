"""What developers run by make: the audit of packages and code, the notices of licences."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from db.embedded.server import EmbeddedPostgresError
from scripts import audit, locks, notices, stop_database

if TYPE_CHECKING:
    from pathlib import Path

SOUND: dict[str, Any] = {"name": "six", "version": "1.17.0", "vulns": []}
SKIPPED = {"name": "six", "skip_reason": "Dependency not found on PyPI"}
FAULTY = {
    "name": "cffi",
    "version": "1.0",
    "vulns": [{"id": "CVE-2026-1", "fix_versions": ["1.1"]}, {"id": "X-2", "fix_versions": []}],
}


def document(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


# ── The audit of packages ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer for pip-audit what the test puts here, one answer a question; "!" is an error."""
    answers: list[str] = []

    def run(*_command: str) -> subprocess.CompletedProcess[str]:
        answer = answers.pop(0)
        if answer.startswith("!"):
            return subprocess.CompletedProcess([], 1, "", answer[1:])
        return subprocess.CompletedProcess([], 0, answer, "")

    monkeypatch.setattr(audit, "_run", run)
    monkeypatch.setattr(audit, "LOCKS", ("requirements.txt",))
    return answers


@pytest.mark.parametrize(
    "answers",
    [
        ["!...ConnectionError: no such host", "!...ConnectionError: no such host"],
        [document(SKIPPED), "!...ConnectionError: no such host"],
        [document(SKIPPED), document(SKIPPED)],
    ],
)
def test_where_no_advisory_service_is_reached_the_audit_says_so(
    ask: list[str], answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ask += answers
    assert audit.audit_packages()
    assert "no advisory service is reached" in capsys.readouterr().out


def test_a_vulnerable_package_fails_the_audit(
    ask: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ask.append(document(SOUND, FAULTY))
    assert not audit.audit_packages()
    message = capsys.readouterr().out
    assert "2 packages, 2 vulnerabilities" in message
    assert "cffi 1.0: CVE-2026-1, fixed in 1.1" in message
    assert "cffi 1.0: X-2, fixed in no version yet" in message


def test_the_second_service_is_asked_where_the_first_knows_nothing(ask: list[str]) -> None:
    ask += [document(SKIPPED), document(FAULTY)]
    assert not audit.audit_packages()


def test_a_broken_audit_is_not_a_passed_one(ask: list[str]) -> None:
    ask.append("!error: no such option")
    with pytest.raises(SystemExit, match="no such option"):
        audit.audit_packages()


# ── The audit of code ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run(words)  # noqa: S603 - our own words", False),
        ("run(words)  # noqa: PLW1510, S603 - our own words", False),
        ("run(words)  # noqa: S607 - another rule", True),
        ("run(words)  # S603", True),
        ("run(words)", True),
    ],
)
def test_a_finding_is_explained_by_the_reason_that_ruff_reads(line: str, *, expected: bool) -> None:
    finding = {"test_id": "B603", "line_range": [2, 3]}
    assert audit.unexplained(finding, ["x = 1", "(", line, "y = 2"]) is expected


# ── Locks and notices ─────────────────────────────────────────────────────────────────────────


def test_a_lock_is_read_with_its_hashes(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# made by a tool\n"
        "Ruamel.yaml==1.0 ; sys_platform == 'win32' \\\n"
        "    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via -r requirements.in\n"
        "six==1.17.0  # a reason\n"
    )
    assert locks.read_pins(path) == {
        "ruamel-yaml": locks.Pin(
            "ruamel-yaml",
            "Ruamel.yaml==1.0 ; sys_platform == 'win32'",
            ("sha256:aa", "sha256:bb"),
        ),
        "six": locks.Pin("six", "six==1.17.0", ()),
    }


def test_a_notice_has_the_licence_in_full() -> None:
    notice = notices.notice_for("cryptography")
    assert notice is not None
    assert notice.licence == "Apache-2.0 OR BSD-3-Clause"
    # Its LICENSE names two others, which belong to it.
    assert any("Redistribution and use in source and binary forms" in text for text in notice.texts)
    assert any("TERMS AND CONDITIONS FOR USE" in text for text in notice.texts)


def test_a_package_of_another_system_is_named_in_the_notices() -> None:
    assert notices.notice_for("no-such-package") is None
    six = notices.Notice("six", "1.17.0", "MIT", "https://example.com/six", ("The text.",))
    message = notices.render(
        {"six": "six==1.17.0", "colorama": "colorama==0.4.6 ; sys_platform == 'win32'"},
        {"six": six},
    )
    assert "- colorama 0.4.6: only where sys_platform == 'win32'\n- six 1.17.0: MIT\n" in message
    assert message.endswith("six 1.17.0\nMIT\nhttps://example.com/six\n\nThe text.\n")


def test_a_database_is_stopped_and_removed_only_by_the_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[tuple[str, str]] = []
    monkeypatch.setattr(stop_database, "stop", lambda path: done.append(("stop", str(path))))
    monkeypatch.setattr(stop_database, "remove", lambda path: done.append(("remove", str(path))))
    for words in ((), ("",), ("no",), ("yes",)):
        monkeypatch.setattr(sys, "argv", ["stop_database", "my data", *words])
        stop_database.main()
    assert done == [("stop", "my data")] * 3 + [("remove", "my data")]


def test_a_database_in_use_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> None:
        raise EmbeddedPostgresError("in use by process 4711")

    monkeypatch.setattr(stop_database, "stop", refuse)
    monkeypatch.setattr(sys, "argv", ["stop_database", ".data"])
    with pytest.raises(SystemExit, match="in use by process 4711"):
        stop_database.main()


def test_the_notices_are_of_what_is_installed() -> None:
    ran = subprocess.run(
        (sys.executable, "-m", "scripts.notices"),
        cwd=notices.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Third-party notices\n")
