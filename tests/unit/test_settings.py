"""What the environment decides, and what it is not allowed to."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies

from domain.gateways.registry import gateway_kinds
from domain.security.keyring import Keyring, UnknownKey
from portal.runtime.gateways import gateway_faults
from portal.runtime.settings import SettingsError, load_settings
from sandbox import stripe, stripe_cards, vnpay
from tests.support.chosen_gateways import ChosenGateways
from tests.support.environment import OUTSIDE_DEMO
from tests.support.environment import SECRET_KEY as KEY

if TYPE_CHECKING:
    from portal.runtime.gateway_settings import GatewaySettings

SERVED = {
    "DATABASE_URL": "postgresql://portal:secret-word@db/portal",
    "SECRET_KEY": KEY,
    "BASE_URL": "https://billing.example.com",
    "TRUSTED_PROXIES": "none",
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


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        "short",
        "demo-secret-key-that-everybody-knows",
        "k" * 64,
        "ab" * 32,
        "changeme-" * 2,
        "1234567" * 9,
    ],
)
def test_outside_the_demo_the_secret_key_is_one_s_own(key: str | None) -> None:
    environment = {name: value for name, value in SERVED.items() if name != "SECRET_KEY"}
    if key is not None:
        environment["SECRET_KEY"] = key
    shown = problems(**environment)
    assert shown.startswith("SECRET_KEY needs 32 or more random characters")
    assert "secrets.token_urlsafe" in shown
    assert not key or key not in shown


@pytest.mark.parametrize("key", [KEY, "0123456789abcdef" * 2, "8317904625" * 4, "ж" * 20 + KEY])
def test_random_secret_keys_are_taken(key: str) -> None:
    assert load_settings({**SERVED, "SECRET_KEY": key}).policy.key == key.encode()


@pytest.mark.parametrize(
    ("name", "example"),
    [("BASE_URL", "https://billing.example.com"), ("TRUSTED_PROXIES", "none")],
)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_outside_the_demo_what_nobody_can_guess_is_asked_for(
    name: str, value: str | None, example: str
) -> None:
    environment = {**SERVED, name: value or ""}
    if value is None:
        del environment[name]
    shown = problems(**environment)
    assert shown.startswith(f"{name} is needed outside the demo: ")
    assert example in shown
    assert load_settings({**environment, "DEMO": "1"}).demo


def test_older_secret_keys_open_and_do_not_seal() -> None:
    kept = load_settings({"SECRET_KEY": KEY}).keyring
    given = load_settings({"SECRET_KEY": "n" * 40, "SECRET_KEY_PREVIOUS": f" one , {KEY},"})
    assert given.keyring.unwrap(kept.wrap(b"a key")) == b"a key"
    with pytest.raises(UnknownKey):
        kept.unwrap(given.keyring.wrap(b"a key"))
    assert load_settings({"SECRET_KEY": KEY}).previous_secret_keys == ()
    assert KEY not in repr(given)


def test_an_older_secret_key_may_have_a_comma_in_it() -> None:
    kept = Keyring(b"some, characters, of mine")
    given = load_settings({"SECRET_KEY": KEY, "SECRET_KEY_PREVIOUS": "some, characters, of mine"})
    assert given.keyring.unwrap(kept.wrap(b"a key")) == b"a key"


def test_outside_the_demo_cookies_do_not_travel_in_the_clear() -> None:
    plain = {**SERVED, "BASE_URL": "http://billing.example.com"}
    assert "https" in problems(**plain)
    assert load_settings({**plain, "DEMO": "1"}).base_url == "http://billing.example.com"
    for local in ("http://localhost:9000", "http://127.0.0.1:9000", "http://[::1]:9000"):
        settings = load_settings({**plain, "BASE_URL": local})
        assert (settings.base_url, settings.allows_any_host) == (local, False)


def test_address_in_capitals_makes_secure_cookies_too() -> None:
    settings = load_settings({**SERVED, "BASE_URL": "HTTPS://Billing.example.com/"})
    assert settings.base_url == "https://Billing.example.com"
    assert settings.secure_cookies


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
        ("DATABASE_URL", "postgresql://db:port/portal"),
        ("MIGRATION_DATABASE_URL", "sqlite://"),
        ("BASE_URL", "billing.example.com"),
        ("BASE_URL", "https://billing.example.com/portal"),
        ("BASE_URL", "ftp://billing.example.com"),
        ("BASE_URL", "https://"),
        ("BASE_URL", "https://[billing"),
        ("BASE_URL", "https://billing.example.com:eighty"),
        ("BASE_URL", "https://billing.example.com:99999"),
        ("BASE_URL", "https://billing.example.com?a=b"),
        ("BASE_URL", "https://billing.example.com#a"),
        ("BASE_URL", "https://me@billing.example.com"),
        ("BASE_URL", "https://billing example.com"),
        ("BASE_URL", "https://billing.example.com,https://pay.example.com"),
        ("SMTP_SECURITY", "ssl"),
        ("SMTP_PORT", "587a"),
        ("SESSION_IDLE_MINUTES", "0"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, proxy"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", ","),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "none, 10.0.0.1"),
        ("TRUSTED_PROXIES", "::ffff:10.0.0.1"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "0.0.0.0/1, 128.0.0.0/1"),
        ("TRUSTED_PROXIES", "10.0.0.5, ::/1, 8000::/1"),
        ("TRUSTED_PROXIES", "10.0.0.1, ::/0"),
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
    shown = problems(PORT="x", DEMO="0", SMTP_HOST="mail", SMTP_SECURITY="y")
    assert all(name in shown for name in ("PORT", "SECRET_KEY", "SMTP_SECURITY"))


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
    policy = settings.policy
    assert (policy.customer_idle, policy.customer_longest) == (
        timedelta(minutes=30),
        timedelta(hours=10),
    )
    assert (policy.staff_idle, policy.staff_longest) == (timedelta(minutes=5), timedelta(hours=1))
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("127.0.0.1"))
    assert not settings.runs_jobs


@pytest.mark.parametrize(
    ("value", "networks"),
    [
        ("none", ()),
        ("None", ()),
        ("192.0.2.7", ("192.0.2.7/32",)),
        (" 10.0.0.5 ,, 10.1.0.0/16,2001:db8::/64, ", ("10.0.0.5", "10.1.0.0/16", "2001:db8::/64")),
    ],
)
def test_trusted_proxies_are_addresses_networks_or_none(
    value: str, networks: tuple[str, ...]
) -> None:
    settings = load_settings({**SERVED, "TRUSTED_PROXIES": value})
    assert settings.trusted_proxies == tuple(ip_network(each) for each in networks)


# ── Gateways ──────────────────────────────────────────────────────────────────────────────────
VNPAY = {"VNPAY_TMN_CODE": "OURTMN01", "VNPAY_HASH_SECRET": "our-secret"}
STRIPE = {"STRIPE_SECRET_KEY": "sk_live_ours", "STRIPE_WEBHOOK_SECRETS": "whsec_a, whsec_b"}
STRIPE_CARDS = {
    "STRIPE_CARDS_SECRET_KEY": "sk_live_cards",
    "STRIPE_CARDS_WEBHOOK_SECRETS": "whsec_c",
}
PAYPAL = {
    "PAYPAL_CLIENT_ID": "our-client",
    "PAYPAL_CLIENT_SECRET": "our-client-secret",
    "PAYPAL_WEBHOOK_ID": "our-webhook",
}


def test_a_demo_has_stand_ins_with_test_money() -> None:
    settings = load_settings({"PORT": "9000"}).gateways
    gateways = ChosenGateways(settings)
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
    assert (settings.sandbox_url, settings.sandbox_port) == ("http://localhost:9001", 9001)


def test_outside_the_demo_a_gateway_without_keys_is_not_offered() -> None:
    gateways = load_settings(SERVED).gateways
    assert gateways.by_name == {}
    assert (gateways.sandbox_url, gateways.sandbox_port) == (None, None)


def test_with_keys_the_real_gateways_are_spoken_to() -> None:
    settings = load_settings({**SERVED, **VNPAY, **STRIPE, **PAYPAL}).gateways
    gateways = ChosenGateways(settings)
    assert gateways.vnpay is not None
    assert gateways.stripe is not None
    assert gateways.paypal is not None
    assert gateways.vnpay.pay_url == "https://pay.vnpay.vn/vpcpay.html"
    assert gateways.stripe.api_base == "https://api.stripe.com"
    assert gateways.stripe.webhook_secrets == ("whsec_a", "whsec_b")
    assert gateways.paypal.api_base == "https://api-m.paypal.com"
    real = (gateways.vnpay, gateways.stripe, gateways.paypal)
    assert [gateway.is_sandbox for gateway in real] == [False, False, False]
    assert settings.sandbox_url is None


def test_a_provider_s_own_sandbox_is_known_as_one() -> None:
    changed = {
        "VNPAY_PAY_URL": "https://sandbox.vnpayment.vn/paymentv2/vpcpay.html",
        "STRIPE_SECRET_KEY": "sk_test_ours",
        "PAYPAL_API_URL": "https://api-m.sandbox.paypal.com",
    }
    gateways = ChosenGateways(
        load_settings({**SERVED, **VNPAY, **STRIPE, **PAYPAL, **changed}).gateways
    )
    assert gateways.vnpay is not None
    assert gateways.stripe is not None
    assert gateways.paypal is not None
    assert gateways.vnpay.is_sandbox
    assert gateways.stripe.is_sandbox
    assert gateways.paypal.is_sandbox


def test_in_a_demo_one_gateway_may_be_real() -> None:
    gateways = ChosenGateways(load_settings(STRIPE).gateways)
    assert gateways.stripe is not None
    assert gateways.vnpay is not None
    assert not gateways.stripe.is_sandbox
    assert gateways.vnpay.is_sandbox


EACH = {"vnpay": VNPAY, "stripe": STRIPE, "stripe_cards": STRIPE_CARDS, "paypal": PAYPAL}
ALL_KEYS = {name: value for keys in EACH.values() for name, value in keys.items()}


def offered(gateways: GatewaySettings) -> set[str]:
    return set(gateways.by_name)


def left_out(gateway: str, **changed: str) -> str:
    """Return why that gateway is not offered, while the others are."""
    settings = load_settings({**SERVED, **ALL_KEYS, **changed})
    assert offered(settings.gateways) == set(EACH) - {gateway}
    (shown,) = gateway_faults(settings)
    assert shown.startswith(f"The gateway {gateway} is not offered: ")
    secrets = [value for value in changed.values() if value.strip(" ,")]
    assert not any(secret in shown for secret in secrets)
    return shown


@pytest.mark.parametrize(
    ("gateway", "name"), [(gateway, name) for gateway, keys in EACH.items() for name in keys]
)
@pytest.mark.parametrize("value", ["", "two words", "schlüssel"])
def test_gateway_with_wrong_key_leaves_the_others(gateway: str, name: str, value: str) -> None:
    assert f"{name} " in left_out(gateway, **{name: value})


@pytest.mark.parametrize(
    ("gateway", "name"), [(gateway, name) for gateway, keys in EACH.items() for name in keys]
)
def test_demo_s_keys_are_refused_wherever_they_are_given(gateway: str, name: str) -> None:
    known = gateway_kinds()[gateway].demo_values[name]
    for value in (known, f"{known},", f"whsec_ours, {known}", f"{known},whsec_ours"):
        shown = left_out(gateway, **{name: value})
        assert f"{name} is the demo's, which everybody knows" in shown
    in_demo = load_settings({"STRIPE_CARDS": "1", **EACH[gateway], name: known}).gateways
    assert offered(in_demo) == set(EACH) - {gateway}


@pytest.mark.parametrize(
    ("gateway", "name", "value"),
    [
        ("vnpay", "VNPAY_PAY_URL", "http://pay.example.com"),
        ("vnpay", "VNPAY_API_URL", "http://pay.example.com"),
        ("vnpay", "VNPAY_API_URL", "pay.example.com"),
        ("vnpay", "SERVER_IP", "our-server"),
        ("stripe", "STRIPE_SECRET_KEY", "pk_live_ours"),
        ("stripe", "STRIPE_WEBHOOK_SECRETS", "sk_live_ours"),
        ("stripe", "STRIPE_WEBHOOK_SECRETS", " , ,"),
        ("paypal", "PAYPAL_API_URL", "http://api-m.paypal.com"),
        ("paypal", "PAYPAL_API_URL", "http://sandbox.example.com"),
        ("paypal", "PAYPAL_API_URL", "http://127.0.0.1:9000"),
        ("paypal", "PAYPAL_API_URL", "https://api-m.paypal.com:port"),
    ],
)
def test_gateway_with_wrong_setting_leaves_the_others(gateway: str, name: str, value: str) -> None:
    assert f"{name} " in left_out(gateway, **{name: value})


def test_empty_parts_of_a_list_of_secrets_are_dropped() -> None:
    listed = {**STRIPE, "STRIPE_WEBHOOK_SECRETS": ",whsec_a,, whsec_b ,"}
    gateways = ChosenGateways(load_settings({**SERVED, **listed}).gateways)
    assert gateways.stripe is not None
    assert gateways.stripe.webhook_secrets == ("whsec_a", "whsec_b")


@given(
    strategies.dictionaries(
        strategies.sampled_from([*ALL_KEYS, "VNPAY_PAY_URL", "VNPAY_API_URL", "PAYPAL_API_URL"]),
        strategies.text(max_size=30)
        | strategies.builds(
            "{}://{}".format,
            strategies.sampled_from(["http", "https"]),
            strategies.text(max_size=20),
        ),
        max_size=4,
    ),
    strategies.sampled_from([{}, OUTSIDE_DEMO]),
)
def test_whatever_gateways_are_given_the_portal_starts_with_the_rest(
    changed: dict[str, str], environment: dict[str, str]
) -> None:
    """What is offered can be made: settings that a gateway refuses are named, and left out."""
    settings = load_settings({**environment, **ALL_KEYS, **changed})
    gateways = settings.gateways
    for name in set(EACH) - offered(gateways) - set(gateways.faults):
        assert not any(changed.get(key, "given").strip() for key in EACH[name])
    for name, chosen in gateways.by_name.items():
        assert gateway_kinds()[name].connect(chosen).name == name


def test_keys_of_gateways_are_not_printed() -> None:
    shown = repr(load_settings({**SERVED, **VNPAY, **STRIPE, **PAYPAL}))
    for secret in ("our-secret", "sk_live_ours", "whsec_a", "our-client-secret", "our-webhook"):
        assert secret not in shown


def test_the_stand_ins_know_the_demo_s_keys() -> None:
    gateways = ChosenGateways(load_settings({"STRIPE_CARDS": "1"}).gateways)
    assert gateways.vnpay is not None
    assert gateways.stripe is not None
    assert gateways.stripe_cards is not None
    assert gateways.paypal is not None
    assert gateways.stripe_cards.secret_key == stripe_cards.DEMO_SECRET_KEY
    assert gateways.stripe_cards.webhook_secrets == (stripe_cards.DEMO_WEBHOOK_SECRET,)
    assert gateways.vnpay.tmn_code == vnpay.DEMO_TMN_CODE
    assert gateways.vnpay.hash_secret == vnpay.DEMO_HASH_SECRET
    assert gateways.stripe.secret_key == stripe.DEMO_SECRET_KEY
    assert gateways.stripe.webhook_secrets == (stripe.DEMO_WEBHOOK_SECRET,)
