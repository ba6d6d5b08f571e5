"""What the environment decides, and what it is not allowed to."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from portal.settings import SettingsError, load_settings

KEY = "k" * 32
SERVED = {
    "DATABASE_URL": "postgresql://portal:secret-word@db/portal",
    "SECRET_KEY": KEY,
    "BASE_URL": "https://billing.example.com",
}


def problems(**environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment)
    return "\n".join(caught.value.problems)


def test_without_anything_it_is_a_demo_on_its_own_database() -> None:
    settings = load_settings({})
    assert settings.demo
    assert settings.shows_mailbox
    assert settings.database_url is None
    assert settings.migration_database_url is None
    assert settings.data_directory.name == ".data"
    assert settings.data_directory.is_absolute()
    assert (settings.port, settings.base_url) == (8501, "http://localhost:8501")
    assert settings.allows_any_host
    assert not settings.secure_cookies
    assert settings.runs_jobs


def test_with_a_database_it_is_no_demo() -> None:
    settings = load_settings(SERVED)
    assert not settings.demo
    assert not settings.shows_mailbox
    assert settings.secure_cookies
    assert not settings.allows_any_host
    assert settings.database_url == "postgresql+psycopg2://portal:secret-word@db/portal"
    assert settings.migration_database_url == settings.database_url
    assert load_settings({**SERVED, "DEMO": "1"}).demo


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_usual_form_of_a_database_address_works(scheme: str) -> None:
    url = f"{scheme}://portal:p%40ss@db:5433/portal?sslmode=require"
    settings = load_settings({**SERVED, "DATABASE_URL": url, "MIGRATION_DATABASE_URL": url})
    expected = "postgresql+psycopg2://portal:p%40ss@db:5433/portal?sslmode=require"
    assert settings.database_url == settings.migration_database_url == expected


@pytest.mark.parametrize("key", [None, "", "short", "demo-secret-key-that-everybody-knows"])
def test_outside_the_demo_the_secret_key_is_one_s_own(key: str | None) -> None:
    environment = {"DATABASE_URL": SERVED["DATABASE_URL"], "BASE_URL": SERVED["BASE_URL"]}
    if key is not None:
        environment["SECRET_KEY"] = key
    assert "SECRET_KEY" in problems(**environment)
    assert "SECRET_KEY" in problems(DEMO="0")
    assert load_settings({"DEMO": "0", "SECRET_KEY": KEY}).rules.key == KEY.encode()


def test_outside_the_demo_cookies_do_not_travel_in_the_clear() -> None:
    plain = {**SERVED, "BASE_URL": "http://billing.example.com"}
    assert "https" in problems(**plain)
    assert load_settings({**plain, "DEMO": "1"}).base_url == "http://billing.example.com"
    assert load_settings({**plain, "BASE_URL": "http://localhost:9000"}).allows_any_host is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "eighty"),
        ("PORT", "-1"),
        ("DEMO", "maybe"),
        ("JOBS", "2"),
        ("DATABASE_URL", "mysql://db/portal"),
        ("DATABASE_URL", "not an address"),
        ("MIGRATION_DATABASE_URL", "sqlite://"),
        ("BASE_URL", "billing.example.com"),
        ("BASE_URL", "https://billing.example.com/portal"),
        ("BASE_URL", "ftp://billing.example.com"),
        ("SMTP_SECURITY", "ssl"),
        ("SMTP_PORT", "587a"),
        ("SESSION_IDLE_MINUTES", "0"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, proxy"),
        ("DATABASE_POOL_SIZE", "1.5"),
        ("STATEMENT_TIMEOUT_SECONDS", ""),
    ],
)
def test_what_cannot_be_is_named(name: str, value: str) -> None:
    environment = {**SERVED, "SMTP_HOST": "mail", name: value}
    if value:
        assert name in problems(**environment)
    else:
        assert load_settings(environment).statement_timeout_seconds == 60


def test_everything_wrong_is_said_at_once() -> None:
    said = problems(PORT="x", DEMO="0", SMTP_HOST="mail", SMTP_SECURITY="y")
    assert all(name in said for name in ("PORT", "SECRET_KEY", "SMTP_SECURITY"))


def test_secrets_are_not_printed() -> None:
    environment = {
        **SERVED,
        "MIGRATION_DATABASE_URL": "postgresql://owner:other-word@db/portal",
        "SMTP_HOST": "mail.example.com",
        "SMTP_PASSWORD": "mail-word",
    }
    printed = repr(load_settings(environment))
    assert not any(word in printed for word in (KEY, "secret-word", "other-word", "mail-word"))


def test_mail_and_sessions_follow_the_environment() -> None:
    settings = load_settings(
        {
            "SMTP_HOST": "mail.example.com",
            "SMTP_USER": "portal",
            "SMTP_SECURITY": "TLS",
            "SMTP_PORT": "465",
            "PORT": "9000",
            "DATA_DIR": "~/portal data",
            "SESSION_IDLE_MINUTES": "30",
            "SESSION_MAX_HOURS": "10",
            "SESSION_STAFF_IDLE_MINUTES": "5",
            "SESSION_STAFF_MAX_HOURS": "1",
            "TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1",
            "JOBS": "0",
        }
    )
    smtp = settings.smtp
    assert smtp is not None
    assert (smtp.host, smtp.port, smtp.user) == ("mail.example.com", 465, "portal")
    assert smtp.security == "tls"
    assert settings.demo
    assert not settings.shows_mailbox
    assert settings.mail_from == "billing@localhost"
    assert settings.base_url == "http://localhost:9000"
    assert settings.data_directory == Path.home() / "portal data"
    rules = settings.rules
    assert (rules.customer_idle, rules.customer_longest) == (
        timedelta(minutes=30),
        timedelta(hours=10),
    )
    assert (rules.staff_idle, rules.staff_longest) == (timedelta(minutes=5), timedelta(hours=1))
    assert settings.trusted_proxies == ("10.0.0.0/8", "127.0.0.1")
    assert not settings.runs_jobs
