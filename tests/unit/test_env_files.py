"""Settings in files: what a `.env` gives, and secrets that have a file of their own."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as search
from hypothesis import strategies as st

from domain.gateways.registry import gateway_kinds
from portal.runtime import settings as settings_module
from portal.runtime.env_files import SECRETS, read_env_file
from portal.runtime.gateways import gateway_faults
from portal.runtime.settings import SettingsError, load_settings, settings
from tests.support.environment import OUTSIDE_DEMO, SECRET_KEY

SECRET = "the-secret-itself-0123456789-abcdef"
URL = "postgresql://portal:word@db/portal"


def given_value(name: str) -> str:
    if name.endswith("DATABASE_URL"):
        return URL
    return f"whsec_{SECRET}" if name.endswith("WEBHOOK_SECRETS") else f"sk_{SECRET}"


# Each key of a gateway, with the others that it goes with.
GATEWAY_SECRETS = {
    name: {other: given_value(other) for other in kind.demo_values if other != name}
    for kind in gateway_kinds().values()
    for name in kind.demo_values
}
EVERY_SECRET = sorted({*SECRETS, *GATEWAY_SECRETS})


def read(folder: Path, text: str, **environ: str) -> dict[str, str]:
    """Return an environment after a `.env` of this text was read into it."""
    (folder / ".env").write_text(text, "utf-8")
    assert read_env_file(environ, folder) == ()
    return environ


# ── .env ──────────────────────────────────────────────────────────────────────────────────────
def test_env_file_gives_what_the_environment_lacks(tmp_path: Path) -> None:
    text = "# ours\nPORT=9000\nexport HOST='10.0.0.5'  # all\n\nSECRET_KEY=\"a $HOME b\"\n"
    found = read(tmp_path, text, PORT="9100")
    assert found == {"PORT": "9100", "HOST": "10.0.0.5", "SECRET_KEY": "a $HOME b"}


def test_empty_variable_of_the_environment_counts_before_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, f"DATABASE_URL={URL}", DATABASE_URL="") == {"DATABASE_URL": ""}


@pytest.mark.parametrize(
    ("text", "own"),
    [("SECRET_KEY=a", "SECRET_KEY_FILE"), ("SECRET_KEY_FILE=a", "SECRET_KEY")],
)
def test_secret_of_the_environment_counts_before_the_file_in_either_form(
    tmp_path: Path, text: str, own: str
) -> None:
    assert read(tmp_path, text, **{own: "mine"}) == {own: "mine"}


def test_without_env_file_nothing_changes(tmp_path: Path) -> None:
    environ = {"PORT": "9000"}
    assert read_env_file(environ, tmp_path) == ()
    assert environ == {"PORT": "9000"}


def test_another_env_file_is_read_instead(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1")
    (tmp_path / "other").write_text("PORT=2")
    environ = {"ENV_FILE": str(tmp_path / "other")}
    assert read_env_file(environ, tmp_path) == ()
    assert environ["PORT"] == "2"


def test_named_env_file_has_to_be_there(tmp_path: Path) -> None:
    (problem,) = read_env_file({"ENV_FILE": str(tmp_path / "missing")}, tmp_path)
    assert problem == f"{tmp_path / 'missing'} cannot be read: No such file or directory."


def test_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SECRET_KEY=\xff\xfe")
    assert read_env_file({}, tmp_path) == (f"{tmp_path / '.env'} is not text in UTF-8.",)


@pytest.mark.parametrize(
    "line", ["SECRET_KEY", "SECRET_KEY='unclosed", "'a=b'=c", "SECRET_KEY=a\0b", "= value"]
)
def test_line_that_is_no_setting_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"PORT=9000\n\n\n{line}\n")
    environ: dict[str, str] = {}
    (problem,) = read_env_file(environ, tmp_path)
    assert problem == f"{tmp_path / '.env'}, line 4: NAME=value is expected."
    assert environ == {}


@search(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_no_env_file_ends_in_a_traceback(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_text(text, "utf-8")
    environ: dict[str, str] = {}
    problems = read_env_file(environ, tmp_path)
    assert not (problems and environ)
    for name, value in environ.items():
        assert name
        os.fsencode(f"{name}{value}")
        assert "\0" not in name + value
        assert "=" not in name


def test_settings_of_the_process_include_its_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("HOST=10.0.0.5\nPORT=9000\nPG_BIN=/opt/pg\n")
    environ = {"PORT": "9100"}
    monkeypatch.setattr(settings_module, "os", SimpleNamespace(environ=environ))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    found = settings()
    settings.cache_clear()
    assert (found.host, found.port, environ["PG_BIN"]) == ("10.0.0.5", 9100, "/opt/pg")


def test_settings_of_the_process_name_a_line_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(SECRET)
    monkeypatch.setattr(settings_module, "os", SimpleNamespace(environ={}))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    with pytest.raises(SettingsError) as caught:
        settings()
    assert "line 1" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_portal_listens_on_this_computer_unless_told() -> None:
    assert load_settings({}).host == "127.0.0.1"
    assert load_settings({"HOST": "10.0.0.5"}).host == "10.0.0.5"


# ── Secrets in files ──────────────────────────────────────────────────────────────────────────
def load(environment: dict[str, str]) -> settings_module.Settings:
    return load_settings({**OUTSIDE_DEMO, "DATABASE_URL": URL, "SMTP_HOST": "mail", **environment})


def secrets_of(found: settings_module.Settings) -> tuple[object, ...]:
    assert found.smtp is not None
    return (
        *(found.database_url, found.migration_database_url, found.secret_key),
        *(found.previous_secret_keys, found.smtp.password),
    )


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("name", sorted(SECRETS))
def test_secret_is_read_from_its_file(tmp_path: Path, name: str, end: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes((given_value(name) + end).encode())
    environment = {**OUTSIDE_DEMO, "DATABASE_URL": URL, "SMTP_HOST": "mail"}
    direct = load_settings({**environment, name: given_value(name)})
    environment.pop(name, None)
    by_file = load_settings({**environment, f"{name}_FILE": str(file)})
    assert secrets_of(by_file) == secrets_of(direct)
    assert by_file.demo is False


@pytest.mark.parametrize("name", sorted(GATEWAY_SECRETS))
def test_gateway_secret_is_read_from_its_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    value = given_value(name)
    file.write_text(f"{value}\n")
    others = GATEWAY_SECRETS[name]
    by_file = load({f"{name}_FILE": str(file), **others})
    assert by_file.gateways.faults == {}
    assert by_file.gateways == load({name: value, **others}).gateways


@pytest.mark.parametrize("name", EVERY_SECRET)
def test_secret_given_in_both_forms_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text(given_value(name))
    said = problems_of(
        {name: given_value(name), f"{name}_FILE": str(file), **GATEWAY_SECRETS.get(name, {})}
    )
    assert said == [f"{name} and {name}_FILE are both set: remove one of them."]


@pytest.mark.parametrize("name", EVERY_SECRET)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"", "that is empty."),
        (b" \n", "that is empty."),
        (f"{SECRET}\n{SECRET}\n".encode(), "that has more than one line of text in it."),
        (f"{SECRET}\0".encode(), "that has more than one line of text in it."),
        (f"{SECRET}\xff".encode("latin-1"), "that is not text in UTF-8."),
        (b"x" * 70_000, "of more than 65536 bytes."),
    ],
)
def test_secret_file_that_cannot_be_used_is_named_and_not_shown(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "no-such-name"
    if content is not None:
        file.write_bytes(content)
    (said,) = problems_of({f"{name}_FILE": str(file), **GATEWAY_SECRETS.get(name, {})})
    assert said.startswith(f"{name}_FILE names a file ")
    assert said.endswith(problem)
    assert SECRET not in said
    assert str(file) not in said


def test_folder_is_no_secret_file(tmp_path: Path) -> None:
    (said,) = problems_of({"SMTP_PASSWORD_FILE": str(tmp_path)})
    assert said == "SMTP_PASSWORD_FILE names a file that cannot be read: Is a directory."


def test_secret_file_without_the_right_to_read_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    (said,) = problems_of({"SMTP_PASSWORD_FILE": "secret"})
    assert said == "SMTP_PASSWORD_FILE names a file that cannot be read: Permission denied."


def test_demo_does_not_fall_back_on_the_key_that_everybody_knows(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SECRET_KEY_FILE names a file that cannot be read"):
        load_settings({"SECRET_KEY_FILE": str(tmp_path / "missing")})


def test_demo_has_no_stand_in_for_a_gateway_whose_secret_cannot_be_read(tmp_path: Path) -> None:
    found = load_settings({"VNPAY_HASH_SECRET_FILE": str(tmp_path / "missing")})
    assert "vnpay" not in found.gateways.by_name
    assert any("VNPAY_HASH_SECRET_FILE" in each for each in gateway_faults(found))
    assert "stripe" in found.gateways.by_name


def test_variable_that_is_no_secret_has_no_file(tmp_path: Path) -> None:
    file = tmp_path / "port"
    file.write_text("9000")
    assert load_settings({"PORT_FILE": str(file)}).port == 8501


def problems_of(environment: dict[str, str]) -> list[str]:
    """Return what is wrong with settings, of the whole or of one gateway."""
    base = {**OUTSIDE_DEMO, "SMTP_HOST": "mail", "DATABASE_URL": URL}
    for name in SECRETS:
        if f"{name}_FILE" in environment:
            base.pop(name, None)
    try:
        found = load_settings({**base, **environment})
    except SettingsError as error:
        return list(error.problems)
    return [problem for each in found.gateways.faults.values() for problem in each]


def test_documented_secrets_are_those_that_have_files() -> None:
    assert SECRET_KEY
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    section = page.partition("## Settings in files")[2].partition("\n## ")[0]
    for name in SECRETS:
        assert f"`{name}`" in section
        assert f"`{name}`" in (settings_module.__doc__ or "")
