"""Looks for known faults: of what is locked by pip-audit, of our own code by bandit.

`make audit` runs it in .venv-tools. Ruff's S rules are bandit's, under the same numbers, and run
with every lint; a line that says why one of them does not apply (`noqa: S608 - ...`) says so to
bandit's B608 as well. What is left fails: bandit looks at expressions that ruff does not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements-dev.txt", "requirements-peers.txt", "requirements-tools.txt")
"""Each names all that it needs; the first has what the portal runs on in it."""
CODE = ("app.py", "portal", "domain", "db", "sandbox", "scripts")
SERVICES = ("pypi", "osv")
"""Whom pip-audit can ask about vulnerabilities, in this order."""

_UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ServiceError", "ProxyError")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an advisory service knows: how many packages, and a line for each vulnerability."""

    known: int
    vulnerabilities: tuple[str, ...]


def answer_in(document: str) -> Answer:
    """Return what pip-audit's JSON says. Raises ValueError where it is none."""
    packages = json.loads(document)["dependencies"]
    known = [each for each in packages if "skip_reason" not in each]
    return Answer(
        len(known),
        tuple(
            f"{each['name']} {each['version']}: {found['id']},"
            f" fixed in {', '.join(found['fix_versions']) or 'no version yet'}"
            for each in known
            for found in each["vulns"]
        ),
    )


def unexplained(finding: dict[str, Any], lines: list[str]) -> bool:
    """Whether no line of a finding of bandit's says why ruff's rule of that number is wrong."""
    number = finding["test_id"].removeprefix("B")
    where = range(finding["line_range"][0] - 1, max(finding["line_range"]))
    return not any(f"S{number}" in lines[at].partition("# noqa:")[2] for at in where)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own tools, no input of strangers
        (sys.executable, "-m", *command), cwd=ROOT, capture_output=True, text=True, check=False
    )


def _ask(lock: str) -> Answer | None:
    """Return what the first service that knows anything says; None where none is reached."""
    for service in SERVICES:
        ran = _run(
            *("pip_audit", "--vulnerability-service", service, "--requirement", lock),
            *("--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
        )
        try:
            answer = answer_in(ran.stdout)
        except ValueError:
            if not any(sign in ran.stderr for sign in _UNREACHABLE):
                sys.exit(f"pip-audit could not read {lock}:\n{ran.stderr.strip()}")
            continue
        # A mirror without advisories answers that it knows no package at all.
        if answer.known:
            return answer
    return None


def audit_packages() -> bool:
    """Say what is known of the locked packages; False where one of them is vulnerable."""
    is_sound = True
    for lock in LOCKS:
        answer = _ask(lock)
        if answer is None:
            print(f"{lock}: not audited, because no advisory service is reached.")
            continue
        print(f"{lock}: {answer.known} packages, {len(answer.vulnerabilities)} vulnerabilities")
        for line in answer.vulnerabilities:
            print(f"  {line}")
        is_sound = is_sound and not answer.vulnerabilities
    return is_sound


def audit_code() -> bool:
    """Say what bandit finds that no line explains; False where there is anything."""
    ran = _run("bandit", "--quiet", "--recursive", *CODE, "-c", "pyproject.toml", "-f", "json")
    try:
        report = json.loads(ran.stdout)
    except ValueError:
        sys.exit(f"bandit did not work:\n{ran.stderr.strip()}")
    faults = [f"{each['filename']}: {each['reason']}" for each in report["errors"]]
    for each in report["results"]:
        lines = (ROOT / each["filename"]).read_text("utf-8").splitlines()
        if unexplained(each, lines):
            place = f"{each['filename']}:{each['line_number']}"
            faults.append(f"{place}: {each['test_id']} {each['issue_text']}")
    print(f"bandit: {len(report['results'])} findings, {len(faults)} of them unexplained")
    for fault in faults:
        print(f"  {fault}")
    return not faults


def main() -> None:
    """Run both; exit 1 where either found a fault."""
    results = [audit_packages(), audit_code()]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
