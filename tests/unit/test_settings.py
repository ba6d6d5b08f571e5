"""What the environment decides, and what it is not allowed to."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from portal.settings import SettingsError, load_settings
from sandbox import stripe, vnpay

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


# ── Gateways ──────────────────────────────────────────────────────────────────────────────────
VNPAY = {"VNPAY_TMN_CODE": "OURTMN01", "VNPAY_HASH_SECRET": "our-secret"}
STRIPE = {"STRIPE_SECRET_KEY": "sk_live_ours", "STRIPE_WEBHOOK_SECRETS": "whsec_a, whsec_b"}
PAYPAL = {
    "PAYPAL_CLIENT_ID": "our-client",
    "PAYPAL_CLIENT_SECRET": "our-client-secret",
    "PAYPAL_WEBHOOK_ID": "our-webhook",
}


def test_a_demo_has_stand_ins_with_test_money() -> None:
    gateways = load_settings({"PORT": "9000"}).gateways
    assert gateways.vnpay is not None
    assert gateways.stripe is not None
    assert gateways.paypal is not None
    assert gateways.vnpay.pay_url.startswith("http://localhost:9001/vnpay/")
    assert gateways.vnpay.api_url.startswith("http://127.0.0.1:9001/vnpay/")
    assert gateways.stripe.api_base == "http://127.0.0.1:9001/stripe"
    assert gateways.paypal.api_base == "http://127.0.0.1:9001/paypal"
    assert gateways.vnpay.is_sandbox
    assert gateways.stripe.is_sandbox
    assert gateways.paypal.is_sandbox
    assert (gateways.sandbox_url, gateways.sandbox_port) == ("http://localhost:9001", 9001)


def test_outside_the_demo_a_gateway_without_keys_is_not_offered() -> None:
    gateways = load_settings(SERVED).gateways
    offered = (gateways.vnpay, gateways.stripe, gateways.paypal)
    assert offered == (None, None, None)
    assert (gateways.sandbox_url, gateways.sandbox_port) == (None, None)


def test_with_keys_the_real_gateways_are_spoken_to() -> None:
    gateways = load_settings({**SERVED, **VNPAY, **STRIPE, **PAYPAL}).gateways
    assert gateways.vnpay is not None
    assert gateways.stripe is not None
    assert gateways.paypal is not None
    assert gateways.vnpay.pay_url == "https://pay.vnpay.vn/vpcpay.html"
    assert gateways.stripe.api_base == "https://api.stripe.com"
    assert gateways.stripe.webhook_secrets == ("whsec_a", "whsec_b")
    assert gateways.paypal.api_base == "https://api-m.paypal.com"
    real = (gateways.vnpay, gateways.stripe, gateways.paypal)
    assert [gateway.is_sandbox for gateway in real] == [False, False, False]
    assert gateways.sandbox_url is None


def test_a_provider_s_own_sandbox_is_known_as_one() -> None:
    changed = {
        "VNPAY_PAY_URL": "https://sandbox.vnpayment.vn/paymentv2/vpcpay.html",
        "STRIPE_SECRET_KEY": "sk_test_ours",
        "PAYPAL_API_URL": "https://api-m.sandbox.paypal.com",
    }
    gateways = load_settings({**SERVED, **VNPAY, **STRIPE, **PAYPAL, **changed}).gateways
    assert gateways.vnpay is not None
    assert gateways.stripe is not None
    assert gateways.paypal is not None
    assert gateways.vnpay.is_sandbox
    assert gateways.stripe.is_sandbox
    assert gateways.paypal.is_sandbox


def test_in_a_demo_one_gateway_may_be_real() -> None:
    gateways = load_settings(STRIPE).gateways
    assert gateways.stripe is not None
    assert gateways.vnpay is not None
    assert not gateways.stripe.is_sandbox
    assert gateways.vnpay.is_sandbox


@pytest.mark.parametrize("name", [*VNPAY, *STRIPE, *PAYPAL])
def test_half_of_a_gateway_s_keys_are_a_fault(name: str) -> None:
    keys = {**VNPAY, **STRIPE, **PAYPAL}
    del keys[name]
    assert name in problems(**SERVED, **keys)


@pytest.mark.parametrize("demo", ["0", "1"])
def test_the_demo_s_keys_are_refused_wherever_they_are_given(demo: str) -> None:
    known = {
        "VNPAY_TMN_CODE": "OURTMN01",
        "VNPAY_HASH_SECRET": "DEMO-VNPAY-HASH-SECRET-0123456789",
        **STRIPE,
        "STRIPE_WEBHOOK_SECRETS": "whsec_demo_0123456789",
    }
    said = problems(**SERVED, **known, DEMO=demo)
    assert "VNPAY_HASH_SECRET is the demo's" in said
    assert "STRIPE_WEBHOOK_SECRETS is the demo's" in said


def test_keys_of_gateways_are_not_printed() -> None:
    shown = repr(load_settings({**SERVED, **VNPAY, **STRIPE, **PAYPAL}))
    for secret in ("our-secret", "sk_live_ours", "whsec_a", "our-client-secret", "our-webhook"):
        assert secret not in shown


def test_the_stand_ins_know_the_demo_s_keys() -> None:
    gateways = load_settings({}).gateways
    assert gateways.vnpay is not None
    assert gateways.stripe is not None
    assert gateways.paypal is not None
    assert gateways.vnpay.tmn_code == vnpay.DEMO_TMN_CODE
    assert gateways.vnpay.hash_secret == vnpay.DEMO_HASH_SECRET
    assert gateways.stripe.secret_key == stripe.DEMO_SECRET_KEY
    assert gateways.stripe.webhook_secrets == (stripe.DEMO_WEBHOOK_SECRET,)
